"""Reference data that lies beside the project; tests that need it skip with a reason where it is absent."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

import gcf.cli

# Tests run in several processes at once; threads that fight for processors made them three times slower. Set before
# torch is loaded, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what it puts into the background with SIGINT ignored, nohup what it starts with SIGHUP ignored, and
# what is started from there inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What gcf keeps on a machine lies in folders of this run's own: one for each test, so that looks at
# a test set which another test made do not count. The networks converted for OpenVINO are shared by
# all tests and processes of the run, and with GCF_HOME where that is set: each is converted once.
RUN = Path(tempfile.mkdtemp(prefix="gcf-tests-"))
atexit.register(shutil.rmtree, RUN, ignore_errors=True)
CONVERTED = Path(os.environ.get("GCF_HOME") or RUN, "converted").resolve()
CONVERTED.mkdir(parents=True, exist_ok=True)


def gcf_home(folder: Path) -> str:
    """Make a folder a home of gcf's, with the conversions of the run."""
    folder.mkdir(exist_ok=True)
    (folder / CONVERTED.name).symlink_to(CONVERTED)
    return str(folder)


os.environ["GCF_HOME"] = gcf_home(RUN / "home")

SHARED = Path(os.environ.get("GCF_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


def shared_folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"no reference data: {path} is absent (GCF_TEST_DATA names another folder)")
    return path


@pytest.fixture(scope="module", autouse=True)
def home_of_module(tmp_path_factory):
    """gcf's home for what a module makes once for all of its tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCF_HOME", gcf_home(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def home_of_test(home_of_module, tmp_path_factory):
    """gcf's home for one test and the processes that it starts."""
    with pytest.MonkeyPatch.context() as patch:  # its own, which a test does not undo
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("GCF_HOME", gcf_home(folder))
        yield folder


@pytest.fixture(scope="session")
def parity() -> Path:
    """Procedural weights and the outputs of the original repositories' code."""
    return shared_folder("parity")


@pytest.fixture(scope="session")
def real() -> Path:
    """Real videos, labels, weights and broken files."""
    return shared_folder("real")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Six small videos: two classes, three videos each, 20 to 43 frames."""
    import videos

    return videos.write_folder(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def reference(folder, tmp_path_factory) -> bytes:
    """The feature file of `folder` by the tiny plug-in, from an undisturbed run with one decoder."""
    from stage_one import extract

    out = tmp_path_factory.mktemp("reference") / "f.h5"
    extract(folder, out, workers=1)
    return out.read_bytes()


@pytest.fixture(scope="session")
def tiny_run(reference, tmp_path_factory) -> Path:
    """The run of a GCF-Net that was trained for two passes on `reference`; its classes are jump and run."""
    import gcf

    features = tmp_path_factory.mktemp("tiny_run") / "f.h5"
    features.write_bytes(reference)
    return gcf.train_head(features, features.with_name("run"), epochs=2).path


@pytest.fixture(scope="module")
def features(reference, tmp_path_factory) -> Path:
    """The feature file of `reference`, in a folder of the module's own, so that runs may lie beside it."""
    path = tmp_path_factory.mktemp("features") / "f.h5"
    path.write_bytes(reference)
    return path


@pytest.fixture(scope="session")
def openvino_bf16():
    """Skips where OpenVINO runs no small convolution in bfloat16: the processor is asked, not its name."""
    from runtimes import bf16_fault

    if fault := bf16_fault():
        pytest.skip(f"no bfloat16 by OpenVINO on this processor: {fault}")


@pytest.fixture(scope="session")
def gpu() -> str:
    """The name of the GPU; where there is none, the test skips, or fails where GCF_REQUIRE_GPU is set."""
    from gpu import require_gpu

    return require_gpu()


@pytest.fixture
def invoke(capfd):
    """A run in this process: code, standard output, standard error."""

    def run(*args):
        code = gcf.cli.run([str(a) for a in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
