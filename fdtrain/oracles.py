"""The oracle of a task, as the driver asks it: with graphs and samples instead of matrices (SPEC §7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.graph import Graph
from fdtrain.losses import EXPLORE, NOISE, SHARE, WEIGHT
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


@dataclass(frozen=True)
class RegressionOracle:
    """A GCNN on a graph, with squared error."""

    model: reference.Model
    shift: Shift
    tolerance = 1e-12

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
        parts = [self.shared_pass(graph, part, theta) for part in _cut(samples, stops)]
        return float(np.mean([measure for measure, _ in parts])), np.stack([part for _, part in parts])

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        W = reference.mixing_matrix(graph.adjacency(), *rule)
        parts = _cut(samples, _stops(schedule))
        return [Mixed(W, self.local_gradients(graph, part, theta)) for part in parts]

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        return []

    def fresh(self) -> RegressionOracle:
        return self

    def learn(self, graph: Graph, samples: Samples, theta: Array) -> None: ...


@dataclass(frozen=True)
class AllocationOracle:
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

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        return []

    def fresh(self) -> AllocationOracle:
        return self

    def learn(self, graph: Graph, samples: Samples, theta: Array) -> None: ...


class SchedulingOracle:
    """An actor on conflict graphs, and a central critic that learns beside it."""

    tolerance = 1e-10  # standardising z divides by a small number

    def __init__(
        self,
        actor: reference.Model,
        critic: reference.Critic,
        shift: Shift,
        phi: Array,
        *,
        samples: int,
        lr: float,
    ) -> None:
        """`phi` are the critic's parameters at the start; it learns from so many samples of a mini-batch, by Adam with
        α = `lr`."""
        self._actor, self._critic, self._shift = actor, critic, shift
        self._samples, self._lr = samples, lr
        self._steps, self._start = reference.Recursion("adam"), phi
        self._state = self._steps.start(phi)

    def measure(self, graph: Graph, samples: Samples, theta: Array) -> float:
        return float(self.node_measures(graph, samples, theta).sum())

    def node_measures(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return _utilities(graph, samples, self._z(graph, samples, theta))

    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return self._actor.summed_pullback(*self._pulled(graph, samples, theta), theta)

    def shared_pass(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        S, x, dz = self._pulled(graph, samples, theta)
        if _alike(x):  # then z is, and the gradient is linear in dz
            x, dz = x[:1], dz.sum(axis=0, keepdims=True)
        gradient: Array = self._actor.shared_pullback(S, x, dz, theta).sum(axis=0)
        return self.measure(graph, samples, theta), gradient

    def shared_by_sample(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        pulled = self._pulled(graph, samples, theta)
        return self.measure(graph, samples, theta), self._actor.shared_pullback(*pulled, theta)

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        W = reference.mixing_matrix(graph.adjacency(), *rule)
        if schedule.mixes_samples:
            gradients = self._actor.pullback(*self._pulled(graph, samples, theta), theta)
            return [Mixed(W, gradient) for gradient in gradients]
        parts = _cut(samples, _stops(schedule))
        return [Mixed(W, self.local_gradients(graph, part, theta)) for part in parts]

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        return _decisions(graph, samples, self._z(graph, samples, theta), schedule)

    def fresh(self) -> SchedulingOracle:
        return SchedulingOracle(
            self._actor, self._critic, self._shift, self._start, samples=self._samples, lr=self._lr
        )

    def learn(self, graph: Graph, samples: Samples, theta: Array) -> None:
        samples = Samples(samples.x[: self._samples], samples.y[: self._samples])
        noisy = self._z(graph, samples, theta) + samples.y[..., NOISE]
        if not np.isfinite(noisy).all():  # training diverged
            return
        u, S = samples.y[..., WEIGHT], reference.conflict_shift(graph.adjacency())
        wanted = reference.target(u, reference.greedy(graph.adjacency(), noisy * u))
        _, gradient = self._critic.loss_and_gradient(S, noisy, wanted, self._state.theta)
        self._state = self._steps.advance(self._state, None, gradient, self._lr)

    def output(self, graph: Graph, theta: Array) -> Array:
        """z [V], which is the same for all samples."""
        z: Array = self._actor.forward(self._shift.of(graph), np.ones((1, graph.num_nodes, 1)), theta)[
            0, :, 0
        ]
        return z

    def _z(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        x = samples.x[:1] if _alike(samples.x) else samples.x
        z: Array = self._actor.forward(self._shift.of(graph), x, theta)[..., 0]
        return np.broadcast_to(z, samples.x.shape[:2])

    def _pulled(self, graph: Graph, samples: Samples, theta: Array) -> tuple[reference.Matrix, Array, Array]:
        explored = self._z(graph, samples, theta) + samples.y[..., EXPLORE]
        S = reference.conflict_shift(graph.adjacency())  # the critic's, whatever the actor's
        distinct, which = np.unique(explored, axis=0, return_inverse=True)
        dz = self._critic.sensitivity(S, distinct, self._state.theta)[which]
        return self._shift.of(graph), samples.x, dz[..., None]


@dataclass(frozen=True)
class TwinOracle:
    """An actor on conflict graphs, and a critic that is a part of every node's parameters."""

    model: reference.Twin
    shift: Shift
    tolerance = 1e-10

    def measure(self, graph: Graph, samples: Samples, theta: Array) -> float:
        return float(self.node_measures(graph, samples, theta).sum())

    def node_measures(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return _utilities(graph, samples, self._z(graph, samples, theta))

    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return self.model.summed_gradients(self.shift.of(graph), *_drawn(samples, theta))

    def shared_pass(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        measure, gradients = self.shared_by_sample(graph, samples, theta)
        total: Array = gradients.sum(axis=0)
        return measure, total

    def shared_by_sample(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        gradients = self.model.shared_gradients(self.shift.of(graph), *_drawn(samples, theta))
        return self.measure(graph, samples, theta), gradients

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        W = reference.mixing_matrix(graph.adjacency(), *rule)
        if schedule.mixes_samples:
            gradients = self.model.local_gradients(self.shift.of(graph), *_drawn(samples, theta))
            return [Mixed(W, gradient) for gradient in gradients]
        return [
            Mixed(W, self.local_gradients(graph, part, theta)) for part in _cut(samples, _stops(schedule))
        ]

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        return _decisions(graph, samples, self._z(graph, samples, theta), schedule)

    def fresh(self) -> TwinOracle:
        return self

    def learn(self, graph: Graph, samples: Samples, theta: Array) -> None: ...

    def output(self, graph: Graph, theta: Array) -> Array:
        """z [V], which is the same for all samples."""
        V = graph.num_nodes
        rows = np.broadcast_to(theta, (V, theta.shape[-1]))
        z: Array = self.model.forward(self.shift.of(graph), np.zeros((1, V)), rows)[0][0]
        return z

    def _z(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        rows = np.broadcast_to(theta, (graph.num_nodes, theta.shape[-1]))
        e, _, *given = _drawn(samples, rows)
        return self.model.forward(self.shift.of(graph), e, *given)[0]


def _drawn(samples: Samples, theta: Array) -> tuple[Array, Array, Array, Array]:
    """e and u [B, V], θ, and x [B, V, 1]."""
    return samples.y[..., NOISE], samples.y[..., WEIGHT], theta, samples.x[..., :1]


def _alike(x: Array) -> bool:
    """Whether all samples have the same features [B, V, g_0]."""
    return bool((x == x[:1]).all())


def _utilities(graph: Graph, samples: Samples, z: Array) -> Array:
    """Every node's part [V] of the utility ratio, the mean over the samples."""
    weights = _priorities(samples, z)
    if not np.isfinite(weights).all():  # training diverged
        return np.full(graph.num_nodes, np.nan)
    chosen = reference.greedy(graph.adjacency(), weights)
    found: Array = (chosen * samples.y[..., SHARE]).mean(axis=0)
    return found


def _decisions(graph: Graph, samples: Samples, z: Array, schedule: Schedule) -> list[reference.GreedyCost]:
    A, weights, stops = graph.adjacency(), _priorities(samples, z), [0, *accumulate(schedule.waves)]
    return [reference.greedy_rounds(A, weights[a:b]) for a, b in pairwise(stops)]


def _priorities(samples: Samples, z: Array) -> Array:
    """By what the local greedy solver chooses, (z + e) ⊙ u [B, V]."""
    found: Array = (z + samples.y[..., NOISE]) * samples.y[..., WEIGHT]
    return found


def _stops(schedule: Schedule) -> list[int]:
    """Where the samples are cut into those whose gradients are mixed together."""
    if schedule.mixes_samples:
        return list(range(schedule.batch + 1))
    return [0, *accumulate(schedule.waves)] if schedule.exchange == "after_wave" else [0, schedule.batch]


def _cut(samples: Samples, stops: Sequence[int]) -> list[Samples]:
    return [Samples(samples.x[a:b], samples.y[a:b]) for a, b in pairwise(stops)]


def mixed(parts: Sequence[Mixed], rounds: int) -> Array:
    """Σ over the parts of W^K g, [V, p]."""
    total = np.zeros_like(parts[0].gradients)
    for W, gradients in parts:
        for _ in range(rounds):
            gradients = np.asarray(W @ gradients)
        total += gradients
    return total


def _channels(samples: Samples) -> Array:
    assert samples.channels is not None
    return samples.channels
