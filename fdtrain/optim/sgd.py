"""Plain stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]


class SGDState(NamedTuple):
    """θ [n, p], and the number of updates so far."""

    theta: Array
    t: int


@dataclass(frozen=True)
class SGD:
    """θ ← θ − α g."""

    lr: Rate  # α

    def init(self, theta: Array) -> SGDState:
        return SGDState(theta.copy(), 0)

    def step(self, grad: Array, state: SGDState) -> SGDState:
        return SGDState(state.theta - self.lr(state.t) * grad, state.t + 1)

    def steps(self, grads: Array, state: SGDState) -> SGDState:
        for sample in range(grads.shape[1]):
            state = self.step(grads[:, sample], state)
        return state

    def theta(self, state: SGDState) -> Array:
        return state.theta
