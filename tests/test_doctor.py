"""`gcf doctor`: every check of the machine can fail, and says what to do."""

import errno
import json
import os
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

import gcf
from gcf.data import memory
from gcf.data.schema import VideoInfo
from gcf.explain.doctor import decode_test, folders, libraries, machine, run
from gcf.explain.doctor.finding import FAULT, OK, WARNING, Finding, run_checks
from gcf.extract.decoding.jobs import Clip
from gcf.extract.decoding.pool import Failed

pytestmark = pytest.mark.processor

GIB = 1 << 30


@pytest.fixture
def healthy(monkeypatch):
    """The machine is taken to be well: whole-command tests look at what comes after."""
    monkeypatch.setattr(run, "check_environment", lambda *_: iter([Finding("Python", OK, "there")]))


def test_a_python_too_old_is_a_fault(monkeypatch):
    assert libraries.check_python().state == OK
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert libraries.check_python().state == FAULT


def test_two_copies_of_gcf_are_a_warning(monkeypatch):
    monkeypatch.setattr(libraries.importlib.metadata, "version", lambda *_: gcf.__version__)
    assert libraries.check_gcf().state == OK
    monkeypatch.setattr(libraries.importlib.metadata, "version", lambda *_: "0.0.1")
    assert libraries.check_gcf().state == WARNING


@pytest.mark.parametrize("name", libraries.LIBRARIES)
def test_a_library_that_is_absent_or_too_old_is_a_fault_with_the_way_to_install_it(name, monkeypatch):
    assert libraries.check_library(name).state == OK
    monkeypatch.setattr(libraries, "least_version", lambda *_: "999.1")
    old = libraries.check_library(name)
    monkeypatch.setitem(sys.modules, libraries.LIBRARIES[name], None)
    absent = libraries.check_library(name)
    for finding, word in ((old, "999.1"), (absent, "cannot be imported")):
        assert finding.state == FAULT
        assert word in finding.says
        assert f"pip install --upgrade {libraries.LIBRARIES[name]}" in finding.do


def test_versions_compare_as_numbers_and_are_those_that_the_package_asks_for(monkeypatch):
    asked = ["av>=18.1", "torch>=2.6", "torchvision>=0.21", 'torchfoo>=9; extra == "dev"']
    monkeypatch.setattr(libraries.importlib.metadata, "requires", lambda *_: asked)
    assert [libraries.least_version(name) for name in ("torch", "torchvision", "h5py")] == ["2.6", "0.21", "0"]
    assert libraries.version_key("2.10.0+cu130") > libraries.version_key("2.9")


@pytest.mark.parametrize(("missing", "state"), [("h264", FAULT), ("mpeg4", FAULT), ("av1", WARNING), ("", OK)])
def test_a_missing_decoder_is_a_fault_where_the_field_needs_it(missing, state, monkeypatch):
    real = av.codec.Codec

    def codec(name, mode):
        return real("nonsense" if name == missing else name, mode)

    monkeypatch.setattr(av.codec, "Codec", codec)
    finding = libraries.check_decoders()
    assert finding.state == state
    assert missing in finding.says


def test_a_driver_without_a_usable_gpu_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", tmp_path / "version")
    assert machine.check_devices() == Finding("devices", OK, "cpu alone")
    (tmp_path / "version").touch()
    assert machine.check_devices().state == WARNING


def test_gpus_are_named_with_their_memory(monkeypatch):
    fakes = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "mem_get_info": lambda index: (GIB * (index + 1), 8 * GIB),
        "get_device_name": lambda *_: "Card",
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    says = machine.check_devices().says
    assert says == "cuda:0 Card, 1.0 of 8.0 GiB free; cuda:1 Card, 2.0 of 8.0 GiB free"


def test_a_precision_that_does_not_run_is_a_warning(monkeypatch):
    monkeypatch.setattr("gcf.extract.network.clip_network.choose_device", lambda *_: torch.device("cpu"))
    monkeypatch.setattr("gcf.extract.network.precision.natural_precision", lambda *_: "bf16")
    assert machine.check_precision().state == OK

    def refuse(*_):
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(torch.nn.functional, "conv3d", refuse)
    finding = machine.check_precision()
    assert (finding.state, finding.do) == (WARNING, "use --precision fp32")


def test_more_threads_than_processors_are_a_warning(monkeypatch):
    monkeypatch.setattr(machine.joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert machine.check_processors().state == OK
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    assert machine.check_processors().do.endswith("set OMP_NUM_THREADS=8")


@pytest.mark.parametrize(
    ("kib", "limit", "state"),
    [(8 << 20, "max", OK), (1 << 20, "max", WARNING), (1 << 18, "max", FAULT), (8 << 20, str(2 * GIB), WARNING)],
)
def test_little_memory_is_said_whether_the_machine_or_its_container_has_it(kib, limit, state, monkeypatch, tmp_path):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=kib << 10))
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(str(GIB))
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    (tmp_path / "membership").write_text("0::/\n")
    for name, path in (("MEMBERSHIP", "membership"), ("GROUPS", ".")):
        monkeypatch.setattr(memory, name, tmp_path / path)
    assert machine.check_memory().state == state


@pytest.mark.parametrize(("free", "state"), [(20 * GIB, OK), (GIB // 2, WARNING), (1 << 20, FAULT)])
def test_little_room_is_said(free, state, monkeypatch, tmp_path):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda *_: SimpleNamespace(free=free))
    assert folders.check_room(tmp_path).state == state
    assert folders.check_weights_room(tmp_path / "not" / "yet").state == (OK if state == OK else WARNING)


def test_weights_that_cannot_be_written_are_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda *_: False)
    finding = folders.check_weights_room(tmp_path)
    assert finding.state == WARNING
    assert "GCF_HOME" in finding.do


def test_locks_that_fail_or_hold_nobody_out_are_found(monkeypatch, tmp_path):
    assert folders.check_locks(tmp_path).state == OK

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folders.fcntl, "flock", refuse)
    assert folders.check_locks(tmp_path).state == FAULT
    monkeypatch.setattr(folders.fcntl, "flock", lambda *_: None)
    assert folders.check_locks(tmp_path).state == WARNING
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_a_fault(tmp_path):
    finding = folders.check_locks(tmp_path / "none")
    assert finding.state == FAULT
    assert "another --folder" in finding.do


@pytest.mark.slow
def test_a_clip_made_here_comes_back_through_a_decoder_process():
    assert decode_test.check_decoding().state == OK


def as_decoded(pictures, *, num_frames=decode_test.NUM_FRAMES, duration=0.72):
    """What a decoder that gave these pictures (T, H, W, 3) would have sent."""
    info = VideoInfo(25.0, num_frames, 64, 64, duration, 1, 1, "ok", "")
    size = decode_test.CLIP_FRAMES
    parts = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    return [*(Clip(part[None], i * size, len(part), 0.0, 0.0) for i, part in enumerate(parts)), info]


def test_wrong_pixels_frames_and_times_are_each_told():
    pictures = np.stack([decode_test.picture(index) for index in range(decode_test.NUM_FRAMES)])
    wrong = decode_test.what_is_wrong
    assert wrong(as_decoded(pictures)) == ""
    assert "colours" in wrong(as_decoded(pictures[..., ::-1]))
    assert "colours" in wrong(as_decoded(pictures[::-1]))
    assert "17 frames came back of 18" in wrong(as_decoded(pictures[:17], num_frames=17))
    assert "s came back" in wrong(as_decoded(pictures, duration=0.36))
    assert "decoder crashed" in wrong([Failed("decoder crashed (signal 11)")])
    assert "gave nothing" in wrong([])


def test_a_decoder_that_fails_is_a_fault_and_an_encoder_that_fails_a_warning(monkeypatch):
    monkeypatch.setattr(decode_test, "decode_clip", lambda *_: [Failed("no decoder for its codec")])
    assert decode_test.check_decoding().state == FAULT

    def refuse(path):
        raise ValueError("no mpeg4")

    monkeypatch.setattr(decode_test, "write_clip", refuse)
    assert decode_test.check_decoding().state == WARNING


def test_a_check_that_raises_is_a_fault_and_the_next_one_is_still_made():
    def broken():
        raise OSError("libc is gone")

    found = list(run_checks([("devices", broken), ("room", lambda: Finding("room", OK, "much"))]))
    assert [finding.state for finding in found] == [FAULT, OK]
    assert "libc is gone" in found[0].says


def test_the_command_prints_a_line_a_check_and_ends_with_1_on_a_fault_alone(invoke, monkeypatch):
    findings = [Finding("Python", OK, "there"), Finding("memory", WARNING, "little", "get more")]
    monkeypatch.setattr(run, "check_environment", lambda *_: iter(findings))
    code, out, _ = invoke("doctor")
    assert code == 0
    assert out.splitlines() == ["ok      Python      there", "warning memory      little; get more"]
    findings.append(Finding("PyAV", FAULT, "gone", "install it"))
    code, out, _ = invoke("doctor", "--json")
    found = json.loads(out)
    assert code == 1
    assert found["passed"] is False
    assert found["checks"][2] == {"check": "PyAV", "state": "fault", "says": "gone", "do": "install it"}
    assert found["pixels"] is None


def test_a_network_is_not_tried_where_nothing_can_be_decoded(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "check_environment", lambda *_: iter([Finding("PyAV", FAULT, "gone")]))
    found = gcf.diagnose(backbone="no such", videos=tmp_path)
    assert found.pixels is None
    assert "not tried" in found.describe()


@pytest.mark.parametrize(
    "options", [("--backbone", "x3d.py"), ("--videos", "."), ("--folder", "none"), ("--num-clips", 1)]
)
def test_what_does_not_go_together_is_wrong_usage(options, invoke, healthy):
    code, _, err = invoke("doctor", *options)
    assert code == 2
    assert len(err.splitlines()) == 1
