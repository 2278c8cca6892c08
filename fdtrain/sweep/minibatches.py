"""The runs of a sweep along their mini-batches, and the baselines: other methods on the same samples.

A baseline belongs to the data, and not to an approach: it is told once for all runs on the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fdtrain import figures
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
from fdtrain.rundir import RunDirectory
from fdtrain.sweep.labels import describe
from fdtrain.sweep.schema import SweepConfig

Array = NDArray[np.float64]
Row = dict[str, Any]  # of the table
Groups = Sequence[tuple[dict[str, str], Sequence[Row]]]  # labels, and the rows that have them


def by_data(sweep: SweepConfig, complete: pl.DataFrame) -> Groups:
    """A row of the table for every data set on which baselines were evaluated, in groups that differ by the seed;
    with the labels that tell the groups apart.

    Runs have the same data if all baselines have the same values. An axis does not change the data if some of its
    labels share them.
    """
    sets: dict[tuple[float | None, ...], list[Row]] = {}
    for row in complete.iter_rows(named=True):
        means = tuple(row.get(name) for name in (*sweep.baselines, *sweep.tested))
        if any(mean is not None for mean in means):
            sets.setdefault(means, []).append(row)
    axes = []
    for axis in sweep.groups:
        labels = [{row[axis] for row in same} for same in sets.values()]
        if len(set().union(*labels)) > 1 and all(len(found) == 1 for found in labels):
            axes.append(axis)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for first, *_ in sets.values():
        groups.setdefault(tuple(first[axis] for axis in axes), []).append(first)
    return [(dict(zip(axes, labels, strict=True)), rows) for labels, rows in groups.items()]


def called(baseline: str, labels: dict[str, str]) -> str:
    """A baseline's name, with what tells its data from others."""
    return title(baseline) + (f", {describe(labels)}" if labels else "")


def levels(sweep: SweepConfig, complete: pl.DataFrame) -> dict[str, float]:
    """What other methods reach on the test samples, means over the data sets of a group."""
    found = {}
    for column in sweep.tested:
        for labels, rows in by_data(sweep, complete):
            values = [row[column] for row in rows if row[column] is not None]
            if values:
                found[called(column.removesuffix("_test"), labels)] = float(np.mean(values))
    return found


class Curves:
    """Running means of everything that a figure against mini-batches shows, and what has to be said about them."""

    def __init__(self, sweep: SweepConfig, out: Path) -> None:
        self._sweep, self._out = sweep, out
        self._read: dict[str, list[MinibatchRow]] = {}  # by directory
        self._widths: set[int] = set()
        self._without: list[str] = []

    def of_runs(self, groups: Groups, column: str) -> list[figures.Series]:
        """A series per combination of labels, with its repetitions as runs: running means of the training, anything
        else at the mini-batches where epochs end."""
        found = []
        for labels, rows in groups:
            label = describe(labels) or self._sweep.name
            trained = column == self._sweep.measure.train
            one = self._series(label, "", rows) if trained else self._after_epochs(label, column, rows)
            found.append(one)
            if len(one.runs) < len(rows):
                self._without.append(label)
        return found

    def of_baselines(self, complete: pl.DataFrame) -> list[figures.Series]:
        """A series per baseline and group of data."""
        groups = by_data(self._sweep, complete)
        found = [
            self._series(called(name, labels), name, rows)
            for name in self._sweep.baselines
            for labels, rows in groups
        ]
        return [one for one in found if one.runs]

    def beside_nearest(self, groups: Groups) -> figures.Lower | None:
        """The runs minus the baseline that is nearest to them, on the same mini-batches: without what these have in
        common. None if there is no baseline."""
        name = nearest([averages(self._rows(row["directory"])) for _, rows in groups for row in rows])
        if name is None:
            return None
        found = [self._series("", name, rows, minus=True) for _, rows in groups]
        return figures.Lower.minus(title(name), self._sweep.measure, found)

    @property
    def note(self) -> str:
        """What a reader has to know of all that was asked for so far."""
        widths = self._widths - {1}
        over = " to ".join(f"{width:,}" for width in sorted(widths)[:: max(1, len(widths) - 1)])
        parts = [f"running means over {over} mini-batches" if widths else ""]
        parts.append("no minibatches.csv: " + ", ".join(self._without) if self._without else "")
        return "; ".join(part for part in parts if part)

    def _series(self, label: str, name: str, rows: Sequence[Row], *, minus: bool = False) -> figures.Series:
        """`name`: a baseline, or empty for the run itself; `minus`: the run minus the baseline."""
        runs, means = [], []
        for row in rows:
            told = self._rows(row["directory"])
            drawn = curves(told)
            if name not in drawn or not len(drawn[name][0]):
                continue
            x, y = difference(drawn, name) if minus else drawn[name]
            width = shared_window(drawn)
            self._widths.add(width)
            runs.append(thinned(*running_mean(x, y, width), width))
            with np.errstate(all="ignore"):
                means.append(y.mean())
        return figures.Series(label, runs, value=float(np.mean(means)) if means else None)

    def _after_epochs(self, label: str, column: str, rows: Sequence[Row]) -> figures.Series:
        runs = []
        for row in rows:
            told = self._rows(row["directory"])
            epochs = RunDirectory(self._out / row["directory"]).read_metrics()
            if told:
                x = np.array([one.epoch for one in epochs]) * (told[-1].minibatch / epochs[-1].epoch)
                runs.append((x, np.array([one.columns()[column] for one in epochs], dtype=np.float64)))
        return figures.Series(label, runs)

    def _rows(self, directory: str) -> list[MinibatchRow]:
        if directory not in self._read:
            run = RunDirectory(self._out / directory)
            self._read[directory] = run.read_minibatches() if run.has_minibatches() else []
        return self._read[directory]
