"""The columns that compare a run with the baseline's: of the run with the baseline's labels and otherwise the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fdtrain.sweep.plan import Point
from fdtrain.sweep.schema import EXCESS, RECOVERY, RELATIVE, Recovery, SweepConfig

Row = dict[str, Any]
Pair = tuple[Point, Row, Point, Row]


def pairs(rows: Sequence[Row], points: Sequence[Point], sweep: SweepConfig) -> Iterator[Pair]:
    """Every point and its row, and those of its baseline, where both are complete."""
    by_labels = {tuple(point.labels.items()): k for k, point in enumerate(points)}
    for point, row in zip(points, rows, strict=True):
        k = by_labels[tuple({**point.labels, **(sweep.baseline or {})}.items())]
        if row["status"] == rows[k]["status"] == "complete":
            yield point, row, points[k], rows[k]


def add_differences(found: Sequence[Pair], sweep: SweepConfig) -> None:
    """Final results minus, and divided by, the baseline's."""
    for _, row, _, base in found:
        for excess, relative, measure in zip(EXCESS, RELATIVE, sweep.measure.columns, strict=True):
            row[excess] = row[measure] - base[measure]
            row[relative] = row[measure] / base[measure] if base[measure] else None


def add_recovery(
    found: Sequence[Pair], sweep: SweepConfig, metric_of: Callable[[Point], Sequence[float]]
) -> None:
    """How many epochs it took; `metric_of` has the metric after every epoch of a point's run."""
    recovery = sweep.recovery
    if recovery is None:
        return
    rises = recovery.metric in sweep.measure.columns and not sweep.measure.falls
    for point, row, reference, _ in found:
        row[RECOVERY[0]] = epochs_to_recover(recovery, metric_of(point), metric_of(reference), rises=rises)


def epochs_to_recover(
    recovery: Recovery, values: Sequence[float], baseline: Sequence[float], *, rises: bool = False
) -> int | None:
    """Epochs after ``recovery.since`` until the metric stays within the baseline's, over the epochs that both have.

    Args:
        recovery: what counts as recovered.
        values: the metric after each epoch, the first one's first.
        baseline: the same of the run without the disturbance.
        rises: whether more is better.

    Returns:
        0 where it never was beyond; None where it is beyond at the last epoch, or there is none after ``since``.
    """
    within = recovery.within
    good = [
        value >= wanted / within if rises else value <= wanted * within
        for value, wanted in zip(values, baseline, strict=False)
    ]
    after = good[max(0, recovery.since - 1) :]
    if not after or not after[-1]:
        return None
    bad = [k for k, one in enumerate(after) if not one]
    first = recovery.since or 1  # the epoch of after[0]
    return first + bad[-1] + 1 - recovery.since if bad else 0
