"""What the channels of a network are like, as every rank knows it: pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.mixing import Mixing

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Index = NDArray[np.int64]
FieldName = Literal["features", "backward", "parameters"]
FeaturePolicy = Literal["zero", "hold", "drop_edge"]
ParameterPolicy = Literal["keep_own", "hold", "push_sum"]
FIELDS: tuple[FieldName, ...] = ("features", "backward", "parameters")


@dataclass(frozen=True)
class Independent:
    """Every message is lost with the same probability, whatever became of others."""

    rate: float


@dataclass(frozen=True)
class GilbertElliott:
    """Losses in bursts: a link is good or bad, and moves from round to round (Gilbert, Bell Syst. Tech. J. 39, 1960;
    Elliott, ibid. 42, 1963)."""

    to_bad: float  # probability, from one round to the next
    to_good: float
    loss_good: float = 0.0  # rate of loss
    loss_bad: float = 1.0

    @property
    def bad(self) -> float:
        """How often a link is bad in the long run."""
        moves = self.to_bad + self.to_good
        return self.to_bad / moves if moves else 0.0


Loss = Independent | GilbertElliott


@dataclass(frozen=True)
class Fixed:
    """Every message takes so many rounds longer."""

    rounds: int

    def rounds_of(self, u: Array) -> Index:
        """Delays [m] from uniform numbers."""
        return np.full(len(u), self.rounds)


@dataclass(frozen=True)
class Uniform:
    """Every delay from low to high is as likely as another."""

    low: int
    high: int

    def rounds_of(self, u: Array) -> Index:
        """Delays [m] from uniform numbers."""
        return self.low + (u * (self.high - self.low + 1)).astype(np.int64)


@dataclass(frozen=True)
class Geometric:
    """Each further round is as likely as the one before; at most `max`."""

    mean: float
    max: int

    def rounds_of(self, u: Array) -> Index:
        """Delays [m] from uniform numbers."""
        if self.mean == 0:
            return np.zeros(len(u), dtype=np.int64)
        found = np.log1p(-u) / np.log(self.mean / (1.0 + self.mean))
        rounds: Index = np.minimum(np.floor(found), self.max).astype(np.int64)
        return rounds


Delay = Fixed | Uniform | Geometric


@dataclass(frozen=True)
class FieldChannel:
    """What becomes of one field of the messages, besides what becomes of whole messages."""

    loss: Loss | None = None
    delay: Delay | None = None


@dataclass(frozen=True)
class Span:
    """Mini-batches `start` ≤ t < `stop`."""

    start: int
    stop: int | None  # None: to the end

    def covers(self, t: int) -> bool:
        """Whether mini-batch t is one of them."""
        return self.start <= t and (self.stop is None or t < self.stop)


@dataclass(frozen=True)
class Outage:
    """Links that are down in both directions."""

    span: Span
    pairs: frozenset[tuple[int, int]]  # (i, j), i < j


@dataclass(frozen=True)
class Partition:
    """No message between the nodes of `side` and the others."""

    span: Span
    side: frozenset[int]


@dataclass(frozen=True)
class Crash:
    """Nodes that are down: they send and hear nothing, and do not train."""

    span: Span
    nodes: frozenset[int]


@dataclass(frozen=True)
class Channel:
    """The channels of a network, and what nodes do without a message."""

    seed: int
    loss: Loss | None = None  # of whole messages
    features: FieldChannel = field(default_factory=FieldChannel)
    backward: FieldChannel = field(default_factory=FieldChannel)
    parameters: FieldChannel = field(default_factory=FieldChannel)
    feature_policy: FeaturePolicy = "hold"
    parameter_policy: ParameterPolicy = "keep_own"
    outages: tuple[Outage, ...] = ()
    partitions: tuple[Partition, ...] = ()
    crashes: tuple[Crash, ...] = ()

    def of(self, name: FieldName) -> FieldChannel:
        """That of a field."""
        found: FieldChannel = getattr(self, name)
        return found

    def crashed(self, t: int, nodes: Index) -> Flags:
        """Which of the `nodes` are down in mini-batch t."""
        down = np.zeros(len(nodes), dtype=np.bool_)
        for crash in self.crashes:
            if crash.span.covers(t):
                down |= np.isin(nodes, list(crash.nodes))
        return down

    def cut(self, t: int, receivers: Index, senders: Index) -> Flags:
        """Which links [m] are down in mini-batch t, as every link of a node is that is down."""
        down = self.crashed(t, receivers) | self.crashed(t, senders)
        for partition in self.partitions:
            if partition.span.covers(t):
                side = list(partition.side)
                down |= np.isin(receivers, side) != np.isin(senders, side)
        for outage in self.outages:
            if outage.span.covers(t):
                low, high = np.minimum(receivers, senders), np.maximum(receivers, senders)
                pairs = np.array(sorted(outage.pairs), dtype=np.int64).reshape(-1, 2)
                size = int(max(high.max(initial=0), pairs.max(initial=0))) + 1
                down |= np.isin(low * size + high, pairs[:, 0] * size + pairs[:, 1])
        return down

    def idle(self, minibatches: int, graph: Graph | None) -> list[str]:
        """What of it changes nothing in a training of so many mini-batches, on this `graph` where that stays."""
        found = []
        for name in ("outages", "partitions", "crashes"):
            for event in getattr(self, name):
                if event.span.start >= minibatches:
                    found.append(
                        f"channel.{name}: one starts at mini-batch {event.span.start:,}, of {minibatches:,} (from 0)"
                    )
        if graph is not None:
            links = {(int(i), int(j)) for i, j in graph.edges()}
            absent = [pair for outage in self.outages for pair in sorted(outage.pairs - links)]
            found += [f"channel.outages: there is no link [{i}, {j}]" for i, j in absent]
        return found

    def check(self, mixing: Mixing, graph: Graph) -> None:
        """Refuse a graph on which push-sum would send more mass than there is.

        Raises:
            InputError: a node's own weight W_ii is not above 0.
        """
        if self.parameter_policy != "push_sum" or graph.num_edges == 0:
            return
        degrees = graph.degrees.astype(np.float64)
        shares = mixing.weights(degrees[graph.rows], degrees[graph.indices])
        own = 1.0 - np.bincount(graph.rows, shares, graph.num_nodes)
        if own.min() <= 1e-12:
            node = int(own.argmin())
            which = f"node {node} of degree {graph.degrees[node]}"
            raise InputError(
                f"channel.parameters.missing: push_sum needs W_ii above 0, and {which} has "
                f"{own[node]:.3g}; lower optimizer.mixing.beta, or use metropolis"
            )

    @property
    def grain(self) -> int:
        """Numbers that slices must not part: one, or with its weight two."""
        return 2 if self.parameter_policy == "push_sum" else 1

    def travelling(self, rows: int, *, along: bool) -> int:
        """Numbers that travel where the optimizer mixes `rows` numbers, with their weights of push-sum: one of every
        number where slices ride `along`, and are lost one by one; else one of the row."""
        if self.parameter_policy != "push_sum":
            return rows
        return 2 * rows if along else rows + 1
