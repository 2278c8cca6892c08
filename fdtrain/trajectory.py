"""Whole mini-batches of an experiment on global matrices: what every θ^i has to follow (SPEC §7.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.experiment import Experiment, make_recursion
from fdtrain.oracles import Mixed, mixed

Array = NDArray[np.float64]


class Trajectory(Protocol):
    """θ [V, p] of all nodes, mini-batch by mini-batch."""

    @property
    def theta(self) -> Array:
        """After the mini-batches so far."""

    def advance(self, parts: Sequence[Mixed]) -> None:
        """One mini-batch, with the local gradients that are mixed together: of all, every wave or every sample."""


class OracleTrajectory:
    """By the oracle's recursion."""

    def __init__(self, experiment: Experiment, theta: Array) -> None:
        self._number = number_of_rows(experiment)
        recursion = replace(make_recursion(experiment.config), parameters=self._number)
        self._rate, self._rounds = experiment.rate, recursion.consensus_rounds
        self._naive = recursion.kind.startswith("naive_")
        kind = recursion.kind.removeprefix("naive_")  # what comes after consensus
        self._recursion = replace(recursion, kind=kind)
        self._by_sample = experiment.config.optimizer.by_sample
        self._max_norm = experiment.config.optimizer.clip_norm
        self._state = self._recursion.start(theta)

    @property
    def theta(self) -> Array:
        return self._state.theta

    def advance(self, parts: Sequence[Mixed]) -> None:
        if self._max_norm is not None:
            parts = [Mixed(W, reference.clip_rows(gradients, self._max_norm)) for W, gradients in parts]
        for group in [[part] for part in parts] if self._by_sample else [parts]:
            if self._naive:
                W, total = None, mixed(group, self._rounds, self._number)
            else:
                ((W, total),) = group
            self._state = self._recursion.advance(self._state, W, total, self._rate(self._state.t))


class OwnTrajectory:
    """By the step of a user's optimizer, of which the oracle has no recursion: it proves the messages, not the step."""

    def __init__(self, experiment: Experiment, theta: Array) -> None:
        self._optimizer, self._rounds = experiment.job.optimizer, experiment.job.consensus_rounds
        self._number = number_of_rows(experiment)
        self._state: Any = self._optimizer.init(theta)

    @property
    def theta(self) -> Array:
        return self._optimizer.theta(self._state)

    def advance(self, parts: Sequence[Mixed]) -> None:
        outgoing = [Mixed(W, self._optimizer.outgoing(self._state, gradients)) for W, gradients in parts]
        total = np.sum([gradients for _, gradients in parts], axis=0)
        self._state = self._optimizer.step(total, mixed(outgoing, self._rounds, self._number), self._state)


def number_of_rows(experiment: Experiment) -> str:
    """The type of numbers in which what is mixed travels, as the oracle knows it: float64 where it is not rounded."""
    return experiment.job.precision.messages.get("parameters", "float64")
