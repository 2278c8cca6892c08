"""A run's pictures: its measure and disagreement as curves, and its last network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.figures.canvas import BLUE, GREEN, ORANGE, plain_log_ticks, readable, sheet
from fdtrain.figures.connectivity import draw_connectivity
from fdtrain.figures.minibatches import draw_levels, draw_minibatches
from fdtrain.figures.network import NETWORK, draw_network
from fdtrain.rundir import RunDirectory, is_complete
from fdtrain.service import EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

CURVES = (6.0, 3.6)  # inches


def draw_run(run: RunDirectory) -> list[Path]:
    """Draw what is in `run` into its ``figures`` folder: loss or rate, disagreement, and the last network.

    A centralized run sends nothing: its loss is drawn against epochs, in ``loss_epochs.png``. What the run tells of
    its mini-batches is drawn in ``minibatches.png``, beside which a single epoch has no other curves.

    Returns:
        The files that were written.

    Raises:
        InputError: the run has no finished epoch.
    """
    rows = run.read_metrics() if (run.path / "metrics.csv").exists() else []
    if not rows:
        raise InputError(f"{run.path}: has no finished epoch in metrics.csv, so there is nothing to draw")
    epochs, rounds = [row.epoch for row in rows], [row.rounds for row in rows]
    size, unit = _bytes_unit(max(row.bytes for row in rows))
    measure = rows[0].measure
    loss = {"train": ([row.train for row in rows], ORANGE), "test": ([row.test for row in rows], BLUE)}
    tested = run.read_test_baselines()
    stem = "loss" if measure.falls else measure.name
    spread = {"": ([row.disagreement for row in rows], GREEN)}
    figures = [
        (f"{stem}_rounds", rounds, "message-passing rounds", measure.label, loss),
        (
            f"{stem}_bytes",
            [row.bytes / size for row in rows],
            f"sent over all links ({unit})",
            measure.label,
            loss,
        ),
        ("disagreement", epochs, "epoch", r"disagreement, RMS of $\Vert\theta^i-\bar\theta\Vert$", spread),
    ]
    if not any(rounds):
        figures = [(f"{stem}_epochs", epochs, "epoch", measure.label, loss)]
    elif not any(row.bytes for row in rows):
        del figures[1]
    lines = run.read_minibatches() if run.has_minibatches() else []
    if lines and len(rows) == 1:  # each of these would be a point
        figures = []
    written = []
    for name, x, xlabel, ylabel, curves in figures:
        written.append(run.figures / f"{name}.png")
        with sheet(written[-1], CURVES) as figure:
            log = curves is not loss or measure.logarithmic
            beside = tested if curves is loss else {}
            _draw_curves(figure.add_subplot(), rows, np.asarray(x, dtype=np.float64), curves, beside, log=log)
            figure.axes[0].set(xlabel=xlabel, ylabel=ylabel)
    if lines:
        written.append(run.figures / "minibatches.png")
        draw_minibatches(written[-1], lines, rows if is_complete(run.path) else (), tested)
    watched = run.read_connectivity()
    if watched:
        written.append(run.figures / "connectivity.png")
        draw_connectivity(watched, written[-1])
    if (run.path / "network.npz").exists():
        graph, node_loss = run.read_network()
        written.append(run.figures / "network.png")
        with sheet(written[-1], NETWORK) as figure:
            meaning = measure.with_unit(f"test {measure.of_node} of the node")
            draw_network(figure, graph, node_loss, meaning, "", log=measure.logarithmic)
    return written


def _draw_curves(
    axes: Axes,
    rows: Sequence[EpochRow],
    x: Array,
    curves: dict[str, tuple[list[float], str]],
    tested: dict[str, float],
    *,
    log: bool,
) -> None:
    from matplotlib.ticker import MaxNLocator

    values = readable(np.array([values for values, _ in curves.values()]))
    finite = np.isfinite(values)
    seen = values[finite]
    for (name, (_, colour)), y, good in zip(curves.items(), values, finite, strict=True):
        style: dict[str, Any] = {"linestyle": "--" if name == "train" else "-", "label": name}
        if len(rows) <= 30:
            style |= {"marker": "o" if name == "train" else "s", "markersize": 3.5}
        axes.plot(x, np.where(good, y, np.nan), color=colour, **style)
    seen = np.concatenate([seen, draw_levels(axes, tested)])
    if log and len(seen) and seen.min() > 0 and seen.max() / seen.min() >= 8:
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis, float(seen.min()), float(seen.max()))
    elif len(seen) == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
    elif len(rows) == 1 and log:
        axes.set_ylim(0, 1.25 * float(seen.max()) or 1.0)
    axes.set_xlim(0, (1.03 if len(rows) > 1 else 1.5) * x[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((x == x.round()).all())))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(visible=True)
    if len(curves) > 1:
        small: dict[str, Any] = {"fontsize": 8} if tested else {}
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2, **small)
    if not finite.all():
        first = rows[int(np.argmin(finite.all(axis=0)))].epoch
        axes.set_title(f"diverged in epoch {first:,}", loc="left", color="#B00000")


def _bytes_unit(largest: int) -> tuple[float, str]:
    """The decimal unit in which `largest` bytes are read best."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min(max(len(str(largest)) - 1, 0) // 3, len(units) - 1)
    return 1000.0**power, units[power]
