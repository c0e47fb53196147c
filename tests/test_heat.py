"""Heat maps come back to the frames at the right place, and from the clips that were asked for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import videos
from caches import one_video
from compare import FLOAT32_FORWARD, assert_bitwise_equal, relative_error
from scipy.ndimage import map_coordinates
from stage_one import TINY

from gcf.errors import UsageError, VideoError
from gcf.explain.reading.gradcam import descriptor_gradients, grad_cam
from gcf.explain.reading.heat import HeatMaps, crop_box
from gcf.explain.reading.maps import video_heat
from gcf.extract.decoding.jobs import Clip, ClipJob, decode_clips
from gcf.extract.decoding.preprocess import Geometry
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import load_network
from gcf.head.models.build import build_head, head_config
from gcf.head.models.saved import SavedHead

WHOLE = Geometry((48, 64), (48, 64))


def maps(shape, geometry=WHOLE, num_frames=16):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    return HeatMaps("a", values, np.ones(shape[0], bool), num_frames, geometry)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 3, 5), (2, 16, 7, 7)])
def test_between_the_points_of_the_grid_heat_is_what_torch_and_scipy_interpolate(shape):
    """Linear in time as torch does it, then scipy's cubic B-spline without its filter, with no heat beyond the grid."""
    heat, (_, _, h, w) = maps(shape), shape
    places = [(np.arange(size) + 0.5) * cells / size - 0.5 + 3 for size, cells in ((48, h), (64, w))]
    for clip in range(2):
        grid = torch.from_numpy(heat.values[clip])[None, None]
        steps = F.interpolate(grid, size=(16, h, w), mode="trilinear", align_corners=False)[0, 0].numpy()
        for place, step in enumerate(steps):
            coordinates = np.meshgrid(*places, indexing="ij")
            expected = map_coordinates(np.pad(step, 3), coordinates, order=3, prefilter=False)
            found = heat.frame(clip, place, (48, 64)) * heat._peak
            assert relative_error(found, expected.clip(max=heat._peak)) < FLOAT32_FORWARD


def test_a_grid_of_strides_has_its_points_on_the_pixels_that_they_stand_for():
    """Points on pixels 0, 8 and 16 of 24; the frame has three pixels for one of the network's."""
    for row, column in ((0, 0), (1, 2), (2, 1)):
        values = np.zeros((1, 2, 3, 3), np.float32)
        values[0, 1, row, column] = 1
        heat = HeatMaps("a", values, np.ones(1, bool), 16, Geometry((24, 24), (24, 24)), (8, 8, 8))
        frame = heat.frame(0, 8, (72, 72))
        y, x = np.unravel_index(frame.argmax(), frame.shape)
        assert max(abs(y - 24 * row - 1), abs(x - 24 * column - 1)) <= 1
        assert heat.frame(0, 0, (72, 72)).max() == 0  # the first point in time is on the first frame
        assert heat.frame(0, 2, (72, 72)).max() == pytest.approx(0.25, rel=0.01)
        assert_bitwise_equal(heat.frame(0, 15, (72, 72)), frame)  # held after the last


def test_the_maximum_may_lie_between_the_points():
    values = np.zeros((1, 1, 4, 4), np.float32)
    values[0, 0, 1, 1:3] = 1
    frame = HeatMaps("a", values, np.ones(1, bool), 16, Geometry(64, (64, 64))).frame(0, 0, (64, 64))
    y, x = np.unravel_index(frame.argmax(), frame.shape)
    assert abs(y - 23.5) < 2
    assert abs(x - 31.5) < 2  # the points are at 23.5 and 39.5


@pytest.mark.parametrize(
    ("size", "geometry", "box"),
    [
        ((240, 320), Geometry(112, (112, 112)), (0, 39, 240, 279)),  # 149 wide, 112 from 18 on: 18 * 320 / 149
        ((320, 240), Geometry(112, (112, 112)), (39, 0, 279, 240)),  # held upright
        ((112, 112), Geometry(112, (112, 112)), (0, 0, 112, 112)),
        ((240, 320), Geometry(128, (112, 112)), (15, 55, 225, 265)),
        ((240, 320), Geometry((128, 171), (112, 112)), (15, 56, 225, 266)),  # torchvision: another shape of pixel
        ((100, 400), Geometry((128, 128), (128, 128)), (0, 0, 100, 400)),
    ],
)
def test_the_box_is_the_part_of_the_frame_that_the_network_sees(size, geometry, box):
    assert crop_box(size, geometry) == box


@pytest.mark.parametrize("size", [(240, 320), (320, 240), (97, 131)])
@pytest.mark.parametrize("geometry", [Geometry(128, (112, 112)), Geometry((128, 171), (112, 112), "torchvision")])
def test_a_bright_spot_is_found_where_the_crop_shows_it(size, geometry):
    """Independent of the formula: a frame with one bright block is cropped, and its place looked up in both."""
    from gcf.extract.decoding.preprocess import centre_view

    frame = np.zeros((*size, 3), np.uint8)
    top, left = size[0] * 5 // 8, size[1] * 2 // 5
    frame[top : top + 6, left : left + 6] = 255
    seen = centre_view(frame, geometry)[..., 0].astype(np.float32)
    heat = HeatMaps("a", seen[None, None], np.ones(1, bool), 16, geometry).frame(0, 0, size)
    weights = heat / heat.sum()
    rows, columns = np.mgrid[: size[0], : size[1]]
    assert abs((weights * rows).sum() - (top + 2.5)) < 1.5
    assert abs((weights * columns).sum() - (left + 2.5)) < 1.5


def test_outside_the_crop_and_in_clips_not_looked_at_there_is_no_heat():
    heat = maps((2, 1, 4, 4), Geometry(112, (112, 112)))
    frame = heat.frame(0, 3, (240, 320))
    assert frame[:, 39:279].max(0).min() > 0
    assert frame[:, :39].max() == frame[:, 279:].max() == 0
    none = HeatMaps("a", np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, bool), 16, WHOLE)
    assert none.frame(1, 0, (48, 64)).max() == 0


def test_the_hottest_point_of_the_video_is_1():
    heat = maps((3, 16, 4, 4), Geometry((36, 36), (36, 36)))  # a pixel at the middle of each of the 4 x 4 cells
    frames = [heat.frame(clip, place, (36, 36)) for clip in range(3) for place in range(16)]
    assert max(frame.max() for frame in frames) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("stride", "shown"), [(None, 2), (4, 3)])
def test_steps_that_only_padding_shows_are_cold_and_count_for_nothing(stride, shown):
    values = np.ones((2, 4, 3, 3), np.float32)
    values[1, shown:] = 9  # of the second clip six frames are real; the last of them is before the step `shown`
    heat = HeatMaps("a", values, np.ones(2, bool), 16, WHOLE, (stride, None, None))
    real = heat.without_padding([16, 6])
    assert not real.values[1, shown:].any()
    assert (real.values[1, :shown] == 1).all()
    assert_bitwise_equal(real.values[0], values[0])
    for place in range(6):
        assert real.frame(1, place, (48, 64)).max() == pytest.approx(1, rel=0.05)


class Described:
    """A video with its descriptors by a network, a head, and all that a heat map is made with.

    described: only so many clips are described by themselves, the others by theirs again.
    """

    def __init__(self, path, backbone, *, batch_size=2, num_classes=3, described=None):
        self.path = path
        config = ExtractConfig(batch_size=batch_size, workers=1, device="cpu")
        self.network, recipe = load_network(str(backbone), "default", config)
        self.job = ClipJob.from_recipe(recipe)
        decoded = [item for item in decode_clips(path, "v", self.job) if isinstance(item, Clip)]
        self.pixels = np.concatenate([clip.pixels for clip in decoded])
        count = len(self.pixels)
        starts = range(0, described or count, batch_size)
        rows = np.concatenate([self.network(self.pixels[n : n + batch_size])[0] for n in starts])
        rows = rows[np.arange(count) % len(rows)]
        self.video = one_video("v", rows[:, None])
        config, width = head_config("gcf-256"), rows.shape[1]
        module = build_head(config, width, num_classes).eval()
        self.head = SavedHead(module, config, width, tuple("abcdef"[:num_classes]), recipe, {})
        self.rounds = [np.arange(count)]

    def heat(self, passing=None, *, path=None, class_index=1, **options):
        passing = np.ones(len(self.pixels), bool) if passing is None else np.array(passing)
        return video_heat(
            path or self.path,
            self.video,
            head=self.head,
            network=self.network,
            job=self.job,
            class_index=class_index,
            passing=passing,
            rounds=self.rounds,
            **options,
        )

    def expected(self, *, clips=None, frames=slice(None)):
        """The heat of these clips (all), one at a time, decoded here."""
        gradients = descriptor_gradients(self.head, self.video.descriptors[:, 0], 1, self.rounds)
        backbone = self.network.backbone
        heat = [
            grad_cam(backbone, self.network.feature_map(self.pixels[n : n + 1, frames]), gradients[n : n + 1])
            for n in range(clips or len(self.pixels))
        ]
        return torch.cat(heat).numpy()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Described(videos.write_video(tmp_path_factory.mktemp("video") / "v.avi", 75), TINY)


@pytest.mark.slow
def test_the_heat_of_a_video_is_that_of_its_clips(tiny):
    heat = tiny.heat()
    assert heat.label == "b"
    assert heat.values.shape == (5, 4, 8, 8)
    assert heat.strides == (4, 4, 4)
    assert heat.values.max() > 0
    assert relative_error(heat.values, tiny.expected()) < FLOAT32_FORWARD
    assert np.abs(heat.values - tiny.heat(class_index=0).values).max() > 0


@pytest.mark.slow
def test_a_video_shorter_than_a_clip_is_as_hot_as_any(tmp_path):
    short = Described(videos.write_video(tmp_path / "v.avi", 3), TINY)
    short.video.clips.num_frames[:] = 3
    found = short.heat()
    assert found.values[0, 0].any()
    assert not found.values[0, 2:].any()  # steps on frames 0, 4, 8, 12
    assert max(found.frame(0, place, (96, 96)).max() for place in range(3)) > 0.5


@pytest.mark.slow
def test_clips_that_do_not_pass_are_not_looked_at(tiny):
    passing = [True, False, True, True, False]
    heat = tiny.heat(passing)
    assert heat.shown.tolist() == passing
    assert not heat.values[[1, 4]].any()
    assert relative_error(heat.values[passing], tiny.expected()[passing]) < FLOAT32_FORWARD
    assert not tiny.heat([False] * 5).values.any()


@pytest.mark.slow
def test_a_map_is_what_the_descriptor_was_made_from(tiny):
    descriptors, _ = tiny.network(tiny.pixels[:2])
    found = tiny.network.backbone.descriptor(tiny.network.feature_map(tiny.pixels[:2]))
    assert_bitwise_equal(found, descriptors)
    assert len(tiny.network.feature_map(tiny.pixels[:1])) == 1


@pytest.mark.slow
def test_windows_show_what_is_seen_when(tiny):
    """Each slice is the heat of the clip moved in time; one window is the clip itself."""
    found = tiny.heat(windows=2)
    assert found.values.shape == (5, 2, 8, 8)
    assert found.strides == (None, 4, 4)
    for step, frames in enumerate(([0] * 4 + list(range(12)), list(range(4, 16)) + [15] * 4)):
        expected = tiny.expected(frames=frames).mean(axis=1)
        assert relative_error(found.values[:, step], expected) < FLOAT32_FORWARD
    for windows in (0, 17):
        with pytest.raises(UsageError, match="1 to 16"):
            tiny.heat(windows=windows)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "match"), [(40, "fewer than 5 clips"), (100, "more than 5 clips")])
def test_a_video_that_has_changed_since_is_refused(tiny, tmp_path, frames, match):
    with pytest.raises(VideoError, match=match):
        tiny.heat(path=videos.write_video(tmp_path / "v.avi", frames))


@pytest.mark.slow
def test_a_broken_video_says_why(tiny, tmp_path):
    (tmp_path / "v.avi").write_bytes(b"no video at all" * 40)
    with pytest.raises(VideoError) as wanted:
        list(decode_clips(tmp_path / "v.avi", "v", tiny.job))
    with pytest.raises(VideoError) as found:
        tiny.heat(path=tmp_path / "v.avi")
    assert str(found.value) == str(wanted.value)


@pytest.mark.slow
def test_real_clips_of_the_plug_in_have_heat_on_every_frame(real):
    seen = Described(real / "videos" / "ucf101_v_CliffDiving_g03_c01.mp4", real / "x3d_xs" / "x3d_xs.py", described=2)
    passing = np.arange(len(seen.pixels)) < 2
    heat = seen.heat(passing)
    assert heat.values.shape == (len(passing), 16, 5, 5)
    assert heat.strides == (1, 32, 32)
    assert relative_error(heat.values[:2], seen.expected(clips=2)) < FLOAT32_FORWARD
    assert (heat.values[:2].reshape(2, -1).max(1) > 0).all()
