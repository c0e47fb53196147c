"""Networks of three convolutions, each put together in a way that a rewriting of them could get wrong."""

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.video.resnet import Conv3DNoTemporal, Conv3DSimple

RECIPE = {
    "crop": [16, 12],
    "channel_order": "BGR",
    "pixel_max": 1.0,
    "mean": [0.43, 0.39, 0.35],
    "std": [0.22, 0.31, 0.27],
}


class Small(nn.Module):
    """Three convolutions of 8 channels and a norm, put together by `path`."""

    def __init__(self, path=None, **modules):
        super().__init__()
        self.recipe, self.path = RECIPE, path
        self.a = nn.Conv3d(3, 8, 3, (1, 2, 2), 1)
        self.b, self.c = (nn.Conv3d(8, 8, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm3d(8)
        for name, module in modules.items():
            self.add_module(name, module)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d) and module.track_running_stats:
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.running_mean)
        self.eval().requires_grad_(False)

    def feature_map(self, clips):
        return self.path(self, clips)


def plain(m, x):
    return m.c(m.b(m.a(x)))


def read_again_through_a_view(m, x):
    skipped = m.a(x)
    half = skipped.chunk(2, dim=1)[0]
    return torch.cat([m.c(m.b(skipped)) + skipped, half], dim=1)


def view_added(m, x):
    x = m.a(x)
    both = torch.cat([x, x], dim=1)
    part = both[:, :8]
    return torch.cat([part + m.b(x), both], dim=1)


def read_again_later(m, x):
    skipped = m.a(x)
    return (m.b(skipped) + skipped) * skipped


def read_by_two(m, x):
    both = m.a(x)
    return m.b(both).relu() - m.norm(both)


def used_twice(m, x):
    x = m.a(x)
    return m.b(F.relu(m.norm(m.b(x)))) + x


def norm_used_twice(m, x):
    return m.norm(m.b(m.norm(m.a(x))))


def changed_between(m, x):
    skipped = m.a(x)
    y = m.b(skipped)
    F.relu(skipped, inplace=True)
    return y + skipped


def changed_under_another_name(m, x):
    kept = out = m.a(x)
    out += m.b(out * 1)
    return out + kept * 2


def changed_through_a_view(m, x):
    kept = m.a(x).relu()
    part = kept[:, :8]
    part += m.b(kept * 1)
    part *= 2
    return kept


def asked_by_keyword(m, x):
    x = m.a(input=x)
    return F.relu(x + m.b(input=x))


def weights_read(m, x):
    x = m.a(x)
    return m.norm(m.b(x)) + F.conv3d(x, m.b.weight, padding=1)


def added_twice(m, x):
    x = m.a(x)
    return F.relu(m.c(x) + F.relu(m.b(x) + x))


def residual(m, x):
    x = m.a(x)
    y = m.norm(m.c(F.relu(m.norm(m.b(x)), inplace=True)))
    y += x
    return torch.relu(y)


def added_to_itself(m, x):
    x = m.a(x)
    return x + x


def added_with_a_factor(m, x):
    x = m.a(x)
    return torch.add(x, m.b(x), alpha=3) + 0.5


def read_twice_at_once(m, clips):
    return m.a(clips) + clips.mean()


def through_pictures(m, x):
    return m.picture(m.a(x).mean(2)).unsqueeze(2)


def six_after_addition(m, x):
    x = m.a(x)
    return m.act(m.b(x) * 1 + x) + m.act(x + m.c(x))


PATHS = [
    *(
        plain,
        read_again_through_a_view,
        read_again_later,
        view_added,
        read_by_two,
        used_twice,
        norm_used_twice,
        changed_between,
    ),
    *(changed_under_another_name, changed_through_a_view, asked_by_keyword, weights_read, added_twice, added_to_itself),
    *(residual, added_with_a_factor, read_twice_at_once),
]
KINDS = {
    "reflected": (plain, {"b": nn.Conv3d(8, 8, 3, padding=1, padding_mode="replicate")}),
    "named padding": (plain, {"b": nn.Conv3d(8, 8, 3, padding="same")}),
    "dilated": (used_twice, {"b": nn.Conv3d(8, 8, 3, padding=2, dilation=2)}),
    "first layer of stride 1": (plain, {"a": nn.Conv3d(3, 8, 3, 1, 1)}),
    "no statistics": (norm_used_twice, {"norm": nn.BatchNorm3d(8, track_running_stats=False)}),
    "no affine": (norm_used_twice, {"norm": nn.BatchNorm3d(8, affine=False)}),
    "torchvision's": (plain, {"b": Conv3DSimple(8, 8), "c": Conv3DNoTemporal(8, 8)}),
    "pictures": (through_pictures, {"picture": nn.Conv2d(8, 8, 3)}),
    "ReLU6": (six_after_addition, {"act": nn.ReLU6()}),
    "SiLU": (six_after_addition, {"act": nn.SiLU()}),
}
