"""Heat maps of one video: its clips decoded again, and Grad-CAM on the feature maps of those that the head looks at."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from itertools import islice

import numpy as np
from torch import Tensor

from gcf.data.schema import VideoFeatures, VideoInfo
from gcf.errors import UsageError, VideoError
from gcf.explain.reading.alignment import grid_strides
from gcf.explain.reading.gradcam import descriptor_gradients, grad_cam
from gcf.explain.reading.heat import HeatMaps
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import ClipJob
from gcf.extract.decoding.pool import DecoderPool, Failed
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.network_pool import NetworkPool
from gcf.head.models.saved import SavedHead


def video_heat(
    path: str | os.PathLike,
    video: VideoFeatures,
    *,
    head: SavedHead,
    network: ClipNetwork,
    job: ClipJob,
    class_index: int,
    passing: np.ndarray,
    rounds: Sequence[np.ndarray],
    windows: int = 1,
    positive: bool = False,
) -> HeatMaps:
    """Where a class is seen in the C clips of a video that are `passing` (C,); the others stay at 0.

    video: the descriptors of the head's own recipe, which decide the gradients. network and job may be others of the
    same weights, such as without stride in time: they make the map only. rounds: the clips that a pass of the head
    reads. windows: slices in time of each clip's map, each by a pass of the network over the clip moved in time, so at
    so many times the cost; 1 is the clip as it is. positive: only channels that speak for the class (`grad_cam`).
    Memory holds a few batches of clips and their heat.

    Raises VideoError where the video cannot be decoded or is no longer the one that was described, UsageError for
    more windows than a clip has frames.
    """
    if not 1 <= windows <= job.num_frames:
        raise UsageError(f"windows must be 1 to {job.num_frames}, the frames of a clip, not {windows}")
    gradients = descriptor_gradients(head, np.array(video.descriptors[:, 0]), class_index, rounds)
    values = None
    with closing(_clips(path, video, job, passing, ahead=2 * network.batch_size)) as clips:
        for indices, heat in _heat(clips, network, gradients, windows, positive):
            values = np.zeros((len(passing), *heat.shape[1:]), np.float32) if values is None else values
            values[indices] = heat
    if values is None:
        values = np.zeros((len(passing), 1, 1, 1), np.float32)  # nothing was looked at
    strides = grid_strides(network.backbone, (job.num_frames, *job.geometry.crop), values.shape[1:])
    strides = strides if windows == 1 else (None, *strides[1:])
    heat = HeatMaps(head.classes[class_index], values, np.array(passing), job.num_frames, job.geometry, strides)
    return heat.without_padding(video.clips.num_frames.tolist())


def _heat(
    clips: Iterator[tuple[int, np.ndarray]], network: ClipNetwork, gradients: Tensor, windows: int, positive: bool
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Clips in batches: which they are, and their heat (n, T', h, w)."""

    def made(maps: Sequence[Future], indices: list[int]) -> np.ndarray:
        heat = [
            grad_cam(network.backbone, one.result(), gradients[indices], positive=positive).cpu().numpy()
            for one in maps
        ]
        return heat[0] if windows == 1 else np.stack([one.mean(axis=1) for one in heat], axis=1)

    with NetworkPool([network]) as networks:
        under_way: deque[tuple[list[int], list[Future]]] = deque()
        while batch := list(islice(clips, network.batch_size)):
            pixels = np.stack([pixels for _, pixels in batch])  # (n, T, H, W, 3)
            moved = [pixels[:, window] for window in moved_windows(pixels.shape[1], windows)]
            maps = [networks.submit(one, method="feature_map") for one in moved]
            under_way.append(([index for index, _ in batch], maps))
            if len(under_way) > networks.count:
                indices, maps = under_way.popleft()
                yield indices, made(maps, indices)
        for indices, maps in under_way:
            yield indices, made(maps, indices)


def moved_windows(num_frames: int, count: int) -> list[np.ndarray]:
    """Frames of a clip moved in time so that its middle comes to the middle of each of `count` equal parts.

    The first and the last frame are held: what lies outside the clip is another clip's. A network that keeps one step
    of the time of a clip tells so what is seen when, with the strides that it was trained with.

    >>> [window.tolist() for window in moved_windows(4, 2)]
    [[0, 0, 1, 2], [1, 2, 3, 3]]
    """
    shifts = [int((part + 0.5) * num_frames / count - num_frames / 2) for part in range(count)]
    return [np.clip(np.arange(num_frames) + shift, 0, num_frames - 1) for shift in shifts]


def _clips(
    path: str | os.PathLike, video: VideoFeatures, job: ClipJob, passing: np.ndarray, *, ahead: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and pixels (T, H, W, 3) of every passing clip, decoded in a process of its own."""
    count = 0
    pool = DecoderPool([VideoPath(os.fspath(path), video.id)], [job], num_workers=1, ahead=ahead)
    try:
        for _, _, item in pool:
            if isinstance(item, Failed):
                raise VideoError(item.error)
            if isinstance(item, VideoInfo):
                break
            if count < len(passing) and passing[count]:
                yield count, item.pixels[0]
            count += 1
    finally:
        pool.close()
    if count != len(passing):
        more = "more" if count > len(passing) else "fewer"
        raise VideoError(f"not the video that was described: it has {more} than {len(passing)} clips now")
