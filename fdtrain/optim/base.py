"""What an optimizer is: explicit state, one row per node, and no communication of its own."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = TypeVar("State")


class Optimizer(Protocol[State]):
    """An optimizer on the network: ``init → state``, ``outgoing → rows to mix``, ``step → state``.

    What ``outgoing`` returns travels to the neighbours, once during the mini-batch or K times after it; ``step`` is
    handed it averaged, each time, by the node's row of W. One row per node; all arithmetic is row by row, so that a
    node computes the same bits whoever shares its rank.
    """

    @property
    def travels(self) -> tuple[str, ...]:
        """Names of the rows of p numbers that are mixed, in the order in which ``outgoing`` has them."""

    @property
    def mixes_gradient(self) -> bool:
        """Whether the gradient itself is mixed. Then ``outgoing`` is called when it is known, maybe wave by wave, and
        the scheme cannot be ``piggyback_do``, where rows ride along with the mini-batch."""

    @property
    def by_sample(self) -> bool:
        """Whether every sample's mixed gradient is an update of its own: such an optimizer mixes the gradient, and is a
        :class:`SampleOptimizer`. Its scheme is ``per_sample``."""

    def init(self, theta: Array) -> State:
        """The state before the first mini-batch, from θ [n, p]."""

    def outgoing(self, state: State, grad: Array) -> Array:
        """The rows to be mixed, [n, len(travels)·p]; `grad` [n, p] has a meaning if ``mixes_gradient``."""

    def step(self, grad: Array, mixed: Array, state: State) -> State:
        """One update, from the local gradient summed over the mini-batch [n, p] and the mixed rows.

        Both arrays are used again: keep copies.
        """

    def theta(self, state: State) -> Array:
        """The parameters, [n, p]."""


class SampleOptimizer(Optimizer[State], Protocol[State]):
    """An optimizer that makes an update for every sample. ``step`` is not called."""

    def steps(self, mixed: Array, state: State) -> State:
        """An update for each of w samples, one after another, from their mixed rows [n, w, p]."""


class LocalOptimizer(Protocol[State]):
    """An optimizer that mixes nothing: the part of a naive one that comes after consensus on the gradient."""

    def init(self, theta: Array) -> State:
        """The state before the first mini-batch, from θ [n, p]."""

    def step(self, grad: Array, state: State) -> State:
        """One update from the gradient [n, p]."""

    def steps(self, grads: Array, state: State) -> State:
        """The updates of ``step`` from w gradients, one after another, [n, w, p]."""

    def theta(self, state: State) -> Array:
        """The parameters, [n, p]."""
