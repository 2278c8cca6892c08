"""Looks at a row per node, such as θ [n, p], block by block: nothing of their size is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 2**16  # numbers: half a megabyte stays in the processor's cache
_LARGE = 2**26  # bytes of rows beside which nothing that is not in use is to be kept


class Largest(NamedTuple):
    """The largest parameter by size, and the first node that has it; NaN counts as infinite."""

    size: float
    node: int
    number: int  # of the parameter in θ


def blocks(rows: Array) -> Iterator[Array]:
    """Views of `rows` [n, p], one after another, none of them long."""
    step = max(1, BLOCK // max(rows.shape[1], 1))
    for first in range(0, len(rows), step):
        yield rows[first : first + step]


def is_finite(rows: Array) -> bool:
    """Whether all numbers are."""
    with np.errstate(all="ignore"):
        total = rows.sum()  # faster than to look at every number, and finite only if all of them are
    return bool(np.isfinite(total)) or all(bool(np.isfinite(block).all()) for block in blocks(rows))


def first_not_finite(rows: Array) -> tuple[int, int]:
    """Row and column of the first number that is not finite.

    Raises:
        ValueError: they all are.
    """
    first = 0
    for block in blocks(rows):
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            return first + int(bad[0, 0]), int(bad[0, 1])
        first += len(block)
    raise ValueError("all numbers are finite")


def largest(rows: Array) -> Largest:
    """The largest number by its size, of at least one row: its size, row and column."""
    found, first = Largest(-1.0, 0, 0), 0
    for block in blocks(rows):
        sizes = np.abs(block)
        sizes[np.isnan(sizes)] = np.inf
        row, column = np.unravel_index(int(sizes.argmax()), sizes.shape)
        size = float(sizes[row, column])
        if size > found.size:
            found = Largest(size, first + int(row), int(column))
        first += len(block)
    return found


def largest_of(parts: Sequence[Largest]) -> Largest:
    """The largest of those of several sets of nodes; the node of the lowest number has it, if several have."""

    def place(part: Largest) -> tuple[float, int, int]:
        return part.size, -part.node, -part.number

    return max(parts, key=place)


def give_back(rows: Array) -> None:
    """Free what nobody can reach any more, such as passes, whose actions refer to them, if `rows` are large."""
    if rows.nbytes > _LARGE:
        gc.collect()
