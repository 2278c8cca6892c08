"""Figures that compare runs: what is drawn and named, on which axes, and that nothing covers anything."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import drawn as drawn
from pictures import png_size
from pictures import strict_arithmetic as strict_arithmetic

from fdtrain.errors import InputError
from fdtrain.figures import Point, Series, draw_comparison, draw_scatter
from fdtrain.sweep import pictures

ONE_PANEL, TWO_PANELS, SCATTER = (1200, 630), (1200, 990), (1050, 720)  # pixels
EPOCHS = np.arange(1, 1001)
# label, first and last value, rate, rounds per epoch
SEVEN: list[tuple[str, float, float, float, int]] = [
    ("D-SGD", 0.3, 0.0124, 0.009, 2010), ("D-SGD, exact", 0.28, 0.0112, 0.01, 4010),
    ("D-Adam", 0.05, 0.01, 0.02, 4010), ("D-Adam, even", 0.03, 0.0099, 0.03, 2010),
    ("DSGT", 0.2, 0.0105, 0.01, 2010), ("D-SGD, per sample", 0.02, 0.0116, 0.005, 4010),
    ("centralized", 0.15, 0.0101, 0.008, 2010),
]  # fmt: skip
TOPOLOGIES = {"ring": 0.0026, "geometric": 0.011, "star": 0.02, "grid": 0.03, "Watts–Strogatz": 0.09,
              "Erdős–Rényi": 0.31, "complete": 1.0}  # fmt: skip


def legend(figure: Any) -> list[str]:
    return [" ".join(text.get_text().split()) for text in figure.legends[0].get_texts()]


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(item.get_text() for item in figure.findobj(Text) if item.get_visible())


def decay(first: float, last: float, rate: float, seed: int = 0) -> Any:
    draws = np.random.default_rng(seed).normal(size=len(EPOCHS))
    return (last + (first - last) * np.exp(-rate * EPOCHS)) * np.exp(0.003 * draws)


def line(label: str, *y: float, sends: bool = True) -> Series:
    return Series(label, [(np.arange(1.0, len(y) + 1), np.array(y))], sends)


def seven(repetitions: int = 1) -> list[Series]:
    return [
        Series(
            label,
            [(EPOCHS * rounds, decay(first, last, rate, seed)) for seed in range(repetitions)],
            label != "centralized",
        )
        for label, first, last, rate, rounds in SEVEN
    ]


def test_seven_curves_with_close_ends_are_told_apart(tmp_path: Path, drawn: list[Any]) -> None:
    series, path = seven(), tmp_path / "deep" / "er" / "a.png"
    draw_comparison(path, series, "rounds", "test MSE", title="Title", note="dashed: at the rounds of D-SGD")
    assert png_size(path) == TWO_PANELS
    whole, near = drawn[0].axes
    assert (whole.get_yscale(), near.get_yscale()) == ("log", "linear")
    for axes in (whole, near):
        assert len(axes.lines) == 7
        for one, drawn_line in zip(series, axes.lines, strict=True):
            np.testing.assert_array_equal(drawn_line.get_xdata(), one.runs[0][0])
            np.testing.assert_array_equal(drawn_line.get_ydata(), one.runs[0][1])  # nothing is smoothed
            assert len(one.runs[0][0]) - 1 in drawn_line.get_markevery()  # the end is marked
    for what in ("color", "marker"):
        assert len({getattr(item, f"get_{what}")() for item in whole.lines}) == 7
    assert [item.get_linestyle() for item in whole.lines] == ["-"] * 6 + ["--"]
    ends = [float(one.runs[0][1][-1]) for one in series]
    low, high = near.get_ylim()
    assert low < min(ends)
    assert max(ends) < high < 0.02
    order = [series[k].label for k in np.argsort(ends)[::-1]]
    values = [f"{end:.5f}" for end in sorted(ends, reverse=True)]
    assert legend(drawn[0]) == [f"{value} {label}" for value, label in zip(values, order, strict=True)]
    assert near.get_xlabel() == "rounds (millions)"
    assert [near.xaxis.get_major_formatter()(value, 0) for value in (0.0, 5e5, 4e6)] == ["0", "0.5", "4"]
    assert {"Title", "dashed: at the rounds of D-SGD", "test MSE"} <= set(texts(drawn[0]).split("\n"))


def test_the_legend_stands_beside_the_axes(tmp_path: Path, drawn: list[Any]) -> None:
    many = [line(f"network {i} " + "long " * (i % 8), 0.3, 0.01 + 1e-4 * i) for i in range(30)]
    draw_comparison(tmp_path / "a.png", many, "rounds", "MSE")
    figure = drawn[0]
    box = figure.legends[0].get_window_extent()
    assert all(box.x0 > axes.bbox.x1 for axes in figure.axes)
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    styles = {(item.get_color(), item.get_marker()) for item in figure.axes[0].lines}
    assert len(figure.axes[0].lines) == len(legend(figure)) == len(styles) == 30


def test_repetitions_become_their_mean_in_a_band(tmp_path: Path, drawn: list[Any]) -> None:
    series = seven(3)
    draw_comparison(tmp_path / "a.png", series, "rounds", "MSE")
    axes = drawn[0].axes[0]
    assert len(axes.lines) == len(axes.collections) == 7
    for one, item, band in zip(series, axes.lines, axes.collections, strict=True):
        ys = np.stack([y for _, y in one.runs])
        np.testing.assert_array_equal(item.get_ydata(), ys.mean(axis=0))
        corners = band.get_paths()[0].vertices[:, 1]
        assert (corners.min(), corners.max()) == (ys.min(), ys.max())
    near = drawn[0].axes[1]
    assert len(near.lines) == 7
    assert len(near.collections) == 0  # the bands would cover each other
    assert near.get_title("left") == "the framed part, enlarged, means alone"
    frame = axes.patches[-1]
    assert not frame.get_fill()
    assert frame.get_zorder() > max(item.get_zorder() for item in axes.collections)
    np.testing.assert_allclose([frame.get_y(), frame.get_y() + frame.get_height()], near.get_ylim())
    assert "mean and range of the repetitions" in texts(drawn[0])
    assert "dashed: sends nothing" in texts(drawn[0])


@pytest.mark.parametrize("rises", [False, True])
def test_what_is_published_and_what_others_reach_are_lines(
    tmp_path: Path, drawn: list[Any], rises: bool
) -> None:
    series = [line("a", 1.0, 1.1, 1.2), replace(line("b", 1.0, 1.15, 1.25), published=2.0)]
    levels = {"greedy": 3.0, "unknown": math.nan}
    draw_comparison(tmp_path / "a.png", series, "epoch", "ratio", rises=rises, levels=levels)
    png_size(tmp_path / "a.png")
    axes = drawn[0].axes[0]
    first, second, published, greedy = axes.lines
    for item, value in ((published, 2.0), (greedy, 3.0)):
        assert list(item.get_ydata()) == [value] * 2
        assert list(item.get_xdata()) == [0, 1]  # of the axis
        assert axes.get_ylim()[0] < value < axes.get_ylim()[1]
        assert item.get_linestyle() != "-"
    assert published.get_color() == second.get_color()
    assert greedy.get_color() not in (first.get_color(), second.get_color())
    assert [key.replace("\xa0", " ") for key in legend(drawn[0])] == [
        "3.00 greedy", "1.25 b (published 2)", "1.20 a", "unknown",
    ]  # fmt: skip
    assert "thin dotted lines: as published" in texts(drawn[0])
    draw_comparison(tmp_path / "a.png", [line("a", 1.0, 1.1)], "epoch", "ratio")
    assert "published" not in texts(drawn[1])


def test_repetitions_of_different_lengths_are_lines_of_their_own(tmp_path: Path, drawn: list[Any]) -> None:
    short, long = line("", 3.0, 2.0).runs[0], line("", 3.0, 2.0, 1.0).runs[0]
    draw_comparison(tmp_path / "a.png", [Series("a", [short, long])], "epoch", "MSE")
    axes = drawn[0].axes[0]
    assert [len(item.get_xdata()) for item in axes.lines] == [2, 3]
    assert len(axes.collections) == 0
    assert legend(drawn[0]) == ["1.50 a"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_what_diverged_is_named_and_does_not_stretch_the_axis(
    tmp_path: Path, drawn: list[Any], bad: float
) -> None:
    wild = line("wild", 0.5, 1e30, 1e150, bad)
    some = Series("some", [wild.runs[0], line("", 0.5, 0.2, 0.1, 0.002).runs[0]])
    calm = line("calm", 0.4, 0.1, 0.02, 0.01)
    draw_comparison(tmp_path / "a.png", [wild, some, calm], "epoch", "MSE")
    axes = drawn[0].axes[0]
    assert legend(drawn[0]) == ["0.0100 calm", "wild (diverged)", "some (1 of 2 diverged)"]
    low, high = axes.get_ylim()
    assert 0.001 < low < 0.002
    assert 0.5 < high < 2
    assert [len(item.get_xdata()) for item in axes.lines] == [3, 3, 4, 4]


def test_a_missing_value_is_left_out(tmp_path: Path, drawn: list[Any]) -> None:
    draw_comparison(tmp_path / "a.png", [line("a", 3.0, math.nan, 1.0)], "epoch", "MSE")
    np.testing.assert_array_equal(drawn[0].axes[0].lines[0].get_xdata(), [1, 3])
    assert legend(drawn[0]) == ["1.00 a"]


HARD: dict[str, list[Series]] = {
    "one epoch": [line("a", 0.3), line("b", 0.02, sends=False)],
    "one value": [line("a", 0.3, 0.3), line("b", 0.3, 0.3)],
    "one series": [line("a", 0.3, 0.1, 0.01)],
    "no run": [Series("a", []), Series("b", [(np.empty(0), np.empty(0))] * 2), line("c", 1.0, 2.0)],
    "nothing at all": [Series("a", [])],
    "zeros": [line("a", 0.0, 0.0), line("b", 1.0, 1e-9)],
    "only zeros": [line("a", 0.0, 0.0)],
    "negative": [line("a", -3.0, 100.0, -2.0)],
    "tiny and huge": [line("a", 1e-199, 1e199), line("b", 1e-320, 1e199), line("c", 1e199, 9e199)],
    "all diverged": [line("a", 1.0, 1.5, 1e99, math.inf)],
    "nothing finite": [line("a", math.nan, math.inf)],
    "never twice": [Series("a", [line("", 1.0, math.nan, 2.0).runs[0], line("", math.nan, 1.0, 2.0).runs[0]])],
    "endless rounds": [Series("a", [(np.array([1e15, 2e15]), np.array([1.0, 2.0]))])],
    "bad rounds": [Series("a", [(np.array([math.nan, 1e300, -1.0]), np.array([1.0, 2.0, 3.0]))])],
    "equal but for the last bit": [line("a", 1.0, 0.01), line("b", 1.0, 0.01 + 2e-18)],
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_any_series_can_be_drawn(tmp_path: Path, drawn: list[Any], name: str) -> None:
    draw_comparison(tmp_path / "a.png", HARD[name], "rounds", "MSE")
    assert png_size(tmp_path / "a.png") in (ONE_PANEL, TWO_PANELS)
    assert len(legend(drawn[0])) == len(HARD[name])
    assert ("no finite value" in texts(drawn[0])) == (name in ("nothing at all", "nothing finite"))
    for axes in drawn[0].axes:
        assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()


@pytest.mark.parametrize(("last", "scale"), [(1.0, "linear"), (1.24, "linear"), (1.26, "log"), (9.0, "log")])
def test_y_is_logarithmic_from_a_span_of_eight_on(
    tmp_path: Path, drawn: list[Any], last: float, scale: str
) -> None:
    draw_comparison(tmp_path / "a.png", [line("a", 0.157, last)], "epoch", "MSE")
    assert drawn[0].axes[0].get_yscale() == scale


def test_much_longer_series_make_x_logarithmic(tmp_path: Path, drawn: list[Any]) -> None:
    for rounds, scale in ((5, "linear"), (4010, "log")):
        slow = Series("b", [(EPOCHS * rounds, decay(0.3, 0.011, 0.02))])
        draw_comparison(tmp_path / "a.png", [line("a", *decay(0.3, 0.01, 0.01)), slow], "rounds", "MSE")
        assert drawn[-1].axes[-1].get_xscale() == scale
        assert drawn[-1].axes[-1].get_xlabel() == "rounds"


def test_a_curve_that_ends_far_above_does_not_keep_the_others_small(tmp_path: Path, drawn: list[Any]) -> None:
    series = [line(f"a{i}", 1.0, 0.5, 0.01 + 1e-5 * i) for i in range(6)] + [line("far", 1.0, 0.5, 0.02)]
    draw_comparison(tmp_path / "a.png", series, "epoch", "MSE")
    low, high = drawn[0].axes[1].get_ylim()
    assert 0.0099 < low < 0.01
    assert 0.01005 < high < 0.0101


NAMES = ["$x^2", "$\\frac$", "a_b", "_a", "東京", "Zürich", "\\alpha", "%", "$", ""]


def test_names_are_written_literally(tmp_path: Path, drawn: list[Any]) -> None:
    series = [line(name, 0.3, 0.2 - 0.01 * k) for k, name in enumerate(NAMES)]
    draw_comparison(tmp_path / "a.png", series, "rounds", "MSE", title="$\\t_{i", note="$\\n_{o")
    assert [text.split(" ", 1)[1:] for text in legend(drawn[0])] == [[name] if name else [] for name in NAMES]
    assert {"$\\t_{i", "$\\n_{o"} <= set(texts(drawn[0]).split("\n"))
    points = [Point(name, 1.0 + k, k % 3, group=f"{name} ") for k, name in enumerate(NAMES)]
    points.append(Point("$\\frac", math.nan, 0.0, group="$\\frac"))
    draw_scatter(tmp_path / "b.png", points, "x", "y", title="$\\frac")
    assert [text.get_text() for text in drawn[1].axes[0].texts] == NAMES
    assert [text.get_text() for text in drawn[1].axes[0].get_legend().get_texts()][:-1] == [
        f"{n} " for n in NAMES
    ]
    assert "not on the axes: $\\frac, $\\frac (nan, 0)" in texts(drawn[1])


def by_gap() -> list[Point]:
    draws = np.random.default_rng(1)
    return [
        Point(name, gap, factor * (0.01 + 0.00015 / gap**0.5 * draws.uniform(0.8, 1.2)), (0.0, 0.0002), group)
        for name, gap in TOPOLOGIES.items()
        for group, factor in (("D-SGD", 1.0), ("D-Adam", 0.97))
    ]


def test_points_against_the_spectral_gap(tmp_path: Path, drawn: list[Any]) -> None:
    points = by_gap()
    draw_scatter(tmp_path / "a.png", points, r"spectral gap $1-\lambda_2$", "MSE", title="Convergence")
    assert png_size(tmp_path / "a.png") == SCATTER
    axes = drawn[0].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert len(axes.containers) == 2
    for container, group in zip(axes.containers, ("D-SGD", "D-Adam"), strict=True):
        own = [point for point in points if point.group == group]
        np.testing.assert_array_equal(container[0].get_xdata(), [point.x for point in own])
        np.testing.assert_array_equal(container[0].get_ydata(), [point.y for point in own])
        assert not container.has_xerr
        (bars,) = container[2]
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(np.ptp(ends, axis=1), 0.0004)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["D-SGD", "D-Adam"]
    written = [text.get_text() for text in axes.texts]
    assert sorted(written) == sorted(
        {point.label for point in points}
    )  # once for both groups, above each other
    assert "not on the axes" not in texts(drawn[0])


def crowd(count: int) -> list[Point]:
    at = np.random.default_rng(2).normal(1.0, 0.1, (count, 2))
    return [Point(f"node {k}", float(x), float(y)) for k, (x, y) in enumerate(at)]


@pytest.mark.parametrize("points", [by_gap(), crowd(30), [Point(f"same {k}", 1, 2) for k in range(7)]])
def test_labels_cover_neither_each_other_nor_points_and_stay_inside(
    tmp_path: Path, drawn: list[Any], points: list[Point]
) -> None:
    draw_scatter(tmp_path / "a.png", points, "x", "y")
    axes = drawn[0].axes[0]
    from matplotlib.text import Text

    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines to the points
    assert len(boxes) == len({point.label for point in points})
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    centres = axes.transData.transform([(point.x, point.y) for point in points])
    assert not any(box.contains(*centre) for box in boxes for centre in centres)
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in box.corners())


FEW: dict[str, list[Point]] = {
    "one": [Point("a", 1.0, 2.0)],
    "origin": [Point("a", 0.0, 0.0, (0.0, 1.0))],
    "same x": [Point("a", 1.0, 2.0), Point("b", 1.0, 3.0)],
    "huge": [Point("a", 1e-190, 1e190), Point("b", 1e190, 1e-190), Point("c", 1.0, 1.0, (1e199, 1e199))],
    "long bars": [Point("a", 0.001, 5.0, (0.1, 9.0)), Point("b", 1.0, 500.0, (0.1, 600.0))],
    "bad bars": [Point("a", 1.0, 2.0, (math.nan, math.inf)), Point("b", 2.0, 2.0, (-1.0, 0.0))],
    "negative": [Point("a", -1.0, -100.0), Point("b", 100.0, 1.0)],
    "no label": [Point("", 1.0, 2.0), Point("x" * 200, 2.0, 2.0)],
    "12 groups": [Point(f"p{k}", k, k * k, group=f"group {k}") for k in range(12)],
    "one without a group": [Point("a", 1.0, 2.0), Point("b", 2.0, 3.0, group="g")],
}


@pytest.mark.parametrize("name", FEW)
def test_any_points_can_be_drawn(tmp_path: Path, drawn: list[Any], name: str) -> None:
    draw_scatter(tmp_path / "a.png", FEW[name], "x", "y")
    assert png_size(tmp_path / "a.png") == SCATTER
    axes = drawn[0].axes[0]
    assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
    assert len(axes.texts) == len(FEW[name]) - (name == "12 groups")  # its first has y = 0
    assert (axes.get_legend() is not None) == (name in ("12 groups", "one without a group"))


def test_a_note_says_what_the_bars_are(tmp_path: Path, drawn: list[Any]) -> None:
    for spread in (0.0, 0.1):
        draw_scatter(tmp_path / "a.png", [Point("a", 1.0, 2.0, (0.0, spread))], "x", "y")
        assert ("bars: standard deviation over repetitions" in texts(drawn[-1])) == (spread > 0)


@pytest.mark.parametrize(("last", "scale"), [(7.9, "linear"), (8.1, "log")])
def test_points_are_on_a_logarithmic_axis_from_a_span_of_eight_on(
    tmp_path: Path, drawn: list[Any], last: float, scale: str
) -> None:
    draw_scatter(tmp_path / "a.png", [Point("a", 1.0, 1.0), Point("b", last, last)], "x", "y")
    assert (drawn[0].axes[0].get_xscale(), drawn[0].axes[0].get_yscale()) == (scale, scale)


def test_a_marker_in_one_place_with_another_is_seen_behind_it(tmp_path: Path, drawn: list[Any]) -> None:
    points = [Point("p", 1.0, 1.0, group=name) for name in "abc"] + [Point("q", 2.0, 2.0, group="a")]
    draw_scatter(tmp_path / "a.png", points, "x", "y")
    axes = drawn[0].axes[0]
    behind = [item for item in axes.collections if len(item.get_offsets()) and hasattr(item, "get_sizes")]
    sizes = [item.get_sizes().tolist() for item in behind]
    assert len(sizes) == 2  # of a and b, and not of the point that stands alone
    assert sizes[0] > sizes[1] > [36.0]
    assert [len(item.get_offsets()) for item in behind] == [1, 1]


def test_points_that_cannot_be_shown_are_named(tmp_path: Path, drawn: list[Any]) -> None:
    points = [
        Point("a", 0.001, 1.0),
        Point("b", 1.0, 1.0),
        Point("apart", 0.0, 2.0),
        Point("c", 0.1, math.nan),
    ]
    draw_scatter(tmp_path / "a.png", points, "x", "y")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["a", "b"]
    assert "not on the axes: apart (0, 2); c (0.1, nan)" in texts(drawn[0])
    draw_scatter(tmp_path / "b.png", points[-1:], "x", "y")
    assert "not on the axes: c (0.1, nan)" in texts(drawn[1])


@pytest.mark.parametrize(
    ("column", "final", "name"),
    [
        ("disagreement", True, "disagreement at the end"),
        ("mse_train", True, "training MSE at the end"),
        ("mse_train", False, "training MSE"),
        ("disagreement_at_10", True, "disagreement after epoch 10"),
        ("mean_degree", True, "mean degree"),
    ],
)
def test_an_axis_of_a_sweep_says_when(column: str, final: bool, name: str) -> None:
    assert pictures._name(column, final=final) == name


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no series"):
        draw_comparison(tmp_path / "a.png", [], "x", "y")
    with pytest.raises(InputError, match="no point"):
        draw_scatter(tmp_path / "a.png", [], "x", "y")


def test_no_pyplot_and_the_same_bytes_again(tmp_path: Path) -> None:
    code = (
        "import sys; import numpy as np; from pathlib import Path\n"
        "from fdtrain.figures import Point, Series, draw_comparison, draw_scatter\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"to = Path({str(tmp_path)!r})\n"
        "draw_comparison(to / 'a.png', [Series('a', [(np.arange(9.0), np.arange(9.0))])], 'x', 'y')\n"
        "draw_scatter(to / 'b.png', [Point('a', 1.0, 2.0)], 'x', 'y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    first = [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    draw_comparison(tmp_path / "a.png", [Series("a", [(np.arange(9.0), np.arange(9.0))])], "x", "y")
    draw_scatter(tmp_path / "b.png", [Point("a", 1.0, 2.0)], "x", "y")
    assert [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")] == first
