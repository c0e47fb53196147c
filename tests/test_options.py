"""Options of the public functions: what an editor completes is what they take, and others are named."""

from dataclasses import fields
from typing import get_type_hints

import pytest

import gcf
from gcf.errors import UsageError
from gcf.extract.stream.config import ExtractOptions
from gcf.head.models.config import TrainOptions


@pytest.mark.parametrize(
    ("options", "configs"),
    [(ExtractOptions, [gcf.ExtractConfig]), (TrainOptions, [gcf.Protocol, gcf.TrainConfig])],
)
def test_an_editor_is_told_of_the_fields_of_the_configs_with_their_types(options, configs):
    declared = {f.name: f.type for config in configs for f in fields(config)}
    told = {name: getattr(kind, "__forward_arg__", kind) for name, kind in options.__annotations__.items()}
    assert told == declared


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda: gcf.train_head("f.h5", epoch=3), "epoch.*did you mean epochs"),
        (lambda: gcf.ablate("f.h5", seed_s=3), "seed_s.*did you mean seeds?"),
        (lambda: gcf.compare_features(["a.h5", "b.h5"], qqqq=3), "qqqq.*known: .*weight_decay"),
        (lambda: gcf.transfer_head("a.h5", "b.h5", learning_rate=3), "learning_rate"),
        (lambda: gcf.extract_videos("videos", "f.h5", batchsize=3), "batchsize.*did you mean batch_size"),
        (lambda: gcf.extract_together("v", "f.h5", backbones=["x3d_xs"], view=3), "view.*did you mean views"),
    ],
)
def test_an_unknown_option_is_named_before_any_work(call, hint):
    with pytest.raises(UsageError, match=hint):
        call()


def test_the_types_are_told_to_other_packages():
    assert get_type_hints(gcf.ExtractConfig)["views"] is int
    from importlib.resources import files

    assert files("gcf").joinpath("py.typed").is_file()
