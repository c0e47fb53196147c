"""Several backbones in one pass: every video decoded once, every file as if its backbone had been alone."""

import json
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import videos
from compare import assert_bitwise_equal
from stage_one import TINY

from gcf import FeatureFile, extract_together, extract_videos
from gcf.data.schema import VideoFeatures, VideoInfo
from gcf.errors import RefusedError, UsageError, VideoError
from gcf.extract.decoding import jobs as decoding
from gcf.extract.decoding import pool
from gcf.extract.decoding.find import VideoPath, find_videos
from gcf.extract.decoding.jobs import Clip, ClipJob, decode_clips, decode_each
from gcf.extract.decoding.pool import DecoderPool, Failed
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.extractor import outputs_of
from gcf.extract.stream import run
from gcf.extract.stream.assembly import Batcher, assemble

SETTINGS = {"batch_size": 4, "workers": 2, "precision": "fp32"}
LONG, SHORT = ClipJob(16, "loop", Geometry(16, (16, 16))), ClipJob(4, "loop", Geometry(20, (18, 16)))


@pytest.fixture
def backbones(tmp_path):
    """Plug-ins by name: two that see the same clips, one of other frames and pixels, and rates of their own."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    changes = {
        "tiny": {},
        "bright": {"mean": (0.1, 0.1, 0.1)},
        "short": {"num_frames": 4, "resize": 48, "crop": 40, "trained_fps": 10},
        "timed": {"num_frames": 8, "trained_fps": 10},
        "slower": {"num_frames": 8, "trained_fps": 5},
    }
    for name, change in changes.items():
        text = Path(TINY).read_text().replace("torch.manual_seed(0)", f"torch.manual_seed({len(name)})")
        (folder / f"{name}.py").write_text(f"{text}\nRECIPE |= {change}\n")
    return {name: str(folder / f"{name}.py") for name in changes}


@pytest.fixture
def pair(backbones):
    return [backbones["tiny"], backbones["short"]]


@pytest.fixture
def faulty(tmp_path):
    """Videos of all kinds: whole, short, damaged, none."""
    root = videos.write_folder(tmp_path / "faulty", videos=3)
    videos.write_video(root / "jump" / "few.avi", 6)
    (root / "jump" / "empty.mp4").write_bytes(b"")
    whole = videos.write_video(root / "run" / "cut.avi", 60).read_bytes()
    (root / "run" / "cut.avi").write_bytes(whole[: len(whole) * 2 // 3])
    return root


ALL, TIMED = ["tiny", "bright", "short", "timed"], ["timed", "slower", "short"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "options"),
    [(ALL, {}), (ALL, {"views": 2, "tail": "drop"}), (ALL, {"workers": 1}), (TIMED, {"sampling": "trained"})],
    ids=str,
)
def test_each_file_has_the_bytes_of_a_run_with_its_backbone_alone(faulty, tmp_path, backbones, names, options):
    chosen = [backbones[name] for name in names]
    summaries = extract_together(faulty, tmp_path / "f.h5", backbones=chosen, **SETTINGS | options)
    for backbone, summary in zip(chosen, summaries, strict=True):
        alone = extract_videos(faulty, tmp_path / "alone.h5", backbone=backbone, **SETTINGS | options)
        assert summary.path == tmp_path / f"f-{Path(backbone).stem}.h5"
        assert summary.path.read_bytes() == alone.path.read_bytes()
        assert (summary.clips, summary.failures, summary.partial) == (alone.clips, alone.failures, alone.partial)
        assert summary.failures
        assert summary.partial
        alone.path.unlink()
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.slow
def test_a_video_too_short_for_one_backbone_fails_for_that_one_alone(faulty, tmp_path, pair):
    long, short = extract_together(faulty, tmp_path / "f.h5", backbones=pair, tail="drop", **SETTINGS)
    assert dict(long.failures)["jump/few.avi"].startswith("too short: 6 frames, a clip has 16")
    assert "jump/few.avi" not in dict(short.failures)
    assert "jump/few.avi" in FeatureFile(short.path).ids


def test_a_video_is_opened_once_and_resized_once_for_those_that_want_the_same(tmp_path, monkeypatch):
    path = videos.write_video(tmp_path / "v.avi", 20)
    opened, resized, plain = [], [], decoding.centre_view
    video = decoding.Video
    monkeypatch.setattr(decoding, "Video", lambda *a, **k: opened.append(a) or video(*a, **k))
    monkeypatch.setattr(decoding, "centre_view", lambda f, g: resized.append(g) or plain(f, g))
    same = ClipJob(8, "loop", LONG.geometry)
    jobs = {0: LONG, 3: same, 7: SHORT}
    items = list(decode_each(path, "v", jobs))
    assert len(opened) == 1
    assert sorted(resized, key=str) == [LONG.geometry] * 20 + [SHORT.geometry] * 20
    monkeypatch.undo()
    for number, job in jobs.items():
        mine = [item for n, item in items if n == number]
        expected = list(decode_clips(path, "v", job))
        assert mine[-1] == expected[-1]
        for clip, alone in zip(mine[:-1], expected[:-1], strict=True):
            assert_bitwise_equal(clip.pixels, alone.pixels)
            assert (clip.start_frame, clip.start_time, clip.end_time) == (
                alone.start_frame,
                alone.start_time,
                alone.end_time,
            )


@pytest.mark.slow
def test_one_decoding_process_serves_all_jobs_and_only_those_that_a_video_is_for(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        videos.write_video(tmp_path / f"{name}.avi", 20)
    started, plain = [], pool._Decoder.start

    def start(self, video, jobs):
        started.append(video.id)
        plain(self, video, jobs)

    monkeypatch.setattr(pool._Decoder, "start", start)
    wanted = {"a.avi": [0, 1], "b.avi": [1], "c.avi": [0]}
    found = {}
    decoders = DecoderPool(find_videos([tmp_path]), [LONG, SHORT], num_workers=2, ahead=4, wanted=wanted)
    for video, job, item in decoders:
        found.setdefault((video.id, job), []).append(item)
    assert sorted(started) == ["a.avi", "b.avi", "c.avi"]
    assert {key: len(items) for key, items in found.items()} == {
        ("a.avi", 0): 3,
        ("a.avi", 1): 6,
        ("b.avi", 1): 6,
        ("c.avi", 0): 3,
    }
    assert all(isinstance(items[-1], VideoInfo) for items in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crash", "odd", "liar", "hang"])
def test_what_breaks_a_decoder_is_every_backbones_failure_and_no_other_videos(tmp_path, monkeypatch, name):
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")
    for each in (name, "good"):
        videos.write_video(tmp_path / f"{each}.avi", 20)
    decoders = DecoderPool(find_videos([tmp_path]), [LONG, SHORT], num_workers=1, ahead=4, deadline=3.0)
    ends = {(v.id, job): type(item) for v, job, item in decoders if not isinstance(item, Clip)}
    expected = {f"{name}.avi": Failed, "good.avi": VideoInfo}
    assert ends == {(video_id, job): end for video_id, end in expected.items() for job in (0, 1)}


def test_jobs_that_differ_in_how_many_frames_a_video_may_have_are_a_programming_error(tmp_path):
    with pytest.raises(ValueError, match="unpack"):
        next(decode_each(tmp_path / "v.avi", "v", {0: LONG, 1: ClipJob(4, "loop", LONG.geometry, max_frames=9)}))


def test_where_every_job_drops_the_tail_each_says_why_in_its_own_words(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 3)
    jobs = {0: ClipJob(16, "drop", LONG.geometry), 1: ClipJob(4, "drop", LONG.geometry)}
    ((first, one), (second, other)) = decode_each(path, "v", jobs)
    assert (first, second) == (0, 1)
    assert isinstance(one, VideoError)
    assert "a clip has 16 " in str(one)
    assert "a clip has 4 " in str(other)


def test_desks_see_their_own_jobs_and_videos_alone():
    def submit_for(factor):
        def submit(pixels):
            future = Future()
            future.set_result((factor * pixels.reshape(len(pixels), 1).astype(np.float32), None))
            return future

        return submit

    def clip(number):
        return Clip(np.full((1, 1, 1, 1, 1), number, np.uint8), 0, 1, 0.0, 1.0)

    info = VideoInfo(fps=25, num_frames=1, width=1, height=1, duration=1, size=1, mtime_ns=1)
    a, b = VideoPath("a", "a"), VideoPath("b", "b")
    items = [(a, 0, clip(1)), (a, 1, clip(2)), (b, 1, clip(3)), (a, 1, info), (b, 1, Failed("gone")), (a, 0, info)]
    batchers = [
        Batcher(submit_for(1), batch_size=2, dtype="float32", job=0),
        Batcher(submit_for(10), batch_size=2, dtype="float32", job=1),
        Batcher(submit_for(100), batch_size=2, dtype="float32", job=1, ids={"b"}),
    ]
    outcomes = {}
    for index, (video_id, outcome) in assemble(iter(items), batchers):
        assert (index, video_id) not in outcomes
        is_rows = isinstance(outcome, VideoFeatures)
        outcomes[index, video_id] = outcome.descriptors.reshape(-1).tolist() if is_rows else outcome.error
    assert outcomes == {(0, "a"): [1.0], (1, "a"): [20.0], (1, "b"): "gone", (2, "b"): "gone"}


@pytest.mark.slow
def test_what_one_file_has_already_is_not_done_for_it_again(folder, tmp_path, backbones, monkeypatch):
    three = [backbones[name] for name in ("tiny", "short", "bright")]
    first = extract_videos(folder, tmp_path / "f-short.h5", backbone=backbones["short"], **SETTINGS)
    asked, plain = [], DecoderPool.__init__

    def spied(self, found, jobs, **options):
        asked.append((len(jobs), set(map(tuple, options["wanted"].values()))))
        plain(self, found, jobs, **options)

    monkeypatch.setattr(DecoderPool, "__init__", spied)
    summaries = extract_together(folder, tmp_path / "f.h5", backbones=three, **SETTINGS)
    assert [summary.extracted for summary in summaries] == [first.videos, 0, first.videos]
    assert asked == [(2, {(0,)})]  # tiny and bright see the same clips
    again = extract_together(folder, tmp_path / "f.h5", backbones=three, **SETTINGS)
    assert [summary.extracted for summary in again] == [0, 0, 0]
    assert len(asked) == 1


@pytest.mark.slow
def test_a_stopped_pass_keeps_what_both_have_and_ends_in_the_same_bytes(folder, tmp_path, pair, monkeypatch):
    monkeypatch.setattr(run, "PART_VIDEOS", 1)
    seen, plain = [], run.ExtractionRun.take

    def stop_after_five(self, video_id, outcome):
        seen.append((self.parts.out.name, video_id))
        if len(seen) == 5:
            raise KeyboardInterrupt
        return plain(self, video_id, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(run.ExtractionRun, "take", stop_after_five)
        with pytest.raises(KeyboardInterrupt):
            extract_together(folder, tmp_path / "f.h5", backbones=pair, **SETTINGS)
    kept = {name: len(list((tmp_path / f"f-{name}.h5.parts").glob("part-*"))) for name in ("tiny", "short")}
    assert sum(kept.values()) == 4
    summaries = extract_together(folder, tmp_path / "f.h5", backbones=pair, **SETTINGS)
    for backbone, summary in zip(pair, summaries, strict=True):
        name = Path(backbone).stem
        assert summary.extracted == summary.videos - kept[name]
        alone = extract_videos(folder, tmp_path / f"alone-{name}.h5", backbone=backbone, **SETTINGS)
        assert summary.path.read_bytes() == alone.path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "other"), [("short", "tiny"), ("tiny", "short")])
def test_one_file_that_cannot_be_committed_does_not_cost_the_other_its_rows(
    folder, tmp_path, pair, monkeypatch, failing, other
):
    plain = run.ExtractionRun.commit

    def commit(self):
        if self.parts.out.name == f"f-{failing}.h5":
            raise OSError("this one cannot be written")
        plain(self)

    monkeypatch.setattr(run.ExtractionRun, "commit", commit)
    with pytest.raises(OSError, match="this one"):
        extract_together(folder, tmp_path / "f.h5", backbones=pair, **SETTINGS)
    assert list((tmp_path / f"f-{other}.h5.parts").glob("part-*"))


@pytest.mark.slow
def test_the_bar_counts_a_video_when_the_last_backbone_has_it(folder, tmp_path, pair, monkeypatch):
    told = []
    monkeypatch.setattr("gcf.extract.extractor.Progress.advance", lambda _, *, clips: told.append(clips))
    summaries = extract_together(folder, tmp_path / "f.h5", backbones=pair, **SETTINGS)
    assert len(told) == summaries[0].videos
    assert sum(told) == sum(summary.clips for summary in summaries)


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ([("x3d_s", "default"), ("mobilenetv2_0.2x", "a.pth")], ["f-x3d_s", "f-mobilenetv2_0.2x"]),
        ([("nets/mine.py", "default"), ("hf:org/video-model", "default")], ["f-mine", "f-video-model"]),
        ([("hf:org/model.small", "default"), ("hf:org/model.large", "default")], ["f-model.small", "f-model.large"]),
        ([("hf:.", "default"), ("s3d", "default")], [f"f-{Path.cwd().name}", "f-s3d"]),
        (
            [("r3d_18", "random"), ("r3d_18", "dir/best.pth"), ("s3d", "default")],
            ["f-r3d_18-random", "f-r3d_18-best", "f-s3d"],
        ),
    ],
)
def test_files_are_named_after_their_backbones_and_weights_where_needed(models, names):
    assert [path.name for path in outputs_of(Path("dir/f.h5"), models)] == [f"{name}.h5" for name in names]
    assert {path.parent for path in outputs_of(Path("dir/f.h5"), models)} == {Path("dir")}


def test_two_backbones_of_one_name_or_weights_that_do_not_match_are_refused_before_any_work(
    folder, tmp_path, backbones
):
    with pytest.raises(UsageError, match=r"the same file, f-tiny.h5: extract them one after another"):
        extract_together(folder, tmp_path / "f.h5", backbones=[backbones["tiny"], "elsewhere/tiny.py"])
    with pytest.raises(UsageError, match="3 backbones and 2 weights"):
        extract_together(folder, tmp_path / "f.h5", backbones=list(backbones)[:3], weights=["default", "random"])
    with pytest.raises(UsageError, match="0 backbones and 0 weights"):
        extract_together(folder, tmp_path / "f.h5", backbones=[])
    with pytest.raises(RefusedError, match="is a folder"):
        extract_together(folder, ".", backbones=list(backbones))
    assert not list(tmp_path.glob("f*"))


@pytest.mark.slow
def test_the_command_takes_several_backbones_and_tells_of_every_file(faulty, tmp_path, pair, invoke):
    options = ["--workers", 2, "--batch-size", 4, "--precision", "fp32", "--json"]
    both = ["--backbone", pair[0], "--backbone", pair[1]]
    code, out, err = invoke("extract", faulty, tmp_path / "f.h5", *both, *options)
    assert code == 3, err
    files = json.loads(out)["files"]
    assert [Path(facts["path"]).name for facts in files] == ["f-tiny.h5", "f-short.h5"]
    summaries = extract_together(faulty, tmp_path / "g.h5", backbones=pair, **SETTINGS)
    assert [facts["clips"] for facts in files] == [summary.clips for summary in summaries]
    assert [path.read_bytes() for path in sorted(tmp_path.glob("f*.h5"))] == [
        path.read_bytes() for path in sorted(tmp_path.glob("g*.h5"))
    ]
    code, out, err = invoke("extract", faulty, tmp_path / "f.h5", *both, *options[:-1])
    assert [line.split(":")[0] for line in out.splitlines() if "videos" in line] == [
        str(tmp_path / "f-tiny.h5"),
        str(tmp_path / "f-short.h5"),
    ]


@pytest.mark.slow
def test_weights_go_with_their_backbones_in_order(folder, tmp_path, invoke):
    names = ["--backbone", "shufflenetv2_0.25x", "--weights", "primitives", "--backbone", "shufflenetv2_0.25x"]
    code, out, err = invoke("extract", folder, tmp_path / "f.h5", *names, "--weights", "random", "--json")
    assert code == 0, err
    files = [Path(facts["path"]) for facts in json.loads(out)["files"]]
    assert [path.name for path in files] == [
        "f-shufflenetv2_0.25x-primitives.h5",
        "f-shufflenetv2_0.25x-random.h5",
    ]
    assert [FeatureFile(path).recipe["weights"] for path in files] == ["primitives", "random"]
    code, _, err = invoke(
        "extract", folder, tmp_path / "g.h5", "--backbone", "x3d_s", "--weights", "a", "--weights", "b"
    )
    assert code == 2
    assert "1 backbones and 2 weights" in err
