"""Decentralized AMSGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.moments import Moments
from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]


class DAMSGradState(NamedTuple):
    """θ, ũ [n, p], which travel, and v̂ [n, p] and the moments, which do not."""

    theta: Array
    u: Array
    v_max: Array
    moments: Moments


@dataclass(frozen=True)
class DAMSGrad:
    """AMSGrad whose second moment is mixed as well (SPEC §4; Chen, Karimi, Zhao and Li, "Convergent adaptive gradient
    methods in decentralized optimization", 2023).

    v̂' = max(v̂, v),  θ ← mix(θ) − α m/√max(mix(ũ), ε),  ũ ← mix(ũ) − v̂ + v̂',  v̂ ← v̂'

    ũ tracks the network's mean of v̂: both start at ε. There is no bias correction.
    """

    lr: Rate  # α
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    travels = ("θ", "ũ")
    mixes_gradient = False
    by_sample = False

    def init(self, theta: Array) -> DAMSGradState:
        start = np.full_like(theta, self.epsilon)
        return DAMSGradState(theta.copy(), start, start, Moments.start(theta))

    def outgoing(self, state: DAMSGradState, grad: Array) -> Array:
        return np.concatenate([state.theta, state.u], axis=1)

    def step(self, grad: Array, mixed: Array, state: DAMSGradState) -> DAMSGradState:
        theta, u = np.split(mixed, 2, axis=1)
        moments = state.moments.follow(grad, self.beta1, self.beta2)
        v_max = np.maximum(state.v_max, moments.v)
        theta = theta - self.lr(state.moments.t) * moments.m / np.sqrt(np.maximum(u, self.epsilon))
        return DAMSGradState(theta, u - state.v_max + v_max, v_max, moments)

    def theta(self, state: DAMSGradState) -> Array:
        return state.theta
