"""How far the nodes' parameters are apart, in the same bits however nodes are packed on ranks, and without all of θ in
one place.

Sums of floats depend on their order. Here every parameter is cut into integer multiples of a few quanta 2^(36 k), which
are added up as integers: in any order, and exactly. Each rank sends the sums of its nodes, rank 0 makes the mean θ̄ of
them and shares it, and every node tells its own ‖θ^i − θ̄‖². What is cut off is below 2^-72 of the largest parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.scans import blocks

Array = NDArray[np.float64]

MAX_NODES = 2**27  # sums of integers up to 2^35 stay below 2^62
_BITS = 36  # between two quanta
_LEVELS = 3
_LOWEST, _HIGHEST = -25, 28  # k of the first quantum for which all of them are powers that floats can have


class Sums(NamedTuple):
    """Σ over the nodes of a rank of their parameters [p], as multiples of the quanta 2^(36 k), k = top, top − 1, …"""

    top: int
    multiples: NDArray[np.int64]  # [_LEVELS, p]
    finite: bool  # whether all parameters are


def sums_of(theta: Array) -> Sums:
    """The sums of `theta` [n, p]; n may be 0."""
    largest = max((float(np.abs(block).max()) for block in blocks(theta) if block.size), default=0.0)
    multiples = np.zeros((_LEVELS, theta.shape[1]), dtype=np.int64)
    if not np.isfinite(largest):
        return Sums(_LOWEST, multiples, finite=False)
    top = _top(largest)
    with np.errstate(all="ignore"):  # what underflows is far below the last quantum
        for block in blocks(theta):
            rest = block.copy()
            for level in range(_LEVELS):
                quantum = 2.0 ** (_BITS * (top - level))
                whole = np.rint(rest * (1.0 / quantum))
                multiples[level] += whole.astype(np.int64).sum(axis=0)
                whole *= quantum
                rest -= whole  # exact
    return Sums(top, multiples, finite=True)


def _top(largest: float) -> int:
    """The least k for which every number is nearest to 0 among the multiples of 2^(36 (k + 1)): another rank may begin
    there, or higher, and finds the same."""
    if largest == 0:
        return _LOWEST
    exponent = int(np.frexp(largest)[1])  # largest < 2^exponent
    return min(max(-(-(exponent + 1) // _BITS) - 1, _LOWEST), _HIGHEST)


def mean_of(parts: Sequence[Sums], nodes: int) -> Array:
    """θ̄ [p] of so many nodes, from the sums of all ranks; NaN where a parameter is not finite.

    Raises:
        ValueError: more nodes than integers can count.
    """
    if nodes > MAX_NODES:
        raise ValueError(f"disagreement: of at most {MAX_NODES:,} nodes, found {nodes:,}")
    p = parts[0].multiples.shape[1]
    if not all(part.finite for part in parts):
        return np.full(p, np.nan)
    top = max(part.top for part in parts)
    total = np.zeros((_LEVELS, p), dtype=np.int64)
    for part in parts:
        for level in range(_LEVELS - (top - part.top)):  # what is smaller than that is left out
            total[level + top - part.top] += part.multiples[level]
    mean = np.zeros(p)
    for level in reversed(range(_LEVELS)):  # small ones first
        mean += total[level] / nodes * 2.0 ** (_BITS * (top - level))
    return mean


def squared_distances(theta: Array, mean: Array) -> Array:
    """‖θ^i − θ̄‖² of every row of `theta` [n, p], from θ̄ [p]: [n]."""
    found, first = np.empty(len(theta)), 0
    with np.errstate(all="ignore"):  # where training diverges
        for block in blocks(theta):
            apart = block - mean
            np.square(apart, apart)
            apart.sum(axis=1, out=found[first : first + len(block)])
            first += len(block)
    return found


def root_mean_square(squares: Array) -> float:
    """The disagreement, from the squared distances of all nodes [V]."""
    with np.errstate(all="ignore"):  # where training diverges
        return float(np.sqrt(squares.mean()))
