"""torchvision's video transformers as gcf cuts them, against torchvision's own forward pass with the same weights."""

import pytest
import torch
from compare import relative_error
from torch import nn
from torchvision.models import get_model

from gcf.extract.backbones import load_backbone

pytestmark = pytest.mark.slow

EQUAL = 1e-6  # the same layers; the mean over positions is taken at another place, or after the tokens were moved
# (T, H, W): MViT takes its own size only; Swin any, and these are odd ones that it pads
SIZES = {"mvit_v1_b": (16, 224, 224), "mvit_v2_s": (16, 224, 224)}
SIZES |= {"swin3d_t": (9, 100, 76), "swin3d_s": (9, 100, 76), "swin3d_b": (9, 100, 76)}


def own_outputs(network, clips):
    """What reaches the last linear layer in torchvision's own forward pass, and the logits."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    caught = []
    hook = last.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.inference_mode():
        logits = network(clips)
    hook.remove()
    return caught[0], logits


@pytest.fixture(scope="module", params=SIZES)
def pair(request):
    """(torchvision's network, gcf's with the same seeded weights, clips)."""
    with pytest.MonkeyPatch.context() as patch:  # torchvision's truncated normal takes 8 s for the largest
        patch.setattr(nn.init, "trunc_normal_", lambda tensor, std=1.0: nn.init.normal_(tensor, std=std))
        ours = load_backbone(request.param, weights="random")
        theirs = get_model(request.param, weights=None).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    clips = torch.randn(1, 3, *SIZES[request.param], generator=torch.Generator().manual_seed(3))
    return theirs, ours, clips


def test_descriptor_and_logits_are_what_reaches_and_leaves_torchvisions_last_layer(pair):
    theirs, ours, clips = pair
    expected, logits = own_outputs(theirs, clips)
    with torch.inference_mode():
        feature_map = ours.feature_map(clips)
        descriptor = ours.descriptor(feature_map)
        found = ours.classify(descriptor)
    assert expected.shape == descriptor.shape
    assert expected.std() > 0.01
    assert relative_error(descriptor, expected) < EQUAL
    assert relative_error(found, logits) < EQUAL
    # what heat maps stand on: the descriptor is the mean of the map, and positions differ
    assert relative_error(feature_map.mean((2, 3, 4)), expected) < EQUAL
    assert feature_map.std(dim=(2, 3, 4)).mean() > 0.01
