"""Decentralized stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]


class DSGDState(NamedTuple):
    """θ [n, p], and the number of mini-batches so far."""

    theta: Array
    t: int


@dataclass(frozen=True)
class DSGD:
    """θ ← mix(θ) − α g (SPEC §4; Nedić and Ozdaglar, "Distributed subgradient methods", 2009)."""

    lr: Rate  # α
    travels = ("θ",)
    mixes_gradient = False
    by_sample = False

    def init(self, theta: Array) -> DSGDState:
        return DSGDState(theta.copy(), 0)

    def outgoing(self, state: DSGDState, grad: Array) -> Array:
        return state.theta

    def step(self, grad: Array, mixed: Array, state: DSGDState) -> DSGDState:
        return DSGDState(mixed - self.lr(state.t) * grad, state.t + 1)

    def theta(self, state: DSGDState) -> Array:
        return state.theta
