"""Consensus on the gradient, then an ordinary optimizer at every node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.optim.base import LocalOptimizer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Naive:
    """g ← mixᴷ(g), paper (15), then `local` at every node (SPEC §4, "naive").

    K is the schedule's number of consensus rounds. With exact averaging it is the centralized optimizer. With
    `by_sample` it makes an update for every sample of the mini-batch, in their order, of gradients that were all taken
    at the θ with which the mini-batch began.
    """

    local: LocalOptimizer[Any]
    by_sample: bool = False
    travels = ("g",)
    mixes_gradient = True

    def init(self, theta: Array) -> Any:
        return self.local.init(theta)

    def outgoing(self, state: Any, grad: Array) -> Array:
        return grad

    def step(self, grad: Array, mixed: Array, state: Any) -> Any:
        return self.local.step(mixed, state)

    def steps(self, mixed: Array, state: Any) -> Any:
        return self.local.steps(mixed, state)

    def theta(self, state: Any) -> Array:
        return self.local.theta(state)
