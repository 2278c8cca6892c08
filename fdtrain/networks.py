"""The weights by which nodes sum what they hear: S_ij and W_ij on a graph, or the channels of every sample.

A :class:`Network` stays for a whole job; with every topology it has :class:`Sums` for the schedules that run on it.
Every node computes its own rows, from its own links and what its neighbours send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import NeighbourSum, SampleSum, WeightedSum, edge_sums
from fdtrain.graph import Graph, Neighbourhood
from fdtrain.mixing import Mixing
from fdtrain.programs import Weights
from fdtrain.schedule import Schedule
from fdtrain.shifts import check_shift, shift_row, strengths
from fdtrain.transport.base import Transport
from fdtrain.wire import Payload, Wire

Array = NDArray[np.float64]


class Sums(Protocol):
    """The sums of one schedule on one topology."""

    @property
    def mixing(self) -> WeightedSum:
        """Weights W_ij of what is mixed once per mini-batch, or in consensus after it."""

    def shared(self, weights: Weights, transposed: bool) -> WeightedSum | None:
        """The sum with weights that all samples share; None where every sample has its own."""

    def per_sample(
        self, weights: Weights, transposed: bool, samples: int
    ) -> tuple[SampleSum, Sequence[Array]]:
        """The sum for waves of so many samples, and its weights in every wave."""

    def per_sample_mixing(self, samples: int) -> tuple[SampleSum, Sequence[Array]]:
        """The same for the mixing of every sample's row apart, in order of samples."""

    def load(self, channels: Array | None, own: Array) -> None:
        """Take the channels of a mini-batch: `channels` [2, m, B], H_ij and H_ji of every edge; `own` [n, B], H_ii."""


class Network(Protocol):
    """Where the weights come from."""

    @property
    def own_graphs(self) -> bool:
        """Whether every sample has links of its own."""

    def setup_width(self, schedule: Schedule) -> int:
        """Numbers per node in the messages by which nodes learn their weights."""

    def check(self, graph: Graph) -> None:
        """Refuse a graph on which the weights do not exist (InputError). Of the whole graph: rank 0's business."""

    def rewire(self, hood: Neighbourhood, wire: Wire, mixing: Mixing, transport: Transport) -> Wiring:
        """Take a new topology."""


class Wiring(Protocol):
    """A network on one topology."""

    def sums(self, schedule: Schedule) -> Sums:
        """The sums of one schedule."""


@dataclass(frozen=True)
class ShiftNetwork:
    """A graph with weights A_ij that all samples share, seen through a graph shift operator S (SPEC §1)."""

    shift: str
    own_graphs = False

    def setup_width(self, schedule: Schedule) -> int:
        return 2  # Σ_j A_ij and the degree

    def check(self, graph: Graph) -> None:
        check_shift(self.shift, np.asarray(graph.adjacency().sum(axis=1)), np.arange(graph.num_nodes))

    def rewire(self, hood: Neighbourhood, wire: Wire, mixing: Mixing, transport: Transport) -> _Shared:
        """One round in which degrees travel; after it every node has its rows of S, of Sᵀ and of W.

        Raises:
            InputError: a node has no row of S (isolated, under a normalised shift).
        """
        plan, n = wire.plan, hood.num_nodes
        strength, degrees = strengths(hood), hood.degrees.astype(np.float64)
        check_shift(self.shift, strength, hood.ids)
        layout = wire.layout(Payload("setup", (("degrees", 2),)))
        (rows,) = layout.fields
        rows[:n] = np.stack([strength, degrees], axis=1)
        layout.exchange(transport)
        other_strength, other_degrees = rows[plan.columns].T
        edges, diagonal = shift_row(self.shift, strength, plan.own, hood.weights, other_strength)
        adjoint, _ = shift_row(self.shift, strength, plan.own, hood.reverse_weights, other_strength)
        W = mixing.weights(degrees[plan.own], other_degrees)
        pattern = NeighbourSum(plan, hood.ids, hood.indices)
        forward, backward = pattern.weigh(edges, diagonal), pattern.weigh(adjoint, diagonal)
        if backward.same_as(forward):
            backward = forward
        taken = edge_sums(plan.indptr, W[:, None])[:, 0]
        return _Shared(forward, backward, pattern.weigh(W, 1.0 - taken))


@dataclass(frozen=True)
class _Shared:
    """Sums that all samples and all schedules share."""

    forward: WeightedSum
    backward: WeightedSum  # the same object where S is symmetric
    mixing: WeightedSum

    def sums(self, schedule: Schedule) -> _Shared:
        return self

    def shared(self, weights: Weights, transposed: bool) -> WeightedSum:
        if weights != "shift":
            raise ValueError(f"a graph has no weights '{weights}': they need channels")
        return self.backward if transposed else self.forward

    def per_sample(
        self, weights: Weights, transposed: bool, samples: int
    ) -> tuple[SampleSum, Sequence[Array]]:
        raise ValueError("samples share the graph's weights")

    def per_sample_mixing(self, samples: int) -> tuple[SampleSum, Sequence[Array]]:
        raise ValueError("samples share the graph's weights")

    def load(self, channels: Array | None, own: Array) -> None: ...


class ChannelNetwork:
    """Transmitter–receiver pairs with channels H_ij of their own in every sample, from transmitter i to receiver j.

    The links of a mini-batch are those of any of its samples. Gradients of a sample are mixed over the links that are
    mutual in it, H_ij ≠ 0 and H_ji ≠ 0 (SPEC §6 B), by a W(b) from the degrees that its nodes have there; what is
    mixed once for the whole mini-batch is mixed by the mean of the W(b).
    """

    own_graphs = True

    def setup_width(self, schedule: Schedule) -> int:
        return schedule.batch  # the degrees in every sample

    def check(self, graph: Graph) -> None: ...

    def rewire(self, hood: Neighbourhood, wire: Wire, mixing: Mixing, transport: Transport) -> ChannelWiring:
        return ChannelWiring(hood, wire, mixing, transport)


class ChannelWiring:
    """The links of a mini-batch, on which channels come and go."""

    def __init__(self, hood: Neighbourhood, wire: Wire, mixing: Mixing, transport: Transport) -> None:
        self.wire, self.rule, self.transport = wire, mixing, transport
        self.pattern = NeighbourSum(wire.plan, hood.ids, hood.indices)
        self._patterns: dict[tuple[int, bool], SampleSum] = {}

    def sums(self, schedule: Schedule) -> ChannelSums:
        return ChannelSums(self, schedule)

    def per_sample(self, samples: int, by_sample: bool) -> SampleSum:
        """The sum for waves of so many samples."""
        if (samples, by_sample) not in self._patterns:
            self._patterns[samples, by_sample] = self.pattern.per_sample(samples, by_sample=by_sample)
        return self._patterns[samples, by_sample]


class ChannelSums:
    """Sums weighted by channels, for the waves of one schedule."""

    def __init__(self, wiring: ChannelWiring, schedule: Schedule) -> None:
        self._wiring, self._schedule = wiring, schedule
        self._stops = [0, *accumulate(schedule.waves)]
        self._weights: dict[tuple[Weights, bool], list[Array]] = {}
        self._sample_mixing: list[Array] | None = None
        plan = wiring.wire.plan
        self.mixing = wiring.pattern.weigh(np.zeros(len(plan.columns)), np.ones(plan.nodes))

    def shared(self, weights: Weights, transposed: bool) -> None:
        return None

    def per_sample(
        self, weights: Weights, transposed: bool, samples: int
    ) -> tuple[SampleSum, Sequence[Array]]:
        if weights == "shift":
            raise ValueError("channels have no graph shift: use 'channel' or 'gain'")
        key = weights, transposed
        if key not in self._weights:
            self._weights[key] = self._arrays(by_sample=False)
        return self._wiring.per_sample(samples, False), self._weights[key]

    def per_sample_mixing(self, samples: int) -> tuple[SampleSum, Sequence[Array]]:
        if self._sample_mixing is None:
            self._sample_mixing = self._arrays(by_sample=True)
        return self._wiring.per_sample(samples, True), self._sample_mixing

    def load(self, channels: Array | None, own: Array) -> None:
        assert channels is not None
        outgoing, incoming = channels  # H_ij, H_ji
        for (weights, transposed), arrays in self._weights.items():
            edges = incoming if transposed else outgoing
            if weights == "gain":
                self._arrange(np.square(edges), np.zeros_like(own), arrays, by_sample=False)
            else:
                self._arrange(edges, own, arrays, by_sample=False)
        if self._schedule.trains:
            self._mix((outgoing != 0) & (incoming != 0))

    def _mix(self, mutual: NDArray[np.bool_]) -> None:
        """One round in which every sample's degrees travel; after it every node has its rows of W(b)."""
        wire = self._wiring.wire
        plan, batch = wire.plan, mutual.shape[1]
        layout = wire.layout(Payload("setup", (("degrees", batch),)))
        (rows,) = layout.fields
        degrees = edge_sums(plan.indptr, mutual.astype(np.float64))
        rows[: plan.nodes] = degrees
        layout.exchange(self._wiring.transport)
        W = self._wiring.rule.weights(degrees[plan.own], rows[plan.columns]) * mutual
        diagonal = 1.0 - edge_sums(plan.indptr, W)
        if self._sample_mixing is not None:
            self._arrange(W, diagonal, self._sample_mixing, by_sample=True)
        else:
            mean = _mean(W), _mean(diagonal)
            self.mixing.assign(self._wiring.pattern.weigh(*mean))

    def _arrays(self, *, by_sample: bool) -> list[Array]:
        return [np.zeros(self._wiring.per_sample(w, by_sample).entries) for w in self._schedule.waves]

    def _arrange(self, edges: Array, diagonal: Array, out: Sequence[Array], *, by_sample: bool) -> None:
        for (start, stop), weights in zip(pairwise(self._stops), out, strict=True):
            pattern = self._wiring.per_sample(stop - start, by_sample)
            pattern.arrange(edges[:, start:stop], diagonal[:, start:stop], weights)


def _mean(samples: Array) -> Array:
    """[·, B] → [·], added one after another: the bits of a row do not depend on how many there are."""
    total: Array = np.add.accumulate(samples, axis=1)[:, -1] / samples.shape[1]
    return total
