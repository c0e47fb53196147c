"""The further heads once more, plainly: one video at a time, NumPy in float64, loops over its real clips."""

import math

import numpy as np
from numpy_net import sigmoid, softmax


def plain(weights):
    return {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}


def linear(x, w, name):
    return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0)


def layer_norm(x, w, name):
    centred = x - x.mean()
    return centred / np.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def max_head(clips, w, config):
    largest = [max(clip[d] for clip in clips) for d in range(clips.shape[1])]
    return {"logits": linear(np.array(largest), w, "classifier")}


def mil(clips, w, config):
    scores = [linear(np.tanh(linear(s, w, "content")) * sigmoid(linear(s, w, "gating")), w, "score")[0] for s in clips]
    a = softmax(np.array(scores))
    return {"logits": linear(sum(a[i] * clips[i] for i in range(len(clips))), w, "classifier"), "weights": a}


def stpn(clips, w, config):
    gate = np.array([sigmoid(linear(np.maximum(linear(s, w, "hidden"), 0), w, "score")[0]) for s in clips])
    video = sum(gate[i] * clips[i] for i in range(len(clips))) / len(clips)
    return {"logits": linear(video, w, "classifier"), "gate": gate}


def topk(clips, w, config):
    scores = [linear(np.maximum(linear(s, w, "hidden"), 0), w, "score")[0] for s in clips]
    best = sorted(range(len(clips)), key=lambda i: -scores[i])[: config.top_k]
    logits = sum(linear(clips[i], w, "classifier") for i in best) / len(best)
    return {"logits": logits, "weights": np.array([1 / len(best) if i in best else 0 for i in range(len(clips))])}


def transformer(clips, w, config):
    x = [linear(s, w, "project") for s in clips]
    width, size = config.width, config.width // config.heads
    for i in range(len(x)):
        if config.positions == "learned":
            x[i] = x[i] + w["positions.table.weight"][i]
        if config.positions == "sine":
            for c in range(width):
                angle = i / 10_000 ** ((c - c % 2) / width)
                x[i][c] += math.cos(angle) if c % 2 else math.sin(angle)
    normed = [layer_norm(v, w, "before_attention") for v in x]
    q, k, v = ([linear(n, w, f"attention.{part}") for n in normed] for part in ("query", "key", "value"))
    attention = np.zeros((len(x), len(x)))
    mixed = np.zeros((len(x), width))
    for h in range(config.heads):
        part = slice(h * size, (h + 1) * size)
        for i in range(len(x)):
            a = softmax(np.array([q[i][part] @ k[j][part] / math.sqrt(size) for j in range(len(x))]))
            attention[i] += a / config.heads
            mixed[i, part] = sum(a[j] * v[j][part] for j in range(len(x)))
    for i in range(len(x)):
        x[i] = x[i] + linear(mixed[i], w, "attention.output")
        x[i] = x[i] + linear(gelu(linear(layer_norm(x[i], w, "before_mlp"), w, "mlp.0")), w, "mlp.2")
        x[i] = layer_norm(x[i], w, "norm")
    return {"logits": linear(sum(x) / len(x), w, "classifier"), "attention": attention}


def gru(clips, w, config):
    """torch.nn.GRU's documented equations, one direction after the other."""
    states = np.zeros((len(clips), 2 * config.width))
    for n, (suffix, order) in enumerate((("", range(len(clips))), ("_reverse", range(len(clips) - 1, -1, -1)))):
        h = np.zeros(config.width)
        for i in order:
            given = w[f"recurrence.weight_ih_l0{suffix}"] @ clips[i] + w[f"recurrence.bias_ih_l0{suffix}"]
            kept = w[f"recurrence.weight_hh_l0{suffix}"] @ h + w[f"recurrence.bias_hh_l0{suffix}"]
            (ir, iz, inew), (hr, hz, hnew) = np.split(given, 3), np.split(kept, 3)
            update = sigmoid(iz + hz)
            h = (1 - update) * np.tanh(inew + sigmoid(ir + hr) * hnew) + update * h
            states[i, n * config.width : (n + 1) * config.width] = h
    return {"logits": linear(states.mean(axis=0), w, "classifier")}


def nextvlad(clips, w, config):
    groups, clusters, size = config.groups, config.clusters, 2 * config.width // config.groups
    vlad = np.zeros((clusters, size))
    for s in clips:
        x = linear(s, w, "expand")
        attention, scores = sigmoid(linear(x, w, "attention")), linear(x, w, "assignment")
        for g in range(groups):
            assigned = softmax(scores[g * clusters : (g + 1) * clusters])
            for k in range(clusters):
                vlad[k] += attention[g] * assigned[k] * (x[g * size : (g + 1) * size] - w["centres"][k])
    vlad = np.stack([row / np.sqrt(row @ row) for row in vlad])
    video = layer_norm(linear(vlad.reshape(-1), w, "hidden"), w, "norm")
    gate = sigmoid(linear(np.maximum(linear(video, w, "gating.reduce"), 0), w, "gating.expand"))
    return {"logits": linear(video * gate, w, "classifier")}


HEADS = {
    "max": max_head,
    "mil": mil,
    "stpn": stpn,
    "topk": topk,
    "transformer": transformer,
    "gru": gru,
    "nextvlad": nextvlad,
}


def further_head(clips, weights, config):
    """(n, D) real clips -> {"logits": (K,)} and, where the head has them, gate (n,), weights (n,), attention (n, n)."""
    return HEADS[config.kind](clips, plain(weights), config)
