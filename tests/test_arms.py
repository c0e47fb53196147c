from dataclasses import replace

import pytest

from gcf.errors import UsageError
from gcf.head.models.build import build_shape
from gcf.head.models.config import PRESETS, HeadConfig, TrainConfig
from gcf.head.trials.arms import COUNTS, HEADS, PRESETS_OF_ARMS, comparison, fields_read, heads_comparison, varied
from gcf.head.trials.grid import MOST_ARMS, grid_arms, grid_comparison, parse_grid

TRAIN = TrainConfig()
ALL = TrainConfig(clip_policy="all")


def names(found):
    return [arm.name for arm in found.arms]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("preset", PRESETS_OF_ARMS)
def test_every_preset_starts_with_c_clip_and_d_clips_by_one_classifier(preset, own):
    found = comparison(preset, TRAIN, own_classifier=own, max_clips=40)
    central, reference, *others = found.arms
    assert (central.name, central.policy, reference.name, reference.policy) == ("c-clip", "central", "d-clips", None)
    assert central.head == reference.head == (None if own else PRESETS["clip"])
    assert len(set(names(found))) == len(found.arms)
    assert others


@pytest.mark.parametrize("preset", PRESETS_OF_ARMS)
def test_the_gate_of_every_arm_has_as_many_slots_as_the_arm_chooses_clips(preset):
    for arm in comparison(preset, TrainConfig(num_clips=7), own_classifier=False, max_clips=40).arms:
        settings = arm.settings(TrainConfig(num_clips=7))
        if arm.head.fixed_clips is not None:
            assert settings.clip_policy != "all"
            assert arm.head.fixed_clips == settings.num_clips


def test_modules_is_the_papers_table_and_mean():
    found = comparison("modules", TRAIN, own_classifier=True)
    assert names(found)[2:] == ["mean", "fusion-only", "attention-only", "gcf-256"]
    assert [arm.head for arm in found.arms[2:]] == [PRESETS[name] for name in names(found)[2:]]
    assert (found.axis, found.values, found.lines) == (None, {}, {})


def test_dims_passes_the_two_presets_and_keeps_the_key_at_an_eighth():
    found = comparison("dims", TRAIN, own_classifier=True)
    heads = {arm.name: arm.head for arm in found.arms[2:]}
    assert found.axis == "width"
    assert found.values == {f"gcf-{d}": d for d in (64, 128, 256, 512, 1024, 2048)}
    assert heads["gcf-256"] == PRESETS["gcf-256"]
    assert heads["gcf-1024"] == PRESETS["gcf-1024"]
    assert all(head.key_width * 8 == head.width == found.values[name] for name, head in heads.items())
    assert set(found.lines.values()) == {"gcf"}


def test_layers_and_lambda_change_that_alone():
    layers = comparison("layers", TRAIN, own_classifier=True).arms[2:]
    assert [arm.head.layers for arm in layers] == [1, 2, 3, 4, 5]
    assert {arm.changes for arm in layers} == {()}
    weights = comparison("lambda", TRAIN, own_classifier=True)
    assert [arm.settings(TRAIN).sparsity for arm in weights.arms[2:]] == [0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert {arm.head for arm in weights.arms[2:]} == {PRESETS["gcf-256"]}
    assert list(weights.values.values()) == [0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def test_clips_crosses_counts_policies_and_heads_and_takes_all_clips_as_levels():
    found = comparison("clips", TRAIN, own_classifier=True, max_clips=16)
    counts, policies, heads = (1, 2, 4, 6, 8, 10, 15), ("uniform", "first", "random"), ("gcf-256", "mean", "d-clips")
    arms = {arm.name: arm for arm in found.arms}
    expected = {f"{h} {p} {n}": (n, f"{h}, {p}") for h in heads for p in policies for n in counts}
    expected |= {f"{h} uniform 10 loop": (10, f"{h}, uniform, loop") for h in heads}
    assert found.values == {name: count for name, (count, _) in expected.items()}
    assert found.lines == {name: line for name, (_, line) in expected.items()}
    assert set(arms) == {*expected, "c-clip", "d-clips", "gcf-256 all", "mean all", "d-clips all"}
    few = arms["gcf-256 first 4"]
    assert (few.settings(TRAIN).num_clips, few.settings(TRAIN).clip_policy, few.head.gate_clips) == (4, "first", 4)
    assert arms["gcf-256 all"].head.gate == "token"
    assert arms["d-clips random 6"].head is None
    assert arms["d-clips random 6"].settings(TRAIN).num_clips == 6


@pytest.mark.parametrize("padding", ["mask", "loop"])
def test_clips_says_of_every_arm_whether_it_is_looped_whatever_the_run_says(padding):
    train = TrainConfig(num_clips=4, padding=padding)
    *baselines, first, second, third = sorted(
        comparison("clips", train, own_classifier=True, max_clips=16).arms,
        key=lambda arm: arm.name.endswith(" loop"),
    )
    for arm in (first, second, third):
        chosen = arm.settings(train)
        assert (chosen.num_clips, chosen.clip_policy, chosen.padding) == (10, "uniform", "loop")
    assert (first.name, first.head.gate_clips) == ("gcf-256 uniform 10 loop", 10)
    paddings = {arm.name: arm.settings(train).padding for arm in baselines}
    assert {name for name in paddings if paddings[name] != "mask"} <= {"c-clip", "d-clips"}
    assert paddings["d-clips"] == padding


def test_padding_is_a_field_of_a_grid():
    arms = grid_arms("gcf-256", parse_grid(["padding=mask,loop"]), TRAIN)
    assert [arm.name for arm in arms] == ["gcf-256 padding=mask", "gcf-256 padding=loop"]
    with pytest.raises(UsageError, match="choose padding mask, or another clip policy"):
        grid_arms("gcf-256", {"clip_policy": ["all"], "padding": ["loop"]}, TRAIN)


@pytest.mark.parametrize(("longest", "most"), [(3, 10), (10, 10), (15, 15), (19, 15), (300, 20)])
def test_more_than_ten_clips_are_swept_only_where_videos_have_them(longest, most):
    found = comparison("clips", TRAIN, own_classifier=True, max_clips=longest)
    assert max(found.values.values()) == most
    assert set(found.values.values()) == {count for count in COUNTS if count <= most}


def test_gate_and_residual_vary_that_part():
    gates = comparison("gate", TRAIN, own_classifier=True).arms[2:]
    assert [(arm.head.gate, arm.head.residual) for arm in gates] == [
        ("clips", "fused"), ("token", "fused"), ("none", "none"),  # without a gate b_i would only be doubled
    ]  # fmt: skip
    residuals = comparison("residual", TRAIN, own_classifier=True).arms[2:]
    assert [arm.head.residual for arm in residuals] == ["fused", "input", "linear", "none"]
    assert [arm.head.input_projection for arm in residuals] == [False, True, False, False]


def test_heads_are_all_kinds_that_there_are_and_clip_where_d_clips_is_something_else():
    linear = names(comparison("heads", TRAIN, own_classifier=False))
    assert linear[2:] == [name for name in HEADS if name in PRESETS]
    assert {"mean", "fusion-only", "attention-only", "gcf-256"} <= set(linear)
    assert names(comparison("heads", TRAIN, own_classifier=True))[2:] == ["clip", *linear[2:]]


def test_with_all_clips_the_gate_gives_way_to_token():
    for preset in ("modules", "dims", "layers", "lambda", "readings", "heads"):
        for arm in comparison(preset, ALL, own_classifier=False).arms:
            assert arm.head.fixed_clips is None
    with pytest.raises(UsageError, match=r"gate=clips and gcf-256 gate=token would be the same"):
        comparison("gate", ALL, own_classifier=False)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown preset 'everything'; known: modules, dims, layers, clips, lambda"):
        comparison("everything", TRAIN, own_classifier=True)


def test_any_heads_are_compared_by_name_or_config():
    mine = HeadConfig("mine", width=32, key_width=4)
    found = heads_comparison(["mean", "gcf-1024", mine], TrainConfig(num_clips=5), own_classifier=False)
    assert names(found) == ["c-clip", "d-clips", "mean", "gcf-1024", "mine"]
    assert found.arms[-1].head.gate_clips == 5
    with pytest.raises(UsageError, match="two arms would be called mean"):
        heads_comparison(["mean", "mean"], TRAIN, own_classifier=False)
    with pytest.raises(UsageError, match="unknown head 'gcf-257'"):
        heads_comparison(["gcf-257"], TRAIN, own_classifier=False)


def test_a_grid_is_the_product_of_its_values_the_last_field_fastest():
    grid = {"width": [64, 256], "layers": [1, 2], "sparsity": [0.0, 1e-3]}
    arms = grid_arms("gcf-256", grid, TRAIN)
    assert [(a.head.width, a.head.layers, a.settings(TRAIN).sparsity) for a in arms] == [
        (w, n, s) for w in (64, 256) for n in (1, 2) for s in (0, 1e-3)
    ]
    assert arms[3].name == "gcf-256 width=64 layers=2 sparsity=0.001"
    assert arms[3].head.name == "gcf-256 width=64 layers=2"
    assert arms[3].changes == (("sparsity", 1e-3),)


def test_the_curves_of_a_grid_run_along_its_first_numbers():
    grid = {"gate": ["clips", "token"], "gate_reduction": [2], "layers": [1, 2], "width": [64, 128]}
    found = grid_comparison("gcf-256", grid, TRAIN, own_classifier=True)
    assert found.axis == "layers"
    arms = {arm.name: arm.head for arm in found.arms[2:]}
    assert found.values == {name: head.layers for name, head in arms.items()}
    lines = {}
    for name, line in found.lines.items():
        lines.setdefault(line, []).append(arms[name])
    assert set(lines) == {f"gcf-256 gate={g} gate_reduction=2 width={w}" for g in ("clips", "token") for w in (64, 128)}
    for points in lines.values():
        assert len({(head.gate, head.width) for head in points}) == 1
        assert [head.layers for head in points] == [1, 2]
    assert grid_comparison("gcf-256", {"gate": ["clips", "token"]}, TRAIN, own_classifier=True).axis is None


@pytest.mark.parametrize("head", ["gcf-256", "gcf-256-b", "gcf-256-g0"])
def test_the_key_keeps_its_share_of_the_width_unless_it_is_given(head):
    share = PRESETS[head].key_width / PRESETS[head].width
    for width in (64, 1024):
        assert varied(head, TRAIN, width=width).head.key_width == share * width
    assert varied(head, TRAIN, width=64, key_width=5).head.key_width == 5
    assert varied(head, TRAIN, width=3).head.key_width >= 1


def test_values_are_read_as_the_type_of_their_field():
    texts = ["width=64, 256", "num-clips=4", "lr=0.1,1e-2", "epochs=3", "output_projection=no", "gate=token,none"]
    assert parse_grid(texts) == {
        "width": [64, 256], "num_clips": [4], "lr": [0.1, 0.01], "epochs": [3], "output_projection": [False],
        "gate": ["token", "none"],
    }  # fmt: skip
    assert [type(v) for v in parse_grid(["sparsity=0,1"])["sparsity"]] == [float, float]


BAD_TEXTS = {
    "width": "not of the form FIELD=VALUE",
    "colour=red": "unknown field 'colour' in the grid; known: batch_order, batch_size",
    "seed=1,2": "unknown field 'seed'",
    "gate_clips=3": "unknown field 'gate_clips'",
    "layers=two": "'two' is not a whole number",
    "layers=1.5": "'1.5' is not a whole number",
    "sparsity=,": "'' is not a number",
    "input_projection=maybe": "'maybe' is not true or false",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_grid_that_cannot_be_read_says_why(text):
    with pytest.raises(UsageError, match=BAD_TEXTS[text]):
        parse_grid([text])
    with pytest.raises(UsageError, match="layers: given twice"):
        parse_grid(["layers=1", "layers=2"])


BAD_GRIDS = {
    "unknown field": ({"colour": ["red"]}, "unknown field 'colour'"),
    "a value twice": ({"layers": [1, 1]}, "each value once"),
    "no value": ({"layers": []}, "at least one"),
    "nothing": ({}, "an empty grid"),
    "a bad word": ({"fusion": ["softmax", "hard"]}, "unknown fusion 'hard'"),
    "a bad size": ({"layers": [0]}, "need positive sizes"),
    "a bad setting": ({"num_clips": [0]}, "num_clips must be at least 1"),
    "too many": ({"width": list(range(1, 27)), "batch_size": list(range(1, 21))}, f"520 arms; at most {MOST_ARMS}"),
}


@pytest.mark.parametrize("case", BAD_GRIDS)
def test_a_grid_that_cannot_be_built_is_refused_before_work(case):
    grid, message = BAD_GRIDS[case]
    with pytest.raises(UsageError, match=message):
        grid_arms("gcf-256", grid, TRAIN)


UNREAD = [
    ("mean", "width", 64),
    ("clip", "layers", 2),
    ("attention-only", "layers", 2),
    ("attention-only", "width", 64),
    ("fusion-only", "gate_reduction", 4),
]


@pytest.mark.parametrize(("head", "field", "value"), UNREAD)
def test_a_field_that_would_change_nothing_is_refused(head, field, value):
    with pytest.raises(UsageError, match=rf"head {head} {field}={value}: it has no {field} to vary"):
        grid_arms(head, {field: [value]}, TRAIN)
    assert grid_arms(head, {"lr": [0.5]}, TRAIN)[0].name == f"{head} lr=0.5"


def test_the_fields_that_are_read_are_those_that_make_another_network():
    values = {"width": 48, "key_width": 5, "input_projection": True, "output_projection": False, "layers": 3}
    values |= {"gate_reduction": 3}
    for name in ("gcf-256", "attention-only", "fusion-only", "mean", "clip"):
        for field, value in values.items():
            config = PRESETS[name]
            same, other = (
                [p.shape for p in build_shape(c, 96, 7).parameters()]
                for c in (config, replace(config, **{field: value}))
            )
            assert (same != other) == (field in fields_read(config)), (name, field)
