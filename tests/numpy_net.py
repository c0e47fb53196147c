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


def traced(clips, weights, config, *, slots=None):
    """(n, D) -> what each clip puts into the logits through fusion (n, K), with attention and gate held as they are.

    One clip at a time is carried through all layers while the others bring nothing.
    """
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    _, alpha, _ = gcf_net(clips, weights, config, slots=slots)
    if config.input_projection:
        clips = clips @ w["project.weight"].T
    held, fused = [], clips
    if config.fusion != "none":
        for n in range(config.layers):
            fused, attention = fuse(fused, w, f"fusion.layers.{n}", normalise=config.fusion)
            held.append(attention)
    shares = []
    for j in range(len(clips)):
        alone = np.zeros_like(clips)
        alone[j] = clips[j]
        b = alone
        for n, attention in enumerate(held):
            b = attention @ b @ w[f"fusion.layers.{n}.value.weight"].T
            if f"fusion.layers.{n}.output.weight" in w:
                b = b @ w[f"fusion.layers.{n}.output.weight"].T
        residual = {
            "fused": lambda b=b: b,
            "input": lambda alone=alone: alone,
            "linear": lambda alone=alone: alone @ w["residual.weight"].T,
            "none": lambda b=b: np.zeros_like(b),
        }[config.residual]()
        r = (b if alpha is None else alpha[:, None] * b) + residual
        shares.append(w["classifier.weight"] @ r.mean(axis=0))
    return np.array(shares)
