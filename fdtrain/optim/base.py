"""What an optimizer is: explicit state, one row per node, and no communication of its own."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fdtrain.mixing import Mixing

Array = NDArray[np.float64]
State = TypeVar("State")


class Optimizer(Protocol[State]):
    """A decentralized optimizer: ``init → state``, ``outgoing(state) → rows to mix``, ``step → state``.

    What ``outgoing`` returns travels to the neighbours during the mini-batch; ``step`` is handed it averaged by the
    node's row of W.
    """

    @property
    def mixing(self) -> Mixing:
        """The rule for W."""

    def travelling(self, num_parameters: int) -> int:
        """Numbers per node that ``outgoing`` has."""

    def init(self, theta: Array) -> State:
        """The state before the first mini-batch, from θ [n, p]."""

    def outgoing(self, state: State) -> Array:
        """The rows to be mixed, [n, travelling]."""

    def step(self, grad: Array, mixed: Array, state: State) -> State:
        """One update from the local gradient summed over the mini-batch [n, p] and the mixed rows."""

    def theta(self, state: State) -> Array:
        """The parameters, [n, p]."""
