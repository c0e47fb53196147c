"""A watched folder: every video once it is complete, again when it is replaced, and no other way to end than a stop."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import videos
from stage_one import TINY

import gcf
from gcf.errors import RecipeError, UsageError
from gcf.explain.live import WatchedFolder, watch_predictions
from gcf.explain.predict import predict_videos
from gcf.explain.reading import described

MINE = {"backbone": TINY, "device": "cpu"}


@pytest.fixture(scope="module")
def run(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "f.h5"
    path.write_bytes(reference)
    return gcf.train_head(path, path.with_name("run"), epochs=1).path


@pytest.fixture
def watched(tmp_path):
    path = tmp_path / "incoming"
    path.mkdir()
    return path


class StoppedError(Exception):
    """What ends a watch in these tests."""


def script(*steps):
    """A `sleep` that does the next step each time it is called, and stops the watch after the last."""
    left = list(steps)

    def sleep(seconds):
        assert seconds == 2
        if not left:
            raise StoppedError
        left.pop(0)()

    return sleep


def nothing():
    """Time passes."""


def seen(stream) -> list:
    """All predictions of a watch until it is stopped."""
    found = []
    with pytest.raises(StoppedError):
        found.extend(stream)
    return found


def touch(path, seconds: int, content: bytes = b"x"):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (seconds, seconds))


def ids(found) -> list[str]:
    return [v.id for v in found]


def test_a_video_is_given_out_once_it_is_as_it_was(tmp_path):
    folder = WatchedFolder(tmp_path)
    assert folder.look() == []
    touch(tmp_path / "a.mp4", 50, b"1")
    assert folder.look() == []
    touch(tmp_path / "a.mp4", 50, b"12")  # it grows within one tick of the clock
    assert folder.look() == []
    touch(tmp_path / "a.mp4", 51, b"12")  # it is written over, as long as before
    assert folder.look() == []
    assert ids(folder.look()) == ["a.mp4"]
    assert folder.look() == []


def test_a_replaced_video_is_given_out_again(tmp_path):
    folder = WatchedFolder(tmp_path)
    touch(tmp_path / "a.mp4", 50)
    folder.look()
    assert ids(folder.look()) == ["a.mp4"]
    touch(tmp_path / "a.mp4", 60)
    assert folder.look() == []
    assert ids(folder.look()) == ["a.mp4"]
    (tmp_path / "a.mp4").unlink()
    assert folder.look() == []
    touch(tmp_path / "a.mp4", 60)  # the same again, as when a network drive comes back
    assert [folder.look(), folder.look()] == [[], []]


def test_the_oldest_come_first_and_only_videos(tmp_path):
    for n, name in enumerate(["c.mp4", "sub/b.avi", "a.mkv", ".hidden.mp4", "copy.mp4.part", "notes.txt"]):
        touch(tmp_path / name, 50 + n)
    folder = WatchedFolder(tmp_path)
    folder.look()
    assert ids(folder.look()) == ["c.mp4", "sub/b.avi", "a.mkv"]


def test_a_link_that_leads_nowhere_is_given_out_and_a_vanishing_file_is_not(tmp_path):
    (tmp_path / "a.mp4").symlink_to("nowhere")
    touch(tmp_path / "b.mp4", 50)
    folder = WatchedFolder(tmp_path)
    folder.look()
    (tmp_path / "b.mp4").unlink()
    assert ids(folder.look()) == ["a.mp4"]


@pytest.mark.slow
def test_a_watch_classifies_what_is_there_and_what_comes(run, folder, watched, monkeypatch):
    loaded, real = [], described.load_network
    monkeypatch.setattr(described, "load_network", lambda *a: loaded.append(a) or real(*a))
    sources = sorted((folder / "run").iterdir())
    shutil.copy(sources[0], watched)
    begun = sources[1].read_bytes()
    new = watched / "new.avi"
    steps = [
        nothing,
        lambda: new.write_bytes(begun[:1000]),
        lambda: new.write_bytes(begun[:5000]),
        lambda: new.write_bytes(begun),
        nothing,
        nothing,
    ]
    found = seen(watch_predictions(run, watched, sleep=script(*steps), top=2, **MINE))
    expected = predict_videos(run, sources[:2], top=2, **MINE)
    loaded.pop()
    assert found == [expected[0], replace(expected[1], id="new.avi")]
    assert len(loaded) == 1


@pytest.mark.slow
def test_a_replaced_video_is_classified_again_and_a_broken_one_named_once(run, folder, watched):
    first, second = sorted((folder / "run").iterdir())[:2]
    place = watched / "v.avi"
    touch(place, 50, first.read_bytes())
    touch(watched / "broken.mp4", 60, b"no video")
    steps = [nothing, nothing, lambda: touch(place, 70, second.read_bytes()), nothing, nothing]
    found = seen(watch_predictions(run, watched, sleep=script(*steps), **MINE))
    assert [p.id for p in found[:2]] in (["v.avi", "broken.mp4"], ["broken.mp4", "v.avi"])
    (broken,) = [p for p in found if p.error]
    assert broken.id == "broken.mp4"
    assert [p.id for p in found[2:]] == ["v.avi"]
    expected = predict_videos(run, [first, second], **MINE)
    assert [p.num_clips for p in expected] == [2, 3]
    assert [replace(p, id="") for p in found if not p.error] == [replace(p, id="") for p in expected]


@pytest.mark.slow
def test_an_empty_folder_is_waited_at_and_one_that_is_away_too(run, folder, watched, caplog):
    source = sorted((folder / "run").iterdir())[0]
    away = watched.with_name("away")
    steps = [
        nothing,
        lambda: watched.rename(away),
        nothing,
        lambda: away.rename(watched),
        lambda: shutil.copy(source, watched),
        nothing,
    ]
    caplog.set_level("INFO")
    found = seen(watch_predictions(run, watched, sleep=script(*steps), **MINE))
    assert [p.id for p in found] == [source.name]
    assert caplog.text.count("this folder is gone; waiting for it") == 1
    assert caplog.text.count("can be read again") == 1


@pytest.mark.slow
def test_pictures_of_what_comes_are_drawn(run, folder, watched, tmp_path):
    source = sorted((folder / "run").iterdir())[0]
    steps = [lambda: shutil.copy(source, watched), nothing]
    (found,) = seen(watch_predictions(run, watched, sleep=script(*steps), pictures=tmp_path / "p", **MINE))
    assert not found.note
    assert [p.name for p in (tmp_path / "p").iterdir()] == [f"{source.name}.png"]


def test_a_watch_that_cannot_work_does_not_begin(run, folder, watched, tmp_path):
    with pytest.raises(UsageError, match="not a folder; name one folder"):
        watch_predictions(run, run / "head.json")
    with pytest.raises(UsageError, match="more than 0"):
        watch_predictions(run, watched, every=0)
    with pytest.raises(UsageError, match="more than 0"):
        watch_predictions(run, watched, every=float("nan"))
    head = gcf.load_head(run)
    with pytest.raises(RecipeError, match="not what this head was trained on"):
        watch_predictions(replace(head, recipe=head.recipe | {"crop": 9}), watched, **MINE)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_watch_has_printed_and_written_all_it_found(run, folder, watched, tmp_path, number, code):
    source = sorted((folder / "run").iterdir())[0]
    shutil.copy(source, watched)
    table = tmp_path / "t.csv"
    command = [sys.executable, "-m", "gcf.cli", "predict", str(run), str(watched), "--backbone", TINY, "--jsonl"]
    command += ["--watch", "--every", "0.1", "-o", str(table)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["id"] == source.name
    videos.write_video(tmp_path / "new.avi", 20)
    (tmp_path / "new.avi").rename(watched / "new.avi")
    assert json.loads(process.stdout.readline())["id"] == "new.avi"
    time.sleep(0.3)  # it waits for the next
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == ""
    assert err.splitlines()[-1] == "gcf: stopped watching; 2 videos, 0 of them failed"
    assert "Traceback" not in err
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == ["video", "new.avi", source.name]
