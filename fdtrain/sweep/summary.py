"""The summary of a sweep as a table for the terminal: means over the repetitions, in as many columns as fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fdtrain.sweep.plan import Sweep
from fdtrain.sweep.table import labelled

FOLDED = 20  # characters of a label in a narrow summary
Line = dict[str, Any]  # of the summary
Cell = Callable[[Line], str]


def show_summary(sweep: Sweep, summary: pl.DataFrame, console: Console) -> None:
    """The summary as a table; where it is too wide, without what matters less: ``summary.csv`` has everything."""
    cells = {heading: cell for heading, (column, cell) in CELLS.items() if column in summary.columns}
    shown = dict(cells)
    for least, fold in ((2, None), (1, FOLDED)):  # only then are long labels folded
        while len(shown) > least and _wide(_summary(sweep, summary, shown, fold), console):
            shown.popitem()
    console.print(_summary(sweep, summary, shown))
    notes = []
    if summary["mse_train_std"].count():
        runs = math.prod(len(sweep.config.axes[axis]) for axis in sweep.config.repetitions)
        notes.append(
            f"± standard deviation over {runs} {'seeds' if len(sweep.config.repetitions) == 1 else 'runs'}"
        )
    if len(shown) < len(cells):
        notes.append("more columns in summary.csv")
    if notes:
        console.print("; ".join(notes), style="dim", highlight=False)


def _wide(table: Table, console: Console) -> bool:
    unlimited = console.options.update(width=10 * console.width)
    return console.measure(table, options=unlimited).maximum > console.width


def _summary(sweep: Sweep, summary: pl.DataFrame, cells: dict[str, Cell], fold: int | None = None) -> Table:
    """The table; `fold`: the width at which labels are folded."""
    table = Table(title=sweep.config.name, title_justify="left", box=None, pad_edge=False)
    for axis in sweep.config.groups:
        table.add_column(escape(axis.split(".")[-1]), overflow="fold", max_width=fold)
    for heading in ("n", *cells):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in labelled(summary, sweep.config).iter_rows(named=True):
        labels = (escape(line[axis]) for axis in sweep.config.groups)
        table.add_row(*labels, str(line["n"]), *(cell(line) for cell in cells.values()))
    return table


def _mean(name: str) -> Cell:
    return lambda line: _spread(line[f"{name}_mean"], line[f"{name}_std"])


def _disagreement(line: Line) -> str:
    return _mean("disagreement")(line) if line["rounds_mean"] else "–"  # one model


def _to_target(line: Line) -> str:
    some = 0 < line["n_reached"] < line["n"]
    return _mean("epochs_to_target")(line) + (f" ({line['n_reached']} of {line['n']})" if some else "")


def _beside(side: str) -> Cell:
    """A published value, and the own mean in percent of it."""

    def cell(line: Line) -> str:
        published, own = line[f"published_{side}"], line[f"mse_{side}_mean"]
        if published is None:
            return "–"
        return f"{published:.4g}" if own is None else f"{published:.4g} ({100 * own / published:.1f} %)"

    return cell


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.4g}" if deviation is None else f"{mean:.4g} ± {deviation:.2g}"


CELLS: dict[str, tuple[str, Cell]] = {
    # heading: the column that it needs, and what it shows of a line of the summary; the most important first
    "mse train": ("mse_train_mean", _mean("mse_train")),
    "mse test": ("mse_test_mean", _mean("mse_test")),
    "published train": ("published_train", _beside("train")),
    "published test": ("published_test", _beside("test")),
    "epochs to target": ("epochs_to_target_mean", _to_target),
    "excess test": ("excess_test_mean", _mean("excess_test")),
    "disagreement": ("disagreement_mean", _disagreement),
}
