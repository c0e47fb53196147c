"""Are the libraries there, and new enough: Python, torch, torchvision, PyAV with FFmpeg's decoders, h5py with HDF5."""

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

import gcf
from gcf.explain.doctor.finding import FAULT, OK, WARNING, Finding

DISTRIBUTION = "gcf-net"
PYTHON = (3, 11)
LIBRARIES = {"torch": "torch", "torchvision": "torchvision", "PyAV": "av", "h5py": "h5py"}
# What the field's data sets are: UCF-101 and HMDB-51 mpeg4 in avi, Kinetics h264; the others come now and then.
NEEDED_DECODERS = ("h264", "mpeg4")
USUAL_DECODERS = ("hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mjpeg", "msmpeg4v3", "wmv2", "flv", "gif")
INSTALL = "install it again: python -m pip install --upgrade"


def check_python() -> Finding:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        return Finding(
            "Python", FAULT, f"{version}, gcf needs {'.'.join(map(str, PYTHON))} or later", "use a newer one"
        )
    return Finding("Python", OK, f"{version} ({sys.executable})")


def check_gcf() -> Finding:
    """This package, and whether what is installed is what runs."""
    folder = Path(gcf.__file__).parent
    try:
        installed = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return Finding("gcf", OK, f"{gcf.__version__} from {folder}, not installed")
    if installed != gcf.__version__:
        says = f"{gcf.__version__} from {folder}, but {installed} is what was installed"
        return Finding(
            "gcf", WARNING, says, "are there two copies? `python -m pip install` the one that you mean again"
        )
    return Finding("gcf", OK, f"{gcf.__version__} from {folder}")


def check_library(name: str) -> Finding:
    """One of LIBRARIES: can it be imported, and is it as new as gcf asks."""
    module_name = LIBRARIES[name]
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a library whose own files do not fit each other raises OSError, RuntimeError, ...
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(name, FAULT, f"cannot be imported ({said})", f"{INSTALL} {module_name}")
    version, wanted = str(module.__version__), least_version(module_name)
    if version_key(version) < version_key(wanted):
        return Finding(name, FAULT, f"{version}, gcf needs {wanted} or later", f"{INSTALL} {module_name}")
    return Finding(name, OK, version + _beside(name, module))


def check_decoders() -> Finding:
    """Which of the codecs that videos come in FFmpeg can decode here."""
    missing = [codec for codec in (*NEEDED_DECODERS, *USUAL_DECODERS) if not has_decoder(codec)]
    do = "this PyAV was built with a smaller FFmpeg: python -m pip install --force-reinstall --only-binary av av"
    if not missing:
        return Finding("decoders", OK, ", ".join((*NEEDED_DECODERS, *USUAL_DECODERS)))
    state = FAULT if set(missing) & set(NEEDED_DECODERS) else WARNING
    return Finding("decoders", state, f"FFmpeg has none for {', '.join(missing)}", do)


def has_decoder(codec: str) -> bool:
    """Whether FFmpeg, as PyAV brings it, decodes it."""
    import av

    try:
        av.codec.Codec(codec, "r")
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


def least_version(distribution: str) -> str:
    """The version that gcf's own metadata asks for; '0' where it is not installed or asks for none."""
    try:
        asked = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return "0"
    found = (re.match(rf"{distribution}\s*>=\s*([\d.]+)", line) for line in asked)
    return next((match[1] for match in found if match), "0")


def version_key(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, for comparing.

    >>> version_key("2.10.0+cpu") > version_key("2.6")
    True
    """
    return tuple(int(number) for number in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))


def _beside(name: str, module: object) -> str:
    """What comes inside a library."""
    if name == "PyAV":
        return f", FFmpeg {module.ffmpeg_version_info}"
    if name == "h5py":
        return f", HDF5 {module.version.hdf5_version}"
    if name == "torch":
        return f", built for {'CUDA ' + module.version.cuda if module.version.cuda else 'processors alone'}"
    return ""
