"""Maximum weighted independent sets: no two neighbours in a set, and its weights are as large as can be (SPEC §6 C).

Weights are [B, V], a sample per row, all on one graph; sets are boolean [B, V].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fdtrain.errors import InputError
from fdtrain.graph import Graph

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]
Bits = NDArray[np.uint8]  # [rows, ⌈B/8⌉], eight samples in a byte

SCALE = 1e3  # of weights within the solver, whose absolute tolerances are 1e-6


def utility(weights: ArrayLike, chosen: Chosen) -> Array:
    """The total weight of every sample's set, [B]."""
    total: Array = np.sum(weights, axis=1, where=chosen, dtype=np.float64)
    return total


def is_independent(graph: Graph, chosen: Chosen) -> bool:
    """Whether no edge has both its ends chosen, in any sample."""
    i, j = graph.edges().T
    return not bool((chosen[:, i] & chosen[:, j]).any())


def local_greedy(graph: Graph, weights: ArrayLike) -> Chosen:
    """The local greedy solver (LGS; Joo & Shroff, IEEE/ACM Trans. Netw. 17, 2009), [B, V].

    In every round, an undecided vertex whose weight beats that of all its undecided neighbours joins the set, and its
    neighbours leave; of equal weights the lower number wins. It ends with the set of the sequential greedy algorithm
    that takes vertices in descending order of weight, a maximal one; only the order of the weights counts.

    Raises:
        InputError: weights that are not finite, or not [B, V].
    """
    given = _checked(graph, weights)
    rank = np.empty(given.shape[::-1], dtype=np.int32)  # [V, B], 0: the heaviest
    order = np.argsort(-given, axis=1, kind="stable").T
    np.put_along_axis(rank, order, np.arange(graph.num_nodes, dtype=np.int32)[:, None], axis=0)
    sender = graph.indices
    beats: Bits = np.packbits(rank[sender] < rank[graph.rows], axis=1)  # the receiver of each directed edge
    undecided: Bits = np.packbits(np.ones(rank.shape, dtype=bool), axis=1)
    chosen = np.zeros_like(undecided)
    while undecided.any():
        joining = undecided & ~_any_sender(graph, beats & undecided[sender])
        chosen |= joining
        undecided &= ~(joining | _any_sender(graph, joining[sender]))
    return np.ascontiguousarray(np.unpackbits(chosen, axis=1, count=len(given)).T).view(np.bool_)


def _any_sender(graph: Graph, bits: Bits) -> Bits:
    """For every receiver, whether any of its directed edges has the bit: [2 |E|, ⌈B/8⌉] to [V, ⌈B/8⌉]."""
    heard = np.zeros((graph.num_nodes, bits.shape[1]), dtype=np.uint8)
    linked = graph.degrees > 0  # reduceat has no empty sums
    heard[linked] = np.bitwise_or.reduceat(bits, graph.indptr[:-1][linked], axis=0)
    return heard


def minimum_degree_greedy(graph: Graph, weights: ArrayLike) -> Chosen:
    """GWMIN (Sakai, Togasaki & Yamazaki, Discrete Appl. Math. 126, 2003), [B, V].

    Takes the vertex with the largest u_i / (d_i + 1), d_i its degree in what remains, removes it and its neighbours,
    and so on; of equal ones the lowest number. The set has at least the weight Σ_i u_i / (d_i + 1) of the whole graph.

    Raises:
        InputError: weights that are negative or not finite, or not [B, V].
    """
    u = _checked(graph, weights)
    if (u < 0).any():
        sample, vertex = np.argwhere(u < 0)[0]
        raise InputError(
            f"weights: must be at least 0, found {u[sample, vertex]} at vertex {vertex} of sample {sample}; "
            "GWMIN is for weights that are not negative"
        )
    A: Any = graph.adjacency()
    A.data = np.ones_like(A.data)
    chosen = np.zeros(u.shape, dtype=bool)
    remaining, degrees = np.ones(u.shape, dtype=bool), np.tile(graph.degrees.astype(np.float64), (len(u), 1))
    while (samples := np.flatnonzero(remaining.any(axis=1))).size:
        score = np.where(remaining[samples], u[samples] / (degrees[samples] + 1), -np.inf)
        taken = np.zeros(u.shape, dtype=bool)
        taken[samples, score.argmax(axis=1)] = True
        removed = remaining & (taken | ((A @ taken.T).T > 0))
        chosen |= taken
        remaining &= ~removed
        degrees -= (A @ removed.T).T
    return chosen


def optimum(graph: Graph, weights: ArrayLike, time_limit: float = 60.0) -> Chosen:
    """A set of the largest weight there is, [B, V]: max Σ_i u_i x_i with x_i + x_j ≤ 1 on every edge and binary x.

    One integer program per sample, by SciPy's ``milp`` (HiGHS): exact to 1e-9 of the largest |u_i|, a second or so for
    100 vertices of mean degree 25, and beyond reach for several hundred.

    Args:
        graph: its weights do not count.
        weights: u [B, V].
        time_limit: seconds for one sample.

    Raises:
        InputError: weights that are not finite, or not [B, V]; a sample that took longer than `time_limit`.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    u = _checked(graph, weights)
    ends = graph.edges()
    row = np.repeat(np.arange(len(ends)), 2)
    edges = csr_array((np.ones(ends.size), (row, ends.reshape(-1))), shape=(len(ends), graph.num_nodes))
    chosen = np.zeros(u.shape, dtype=bool)
    for sample, values in enumerate(u):
        found = milp(
            -SCALE * (values / (np.abs(values).max() or 1.0)),
            integrality=np.ones(graph.num_nodes, dtype=np.int64),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(edges, -np.inf, 1),
            options={"time_limit": time_limit, "mip_rel_gap": 0.0},
        )
        if found.status != 0:
            raise InputError(
                f"optimum: sample {sample} on {graph.num_nodes} vertices and {graph.num_edges} edges is not solved "
                f"within {time_limit:g} s; give it a longer time_limit, or a smaller or sparser graph"
            )
        chosen[sample] = found.x > 0.5
    return chosen


def _checked(graph: Graph, weights: ArrayLike) -> Array:
    u = np.asarray(weights, dtype=np.float64)
    if u.ndim != 2 or u.shape[1] != graph.num_nodes:
        raise InputError(f"weights: must have the shape [B, {graph.num_nodes}], found {list(u.shape)}")
    if not np.isfinite(u).all():
        sample, vertex = np.argwhere(~np.isfinite(u))[0]
        raise InputError(
            f"weights: must be finite, found {u[sample, vertex]} at vertex {vertex} of sample {sample}"
        )
    return u
