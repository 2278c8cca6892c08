"""The oracles of link scheduling: an actor with a central critic, and one with a critic at every node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.graph import Graph
from fdtrain.losses import EXPLORE, NOISE, SHARE, WEIGHT
from fdtrain.oracles import Mixed, Rule, Unchanging, cut, stops_of
from fdtrain.schedule import Schedule
from fdtrain.tasks.base import Samples
from fdtrain.tasks.node_regression import Shift

Array = NDArray[np.float64]


class _ActorOracle(ABC):
    """What does not depend on where the critic is."""

    tolerance = 1e-10  # standardising z divides by a small number

    def measure(self, graph: Graph, samples: Samples, theta: Array) -> float:
        return float(self.node_measures(graph, samples, theta).sum())

    def node_measures(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        weights = self._priorities(graph, samples, theta)
        if not np.isfinite(weights).all():  # training diverged
            return np.full(graph.num_nodes, np.nan)
        chosen = reference.greedy(graph.adjacency(), weights)
        found: Array = (chosen * samples.y[..., SHARE]).mean(axis=0)
        return found

    @abstractmethod
    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array: ...

    def consensus(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule, rule: Rule
    ) -> list[Mixed]:
        W = reference.mixing_matrix(graph.adjacency(), *rule)
        if schedule.mixes_samples:
            return [Mixed(W, gradients) for gradients in self._by_sample(graph, samples, theta)]
        parts = cut(samples, stops_of(schedule))
        return [Mixed(W, self.local_gradients(graph, part, theta)) for part in parts]

    def decisions(
        self, graph: Graph, samples: Samples, theta: Array, schedule: Schedule
    ) -> list[reference.GreedyCost]:
        weights, stops = self._priorities(graph, samples, theta), [0, *accumulate(schedule.waves)]
        return [reference.greedy_rounds(graph.adjacency(), weights[a:b]) for a, b in pairwise(stops)]

    @abstractmethod
    def output(self, graph: Graph, theta: Array) -> Array:
        """z [V], which is the same for all samples."""

    @abstractmethod
    def _z(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        """z of the samples [B, V]."""

    @abstractmethod
    def _by_sample(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        """Every sample's local gradients, [B, V, p]."""

    def _priorities(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        """By what the local greedy solver chooses, (z + e) ⊙ u [B, V]."""
        z = self._z(graph, samples, theta)
        found: Array = (z + samples.y[..., NOISE]) * samples.y[..., WEIGHT]
        return found


class SchedulingOracle(_ActorOracle):
    """An actor on conflict graphs, and a central critic that learns beside it."""

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

    def _by_sample(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return self._actor.pullback(*self._pulled(graph, samples, theta), theta)

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

    def learned(self) -> reference.State:
        return self._state

    def go_on(self, learned: reference.State | None) -> None:
        assert learned is not None
        self._state = learned

    def output(self, graph: Graph, theta: Array) -> Array:
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
class TwinOracle(_ActorOracle, Unchanging):
    """An actor on conflict graphs, and a critic that is a part of every node's parameters."""

    model: reference.Twin
    shift: Shift

    def local_gradients(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return self.model.summed_gradients(self.shift.of(graph), *_drawn(samples, theta))

    def shared_pass(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        measure, gradients = self.shared_by_sample(graph, samples, theta)
        total: Array = gradients.sum(axis=0)
        return measure, total

    def shared_by_sample(self, graph: Graph, samples: Samples, theta: Array) -> tuple[float, Array]:
        gradients = self.model.shared_gradients(self.shift.of(graph), *_drawn(samples, theta))
        return self.measure(graph, samples, theta), gradients

    def _by_sample(self, graph: Graph, samples: Samples, theta: Array) -> Array:
        return self.model.local_gradients(self.shift.of(graph), *_drawn(samples, theta))

    def output(self, graph: Graph, theta: Array) -> Array:
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
