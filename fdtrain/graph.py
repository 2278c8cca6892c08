"""The communication graph G = (V, E) as compressed sparse rows, and one rank's view of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdtrain.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph whose edges may carry a different weight in each direction.

    Row i lists the neighbours of node i in ascending order. ``weights[e]`` is A_ij for the receiver i (the row) and
    the sender j (``indices[e]``); A need not be symmetric, but its pattern is: who hears, is heard.
    Nobody is their own neighbour. Build one with :meth:`from_edges` or :meth:`from_adjacency`.
    """

    indptr: NDArray[np.int64]  # [V + 1]
    indices: NDArray[np.int64]  # [2 |E|]
    weights: NDArray[np.float64]  # [2 |E|]
    labels: tuple[str, ...] | None = None  # [V], the names that a file gives its nodes
    positions: NDArray[np.float64] | None = field(default=None, repr=False)  # [V, 2], where a source has them

    @classmethod
    def from_edges(
        cls,
        nodes: int,
        edges: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        labels: tuple[str, ...] | None = None,
        positions: NDArray[np.float64] | None = None,
    ) -> Graph:
        """The graph of undirected `edges` [M, 2] on nodes 0 … `nodes` − 1, with symmetric `weights` [M] (default 1).

        Raises:
            InputError: no node, edges that are no pairs of integers, a node number out of range, a self-loop,
                a duplicate edge (in either direction), or a weight that is no real number, zero or not finite.
        """
        if nodes < 1:
            raise InputError(f"graph: needs at least 1 node, found {nodes}")
        pairs = _pairs(edges)
        values = None if weights is None else _reals(_array(weights, "weights"), "weights")
        if values is not None and values.ndim != 1:
            raise InputError(f"weights: must have the shape [M], found {list(values.shape)}")
        if values is not None and len(values) != len(pairs):
            raise InputError(f"graph: {len(pairs)} edges but {len(values)} weights")
        _check_ends(nodes, pairs)
        small = _small(max(nodes, 2 * len(pairs)))
        rows = np.concatenate([pairs[:, 0], pairs[:, 1]], dtype=small, casting="same_kind")
        cols = np.concatenate([pairs[:, 1], pairs[:, 0]], dtype=small, casting="same_kind")
        both = None if values is None else np.concatenate([values, values])
        graph = _from_directed(nodes, rows, cols, both, labels, positions)
        graph._check_once()
        if values is not None:
            _check_weights(pairs, values)
        return graph

    @classmethod
    def from_adjacency(
        cls, adjacency: ArrayLike | csr_array, *, labels: tuple[str, ...] | None = None
    ) -> Graph:
        """The graph of an adjacency matrix A [V, V], dense or SciPy sparse: A_ij weighs what i hears from j.

        A may be asymmetric; i and j are neighbours when A_ij or A_ji is not zero.

        Raises:
            InputError: not square, no node, not real or finite, or a diagonal that is not zero (self-loops).
        """
        from scipy.sparse import coo_array, issparse

        given: Any = adjacency if issparse(adjacency) else _array(adjacency, "adjacency")
        if given.ndim != 2 or given.shape[0] != given.shape[1]:
            raise InputError(f"adjacency: must be a square matrix, found shape {tuple(given.shape)}")
        if given.shape[0] < 1:
            raise InputError("adjacency: needs at least 1 node, found 0")
        A: Any = coo_array(_reals(given, "adjacency"))
        A.sum_duplicates()
        A.eliminate_zeros()
        rows, cols, values = A.row.astype(np.int64), A.col.astype(np.int64), A.data
        if not np.isfinite(values).all():
            raise InputError("adjacency: every entry must be finite, found inf or nan")
        loops = np.flatnonzero(rows == cols)
        if len(loops):
            raise InputError(f"adjacency: node {rows[loops[0]]} has a self-loop; set the diagonal to 0")
        nodes = int(A.shape[0])
        forward, backward = rows * nodes + cols, cols * nodes + rows
        silent = ~np.isin(backward, forward)  # i hears j, but j does not hear i: the reverse edge weighs 0
        return _from_directed(
            nodes,
            np.concatenate([rows, cols[silent]]),
            np.concatenate([cols, rows[silent]]),
            np.concatenate([values, np.zeros(int(silent.sum()))]),
            labels,
            None,
        )

    @property
    def num_nodes(self) -> int:
        """|V|."""
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        """|E|, undirected edges."""
        return len(self.indices) // 2

    @property
    def degrees(self) -> NDArray[np.int64]:
        """d_i, the number of neighbours of each node, [V]."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The receiver of every directed edge, [2 |E|]; ``indices`` has the senders."""
        return np.repeat(np.arange(self.num_nodes), self.degrees)

    @property
    def reverse_weights(self) -> NDArray[np.float64]:
        """A_ji for every stored A_ij, [2 |E|]: ``weights`` itself where all are equal; not to be written to."""
        if len(self.weights) == 0 or (self.weights == self.weights[0]).all():
            return self.weights
        transposed: Any = self.adjacency().tocsc()  # the transposed pattern is the same pattern
        reverse: NDArray[np.float64] = transposed.data
        return reverse

    def neighbours(self, node: int) -> NDArray[np.int64]:
        """N(i), ascending."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]

    def edges(self) -> NDArray[np.int64]:
        """Every undirected edge once, [|E|, 2], lower number first."""
        rows = self.rows
        once = rows < self.indices
        return np.stack([rows[once], self.indices[once]], axis=1)

    def adjacency(self) -> csr_array:
        """A as a SciPy sparse matrix, [V, V]."""
        from scipy.sparse import csr_array

        return csr_array((self.weights, self.indices, self.indptr), shape=(self.num_nodes, self.num_nodes))

    def induced(self, nodes: NDArray[np.int64]) -> Graph:
        """The graph of some of the nodes, ascending, and of the edges between them; they are numbered anew."""
        A = self.adjacency()[nodes][:, nodes]
        labels = None if self.labels is None else tuple(self.labels[node] for node in nodes)
        positions = None if self.positions is None else self.positions[nodes]
        indptr, indices = A.indptr.astype(np.int64), A.indices.astype(np.int64)
        return Graph(indptr, indices, np.asarray(A.data), labels, positions)

    def keep(self, edges: NDArray[np.int64]) -> Graph:
        """The graph with all nodes and only the given of its `edges` [M, 2], with their weights in both directions."""
        rows = self.rows
        keys = np.minimum(rows, self.indices) * self.num_nodes + np.maximum(rows, self.indices)
        stay = np.isin(keys, edges.min(axis=1) * self.num_nodes + edges.max(axis=1))
        indptr = np.concatenate([[0], np.cumsum(stay)])[self.indptr]
        return Graph(indptr, self.indices[stay], self.weights[stay], self.labels, self.positions)

    def _check_once(self) -> None:
        """Raise an InputError where an edge is stored twice."""
        again = self.indices[1:] == self.indices[:-1]
        starts = self.indptr[1:-1]
        again[starts[(starts > 0) & (starts < len(self.indices))] - 1] = False  # equal, but of two rows
        if again.any():
            place = int(np.flatnonzero(again)[0])
            i, j = int(np.searchsorted(self.indptr, place, side="right")) - 1, int(self.indices[place])
            raise InputError(f"graph: edge ({i}, {j}) is listed more than once; keep one")

    def components(self) -> int:
        """The number of connected components."""
        from scipy.sparse.csgraph import connected_components

        pattern = self.adjacency()
        pattern.data = np.ones_like(pattern.data)
        count: Any = connected_components(pattern, directed=False, return_labels=False)
        return int(count)

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, Graph)
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
            and np.array_equal(self.weights, other.weights)
        )

    __hash__ = None  # type: ignore[assignment]


def _array(given: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, OverflowError):  # rows of different lengths, mostly
        raise InputError(f"{name}: must be an array of numbers") from None


def _reals(given: Any, name: str) -> Any:
    """A copy of a dense or sparse matrix as float64."""
    if given.dtype.kind not in "biuf":
        raise InputError(f"{name}: must hold real numbers, found {given.dtype}")
    with np.errstate(all="ignore"):  # what overflows is not finite, and reported as such
        return given.astype(np.float64)


def _pairs(edges: ArrayLike) -> NDArray[np.int64]:
    found = _array(edges, "edges")
    if found.shape == (0,):  # an empty list
        return np.zeros((0, 2), dtype=np.int64)
    if found.ndim != 2 or found.shape[1] != 2 or (found.size and found.dtype.kind not in "iu"):
        raise InputError(f"edges: must be integers of shape [M, 2], found {found.dtype} {list(found.shape)}")
    return found.astype(np.int64)


def _check_ends(nodes: int, pairs: NDArray[np.int64]) -> None:
    if not len(pairs):
        return
    if pairs.min() < 0 or pairs.max() >= nodes:
        i, j = pairs[((pairs < 0) | (pairs >= nodes)).any(axis=1)][0]
        raise InputError(f"graph: edge ({i}, {j}) names a node outside 0 … {nodes - 1}")
    loops = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
    if len(loops):
        i = pairs[loops[0], 0]
        raise InputError(f"graph: edge ({i}, {i}) is a self-loop; remove it")


def _check_weights(pairs: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(values) | (values == 0))
    if len(bad):
        i, j = pairs[bad[0]]
        raise InputError(
            f"graph: edge ({i}, {j}) has weight {values[bad[0]]}; weights must be finite and not 0"
        )


def _small(largest: int) -> Any:
    """The integers that hold numbers up to `largest`: half the memory where they are few."""
    return np.int32 if largest < 2**31 else np.int64


def _from_directed(
    nodes: int,
    rows: NDArray[Any],
    cols: NDArray[Any],
    values: NDArray[np.float64] | None,
    labels: tuple[str, ...] | None,
    positions: NDArray[np.float64] | None,
) -> Graph:
    """The graph of directed edges of a symmetric pattern, in any order; `values` None: all weigh 1."""
    from scipy.sparse import coo_array

    if labels is not None and len(labels) != nodes:
        raise InputError(f"labels: need one for each of {nodes} nodes, found {len(labels)}")
    small = _small(max(nodes, len(rows)))
    data = np.ones(len(rows), dtype=np.int8) if values is None else values
    # Two passes over rows of the transposed matrix and back, each a sort by counting, leave the columns in order.
    ends = cols.astype(small, copy=False), rows.astype(small, copy=False)
    A: Any = coo_array((data, ends), shape=(nodes, nodes))
    A.has_canonical_format = True  # duplicates are not to be summed
    by_row = A.tocsr().tocsc()
    weights = np.ones(len(rows)) if values is None else by_row.data
    return Graph(by_row.indptr.astype(np.int64), by_row.indices.astype(np.int64), weights, labels, positions)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What one rank is told of the graph: the rows of its own nodes, and which rank hosts each neighbour."""

    ids: NDArray[np.int64]  # [n] global numbers of the rank's nodes, ascending
    indptr: NDArray[np.int64]  # [n + 1]
    indices: NDArray[np.int64]  # [m] global numbers of the neighbours, ascending within a row
    weights: NDArray[np.float64]  # [m] A_ij, what i hears from j
    reverse_weights: NDArray[np.float64]  # [m] A_ji, what j hears from i
    owners: NDArray[np.int64]  # [m] the rank that hosts j

    @property
    def num_nodes(self) -> int:
        """n, the number of nodes on this rank."""
        return len(self.ids)

    @property
    def degrees(self) -> NDArray[np.int64]:
        """d_i of the rank's nodes, [n]."""
        return np.diff(self.indptr)


def neighbourhoods(graph: Graph, owner: NDArray[np.int64], ranks: int) -> list[Neighbourhood]:
    """Cut `graph` into one :class:`Neighbourhood` per rank; `owner` [V] is the rank of each node."""
    degrees, weights, reverse = graph.degrees, graph.weights, graph.reverse_weights
    cuts = []
    for rank in range(ranks):
        ids = np.flatnonzero(owner == rank)
        indptr = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(degrees[ids], out=indptr[1:])
        take: NDArray[np.int64] | slice
        if len(ids) and ids[-1] - ids[0] == len(ids) - 1:  # consecutive numbers: views
            take = slice(int(graph.indptr[ids[0]]), int(graph.indptr[ids[-1] + 1]))
        else:
            starts = graph.indptr[ids] - indptr[:-1]
            take = np.repeat(starts, degrees[ids]) + np.arange(indptr[-1])
        indices, received = graph.indices[take], weights[take]
        sent = received if reverse is weights else reverse[take]
        cuts.append(Neighbourhood(ids, indptr, indices, received, sent, owner[indices]))
    return cuts
