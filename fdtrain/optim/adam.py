"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.moments import Moments
from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]
EpsilonForm = Literal["inside", "outside"]


class AdamState(NamedTuple):
    """θ [n, p] and its moments."""

    theta: Array
    moments: Moments


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba, "Adam", 2015, in the two forms that are in use (SPEC §4).

    outside: θ ← θ − α m̂/(√v̂ + ε);  inside: θ ← θ − α √(1−β2^t)/(1−β1^t) · m/(√v + ε)
    """

    lr: Rate  # α
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_form: EpsilonForm = "outside"

    def init(self, theta: Array) -> AdamState:
        return AdamState(theta.copy(), Moments.start(theta))

    def step(self, grad: Array, state: AdamState) -> AdamState:
        moments = state.moments.follow(grad, self.beta1, self.beta2)
        direct = moments.direction if self.epsilon_form == "outside" else moments.direction_inside
        direction = direct(self.beta1, self.beta2, self.epsilon)
        return AdamState(state.theta - self.lr(state.moments.t) * direction, moments)

    def theta(self, state: AdamState) -> Array:
        return state.theta
