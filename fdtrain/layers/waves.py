"""Samples of a mini-batch, in order or cut into waves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def by_node(waves: Array, batch: int) -> Array:
    """[B', n, w, k] → [n, B, k]: the samples of a mini-batch in order, without the empty places of the last wave.

    Contiguous, whatever n is: with other strides NumPy may take another BLAS routine, and round otherwise.
    """
    count, n, w, k = waves.shape
    return np.ascontiguousarray(waves.swapaxes(0, 1).reshape(n, count * w, k)[:, :batch])


def by_wave(samples: Array, waves: Array) -> None:
    """[n, B, k] → `waves` [B', n, w, k]: the inverse of :func:`by_node`, in place."""
    w = waves.shape[2]
    full, rest = divmod(samples.shape[1], w)
    n, _, k = samples.shape
    waves[:full] = samples[:, : full * w].reshape(n, full, w, k).swapaxes(0, 1)
    if rest:
        waves[full, :, :rest] = samples[:, full * w :]
