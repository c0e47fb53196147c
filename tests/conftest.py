"""Reference data that lies beside the project; tests that need it skip with a reason where it is absent."""

import os
from pathlib import Path

import pytest

# Tests run in several processes at once; threads that fight for processors made them three times slower. Set before
# torch is loaded, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(os.environ.get("GCF_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))


def folder(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"no reference data: {path} is absent (GCF_TEST_DATA names another folder)")
    return path


@pytest.fixture(scope="session")
def parity() -> Path:
    """Procedural weights and the outputs of the original repositories' code."""
    return folder("parity")


@pytest.fixture(scope="session")
def real() -> Path:
    """Real videos, labels, weights and broken files."""
    return folder("real")
