import numpy as np
import pytest
import torch
from caches import easy_cache, write_cache
from compare import FLOAT32_FORWARD, relative_error
from stage_two import clip_batches

from gcf.head.fitting.backbone_clips import backbone_columns, backbone_log_probabilities
from gcf.head.fitting.labelled import label_features
from gcf.head.models.build import build_head
from gcf.head.models.config import PRESETS
from gcf.head.models.sampling import central_clip


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def clips_and_mask():
    descriptors = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    return descriptors, torch.tensor([[True] * 4, [True, True, False, False]])


def test_mean_is_a_linear_classifier_on_the_mean_of_the_real_clips():
    head = build_head(PRESETS["mean"], 6, 3).eval()
    descriptors, mask = clips_and_mask()
    weight, bias = (p.detach().numpy() for p in head.parameters())
    for n, count in enumerate((4, 2)):
        expected = descriptors[n, :count].numpy().mean(axis=0) @ weight.T + bias
        assert relative_error(head(descriptors, mask).logits[n].detach(), expected) < FLOAT32_FORWARD


def test_d_clips_averages_the_softmax_of_the_real_clips():
    head = build_head(PRESETS["clip"], 6, 3).eval()
    descriptors, mask = clips_and_mask()
    weight, bias = (p.detach().numpy() for p in head.parameters())
    for n, count in enumerate((4, 2)):
        expected = softmax(descriptors[n, :count].numpy() @ weight.T + bias).mean(axis=0)
        assert relative_error(head(descriptors, mask).logits[n].detach().softmax(0), expected) < FLOAT32_FORWARD


@pytest.mark.parametrize(("count", "central"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (101, 50)])
def test_the_central_clip_is_the_earlier_of_two_middle_ones(count, central):
    assert central_clip(count) == central


def cached_logits(tmp_path, classes, backbone_classes, **content):
    rng = np.random.default_rng(0)
    lengths = [1, 3, 12, 4]
    logits = [3 * rng.standard_normal((n, len(backbone_classes))) for n in lengths]
    features = write_cache(
        tmp_path / "f.h5",
        [rng.standard_normal((n, 6)) for n in lengths],
        [0, 1, 0, 1],
        classes,
        logits=logits,
        backbone_classes=backbone_classes,
        **content,
    )
    return label_features(features), [x.astype(np.float16).astype(np.float64) for x in logits]


def test_the_backbone_speaks_over_the_classes_of_the_data_alone(tmp_path):
    data, logits = cached_logits(tmp_path, ["high_jump", "Abseiling"], ["abseiling", "zumba", "high jump"])
    columns = backbone_columns(data)
    assert columns == [2, 0]
    batches = clip_batches(data.features, data.labels, num_clips=20, policy="all")
    said = backbone_log_probabilities(batches, np.arange(4), columns, rng=np.random.default_rng(0))
    central = backbone_log_probabilities(batches, np.arange(4), columns, rng=np.random.default_rng(0), policy="central")
    for n, clip_logits in enumerate(logits):
        each = softmax(clip_logits[:, columns])
        assert relative_error(np.exp(said[n]), each.mean(axis=0)) < FLOAT32_FORWARD
        assert relative_error(np.exp(central[n]), each[(len(each) - 1) // 2]) < FLOAT32_FORWARD


@pytest.mark.parametrize(
    ("classes", "known"),
    [
        (["a", "b"], ["a", "c"]),  # one class is not known
        (["a b", "a_b"], ["a b", "c"]),  # two classes of the data would read one output
        (["a", "b"], ["a", "b", "B"]),  # which of two outputs?
    ],
)
def test_the_backbone_is_not_asked_where_its_classes_do_not_cover_the_data(tmp_path, classes, known):
    data, _ = cached_logits(tmp_path, classes, known)
    assert backbone_columns(data) is None


def test_a_file_without_logits_has_no_clip_classifier(tmp_path):
    assert backbone_columns(label_features(easy_cache(tmp_path / "f.h5"))) is None
