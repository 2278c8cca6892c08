"""Ways to choose who hosts which node. What is computed does not depend on it; what ranks send to each other does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.graph import Graph
from fdtrain.partition import block

Index = NDArray[np.int64]
Partitioner = Callable[[Graph, int, int], Index]

_IMBALANCE = 5  # thousandths by which METIS's largest part may exceed the mean
_FEW = 200  # nodes up to which the Fiedler vector comes from all eigenvectors
_STEPS = 100  # of the iteration for it, else
_ACCURACY = 1e-3  # relative to the largest degree; the order of nodes matters, not the digits


def in_blocks(graph: Graph, ranks: int, seed: int) -> Index:
    """Consecutive numbers."""
    return block(graph.num_nodes, ranks)


def at_random(graph: Graph, ranks: int, seed: int) -> Index:
    """Any node anywhere, in parts whose sizes differ by at most one."""
    owner = np.empty(graph.num_nodes, dtype=np.int64)
    owner[rng.generator(seed, "partition").permutation(graph.num_nodes)] = block(graph.num_nodes, ranks)
    return owner


def by_metis(graph: Graph, ranks: int, seed: int) -> Index:
    """Few edges between parts of nearly equal sizes: multilevel k-way partitioning (Karypis & Kumar, SIAM J. Sci.
    Comput. 20, 1998)."""
    if ranks == 1 or ranks >= graph.num_nodes or graph.num_edges == 0:
        return block(graph.num_nodes, ranks)
    from pymetis import CSRAdjacency, Options, part_graph, zero_copy_dtype

    integer = zero_copy_dtype()
    rows = CSRAdjacency(graph.indptr.astype(integer), graph.indices.astype(integer))
    options = Options(seed=seed % 2**31, ufactor=_IMBALANCE)
    _, parts = part_graph(ranks, rows, options=options, recursive=False)
    return _without_empty_parts(np.asarray(parts, dtype=np.int64), ranks)


def _without_empty_parts(owner: Index, ranks: int) -> Index:
    """The same with a node of the largest part in each part that has none."""
    sizes = np.bincount(owner, minlength=ranks)
    for rank in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        owner[np.flatnonzero(owner == largest)[-1]] = rank
        sizes[largest] -= 1
        sizes[rank] = 1
    return owner


def by_spectrum(graph: Graph, ranks: int, seed: int) -> Index:
    """Parts whose sizes differ by at most one, by halving again and again along the Fiedler vector (Pothen, Simon &
    Liou, SIAM J. Matrix Anal. Appl. 11, 1990)."""
    owner = np.zeros(graph.num_nodes, dtype=np.int64)
    sizes = np.bincount(block(graph.num_nodes, ranks), minlength=ranks)
    adjacency: Any = graph.adjacency()
    adjacency.data = np.ones(len(adjacency.data))
    parts = [(0, ranks, np.arange(graph.num_nodes))]  # first rank, rank after the last, nodes
    while parts:
        first, stop, nodes = parts.pop()
        if stop - first == 1 or not len(nodes):
            owner[nodes] = first
            continue
        middle = (first + stop) // 2
        share = int(sizes[first:middle].sum())
        nodes = nodes[
            _order(adjacency[nodes][:, nodes], share, rng.generator(seed, "partition", first, stop))
        ]
        parts += [(first, middle, np.sort(nodes[:share])), (middle, stop, np.sort(nodes[share:]))]
    return owner


def _order(adjacency: Any, share: int, draws: np.random.Generator) -> Index:
    """All nodes in an order of which the first `share` make a part: component after component, the larger first, and
    the one in which the cut lies along its Fiedler vector."""
    from scipy.sparse.csgraph import connected_components

    count, component = connected_components(adjacency, directed=False)
    sizes = np.bincount(component, minlength=count)
    place = np.empty(count, dtype=np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(count)
    order: Index = np.argsort(place[component], kind="stable")
    ends = np.cumsum(np.sort(sizes)[::-1])
    cut = int(np.searchsorted(ends, share, side="right"))
    if cut < count:
        begin, end = int(ends[cut - 1]) if cut else 0, int(ends[cut])
        inside = order[begin:end]
        if begin < share:
            along = _fiedler(adjacency[inside][:, inside], draws)
            order[begin:end] = inside[np.argsort(along, kind="stable")]
    return order


def _fiedler(adjacency: Any, draws: np.random.Generator) -> NDArray[np.float64]:
    """About the eigenvector of the second eigenvalue of D − A of a connected graph; begins with the distances from a
    node at its edge, which are often close."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import lobpcg

    nodes = adjacency.shape[0]
    degrees = np.asarray(adjacency.sum(axis=1)).reshape(-1)
    laplacian: Any = diags_array(degrees) - adjacency
    along: NDArray[np.float64]
    if nodes <= _FEW:
        along = np.linalg.eigh(laplacian.toarray())[1][:, 1]
        return np.round(along, 12)
    distances = _distances(adjacency, int(np.argmax(_distances(adjacency, 0))))
    start = np.stack([distances - distances.mean(), draws.standard_normal(nodes)], axis=1)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # it warns of a vector that is not accurate yet
        values, vectors = lobpcg(
            laplacian,
            start,
            M=diags_array(1.0 / degrees),
            Y=np.ones((nodes, 1)),
            tol=_ACCURACY * float(degrees.max()),
            maxiter=_STEPS,
            largest=False,
        )
    along = np.real(vectors[:, int(np.argmin(values))])
    return along


def _distances(adjacency: Any, node: int) -> NDArray[np.float64]:
    """Edges on the shortest path from a node to each."""
    from scipy.sparse.csgraph import shortest_path

    found: Any = shortest_path(adjacency, method="D", indices=np.array([node]), unweighted=True)
    return np.asarray(found, dtype=np.float64).reshape(-1)


PARTITIONERS: dict[str, Partitioner] = {
    "block": in_blocks,
    "random": at_random,
    "metis": by_metis,
    "spectral": by_spectrum,
}
