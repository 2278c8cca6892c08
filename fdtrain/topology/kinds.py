"""Kinds of topology that are drawn at once: a model per kind, with its parameters and how to draw a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union

import numpy as np
from pydantic import Field, Strict, field_validator, model_validator

from fdtrain.graph import Graph
from fdtrain.topology.base import MAX_EDGES, MAX_NODES, DrawnSource, Nodes, Probability, require
from fdtrain.topology.files import named_networks, networkx, read_graph, resolve
from fdtrain.topology.random_graphs import (
    NETWORKX_NODES,
    along_curve,
    attached_edges,
    gnp_edges,
    near_pairs,
    regular_edges,
    rewired_edges,
)

_FEW = f"small enough for {MAX_EDGES:,} edges"


class BarabasiAlbert(DrawnSource):
    """Preferential attachment: a new node links to m present ones (Barabási & Albert, Science 286, 1999)."""

    kind: Literal["barabasi_albert"] = "barabasi_albert"
    nodes: Nodes
    m: int = Field(description="Edges that a new node brings; 1 ≤ m < nodes.", ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.m < self.nodes, "m", self.m, f"less than nodes = {self.nodes}")
        require(self.nodes * self.m <= MAX_EDGES, "m", self.m, _FEW)
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        if self.nodes > NETWORKX_NODES:
            return Graph.from_edges(self.nodes, attached_edges(self.nodes, self.m, rng))
        return _graph(networkx().barabasi_albert_graph(self.nodes, self.m, seed=rng))


class ErdosRenyi(DrawnSource):
    """Every pair is an edge with probability p, independently (Gilbert, Ann. Math. Stat. 30, 1959)."""

    kind: Literal["erdos_renyi"] = "erdos_renyi"
    nodes: Nodes
    p: Probability | None = Field(default=None, description="Probability of an edge; or give mean_degree.")
    mean_degree: float | Annotated[tuple[float, float], Strict(False)] | None = Field(
        default=None,
        description="Expected degree, p = mean_degree / (nodes − 1), or a range [low, high] in which every draw's is "
        "uniform; or give p.",
    )

    @field_validator("mean_degree", mode="before")
    @classmethod
    def _is_a_number_or_a_range(cls, value: Any) -> Any:
        ends = value if isinstance(value, (list, tuple)) else [value, value]
        numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends)
        if value is not None and not (numbers and len(ends) == 2 and 0 <= ends[0] <= ends[1]):
            raise ValueError(
                f"must be a number of at least 0, or a range [low, high] with 0 ≤ low ≤ high, found {value!r:.60}"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.p is None) == (self.mean_degree is None):
            found = "neither" if self.p is None else "both"
            raise ValueError(f"p, mean_degree: give exactly one of the two, found {found}")
        if self.mean_degree is not None:
            high = self.mean_degree[1] if isinstance(self.mean_degree, tuple) else self.mean_degree
            require(high <= self.nodes - 1, "mean_degree", high, f"at most nodes − 1 = {self.nodes - 1}")
            require(high * self.nodes / 2 <= MAX_EDGES, "mean_degree", high, _FEW)
        if self.p is not None:
            require(self.p * self.nodes * (self.nodes - 1) / 2 <= MAX_EDGES, "p", self.p, _FEW)
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        mean = rng.uniform(*self.mean_degree) if isinstance(self.mean_degree, tuple) else self.mean_degree
        p = self.p if mean is None else mean / max(self.nodes - 1, 1)
        assert p is not None
        if p < 1e-15:  # log(1 − p) would be 0; below, no edge comes up anyway
            p = 0.0
        return Graph.from_edges(self.nodes, gnp_edges(self.nodes, p, rng))


class WattsStrogatz(DrawnSource):
    """A ring of k nearest neighbours, rewired with probability p (Watts & Strogatz, Nature 393, 1998)."""

    kind: Literal["watts_strogatz"] = "watts_strogatz"
    nodes: Nodes
    k: int = Field(description="Nearest neighbours in the ring, an even number, at most nodes.", ge=2)
    p: Probability = Field(description="Probability that an edge is rewired.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.k <= self.nodes, "k", self.k, f"at most nodes = {self.nodes}")
        require(self.k % 2 == 0, "k", self.k, "even: k/2 neighbours on either side")
        require(self.nodes * self.k / 2 <= MAX_EDGES, "k", self.k, _FEW)
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        if self.nodes > max(NETWORKX_NODES, self.k):
            return Graph.from_edges(self.nodes, rewired_edges(self.nodes, self.k, self.p, rng))
        return _graph(networkx().watts_strogatz_graph(self.nodes, self.k, self.p, seed=rng))


class RandomGeometric(DrawnSource):
    """Nodes uniform in the unit square, linked within `radius` (Gilbert, J. SIAM 9, 1961).

    More than 10 000 are numbered along a Z-order curve, so that neighbours are near each other in memory, and on ranks.
    """

    kind: Literal["random_geometric"] = "random_geometric"
    nodes: Nodes
    radius: float = Field(description="Range of a node in the unit square.", gt=0, le=1.5)

    @model_validator(mode="after")
    def _check(self) -> Self:
        near = min(np.pi * self.radius**2, 1.0)  # at most, of all others
        require(near * self.nodes * (self.nodes - 1) / 2 <= MAX_EDGES, "radius", self.radius, _FEW)
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        positions = rng.random((self.nodes, 2))
        if self.nodes > NETWORKX_NODES:
            positions = positions[along_curve(positions)]
        return Graph.from_edges(self.nodes, near_pairs(positions, self.radius), positions=positions)


class RandomRegular(DrawnSource):
    """A random graph in which all nodes have the same degree (Steger & Wormald, 1999)."""

    kind: Literal["random_regular"] = "random_regular"
    nodes: Nodes
    degree: int = Field(description="Degree of every node, less than nodes; nodes · degree is even.", ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.degree < self.nodes, "degree", self.degree, f"less than nodes = {self.nodes}")
        if self.nodes * self.degree % 2:
            found = f"{self.nodes} · {self.degree}"
            raise ValueError(f"degree: nodes · degree must be even, found {found}; make one of them even")
        require(self.nodes * self.degree / 2 <= MAX_EDGES, "degree", self.degree, _FEW)
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        if self.nodes > max(NETWORKX_NODES, 2 * self.degree):
            return Graph.from_edges(self.nodes, regular_edges(self.nodes, self.degree, rng))
        nx = networkx()
        if 2 * self.degree < self.nodes:
            return _graph(nx.random_regular_graph(self.degree, self.nodes, seed=rng))
        # Dense ones are rarely completed by random pairing: draw the edges that are not there.
        absent = nx.random_regular_graph(self.nodes - 1 - self.degree, self.nodes, seed=rng)
        absent.add_nodes_from(range(self.nodes))
        return _graph(nx.complement(absent))


class Grid(DrawnSource):
    """A rectangular grid, numbered row by row; periodic: a torus."""

    kind: Literal["grid"] = "grid"
    rows: int = Field(description="Rows of the grid.", ge=1, le=MAX_NODES)
    cols: int = Field(description="Columns of the grid.", ge=1, le=MAX_NODES)
    periodic: bool = Field(default=False, description="Link the borders, where a side is longer than 2.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = self.rows * self.cols
        require(found <= MAX_NODES, "rows · cols", found, f"at most {MAX_NODES}")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        number = np.arange(self.rows * self.cols).reshape(self.rows, self.cols)
        links = [(number[:-1], number[1:]), (number[:, :-1], number[:, 1:])]
        if self.periodic and self.rows > 2:
            links.append((number[-1], number[0]))
        if self.periodic and self.cols > 2:
            links.append((number[:, -1], number[:, 0]))
        ends = (np.concatenate([pair[end].reshape(-1) for pair in links]) for end in (0, 1))
        return Graph.from_edges(number.size, np.stack(list(ends), axis=1))


class Ring(DrawnSource):
    """A cycle."""

    kind: Literal["ring"] = "ring"
    nodes: int = Field(description="|V|, the number of nodes.", ge=3, le=MAX_NODES)

    def draw(self, rng: np.random.Generator) -> Graph:
        i = np.arange(self.nodes)
        return Graph.from_edges(self.nodes, np.stack([i, (i + 1) % self.nodes], axis=1))


class Star(DrawnSource):
    """Node 0 in the middle, linked to all others."""

    kind: Literal["star"] = "star"
    nodes: int = Field(description="|V|, the number of nodes, the middle included.", ge=2, le=MAX_NODES)

    def draw(self, rng: np.random.Generator) -> Graph:
        others = np.arange(1, self.nodes)
        return Graph.from_edges(self.nodes, np.stack([np.zeros_like(others), others], axis=1))


class PathGraph(DrawnSource):
    """A line of nodes."""

    kind: Literal["path"] = "path"
    nodes: Nodes

    def draw(self, rng: np.random.Generator) -> Graph:
        i = np.arange(self.nodes - 1)
        return Graph.from_edges(self.nodes, np.stack([i, i + 1], axis=1))


class Complete(DrawnSource):
    """Everyone is everyone's neighbour."""

    kind: Literal["complete"] = "complete"
    nodes: int = Field(description="|V|, the number of nodes.", ge=1, le=10_000)

    def draw(self, rng: np.random.Generator) -> Graph:
        return Graph.from_edges(self.nodes, np.stack(np.triu_indices(self.nodes, 1), axis=1))


class FileSource(DrawnSource):
    """A graph file, or one of the named networks that come with fdtrain."""

    kind: Literal["file"] = "file"
    path: str = Field(
        description="Edge list, .graphml or .npz, relative to the config; or a named network, e.g. abilene.",
        min_length=1,
    )

    def resolved(self, base: Path | None) -> Self:
        """The same source with its path made absolute; a named network keeps its name."""
        file = resolve(self.path, base)
        named = file in named_networks().values()
        return self.model_copy(update={"path": file.stem if named else str(file)})

    def draw(self, rng: np.random.Generator) -> Graph:
        return read_graph(resolve(self.path))


Network = Union[  # noqa: UP007 - one kind per line
    BarabasiAlbert,
    ErdosRenyi,
    WattsStrogatz,
    RandomGeometric,
    RandomRegular,
    Grid,
    Ring,
    Star,
    PathGraph,
    Complete,
    FileSource,
]
NetworkConfig = Annotated[Network, Field(discriminator="kind")]


def _graph(found: Any) -> Graph:
    """A networkx graph on 0 … V−1 as a :class:`Graph`."""
    edges = np.array(list(found.edges), dtype=np.int64).reshape(-1, 2)
    return Graph.from_edges(found.number_of_nodes(), edges)
