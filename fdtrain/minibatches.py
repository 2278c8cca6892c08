"""What a run reports of every mini-batch, beside what other methods reach on the same samples; and its averages."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.measure import Measure, found_in

Array = NDArray[np.float64]

SHARE = 50  # a running mean is over one mini-batch in so many
FEWEST = 20  # and at least over so many values, or a fifth of those there are
SMOOTHED = 100  # mini-batches; fewer are drawn one by one
DRAWN = 10  # points of a running mean per window in pictures: with more, dashes cannot be seen
RECENT = 100  # mini-batches whose mean is shown while a run goes on


@dataclass(frozen=True)
class MinibatchRow:
    """A line of ``minibatches.csv``."""

    minibatch: int  # from 1, over all epochs
    train: float
    baselines: Mapping[str, float]  # by name; may be empty; NaN, or no entry, where it was not evaluated
    measure: Measure

    def columns(self, names: Sequence[str]) -> list[int | float | None]:
        """The line with the baselines `names`; None where one was not evaluated."""
        values = [self.baselines.get(name, math.nan) for name in names]
        return [self.minibatch, self.train, *(None if math.isnan(value) else value for value in values)]


def read_header(file: Path) -> tuple[Measure, list[str]]:
    """The measure of a ``minibatches.csv``, and its baselines.

    Raises:
        ValueError: its columns are others.
    """
    with file.open(newline="", encoding="utf-8") as stream:
        header = next(csv.reader(stream), [])
    measure = found_in(header)
    if measure is None or header[:2] != ["minibatch", measure.train]:
        raise ValueError(f"{file.name} needs the columns minibatch and, for example, mse_train")
    return measure, header[2:]


def read_minibatches(file: Path) -> list[MinibatchRow]:
    """The lines of a ``minibatches.csv``; one that is not yet whole is left out.

    Raises:
        OSError, ValueError: it is not there or damaged.
    """
    measure, names = read_header(file)
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
    rows = []
    for line in csv.reader(whole.splitlines()[1:]):
        number, train, *rest = line
        values = {name: float(text) for name, text in zip(names, rest, strict=True) if text}
        rows.append(MinibatchRow(int(number), float(train), values, measure))
    return rows


def curves(rows: Sequence[MinibatchRow]) -> dict[str, tuple[Array, Array]]:
    """Mini-batches and values: of the run, as ``""``, and of every baseline where it was evaluated."""
    found: dict[str, list[tuple[int, float]]] = {"": [(row.minibatch, row.train) for row in rows]}
    for row in rows:
        for name, value in row.baselines.items():
            if not math.isnan(value):
                found.setdefault(name, []).append((row.minibatch, value))
    arrays = {name: np.array(pairs, dtype=np.float64).reshape(-1, 2) for name, pairs in found.items()}
    return {name: (pairs[:, 0], pairs[:, 1]) for name, pairs in arrays.items()}


class Average(NamedTuple):
    """A baseline over the mini-batches on which it was evaluated, and the run itself over the same ones."""

    mean: float
    own: float
    evaluated: int


def averages(rows: Sequence[MinibatchRow]) -> dict[str, Average]:
    """The averages of every baseline."""
    drawn, averaged = curves(rows), {}
    x, own = drawn.pop("")
    with np.errstate(all="ignore"):  # where a run diverges
        for name, (at, values) in drawn.items():
            same = own[np.isin(x, at)]
            averaged[name] = Average(float(values.mean()), float(same.mean()), len(at))
    return averaged


def nearest(runs: Sequence[Mapping[str, Average]]) -> str | None:
    """The baseline whose averages are nearest to those of the runs; None if there is none."""
    gaps: dict[str, list[float]] = {}
    for means in runs:
        for name, found in means.items():
            gaps.setdefault(name, []).append(abs(found.own - found.mean))
    with np.errstate(all="ignore"):  # where a run diverges
        return min(gaps, key=lambda name: float(np.mean(gaps[name])), default=None)


def difference(drawn: Mapping[str, tuple[Array, Array]], name: str) -> tuple[Array, Array]:
    """The run minus a baseline on the same mini-batches, without what these have in common."""
    (x, own), (at, values) = drawn[""], drawn[name]
    with np.errstate(all="ignore"):  # where a run diverges
        return at, own[np.isin(x, at)] - values


def window(length: int) -> int:
    """Mini-batches of a running mean, of so many."""
    return max(FEWEST, length // SHARE) if length >= SMOOTHED else 1


def fewest(values: int, width: int) -> int:
    """Over how many of so many values a running mean goes at least."""
    return 1 if width == 1 else max(1, min(FEWEST, values // 5))


def shared_window(drawn: Mapping[str, tuple[Array, Array]]) -> int:
    """Mini-batches of the running means of all :func:`curves` of a run, the same for each.

    That is :func:`window`, or more where it would have fewer than :func:`fewest` values of a baseline; at most a fifth
    of all.
    """
    length = len(drawn[""][0])
    width = window(length)
    needed = [-(-fewest(len(x), width) * length // len(x)) for x, _ in drawn.values() if len(x)]
    return max(width, min(max(needed, default=1), length // 5)) if width > 1 else 1


def running_mean(x: Array, y: Array, width: int) -> tuple[Array, Array]:
    """The mean of `y` over the last `width` mini-batches, and :func:`fewest` values where they are few; `x` ascends.

    It begins when a quarter of the window is full.
    """
    last = np.arange(1, len(x) + 1)
    first = np.searchsorted(x, x - width, side="right")
    few = fewest(len(x), width)
    first = np.minimum(first, np.maximum(last - few, 0))
    good = np.isfinite(y)
    with np.errstate(all="ignore"):
        level = float(np.mean(y[good])) if good.any() else 0.0  # sums of what is left lose no digits
        total = np.concatenate([[0.0], np.cumsum(np.where(good, y - level, 0.0))])
        bad = np.concatenate([[0], np.cumsum(~good)])
        mean: Array = level + (total[last] - total[first]) / (last - first)
    mean = np.where(bad[last] > bad[first], np.nan, mean)
    begin = min(max(np.searchsorted(x, x[0] + width // 4), few // 4), len(x) // 5) if len(x) else 0
    return x[begin:], mean[begin:]


def thinned(x: Array, y: Array, width: int) -> tuple[Array, Array]:
    """As many points of a running mean as are drawn, the last one among them."""
    spacing = (x[-1] - x[0]) / (len(x) - 1) if len(x) > 1 else 1.0
    step = max(1, int(width / DRAWN / spacing))
    keep = slice((len(x) - 1) % step, None, step)
    return x[keep], y[keep]


def title(name: str) -> str:
    """A baseline as figures and tables call it: ``WMMSE 100`` for ``wmmse_100``."""
    first, *rest = name.split("_")
    return " ".join([first.upper() if first == "wmmse" else first, *rest])
