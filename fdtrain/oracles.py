"""The oracle of a task, as the driver asks it: with graphs and samples instead of matrices (SPEC §7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.graph import Graph
from fdtrain.precision import Precision
from fdtrain.schedule import Schedule
from fdtrain.tasks.base import Samples
from fdtrain.tasks.node_regression import Shift

Array = NDArray[np.float64]


class Rule(NamedTuple):
    """How W comes from a graph (SPEC §3)."""

    kind: str
    beta: float


class Mixed(NamedTuple):
    """Local gradients [V, p] that go through consensus together, and the matrix W [V, V] of its rounds."""

    W: reference.Matrix
    gradients: Array


class Oracle(Protocol):
    """What a mini-batch gives on global matrices. Parameters are θ [V, p], or [p], shared by all nodes."""

    @property
    def tolerance(self) -> float:
        """Relative error that rounding may leave in measures and gradients."""

    def measure(self, graph: Graph, samples: Samples, theta: Array) -> float:
        """The network's measure."""

    def node_measures(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        """Every node's, [V]."""

    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        """Every node's local gradient summed over the samples [V, p], from θ [V, p]."""

    def shared_pass(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        """The measure, and the centralized gradient [p] of the objective, from θ [p]."""

    def shared_by_sample(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        """The measure, and every sample's part [B, p] of the gradient of :meth:`shared_pass`."""

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        """The local gradients as `schedule` has them mixed: of the whole mini-batch, of every wave, of every sample."""

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        """What the nodes of every wave send to decide who is on, from θ [V, p]; of tasks where they do."""

    def fresh(self) -> Oracle:
        """The oracle as it is before the first mini-batch."""

    def learn(self, graph: Graph, samples: Samples, theta: Array) -> None:
        """Take in what a mini-batch changes besides θ, which is what it was before: a critic."""

    def learned(self) -> reference.State | None:
        """What it has taken in so far."""

    def go_on(self, learned: reference.State | None) -> None:
        """Be as the one that has :meth:`learned` this."""


class Unchanging:
    """Of an oracle in which nothing changes from mini-batch to mini-batch, and in whose task nobody decides."""

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        return []

    def fresh(self) -> Self:
        return self

    def learn(self, graph: Graph, samples: Samples, theta: Array) -> None: ...

    def learned(self) -> None:
        return None

    def go_on(self, learned: reference.State | None) -> None: ...


@dataclass(frozen=True)
class RegressionOracle(Unchanging):
    """A GCNN on a graph, with squared error."""

    model: reference.Model
    shift: Shift
    tolerance = 1e-12

    def rounded(self, rounding: reference.Rounding) -> RegressionOracle:
        """The same with messages in other types of numbers."""
        return replace(self, model=replace(self.model, rounding=rounding))

    def measure(self, graph: Graph, samples: Samples, theta: Array) -> float:
        return reference.mse(samples.y, self.model.forward(self.shift.of(graph), samples.x, theta))

    def node_measures(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        errors = samples.y - self.model.forward(self.shift.of(graph), samples.x, theta)
        found: Array = np.square(errors).mean(axis=(0, 2))
        return found

    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return self.model.local_gradients(self.shift.of(graph), samples.x, samples.y, theta)

    def shared_pass(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        output, gradient = self.model.shared_pass(self.shift.of(graph), samples.x, samples.y, theta)
        return reference.mse(samples.y, output), gradient

    def shared_by_sample(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        stops = range(len(samples.x) + 1)
        parts = [self.shared_pass(graph, part, theta) for part in cut(samples, stops)]
        return float(np.mean([measure for measure, _ in parts])), np.stack([part for _, part in parts])

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        W = reference.mixing_matrix(graph.adjacency(), *rule)
        parts = cut(samples, stops_of(schedule))
        return [Mixed(W, self.local_gradients(graph, part, theta)) for part in parts]


@dataclass(frozen=True)
class AllocationOracle(Unchanging):
    """UWMMSE on channels, with the sum rate."""

    model: reference.Uwmmse
    tolerance = 1e-10  # channel gains span many decades

    def measure(self, graph: Graph, samples: Samples, theta: Array) -> float:
        return float(self.node_measures(graph, samples, theta).sum())

    def node_measures(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        H = _channels(samples)
        found: Array = reference.rates(H, self.model.allocate(H, theta), self.model.noise).mean(axis=0)
        return found

    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        found: Array = self.model.local_pass(_channels(samples), theta)[1].sum(axis=0)
        return found

    def shared_pass(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        rates, gradient = self.model.shared_pass(_channels(samples), theta)
        return float(rates.sum(axis=1).mean()), gradient

    def shared_by_sample(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        H = _channels(samples)
        parts = [self.model.shared_pass(H[b : b + 1], theta) for b in range(len(H))]
        rates = float(np.mean([rates.sum() for rates, _ in parts]))
        return rates, np.stack([gradient for _, gradient in parts]) / len(H)  # of the mean over the samples

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        H = _channels(samples)
        W, (_, gradients) = reference.mutual_mixing(H, *rule), self.model.local_pass(H, theta)
        if schedule.exchange == "after_wave":
            return [Mixed(own, gradient) for own, gradient in zip(W, gradients, strict=True)]
        return [Mixed(W.mean(axis=0), gradients.sum(axis=0))]


def rounding_of(precision: Precision) -> reference.Rounding:
    """What messages are rounded to, in the oracle's terms."""
    return reference.Rounding(**precision.messages)


def stops_of(schedule: Schedule) -> list[int]:
    """Where the samples are cut into those whose gradients are mixed together."""
    if schedule.mixes_samples:
        return list(range(schedule.batch + 1))
    return [0, *accumulate(schedule.waves)] if schedule.exchange == "after_wave" else [0, schedule.batch]


def cut(samples: Samples, stops: Sequence[int]) -> list[Samples]:
    """The samples between the stops, without channels."""
    return [Samples(samples.x[a:b], samples.y[a:b]) for a, b in pairwise(stops)]


def updates(
    oracle: Oracle, graph: Graph, samples: Samples, theta: Array, *, by_sample: bool
) -> tuple[float, Array]:
    """The measure, and the centralized gradients of the updates [·, p] from θ [p]: one, or one of every sample."""
    if by_sample:
        return oracle.shared_by_sample(graph, samples, theta)
    measure, gradient = oracle.shared_pass(graph, samples, theta)
    return measure, gradient[None]


def mixed(parts: Sequence[Mixed], rounds: int, number: str = "float64") -> Array:
    """Σ over the parts of W^K g, [V, p], where g travels in that type of `number`."""
    total = np.zeros_like(parts[0].gradients)
    for W, gradients in parts:
        total += reference.mix(W, gradients, rounds, number)
    return total


def _channels(samples: Samples) -> Array:
    assert samples.channels is not None
    return samples.channels
