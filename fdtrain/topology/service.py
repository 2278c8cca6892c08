"""The topology service: which graph is up at mini-batch t. It is the only one who sees the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology.base import DrawnSource, MovingSource, Source, Trajectory, UnusableDrawError
from fdtrain.topology.spectrum import spectral_gap

DIAMETER_LIMIT = 2000  # nodes; all-pairs distances take V² memory
GAP_LIMIT = 50_000  # nodes; with more, the gap may be so small that the eigensolver takes minutes


class TopologyService:
    """E(t): a static source is drawn once, one with ``redraw`` anew every so many mini-batches; a moving one goes on by
    one step.

    ``graph(t)`` depends on nothing but the seed and t: draw number k, attempt a, has a generator of its own.
    """

    def __init__(
        self,
        source: Source,
        seed: int,
        fixed: Graph | None = None,
        purpose: str = "topology",
        *,
        check: Callable[[Graph], None] | None = None,
    ) -> None:
        """
        Args:
            source: the topology's configuration.
            seed: the experiment's seed, used where the source has none.
            fixed: the graph itself, where a data bundle has it.
            purpose: what the graphs are for: other draws for another purpose.
            check: raises an InputError on a graph that cannot be used, in whose place another is drawn.
        """
        self._purpose, self._check = purpose, check
        self.source = source
        self.seed = seed if source.seed is None else source.seed
        self.fixed = fixed
        self._last: tuple[int, Graph] | None = None  # draw number, graph
        self._trajectory: Trajectory | None = None  # of a moving source, once it was asked for

    def graph(self, t: int) -> Graph:
        """The graph of mini-batch `t` ≥ 0.

        Raises:
            InputError: no connected graph, or none that can be used, among ``max_draws`` draws, or a file that cannot
                be used.
        """
        if t < 0:
            raise ValueError(f"topology: mini-batches count from 0, asked for {t}")
        number = 0 if self.source.redraw is None else t // self.source.redraw.every
        if self._last is None or self._last[0] != number:
            moving = isinstance(self.source, MovingSource)
            self._last = (number, self._move(number) if moving else self._draw(number, t))
        return self._last[1]

    def _move(self, number: int) -> Graph:
        """The graph of a moving source after so many steps."""
        assert isinstance(self.source, MovingSource)
        if self._trajectory is None:
            self._trajectory = self.source.trajectory(self.seed, self._purpose)
        graph = self._trajectory.graph(number)
        if self._check is not None:
            self._check(graph)
        return graph

    def _draw(self, number: int, t: int) -> Graph:
        source = self.source
        attempts = source.max_draws if source.is_random and self.fixed is None else 1
        problem: UnusableDrawError | None = None
        for attempt in range(attempts):
            try:
                graph = self._once(number, attempt)
            except UnusableDrawError as error:
                problem = error
                continue
            if not source.connected or graph.components() == 1:
                return graph
            problem = None
        if problem is not None:
            raise problem
        draws = f"{attempts} draw{'s' if attempts > 1 else ''}"
        found = f"{graph.num_edges} edges and {graph.components()} components"
        remedy = "give it more edges, or set connected: false"
        raise InputError(
            f"topology: {source.kind} at mini-batch {t}: no connected graph in {draws}, "
            f"the last has {found}; {remedy}"
        )

    def _once(self, number: int, attempt: int) -> Graph:
        if self.fixed is not None:
            graph = self.fixed
        else:
            assert isinstance(self.source, DrawnSource)
            graph = self.source.draw(rng.generator(self.seed, self._purpose, step=number, item=attempt))
        if self._check is not None:
            try:
                self._check(graph)
            except InputError as error:
                raise UnusableDrawError(str(error)) from None
        return graph


def describe(graph: Graph) -> dict[str, Any]:
    """The figures of a graph that a report shows."""
    degrees = graph.degrees
    components = graph.components()
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "degree_min": int(degrees.min()),
        "degree_mean": float(degrees.mean()),
        "degree_max": int(degrees.max()),
        "components": components,
        "diameter": diameter(graph),
        "clustering": _clustering(graph),
        "asymmetric": not np.array_equal(graph.weights, graph.reverse_weights),
        "spectral_gap": 0.0 if components > 1 else _mixing_gap(graph),
    }


def _pattern(graph: Graph) -> Any:
    pattern = graph.adjacency()
    pattern.data = np.ones(len(graph.indices))
    return pattern


def diameter(graph: Graph) -> int | None:
    """The longest of the shortest paths, in edges; None where nodes cannot reach each other, or are too many."""
    if graph.num_nodes > DIAMETER_LIMIT or graph.components() > 1:
        return None
    from scipy.sparse.csgraph import shortest_path

    return int(shortest_path(_pattern(graph), directed=True, unweighted=True).max())


def _clustering(graph: Graph) -> float:
    """Mean over the nodes of closed pairs of neighbours / pairs of neighbours (0 for a degree below 2)."""
    from scipy.sparse import csr_array

    rows, degrees = graph.rows, graph.degrees
    ends = degrees[rows], degrees[graph.indices]
    up = (ends[0] < ends[1]) | ((ends[0] == ends[1]) & (rows < graph.indices))
    indptr = np.concatenate([[0], np.cumsum(up)])[graph.indptr]
    # Every edge once, from the end of the lower degree: no node has many, and each triangle is a → b → c, a → c.
    U: Any = csr_array((np.ones(int(up.sum())), graph.indices[up], indptr), shape=(len(degrees),) * 2)
    through = (U @ U).multiply(U)  # paths a → b → c beside a → c
    triangles = through.sum(axis=1) + through.sum(axis=0) + (U.T @ U).multiply(U).sum(axis=1)
    pairs = degrees * (degrees - 1)
    return float(np.mean(2.0 * np.asarray(triangles).reshape(-1) / np.maximum(pairs, 1)))


def _mixing_gap(graph: Graph) -> float | None:
    """The spectral gap of Metropolis mixing: W_ij = 1 / (1 + max(d_i, d_j)) on the edges, rows that sum to 1; None
    where nodes are too many."""
    if graph.num_nodes > GAP_LIMIT:
        return None
    from scipy.sparse import diags_array

    degrees = graph.degrees
    W: Any = _pattern(graph)
    W.data = 1.0 / (1.0 + np.maximum(degrees[graph.rows], degrees[graph.indices]))
    return spectral_gap(W + diags_array(1.0 - np.asarray(W.sum(axis=1)).reshape(-1)))
