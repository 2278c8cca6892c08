"""A run's measure along its mini-batches, beside what other methods reach on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.figures.canvas import BLUE, ORANGE, PALETTE, STEPS, limits, plain_log_ticks, readable
from fdtrain.minibatches import MinibatchRow, averages, curves, fewest, running_mean, title, window
from fdtrain.service import EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

MINIBATCHES = (8.0, 4.2)  # inches
POINTS = 5000  # single mini-batches that are drawn at most
INSIDE = 0.98  # the part of the single mini-batches that is on the axis
BASELINES = PALETTE[2:]
DASHES = ("--", "-.", ":", (0, (7, 1.5, 1, 1.5, 1, 1.5)))


def draw_minibatches(figure: Figure, rows: Sequence[MinibatchRow], epochs: Sequence[EpochRow]) -> None:
    """Running means over the same window of all; behind them the single mini-batches, and the tests after epochs.

    `epochs` are those that the mini-batches make up, all of them finished; or none, where that is not known.
    """
    axes, measure, drawn = figure.add_subplot(), rows[0].measure, curves(rows)
    width, means = window(len(rows)), averages(rows)
    x, single = drawn[""][0], readable(drawn[""][1])
    sound = np.isfinite(single)
    seen = [_draw_mean(axes, *drawn.pop(""), width, color=ORANGE, zorder=4, label="train")]
    seen.append(_draw_tests(axes, rows, epochs))
    for number, (name, (at, values)) in enumerate(drawn.items()):
        style = {"color": BASELINES[number % len(BASELINES)], "linestyle": DASHES[number % len(DASHES)]}
        label = f"{title(name)}, average {means[name].mean:.4g}"
        seen.append(_draw_mean(axes, at, values, width, zorder=3, linewidth=1.3, label=label, **style))
    if width > 1:
        step = -(-len(x) // POINTS)
        axes.plot(x[::step], single[::step], ".", color=ORANGE, markersize=2, alpha=0.25, zorder=1)
        seen.append(_inner(single[sound]))
    _scale(axes, np.concatenate(seen), len(rows), log=measure.logarithmic)
    axes.set(xlabel="mini-batch", ylabel=measure.label)
    if not sound.all():
        first = rows[int(np.argmin(sound))].minibatch
        axes.set_title(f"diverged in mini-batch {first:,}", loc="left", color="#B00000")
    elif width > 1:
        sparse = [fewest(len(at), width) for at, _ in drawn.values() if len(at) < len(x)]
        or_more = f", of other methods over {min(sparse)} values or more" if sparse else ""
        axes.set_title(f"running means over {width:,} mini-batches{or_more}", loc="left", fontsize=9)
    figure.legend(loc="outside right upper", fontsize=8, handlelength=3.2)


def _draw_mean(axes: Axes, x: Array, values: Array, width: int, **style: Any) -> Array:
    """A running mean; what was drawn."""
    at, y = running_mean(x, readable(values), width)
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
