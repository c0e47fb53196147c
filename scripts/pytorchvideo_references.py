"""What pytorchvideo's own Slow-R50, SlowFast-R50 and R(2+1)D-R50 give for drawn weights: tests/references/*.npz.

    python scripts/pytorchvideo_references.py tests/references/pytorchvideo.npz

Needs pytorchvideo 0.1.5, which gcf itself does not: its networks were written anew. It was run with that release,
unpacked, on PYTHONPATH. tests/test_pathways.py draws the same weights and clips with the functions below and compares.
The models are those of pytorchvideo.models.hub as they are, without their trained weights; only the windows of their
last pools, made for clips of 224 x 224, are set to the maps of the small clips here.

The file has, of each network, `NAME.tensors` (a state dict's names and shapes, one a line), `NAME.counts` (parameters,
and multiply-accumulates of a clip of the trained size, as torch counts them), and for each clip of CLIPS
`NAME.CLIP.descriptor` and `.logits`, what goes into and comes out of the last linear layer. Two clips of a square are
in float32, a rectangle is in float64. Made with torch 2.14.1 on a processor, one thread.
"""

import hashlib
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

# Shapes (B, 3, T, H, W) of clips, and their precision
SQUARES = {"slow_r50": (2, 3, 8, 64, 64), "slowfast_r50": (2, 3, 16, 64, 64), "r2plus1d_r50": (2, 3, 16, 64, 64)}
RECTANGLES = {"slow_r50": (1, 3, 5, 48, 80), "slowfast_r50": (1, 3, 32, 48, 80), "r2plus1d_r50": (1, 3, 10, 48, 80)}
CLIPS = {"square": (SQUARES, torch.float32), "rectangle": (RECTANGLES, torch.float64)}
TRAINED = {"slow_r50": (8, 224), "slowfast_r50": (32, 224), "r2plus1d_r50": (16, 224)}  # frames, side
ALPHA = 4  # fast frames for each slow one


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers of mean 0 and variance 1, float64: raw words of a generator that the name keys, the same everywhere."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    words = np.random.Philox(key=key).random_raw(math.prod(shape))
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-52 - 1.0).reshape(shape) * math.sqrt(3)


def drawn_value(name: str, shape: tuple[int, ...]) -> Tensor:
    """What a tensor of a state dict shall be, float32; activations then keep their size."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    values = drawn(name, shape)
    if kind == "running_var":
        return (1 + 0.2 * values.abs()).float()
    if len(shape) > 1:
        gain = 2.0 if len(shape) == 5 else 1.0  # convolutions are followed by ReLUs
        return (values * math.sqrt(gain / math.prod(shape[1:]))).float()
    if kind == "weight":
        scale = 0.5 if ".norm_c." in name else 1.0  # of what a block adds
        return (scale * (1 + 0.1 * values)).float()
    return (0.1 * values).float()


def drawn_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict of those names and shapes."""
    return {name: drawn_value(name, shape) for name, shape in shapes.items()}


def drawn_clips(network: str, which: str) -> Tensor:
    """The clips of that name, in their precision."""
    shapes, precision = CLIPS[which]
    return drawn(f"{network} {which}", shapes[network]).float().to(precision)


def packed(name: str, clips: Tensor) -> Tensor | list[Tensor]:
    """Clips as the original wants them."""
    if name != "slowfast_r50":
        return clips
    frames = torch.linspace(0, clips.shape[2] - 1, clips.shape[2] // ALPHA).long()
    return [clips[:, :, frames], clips]


def pool_whole(model: nn.Module, name: str, clips: Tensor) -> None:
    """Make the windows of the last pools as large as the maps of these clips."""
    sides = [-(-side // 32) for side in clips.shape[3:]]
    frames = clips.shape[2]
    if name == "slowfast_r50":
        for pool, count in zip(model.blocks[5].pool, (frames // ALPHA, frames), strict=True):
            pool.kernel_size = (count, *sides)
    else:
        model.blocks[5].pool.kernel_size = (-(-frames // 4) if name == "r2plus1d_r50" else frames, *sides)


def outputs(model: nn.Module, name: str, clips: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (B, D) and logits (B, K)."""
    seen = []
    hook = model.blocks[-1].proj.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    pool_whole(model, name, clips)
    with torch.inference_mode():
        model.to(clips.dtype)(packed(name, clips))
    hook.remove()
    if len(seen) != 1 or seen[0][0].shape[1:4] != (1, 1, 1):
        raise ValueError(f"{name}: the last layer saw {[tuple(given.shape) for given, _ in seen]}, not one position")
    return tuple(values.flatten(1).numpy() for values in seen[0])


def counts(model: nn.Module, name: str) -> tuple[int, int]:
    """Parameters, and multiply-accumulates of a clip of the trained size."""
    from torch.utils.flop_counter import FlopCounterMode

    frames, side = TRAINED[name]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(packed(name, torch.zeros(1, 3, frames, side, side)))
    return sum(values.numel() for values in model.parameters()), counter.get_total_flops() // 2


def main(out: Path) -> None:
    """Run the originals and write what they gave."""
    from pytorchvideo.models import hub  # only here: tests import this file for its drawn numbers

    torch.set_num_threads(1)
    kept = {}
    for name in TRAINED:
        model = getattr(hub, name)(pretrained=False).eval()
        kept[f"{name}.counts"] = np.array(counts(model, name))
        shapes = {key: tuple(values.shape) for key, values in model.state_dict().items()}
        lines = "\n".join(f"{key} {' '.join(map(str, shape))}" for key, shape in shapes.items())
        kept[f"{name}.tensors"] = np.frombuffer(lines.encode(), np.uint8)
        state = drawn_state(shapes)
        for which in CLIPS:
            model.load_state_dict(state, strict=True)
            found = outputs(model, name, drawn_clips(name, which))
            kept |= {f"{name}.{which}.{what}": v for what, v in zip(("descriptor", "logits"), found, strict=True)}
            print(name, which, *(f"{values.dtype} {values.shape} std {values.std():.3g}" for values in found))
    np.savez_compressed(out, **kept)
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
