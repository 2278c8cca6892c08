"""Networks whose links come and go without anybody moving: on and off, matchings, one peer at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from fdtrain import rng
from fdtrain.graph import Graph
from fdtrain.topology.base import MAX_NODES, MovingSource, Probability, require
from fdtrain.topology.kinds import Network, NetworkConfig
from fdtrain.topology.service import TopologyService

Edges = NDArray[np.int64]
Flags = NDArray[np.bool_]

MAX_PAIRED = 3000  # nodes any two of which have an edge that turns on and off
BLOCK = 1 << 19  # draws of a block of steps


class OnBase(MovingSource):
    """Links out of those of a base network, or out of all pairs of so many nodes."""

    nodes: int | None = Field(
        default=None, description="Nodes, each of which may meet any other; or give base.", ge=1, le=MAX_NODES
    )
    base: NetworkConfig | None = Field(
        default=None,
        description="The network whose edges come and go: a topology of another kind, without seed and redraw.",
    )

    @field_validator("base")
    @classmethod
    def _is_drawn_once(cls, base: Network | None) -> Network | None:
        given = [] if base is None else sorted(base.model_fields_set & {"seed", "redraw"})
        changed = [key for key in given if getattr(base, key) is not None]
        if changed:
            raise ValueError(f"{changed[0]}: has no meaning here; put it beside base")
        return base

    @model_validator(mode="after")
    def _has_nodes(self) -> Self:
        if (self.nodes is None) == (self.base is None):
            found = "neither" if self.nodes is None else "both"
            raise ValueError(f"nodes, base: give exactly one of the two, found {found}")
        return self

    def resolved(self, base: Path | None) -> Self:
        if self.base is None:
            return self
        return self.model_copy(update={"base": self.base.resolved(base)})

    def ground(self, seed: int, purpose: str) -> Graph | None:
        """The base network; None: all pairs of nodes."""
        return (
            None
            if self.base is None
            else TopologyService(self.base, seed, purpose=f"{purpose}/base").graph(0)
        )


class MarkovEdges(OnBase):
    """Every edge is a Markov chain: one that is off turns on with probability p in a step, one that is on turns off
    with q (Clementi, Macci, Monti, Pasquale & Silvestri, SIAM J. Discrete Math. 24, 2010).

    At the start each is on with probability p / (p + q), as at all times.
    """

    kind: Literal["markov_edges"] = "markov_edges"
    p: Probability = Field(description="Birth: probability that an edge that is off turns on.")
    q: Probability = Field(description="Death: probability that an edge that is on turns off.")

    @model_validator(mode="after")
    def _ever_changes(self) -> Self:
        if self.p + self.q == 0:
            raise ValueError(
                "p, q: must not both be 0: no edge would ever change; use the base network itself"
            )
        if self.nodes is not None:
            require(self.nodes <= MAX_PAIRED, "nodes", self.nodes, f"at most {MAX_PAIRED:,} without a base")
        return self

    def trajectory(self, seed: int, purpose: str) -> _Chains:
        ground = self.ground(seed, purpose)
        if ground is None:
            assert self.nodes is not None
            edges = np.stack(np.triu_indices(self.nodes, 1), axis=1)
            ground = Graph.from_edges(self.nodes, edges)
        return _Chains(ground, self.p, self.q, seed, purpose)


@dataclass
class _Chains:
    """All edges step by step; random numbers come in blocks of steps."""

    ground: Graph
    p: float
    q: float
    seed: int
    purpose: str
    _step: int = -1  # of the states that are kept; −1: none yet
    _on: Flags = field(default_factory=lambda: np.empty(0, dtype=np.bool_))  # [M]

    def __post_init__(self) -> None:
        self._edges = self.ground.edges()
        self._steps = int(np.clip(BLOCK // max(len(self._edges), 1), 1, 4096))
        self._block, self._draws = -1, np.empty((0, 0))

    def graph(self, step: int) -> Graph:
        if step < self._step or self._step < 0:
            draws = rng.generator(self.seed, f"{self.purpose}/start").random(len(self._edges))
            self._step, self._on = 0, draws * (self.p + self.q) < self.p
        while self._step < step:
            block, k = divmod(self._step, self._steps)
            if block != self._block:
                shape = (self._steps, len(self._edges))
                self._draws = rng.generator(self.seed, f"{self.purpose}/changes", block).random(shape)
                self._block = block
            self._on = np.where(self._on, self._draws[k] >= self.q, self._draws[k] < self.p)
            self._step += 1
        return self.ground.keep(self._edges[self._on])


class RandomMatching(OnBase):
    """Every node meets at most one other: a random matching, as in pairwise gossip (Boyd, Ghosh, Prabhakar & Shah,
    IEEE Trans. Information Theory 52, 2006).

    Of all pairs of nodes: uniform among the perfect matchings, or, if V is odd, among those that leave one node out.
    On a base network: its edges in a random order, each taken if both ends are still free; the matching is maximal, but
    may leave more nodes out than another one would.
    """

    kind: Literal["random_matching"] = "random_matching"

    def trajectory(self, seed: int, purpose: str) -> _Matchings:
        return _Matchings(self.nodes, self.ground(seed, purpose), seed, purpose)


@dataclass
class _Matchings:
    nodes: int | None
    ground: Graph | None
    seed: int
    purpose: str

    def graph(self, step: int) -> Graph:
        draws = rng.generator(self.seed, f"{self.purpose}/matching", step)
        if self.ground is not None:
            edges = self.ground.edges()
            return self.ground.keep(
                edges[_maximal(edges, draws.permutation(len(edges)), self.ground.num_nodes)]
            )
        assert self.nodes is not None
        order = draws.permutation(self.nodes)[: self.nodes // 2 * 2]
        return Graph.from_edges(self.nodes, order.reshape(-1, 2))


def _maximal(edges: Edges, rank: Edges, nodes: int) -> Edges:
    """The edges [M] that are taken one after another by ascending `rank` [M], if both their ends are free.

    All edges that come before all others at both of their ends are taken at once, over and over.
    """
    left, taken = np.arange(len(edges)), []
    while len(left):
        first = np.full(nodes, len(edges))
        for end in (0, 1):
            np.minimum.at(first, edges[left, end], rank[left])
        won = (first[edges[left]] == rank[left, None]).all(axis=1)
        taken.append(left[won])
        busy = np.zeros(nodes, dtype=np.bool_)
        busy[edges[left[won]]] = True
        left = left[~busy[edges[left]].any(axis=1)]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *taken]))


class OnePeerExponential(MovingSource):
    """Node i meets the nodes at a distance of 2^k, k = step mod ⌈log₂ V⌉ (Ying, Yuan, Chen, Hu, Pan & Yin, "Exponential
    graph is provably efficient for decentralized deep learning", NeurIPS 2021).

    Theirs is directed, i hears i + 2^k; here every link goes both ways. Where V is a power of two, i meets i XOR 2^k:
    one peer, a hypercube dimension at a time, and with Metropolis weights of 1/2 the nodes have the exact average after
    log₂ V steps. For other V, i meets i ± 2^k modulo V: two peers, and the average is not exact.
    """

    kind: Literal["one_peer_exponential"] = "one_peer_exponential"
    nodes: int = Field(description="|V|, the number of nodes.", ge=2, le=MAX_NODES)

    def trajectory(self, seed: int, purpose: str) -> OnePeerExponential:
        return self

    def graph(self, step: int) -> Graph:
        """The graph after `step` steps; nothing in it is random."""
        period = (self.nodes - 1).bit_length()
        distance = 1 << (step % period)
        i = np.arange(self.nodes)
        if self.nodes.bit_count() == 1:
            j = i ^ distance
            i, j = i[i < j], j[i < j]
        else:
            j = (i + distance) % self.nodes
        return Graph.from_edges(self.nodes, np.stack([i, j], axis=1))
