"""Clip arithmetic: frame counts in, frame indices out; knows no video."""

TAILS = ("loop", "repeat-last", "drop")


def fill_indices(num_real: int, *, clip_len: int, tail: str) -> list[int]:
    """Which of a clip's `num_real` real frames each of its `clip_len` places shows.

    `loop` starts again from the clip's own first frame, as Efficient-3DCNNs and 3D-ResNets-PyTorch pad
    (temporal_transforms.py, LoopPadding); `repeat-last` holds the last frame.

    >>> fill_indices(3, clip_len=7, tail="loop")
    [0, 1, 2, 0, 1, 2, 0]
    >>> fill_indices(3, clip_len=5, tail="repeat-last")
    [0, 1, 2, 2, 2]
    """
    if not 1 <= num_real <= clip_len:
        raise ValueError(f"need 1 <= num_real <= clip_len, got {num_real = }, {clip_len = }")
    if tail == "repeat-last":
        return [min(i, num_real - 1) for i in range(clip_len)]
    return [i % num_real for i in range(clip_len)]
