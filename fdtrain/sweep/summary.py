"""The summary of a sweep as a table for the terminal: means over the repetitions, in as many columns as fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fdtrain.measure import Measure
from fdtrain.sweep.minibatches import by_data, called
from fdtrain.sweep.plan import Sweep
from fdtrain.sweep.schema import PUBLISHED
from fdtrain.sweep.table import labelled, summarize
from fdtrain.tasks.power_allocation import PowerAllocation

FOLDED = 20  # characters of a label in a narrow summary
Line = dict[str, Any]  # of the summary
Cell = Callable[[Line], str]


def show_summary(sweep: Sweep, frame: pl.DataFrame, console: Console) -> None:
    """The summary of a table; where it is too wide, without what matters less: ``summary.csv`` has everything."""
    summary, measure = summarize(frame, sweep.config), sweep.config.measure
    known = _cells(measure)
    cells = {heading: cell for heading, (column, cell) in known.items() if _said(column, summary)}
    baselines = _baselines(sweep, frame)
    shown = dict(cells)
    for least, fold in ((2, None), (1, FOLDED)):  # only then are long labels folded
        while len(shown) > least and _wide(_summary(sweep, summary, shown, baselines, fold), console):
            shown.popitem()
    console.print(_summary(sweep, summary, shown, baselines))
    notes = []
    if summary[f"{measure.train}_std"].count():
        runs = math.prod(len(sweep.config.axes[axis]) for axis in sweep.config.repetitions)
        notes.append(
            f"± standard deviation over {runs} {'seeds' if len(sweep.config.repetitions) == 1 else 'runs'}"
        )
    if baselines:
        notes.append(f"other methods: {_evaluated(sweep)}")
    if len(shown) < len(cells):
        notes.append("more columns in summary.csv")
    if notes:
        console.print("; ".join(notes), style="dim", highlight=False)


def _said(column: str, summary: pl.DataFrame) -> bool:
    """Whether the summary has a column for it; what is published of nobody needs none."""
    return column in summary.columns and (column not in PUBLISHED or summary[column].count() > 0)


def _baselines(sweep: Sweep, frame: pl.DataFrame) -> list[tuple[str, str, dict[str, str]]]:
    """Of every baseline and group of data its name, over how many data sets its averages are, and these by heading."""
    complete = labelled(frame.filter(pl.col("status") == "complete"), sweep.config)
    measure, found = sweep.config.measure, []
    tested = [column.removesuffix("_test") for column in sweep.config.tested]
    for name in dict.fromkeys([*sweep.config.baselines, *tested]):
        for labels, rows in by_data(sweep.config, complete):
            averages, count = {}, 0
            for side, column in (("train", name), ("test", f"{name}_test")):
                known = [row[column] for row in rows if row.get(column) is not None]
                means = pl.Series(known, dtype=pl.Float64)
                if known:
                    mean, deviation = cast(float, means.mean()), cast("float | None", means.std())
                    averages[f"{measure.name} {side}"] = _spread(mean, deviation)
                    count = max(count, len(known))
            if averages:
                found.append((called(name, labels), str(count), averages))
    return found


def _evaluated(sweep: Sweep) -> str:
    """On what the baselines are evaluated."""
    if not sweep.config.baselines:
        return "on the same test samples"
    tasks = [point.config.task for point in sweep.points if point.config is not None]
    every = {one.baselines_every for one in tasks if isinstance(one, PowerAllocation)} - {0}
    same = "averages over the same mini-batches"
    return (
        same
        if every == {1}
        else f"averages over one in {' or '.join(map(str, sorted(every)))} of the mini-batches"
    )


def _wide(table: Table, console: Console) -> bool:
    unlimited = console.options.update(width=10 * console.width)
    return console.measure(table, options=unlimited).maximum > console.width


def _summary(
    sweep: Sweep,
    summary: pl.DataFrame,
    cells: dict[str, Cell],
    baselines: Sequence[tuple[str, str, dict[str, str]]],
    fold: int | None = None,
) -> Table:
    """The table, with the baselines in lines of their own; `fold`: the width at which labels are folded."""
    table = Table(title=sweep.config.name, title_justify="left", box=None, pad_edge=False)
    headings = [escape(axis.split(".")[-1]) for axis in sweep.config.groups]
    if baselines and not headings:
        headings = [""]
    for heading in headings:
        table.add_column(heading, overflow="fold", max_width=fold)
    for heading in ("n", *cells):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in labelled(summary, sweep.config).iter_rows(named=True):
        labels = [escape(line[axis]) for axis in sweep.config.groups] or [""] * len(headings)
        table.add_row(*labels, str(line["n"]), *(cell(line) for cell in cells.values()))
    if baselines:
        table.add_row()
    for name, number, averages in baselines:
        values = [averages.get(heading, "") for heading in cells]
        table.add_row(escape(name), *[""] * (len(headings) - 1), number, *values)
    return table


def _mean(name: str) -> Cell:
    return lambda line: _spread(line[f"{name}_mean"], line[f"{name}_std"])


def _disagreement(line: Line) -> str:
    return _mean("disagreement")(line) if line["rounds_mean"] else "–"  # one model


def _to_target(line: Line) -> str:
    some = 0 < line["n_reached"] < line["n"]
    return _mean("epochs_to_target")(line) + (f" ({line['n_reached']} of {line['n']})" if some else "")


def _beside(measure: Measure, side: str) -> Cell:
    """A published value, and the own mean in percent of it."""

    def cell(line: Line) -> str:
        published, own = line[f"published_{side}"], line[f"{measure.column(side)}_mean"]
        if published is None:
            return "–"
        return f"{published:.4g}" if own is None else f"{published:.4g} ({100 * own / published:.1f} %)"

    return cell


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.4g}" if deviation is None else f"{mean:.4g} ± {deviation:.2g}"


def _cells(measure: Measure) -> dict[str, tuple[str, Cell]]:
    """Headings: the column that each needs, and what it shows of a line of the summary; the most important first."""
    return {
        f"{measure.name} train": (f"{measure.train}_mean", _mean(measure.train)),
        f"{measure.name} test": (f"{measure.test}_mean", _mean(measure.test)),
        "published train": ("published_train", _beside(measure, "train")),
        "published test": ("published_test", _beside(measure, "test")),
        "epochs to target": ("epochs_to_target_mean", _to_target),
        "excess test": ("excess_test_mean", _mean("excess_test")),
        "disagreement": ("disagreement_mean", _disagreement),
    }
