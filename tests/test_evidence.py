from dataclasses import replace

import numpy as np
import pytest
import torch
from caches import one_video
from compare import FLOAT32_FORWARD, FLOAT64_FORWARD, assert_bitwise_equal, relative_error
from numpy_net import traced
from small_heads import CONFIGS, SMALL, built, name_of, some_clips

from gcf.errors import HeadError, VideoError
from gcf.explain.reading.evidence import read_video, rounds
from gcf.head.models.build import build_head, head_config
from gcf.head.models.config import PRESETS, HeadConfig
from gcf.head.models.ensemble import MeanOfHeads, SavedEnsemble
from gcf.head.models.saved import SavedHead

D, K = 24, 5
CLASSES = ("a", "b", "c", "d", "e")
DEEP = HeadConfig("three layers", layers=3, gate="token", residual="linear", **SMALL)
ALL_CONFIGS = [
    *CONFIGS,
    DEEP,
    HeadConfig("W_r, 1/C", fusion="average", residual="linear", layers=2, gate="none", **SMALL),
]


def saved(config, *, seed=0, num_clips=10, policy="uniform", gain=4.0, padding="mask"):
    module = build_head(config, D, K, seed=seed).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(gain)
    training = {"num_clips": num_clips, "clip_policy": policy, "padding": padding}
    return SavedHead(module, config, D, CLASSES, {}, training)


def ensemble(config):
    return together(saved(config, seed=seed) for seed in range(3))


def together(members):
    first, *_ = members = tuple(members)
    module = MeanOfHeads([m.module for m in members], exclusive=first.config.exclusive).eval()
    return SavedEnsemble(module, first.config, D, CLASSES, {}, first.training, members)


def video(count, *, seed=1):
    descriptors = np.random.default_rng(seed).standard_normal((count, 2, D)).astype(np.float16)
    return one_video("v.mp4", descriptors)


def clips_of(one):
    return one.descriptors[:, 0].astype(np.float32)


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=name_of)
def test_traced_evidence_is_what_each_clip_alone_carries_through_the_layers(config):
    head = built(config)
    descriptors, mask = some_clips()
    shares = head.traced_evidence(descriptors, mask).detach()
    assert (shares[~mask] == 0).all()
    for n in range(len(mask)):
        slots = np.flatnonzero(mask[n])
        expected = traced(descriptors[n, slots].numpy(), head.state_dict(), config, slots=slots)
        assert relative_error(shares[n, slots], expected) < FLOAT64_FORWARD


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=name_of)
def test_traced_evidence_adds_up_to_the_logits(config):
    head = built(config)
    output = head(*some_clips())
    assert relative_error(head.traced_evidence(*some_clips()).sum(1).detach(), output.logits.detach()) < FLOAT64_FORWARD


@pytest.mark.parametrize("config", [c for c in PRESETS.values() if c.kind == "gcf"], ids=name_of)
def test_every_preset_as_it_is_adds_up_in_float32(config):
    head = build_head(config, 96, 7).eval()
    generator = torch.Generator().manual_seed(3)
    descriptors, mask = torch.randn(4, 10, 96, generator=generator), torch.rand(4, 10, generator=generator) < 0.7
    with torch.inference_mode():
        total = head.traced_evidence(descriptors, mask).sum(dim=1)
        assert relative_error(total, head(descriptors, mask).logits) < FLOAT32_FORWARD


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=name_of)
def test_padding_of_any_kind_never_reaches_traced_evidence(config):
    head, (descriptors, mask) = built(config), some_clips()
    clean, dirty = (head.traced_evidence(descriptors.masked_fill(~mask.unsqueeze(-1), x), mask) for x in (0, np.nan))
    assert_bitwise_equal(dirty, clean)
    mask[1] = False
    assert head.traced_evidence(descriptors, mask).isfinite().all()


def test_without_fusion_traced_evidence_is_the_evidence():
    head = built(head_config("attention-only"))
    output = head(*some_clips())
    assert_bitwise_equal(head.traced_evidence(*some_clips()), output.evidence)


def test_tracing_tells_clips_apart_where_fusion_made_them_alike():
    head = built(head_config("gcf-256", **SMALL), gain=1.0)
    descriptors, mask = some_clips()
    descriptors[0, 3] *= 5  # one clip stands out
    plain, shares = head(descriptors, mask).evidence[0], head.traced_evidence(descriptors, mask)[0]
    assert shares.std(dim=0).mean() > 3 * plain.std(dim=0).mean()
    assert shares.abs().sum(dim=1).argmax() == 3


# --- read_video ---


@pytest.mark.parametrize("count", [1, 2, 9, 10])
@pytest.mark.parametrize("head", ["gcf-256", "gcf-256-b", "gcf-256-g0", "attention-only", "mean", "mil", "stpn", "max"])
def test_in_one_round_exact_evidence_adds_up_to_the_logits_that_predict_gives(head, count):
    head, one = saved(PRESETS[head]), video(count)
    reading = read_video(head, one)
    expected = head(clips_of(one)).logits[0]
    bias = getattr(head.module.classifier, "bias", None)
    total = reading.evidence.sum(axis=0) + (0 if bias is None else bias.detach().numpy())
    assert_bitwise_equal(reading.logits, expected)
    assert relative_error(total, expected) < FLOAT32_FORWARD
    assert relative_error(reading.probabilities, expected.softmax(0)) < FLOAT32_FORWARD
    assert reading.evidence.shape == (count, K)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        *((name, "traced") for name in ("gcf-256", "gcf-256-b", "gcf-256-g0", "fusion-only")),
        *(
            (name, "share")
            for name in ("attention-only", "mean", "mil", "stpn", "topk", "max", "logreg", "gru", "transformer")
        ),
        *((name, "occlusion") for name in ("clip", "nextvlad")),
    ],
)
def test_every_head_is_read_and_says_how(head, kind):
    reading = read_video(saved(PRESETS[head]), video(7))
    assert reading.evidence_kind == kind
    assert reading.evidence.shape == (7, K)
    assert np.isfinite(reading.evidence).all()


def test_rounds_read_every_clip_once_and_never_more_than_the_head_takes():
    for count in (1, 9, 10, 11, 20, 37, 500):
        head = saved(PRESETS["gcf-256"])
        parts = rounds(head, count)
        assert sorted(np.concatenate(parts).tolist()) == list(range(count))
        assert len(parts) == -(-count // 10)
        assert max(map(len, parts)) <= 10
        assert all((np.diff(part) > 0).all() for part in parts)
    assert [part.tolist() for part in rounds(head, 11)] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]


def test_the_limit_is_what_training_read_or_what_the_gate_has_slots_for():
    assert len(rounds(saved(PRESETS["mean"], num_clips=4), 12)) == 3
    assert len(rounds(saved(PRESETS["mean"], policy="all"), 300)) == 1
    assert len(rounds(saved(PRESETS["gcf-256"], policy="all"), 30)) == 3
    assert len(rounds(saved(head_config("gcf-256", gate_clips=6), num_clips=20), 12)) == 2


@pytest.mark.parametrize("config", [PRESETS["gcf-256"], DEEP, PRESETS["mean"]], ids=name_of)
def test_over_rounds_evidence_adds_up_to_the_mean_of_their_logits(config):
    head, one = saved(config), video(25)
    reading = read_video(head, one)
    each = [head(clips_of(one)[part]).logits[0].numpy() for part in rounds(head, 25)]
    bias = 0 if head.module.classifier.bias is None else head.module.classifier.bias.detach().numpy()
    assert len(each) == 3
    assert relative_error(reading.evidence.sum(axis=0), np.mean(each, axis=0) - bias) < FLOAT32_FORWARD
    chosen = head.choose(25)
    assert_bitwise_equal(reading.logits, head(clips_of(one)[chosen]).logits[0])


def test_every_clip_has_the_gate_and_attention_of_its_own_round():
    head, one = saved(PRESETS["gcf-256"]), video(25)
    reading = read_video(head, one)
    for part in rounds(head, 25):
        said = head(clips_of(one)[part])
        assert relative_error(reading.gate[part], said.gate[0]) < FLOAT32_FORWARD
        received = said.attention[0].mean(dim=0).numpy() * len(part) / 25
        assert relative_error(reading.attention[part], received) < FLOAT32_FORWARD
    assert reading.attention.sum() == pytest.approx(1)


def test_attention_without_softmax_is_a_share_too():
    reading = read_video(saved(HeadConfig("1/C", fusion="average", **SMALL)), video(13))
    assert (reading.attention >= 0).all()
    assert reading.attention.sum() == pytest.approx(1)
    silent = saved(HeadConfig("1/C", fusion="average", **SMALL), gain=0.0)
    assert relative_error(read_video(silent, video(4)).attention, np.full(4, 0.25)) < FLOAT32_FORWARD


def test_what_a_head_has_not_is_none():
    reading = read_video(saved(PRESETS["mean"]), video(5))
    assert reading.gate is None
    assert reading.attention is None
    assert read_video(saved(PRESETS["stpn"]), video(5)).gate.shape == (5,)


@pytest.mark.parametrize("name", ["nextvlad", "clip"])
def test_occlusion_is_the_fall_of_the_logit_without_the_clip(name):
    head, one = saved(PRESETS[name], gain=1.0), video(13)
    reading = read_video(head, one)
    expected = np.empty((13, K), np.float32)
    for part in rounds(head, 13):
        whole = head(clips_of(one)[part]).logits[0]
        for clip in part:
            rest = part[part != clip]
            expected[clip] = (whole - head(clips_of(one)[rest]).logits[0]) / 2
    assert relative_error(reading.evidence, expected) < FLOAT32_FORWARD


def test_occlusion_in_small_portions_is_the_same(monkeypatch):
    head, one = saved(PRESETS["nextvlad"], policy="all", gain=1.0), video(23)
    whole = read_video(head, one).evidence
    monkeypatch.setattr("gcf.explain.reading.evidence.MOST_CLIPS", 50)
    assert relative_error(read_video(head, one).evidence, whole) < FLOAT32_FORWARD


@pytest.mark.parametrize("name", ["nextvlad", "clip"])
def test_a_clip_alone_has_all_of_the_logit(name):
    reading = read_video(saved(PRESETS[name]), video(1))
    assert relative_error(reading.evidence[0], reading.logits) < FLOAT32_FORWARD


# --- looped clips ---


def looped(part):
    """Which clip of a round each of ten slots holds."""
    return part[np.arange(10) % len(part)]


def of_clips(part, values):
    """What the slots of each clip of a round have together, clip by clip: (10, ...) -> (n, ...)."""
    return np.stack([values[looped(part) == clip].sum(axis=0) for clip in part])


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("head", ["gcf-256", "gcf-256-g0", "attention-only", "mean", "stpn", "gru"])
def test_looped_clips_have_the_evidence_of_their_repeats_which_adds_up_to_the_logits(head, count):
    head, one = saved(PRESETS[head], padding="loop"), video(count)
    reading = read_video(head, one)
    ten = torch.from_numpy(clips_of(one)[looped(np.arange(count))])
    with torch.inference_mode():
        said = head.module(ten[None], torch.ones(1, 10, dtype=torch.bool))
    assert_bitwise_equal(reading.logits, said.logits[0])
    bias = getattr(head.module.classifier, "bias", None)
    total = reading.evidence.sum(axis=0) + (0 if bias is None else bias.detach().numpy())
    assert reading.evidence.shape == (count, K)
    assert relative_error(total, said.logits[0]) < FLOAT32_FORWARD
    if reading.evidence_kind == "share":
        expected = of_clips(np.arange(count), said.evidence[0].numpy())
        assert relative_error(reading.evidence, expected) < FLOAT32_FORWARD


def test_looped_rounds_are_each_as_full_as_training_was():
    head = saved(PRESETS["gcf-256"], padding="loop")
    even, odd = rounds(head, 11)
    assert even.tolist() == [0, 2, 4, 6, 8, 10, 0, 2, 4, 6]
    assert odd.tolist() == [1, 3, 5, 7, 9] * 2
    assert [part.tolist() for part in rounds(head, 10)] == [list(range(10))]


@pytest.mark.parametrize("count", [3, 11])
def test_looped_clips_have_the_mean_gate_and_all_the_attention_of_their_repeats(count):
    head, one = saved(PRESETS["gcf-256"], padding="loop"), video(count)
    reading = read_video(head, one)
    parts = [np.arange(3)] if count == 3 else [np.arange(0, 11, 2), np.arange(1, 11, 2)]
    logits = []
    for part in parts:
        said = head(clips_of(one)[looped(part)])
        gate = of_clips(part, said.gate[0].numpy()) / of_clips(part, np.ones(10))
        assert relative_error(reading.gate[part], gate) < FLOAT32_FORWARD
        received = of_clips(part, said.attention[0].mean(dim=0).numpy()) * len(part) / count
        assert relative_error(reading.attention[part], received) < FLOAT32_FORWARD
        logits.append(said.logits[0].numpy())
    assert reading.attention.sum() == pytest.approx(1)
    assert relative_error(reading.evidence.sum(axis=0), np.mean(logits, axis=0)) < FLOAT32_FORWARD


@pytest.mark.parametrize("name", ["nextvlad", "clip"])
def test_a_looped_clip_is_left_out_with_all_its_repeats(name):
    head, one = saved(PRESETS[name], gain=1.0, padding="loop"), video(4)
    reading = read_video(head, one)
    rest = [np.delete(clips_of(one), clip, axis=0) for clip in range(4)]
    without = [head(clips[looped(np.arange(3))]).logits[0].numpy() for clips in rest]
    assert relative_error(reading.evidence, reading.logits - np.array(without)) < FLOAT32_FORWARD
    alone = read_video(head, video(1))
    assert relative_error(alone.evidence[0], alone.logits) < FLOAT32_FORWARD


@pytest.mark.parametrize("config", [PRESETS["gcf-256"], PRESETS["mean"]], ids=name_of)
def test_heads_of_several_seeds_give_the_mean_of_their_shares(config):
    head, one = ensemble(config), video(14)
    reading = read_video(head, one)
    members = [read_video(member, one) for member in head.members]
    assert reading.evidence_kind == members[0].evidence_kind != "occlusion"
    assert relative_error(reading.evidence, np.mean([m.evidence for m in members], axis=0)) < FLOAT32_FORWARD
    assert relative_error(reading.probabilities, np.mean([m.probabilities for m in members], axis=0)) < FLOAT32_FORWARD
    if config.kind == "gcf":
        assert relative_error(reading.gate, np.mean([m.gate for m in members], axis=0)) < FLOAT32_FORWARD
        assert relative_error(reading.attention, np.mean([m.attention for m in members], axis=0)) < FLOAT32_FORWARD


def test_heads_of_several_seeds_without_shares_are_occluded_together():
    head, one = ensemble(PRESETS["nextvlad"]), video(6)
    reading = read_video(head, one)
    rest = [head(np.delete(clips_of(one), clip, axis=0)).logits[0].numpy() for clip in range(6)]
    assert reading.evidence_kind == "occlusion"
    assert relative_error(reading.evidence, reading.logits - np.array(rest)) < FLOAT32_FORWARD


def test_several_heads_have_what_all_of_them_have():
    gated, plain = saved(PRESETS["stpn"]), saved(PRESETS["nextvlad"])
    for members in ([gated, plain], [plain, gated]):
        reading = read_video(together(members), video(6))
        assert reading.gate is None
        assert reading.evidence_kind == "occlusion"


PLUGIN = """
from torch import nn

HEAD = {"name": "plain", "order_aware": False}


class Plain(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.classifier = nn.Linear(width, classes)

    def forward(self, descriptors, mask):
        clean = descriptors.masked_fill(~mask.unsqueeze(-1), 0)
        return self.classifier(clean.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


build = Plain
"""


def test_a_plugin_that_gives_logits_alone_is_occluded(tmp_path):
    (tmp_path / "plain.py").write_text(PLUGIN)
    reading = read_video(saved(head_config(tmp_path / "plain.py")), video(12))
    assert reading.evidence_kind == "occlusion"
    assert reading.evidence.shape == (12, K)


@pytest.mark.parametrize("name", ["gcf-256", "mean", "clip"])
def test_where_a_video_may_show_several_classes_each_has_its_own_probability(name):
    config = replace(PRESETS[name], exclusive=False)
    one = video(6)
    for head in (saved(config), ensemble(config)):
        reading = read_video(head, one)
        assert relative_error(reading.probabilities, torch.tensor(reading.logits).sigmoid()) < FLOAT32_FORWARD
        assert np.isfinite(reading.evidence).all()


def test_nothing_but_the_centre_view_is_read():
    one = video(6)
    other = replace(one, descriptors=one.descriptors[:, :1])
    assert_bitwise_equal(
        read_video(saved(PRESETS["gcf-256"]), other).evidence, read_video(saved(PRESETS["gcf-256"]), one).evidence
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_descriptors_that_are_no_numbers_are_refused_with_the_clip(broken):
    one = video(6)
    one.descriptors[4, 0, 2] = broken
    with pytest.raises(VideoError, match=r"1 of 6 clips \(clip 4"):
        read_video(saved(PRESETS["gcf-256"]), one)


def test_features_of_another_width_and_videos_without_clips_are_refused():
    with pytest.raises(HeadError, match="24"):
        read_video(saved(PRESETS["mean"]), one_video("v", np.zeros((3, 1, D + 1), np.float16)))
    with pytest.raises(VideoError, match="no clips"):
        read_video(saved(PRESETS["mean"]), one_video("v", np.zeros((0, 1, D), np.float16)))
