"""Conflict graphs: which links of a wireless network cannot be used at the same time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.graph import Graph

MAX_CONFLICTS = 50_000_000

Interference = Literal["one_hop", "two_hop"]


def conflict_graph(network: Graph, interference: Interference = "one_hop") -> Graph:
    """The conflict graph of a network with n nodes and L links: a vertex per link, in the order of
    ``network.edges()``; an edge, of weight 1, per pair of links that conflict.

    ``one_hop``: links that share an endpoint, since no node sends or receives twice at a time; this is the line graph.
    ``two_hop``: also links of which a node of one is a neighbour of a node of the other, and hears it.

    With the incidence matrix B [L, n] of links and their ends and the adjacency matrix A [n, n], links conflict where
    B Bᵀ, or B A Bᵀ, is not 0 off its diagonal.

    A vertex has the labels of its link's ends, "a–b", and the position halfway between them.

    Raises:
        InputError: a network without links, or with more conflicts than fit into memory.
    """
    from scipy.sparse import csr_array

    ends = network.edges()  # [L, 2]
    links, nodes = len(ends), network.num_nodes
    if links == 0:
        raise InputError(f"conflict graph: the network of {nodes} nodes has no link; give it more edges")
    B = csr_array(
        (np.ones(2 * links, dtype=bool), ends.reshape(-1), np.arange(0, 2 * links + 1, 2)),
        shape=(links, nodes),
    )
    near = B  # [L, n], the nodes that a link occupies
    _check_size(network, near.indices)
    if interference == "two_hop":
        A = csr_array(
            (np.ones(len(network.indices), dtype=bool), network.indices, network.indptr), shape=(nodes, nodes)
        )
        near = B @ A  # both ends among them, each other's neighbours
        _check_size(network, near.indices)
    conflicts = near @ B.T
    conflicts.setdiag(False)
    conflicts.eliminate_zeros()
    conflicts.sort_indices()
    names = np.array(network.labels or [str(node) for node in range(nodes)], dtype=object)
    return Graph(
        conflicts.indptr.astype(np.int64),
        conflicts.indices.astype(np.int64),
        np.ones(conflicts.nnz),
        tuple(names[ends[:, 0]] + "–" + names[ends[:, 1]]),
        None if network.positions is None else network.positions[ends].mean(axis=1),
    )


def _check_size(network: Graph, occupied: NDArray[np.integer[Any]]) -> None:
    """Refuse too many conflicts before they are made: a link conflicts with at most all links of the nodes that it
    occupies, among which it is found twice itself."""
    links = network.num_edges
    most = min(int(network.degrees[occupied].sum()) - 2 * links, links * (links - 1)) // 2
    if most > MAX_CONFLICTS:
        raise InputError(
            f"conflict graph: {links:,} links have up to {most:,} conflicts, which must be at most "
            f"{MAX_CONFLICTS:,}; take a smaller or sparser network"
        )
