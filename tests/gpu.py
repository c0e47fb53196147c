"""A GPU for tests that need one."""

import os

import pytest
import torch


def require_gpu() -> str:
    """The name of the GPU; where there is none, the test skips, or fails where GCF_REQUIRE_GPU is set."""
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("GCF_REQUIRE_GPU"):
        pytest.fail("GCF_REQUIRE_GPU is set, and torch finds no GPU")
    pytest.skip("no GPU (with GCF_REQUIRE_GPU set this is a failure)")
