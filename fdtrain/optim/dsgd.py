"""Decentralized stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.mixing import Mixing

Array = NDArray[np.float64]


class DSGDState(NamedTuple):
    """θ [n, p]."""

    theta: Array


@dataclass(frozen=True)
class DSGD:
    """θ ← mix(θ) − α g (SPEC §4; Nedić and Ozdaglar, "Distributed subgradient methods", 2009); θ travels."""

    lr: float  # α
    mixing: Mixing

    def travelling(self, num_parameters: int) -> int:
        return num_parameters

    def init(self, theta: Array) -> DSGDState:
        return DSGDState(theta.copy())

    def outgoing(self, state: DSGDState) -> Array:
        return state.theta

    def step(self, grad: Array, mixed: Array, state: DSGDState) -> DSGDState:
        return DSGDState(mixed - self.lr * grad)

    def theta(self, state: DSGDState) -> Array:
        return state.theta
