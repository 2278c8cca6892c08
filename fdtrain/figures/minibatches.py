"""A run's measure along its mini-batches, beside what other methods reach on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.figures.canvas import BLUE, ORANGE, PALETTE, STEPS, limits, plain_log_ticks, readable, sheet
from fdtrain.figures.comparison import BESIDE, ENLARGED, GREYS, Lower, Series, draw_lower
from fdtrain.minibatches import (
    MinibatchRow,
    averages,
    curves,
    difference,
    nearest,
    running_mean,
    shared_window,
    thinned,
    title,
)
from fdtrain.service import EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

ALONE = (8.0, 4.2)  # inches, without a lower panel
POINTS = 5000  # single mini-batches that are drawn at most
INSIDE = 0.98  # the part of the single mini-batches that is on the axis
WIDE = 2.2  # the run's line
BASELINES = PALETTE[2:]
DASHES = ("--", "-.", ":", (0, (7, 1.5, 1, 1.5, 1, 1.5)))


def draw_minibatches(
    path: Path,
    rows: Sequence[MinibatchRow],
    epochs: Sequence[EpochRow],
    tested: Mapping[str, float] | None = None,
) -> None:
    """Running means over the same window of all; behind them the single mini-batches, and the tests after epochs. A
    lower panel has the run minus the baseline that is nearest to it.

    `epochs` are those that the mini-batches make up, all of them finished; or none, where that is not known. `tested`
    is what baselines reach on the test samples: of those without values on mini-batches it is a horizontal line.
    """
    drawn, means = curves(rows), averages(rows)
    alone = {name: value for name, value in (tested or {}).items() if name not in drawn}
    width, name = shared_window(drawn), nearest([means])
    at, gap = _mean(*difference(drawn, name), width) if name else (np.empty(0), np.empty(0))
    if name is None or np.isfinite(readable(gap)).sum() < 2:
        with sheet(path, ALONE) as figure:
            _draw_upper(figure, figure.add_subplot(), rows, epochs, drawn, width, alone)
            figure.axes[0].set_xlabel("mini-batch")
        return
    with sheet(path, ENLARGED) as figure:
        upper, panel = figure.subplots(2, sharex=True)
        _draw_upper(figure, upper, rows, epochs, drawn, width, alone)
        lower = Lower.minus(title(name), rows[0].measure, [Series("", [(at, gap)])])
        draw_lower(panel, lower, color=ORANGE, marker="")
        panel.set_xlabel("mini-batch")


def _draw_upper(
    figure: Figure,
    axes: Axes,
    rows: Sequence[MinibatchRow],
    epochs: Sequence[EpochRow],
    drawn: Mapping[str, tuple[Array, Array]],
    width: int,
    tested: Mapping[str, float],
) -> None:
    measure, means = rows[0].measure, averages(rows)
    x, single = drawn[""][0], readable(drawn[""][1])
    sound = np.isfinite(single)
    label = f"train, average {single.mean():.4g}" if sound.all() else "train"
    seen = [_draw_mean(axes, *drawn[""], width, color=ORANGE, zorder=3, linewidth=WIDE, label=label)]
    seen += [_draw_tests(axes, rows, epochs), draw_levels(axes, tested, values=True)]
    others = {name: curve for name, curve in drawn.items() if name}
    # Thinner than the run, and above it: where they coincide, both can be seen.
    for number, (name, (at, values)) in enumerate(others.items()):
        style = {"color": BASELINES[number % len(BASELINES)], "linestyle": DASHES[number % len(DASHES)]}
        label = f"{title(name)}, average {means[name].mean:.4g}"
        if len(at) < len(x) and np.isfinite(means[name].own):
            label += f"\n(train there: {means[name].own:.4g})"
        seen.append(_draw_mean(axes, at, values, width, zorder=4, linewidth=1.3, label=label, **style))
    if width > 1:
        step = -(-len(x) // POINTS)
        axes.plot(x[::step], single[::step], ".", color=ORANGE, markersize=2, alpha=0.25, zorder=1)
        seen.append(_inner(single[sound]))
    _scale(axes, np.concatenate(seen), len(rows), log=measure.logarithmic)
    axes.set_ylabel(measure.label)
    if not sound.all():
        first = rows[int(np.argmin(sound))].minibatch
        axes.set_title(f"diverged in mini-batch {first:,}", loc="left", color="#B00000")
    elif width > 1:
        axes.set_title(f"running means over {width:,} mini-batches", loc="left", fontsize=9)
    figure.legend(loc="outside right upper", fontsize=8, handlelength=3.2)


def _mean(x: Array, y: Array, width: int) -> tuple[Array, Array]:
    return thinned(*running_mean(x, y, width), width)


def _draw_mean(axes: Axes, x: Array, values: Array, width: int, **style: Any) -> Array:
    """A running mean; what was drawn."""
    at, y = _mean(x, readable(values), width)
    alone: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(at) == 1 else {}
    axes.plot(at, y, **style, **alone)
    return np.array(y[np.isfinite(y)])


def _draw_tests(axes: Axes, rows: Sequence[MinibatchRow], epochs: Sequence[EpochRow]) -> Array:
    """The tests after the epochs, at the mini-batches where these end; what was drawn."""
    if not epochs:
        return np.empty(0)
    x = np.array([row.epoch for row in epochs]) * (rows[-1].minibatch / epochs[-1].epoch)
    y = readable(np.array([row.test for row in epochs], dtype=np.float64))
    few: dict[str, Any] = {"marker": "s", "markersize": 4.5} if len(x) <= 30 else {}
    axes.plot(x, y, color=BLUE, linewidth=1.1, zorder=5, clip_on=False, label="test", **few)
    return np.array(y[np.isfinite(y)])


def draw_levels(axes: Axes, tested: Mapping[str, float], *, values: bool = False) -> Array:
    """What other methods reach on the test samples, as grey lines, with `values` in the legend; what was drawn."""
    drawn = readable(np.array([*tested.values()], dtype=np.float64))
    for number, (name, value) in enumerate(zip(tested, drawn, strict=True)):
        style: dict[str, Any] = {"color": GREYS[number % len(GREYS)]}
        style["linestyle"] = BESIDE[number % len(BESIDE)]
        label = f"{title(name)}, test" + (f" {value:.4g}" if values else "")
        if np.isfinite(value):
            axes.axhline(value, linewidth=1.1, zorder=1.5, label=label, **style)
    return np.array(drawn[np.isfinite(drawn)])


def _inner(values: Array) -> Array:
    """The ends of what all but the extremes of `values` span."""
    cut = (1 - INSIDE) / 2
    return np.quantile(values, [cut, 1 - cut]) if len(values) else values


def _scale(axes: Axes, seen: Array, last: int, *, log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    if len(seen) == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
    else:
        low, high, wide = limits(seen, 8 if log else np.inf)
        room = 0.06 * (high - low) if high > low else 0.25 * abs(high) or 1.0
        axes.set_ylim(low - room, high + room)
        if wide:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.1, high * 1.1)
            plain_log_ticks(axes.yaxis, low, high)
    axes.set_xlim(0, 1.02 * last if last > 1 else 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=STEPS))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(visible=True)
