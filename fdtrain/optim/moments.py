"""Adam's running moments of the gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Moments(NamedTuple):
    """m and v [n, p] after t updates."""

    m: Array
    v: Array
    t: int

    @classmethod
    def start(cls, theta: Array) -> Moments:
        """Zero moments in the shape of θ [n, p]."""
        return cls(np.zeros_like(theta), np.zeros_like(theta), 0)

    def follow(self, grad: Array, beta1: float, beta2: float) -> Moments:
        """m ← β1 m + (1 − β1) g, v ← β2 v + (1 − β2) g²."""
        return Moments(
            beta1 * self.m + (1.0 - beta1) * grad, beta2 * self.v + (1.0 - beta2) * grad * grad, self.t + 1
        )

    def direction(self, beta1: float, beta2: float, epsilon: float) -> Array:
        """m̂ / (√v̂ + ε) with the bias-corrected moments m̂ = m/(1 − β1^t), v̂ = v/(1 − β2^t)."""
        m, v = self.m / (1.0 - beta1**self.t), self.v / (1.0 - beta2**self.t)
        return np.asarray(m / (np.sqrt(v) + epsilon))

    def direction_inside(self, beta1: float, beta2: float, epsilon: float) -> Array:
        """√(1 − β2^t)/(1 − β1^t) · m/(√v + ε): ε is added before the correction of v."""
        correction = math.sqrt(1.0 - beta2**self.t) / (1.0 - beta1**self.t)
        return np.asarray(correction * self.m / (np.sqrt(self.v) + epsilon))
