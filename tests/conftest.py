"""Reference data that lies beside the project; tests that need it skip with a reason where it is absent."""

import os
from pathlib import Path

import pytest

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


@pytest.fixture(autouse=True, scope="session")
def one_thread_per_process():
    """Tests run in several processes at once; threads that fight for processors made them three times slower."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)
