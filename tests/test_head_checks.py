"""The contract of every head: sound ones pass, and each broken one is caught by the check that is meant for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import RECIPE, easy_cache, write_cache

from gcf.errors import HeadError, RecipeError, UsageError
from gcf.head.checks import check_head
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS
from gcf.head.models.invariance import CHECKS
from gcf.head.models.saved import SavedHead, save_head

EXAMPLE = Path(__file__).parents[1] / "docs" / "example_head.py"
SOUND = """
import torch
from torch import nn

HEAD = {"name": "mine", "order_aware": False}

class Mine(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.classifier = nn.Linear(width, classes)
        # more layers

    def forward(self, descriptors, mask):
        real = descriptors.masked_fill(~mask.unsqueeze(-1), 0)
        count = mask.sum(dim=1, keepdim=True)
        video = real.sum(dim=1) / count
        # more steps
        return self.classifier(video)

def build(descriptor_width, num_classes):
    return Mine(descriptor_width, num_classes)
"""
RETURN, STEPS, LAYERS = "return self.classifier(video)", "# more steps", "# more layers"
# what is broken -> (what is replaced, by what, the checks that must fail; all others must pass)
BROKEN = {
    "padding leaks": (".masked_fill(~mask.unsqueeze(-1), 0)", "", {"padding", "slots"}),
    "padding leaks faintly": (STEPS, "video = video + 1e-6 * descriptors.mean(dim=1)", {"padding"}),
    "the mean counts padded slots": ("/ count", "/ mask.shape[1]", {"slots"}),
    "order counts": (STEPS, "video = video + 0.01 * real[:, 0]", {"order"}),
    "batch statistics, always": (STEPS, "video = video - video.mean(dim=0)", {"batch"}),
    "batch norm": (LAYERS, "self.norm = nn.BatchNorm1d(width)", {"batch"}),
    "dropout": (LAYERS, "self.drop = nn.Dropout(0.1)", {"determinism"}),
    "noise": (
        STEPS,
        "video = video + torch.randn_like(video)",
        set(CHECKS) - {"shapes", "evidence", "gradient", "stacking"},
    ),
    "noise in training that changes little": (STEPS, "torch.rand(1) if self.training else 0", {"determinism"}),
    "NaN": (RETURN, "return self.classifier(video).sqrt()", {"shapes", "gradient", "precision"}),
    "infinite": (RETURN, "return self.classifier(video) / 0", {"shapes", "gradient", "precision"}),
    "a parameter that does nothing": (LAYERS, "self.spare = nn.Linear(width, 3)", {"gradient"}),
    "differences of large numbers": (
        RETURN,
        "return (self.classifier(video) + 1e4) - 1e4",
        {"precision"},
    ),
    "evidence that is none": (
        RETURN,
        "return {'logits': self.classifier(video), 'evidence': self.classifier(real) * mask[..., None]}",
        {"evidence"},
    ),
    "a gate above 1": (RETURN, "return {'logits': self.classifier(video), 'gate': 2.0 * mask}", {"shapes"}),
    "a gate on padding": (
        RETURN,
        "return {'logits': self.classifier(video), 'gate': torch.ones(mask.shape)}",
        {"shapes"},
    ),
    "fails for many clips": (STEPS, "assert mask.shape[1] < 12, 'too many clips'", {"slots"}),
}
USES = {  # what the layers that are added do
    "batch norm": (STEPS, "video = self.norm(video)"),
    "dropout": (STEPS, "video = self.drop(video)"),
}


@pytest.fixture
def plugin(tmp_path):
    def written(*changes):
        content = SOUND
        for old, new in changes:
            assert old in content
            content = content.replace(old, new)
        path = tmp_path / "mine.py"
        path.write_text(content)
        return path

    return written


def failed(found):
    return {check.name for check in found.checks if not check.passed}


def measured(found, name):
    (check,) = (check for check in found.checks if check.name == name)
    return check


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PRESETS, EXAMPLE])
def test_every_preset_and_the_example_keep_the_contract(name):
    found = check_head(name)
    assert found.passed, found.describe()
    assert [check.name for check in found.checks] == list(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        head_config("transformer", positions="sine", name="sine"),
        head_config("transformer", positions="learned", gate_clips=6, name="learned"),
        head_config("gcf-256", gate_clips=4, name="four slots"),
        head_config("gcf-256", layers=2, fusion="average", residual="linear", name="deep"),
    ],
    ids=lambda config: config.name,
)
def test_so_do_other_shapes(config):
    found = check_head(config, num_clips=12)
    assert found.passed, found.describe()


def test_a_sound_head_of_ones_own_passes(plugin):
    assert check_head(plugin()).passed


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_caught_by_the_check_for_it(what, plugin):
    old, new, caught = BROKEN[what]
    found = check_head(plugin((old, new), *([USES[what]] if what in USES else [])))
    assert failed(found) == caught, found.describe()


def test_a_head_that_declares_it_may_depend_on_order_and_is_told_how_much(plugin):
    order = ('"order_aware": False', '"order_aware": True')
    check = measured(check_head(plugin(order, (STEPS, "video = video + 0.01 * real[:, 0]"))), "order")
    assert check.passed
    assert 0.001 < check.measured < 0.1
    assert "declared to know the order of clips" in check.sentence
    assert check_head(plugin(order)).passed  # one that could and does not is no worse


def test_a_branch_on_values_is_no_fault_but_keeps_seeds_from_being_trained_at_once(plugin):
    check = measured(
        check_head(plugin((STEPS, "video = video if self.classifier.bias.sum() > 9 else -video"))), "stacking"
    )
    assert check.passed
    assert "one after the other, vmap cannot" in check.sentence
    assert "several seeds can be trained at once" in measured(check_head(plugin()), "stacking").sentence


def test_the_difference_that_is_measured_is_that_of_the_head(plugin):
    """0.01 of the mean of all slots: garbage of 1e6 reaches the logits in that share."""
    path = plugin((STEPS, "video = video + 0.01 * descriptors.mean(dim=1)"))
    small = measured(check_head(path), "padding").measured
    path.write_text(path.read_text().replace("0.01", "0.02"))
    assert measured(check_head(path), "padding").measured == pytest.approx(2 * small, rel=0.1)  # the logits grow, too


def test_a_head_that_raises_in_one_check_is_shown_with_its_line_and_the_others_go_on(plugin):
    found = check_head(plugin((STEPS, "assert mask.shape[1] < 12, 'too many'")))
    check = measured(found, "slots")
    assert (check.measured, check.limit) == (None, None)
    assert check.sentence == "raised AssertionError: too many, line 17"
    assert len(found.checks) == len(CHECKS)


def trained(width=12, recipe=RECIPE):
    config = PRESETS["mil"]
    training = {"num_clips": 10, "clip_policy": "uniform"}
    return SavedHead(build_head(config, width, 3).eval(), config, width, ("a", "b", "c"), recipe, training)


@pytest.mark.slow
def test_a_trained_head_is_checked_on_real_clips_and_stays_as_it_was(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    head = trained()
    before = {name: value.clone() for name, value in head.module.state_dict().items()}
    save_head(tmp_path / "run", head)
    for subject in (head, tmp_path / "run", str(tmp_path / "run")):
        found = check_head(subject, features=features.path)
        assert found.passed, found.describe()
        assert found.clips == f"clips of {features.path}"
    assert not head.module.training
    assert all(torch.equal(value, before[name]) for name, value in head.module.state_dict().items())
    assert all(parameter.grad is None for parameter in head.module.parameters())


def test_features_that_are_not_for_the_head_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="another recipe"):
        check_head(trained(recipe=RECIPE | {"crop": 9}), features=easy_cache(tmp_path / "f.h5"))
    with pytest.raises(HeadError, match="descriptors of 12 channels, this head takes 14"):
        check_head(trained(width=14), features=easy_cache(tmp_path / "g.h5"))


def test_videos_of_a_single_clip_still_show_what_padding_does(tmp_path, plugin):
    videos = [np.random.default_rng(n).standard_normal((1, 5)) for n in range(4)]
    features = write_cache(tmp_path / "f.h5", videos, [0, 1, 0, 1], ["a", "b"])
    assert check_head("max", features=features).passed  # attention would have nothing to learn from
    leaking = plugin((".masked_fill(~mask.unsqueeze(-1), 0)", ""))
    assert "padding" in failed(check_head(leaking, features=features))


def test_a_batch_has_videos_with_every_number_of_clips_from_one_to_all():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, descriptors, mask):
            seen.append(mask)
            return descriptors.sum(dim=1)[:, :3]

    head = trained()
    check_head(SavedHead(Spy(), head.config, 12, head.classes, RECIPE, {}), num_clips=5)
    assert set(seen[0].sum(dim=1).tolist()) == {1, 2, 3, 4, 5}


def test_no_global_random_state_is_touched_and_two_runs_agree():
    state = torch.get_rng_state()
    assert check_head("stpn") == check_head("stpn")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("number", [0, -3])
def test_no_clips_are_refused(number):
    with pytest.raises(UsageError, match="at least 1"):
        check_head("mean", num_clips=number)


def test_what_is_no_head_is_said(tmp_path):
    with pytest.raises(UsageError, match="nothing: no folder of a trained head, no plug-in and no preset"):
        check_head("nothing")
    with pytest.raises(HeadError, match=r"no head\.json here"):
        check_head(tmp_path)


def test_the_command_prints_a_line_a_check_and_ends_with_1_where_one_fails(invoke, plugin, tmp_path):
    easy_cache(tmp_path / "f.h5")
    code, out, _ = invoke("check-head", EXAMPLE, "--features", tmp_path / "f.h5")
    assert code == 0
    assert out.splitlines()[0] == f"mean-and-max on clips of {tmp_path / 'f.h5'}"
    assert [line.split()[1] for line in out.splitlines()[2:-1]] == list(CHECKS)
    assert out.splitlines()[-1] == "all checks passed"
    code, out, _ = invoke("check-head", plugin((STEPS, "video = video + 0.01 * real[:, 0]")))
    assert code == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith("FAIL")] == ["order"]
    assert out.splitlines()[-1] == "1 of 10 checks failed"


def test_the_json_says_the_same_and_holds_no_nan(invoke, plugin):
    code, out, _ = invoke("check-head", plugin((RETURN, "return self.classifier(video).sqrt()")), "--json")
    found = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (code, found["passed"], found["head"]) == (1, False, "mine")
    assert {check["name"] for check in found["checks"] if not check["passed"]} == {"shapes", "gradient", "precision"}
    (check,) = (check for check in found["checks"] if check["name"] == "precision")
    assert check["measured"] is None


def test_a_name_that_is_none_is_one_line_and_wrong_usage(invoke):
    code, out, err = invoke("check-head", "nothing")
    assert (code, out) == (2, "")
    assert err.startswith("gcf: nothing: no folder of a trained head")
