"""Networks converted for OpenVINO: once, whole or not at all, within bounds, and again when anything has changed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from compare import FLOAT32_FORWARD, relative_error
from runtimes import CPU, NAMES
from stage_one import TINY

import gcf
from gcf.extract.network import conversion
from gcf.extract.network.agreement import drawn_clips
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.conversion import ConversionError, ModelNames, PassingError, conversion_key, obtain_conversion
from gcf.extract.network.openvino_map import OpenVinoMap

pytestmark = pytest.mark.processor

SHAPE = (1, 4, 32, 32)
# of each the smallest width; one without strides in time
FAMILIES = {
    "shufflenetv2_0.25x": ModelNames("shufflenetv2_0.25x", "random", "none"),
    "mobilenetv2_0.2x": ModelNames("mobilenetv2_0.2x", "random", "trained"),
    "mc3_18": ModelNames("mc3_18", "random", "trained"),
    "s3d": ModelNames("s3d", "random", "trained"),
    "x3d_xs": ModelNames("x3d_xs", "random", "trained"),
    "resnext101": ModelNames("resnext101", "random", "trained"),
    "slowfast_r50": ModelNames("slowfast_r50", "random", "trained"),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of gcf's own in which nothing is kept yet."""
    monkeypatch.setenv("GCF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "converted"


@pytest.fixture
def fake(monkeypatch):
    """Conversions that take no time: a list of the tasks, each of which leaves a model of a few bytes."""
    tasks = []

    def convert(task):
        tasks.append(task)
        Path(task["model"]).write_text("a model")
        Path(task["model"]).with_suffix(".bin").write_bytes(b"weights")

    monkeypatch.setattr(conversion, "_run_child", convert)
    return tasks


def counted(monkeypatch):
    """The tasks of the conversions that are begun from here on."""
    tasks, convert = [], conversion._run_child
    monkeypatch.setattr(conversion, "_run_child", lambda task: (tasks.append(task), convert(task)))
    return tasks


@pytest.fixture(scope="module")
def tiny():
    return gcf.load_backbone(TINY)


def plugin(folder, replaced, by, name="changed.py"):
    """The tiny plug-in with something else in its place."""
    text = Path(TINY).read_text()
    assert replaced in text
    path = folder / name
    path.write_text(text.replace(replaced, by))
    return path


def converted(path, shape=SHAPE):
    return obtain_conversion(gcf.load_backbone(path), ModelNames(str(path), "default", "trained"), shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_the_descriptors_that_it_gives_by_torch(name):
    names, frames = FAMILIES[name], 8
    backbone = gcf.load_backbone(names.backbone, names.weights, names.temporal_stride)
    backbone.recipe["crop"] = 64
    kept = obtain_conversion(backbone, names, (1, frames, 64, 64))
    clips = drawn_clips(frames, 64, 2)
    made = OpenVinoMap(kept.model, backbone.recipe, precision="fp32", streams=1)
    settings = {"device": CPU, "precision": "fp32", "batch_size": 1}
    ours, theirs = ClipNetwork(backbone, **settings, openvino_map=made), ClipNetwork(backbone, **settings)
    for clip in clips:
        for one, other in zip(ours(clip[None]), theirs(clip[None]), strict=True):
            assert relative_error(torch.from_numpy(one), torch.from_numpy(other)) < FLOAT32_FORWARD


def test_it_is_made_once_and_used_by_every_later_run(home, fake, tiny):
    first = obtain_conversion(tiny, NAMES, SHAPE)
    assert first.model.read_text() == "a model"
    assert obtain_conversion(gcf.load_backbone(TINY), NAMES, SHAPE) == first
    assert len(fake) == 1
    assert [path.name for path in home.iterdir() if not path.name.startswith(".")] == [first.folder.name]


def test_what_decides_it_is_its_key(home, fake, tiny, tmp_path, monkeypatch):
    keys = {conversion_key(tiny, shape) for shape in (SHAPE, (2, 4, 32, 32), (1, 5, 32, 32), (1, 4, 32, 34))}
    others = [("RGB", "BGR"), ("manual_seed(0)", "manual_seed(1)"), ("(2, 3, 4)", "(4, 3, 2)")]
    for n, (replaced, by) in enumerate(others):  # the pixels, the weights, the code
        keys.add(conversion_key(gcf.load_backbone(plugin(tmp_path, replaced, by, f"{n}.py")), SHAPE))
    for change in ({"temporal_stride": "none"}, {"weights_sha256": "0" * 64}, {"name": "other"}):
        with monkeypatch.context() as patch:
            patch.setattr(tiny, "recipe", tiny.recipe | change)
            keys.add(conversion_key(tiny, SHAPE))
    versions = [(conversion, "__version__"), (conversion.torch, "__version__")]
    for owner, name in versions:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, "0")
            keys.add(conversion_key(tiny, SHAPE))
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "openvino_version", lambda: "0")
        keys.add(conversion_key(tiny, SHAPE))
    assert len(keys) == 4 + 3 + 3 + 3
    assert conversion_key(gcf.load_backbone(TINY), SHAPE) in keys


def test_a_class_that_is_written_elsewhere_decides_it_too(home, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for stride in (1, 2):
        (tmp_path / "layers_of_mine.py").write_text(
            f"from torch import nn\nclass Layer(nn.ReLU):\n    def forward(self, x): return x[..., ::{stride}].relu()\n"
        )
        sys.modules.pop("layers_of_mine", None)
        path = plugin(tmp_path, "self.fc =", "import layers_of_mine; self.layer = layers_of_mine.Layer(); self.fc =")
        keys.add(conversion_key(gcf.load_backbone(path), SHAPE))
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("theirs", "changed"),
    [
        ("class Base(nn.Module):\n    def moved(self, x): return x + 1\n", ("x + 1", "x + 2")),  # inherited
        ("def moved(x): return x + 1\n", ("x + 1", "x + 2")),  # called
        ("import deeper_of_mine\nVALUE = 1\n", None),  # two files away
    ],
)
def test_code_that_the_networks_files_import_decides_it(home, tmp_path, monkeypatch, theirs, changed):
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for turn in range(2):
        text = theirs.replace(*changed) if turn and changed else theirs
        (tmp_path / "base_of_mine.py").write_text("from torch import nn\n" + text)
        (tmp_path / "deeper_of_mine.py").write_text(f"VALUE = {turn}\n")
        for name in ("base_of_mine", "deeper_of_mine"):
            sys.modules.pop(name, None)
        used = (
            "from base_of_mine import Base as Parent"
            if "class Base" in theirs
            else "import base_of_mine\nParent = nn.Module"
        )
        path = plugin(tmp_path, "class Tiny(nn.Module)", f"{used}\n\nclass Tiny(Parent)")
        backbone = gcf.load_backbone(path)
        backbone.recipe = backbone.recipe | {"plugin_sha256": "the same"}
        keys.add(conversion_key(backbone, SHAPE))
    assert len(keys) == 2


def test_tensors_that_no_checkpoint_has_decide_it(home):
    keys = set()
    for value in (1.0, 2.0):
        backbone = gcf.load_backbone(TINY)
        backbone.register_buffer("shift", torch.tensor(value), persistent=False)
        keys.add(conversion_key(backbone, SHAPE))
    assert len(keys) == 2


RUN = """
import sys, time
from gcf.extract.network import conversion
from runtimes import NAMES, TINY
import gcf
mode, shape = sys.argv[1], (1, 4, 32, 32)
plain = conversion._run_child

def slow(task):
    plain(task)
    print("converted", flush=True)
    if mode == "killed":
        time.sleep(60)

conversion._run_child = slow
conversion.obtain_conversion(gcf.load_backbone(TINY), NAMES, shape)
print("kept", flush=True)
"""


def other_process(mode):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", RUN, mode], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_one_that_was_killed_before_its_end_is_made_again_and_leaves_nothing(home):
    process = other_process("killed")
    assert process.stdout.readline() == "converted\n"
    process.kill()
    process.communicate()
    assert len(list(home.glob(".*.tmp/network.xml"))) == 1
    assert not list(home.glob("tiny-*/network.xml"))
    done = other_process("whole")
    assert done.communicate()[0] == "converted\nkept\n"
    assert len(list(home.glob("tiny-*/network.xml"))) == 1
    assert not list(home.glob(".*.tmp"))


@pytest.mark.slow
def test_two_that_want_the_same_at_once_make_it_once(home):
    processes = [other_process("whole") for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0] for process in processes)
    assert said == ["converted\nkept\n", "kept\n"]


def test_a_damaged_one_is_made_again(home, fake, tiny, caplog):
    kept = obtain_conversion(tiny, NAMES, SHAPE)
    kept.note_trial("a processor", 0.5)
    kept.model.with_suffix(".bin").write_bytes(b"weightz")
    again = obtain_conversion(tiny, NAMES, SHAPE)
    assert len(fake) == 2
    assert again.model.with_suffix(".bin").read_bytes() == b"weights"
    assert again.trial("a processor") is None
    assert f"{again.folder}: damaged, made again" in caplog.text


def test_where_nothing_can_be_kept_it_is_made_for_this_run(tiny, tmp_path, monkeypatch, fake):
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    monkeypatch.setenv("GCF_HOME", str(home))
    made = obtain_conversion(tiny, NAMES, SHAPE)
    assert made.model.exists()
    assert home.is_file()
    assert obtain_conversion(tiny, NAMES, SHAPE).folder != made.folder


@pytest.mark.slow
def test_what_was_made_for_one_run_is_gone_after_it(tmp_path):
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parent),
        "GCF_HOME": str(home),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", RUN, "whole"], capture_output=True, text=True, env=environment)
    assert done.stdout == "converted\nkept\n", done.stderr
    assert not list(tmp_path.glob("gcf-converted-*"))


def test_the_last_ones_are_removed_when_nobody_has_used_them_for_two_months(home, fake, tiny):
    old = obtain_conversion(tiny, NAMES, SHAPE)
    recent = obtain_conversion(tiny, NAMES, (2, 4, 32, 32))
    for kept, days in ((old, 61), (recent, 59)):
        os.utime(kept.folder, (0, time.time() - days * 86400))
    obtain_conversion(tiny, NAMES, (3, 4, 32, 32))
    assert not old.folder.exists()
    assert recent.folder.exists()
    os.utime(recent.folder, (0, time.time() - 59 * 86400))
    obtain_conversion(tiny, NAMES, (2, 4, 32, 32))
    assert time.time() - recent.folder.stat().st_mtime < 3600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("self.step(clips)", "its steps depend on what it is shown"),
        ("self.fail(clips)", "its own words"),
    ],
)
def test_what_cannot_be_converted_says_why_and_is_not_tried_again(home, tmp_path, monkeypatch, by, said):
    tried = counted(monkeypatch)
    path = plugin(tmp_path, "return self.conv(self.stem(clips).relu()).relu()", f"return {by}")
    path.write_text(
        path.read_text().replace(
            "    def descriptor",
            """    def step(self, clips):
        return self.conv(self.stem(clips)) if clips.mean() > 0 else self.conv(self.stem(-clips))

    def fail(self, clips):
        raise KeyError("much before", "its own words")

    def descriptor""",
        )
    )
    for _ in range(2):
        with pytest.raises(ConversionError, match=said):
            converted(path)
    assert len(tried) == 1
    assert not list(home.glob("*/network.xml"))
    assert not list(home.glob(".*.tmp"))
    (note,) = home.glob("*.failed")
    note.unlink()
    path.write_text(path.read_text().replace(f"return {by}", "return self.conv(self.stem(clips))"))
    assert converted(path).model.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("__import__('os')._exit(7)", "its process ended with exit code 7"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "its process ended with exit code -9"),
        ("bytearray(1 << 60)", "MemoryError"),
        ("torch.empty(1 << 50)", "allocate"),
    ],
)
def test_what_may_go_better_at_another_time_is_not_remembered(home, tmp_path, by, said):
    path = plugin(tmp_path, "return self.conv(self.stem(clips).relu()).relu()", f"return {by}")
    with pytest.raises(PassingError, match=said):
        converted(path)
    assert not list(home.glob("*.failed"))


@pytest.mark.slow
def test_a_full_disk_is_not_remembered_either(home, tiny, monkeypatch):
    plain = conversion._new_folder

    def full(folder):
        made = plain(folder)
        for name in (conversion.MODEL, conversion.WEIGHTS):
            (made / name).symlink_to("/dev/full")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_new_folder", full)
        with pytest.raises(PassingError, match="it cannot be written"):
            obtain_conversion(tiny, NAMES, SHAPE)
    assert obtain_conversion(tiny, NAMES, SHAPE).whole


@pytest.mark.slow
def test_steps_that_depend_on_sizes_alone_are_no_fault(home, tmp_path):
    path = plugin(
        tmp_path,
        "return self.conv(self.stem(clips).relu()).relu()",
        "return self.conv(self.stem(clips)) if clips.shape[2] % 2 == 0 else self.conv(self.stem(-clips))",
    )
    assert converted(path).model.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("MOST_SECONDS", 0.5, "it takes more than 0 s"),
        ("MOST_MEMORY", 100 << 20, "it takes more than 0.1 GiB of memory"),
    ],
)
def test_time_and_memory_are_bounded(home, tiny, monkeypatch, bound, value, said):
    monkeypatch.setattr(conversion, bound, value)
    with pytest.raises(ConversionError, match=said):
        obtain_conversion(tiny, NAMES, SHAPE)
    assert not psutil.Process().children()
    assert not list(home.glob(".*.tmp"))


@pytest.mark.slow
def test_a_machine_with_little_memory_computes_by_torch(home, folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(conversion, "free_memory", lambda: 64 << 20)
    gcf.extract_videos(folder, tmp_path / "f.h5", backbone=TINY, precision="fp32")
    assert gcf.FeatureFile(tmp_path / "f.h5").recipe["runtime"] == "torch"
    assert "computed by PyTorch, not by OpenVINO: it takes more than 0.1 GiB of memory" in caplog.text
    monkeypatch.undo()
    monkeypatch.setenv("GCF_HOME", str(home.parent))
    # memory comes back: it is tried again
    gcf.extract_videos(folder, tmp_path / "g.h5", backbone=TINY, precision="fp32")
    assert gcf.FeatureFile(tmp_path / "g.h5").recipe["runtime"] == "openvino"


def test_trials_that_were_kept_are_read_whatever_became_of_them(home, fake, tiny):
    kept = obtain_conversion(tiny, NAMES, SHAPE)
    kept.note_trial("a", 0.5)
    kept.note_trial("b", np.inf)
    assert (kept.trial("a"), kept.trial("b"), kept.trial("c")) == (0.5, np.inf, None)
    for text in ("[1]", "{", '{"a": "x"}', ""):
        (kept.folder / conversion.TRIALS).write_text(text)
        assert kept.trial("a") is None
    kept.note_trial("a", 0.25)
    assert json.loads((kept.folder / conversion.TRIALS).read_text()) == {"a": 0.25}
