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
from fdtrain.minibatches import MinibatchRow, averages, curves, fewest, running_mean, title, window
from fdtrain.rundir import RunDirectory
from fdtrain.sweep.labels import describe
from fdtrain.sweep.schema import SweepConfig

Array = NDArray[np.float64]
Row = dict[str, Any]  # of the table
DRAWN = 10  # points of a running mean per window: with more, dashes cannot be seen
Groups = Sequence[tuple[dict[str, str], Sequence[Row]]]  # labels, and the rows that have them


def by_data(sweep: SweepConfig, complete: pl.DataFrame) -> Groups:
    """A row of the table for every data set on which baselines were evaluated, in groups that differ by the seed;
    with the labels that tell the groups apart.

    Runs have the same data if all baselines have the same averages. An axis does not change the data if some of its
    labels share them.
    """
    sets: dict[tuple[float | None, ...], list[Row]] = {}
    for row in complete.iter_rows(named=True):
        means = tuple(row[name] for name in sweep.baselines)
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


class Curves:
    """Running means of everything that a figure against mini-batches shows, and what has to be said about them."""

    def __init__(self, sweep: SweepConfig, out: Path) -> None:
        self._sweep, self._out = sweep, out
        self._read: dict[str, list[MinibatchRow]] = {}  # by directory
        self._widths: set[int] = set()
        self._values: set[int] = set()  # over how many a running mean of a sparse baseline goes at least
        self._without: list[str] = []

    def of_runs(self, groups: Groups) -> list[figures.Series]:
        """A series per combination of labels, with its repetitions as runs."""
        found = []
        for labels, rows in groups:
            label = describe(labels) or self._sweep.name
            one = self._series(label, "", rows)
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
        means = [averages(self._rows(row["directory"])) for _, rows in groups for row in rows]
        gaps = {
            name: np.mean([abs(found[name].own - found[name].mean) for found in means if name in found])
            for name in self._sweep.baselines
            if any(name in found for found in means)
        }
        if not gaps:
            return None
        nearest = min(gaps, key=gaps.__getitem__)
        found = [self._series("", nearest, rows, minus=True) for _, rows in groups]
        unit = self._sweep.measure.with_unit("difference")
        return figures.Lower(f"minus {title(nearest)} on the same mini-batches", unit, found)

    @property
    def note(self) -> str:
        """What a reader has to know of all that was asked for so far."""
        widths = self._widths - {1}
        over = f"{min(widths):,}" if len(widths) == 1 else "one in 50"
        parts = [f"running means over {over} mini-batches" if widths else ""]
        if self._values and widths:
            parts[0] += f", of other methods over {min(self._values)} values or more"
        parts.append("no minibatches.csv: " + ", ".join(self._without) if self._without else "")
        return "; ".join(part for part in parts if part)

    def _series(self, label: str, name: str, rows: Sequence[Row], *, minus: bool = False) -> figures.Series:
        """`name`: a baseline, or empty for the run itself; `minus`: the run minus the baseline."""
        runs, means = [], []
        for row in rows:
            told = self._rows(row["directory"])
            drawn = curves(told)
            x, y = drawn.get(name, (np.empty(0), np.empty(0)))
            if len(x):
                if minus:
                    y = drawn[""][1][np.isin(drawn[""][0], x)] - y
                width = window(len(told))
                self._widths.add(width)
                if len(x) < len(told):
                    self._values.add(fewest(len(x), width))
                runs.append(_thinned(*running_mean(x, y, width), width))
                with np.errstate(all="ignore"):
                    means.append(y.mean())
        return figures.Series(label, runs, value=float(np.mean(means)) if means else None)

    def _rows(self, directory: str) -> list[MinibatchRow]:
        if directory not in self._read:
            run = RunDirectory(self._out / directory)
            self._read[directory] = run.read_minibatches() if run.has_minibatches() else []
        return self._read[directory]


def _thinned(x: Array, y: Array, width: int) -> tuple[Array, Array]:
    """As many points as are drawn, the last one among them."""
    keep = slice((len(x) - 1) % max(1, width // DRAWN), None, max(1, width // DRAWN))
    return x[keep], y[keep]
