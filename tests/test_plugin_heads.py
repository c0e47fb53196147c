"""Heads from outside: one Python file with HEAD and build()."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import RECIPE, easy_cache
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from torch.func import functional_call, stack_module_state, vmap

import gcf.cli
from gcf.errors import HeadError, UsageError
from gcf.head.evaluate import evaluate_head
from gcf.head.fitting.loss import training_loss
from gcf.head.models.build import build_head, build_shape, head_config
from gcf.head.models.config import HeadConfig
from gcf.head.models.output import HeadOutput
from gcf.head.models.saved import SavedHead, load_head, save_head
from gcf.head.training import train_head

EXAMPLE = Path(__file__).parents[1] / "docs" / "example_head.py"
D, K = 6, 3
TRAINING = {"num_clips": 10, "clip_policy": "uniform", "seed": 3}

HEAD = 'HEAD = {"name": "mine", "order_aware": False}\n'
MODULE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.classifier = nn.Linear(width, classes)

    def forward(self, descriptors, mask):
        return self.classifier(descriptors.mean(dim=1))

def build(descriptor_width, num_classes):
    return Mine(descriptor_width, num_classes)
"""
GATED = MODULE.replace(
    "return self.classifier(descriptors.mean(dim=1))",
    "return {'logits': self.classifier(descriptors.mean(dim=1)), 'gate': descriptors[..., 0].sigmoid() * mask}",
)


@pytest.fixture
def plugin(tmp_path):
    """A function: write a plug-in file of that content; its path."""

    def written(content=HEAD + MODULE):
        path = tmp_path / "mine.py"
        path.write_text(content)
        return path

    return written


def clips(count=4):
    descriptors = torch.randn(2, count, D, generator=torch.Generator().manual_seed(0))
    return descriptors, torch.arange(count).expand(2, -1) < torch.tensor([[count], [2]])


def test_the_example_is_about_twenty_lines_and_is_the_mean_beside_the_maximum():
    assert 15 <= len(EXAMPLE.read_text().splitlines()) <= 26
    config = head_config(EXAMPLE)
    assert (config.name, config.kind, config.order_aware) == ("mean-and-max", "plugin", False)
    head = build_head(config, D, K).eval()
    descriptors, mask = clips()
    weight, bias = (p.detach().numpy() for p in head.parameters())
    output = head(descriptors, mask)
    assert isinstance(output, HeadOutput)
    for n, count in enumerate((4, 2)):
        real = descriptors[n, :count].numpy()
        expected = weight @ np.concatenate([real.mean(axis=0), real.max(axis=0)]) + bias
        assert relative_error(output.logits[n].detach(), expected) < FLOAT32_FORWARD


def test_a_path_in_words_or_as_a_path_gives_a_config_with_the_file_and_its_digest(plugin, monkeypatch):
    path = plugin(HEAD.replace("False", "True") + MODULE)
    monkeypatch.chdir(path.parent)
    config = head_config("mine.py")
    assert config == head_config(path)
    assert config.source == str(path)
    assert config.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert config.order_aware
    assert config.fixed_clips is None
    with pytest.raises(UsageError, match="head mine has no gate to choose"):
        head_config(path, gate="token")


def test_the_seed_decides_its_own_weights_and_global_random_numbers_stay(plugin):
    config = head_config(plugin())
    state = torch.get_rng_state()
    one, same, other = (build_head(config, D, K, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(one) == ["classifier.weight", "classifier.bias"]  # the names are the file's own
    assert_bitwise_equal(one["classifier.weight"], same["classifier.weight"])
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert_bitwise_equal(one["classifier.weight"], torch.nn.Linear(D, K).weight)


def test_it_is_built_to_be_trained_and_takes_several_seeds_at_once(plugin):
    heads = [build_head(head_config(plugin()), D, K, seed=s) for s in range(3)]
    assert all(head.training for head in heads)
    parameters, _ = stack_module_state(heads)
    descriptors, mask = clips()
    stacked = vmap(lambda p: functional_call(heads[0], p, (descriptors, mask)).logits)(parameters)
    assert relative_error(stacked[2].detach(), heads[2](descriptors, mask).logits.detach()) < FLOAT32_FORWARD


def test_a_dict_may_bring_a_gate_which_the_sparsity_term_then_reads(plugin):
    head = build_head(head_config(plugin(HEAD + GATED)), D, K)
    descriptors, mask = clips()
    expected = (descriptors[..., 0].sigmoid() * mask).sum(dim=1).mean()
    losses = [training_loss(head(descriptors, mask), mask, torch.tensor([0, 1]), sparsity=s) for s in (0, 1)]
    assert relative_error((losses[1] - losses[0]).item(), expected.item()) < FLOAT32_FORWARD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + "def broken(", r"mine\.py: cannot be run \(SyntaxError: .*\), line 2"),
        (HEAD + "\n1 / 0", r"mine\.py: cannot be run \(ZeroDivisionError: division by zero\), line 3"),
        (HEAD + "import nothing_of_that_name", r"cannot be run \(ModuleNotFoundError: .*\), line 2"),
        (MODULE, r"mine\.py: has no HEAD = "),
        (HEAD, r"mine\.py: has no build\(descriptor_width, num_classes\)"),
        ('HEAD = {"name": "mine"}' + MODULE, "HEAD lacks order_aware"),
        (HEAD.replace('"mine"', '"mean"') + MODULE, "name 'mean' must be .* no preset's"),
        (HEAD.replace('"mine"', '"my/head"') + MODULE, "name 'my/head' must be letters"),
        (HEAD.replace('"mine"', "3") + MODULE, "name 3 must be letters"),
        (HEAD.replace("False", '"no"') + MODULE, "order_aware must be True or False, not 'no'"),
    ],
)
def test_what_a_file_lacks_is_said_when_it_is_named(content, message, plugin):
    with pytest.raises(UsageError, match=message):
        head_config(plugin(content))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return Mine(descriptor_width, num_classes)", "return 1 / 0", r"build\(\) failed \(ZeroDiv.*\), line 15"),
        ("return Mine(descriptor_width, num_classes)", "return Mine", r"build\(\) gave type, not a torch\.nn\.Module"),
        ("num_classes):", "num_classes, depth):", r"build\(\) failed \(TypeError: .*depth"),
        ("mean(dim=1)", "mean(dim=7)", r"forward\(\) failed \(IndexError: .*\), line 12"),
        ("descriptors, mask", "descriptors", r"forward\(\) failed \(TypeError"),
        ("mean(dim=1)", "mean(dim=0)", r"forward\(\) gave logits \(3, 3\), expected \(2, 3\)"),
        ("return self.classifier(descriptors.mean(dim=1))", "pass", r"forward\(\) gave NoneType; it gives logits"),
        (
            "return self.classifier(descriptors.mean(dim=1))",
            "return {'scores': descriptors}",
            r"gave a dict of scores; .*'gate', 'evidence'",
        ),
        (
            "return self.classifier(descriptors.mean(dim=1))",
            "return {'logits': self.classifier(descriptors.mean(dim=1)), 'gate': mask[0]}",
            r"gave gate \(3,\), expected \(2, 3\)",
        ),
        (
            "return self.classifier(descriptors.mean(dim=1))",
            "return {'logits': 3}",
            r"gave logits of type int, not a tensor",
        ),
    ],
)
def test_a_head_that_cannot_work_is_said_before_anything_is_trained(old, new, message, plugin):
    content = HEAD + MODULE
    assert old in content
    config = head_config(plugin(content.replace(old, new)))
    with pytest.raises(UsageError, match=message):
        build_shape(config, D, K)


def test_a_file_that_is_not_there_and_a_name_that_is_none_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.py: no such plug-in file"):
        head_config(tmp_path / "absent.py")
    with pytest.raises(UsageError, match=r"unknown head 'absent'; known: .*nextvlad.* or a plug-in's FILE\.py"):
        head_config("absent")


def saved(path, folder):
    config = head_config(path)
    head = SavedHead(build_head(config, D, K).eval(), config, D, ("a", "b", "c"), RECIPE, TRAINING)
    save_head(folder, head)
    return head


def test_a_saved_head_comes_back_as_it_was(plugin, tmp_path):
    path = plugin(HEAD + GATED)
    head = saved(path, tmp_path / "run")
    found = load_head(tmp_path / "run", head_file=path)
    assert found.config == head.config
    assert not found.module.training
    for part in ("logits", "gate"):
        assert_bitwise_equal(getattr(found(*clips()), part), getattr(head(*clips()), part))


def test_a_saved_head_whose_file_changed_or_went_is_refused(plugin, tmp_path):
    path = plugin()
    saved(path, tmp_path / "run")
    path.write_text(HEAD + MODULE.replace("mean(dim=1)", "amax(dim=1)"))
    with pytest.raises(HeadError, match=r"mine\.py: the file has changed since the head was made of it"):
        load_head(tmp_path / "run", head_file=path)
    path.unlink()
    with pytest.raises(HeadError, match=r"mine\.py: the head's file cannot be read .*; put it back there"):
        load_head(tmp_path / "run", head_file=path)


def test_a_plug_in_config_of_the_wrong_types_is_a_damaged_head(plugin, tmp_path):
    saved(plugin(), tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "head.json").read_text())
    facts["config"]["source"] = 5
    (tmp_path / "run" / "head.json").write_text(json.dumps(facts))
    with pytest.raises(HeadError, match="not a head of this version"):
        load_head(tmp_path / "run")


@pytest.mark.slow
def test_it_learns_is_saved_and_is_judged_like_any_head(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    run = train_head(features, tmp_path / "run", head=str(EXAMPLE), epochs=30, batch_size=16)
    assert run.metrics["top1"] > 0.9
    judged = evaluate_head(tmp_path / "run", features, head_file=EXAMPLE)
    assert (judged["head"], judged["top1"]) == ("mean-and-max", run.metrics["top1"])


def test_a_bad_plug_in_is_one_line_on_the_command_line(plugin, tmp_path, capfd):
    easy_cache(tmp_path / "f.h5")
    path = plugin(HEAD + MODULE.replace("mean(dim=1)", "mean(dim=7)"))
    code = gcf.cli.run(["train-head", str(tmp_path / "f.h5"), "-o", str(tmp_path / "run"), "--head", str(path)])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "mine.py: forward() failed (IndexError" in err
    assert not (tmp_path / "run").exists()


def test_a_plug_in_config_needs_to_be_made_from_its_file():
    with pytest.raises(ValueError, match="give the path of its file"):
        HeadConfig("x", kind="plugin")
