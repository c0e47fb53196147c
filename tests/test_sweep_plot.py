from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from statsmodels.stats.proportion import proportion_confint

from gcf.head.tables.sweep_plot import axis_places, draw_sweep, plot_sweep, spread_of


def row(name, mean, std=0.01, seeds=5):
    return {
        "name": name,
        "mean": mean,
        "std": std,
        "seeds": seeds,
        "k": None if mean is None else round(200 * mean),
        "n": 200,
    }


LEVELS = [row("c-clip", 0.2), row("d-clips", 0.4)]


def drawn(rows, axis, values, **options):
    axes = Figure().subplots()
    draw_sweep(axes, rows, axis, values, **options)
    ticks = dict(zip((t.get_text() for t in axes.get_xticklabels()), axes.get_xticks(), strict=True))
    curves = {c.get_label(): [tuple(p) for p in c[0].get_xydata()] for c in axes.containers}
    levels = {line.get_label(): (line.get_ydata()[0], line.get_linestyle()) for line in axes.lines}
    return axes, ticks, curves, levels


def test_a_curve_has_a_point_for_each_value_in_order_and_the_reference_is_a_level():
    values = {"c": 4, "a": 1, "b": 2}
    rows = [*LEVELS, row("c", 0.7), row("a", 0.5), row("b", 0.6)]
    axes, ticks, curves, levels = drawn(rows, "num_layers", values)
    assert list(curves) == ["num_layers"]
    assert curves["num_layers"] == [pytest.approx(p) for p in ((1, 50), (2, 60), (4, 70))]
    assert ticks == {"1": 1, "2": 2, "4": 4}
    assert levels["d-clips"] == (pytest.approx(40), "-")
    assert levels["c-clip"] == (pytest.approx(20), "--")
    assert axes.get_xlabel() == "num layers"
    assert "over seeds" in axes.get_ylabel()


def test_arms_of_one_line_make_one_curve_and_failed_ones_no_point():
    values = {"u1": 1, "u2": 2, "f1": 1, "f2": 2}
    lines = {"u1": "uniform", "u2": "uniform", "f1": "first", "f2": "first"}
    rows = [row("u1", 0.5), row("f1", 0.4), row("u2", 0.6), row("f2", None), row("all", 0.3)]
    _, _, curves, levels = drawn(rows, "num_clips", values, lines=lines)
    assert [p[0] for p in curves["uniform"]] == [1, 2]
    assert [p[0] for p in curves["first"]] == [1]
    assert "all" in levels


def test_on_a_logarithmic_axis_steps_are_even_and_zero_stands_apart():
    values = {f"a{n}": value for n, value in enumerate([0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])}
    axes, ticks, _, _ = drawn([row(name, 0.5) for name in values], "sparsity", values)
    places = [ticks[text] for text in ("0", "1e-05", "0.0001", "0.001", "0.01", "0.1")]
    assert [b - a for a, b in pairwise(places)] == pytest.approx([1] * 5)
    joined, zero = (container[0].get_xdata().tolist() for container in axes.containers)
    assert (joined, zero) == (places[1:], places[:1])
    assert axes.containers[0][0].get_color() == axes.containers[1][0].get_color()
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["sparsity"]


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ([64, 128, 2048], True),
        ([1, 20], False),
        ([1, 2, 5], False),
        ([0], False),
        ([0, 3], False),
        ([-1, 1, 100], False),
    ],
)
def test_the_axis_is_logarithmic_where_values_span_much(values, logarithmic):
    places, found = axis_places(values)
    assert found == logarithmic
    assert list(places) == sorted(values)
    assert list(places.values()) == sorted(places.values())


@pytest.mark.parametrize("k", [0, 37, 200])
def test_the_bar_is_the_spread_over_seeds_or_else_wilsons_interval(k):
    single = {"std": None, "seeds": 1, "k": k, "n": 200, "mean": k / 200}
    low, high = proportion_confint(k, 200, method="wilson")
    assert spread_of(single) == pytest.approx((k / 2 - 100 * low, 100 * high - k / 2), abs=1e-9)
    assert spread_of(row("a", 0.5, std=0.02)) == pytest.approx((2, 2))
    axes, *_ = drawn([row("a", 0.5, std=None, seeds=1)], "layers", {"a": 1})
    assert "95 %" in axes.get_ylabel()


@pytest.mark.slow
def test_the_picture_is_written(tmp_path):
    plot_sweep(tmp_path / "sweep.png", [*LEVELS, row("a", 0.5), row("b", 0.6)], "layers", {"a": 1, "b": 2})
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    plot_sweep(tmp_path / "none.png", LEVELS, "layers", {})  # every arm of the sweep has failed
