"""The kinds of topology: one model per kind, with its parameters and how to draw one graph from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    field_serializer,
    field_validator,
    model_validator,
)

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.section import Section
from fdtrain.topology.conflicts import Interference, conflict_graph
from fdtrain.topology.files import named_networks, networkx, read_graph, resolve

MAX_NODES = 1_000_000
MAX_EDGES = 50_000_000  # expected, of a random graph
RANDOM_KINDS = ("barabasi_albert", "erdos_renyi", "watts_strogatz", "random_geometric", "random_regular")

Nodes = Annotated[int, Field(description="|V|, the number of nodes.", ge=1, le=MAX_NODES)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class UnusableDrawError(InputError):
    """What was drawn cannot be used; another draw may be."""


class Redraw(Section):
    """A topology that changes while the network trains."""

    every: int = Field(description="Draw a new graph every so many mini-batches.", ge=1)


class Source(Section, ABC):
    """What all kinds share. ``draw`` makes one draw, connected or not; the service asks for another."""

    kind: str
    seed: int | None = Field(
        default=None, description="Seed of the draws; default: the experiment's seed.", ge=0, lt=2**64
    )
    connected: bool = Field(
        default=True,
        description="A disconnected draw is redrawn up to max_draws times, then an error; false accepts it.",
    )
    max_draws: int = Field(default=100, description="Draws tried for a connected graph.", ge=1, le=1_000_000)
    redraw: Redraw | None = Field(
        default=None, description="Draw the graph anew while training; only for the random kinds."
    )

    @property
    def drawn_kind(self) -> str:
        """The kind that the bits of a draw go into."""
        return self.kind

    @property
    def is_random(self) -> bool:
        """Whether another draw is another graph."""
        return self.drawn_kind in RANDOM_KINDS

    @model_validator(mode="after")
    def _only_random_kinds_are_redrawn(self) -> Self:
        if self.redraw is not None and not self.is_random:
            kinds = ", ".join(RANDOM_KINDS)
            raise ValueError(
                f"redraw: kind {self.drawn_kind} is the same at every draw; remove redraw, or use {kinds}"
            )
        return self

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Graph:
        """One draw with the bits of `rng`; it may be disconnected.

        Raises:
            UnusableDrawError: it cannot be used; the service asks for another.
            InputError: no draw can.
        """


class BarabasiAlbert(Source):
    """Preferential attachment: a new node links to m present ones (Barabási & Albert, Science 286, 1999)."""

    kind: Literal["barabasi_albert"] = "barabasi_albert"
    nodes: Nodes
    m: int = Field(description="Edges that a new node brings; 1 ≤ m < nodes.", ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.m < self.nodes, "m", self.m, f"less than nodes = {self.nodes}")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        return _graph(networkx().barabasi_albert_graph(self.nodes, self.m, seed=rng))


class ErdosRenyi(Source):
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
        few = f"small enough for {MAX_EDGES:,} edges"
        if self.mean_degree is not None:
            high = self.mean_degree[1] if isinstance(self.mean_degree, tuple) else self.mean_degree
            _require(high <= self.nodes - 1, "mean_degree", high, f"at most nodes − 1 = {self.nodes - 1}")
            _require(high * self.nodes / 2 <= MAX_EDGES, "mean_degree", high, few)
        if self.p is not None:
            _require(self.p * self.nodes * (self.nodes - 1) / 2 <= MAX_EDGES, "p", self.p, few)
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        mean = rng.uniform(*self.mean_degree) if isinstance(self.mean_degree, tuple) else self.mean_degree
        p = self.p if mean is None else mean / max(self.nodes - 1, 1)
        assert p is not None
        if p < 1e-15:  # networkx divides by log(1 − p); below, no edge comes up anyway
            p = 0.0
        return _graph(networkx().fast_gnp_random_graph(self.nodes, p, seed=rng))


class WattsStrogatz(Source):
    """A ring of k nearest neighbours, rewired with probability p (Watts & Strogatz, Nature 393, 1998)."""

    kind: Literal["watts_strogatz"] = "watts_strogatz"
    nodes: Nodes
    k: int = Field(description="Nearest neighbours in the ring, an even number, at most nodes.", ge=2)
    p: Probability = Field(description="Probability that an edge is rewired.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.k <= self.nodes, "k", self.k, f"at most nodes = {self.nodes}")
        _require(self.k % 2 == 0, "k", self.k, "even: k/2 neighbours on either side")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        return _graph(networkx().watts_strogatz_graph(self.nodes, self.k, self.p, seed=rng))


class RandomGeometric(Source):
    """Nodes uniform in the unit square, linked within `radius` (Gilbert, J. SIAM 9, 1961)."""

    kind: Literal["random_geometric"] = "random_geometric"
    nodes: Nodes
    radius: float = Field(description="Range of a node in the unit square.", gt=0, le=1.5)

    def draw(self, rng: np.random.Generator) -> Graph:
        found = networkx().random_geometric_graph(self.nodes, self.radius, seed=rng)
        positions = np.array([found.nodes[i]["pos"] for i in range(self.nodes)], dtype=np.float64)
        return _graph(found, positions)


class RandomRegular(Source):
    """A random graph in which all nodes have the same degree (Steger & Wormald, 1999)."""

    kind: Literal["random_regular"] = "random_regular"
    nodes: Nodes
    degree: int = Field(description="Degree of every node, less than nodes; nodes · degree is even.", ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.degree < self.nodes, "degree", self.degree, f"less than nodes = {self.nodes}")
        if self.nodes * self.degree % 2:
            found = f"{self.nodes} · {self.degree}"
            raise ValueError(f"degree: nodes · degree must be even, found {found}; make one of them even")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        nx = networkx()
        if 2 * self.degree < self.nodes:
            return _graph(nx.random_regular_graph(self.degree, self.nodes, seed=rng))
        # Dense ones are rarely completed by random pairing: draw the edges that are not there.
        absent = nx.random_regular_graph(self.nodes - 1 - self.degree, self.nodes, seed=rng)
        absent.add_nodes_from(range(self.nodes))
        return _graph(nx.complement(absent))


class Grid(Source):
    """A rectangular grid, numbered row by row; periodic: a torus."""

    kind: Literal["grid"] = "grid"
    rows: int = Field(description="Rows of the grid.", ge=1, le=MAX_NODES)
    cols: int = Field(description="Columns of the grid.", ge=1, le=MAX_NODES)
    periodic: bool = Field(default=False, description="Link the borders, where a side is longer than 2.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = self.rows * self.cols
        _require(found <= MAX_NODES, "rows · cols", found, f"at most {MAX_NODES}")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        found = networkx().grid_2d_graph(self.rows, self.cols, periodic=self.periodic)
        cells = np.array(list(found.edges), dtype=np.int64).reshape(-1, 2, 2)  # [|E|, end, row and column]
        return Graph.from_edges(self.rows * self.cols, cells[:, :, 0] * self.cols + cells[:, :, 1])


class Ring(Source):
    """A cycle."""

    kind: Literal["ring"] = "ring"
    nodes: int = Field(description="|V|, the number of nodes.", ge=3, le=MAX_NODES)

    def draw(self, rng: np.random.Generator) -> Graph:
        return _graph(networkx().cycle_graph(self.nodes))


class Star(Source):
    """Node 0 in the middle, linked to all others."""

    kind: Literal["star"] = "star"
    nodes: int = Field(description="|V|, the number of nodes, the middle included.", ge=2, le=MAX_NODES)

    def draw(self, rng: np.random.Generator) -> Graph:
        return _graph(networkx().star_graph(self.nodes - 1))


class PathGraph(Source):
    """A line of nodes."""

    kind: Literal["path"] = "path"
    nodes: Nodes

    def draw(self, rng: np.random.Generator) -> Graph:
        return _graph(networkx().path_graph(self.nodes))


class Complete(Source):
    """Everyone is everyone's neighbour."""

    kind: Literal["complete"] = "complete"
    nodes: int = Field(description="|V|, the number of nodes.", ge=1, le=10_000)

    def draw(self, rng: np.random.Generator) -> Graph:
        return _graph(networkx().complete_graph(self.nodes))


class FileSource(Source):
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


class BundleSource(Source):
    """The edges come with the task's data bundle, and the task hands them over."""

    kind: Literal["bundle"] = "bundle"

    def draw(self, rng: np.random.Generator) -> Graph:
        raise InputError("topology: kind bundle needs a task with a data bundle; set task.bundle")


class ChannelSource(Source):
    """The links that the task's channels make, anew in every mini-batch."""

    kind: Literal["channels"] = "channels"

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = sorted(self.model_fields_set - {"kind"})
        changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
        if changed:
            raise ValueError(f"{changed[0]}: has no meaning for channels, which the task draws; remove it")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        raise InputError("topology: kind channels needs a task with channels: task.kind power_allocation")


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


class ConflictSource(Source):
    """The links of a network, joined where they cannot be used at the same time."""

    kind: Literal["conflict"] = "conflict"
    network: NetworkConfig = Field(
        description="The network whose links are the nodes: a topology of another kind, without seed, connected, "
        "max_draws and redraw, which stand beside it."
    )
    interference: Interference = Field(
        default="one_hop",
        description="Links that conflict: those that share an end; two_hop: also those that an edge joins.",
    )
    links: int | None = Field(
        default=None,
        description="Schedule so many of the network's links, chosen at random with every draw; left out: all.",
        ge=2,
    )

    @field_validator("network")
    @classmethod
    def _is_drawn_by_this_source(cls, network: Network) -> Network:
        given = sorted(network.model_fields_set & Source.model_fields.keys() - {"kind"})
        if given:
            raise ValueError(f"{given[0]}: has no meaning here; put it beside network")
        return network

    @field_serializer("network", mode="wrap")
    def _without_what_is_refused(
        self, network: Network, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {
            key: value
            for key, value in serialize(network).items()
            if key == "kind" or key not in Source.model_fields
        }

    @property
    def drawn_kind(self) -> str:
        """The network's: its conflict graph is a function of it."""
        return self.network.kind

    @property
    def is_random(self) -> bool:
        return self.links is not None or super().is_random

    @model_validator(mode="after")
    def _has_as_many_links_after_a_redraw(self) -> Self:
        if self.redraw is not None and self.links is None:
            raise ValueError(
                "redraw: another network may have another number of links, and every link is a node that trains; "
                "set links, how many of them are to be scheduled"
            )
        return self

    def resolved(self, base: Path | None) -> Self:
        """The same source with the path of a network from a file made absolute."""
        if not isinstance(self.network, FileSource):
            return self
        return self.model_copy(update={"network": self.network.resolved(base)})

    def draw(self, rng: np.random.Generator) -> Graph:
        graph = conflict_graph(self.network.draw(rng), self.interference)
        if self.links is not None:
            if self.links > graph.num_nodes:
                raise UnusableDrawError(
                    f"topology.links: {self.links}, but the network has only {graph.num_nodes}; give it more edges, or "
                    "lower links"
                )
            graph = graph.induced(np.sort(rng.choice(graph.num_nodes, self.links, replace=False)))
        if graph.num_edges == 0:
            raise UnusableDrawError(
                f"topology: conflict: no two of {graph.num_nodes} links conflict; give network more edges"
            )
        return graph


TopologyConfig = Annotated[
    Union[Network, BundleSource, ChannelSource, ConflictSource],  # noqa: UP007
    Field(discriminator="kind"),
]


def _require(holds: bool, key: str, found: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"{key}: must be {rule}, found {found}")


def _graph(found: Any, positions: NDArray[np.float64] | None = None) -> Graph:
    """A networkx graph on 0 … V−1 as a :class:`Graph`."""
    edges = np.array(list(found.edges), dtype=np.int64).reshape(-1, 2)
    return Graph.from_edges(found.number_of_nodes(), edges, positions=positions)
