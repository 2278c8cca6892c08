"""The weights of transmitter–receiver pairs: the channels of every sample, and its own mixing (SPEC §6 B)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import NeighbourSum, SampleSum, edge_sums
from fdtrain.graph import Graph, Neighbourhood
from fdtrain.mixing import Mixing
from fdtrain.programs import Weights
from fdtrain.schedule import Schedule
from fdtrain.transport.base import Transport
from fdtrain.wire import Payload, Wire

Array = NDArray[np.float64]


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

    own_graphs = True

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
