"""Whole mini-batches of an experiment on global matrices: what every θ^i has to follow (SPEC §7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.experiment import Experiment, make_recursion

Array = NDArray[np.float64]


class Trajectory(Protocol):
    """θ [V, p] of all nodes, mini-batch by mini-batch."""

    @property
    def theta(self) -> Array:
        """After the mini-batches so far."""

    def advance(self, W: reference.Matrix, gradients: Sequence[Array]) -> None:
        """One mini-batch, with mixing matrix W [V, V] and the local gradients [V, p] that are mixed together: of the
        whole mini-batch, or of every wave."""


class OracleTrajectory:
    """By the oracle's recursion."""

    def __init__(self, experiment: Experiment, theta: Array) -> None:
        self._recursion, self._rate = make_recursion(experiment.config), experiment.rate
        self._max_norm = experiment.config.optimizer.clip_norm
        self._state = self._recursion.start(theta)

    @property
    def theta(self) -> Array:
        return self._state.theta

    def advance(self, W: reference.Matrix, gradients: Sequence[Array]) -> None:
        if self._max_norm is not None:
            gradients = [reference.clip_rows(gradient, self._max_norm) for gradient in gradients]
        total = np.sum(gradients, axis=0)
        self._state = self._recursion.advance(self._state, W, total, self._rate(self._state.t))


class OwnTrajectory:
    """By the step of a user's optimizer, of which the oracle has no recursion: it proves the messages, not the step."""

    def __init__(self, experiment: Experiment, theta: Array) -> None:
        self._optimizer, self._rounds = experiment.job.optimizer, experiment.job.consensus_rounds
        self._state: Any = self._optimizer.init(theta)

    @property
    def theta(self) -> Array:
        return self._optimizer.theta(self._state)

    def advance(self, W: reference.Matrix, gradients: Sequence[Array]) -> None:
        mixed = np.sum([self._optimizer.outgoing(self._state, gradient) for gradient in gradients], axis=0)
        for _ in range(self._rounds):
            mixed = np.asarray(W @ mixed)
        self._state = self._optimizer.step(np.sum(gradients, axis=0), mixed, self._state)
