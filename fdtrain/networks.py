"""The weights by which nodes sum what they hear: S_ij and W_ij on a graph, or the channels of every sample.

A :class:`Network` stays for a whole job; with every topology it has :class:`Sums` for the schedules that run on it.
Every node computes its own rows, from its own links and what its neighbours send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import NeighbourSum, SampleSum, WeightedSum, edge_sums
from fdtrain.errors import InputError
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
    def own_graphs(self) -> bool:
        """Whether every sample has links, and so a W, of its own."""

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
    """A graph with weights A_ij that all samples share, seen through a graph shift operator S (SPEC §1).

    Under a normalised shift every node needs a neighbour, unless `isolated` nodes are welcome: their row of S is 0
    (with ``gcn``, S_ii = 1). Then it is the graph that needs an edge, unless one that is `edgeless` is welcome too.
    """

    shift: str
    isolated: bool = False
    edgeless: bool = False
    own_graphs = False

    def setup_width(self, schedule: Schedule) -> int:
        return 2  # Σ_j A_ij and the degree

    def check(self, graph: Graph) -> None:
        if self.isolated and not self.edgeless and graph.num_edges == 0:
            raise InputError(
                f"topology: a graph of {graph.num_nodes} nodes without an edge; give it more edges"
            )
        strength = np.asarray(graph.adjacency().sum(axis=1), dtype=np.float64)
        self._check(strength, np.arange(graph.num_nodes), graph.degrees)

    def _check(self, strength: Array, ids: NDArray[np.int64], degrees: NDArray[np.int64]) -> None:
        check_shift(self.shift, strength, ids, degrees == 0 if self.isolated else None)

    def rewire(self, hood: Neighbourhood, wire: Wire, mixing: Mixing, transport: Transport) -> _Shared:
        """One round in which degrees travel; after it every node has its rows of S, of Sᵀ and of W.

        Raises:
            InputError: a node has no row of S (isolated, under a normalised shift).
        """
        plan, n = wire.plan, hood.num_nodes
        strength, degrees = strengths(hood), hood.degrees.astype(np.float64)
        self._check(strength, hood.ids, hood.degrees)
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
    own_graphs = False

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
