"""Which frames clips show at a wanted rate: arithmetic on random times, real time stamps, pixels, recipes."""

import re
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny_backbone
import videos
from stage_one import TINY, extract

import gcf
from gcf.data.features import FeatureFile
from gcf.data.info import describe
from gcf.data.verify import verify_features
from gcf.errors import RecipeError, UsageError, VideoError
from gcf.explain.drawing.overlay_video import place_of
from gcf.explain.drawing.pictures import middle_frames
from gcf.explain.reading.described import open_source
from gcf.extract.backbones.plugin import complete_recipe
from gcf.extract.backbones.published import Pixels, assumed_pixels, find_weights
from gcf.extract.decoding.clips import fill_indices
from gcf.extract.decoding.jobs import ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.decoding.sampling import AtRate
from gcf.extract.decoding.video import Video
from gcf.extract.decoding.worker import jobs_from_json, jobs_to_json
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.recipe import make_recipe
from gcf.head.models.saved import load_head

SMALL = Geometry(resize=16, crop=(16, 16))
CLOSE = 1e-6  # seconds: roundings of sums of time stamps stay far below


def spans(times):
    """(number, begins, ends) of frames at `times`; the last lasts as long as the one before it, as in Video."""
    last = times[-1] - times[-2] if len(times) > 1 else 0.04
    return list(zip(range(len(times)), times, [*times[1:], times[-1] + last], strict=True))


def at_rate(frames, *, num_frames, fps, prepare=int):
    """The clips of all frames, as they become certain."""
    cutter = AtRate(num_frames, fps=fps, prepare=prepare)
    for frame in frames:
        yield from cutter.take(*frame)
    yield from cutter.finish()


def cuts_of(times, num_frames, fps):
    return list(at_rate(spans(times), num_frames=num_frames, fps=fps))


def random_times(rng):
    """Time stamps as videos have them: constant, variable, in bursts, with duplicates, gaps, and steps back clamped."""
    count, rate = int(rng.integers(1, 200)), rng.choice([1, 5, 10, 15, 24, 25, 30000 / 1001, 60])
    steps = np.full(count, 1 / rate)
    kind = rng.integers(5)
    if kind == 1:
        steps = rng.exponential(1 / rate, count)
    if kind == 2:
        steps[rng.random(count) < 0.3] = 0
    if kind == 3:
        steps[rng.random(count) < 0.05] = rng.choice([0.5, 3.0, 36_000.0])
    if kind == 4:
        steps = rng.normal(1 / rate, 1 / rate, count)
    start = rng.choice([0.0, -1.5, 1234.567])
    return np.maximum.accumulate(start + np.cumsum(steps) - steps[0]).round(int(rng.integers(3, 10))).tolist()


def nearest_distance(times, moment):
    """Of the frames of a video in order, how far the nearest lies; plain bisection."""
    place = bisect_left(times, moment)
    return min(abs(moment - times[k]) for k in (place - 1, place) if 0 <= k < len(times))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_every_frame_is_a_nearest_one_and_clips_neither_overlap_nor_leave_the_video(seed):
    rng = np.random.default_rng(seed)
    times = random_times(rng)
    num_frames, fps = int(rng.choice([1, 2, 4, 16, 32])), float(rng.choice([2.5, 5, 6, 7.5, 15, 40]))
    cuts, end = cuts_of(times, num_frames, fps), spans(times)[-1][2]
    assert 1 <= len(cuts) <= len(times)
    assert cuts[0].start == times[0]
    for cut in cuts:
        assert 1 <= len(cut.shown) <= num_frames
        assert times[0] <= cut.start <= cut.end <= end
        assert cut.start_frame == cut.shown[0]
        assert cut.end == pytest.approx(min(cut.start + num_frames / fps, end), abs=CLOSE)
        assert nearest_distance(times, cut.start) <= 0.5 / fps + CLOSE  # none starts in a gap
        for place, frame in enumerate(cut.shown):
            moment = cut.start + place / fps
            assert abs(times[frame] - moment) <= nearest_distance(times, moment) + CLOSE
            assert place == 0 or moment < end + CLOSE
    for one, other in pairwise(cuts):
        assert one.end <= other.start
        assert one.shown == sorted(one.shown)
        assert one.start_frame < other.start_frame
        assert len(one.shown) == num_frames


@pytest.mark.parametrize(
    ("rate", "fps", "num_frames", "expected"),
    [
        (30, 15, 4, [[0, 2, 4, 6], [8, 10]]),
        (30, 30, 4, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),  # trained at the video's own rate: every frame
        (25, 15, 4, [[0, 2, 3, 5], [7, 8, 10, 12]]),
        (5, 15, 4, [[0, 0, 1, 1], [2, 2, 3, 3]]),  # slower than wanted: shown again, until another one is nearer
        (30, 2.5, 4, [[0]]),  # shorter than a clip: one clip
    ],
)
def test_constant_rates_are_thinned_or_shown_again_as_a_player_would(rate, fps, num_frames, expected):
    count = {30: 12, 25: 13, 5: 5}[rate]
    shown = [cut.shown for cut in cuts_of([n / rate for n in range(count)], num_frames, fps)]
    assert shown[: len(expected)] == expected
    if rate == 30:
        assert len(shown) == len(expected)


def test_a_gap_of_ten_hours_makes_no_clips():
    times = [n / 30 for n in range(40)] + [36_000 + n / 30 for n in range(40)]
    cuts = cuts_of(times, 16, 15)
    assert [cut.start for cut in cuts] == pytest.approx([0, 16 / 15, 36_000, 36_000 + 16 / 15])
    assert max(cut.end - cut.start for cut in cuts) < 16 / 15 + CLOSE
    assert cuts[1].shown == [32, 34, 36, 38] + [39] * 12  # on the screen until the clip ends


def test_frames_that_are_not_shown_are_not_prepared_and_each_is_prepared_once():
    prepared = []
    frames = spans([n / 60 for n in range(240)])
    for cut in at_rate(frames, num_frames=4, fps=15, prepare=lambda n: prepared.append(n) or n):
        assert len(prepared) <= 4 * (cut.shown[-1] // 16 + 1) + 1  # no more than a clip ahead
    assert prepared == list(range(0, 240, 4))


def clips_of(path, *, num_frames=16, fps=15.0, tail="loop"):
    *clips, info = decode_clips(path, path.name, ClipJob(num_frames, tail, SMALL, fps=fps))
    return clips, info


@pytest.mark.slow
@pytest.mark.parametrize(("num_frames", "fps"), [(16, 15.0), (16, 7.5), (32, 15.0), (4, 2.5), (13, 5.0), (16, 6.0)])
def test_frames_of_a_real_variable_rate_lie_within_half_a_frame_of_the_wanted_times(real, num_frames, fps):
    frames = [(number, *span) for number, (_, *span) in enumerate(Video(real / "odd" / "torchcodec_var_fps_video.mp4"))]
    times = np.array([begins for _, begins, _ in frames])
    cuts = list(at_rate(frames, num_frames=num_frames, fps=fps))
    assert sum(len(cut.shown) for cut in cuts) > 0.9 * fps * (frames[-1][2] - times[0])
    for cut in cuts:
        moments = cut.start + np.arange(len(cut.shown)) / fps
        after = np.searchsorted(times, moments).clip(1, len(times) - 1)
        half_a_frame = (times[after] - times[after - 1]) / 2  # of the frame that is on the screen at that moment
        inside = moments < times[-1]
        away = np.abs(times[cut.shown] - moments)
        assert (away <= half_a_frame + CLOSE)[inside].all()
        still = (moments > 1.0) & (moments < 1.5333)  # the file's only stretch without frames, of 0.53 s
        assert (away <= 0.5 / 15 + CLOSE)[~still].all()


@pytest.mark.slow
def test_real_clips_show_the_pixels_of_their_frames_and_keep_their_times(real):
    path = real / "odd" / "torchcodec_var_fps_video.mp4"
    clips, info = clips_of(path)
    native = np.concatenate([clip.pixels[0, : clip.num_real] for clip in clips_of(path, fps=None)[0]])
    frames = [(number, *span) for number, (_, *span) in enumerate(Video(path))]
    cuts = list(at_rate(frames, num_frames=16, fps=15))
    assert len(clips) == len(cuts) == 14
    for clip, cut in zip(clips, cuts, strict=True):
        assert (clip.start_frame, clip.num_real) == (cut.start_frame, len(cut.shown))
        assert (clip.start_time, clip.end_time) == (cut.start, cut.end)
        order = fill_indices(len(cut.shown), clip_len=16, tail="loop")
        np.testing.assert_array_equal(clip.pixels[0], native[np.array(cut.shown)[order]])
    assert clips[-1].end_time == pytest.approx(info.duration)


def test_the_last_short_clip_follows_the_tail_policy(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 40)  # 1.6 s: 24 moments
    for tail, order in (("loop", [*range(8)] * 2), ("repeat-last", [*range(8), *[7] * 8])):
        last = clips_of(path, tail=tail)[0][-1]
        assert (last.start_frame, last.num_real, last.end_time) == (27, 8, pytest.approx(1.6))
        np.testing.assert_array_equal(last.pixels[0], last.pixels[0][order])
    assert len(clips_of(path, tail="drop")[0]) == 1
    with pytest.raises(VideoError, match=r"too short: 40 frames, a clip has 32 at 15 a second, the video 1\.6 s"):
        clips_of(path, num_frames=32, tail="drop")
    assert [clip.num_real for clip in clips_of(path, num_frames=32)[0]] == [24]


def test_a_raw_stream_without_clock_counts_frames_at_its_rate(tmp_path):
    path = videos.write_video(tmp_path / "v.h264", 50, codec="libx264", rate=25, bf=0)
    clips, info = clips_of(path)
    assert info.fps == 25
    assert [clip.start_frame for clip in clips] == [0, 27]
    assert clips[1].start_time == pytest.approx(16 / 15)


def test_the_rate_reaches_the_decoder_processes_and_weights_say_it():
    job = ClipJob(32, "drop", Geometry(resize=(20, 30), crop=(16, 18)), fps=7.5)
    assert jobs_from_json(jobs_to_json([job])) == [job]
    assert assumed_pixels("r3d_18", 400).frame_rate == 15
    assert find_weights("mvit_v2_s", "kinetics400-v1").pixels.frame_rate == 7.5


def recipe_for(pixels, config):
    backbone = {"name": "net", "trained_fps": pixels.frame_rate, **pixels.recipe()}
    return make_recipe(backbone, config, device="cpu")


def test_trained_sampling_takes_the_rate_and_length_of_training_native_neither():
    swin = find_weights("swin3d_t", "kinetics400-v1").pixels
    trained = recipe_for(swin, ExtractConfig(sampling="trained"))
    assert (trained["sampling"], trained["sampling_fps"], trained["num_frames"]) == ("trained", 15, 32)
    assert recipe_for(swin, ExtractConfig(sampling="trained", clip_frames=16))["num_frames"] == 16
    native = recipe_for(swin, ExtractConfig())
    assert (native["sampling"], native["num_frames"]) == ("native", 16)
    assert not {"sampling_fps", "trained_fps"} & native.keys()
    for wrong in ("uniform", "0", "-3", "nan", "inf", "1001", 1e300, 0, "", True, None, [7.5]):
        with pytest.raises(
            UsageError, match=rf"a number of frames a second, at most 1000, not {re.escape(repr(wrong))}"
        ):
            ExtractConfig(sampling=wrong)


@pytest.mark.slow
def test_a_rate_that_is_given_samples_as_weights_that_say_it_do(trained, thinned, folder, tmp_path, invoke):
    options = ["--workers", 2, "--batch-size", 4, "--precision", "fp32"]
    code, _, err = invoke("extract", folder, tmp_path / "f.h5", "--backbone", TINY, "--sampling", "12.50", *options)
    assert code == 0, err
    features, said = FeatureFile(tmp_path / "f.h5"), FeatureFile(trained)
    assert {"sampling": "12.5", "sampling_fps": 12.5, "num_frames": 16}.items() <= features.recipe.items()
    assert "clips of 16 frames, 12.5 a second as asked, without overlap" in describe(features)
    np.testing.assert_array_equal(features.descriptors, said.descriptors)
    np.testing.assert_array_equal(features.clips.end_time, said.clips.end_time)
    assert not verify_features(features.path).faults
    head = load_head(gcf.train_head(features.path, tmp_path / "run", epochs=1).path)
    fresh = dict(open_source(head, folder, backbone=TINY, device="cpu"))
    for video_id, kept in dict(open_source(head, features.path)).items():
        np.testing.assert_array_equal(fresh[video_id].descriptors, kept.descriptors)
    swin = find_weights("swin3d_t", "kinetics400-v1").pixels
    assert recipe_for(swin, ExtractConfig(sampling=30000 / 1001))["sampling_fps"] == 30000 / 1001
    assert recipe_for(swin, ExtractConfig(sampling=7.5))["num_frames"] == 32


def test_weights_trained_on_every_frame_are_sampled_natively_either_way(caplog):
    hara = Pixels("RGB", 1.0, (0.5,) * 3, (0.5,) * 3)
    assert recipe_for(hara, ExtractConfig(sampling="trained")) == recipe_for(hara, ExtractConfig())
    assert "trained on every frame of its videos: sampling trained is native" in caplog.text


@pytest.fixture(scope="module")
def thinned(tmp_path_factory) -> str:
    """The tiny plug-in, which says that it was trained on 12.5 frames a second."""
    path = tmp_path_factory.mktemp("plugin") / "thinned.py"
    path.write_text(Path(TINY).read_text() + "\nRECIPE = RECIPE | {'trained_fps': 12.5}\n")
    return str(path)


@pytest.fixture(scope="module")
def trained(folder, thinned, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "f.h5"
    gcf.extract_videos(folder, out, backbone=thinned, sampling="trained", workers=2, batch_size=4, precision="fp32")
    return out


@pytest.mark.slow
def test_a_file_of_trained_sampling_verifies_and_says_its_rate(trained):
    features = FeatureFile(trained)
    assert {"sampling": "trained", "sampling_fps": 12.5, "num_frames": 16}.items() <= features.recipe.items()
    assert "clips of 16 frames, 12.5 a second as trained, without overlap" in describe(features)
    assert not verify_features(trained).faults
    shown = np.add.reduceat(features.clips.num_frames, features.offsets[:-1], dtype=int)
    assert shown.tolist() == [-(-length // 2) for length in features.videos.num_frames.tolist()]  # every other frame


@pytest.mark.slow
def test_a_slow_video_that_shows_frames_twice_verifies(thinned, tmp_path):
    videos.write_video(tmp_path / "v" / "slow.mkv", 6, codec="ffv1", pts=lambda i: 200 * i)
    gcf.extract_videos(tmp_path / "v", tmp_path / "f.h5", backbone=thinned, sampling="trained", workers=1, batch_size=4)
    assert FeatureFile(tmp_path / "f.h5").clips.num_frames.tolist() == [15]
    assert not verify_features(tmp_path / "f.h5").faults


@pytest.mark.slow
def test_a_head_decodes_as_its_recipe_samples_and_refuses_the_other(trained, thinned, folder, tmp_path):
    head = load_head(gcf.train_head(trained, tmp_path / "run", epochs=1).path)
    fresh = dict(open_source(head, folder, backbone=thinned, device="cpu"))
    for video_id, kept in dict(open_source(head, trained)).items():
        np.testing.assert_array_equal(fresh[video_id].descriptors, kept.descriptors)
        np.testing.assert_array_equal(fresh[video_id].clips.start_time, kept.clips.start_time)
    native = tmp_path / "native.h5"
    gcf.extract_videos(folder, native, backbone=thinned, workers=2, batch_size=4, precision="fp32")
    with pytest.raises(RecipeError, match=r'sampling: "trained" against "native"'):
        open_source(head, native)


@pytest.mark.slow
def test_predictions_and_localisations_draw_the_frames_that_the_clips_show(trained, thinned, folder, tmp_path):
    run, path = gcf.train_head(trained, tmp_path / "run", epochs=1).path, folder / "jump" / "v_jump_g03_c01.avi"
    options = {"backbone": thinned, "device": "cpu", "workers": 1}
    (predicted,) = gcf.predict_videos(run, path, pictures=tmp_path / "pictures", **options)
    (found,) = gcf.localize_videos(run, path, out=tmp_path / "seen", **options)
    assert predicted.note == found.note == ""
    assert len(list((tmp_path / "seen").glob("*.mp4"))) == len(list((tmp_path / "seen").glob("*.png"))) == 1
    clips = found.reading.clips  # of 38 frames at 25 a second: 32 and 6
    assert clips.num_frames.tolist() == [16, 3]
    for number, (pixels, start, _) in enumerate(Video(path)):
        clip, place = place_of(clips, number, start, fps=found.reading.sampling_fps)
        assert (clip, place) in ((number // 32, number % 32 // 2), (number // 32, (number % 32 + 1) // 2))
        if number == 16:
            np.testing.assert_array_equal(middle_frames(path, clips, fps=12.5)[0], pixels)
    assert place_of(clips, 99, 9.0, fps=12.5) == (None, 0)


def test_what_was_never_said_is_refused_in_one_line_and_nonsense_in_a_recipe_too(folder, tmp_path, invoke):
    code, _, err = invoke("extract", folder, tmp_path / "f.h5", "--backbone", TINY, "--sampling", "trained")
    assert (code, err.count("\n")) == (2, 1)
    assert "tiny does not say how many frames a second it was trained with" in err
    assert "say the number, such as sampling 7.5" in err
    for wrong in (0, -15, "15", True):
        with pytest.raises(UsageError, match="RECIPE's trained_fps cannot be used"):
            complete_recipe("x", {**tiny_backbone.RECIPE, "trained_fps": wrong})


@pytest.mark.slow
def test_native_sampling_leaves_every_byte_as_it_was(folder, reference, tmp_path):
    extract(folder, tmp_path / "f.h5", sampling="native")
    assert (tmp_path / "f.h5").read_bytes() == reference
