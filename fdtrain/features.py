"""Features and noise of synthetic samples (SPEC §6 A), every node's from generators of its own, wherever it lives."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng

Array = NDArray[np.float64]

_BLOCK = 2**15  # numbers that are drawn before they are laid out, so that they stay in the processor's cache
_COLUMNS = 10  # of the mixed recipe, which begins anew after them
_DRAWN = 6  # numbers per sample that they are made of
_SIDES = 6  # of the third one's dice
_DOUBTFUL = (
    _SIDES  # what is left of a product of 32 bits is below that if NumPy rejects it, for up to 6 sides
)


def draw_features(draws: np.random.Generator, samples: int, width: int, kind: str) -> Array:
    """Features of one node, [samples, width], by the recipe of SPEC §6 A.

    ``mixed`` lays out U(0,1), N(0,1), integer 0..5, Bernoulli(.25), Bernoulli(.75), one-hot of 5 in blocks of ten
    columns; the last block is cut to the columns that are left (its one-hot part is one-hot of what remains).
    """
    if kind == "uniform":
        return draws.random((samples, width))
    if kind == "normal":
        return draws.standard_normal((samples, width))
    x = np.empty((samples, width))
    for first in range(0, width, _COLUMNS):
        block = x[:, first : first + _COLUMNS]
        numbers = np.empty((_DRAWN, samples))
        draws.random(out=numbers[0])
        draws.standard_normal(out=numbers[1])
        numbers[2] = draws.integers(0, _SIDES, samples)
        draws.random(out=numbers[3])
        draws.random(out=numbers[4])
        if block.shape[1] > 5:
            numbers[5] = draws.integers(0, block.shape[1] - 5, samples)
        _lay_out(numbers[None], block[None])
    return x


def draw_all_features(
    seed: int,
    purpose: str,
    step: int,
    ids: NDArray[np.int64],
    samples: int,
    width: int,
    kind: str,
    dtype: Any = np.float64,
) -> Array:
    """:func:`draw_features` of the nodes `ids` [n], [n, samples, width]; each has the generator of its number."""
    x = np.empty((len(ids), samples, width), dtype)
    if kind == "mixed" and samples % 2 == 0 and sys.byteorder == "little":
        unsure = _draw_mixed(rng.each(seed, purpose, step, ids), x)
    else:
        unsure = np.arange(len(ids))
    for k, draws in zip(unsure, rng.each(seed, purpose, step, ids[unsure]), strict=True):
        x[k] = draw_features(draws, samples, width, kind)
    return x


def draw_noise(
    seed: int, purpose: str, step: int, ids: NDArray[np.int64], samples: int, width: int, scale: float
) -> Array:
    """N(0, `scale`²) of the nodes `ids` [n], [n, samples, width]."""
    noise = np.empty((len(ids), samples, width))
    for own, draws in zip(noise, rng.each(seed, purpose, step, ids), strict=True):
        draws.standard_normal(out=own)
    noise *= scale
    return noise


def _draw_mixed(draws: Iterable[np.random.Generator], x: Array) -> NDArray[np.int64]:
    """Draw the mixed features `x` [n, N, g] of nodes that have these generators, N even; return the nodes whose are not
    sure to be those of :func:`draw_features`, which then has to draw them.

    Integers below 6 are what NumPy makes of 32 bits, u·6 / 2^32, if it does not reject them: from words that are drawn
    for many nodes and turned into integers at once, where a call of NumPy's for every node takes longer than all else.
    """
    n, samples, width = x.shape
    firsts, generators, words = range(0, width, _COLUMNS), iter(draws), samples // 2
    step = max(1, _BLOCK // max(1, samples * _DRAWN * len(firsts)))
    drawn = np.empty((min(step, n), len(firsts), _DRAWN, samples))
    raw = np.empty((min(step, n), len(firsts), 2, words), dtype=np.uint64)
    unsure = []
    for start in range(0, n, step):
        rows = x[start : start + step]
        for own, bits, generator in zip(drawn, raw, islice(generators, len(rows)), strict=False):
            philox = generator.bit_generator
            for first, numbers, (whole, hot) in zip(firsts, own, bits, strict=True):
                generator.random(out=numbers[0])
                generator.standard_normal(out=numbers[1])
                whole[:] = philox.random_raw(words)
                generator.random(out=numbers[3])
                generator.random(out=numbers[4])
                if width - first > 5:
                    hot[:] = philox.random_raw(words)
        rejected = np.zeros(len(rows), dtype=np.bool_)
        for k, first in enumerate(firsts):
            block = rows[..., first : first + _COLUMNS]
            for row, sides in ((0, _SIDES), (1, block.shape[2] - 5)):
                if sides > 0:
                    drawn[: len(rows), k, (2, 5)[row]], doubtful = _below(sides, raw[: len(rows), k, row])
                    rejected |= doubtful
            _lay_out(drawn[: len(rows), k], block)
        unsure.append(start + np.flatnonzero(rejected))
    return np.concatenate([np.empty(0, dtype=np.int64), *unsure])


def _below(sides: int, words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Integers below `sides` [n, N] from `words` [n, N / 2], the lower half of each first, and the rows in which NumPy
    may have rejected some (Lemire, "Fast random integer generation in an interval", 2019)."""
    if sides == 1:  # without drawing
        return np.zeros((len(words), 2 * words.shape[1]), dtype=np.uint64), np.zeros(
            len(words), dtype=np.bool_
        )
    products = np.ascontiguousarray(words).view(np.uint32).astype(np.uint64)
    products *= np.uint64(sides)
    doubtful = (products & np.uint64(2**32 - 1)) < np.uint64(_DOUBTFUL)
    return products >> np.uint64(32), np.any(doubtful, axis=1)


def _lay_out(drawn: Array, x: Array) -> None:
    """From what was drawn [n, 6, N] to up to ten columns `x` [n, N, ·]."""
    width = x.shape[2]
    for column in range(min(width, 3)):
        x[..., column] = drawn[:, column]
    for column, probability in ((3, 0.25), (4, 0.75)):
        if column < width:
            np.less(drawn[:, column], probability, out=x[..., column])
    for column in range(5, width):
        np.equal(drawn[:, 5], column - 5, out=x[..., column])
