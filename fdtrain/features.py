"""Features and noise of synthetic samples (SPEC §6 A), every node's from generators of its own, wherever it lives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng

Array = NDArray[np.float64]

_BLOCK = 2**16  # numbers that are drawn before they are laid out, so that they stay in the processor's cache
_COLUMNS = 10  # of the mixed recipe, which begins anew after them
_DRAWN = 6  # numbers per sample that they are made of


def draw_features(draws: np.random.Generator, samples: int, width: int, kind: str) -> Array:
    """Features of one node, [samples, width], by the recipe of SPEC §6 A.

    ``mixed`` lays out U(0,1), N(0,1), integer 0..5, Bernoulli(.25), Bernoulli(.75), one-hot of 5 in blocks of ten
    columns; the last block is cut to the columns that are left (its one-hot part is one-hot of what remains).
    """
    x = np.empty((1, samples, width))
    _draw_each([draws], kind, x)
    first: Array = x[0]
    return first


def draw_all_features(
    seed: int, purpose: str, step: int, ids: NDArray[np.int64], samples: int, width: int, kind: str
) -> Array:
    """:func:`draw_features` of the nodes `ids` [n], [n, samples, width]; each has the generator of its number."""
    x = np.empty((len(ids), samples, width))
    _draw_each(rng.each(seed, purpose, step, ids), kind, x)
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


def _draw_each(draws: Iterable[np.random.Generator], kind: str, x: Array) -> None:
    """Draw the features `x` [n, N, g] of nodes that have these generators."""
    if kind == "mixed":
        _draw_mixed(draws, x)
        return
    for own, generator in zip(x, draws, strict=True):
        generator.random(out=own) if kind == "uniform" else generator.standard_normal(out=own)


def _draw_mixed(draws: Iterable[np.random.Generator], x: Array) -> None:
    n, samples, width = x.shape
    firsts, generators = range(0, width, _COLUMNS), iter(draws)
    step = max(1, _BLOCK // max(1, samples * _DRAWN * len(firsts)))
    drawn = np.empty((min(step, n), len(firsts), _DRAWN, samples))
    for start in range(0, n, step):
        rows = x[start : start + step]
        for own, generator in zip(drawn, islice(generators, len(rows)), strict=False):
            for first, numbers in zip(firsts, own, strict=True):
                generator.random(out=numbers[0])
                generator.standard_normal(out=numbers[1])
                numbers[2] = generator.integers(0, 6, samples)
                generator.random(out=numbers[3])
                generator.random(out=numbers[4])
                if width - first > 5:
                    numbers[5] = generator.integers(0, min(width - first, _COLUMNS) - 5, samples)
        for k, first in enumerate(firsts):
            _lay_out(drawn[: len(rows), k], rows[..., first : first + _COLUMNS])


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
