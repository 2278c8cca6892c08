"""Runs next to each other: a measure as curves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.figures.canvas import (
    MARKERS,
    PALETTE,
    STEPS,
    in_units,
    limits,
    readable,
    set_scale,
    sheet,
    write_around,
)
from fdtrain.measure import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

CURVES, ENLARGED = (8.0, 4.2), (8.0, 6.6)  # inches
LINE = 0.2  # inches of a line of the legend
DASHES: tuple[Any, ...] = ("-", (0, (1, 1.2)), (0, (7, 1.5, 1, 1.5)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
SILENT: Any = (0, (4, 2))  # the dashes of a series that sends nothing
BESIDE = ((0, (5, 2)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.5)), (0, (2, 1.5)))  # of what is no series of its own
PUBLISHED: Any = (0, (1, 2.2))  # the dots of what is published of a series
GREYS = ("#555555", "#777777", "#8A8A8A", "#999999")
TAIL = 0.1  # the part of a curve that counts as its end


@dataclass(frozen=True)
class Series:
    """Curves of one kind; a centralized baseline, which sends nothing, is drawn dashed."""

    label: str
    runs: Sequence[tuple[Array, Array]]  # x and y of every repetition
    sends: bool = True
    value: float | None = None  # what the legend tells; else the mean of the last values
    published: float | None = None  # what others report, a horizontal line


@dataclass(frozen=True)
class Lower:
    """A second panel, with a line at 0: other curves of the same series, in the same order."""

    title: str
    ylabel: str
    series: Sequence[Series]

    @classmethod
    def minus(cls, baseline: str, measure: Measure, series: Sequence[Series]) -> Lower:
        """Runs minus a baseline."""
        return cls(f"minus {baseline} on the same mini-batches", measure.with_unit("difference"), series)


@dataclass(frozen=True)
class _Curve:
    """What is drawn of a series: a line per repetition, or their mean in a band."""

    label: str
    lines: list[tuple[Array, Array]]  # finite
    band: tuple[Array, Array] | None
    kept: Array  # what has to be seen of y: all, but of a repetition that diverged only up to twice its start
    tail: Array  # the last part of y, of repetitions that did not diverge
    end: float  # the mean of the last values; NaN where a repetition diverged or there is none
    style: dict[str, Any]
    level: float | None = None  # a horizontal line in addition


def draw_comparison(
    path: Path,
    series: Sequence[Series],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    note: str = "",
    rises: bool = False,
    beside: Sequence[Series] = (),
    levels: Mapping[str, float] | None = None,
    values: str = "last value",
    lower: Lower | None = None,
) -> None:
    """Draw y against x; the legend is ordered by the last values, and where these are close, enlarge them.

    Repetitions with the same x become their mean in a band from minimum to maximum, which the enlargement
    leaves out; others, and those of which one diverged, are lines of their own. What `rises` is best where it is
    highest, and on a linear axis. What stands `beside` to compare with is grey, and so are `levels`, which have one
    value all along; a `lower` panel takes the place of the enlargement. `values` names the numbers in the legend.
    `xlabel` and `ylabel` may hold mathematics, the rest is literal.

    Raises:
        InputError: there is no series.
    """
    if not series:
        raise InputError(f"{path}: there is no series to draw")
    with np.errstate(all="ignore"):
        own = [_curve(one, number) for number, one in enumerate(series)]
        flat = [_level(label, value) for label, value in (levels or {}).items()]
        others = [_curve(one, 0) for one in beside] + flat
        others = [_grey(curve, number) for number, curve in enumerate(others)]
        curves = [*own, *others]
        seen = np.concatenate([curve.kept for curve in curves])
        span = limits(seen, np.inf if rises else 8) if len(seen) else None
        near = _near(own, *span, rises=rises) if span and not lower else None
    width, height = ENLARGED if near or lower else CURVES
    rows = sum(max(1, len(textwrap.wrap(curve.label, 27))) for curve in curves)
    with sheet(path, (width, max(height, LINE * rows + 1.0))) as figure:
        panels = figure.subplots(2 if near or lower else 1, sharex=True, squeeze=False)[:, 0]
        for axes in panels[: 1 if lower else 2]:
            _draw_curves(axes, curves, bands=axes is panels[0])
            axes.set_ylabel(ylabel)
        if span:
            set_scale(panels[0], "y", *span[:2], log=span[2], margin=0.04)
        else:
            panels[0].set(xticks=[], yticks=[])
            panels[0].text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
        if near:
            panels[0].axhspan(*near[:2], color="#EBEBEB", zorder=0, linewidth=0)
            panels[0].axhspan(*near[:2], fill=False, edgecolor="#444444", linewidth=0.8, zorder=4)
            without = ", means alone" if any(curve.band for curve in own) else ""
            panels[1].set_title(f"the framed part, enlarged{without}", loc="left", fontsize=9)
            set_scale(panels[1], "y", *near[:2], log=near[2], margin=0.0)
        if lower:
            draw_lower(panels[1], lower)
        _scale_x(panels[-1], curves, xlabel)
        _write_legend(figure, curves, values)
        silent = "dashed: sends nothing" if any(not one.sends for one in series) else ""
        banded = "line and band: mean and range of the repetitions" if any(one.band for one in curves) else ""
        dotted = any(one.published is not None for one in series)
        write_around(figure, title, [banded, note or silent, "thin dotted lines: as published" * dotted])


def _curve(series: Series, number: int) -> _Curve:
    runs = [(_numbers(x), _numbers(y)) for x, y in series.runs if len(y)]
    level = series.published
    sound = [bool(np.isfinite(y[-1])) for _, y in runs]
    end = float(np.mean([y[-1] for _, y in runs])) if runs else np.nan
    end = series.value if series.value is not None and all(sound) else end
    label, band = series.label, None
    if not runs:
        label += " (no value)"
    elif not all(sound):
        label += f" ({sound.count(False)} of {len(runs)} diverged)" if any(sound) else " (diverged)"
    elif len(runs) > 1 and all(np.array_equal(runs[0][0], x) for x, _ in runs):
        stack = np.stack([y for _, y in runs])
        runs = [(runs[0][0], stack.mean(axis=0))]
        good = np.isfinite(runs[0][0]) & np.isfinite(runs[0][1])
        band = (stack[:, good].min(axis=0), stack[:, good].max(axis=0))
    label += "" if level is None else f" (published\N{NO-BREAK SPACE}{level:.4g})"
    finite = [np.isfinite(x) & np.isfinite(y) for x, y in runs]
    lines = [(x[good], y[good]) for (x, y), good in zip(runs, finite, strict=True)]
    parts = [y if well else y[y <= y[:1] + np.abs(y[:1])] for (_, y), well in zip(lines, sound, strict=False)]
    style = {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": DASHES[number // len(PALETTE) % len(DASHES)] if series.sends else SILENT,
        "marker": MARKERS[number % len(MARKERS)],
    }
    kept = np.concatenate([np.array([] if level is None else [level]), *parts, *(band or ())])
    tails = [y[-max(1, round(TAIL * len(y))) :] for (_, y), well in zip(lines, sound, strict=False) if well]
    tail = np.concatenate([np.empty(0), *tails])
    return _Curve(label, [line for line in lines if len(line[0])], band, kept, tail, end, style, level)


def _level(label: str, value: float) -> _Curve:
    """What has one value all along."""
    number = float(_numbers(np.array(value)))
    known = np.isfinite(number)
    return _Curve(
        label, [], None, np.array([number])[[known]], np.empty(0), number, {}, number if known else None
    )


def _grey(curve: _Curve, number: int) -> _Curve:
    style = {"color": GREYS[number % len(GREYS)], "linestyle": BESIDE[number % len(BESIDE)], "marker": ""}
    return replace(curve, band=None, style=style)


def _numbers(values: Array) -> Array:
    return readable(np.asarray(values, dtype=np.float64))


def _near(
    curves: Sequence[_Curve], low: float, high: float, log: bool, *, rises: bool
) -> tuple[float, float, bool] | None:
    """The limits within which most of the curves end, the best ones, if that is but a small part."""

    def to(value: float) -> float:
        return float(np.log(max(value, low))) if log else value

    tails = [curve.tail for curve in curves if len(curve.tail)]
    tails.sort(key=lambda tail: float(tail[-1]), reverse=rises)
    found, size = None, np.inf
    for count in range(max(2, round(0.6 * len(tails))), len(tails) + 1):
        values = np.concatenate(tails[:count])
        bottom, top = to(values.min()), to(values.max())
        if top - bottom > min(2 * size, 0.25 * (to(high) - to(low))):
            break  # one that ends far from the others shall not keep them small
        if top - bottom > 1e-6 * max(abs(top), abs(bottom)):  # otherwise nothing is to be seen there
            size = top - bottom
            below, above = (0.6, 0.06) if rises else (0.06, 0.6)  # more on the side that curves come from
            found = (bottom - below * size, top + above * size)
    if found is None or not log:
        return found and (*found, False)
    bottom, top = (float(np.exp(value)) for value in found)
    return bottom, top, top >= 8 * bottom


def _draw_curves(axes: Axes, curves: Sequence[_Curve], *, bands: bool) -> None:
    many = len(curves) > len(PALETTE)
    for number, curve in enumerate(curves):
        for x, y in curve.lines:
            step = max(1, len(x) // 5)  # markers along the line, not where those of other lines are
            marked = {*range(step * number // len(curves), len(x) - step // 3, step), len(x) - 1}
            axes.plot(
                x,
                y,
                **curve.style,
                linewidth=1.1 if many or len(curve.lines) > 1 else 1.4,
                markersize=6.5 if curve.style["marker"] in "PX" else 5,
                markeredgecolor="white",
                markeredgewidth=0.6,
                markevery=sorted(marked),
                zorder=3,
            )
        if bands and curve.band and curve.lines:
            axes.fill_between(
                curve.lines[0][0], *curve.band, color=curve.style["color"], alpha=0.22, linewidth=0, zorder=2
            )
    for curve in curves:
        if curve.level is not None:
            dashes = PUBLISHED if curve.style["marker"] else curve.style["linestyle"]
            axes.axhline(curve.level, color=curve.style["color"], linestyle=dashes, linewidth=1.1, zorder=2.4)
    axes.grid(visible=True)


def draw_lower(axes: Axes, lower: Lower, **style: Any) -> None:
    """The second panel, its curves in the `style` of the first panel's, or as those of :func:`draw_comparison`."""
    from matplotlib.ticker import MaxNLocator

    curves = [_curve(one, number) for number, one in enumerate(lower.series)]
    curves = [replace(curve, style={**curve.style, **style}) for curve in curves]
    _draw_curves(axes, curves, bands=True)
    axes.axhline(0.0, color=GREYS[0], linestyle=BESIDE[0], linewidth=1.1, zorder=2.5)
    axes.set_title(lower.title, loc="left", fontsize=9)
    axes.set_ylabel(lower.ylabel)
    seen = np.concatenate([np.zeros(1), *(curve.kept for curve in curves)])
    set_scale(axes, "y", float(seen.min()), float(seen.max()), log=False, margin=0.05)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=STEPS))


def _scale_x(axes: Axes, curves: Sequence[_Curve], xlabel: str) -> None:
    """From 0 on, or logarithmic where some series are twenty times as long as others; millions as such."""
    from matplotlib.ticker import MaxNLocator

    lasts = np.array([x.max() for curve in curves for x, _ in curve.lines])
    firsts = np.array([x.min() for curve in curves for x, _ in curve.lines])
    unit = ""
    if len(lasts) and firsts.min() > 0 and lasts.max() >= 20 * lasts.min():
        set_scale(axes, "x", float(firsts.min()), float(lasts.max()), log=True, margin=0.03)
    elif len(lasts):
        alone = all(len(x) == 1 for curve in curves for x, _ in curve.lines)
        axes.set_xlim(min(0.0, firsts.min()), (1.5 if alone else 1.03) * lasts.max() or 1.0)
        unit = in_units(axes.xaxis, float(lasts.max()))
        whole = all((x == x.round()).all() for curve in curves for x, _ in curve.lines)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(whole and not unit), steps=STEPS))
    axes.set_xlabel(xlabel + unit)


def _write_legend(figure: Figure, curves: Sequence[_Curve], values: str) -> None:
    """A key per series to the right, with its value; the highest stands on top."""
    from matplotlib.lines import Line2D

    order = sorted(curves, key=lambda curve: -curve.end if np.isfinite(curve.end) else np.inf)
    ends = _aligned([curve.end for curve in order if np.isfinite(curve.end)])
    keys = [Line2D([], [], markersize=6, markeredgecolor="white", **curve.style) for curve in order]
    box = figure.legend(
        keys,
        [str(number) for number in range(len(order))],  # not yet the labels: "_a" would be left out
        loc="outside right upper",
        fontsize=8,
        title=f"{values}, series" if ends else "series",
        title_fontsize=8,
        alignment="left",
        handlelength=3.8,
    )
    for row, (text, curve) in enumerate(zip(box.get_texts(), order, strict=True)):
        value = f"{ends[row]}  " if row < len(ends) else ""
        indent = "".join("  " if letter.isdigit() else " " for letter in value)  # a digit is two spaces wide
        text.set_parse_math(False)
        text.set_text(value + f"\n{indent}".join(textwrap.wrap(curve.label, 36 - len(value))))


def _aligned(values: Sequence[float]) -> list[str]:
    """Numbers with the same decimals where they are of about the same size, with three digits otherwise."""
    sizes = [abs(value) for value in values]
    if values and min(sizes) > 1e-4 and max(sizes) < 1e3 * min(sizes) and max(sizes) < 1e6:
        decimals = max(0, 2 - int(np.floor(np.log10(min(sizes)))))
        return [f"{value:,.{decimals}f}" for value in values]
    return [f"{value:.3g}" for value in values]
