"""The cells of a report's tables: the text that is shown, the value that sorts, and the exact value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fdtrain.progress import duration, size
from fdtrain.report.read import finite

NONE = "–"


@dataclass
class Cell:
    """One cell; `sort` is empty where the text sorts, `exact` where the text is all there is to say."""

    text: str
    sort: str = ""
    exact: str = ""
    tone: str = ""  # good, bad or warn


@dataclass
class Table:
    """A header and rows."""

    head: list[str]
    rows: list[list[Cell]]

    @property
    def classes(self) -> list[str]:
        """Of every column: ``number`` where it is set flush right."""
        return [
            "number" if any(cell.sort for cell in column) else "text"
            for column in zip(*self.rows, strict=True)
        ]


def measure(value: float | None) -> Cell:
    """A loss or the like."""
    if value is None:
        return Cell(NONE)
    return Cell(f"{value:.4g}", repr(value) if math.isfinite(value) else "Infinity", f"{value:.17g}",
                "" if math.isfinite(value) else "bad")  # fmt: skip


def count(value: float | None) -> Cell:
    """A whole number."""
    return Cell(NONE) if value is None else Cell(f"{value:,.0f}", f"{value:.0f}")


def amount(value: float | None) -> Cell:
    """Bytes."""
    return Cell(NONE) if value is None else Cell(size(value), f"{value:.0f}", f"{value:,.0f} bytes")


def spread(values: Sequence[float | None], show: Callable[[float], str] | None = None) -> Cell:
    """Mean ± sample standard deviation; the plain value where nothing varies."""
    known = [value for value in values if value is not None]
    bad = sum(finite(value) is None for value in known)
    if not known or bad:
        return Cell(f"{bad} of {len(known)} diverged", "Infinity", tone="bad") if bad else Cell(NONE)
    with np.errstate(all="ignore"):
        mean, deviation = float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    exact = f"{mean:.17g} ± {deviation:.6g}"
    if show is not None:
        return Cell(show(mean) + (f" ± {show(deviation)}" if deviation else ""), repr(mean), exact)
    if not deviation:
        return measure(mean)
    decimals = max(0, 1 - math.floor(math.log10(deviation))) if math.isfinite(deviation) else 99
    if decimals > 8 or max(abs(mean), deviation) >= 1e6:
        return Cell(f"{mean:.4g} ± {deviation:.2g}", repr(mean), exact)
    return Cell(f"{mean:.{decimals}f} ± {deviation:.{decimals}f}", repr(mean), exact)


def rate_of(rate: Any, schedule: Any) -> Cell:
    if not isinstance(rate, (int, float)):
        return Cell(NONE)
    return Cell(
        f"{rate:g}" + (f", {schedule}" if schedule not in (None, "constant") else ""), repr(float(rate))
    )


def guess(text: str) -> Cell:
    value = as_float(text)
    return Cell(text) if value is None or math.isnan(value) else Cell(text, repr(value))


def as_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def time_taken(value: Any) -> Cell:
    seconds = as_float(value)
    if seconds is None or not math.isfinite(seconds):
        return Cell(NONE)
    return Cell(f"{seconds:.2g} s" if seconds < 10 else duration(seconds), repr(seconds), f"{seconds:,} s")
