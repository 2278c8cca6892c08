"""Gradient tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]


class GradientTrackingState(NamedTuple):
    """θ and y [n, p], which travel, the last gradient [n, p], and the number of mini-batches so far."""

    theta: Array
    y: Array
    grad: Array
    t: int


@dataclass(frozen=True)
class GradientTracking:
    """y ← mix(y) + g(t) − g(t−1), θ ← mix(θ) − α y (SPEC §4; Nedić, Olshevsky and Shi, "DIGing", 2017).

    The mean of y over the network is that of the gradients; y and the gradient before the first start at 0.
    """

    lr: Rate  # α
    travels = ("θ", "y")
    mixes_gradient = False
    by_sample = False

    def init(self, theta: Array) -> GradientTrackingState:
        return GradientTrackingState(theta.copy(), np.zeros_like(theta), np.zeros_like(theta), 0)

    def outgoing(self, state: GradientTrackingState, grad: Array) -> Array:
        return np.concatenate([state.theta, state.y], axis=1)

    def step(self, grad: Array, mixed: Array, state: GradientTrackingState) -> GradientTrackingState:
        theta, y = np.split(mixed, 2, axis=1)
        y = y + grad - state.grad
        return GradientTrackingState(theta - self.lr(state.t) * y, y, grad.copy(), state.t + 1)

    def theta(self, state: GradientTrackingState) -> Array:
        return state.theta
