"""`gcf doctor --backbone`: which pixels do weights expect? On a network that knows colours, and on a real one."""

import json
from dataclasses import replace
from pathlib import Path

import av
import colour_backbone
import numpy as np
import pytest
import torch

import gcf
from gcf.data.annotations import label_videos, read_annotations
from gcf.explain.doctor import run
from gcf.explain.doctor.clips import Spread, TrialClips, decode_trial, true_classes
from gcf.explain.doctor.evidence import agreement, answers
from gcf.explain.doctor.finding import OK, Finding
from gcf.explain.doctor.pixels import try_pixels
from gcf.explain.doctor.settings import CLIP_ORDERS, Setting, altered_settings, declared_setting, known_normalisations
from gcf.explain.doctor.trial import softmax
from gcf.explain.doctor.verdict import BETTER, UNCLEAR, WORSE, choose_evidence, compare, signed_rank_p
from gcf.explain.doctor.words import describe_trial, trial_json
from gcf.extract.decoding.find import find_videos
from gcf.extract.decoding.jobs import ClipJob
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.network.clip_network import ClipNetwork

pytestmark = pytest.mark.processor

FILE = Path(colour_backbone.__file__)
WRONG = {"BGR": {"channel_order": "BGR"}, "0..255": {"pixel_max": 255.0}}
WRONG["both"] = WRONG["BGR"] | WRONG["0..255"]


def network_of(plugin, **changes):
    backbone = gcf.load_backbone(plugin)
    backbone.recipe |= changes
    return ClipNetwork(backbone, device=torch.device("cpu"), precision="fp32", batch_size=4)


def coloured_clips(colours, *, labelled=True):
    """Two clips (8, 32, 32, 3) each of two videos a colour, noisy, no two alike."""
    rng = np.random.default_rng(0)
    names = [name for name in colours for _ in range(2)]
    means = np.repeat([colours[name] for name in names], 2, axis=0) + rng.normal(0, 4, (2 * len(names), 3))
    noise = rng.normal(0, 6, (len(means), 8, 32, 32, 3))
    pixels = np.clip(means[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    known = list(colour_backbone.COLOURS)
    truth = np.array([known.index(name) if labelled else -1 for name in names])
    return TrialClips(pixels, np.repeat(np.arange(len(names)), 2), [f"{n}.avi" for n in range(len(names))], truth)


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_the_right_recipe_passes_and_is_named(labelled):
    trial = try_pixels(network_of(FILE), coloured_clips(colour_backbone.COLOURS, labelled=labelled))
    assert trial.evidence == ("labels" if labelled else "agreement")
    assert trial.passed
    verdicts = {each.setting.name: each.compared.verdict for each in trial.settings[1:4]}
    assert verdicts == {"BGR": WORSE, "0..255": WORSE, "BGR, 0..255": WORSE} if labelled else verdicts["BGR"] == WORSE
    assert "seem to expect RGB, 0..1, mean 0.5 0.5 0.5" in describe_trial(trial)
    assert describe_trial(trial).splitlines()[-1].startswith("ok      pixels")


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("changes", WRONG.values(), ids=list(WRONG))
def test_a_recipe_altered_to_wrong_pixels_fails_and_the_right_ones_are_named(changes, labelled):
    trial = try_pixels(network_of(FILE, **changes), coloured_clips(colour_backbone.COLOURS, labelled=labelled))
    assert not trial.passed
    assert trial.better.setting.pixels["channel_order"] == "RGB"
    assert trial.better.setting.pixels["pixel_max"] == 1.0
    (line,) = [line for line in describe_trial(trial).splitlines() if line.startswith("fault")]
    assert "clearly worse than RGB, 0..1" in line
    assert trial.better.setting.pixels["mean"] == [0.5] * 3  # others are no better, and were not declared
    assert "does not need" not in describe_trial(trial)


def test_a_wrong_order_beside_a_wrong_mean_of_another_range_is_found():
    wrong = {"channel_order": "BGR", "pixel_max": 255.0, "mean": [114.7748, 107.7354, 99.475], "std": [1.0] * 3}
    trial = try_pixels(network_of(FILE, **wrong), coloured_clips(colour_backbone.COLOURS))
    assert trial.better.setting.pixels == declared_setting(network_of(FILE).backbone.recipe).pixels
    assert trial.better.setting.name.endswith(", RGB")


def test_what_grey_videos_cannot_tell_is_said_and_is_no_fault():
    greys = {name: (90 + 20 * n,) * 3 for n, name in enumerate(colour_backbone.COLOURS)}
    trial = try_pixels(network_of(FILE), coloured_clips(greys, labelled=False), orders=())
    order = next(each for each in trial.settings if each.setting.name == "BGR")
    assert order.compared.verdict == UNCLEAR
    assert trial.passed
    assert "BGR, 0..1" in describe_trial(trial)


def test_too_few_videos_are_judged_by_nothing():
    clips = coloured_clips(dict(list(colour_backbone.COLOURS.items())[:3]))
    trial = try_pixels(network_of(FILE, channel_order="BGR"), clips)
    assert (trial.evidence, trial.passed, trial.better) == ("", True, None)
    assert "nothing was judged" in describe_trial(trial)
    assert json.loads(json.dumps(trial_json(trial)))["evidence"] is None


@pytest.mark.slow
def test_clip_orders_keep_frames_and_are_told_but_never_fail():
    clips = np.random.default_rng(0).integers(0, 256, (2, 8, 3, 3, 3), dtype=np.uint8)
    for name, reorder in CLIP_ORDERS.items():
        moved = reorder(clips)
        assert moved.shape == clips.shape
        assert not np.array_equal(moved, clips)
        sums = (moved.sum(axis=(2, 3, 4)), clips.sum(axis=(2, 3, 4)))
        same = np.array_equal(*(np.sort(each, axis=1) for each in sums))
        assert same == (name != "frozen to one frame")
    trial = try_pixels(network_of(FILE), coloured_clips(colour_backbone.COLOURS))
    assert [each.compared.verdict for each in trial.orders] == [UNCLEAR] * 3
    assert "does not need the order of the frames" in describe_trial(trial)


def test_confidence_is_no_evidence():
    sure = softmax(np.eye(8)[[0, 1, 2, 3, 4, 5, 6, 7, 1, 0] * 2] * 50)  # two clips of a video answer differently
    unsure = softmax(np.repeat(np.eye(8)[[0, 1, 2, 3, 4, 5, 6, 7, 1, 0]], 2, axis=0) * 3)
    clips = TrialClips(np.zeros((20, 1)), np.repeat(np.arange(10), 2), "abcdefghij", np.full(10, -1))
    first, second = answers(sure, clips), answers(unsure, clips)
    assert first.top > second.top
    assert first.entropy < second.entropy
    assert compare(first, second, "agreement").verdict == WORSE


def test_agreement_is_nothing_where_answers_do_not_depend_on_the_video():
    video = np.repeat(np.arange(4), 3)
    same = agreement(np.full((12, 5), 0.2), video)
    own = agreement(np.eye(4)[video] * 0.99 + 0.0025, video)
    np.testing.assert_allclose(same, 0, atol=1e-12)
    assert (own > np.log(10) - 0.15).all()
    assert np.isnan(agreement(np.eye(2), np.arange(2))).all()


def test_the_rule_asks_for_a_margin_for_videos_and_for_their_agreement():
    def with_values(values):
        video = np.repeat(np.arange(len(values)), 2)
        found = answers(np.full((len(video), 3), 1 / 3), TrialClips(None, video, "", np.full(len(values), -1)))
        return replace(found, true_log_probability=np.array(values, dtype=float))

    def verdict(differences):
        zero = with_values(np.zeros(len(differences)))
        forth, back = (
            compare(*pair, "labels") for pair in ((with_values(differences), zero), (zero, with_values(differences)))
        )
        assert (forth.verdict, back.verdict) in ((BETTER, WORSE), (WORSE, BETTER), (UNCLEAR, UNCLEAR))
        return forth.verdict

    many = np.linspace(0.5, 1.5, 8)
    assert verdict(many) == BETTER
    assert verdict(np.r_[-0.1, many[1:]]) == BETTER  # one video, and that by the least
    assert verdict(np.r_[-0.1, -0.2, many[2:]]) == UNCLEAR
    assert verdict(many / 10) == UNCLEAR  # sure, and too little
    assert verdict(many[:6]) == UNCLEAR
    assert verdict(np.r_[100.0, np.tile([-0.1, 0.1], 5)]) == UNCLEAR  # one video alone
    assert choose_evidence(with_values(many)) == "labels"
    assert choose_evidence(with_values([*many[:6], np.nan])) == "agreement"
    assert choose_evidence(with_values(many[:6])) == ""


def test_signed_ranks_match_scipys_exact_test():
    from scipy.stats import wilcoxon

    differences = np.random.default_rng(1).normal(0.4, 1, 15)
    assert signed_rank_p(differences) == pytest.approx(wilcoxon(differences, method="exact").pvalue, rel=1e-9)


def test_every_known_mean_and_std_is_tried_once_and_the_declared_ones_never():
    declared = Setting(
        "as declared", {"channel_order": "RGB", "pixel_max": 1.0, "mean": [0.45] * 3, "std": [0.225] * 3}
    )
    altered = altered_settings(declared)
    tried = [each.pixels for each in altered]
    assert declared.pixels not in tried
    assert all(tried.count(pixels) == 1 for pixels in tried)
    for values in known_normalisations().values():
        assert declared.pixels | values in [declared.pixels, *tried]


def test_spread_keeps_few_clips_and_gives_middles_evenly():
    for length in (1, 2, 5, 17, 100, 999):
        spread = Spread(3)
        for index in range(length):
            spread.add(np.array(index))
            assert len(spread.kept) <= 12
        chosen = [int(clip) for clip in spread.chosen()]
        assert len(chosen) == min(3, length)
        wanted = (np.arange(len(chosen)) + 0.5) / len(chosen) * length
        assert np.abs(np.array(chosen) - wanted).max() <= max(1, length / 8), (length, chosen)


def write_colours(folder, *, num_frames=24):
    """Two videos of 24 frames of each colour, and labels.csv."""
    lines = ["path,label"]
    for name, colour in colour_backbone.COLOURS.items():
        for n in range(2):
            path = folder / f"{name}{n}.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("mpeg4", rate=25, options={"qmin": "1", "qmax": "2"})
                stream.width = stream.height = 32
                for index in range(num_frames):
                    pixels = np.full((32, 32, 3), np.array(colour) - n - index // 8, np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())
            lines.append(f"{path.name},{name.upper()}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
def test_the_command_ends_with_1_and_one_clear_line_where_the_recipe_is_wrong(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "check_environment", lambda *_: iter([Finding("Python", OK, "there")]))
    videos = write_colours(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    altered = tmp_path / "altered.py"
    altered.write_text(FILE.read_text().replace('"channel_order": "RGB"', '"channel_order": "BGR"'))
    common = ("--videos", videos, "--annotations", videos / "labels.csv", "--device", "cpu")
    code, out, _ = invoke("doctor", "--backbone", FILE, *common, "--json")
    pixels = json.loads(out)["pixels"]
    assert (code, pixels["passed"], pixels["evidence"], pixels["labelled"]) == (0, True, "labels", 8)
    assert pixels["expected"][0]["channel_order"] == "RGB"
    assert pixels["settings"][0]["top1"] == 1.0
    code, out, _ = invoke("doctor", "--backbone", altered, *common[:2])  # the broken one is among them, without labels
    assert code == 1
    assert "failed  'broken.mp4'" in out
    assert sum(line.startswith("fault ") for line in out.splitlines()) == 1


@pytest.mark.slow
def test_clips_are_sampled_as_the_weights_were_trained_where_that_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "check_environment", lambda *_: iter(()))
    videos = write_colours(tmp_path)
    sparse = tmp_path / "sparse.py"
    sparse.write_text(FILE.read_text().replace('"num_frames": 8,', '"num_frames": 8, "trained_fps": 5,'))
    jobs = []

    def spied(found, truth, job, **options):
        jobs.append(job)
        return decode_trial(found, truth, job, **options)

    monkeypatch.setattr("gcf.explain.doctor.clips.decode_trial", spied)
    for sampling in ("native", "trained"):
        assert run.diagnose(backbone=sparse, videos=videos, device="cpu", sampling=sampling).passed
    assert [job.fps for job in jobs] == [None, 5]


@pytest.fixture(scope="module")
def x3d(real):
    """The real network on two small clips of each of the eight real videos: as it should be, BGR, 0..255."""
    backbone = gcf.load_backbone(real / "x3d_xs" / "x3d_xs.py")
    found = find_videos([real / "videos"])
    labelling = label_videos([v.id for v in found], read_annotations(real / "videos" / "labels.csv"))
    truth = true_classes(labelling, backbone.recipe["classes"])
    assert (truth >= 0).all()
    job = ClipJob(16, "loop", Geometry(128, (112, 112)))  # half the pixels of its own 160 x 160, for time's sake
    clips = decode_trial(found, truth, job, num_clips=16)
    device = torch.device("cpu")
    network = ClipNetwork(backbone, device=device, precision="fp32", batch_size=4)
    declared = declared_setting(backbone.recipe)
    settings = [Setting(name, declared.pixels | WRONG[name]) for name in ("BGR", "0..255")]
    return try_pixels(network, clips, settings=settings, orders=())


@pytest.mark.slow
def test_the_real_network_expects_rgb_in_0_to_1(x3d):
    assert x3d.evidence == "labels"
    assert x3d.passed
    assert x3d.alike == ["as declared"]
    assert x3d.settings[0].answers.right.sum() >= 6


@pytest.mark.slow
@pytest.mark.parametrize("evidence", ["labels", "agreement"])
@pytest.mark.parametrize("place", [1, 2], ids=["BGR", "0..255"])
def test_the_real_network_shows_a_wrong_recipe_with_labels_and_without(x3d, place, evidence):
    right, wrong = x3d.settings[0], x3d.settings[place]
    assert compare(right.answers, wrong.answers, evidence).verdict == BETTER


def test_the_real_network_is_surest_where_it_is_wrong(x3d):
    right, _, too_large = (each.answers for each in x3d.settings)
    assert too_large.top > right.top
    assert too_large.right.sum() == 0
