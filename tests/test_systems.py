"""Systems other than Linux: what they lack is not asked for, what accelerators they have is used."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from stage_one import TINY

import gcf
from gcf.errors import UsageError
from gcf.extract.network import clip_network as network
from gcf.extract.network import network_pool
from gcf.extract.network.clip_network import choose_device
from gcf.extract.network.network_pool import NetworkPool
from gcf.extract.stream.config import ExtractConfig

LIKE_MACOS = """
import os, sys
for name in ("sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
plain = os.sysconf

def sysconf(name):
    if name == "SC_AVPHYS_PAGES":
        raise ValueError("unrecognized configuration name")
    return plain(name)

os.sysconf = sysconf
from gcf.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_extraction_and_training_ask_for_nothing_that_macos_has_not(folder, tmp_path):
    features = tmp_path / "f.h5"
    commands = [
        ("extract", folder, features, "--backbone", TINY),
        ("train-head", features, "-o", tmp_path / "run", "--epochs", "2"),
        ("demo-videos", tmp_path / "videos", "--videos", "2"),
        ("doctor",),
    ]
    for command in commands:
        words = [sys.executable, "-c", LIKE_MACOS, *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert gcf.FeatureFile(features).num_videos == 6


@pytest.mark.slow
def test_the_decoders_are_as_many_as_the_processors_that_this_process_may_use(folder, tmp_path, monkeypatch):
    asked = []

    class Noting(gcf.extract.stream.pipeline.DecoderPool):
        def __init__(self, *given, num_workers, **more):
            asked.append(num_workers)
            super().__init__(*given, num_workers=1, **more)

    monkeypatch.setattr("gcf.extract.stream.pipeline.DecoderPool", Noting)
    monkeypatch.setattr("gcf.extract.stream.pipeline.joblib.cpu_count", lambda: 5)
    for workers in (None, 3):
        gcf.extract_videos(folder, tmp_path / f"{workers}.h5", backbone=TINY, workers=workers)
    assert asked == [5, 3]


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu", None])
def test_auto_is_the_accelerator_that_torch_finds(monkeypatch, kind):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device(kind))
    made = []
    monkeypatch.setattr(network.torch, "empty", lambda *_, device: made.append(device))
    assert choose_device("auto").type == (kind or "cpu")
    assert made == [torch.device(kind or "cpu")]


def test_a_device_that_is_not_here_is_refused_in_a_line():
    with pytest.raises(UsageError, match="device 'xpu' cannot be used here: "):
        choose_device("xpu")


@pytest.mark.parametrize(("kind", "count"), [("cpu", 3), ("cuda", 2), ("mps", 1), ("xpu", 1)])
def test_lanes_of_a_device(monkeypatch, kind, count):
    monkeypatch.setattr(network_pool.torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(network_pool.torch, "set_num_threads", lambda _: None)
    with NetworkPool([SimpleNamespace(device=SimpleNamespace(type=kind))]) as lanes:
        assert lanes.count == count


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_accelerators_are_settings(device):
    assert ExtractConfig(device=device).devices == [device]
    with pytest.raises(UsageError, match="several devices are GPUs"):
        ExtractConfig(device=f"{device},cuda:0")
