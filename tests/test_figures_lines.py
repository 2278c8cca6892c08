"""Lines against a quantity that was set: what is drawn, on which axes, and what is said below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import drawn as drawn
from pictures import png_size
from pictures import strict_arithmetic as strict_arithmetic

from fdtrain.errors import InputError
from fdtrain.figures import Line, draw_lines

RATES = np.array([0.0, 0.1, 0.3, 0.5, 0.9])


def line(label: str, y: Any, x: Any = RATES, spread: float = 0.0, group: str = "") -> Line:
    values = np.array(y, np.float64)
    return Line(label, np.array(x, np.float64), values, np.full(len(values), spread), group)


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(item.get_text() for item in figure.findobj(Text) if item.get_visible())


def test_lines_have_their_values_bars_and_names(tmp_path: Path, drawn: list[Any]) -> None:
    lines = [line("hold", 1 + RATES, spread=0.1), line("zero", 1 + 3 * RATES, spread=0.2)]
    draw_lines(tmp_path / "a.png", lines, "rate", "MSE")
    assert png_size(tmp_path / "a.png") == (1110, 630)
    axes = drawn[0].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "MSE")
    for container, wanted in zip(axes.containers, lines, strict=True):
        np.testing.assert_array_equal(container[0].get_xdata(), wanted.x)
        np.testing.assert_array_equal(container[0].get_ydata(), wanted.y)
        ends = np.array([segment[:, 1] for segment in container[2][0].get_segments()])
        np.testing.assert_allclose(np.ptp(ends, axis=1), 2 * wanted.spread)
        low, high = axes.get_ylim()
        assert low < ends.min()
        assert high > ends.max()
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["hold", "zero"]
    assert "bars: standard deviation over repetitions" in texts(drawn[0])


def test_one_line_needs_no_legend_and_no_word_about_bars(tmp_path: Path, drawn: list[Any]) -> None:
    draw_lines(tmp_path / "a.png", [line("a", RATES)], "x", "y", notes=["a note"])
    assert not drawn[0].legends
    assert "bars" not in texts(drawn[0])
    assert "a note" in texts(drawn[0])


@pytest.mark.parametrize(
    ("values", "linear", "scale"),
    [
        ([1.0, 2, 3, 4, 5], "", "linear"),
        ([1.0, 2, 4, 8, 8], "", "log"),
        ([0.0, 2, 4, 8, 16], "", "symlog"),
        ([-1.0, 2, 4, 8, 16], "", "linear"),
        ([1.0, 2, 4, 8, 16], "y", "linear"),
        ([0.0, 0, 0, 0, 0], "", "linear"),
        ([1e-300, 1e300, 1, 1, 1], "", "linear"),
    ],
)
def test_y_is_logarithmic_from_a_span_of_eight_on(
    tmp_path: Path, drawn: list[Any], values: list[float], linear: str, scale: str
) -> None:
    draw_lines(tmp_path / "a.png", [line("a", values, spread=0.5)], "x", "y", linear)
    axes = drawn[0].axes[0]
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert all(low <= value <= high for value in values if value < 1e200)


def test_zero_has_a_place_on_a_logarithmic_axis_whose_ticks_are_the_values(
    tmp_path: Path, drawn: list[Any]
) -> None:
    speeds = [0.0, 1, 2, 5, 10, 50]
    draw_lines(tmp_path / "a.png", [line("a", range(1, 7), speeds)], "speed", "y")
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "symlog"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "2", "5", "10", "50"]
    places = axes.transData.transform(np.column_stack([speeds, np.ones(6)]))[:, 0]
    assert np.diff(places).min() > 20  # pixels: none is on another
    assert axes.get_xlim()[0] < 0


def test_lines_of_a_group_share_the_colour_and_differ_in_dash_and_marker(
    tmp_path: Path, drawn: list[Any]
) -> None:
    lines = [line(f"{g} {k}", RATES + k, group=g) for g in "ab" for k in range(3)]
    draw_lines(tmp_path / "a.png", lines, "x", "y")
    styles = [
        (one[0].get_color(), one[0].get_linestyle(), one[0].get_marker())
        for one in drawn[0].axes[0].containers
    ]
    assert len(set(styles)) == 6
    assert [colour for colour, _, _ in styles] == [styles[0][0]] * 3 + [styles[3][0]] * 3
    assert [style[1:] for style in styles[:3]] == [style[1:] for style in styles[3:]]


def test_what_a_later_line_covers_is_seen_around_it(tmp_path: Path, drawn: list[Any]) -> None:
    draw_lines(tmp_path / "a.png", [line(name, RATES) for name in "abc"], "x", "y")
    found = [one[0] for one in drawn[0].axes[0].containers]
    for attribute in ("get_linewidth", "get_markersize"):
        sizes = [getattr(one, attribute)() for one in found]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 3


def test_what_cannot_be_shown_is_named_and_names_are_literal(tmp_path: Path, drawn: list[Any]) -> None:
    lines = [line("$\\frac", [1, np.nan, 3, np.inf, 5]), line("b" * 50, [1, 2, 3, 1e250, 5])]
    draw_lines(tmp_path / "a.png", lines, "x", "y")
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["$\\frac", "b" * 31 + "…"]
    shown = " ".join(texts(drawn[0]).split())
    assert "not on the axes: $\\frac (0.1, nan); $\\frac (0.5, inf)" in shown
    assert "(0.5, 1e+250)" in shown


@pytest.mark.parametrize(
    "lines",
    [
        [line("a", [np.nan] * 5)],
        [line("a", [2.0], [1.0])],
        [line("a", [2.0, 2.0], [3.0, 3.0])],
        [line(f"line {k}", RATES * k) for k in range(20)],
        [line("a", [1e9, 2e9], [1e-9, 1e9], spread=1e12)],
    ],
)
def test_any_lines_can_be_drawn(tmp_path: Path, lines: list[Line]) -> None:
    draw_lines(tmp_path / "a.png", lines, "x", "y")
    png_size(tmp_path / "a.png")


def test_no_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no line"):
        draw_lines(tmp_path / "a.png", [], "x", "y")
