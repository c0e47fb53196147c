"""Libraries in C that stand between Python and the system, built when a test or benchmark needs them."""

import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = ("-O1", "-shared", "-fPIC", "-D_LARGEFILE64_SOURCE")


def can_build() -> bool:
    """Whether there is a compiler, and a system that knows LD_PRELOAD as Linux does."""
    return sys.platform == "linux" and _compiler() is not None


def build_shim(name: str, folder: Path) -> Path:
    """The compiled `name`.c of this folder, in `folder`."""
    library = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([_compiler(), *FLAGS, "-o", library, source, "-ldl"], check=True)
    return library


def _compiler() -> str | None:
    return shutil.which("gcc") or shutil.which("cc")
