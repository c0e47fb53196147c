"""Heads of strangers: no file of this machine that only the head names is opened or run, and every fault is a line."""

import hashlib
import json
import os
import shutil
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from caches import RECIPE, easy_cache
from compare import assert_bitwise_equal

import gcf
from gcf.errors import HeadError, UsageError
from gcf.head.checks import check_head
from gcf.head.estimator import GCFClassifier
from gcf.head.evaluate import evaluate_head
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import HeadConfig
from gcf.head.models.ensemble import load_ensemble, load_trained
from gcf.head.models.head_json import MOST_BYTES, MOST_DEPTH
from gcf.head.models.saved import SavedHead, load_head, save_head
from gcf.head.training import train_head
from gcf.head.transfer import transfer_head

D, CLASSES = 12, ("class 0", "class 1", "class 2")
TRAINING = {"num_clips": 10, "clip_policy": "uniform", "seed": 3}
CONTENT = """
import torch
open({marker!r}, "w").close()
HEAD = {{"name": "mine", "order_aware": False}}

class Mine(torch.nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.classifier = torch.nn.Linear(width, classes)

    def forward(self, descriptors, mask):
        real = descriptors * mask.unsqueeze(-1)
        return self.classifier(real.sum(dim=1) / mask.sum(dim=1, keepdim=True))

def build(width, classes):
    return Mine(width, classes)
"""
opened: set[str] | None = None  # what Python opens while somebody listens; an audit hook stays for ever


def _listen(event: str, args: tuple) -> None:
    if event == "open" and opened is not None and isinstance(args[0], str | bytes | os.PathLike):
        opened.add(os.path.realpath(os.fsdecode(args[0])))


sys.addaudithook(_listen)


@contextmanager
def listening():
    global opened
    opened = set()
    try:
        yield opened
    finally:
        opened = None


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A folder with features, the head `run` of a plug-in whose file leaves `ran` behind, and the head `seeds` of two
    seeds of it; `source.py` is the file that both name, `mine.py` a copy elsewhere.
    """
    place = tmp_path_factory.mktemp("stranger")
    source, mine = place / "source.py", place / "mine" / "mine.py"
    source.write_text(CONTENT.format(marker=str(place / "ran")))
    mine.parent.mkdir()
    shutil.copyfile(source, mine)
    features = easy_cache(place / "f.h5")
    train_head(features, place / "run", head=str(source), epochs=2)
    train_head(features, place / "seeds", head=str(source), epochs=2, seeds=2)
    (place / "ran").unlink()
    return place


@pytest.fixture
def place(stranger, tmp_path):
    """The same with nothing run yet, in a folder of the test's own; sources that nobody has run in this process."""
    for name in ("run", "seeds"):
        shutil.copytree(stranger / name, tmp_path / name)
    for name in ("source.py", "mine.py"):
        (tmp_path / name).write_text(CONTENT.format(marker=str(tmp_path / "ran")))
    shutil.copyfile(stranger / "f.h5", tmp_path / "f.h5")
    for facts in tmp_path.glob("**/head.json"):
        config = {
            "source": str(tmp_path / "source.py"),
            "source_sha256": hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest(),
        }
        changed(facts, "config", **config)
    return tmp_path


def changed(path, part, **values):
    """Put other values into a part of a head.json, or into the whole of it."""
    facts = json.loads(path.read_text())
    (facts if part is None else facts[part]).update(values)
    path.write_text(json.dumps(facts))


def rows():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((3, D)).astype(np.float32) for _ in range(30)], [str(n % 3) for n in range(30)]


def fitted(head, **options):
    """An estimator on arrays, which say that they are of the head's recipe."""
    changed(head / "head.json", None, recipe={"source": "arrays"})
    return GCFClassifier(init=head, epochs=1, **options).fit(*rows())


LOADING = {
    "load_head": lambda p, **o: load_head(p / "run", **o),
    "load_trained": lambda p, **o: load_trained(p / "run", **o),
    "load_ensemble": lambda p, **o: load_ensemble(p / "seeds", **o),
    "evaluate_head": lambda p, **o: evaluate_head(p / "run", p / "f.h5", **o),
    "evaluate_head, seeds": lambda p, **o: evaluate_head(p / "seeds", p / "f.h5", **o),
    "predict_videos": lambda p, **o: gcf.predict_videos(p / "run", p / "f.h5", **o),
    "localize_videos": lambda p, **o: gcf.localize_videos(p / "run", p / "f.h5", **o),
    "export_onnx": lambda p, **o: gcf.export_onnx(p / "run", p / "out.onnx", **o),
    "check_head": lambda p, **o: check_head(p / "run", **o),
    "train_head": lambda p, **o: train_head(p / "f.h5", p / "again", init=p / "run", epochs=1, **o),
    "transfer_head": lambda p, **o: transfer_head(None, p / "f.h5", init=p / "run", epochs=1, **o),
    "GCFClassifier": lambda p, **o: fitted(p / "run", **o),
}
COMMANDS = {
    "eval": ["{p}/run", "{p}/f.h5"],
    "predict": ["{p}/run", "{p}/f.h5"],
    "localize": ["{p}/run", "{p}/f.h5", "-o", "{p}/seen"],
    "export-head": ["{p}/run", "{p}/out.onnx"],
    "check-head": ["{p}/run"],
    "train-head": ["{p}/f.h5", "-o", "{p}/again", "--init", "{p}/run", "--epochs", "1"],
    "transfer": ["{p}/f.h5", "-o", "{p}/moved", "--init", "{p}/run", "--epochs", "1"],
}


def command(name, place):
    return [name, *(word.format(p=place) for word in COMMANDS[name])]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADING)
def test_a_function_runs_the_file_that_its_caller_names_and_no_other(name, place):
    call = LOADING[name]
    with listening() as found, pytest.raises(HeadError, match=r"source\.py \(sha256 [0-9a-f]{64}\).*--head-file"):
        call(place)
    assert str(place / "source.py") not in found
    assert str(place / "run" / "head.json") in found or str(place / "seeds" / "seed-0" / "head.json") in found
    (place / "other.py").write_text(CONTENT.format(marker=str(place / "ran")) + "# another\n")
    with pytest.raises(HeadError, match=r"other\.py: the file has changed .* or is another one"):
        call(place, head_file=place / "other.py")
    assert not (place / "ran").exists()
    if name == "export_onnx":
        pytest.importorskip("onnxscript")
    with listening() as found:
        call(place, head_file=place / "mine.py")
    assert (place / "ran").exists()
    assert str(place / "source.py") not in found


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_the_file_that_its_user_names_and_no_other(name, place, invoke):
    with listening() as found:
        code, out, err = invoke(*command(name, place))
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert "source.py (sha256 " in line
    assert "--head-file" in line
    assert str(place / "source.py") not in line + "".join(found)
    assert not (place / "ran").exists()
    if name == "export-head":
        pytest.importorskip("onnxscript")
    code, _, err = invoke(*command(name, place), "--head-file", place / "mine.py")
    assert code == 0, err
    assert (place / "ran").exists()


@pytest.mark.slow
def test_a_head_of_this_process_needs_no_file(stranger):
    run = train_head(stranger / "f.h5", None, head=str(stranger / "source.py"), epochs=2)
    assert evaluate_head(run.head, stranger / "f.h5")["top1"] == run.metrics["top1"]
    again = train_head(stranger / "f.h5", None, init=run.head, epochs=1)
    assert again.head.config.source == str(stranger / "source.py")


def test_what_is_run_is_the_file_and_no_compiled_copy_beside_it(place):
    """Python takes __pycache__ for the file where size and time agree: it could be a stranger's as well."""
    import importlib.util
    import py_compile

    evil, cached = place / "evil.py", importlib.util.cache_from_source(str(place / "mine.py"))
    evil.write_text((place / "mine.py").read_text() + f"open({str(place / 'evil')!r}, 'w')\n")
    py_compile.compile(str(evil), cfile=cached, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    load_head(place / "run", head_file=place / "mine.py")
    assert not (place / "evil").exists()


def test_a_file_for_a_head_that_needs_none_is_refused(place, tmp_path):
    config = head_config("mean")
    head = SavedHead(build_head(config, D, 3).eval(), config, D, CLASSES, RECIPE, TRAINING)
    save_head(tmp_path / "mean", head)
    mine = {"head_file": place / "mine.py"}
    for call in (
        lambda: load_head(tmp_path / "mean", **mine),
        lambda: evaluate_head(head, place / "f.h5", **mine),
        lambda: check_head("mean", **mine),
        lambda: train_head(place / "f.h5", **mine),
        lambda: transfer_head(place / "f.h5", place / "f.h5", **mine),
        lambda: GCFClassifier(**mine).fit(*rows()),
        lambda: gcf.predict_videos("backbone", place / "f.h5", **mine),
    ):
        with pytest.raises(UsageError, match=r"head.file"):
            call()
    assert not (place / "ran").exists()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder with features and the head `run`, of gcf's own kind."""
    folder = tmp_path_factory.mktemp("plain")
    features = easy_cache(folder / "f.h5")
    config = HeadConfig("small", width=16, key_width=8)
    head = SavedHead(build_head(config, D, 3).eval(), config, D, CLASSES, features.recipe, TRAINING)
    save_head(folder / "run", head)
    return folder


def nested(depth):
    return "[" * depth + "]" * depth


BAD = {
    "top": [
        ("classes", "abc"),
        ("classes", ["a"]),
        ("classes", ["a", "a", "b"]),
        ("classes", ["a", 2, "b"]),
        ("descriptor_width", 1e30),
        ("descriptor_width", 12.0),
        ("descriptor_width", -1),
        ("weights_sha256", "ABC"),
        ("weights_sha256", 5),
        ("config", []),
        ("recipe", "x"),
        ("training", None),
    ],
    "config": [
        ("width", 1e30),
        ("width", 10**30),
        ("width", "wide"),
        ("width", True),
        ("width", 0),
        ("layers", 101),
        ("layers", 2.5),
        ("gate", "soft"),
        ("gate", 3),
        ("kind", None),
        ("kind", ["gcf"]),
        ("kind", "plugin"),
        ("name", 7),
        ("exclusive", "no"),
        ("standardised", "yes"),
        ("input_projection", 1),
        ("depth", 3),
    ],
    "training": [
        ("num_clips", "x"),
        ("num_clips", None),
        ("num_clips", 2.5),
        ("num_clips", 0),
        ("num_clips", 10**9),
        ("num_clips", True),
        ("clip_policy", 5),
        ("clip_policy", "central"),
        ("clip_policy", ["first"]),
        ("padding", "zero"),
        ("padding", None),
        ("order_seed", -5),
        ("order_seed", "x"),
        ("seed", 1.5),
        ("temperature", "x"),
        ("temperature", 0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
    ],
    "recipe": [
        ("num_frames", 10**9),
        ("num_frames", 0),
        ("num_frames", "16"),
        ("num_frames", 16.5),
        ("crop", 10**9),
        ("crop", [112]),
        ("crop", {}),
        ("resize", -3),
        ("batch_size", 10**9),
        ("sampling", 1e9),
        ("sampling_fps", "x"),
        ("sampling_fps", -1),
        ("backbone", ["net.py"]),
        ("weights", 3),
        ("tail", []),
        ("temporal_stride", 1),
        ("joined", 3),
        ("joined", [3]),
        ("joined", [{"num_frames": 10**9}]),
        ("mean", [float("inf")]),
    ],
}
CASES = [(part, name, value) for part, fields in BAD.items() for name, value in fields]


def refused(invoke, place):
    """The one line with which `gcf eval` refuses a head."""
    code, out, err = invoke("eval", place / "run", place / "f.h5")
    assert (code, out) == (4, ""), err
    (line,) = err.splitlines()
    assert line.startswith(f"gcf: {place / 'run'}")
    assert len(line) < 400 + len(str(place))
    return line


@pytest.mark.slow
@pytest.mark.parametrize(("part", "name", "value"), CASES)
def test_a_field_that_cannot_be_is_one_line(part, name, value, plain, tmp_path, invoke):
    shutil.copytree(plain / "run", tmp_path / "run")
    shutil.copyfile(plain / "f.h5", tmp_path / "f.h5")
    changed(tmp_path / "run" / "head.json", None if part == "top" else part, **{name: value})
    line = refused(invoke, tmp_path)
    assert name in line or "not finite" in line or "source" in line
    assert "train" in line


@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 900, 5000, 100_000])
def test_json_that_nests_deeply_is_one_line(depth, plain, tmp_path, invoke):
    shutil.copytree(plain / "run", tmp_path / "run")
    shutil.copyfile(plain / "f.h5", tmp_path / "f.h5")
    path = tmp_path / "run" / "head.json"
    path.write_text(path.read_text().replace('"training": {', f'"training": {{"deep": {nested(depth)}, ', 1))
    assert f"more than {MOST_DEPTH} deep" in refused(invoke, tmp_path)
    path.write_text(nested(depth))
    refused(invoke, tmp_path)


def test_a_file_that_is_too_large_or_no_file_is_not_read(plain, tmp_path, invoke):
    shutil.copytree(plain / "run", tmp_path / "run")
    shutil.copyfile(plain / "f.h5", tmp_path / "f.h5")
    path = tmp_path / "run" / "head.json"
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    assert "67,108,865 bytes" in refused(invoke, tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in refused(invoke, tmp_path)
    shutil.copyfile(plain / "run" / "head.json", tmp_path / "plain.json")
    path.unlink()
    (tmp_path / "plain.json").rename(path)
    (tmp_path / "run" / "head.safetensors").unlink()
    os.mkfifo(tmp_path / "run" / "head.safetensors")
    assert "head.safetensors: not a regular file" in refused(invoke, tmp_path)


@pytest.mark.parametrize("heads", ["[5]", '["seed-x"]', '[["seed-1"]]', nested(100_000)])
def test_a_run_that_names_no_folders_of_heads_is_one_line(heads, plain, tmp_path, invoke):
    shutil.copyfile(plain / "f.h5", tmp_path / "f.h5")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(f'{{"seeds": [{{"heads": {heads}}}]}}')
    refused(invoke, tmp_path)


def test_recipes_of_files_that_gcf_has_not_written_are_kept(plain, tmp_path):
    """A feature file written by plain h5py may say in words what gcf says in numbers."""
    head = load_head(plain / "run")
    recipe = {"backbone": None, "crop": "centre", "resize": [128, 171], "mean": "of ImageNet", "mine": {"a": [1]}}
    other = SavedHead(head.module, head.config, D, CLASSES, recipe, TRAINING)
    save_head(tmp_path / "run", other)
    found = load_head(tmp_path / "run")
    assert found.recipe == recipe
    x, mask = torch.ones(1, 2, D), torch.ones(1, 2, dtype=torch.bool)
    assert_bitwise_equal(found(x, mask).logits, head(x, mask).logits)
