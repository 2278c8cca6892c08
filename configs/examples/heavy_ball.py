"""An optimizer of one's own: decentralized SGD with Polyak's momentum, θ ← mix(θ) − α u with u ← μ u + g; θ travels.

It is what any file in fdtrain/optim is, and computes row by row: a row is a node.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fdtrain.optim.rates import Rate


class HeavyBallState(NamedTuple):
    """θ and u [n, p], and the number of mini-batches so far."""

    theta: np.ndarray
    u: np.ndarray
    t: int


@dataclass(frozen=True)
class HeavyBall:
    """Made with the learning rate `lr` and whatever `parameters` the configuration gives."""

    lr: Rate  # α of mini-batch t
    momentum: float = 0.9  # μ
    travels = ("θ",)  # what is mixed: one row of p numbers
    mixes_gradient = False

    def init(self, theta):
        return HeavyBallState(theta.copy(), np.zeros_like(theta), 0)

    def outgoing(self, state, grad):
        return state.theta

    def step(self, grad, mixed, state):
        u = self.momentum * state.u + grad
        return HeavyBallState(mixed - self.lr(state.t) * u, u, state.t + 1)

    def theta(self, state):
        return state.theta
