"""What tasks are measured by: an error that has to fall, or a rate that has to rise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a task reports of every epoch: the columns ``{name}_train`` and ``{name}_test`` of ``metrics.csv``."""

    name: str
    title: str  # in figures and tables
    unit: str  # empty where it has none
    falls: bool  # whether lower is better
    of_node: str  # the title of a single node's

    @property
    def train(self) -> str:
        """The column of the training samples."""
        return f"{self.name}_train"

    @property
    def test(self) -> str:
        """The column of the test samples."""
        return f"{self.name}_test"

    @property
    def columns(self) -> tuple[str, str]:
        """Both."""
        return self.train, self.test

    @property
    def label(self) -> str:
        """The title with its unit, for an axis."""
        return self.with_unit(self.title)

    @property
    def logarithmic(self) -> bool:
        """Whether an axis may be: an error goes to zero, a rate does not."""
        return self.falls

    def with_unit(self, text: str) -> str:
        """`text`, and the unit in brackets where there is one."""
        return f"{text} ({self.unit})" if self.unit else text

    def column(self, metric: str) -> str:
        """The column that is meant by ``train`` or ``test``; another metric is called like its column."""
        return f"{self.name}_{metric}" if metric in ("train", "test") else metric

    @property
    def worst(self) -> float:
        """What everything is better than."""
        return math.inf if self.falls else -math.inf

    def improves(self, value: float, best: float, margin: float = 0.0) -> bool:
        """Whether `value` is better than `best` by more than `margin`, which is relative to the size of `best`."""
        limit = best * (1.0 - math.copysign(margin, best) * (1.0 if self.falls else -1.0))
        return value < limit if self.falls else value > limit


MSE = Measure("mse", "MSE", "", falls=True, of_node="MSE")
RATE = Measure("rate", "sum rate", "bit/s/Hz", falls=False, of_node="rate")
RATIO = Measure("ratio", "utility ratio", "", falls=False, of_node="utility share")
MEASURES = {measure.name: measure for measure in (MSE, RATE, RATIO)}

_OF_TASKS = {"node_regression": MSE, "power_allocation": RATE, "link_scheduling": RATIO}


def measure_of(task_kind: str) -> Measure:
    """What a task is measured by, which the configuration calls `task_kind`."""
    return _OF_TASKS[task_kind]


def found_in(columns: Iterable[str]) -> Measure | None:
    """The measure of which one of `columns` is, such as the header of a ``metrics.csv``; None if there is none."""
    present = {*columns}
    return next((measure for measure in MEASURES.values() if present & {*measure.columns}), None)
