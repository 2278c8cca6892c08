"""Gradient clipping around any optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.base import Optimizer, SampleOptimizer

Array = NDArray[np.float64]


def clip_rows(grad: Array, max_norm: float) -> Array:
    """Every row of `grad` [n, p] scaled down to a Euclidean norm of at most `max_norm`."""
    norms: Array = np.sqrt(np.sum(grad * grad, axis=1, keepdims=True))
    factors: Array = np.minimum(1.0, max_norm / np.maximum(norms, float(np.finfo(grad.dtype).tiny)))
    return grad * factors


@dataclass(frozen=True)
class Clipped:
    """`inner`, fed with gradients of norm at most `max_norm`. Each node clips its own, before anything is mixed: the
    sum over the mini-batch, over a wave where each has a consensus of its own, or a sample where each has."""

    inner: Optimizer[Any]
    max_norm: float

    @property
    def travels(self) -> tuple[str, ...]:
        return self.inner.travels

    @property
    def mixes_gradient(self) -> bool:
        return self.inner.mixes_gradient

    @property
    def by_sample(self) -> bool:
        return self.inner.by_sample

    def init(self, theta: Array) -> Any:
        return self.inner.init(theta)

    def outgoing(self, state: Any, grad: Array) -> Array:
        if not self.mixes_gradient:
            return self.inner.outgoing(state, grad)
        return self.inner.outgoing(state, clip_rows(grad, self.max_norm))

    def step(self, grad: Array, mixed: Array, state: Any) -> Any:
        return self.inner.step(clip_rows(grad, self.max_norm), mixed, state)

    def steps(self, mixed: Array, state: Any) -> Any:
        return cast(SampleOptimizer[Any], self.inner).steps(mixed, state)

    def theta(self, state: Any) -> Array:
        return self.inner.theta(state)
