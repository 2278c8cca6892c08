"""Decentralized Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.moments import Moments
from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]


class DAdamState(NamedTuple):
    """θ [n, p] and every node's own moments, which do not travel."""

    theta: Array
    moments: Moments


@dataclass(frozen=True)
class DAdam:
    """θ ← mix(θ) − α m̂/(√v̂ + ε), with bias-corrected moments of the local gradient (SPEC §4; Nazari, Tarzanagh and
    Michailidis, "DADAM", 2022)."""

    lr: Rate  # α
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    travels = ("θ",)
    mixes_gradient = False
    by_sample = False

    def init(self, theta: Array) -> DAdamState:
        return DAdamState(theta.copy(), Moments.start(theta))

    def outgoing(self, state: DAdamState, grad: Array) -> Array:
        return state.theta

    def step(self, grad: Array, mixed: Array, state: DAdamState) -> DAdamState:
        moments = state.moments.follow(grad, self.beta1, self.beta2)
        direction = moments.direction(self.beta1, self.beta2, self.epsilon)
        return DAdamState(mixed - self.lr(state.moments.t) * direction, moments)

    def theta(self, state: DAdamState) -> Array:
        return state.theta
