"""Equations 1 to 8 of GCF-Net once more, plainly: one video at a time, NumPy, loops over its real clips."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def fuse(clips, w, name, *, normalise):
    """Equation 1 for the (n, D) real clips of one video."""
    q, k, v = (clips @ w[f"{name}.{part}.weight"].T for part in ("query", "key", "value"))
    attention = np.zeros((len(clips), len(clips)))
    for i in range(len(clips)):
        scores = np.array([q[i] @ k[j] / np.sqrt(len(k[j])) for j in range(len(clips))])
        attention[i] = softmax(scores) if normalise == "softmax" else scores / len(clips)
    fused = np.stack([sum(attention[i, j] * v[j] for j in range(len(clips))) for i in range(len(clips))])
    if f"{name}.output.weight" in w:
        fused = fused @ w[f"{name}.output.weight"].T
    return fused, attention


def gcf_net(clips, weights, config, *, slots=None):
    """(n, D) real clips in slots `slots` -> logits (K,), gate (n,) or None, attention (n, n) or None."""
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    if config.input_projection:
        clips = clips @ w["project.weight"].T
    fused, attention = clips, None
    if config.fusion != "none":
        for n in range(config.layers):
            fused, attention = fuse(fused, w, f"fusion.layers.{n}", normalise=config.fusion)
    alpha = None
    if config.gate == "clips":
        z = np.zeros(config.gate_clips)
        z[slots if slots is not None else np.arange(len(clips))] = fused.mean(axis=1)
        hidden = np.maximum(w["gate.reduce.weight"] @ z, 0)
        alpha = sigmoid(w["gate.expand.weight"] @ hidden)[slots if slots is not None else np.arange(len(clips))]
    if config.gate == "token":
        alpha = np.array(
            [sigmoid(w["gate.expand.weight"] @ np.maximum(w["gate.reduce.weight"] @ b, 0))[0] for b in fused]
        )
    residual = {
        "fused": lambda: fused,
        "input": lambda: clips,
        "linear": lambda: clips @ w["residual.weight"].T,
        "none": lambda: np.zeros_like(fused),
    }[config.residual]()
    gated = fused if alpha is None else alpha[:, None] * fused
    v = sum(gated[i] + residual[i] for i in range(len(clips))) / len(clips)
    return w["classifier.weight"] @ v, alpha, attention
