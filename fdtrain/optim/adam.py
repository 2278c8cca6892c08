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
_BLOCK = 6_000  # numbers of an array that stays in the processor's cache through all samples


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

    def steps(self, grads: Array, state: AdamState) -> AdamState:
        theta, (m, v, t) = state.theta.copy(), state.moments
        m, v = m.copy(), v.copy()
        n, w, p = grads.shape
        block = max(1, _BLOCK // max(p, 1))
        for first in range(0, n, block):
            rows = slice(first, first + block)
            self._walk(theta[rows], m[rows], v[rows], t, grads[rows])
        return AdamState(theta, Moments(m, v, t + w))

    def _walk(self, theta: Array, m: Array, v: Array, t: int, grads: Array) -> None:
        """The same arithmetic as :meth:`step`, in place."""
        a, b = np.empty_like(theta), np.empty_like(theta)
        outside = self.epsilon_form == "outside"
        for sample in range(grads.shape[1]):
            g, lr = grads[:, sample], self.lr(t)
            t += 1
            first, second = 1.0 - self.beta1**t, 1.0 - self.beta2**t
            np.multiply(m, self.beta1, m)
            np.multiply(g, 1.0 - self.beta1, a)
            np.add(m, a, m)
            np.multiply(v, self.beta2, v)
            np.multiply(g, 1.0 - self.beta2, a)
            np.multiply(a, g, a)
            np.add(v, a, v)
            if outside:
                np.divide(m, first, a)
                np.divide(v, second, b)
            else:
                np.multiply(m, np.sqrt(second) / first, a)
            np.sqrt(b if outside else v, b)
            np.add(b, self.epsilon, b)
            np.divide(a, b, a)
            np.multiply(a, lr, a)
            np.subtract(theta, a, theta)

    def theta(self, state: AdamState) -> Array:
        return state.theta
