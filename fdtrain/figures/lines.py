"""One quantity against another that was set, such as a rate of loss: a line per approach, with error bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.figures.canvas import (
    MARKERS,
    PALETTE,
    in_units,
    limits,
    readable,
    set_scale,
    sheet,
    write_around,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

LINES = (7.4, 4.2)  # inches
DASHES = ("-", "--", ":", "-.")
SPAN = 8  # from this ratio of the largest to the smallest value on, y is logarithmic
WIDE = 20  # and x
TICKS = 12  # values of x that are named at a logarithmic axis at most
NAMED = 32  # characters of a label
THIN, THICK = (1.2, 4.5), (2.4, 8.0)  # points, of line and marker: the last one's and the first one's


@dataclass(frozen=True)
class Line:
    """Means at the values of x, with their standard deviations over repetitions.

    Lines of the same `group` have the same colour, and differ in marker and dash.
    """

    label: str
    x: Array  # [N], ascending
    y: Array  # [N]
    spread: Array  # [N]
    group: str = ""


def draw_lines(
    path: Path,
    lines: Sequence[Line],
    xlabel: str,
    ylabel: str,
    linear: str = "",
    *,
    notes: Sequence[str] = (),
) -> None:
    """Draw lines; y is logarithmic where its values span 8 and more, x where they span 20, both with a place for 0.

    Not so those that `linear` names: ``x``, ``y`` or ``xy``. Values beyond what an axis can show are named below.

    Raises:
        InputError: there is no line.
    """
    if not lines:
        raise InputError(f"{path}: there is no line to draw")
    with sheet(path, LINES) as figure:
        axes = figure.add_subplot()
        x, y = (readable(np.concatenate([getattr(line, side) for line in lines])) for side in "xy")
        spread = np.nan_to_num(readable(np.concatenate([line.spread for line in lines])))
        seen: NDArray[np.bool_] = np.isfinite(x) & np.isfinite(y)
        units = {"x": "", "y": ""}
        if seen.any():
            units["x"] = _scale(axes, "x", x[seen], np.inf if "x" in linear else WIDE)
            units["y"] = _scale(axes, "y", y[seen], np.inf if "y" in linear else SPAN, spread[seen])
        axes.set(xlabel=xlabel + units["x"], ylabel=ylabel + units["y"])
        drawn = [_draw(axes, line, style) for line, style in zip(lines, _styles(lines), strict=True)]
        axes.grid(visible=True)
        if len(lines) > 1:
            _write_legend(figure, drawn, [line.label for line in lines])
        out = [
            f"{line.label} ({at:.3g}, {value:.3g})"
            for line in lines
            for at, value in zip(line.x, line.y, strict=True)
            if not np.isfinite(readable(np.array([at, value]))).all()
        ]
        bars = "bars: standard deviation over repetitions" if spread[seen].any() else ""
        write_around(figure, "", [bars, *notes, "not on the axes: " + "; ".join(out) if out else ""])


def _styles(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Colour, marker and dash of every line: a colour per group, or per line where there are no groups."""
    groups = list(dict.fromkeys(line.group for line in lines))
    styles = []
    for k, line in enumerate(lines):
        grouped = len(groups) > 1
        within = [other for other in lines[:k] if other.group == line.group]
        place = groups.index(line.group) if grouped else k
        number = len(within) if grouped else 0
        dash = number if grouped else k // len(PALETTE)
        styles.append(
            {
                "color": PALETTE[place % len(PALETTE)],
                "marker": MARKERS[(number if grouped else k) % len(MARKERS)],
                "linestyle": DASHES[dash % len(DASHES)],
                "zorder": 2 + (k + 1) / len(lines),
                **_sizes(k / max(1, len(lines) - 1)),
            }
        )
    return styles


def _sizes(place: float) -> dict[str, float]:
    """Line and marker at `place`, 0 for the first line and 1 for the last: the first is seen around what covers it."""
    line, marker = (thick + place * (thin - thick) for thin, thick in zip(THIN, THICK, strict=True))
    return {"linewidth": line, "markersize": marker}


def _draw(axes: Axes, line: Line, style: dict[str, Any]) -> Any:
    """Draw a line; the part of it that stands for it in a legend."""
    bars = np.nan_to_num(readable(line.spread))
    drawn = axes.errorbar(
        readable(line.x),
        readable(line.y),
        yerr=bars if bars.any() else None,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=0.9,
        capsize=2,
        **style,
    )
    return drawn.lines[0]


def _write_legend(figure: Figure, drawn: Sequence[Any], labels: Sequence[str]) -> None:
    places = [str(k) for k in range(len(labels))]
    box = figure.legend(drawn, places, loc="outside right upper", fontsize=8, handlelength=3.2)
    for text, label in zip(box.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label if len(label) <= NAMED else label[: NAMED - 1] + "…")


def _scale(axes: Axes, which: str, values: Array, ratio: float, spread: Array | None = None) -> str:
    """Set the axis `which` for values and, around them, bars; what has to stand behind its name."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high, log = limits(values, ratio)
    bars = np.zeros_like(values) if spread is None else spread
    high = max(high, float((values + bars).max()))
    if not log:
        set_scale(axes, which, min(low, float((values - bars).min())), high, log=False, margin=0.05)
        return in_units(axis, high)
    lowest = float((values - bars)[values > 0].min())
    low = max(min(low, lowest), low / 2)  # a long bar runs off
    set_scale(axes, which, low, high, log=True, margin=0.05)
    named = np.unique(values) if which == "x" else None
    if named is not None and len(named) <= TICKS:
        _name(axis, named[named > 0])
    if (values == 0).any():
        _make_place_for_zero(axes, which, low, high)
    return ""


def _name(axis: Axis, values: Array) -> None:
    """Ticks at these values and nowhere else."""
    from matplotlib.ticker import NullFormatter

    axis.set_ticks(values)
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def _make_place_for_zero(axes: Axes, which: str, low: float, high: float) -> None:
    """Make a logarithmic axis linear below its lowest value, so that 0 stands a little beside it."""
    from matplotlib.ticker import NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    ticks, form = (
        [tick for tick in axis.get_majorticklocs() if low <= tick <= high],
        axis.get_major_formatter(),
    )
    decades = float(np.log10(high / low))
    set_symmetric = axes.set_xscale if which == "x" else axes.set_yscale
    set_symmetric("symlog", linthresh=low, linscale=max(0.2, 0.1 * decades))
    axis.set_ticks([0.0, *ticks])
    axis.set_major_formatter(form)
    axis.set_minor_locator(NullLocator())
    axes.set(**{f"{which}lim": (-0.3 * low, high * 10 ** (0.05 * decades))})
