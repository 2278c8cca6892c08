"""A trained model on networks of several sizes, beside other methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdtrain.figures.canvas import ORANGE, plain_log_ticks, sheet, write_around
from fdtrain.figures.minibatches import BASELINES, DASHES
from fdtrain.minibatches import title
from fdtrain.sizes import Size

SIZES = (7.0, 4.0)  # inches
MARKS = "s^Dv"
TICKS = 8  # sizes that are named at the axis at most


def draw_sizes(sizes: Sequence[Size], trained: int, path: Path, heading: str) -> None:
    """Draw the sum rate per pair against n; bars are standard errors. `trained`: the pairs of training."""
    lines = sorted(sizes, key=lambda line: line.pairs)
    n = np.array([line.pairs for line in lines])
    with sheet(path, SIZES) as figure:
        axes = figure.add_subplot()
        rate, error = np.array([(line.rate, line.error) for line in lines]).T / n
        bars = None if np.isnan(error).all() else error
        style: dict[str, Any] = {"color": ORANGE, "marker": "o", "markersize": 4.5, "capsize": 3}
        style["zorder"] = 1.9  # below the others, whose lines have gaps
        drawn: list[Any] = [axes.errorbar(n, rate, bars, label="UWMMSE", **style)]
        for number, name in enumerate(lines[0].baselines):
            drawn += axes.plot(
                n,
                np.array([line.baselines[name] for line in lines]) / n,
                label=title(name),
                color=BASELINES[number % len(BASELINES)],
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKS[number % len(MARKS)],
                markersize=3.5,
                linewidth=1.3,
            )
        mark: dict[str, Any] = {"color": "#888888", "linewidth": 1, "linestyle": ":"}
        drawn.append(axes.axvline(trained, label=f"trained on n = {trained:,}", **mark))
        low, high = min(n[0], trained), max(n[-1], trained)
        if high / low >= 4:
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis, low, high)
        if len(n) <= TICKS:
            axes.set_xticks(n, [f"{value:,}" for value in n])
            axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True)
        axes.set(xlabel="n, pairs", ylabel="sum rate per pair (bit/s/Hz)")
        figure.legend(handles=drawn, loc="outside right upper", fontsize=8, handlelength=3.2)
        write_around(figure, heading, [])
