"""Tests that need a GPU do not pass over its absence unnoticed."""

import pytest
import torch
from gpu import require_gpu


def test_without_a_gpu_a_test_skips_unless_one_is_required(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("GCF_REQUIRE_GPU", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no GPU"):
        require_gpu()
    monkeypatch.setenv("GCF_REQUIRE_GPU", "1")
    with pytest.raises(pytest.fail.Exception, match="GCF_REQUIRE_GPU is set"):
        require_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert require_gpu() == "cuda"
