"""Random graphs without a Python loop over nodes or edges: pairs of nodes, from the bits of a generator.

Up to :data:`NETWORKX_NODES` nodes, the kinds that choose among what is there already are drawn by networkx; larger ones
here, with the same distribution.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Edges = NDArray[np.int64]  # [M, 2]
NETWORKX_NODES = 10_000
_BITS = 16  # of a coordinate, along a curve


def gnp_edges(nodes: int, p: float, rng: np.random.Generator) -> Edges:
    """Every pair with probability p: by skips of geometric length over all pairs (Batagelj & Brandes, Phys. Rev. E 71,
    2005), with the draws of networkx's ``fast_gnp_random_graph``, and no more."""
    pairs = nodes * (nodes - 1) // 2
    if p >= 1:
        return np.stack(np.tril_indices(nodes, -1), axis=1)
    if p <= 0 or pairs == 0:
        return np.zeros((0, 2), dtype=np.int64)
    log_stays = math.log(1.0 - p)
    found, last = list[NDArray[np.int64]](), -1
    while last < pairs:
        expected = (pairs - last) * p
        before, count = rng.bit_generator.state, int(expected + 4 * math.sqrt(expected)) + 16
        places = last + np.cumsum(1 + _skips(rng.random(count), log_stays, pairs))
        stop = int(np.searchsorted(places, pairs))
        found.append(places[:stop])
        last = int(places[-1])
        if stop < count:  # the first beyond the last pair was the last to be drawn
            rng.bit_generator.state = before
            rng.random(stop + 1)
    return _pairs_at(np.concatenate(found))


def _skips(draws: NDArray[np.float64], log_stays: float, most: int) -> NDArray[np.int64]:
    """⌊log(1 − u) / log(1 − p)⌋ with the C library's logarithm, but at most `most`."""
    quotients = np.log(1.0 - draws) / log_stays
    near = np.abs(quotients - np.rint(quotients)) <= 1e-12 * np.maximum(quotients, 1.0)
    for k in np.flatnonzero(near):  # NumPy's logarithm may differ in the last bit
        quotients[k] = math.log(1.0 - draws[k]) / log_stays
    return np.minimum(quotients, float(most)).astype(np.int64)


def _pairs_at(places: NDArray[np.int64]) -> Edges:
    """(v, w), w < v, at each of the `places` in the order (1, 0), (2, 0), (2, 1), (3, 0) …"""
    v = ((1.0 + np.sqrt(1.0 + 8.0 * places)) / 2.0).astype(np.int64)
    v -= v * (v - 1) // 2 > places  # where the square root was rounded
    v += v * (v + 1) // 2 <= places
    return np.stack([v, places - v * (v - 1) // 2], axis=1)


def along_curve(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order of positions in the unit square [V, 2] along a Z-order curve (Morton, IBM, 1966): by the bits of both
    coordinates in turn."""
    code = np.zeros(len(positions), dtype=np.int64)
    cells = np.minimum(positions * 2**_BITS, 2**_BITS - 1).astype(np.int64)
    for bit in range(_BITS):
        for axis in (0, 1):
            code |= ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
    return np.argsort(code, kind="stable")


def near_pairs(positions: NDArray[np.float64], radius: float) -> Edges:
    """All pairs of `positions` [V, 2] at a distance of at most `radius`."""
    from scipy.spatial import cKDTree

    found: Edges = cKDTree(positions).query_pairs(radius, output_type="ndarray").astype(np.int64, copy=False)
    return found


def attached_edges(nodes: int, m: int, rng: np.random.Generator) -> Edges:
    """Preferential attachment: a star on m + 1 nodes, then every node links to m others, each chosen with a probability
    that is proportional to its degree."""
    edges: Edges = _compiled().attach(nodes, m, rng)
    return edges


def rewired_edges(nodes: int, k: int, p: float, rng: np.random.Generator) -> Edges:
    """A ring of k nearest neighbours, k < nodes, the far end of every edge moved with probability p."""
    edges: Edges = _compiled().rewire(nodes, k, p, rng)
    return edges


@cache
def _compiled() -> Any:
    """Compiled when a graph needs it: numba is slow to import."""
    from fdtrain.topology import compiled

    return compiled


def regular_edges(nodes: int, degree: int, rng: np.random.Generator) -> Edges:
    """A random graph of equal degrees: stubs are paired at random, again and again those that did not make a new edge
    (Steger & Wormald, Combinatorics, Probability and Computing 8, 1999)."""
    while True:
        keys = _paired(nodes, degree, rng)
        if keys is not None:
            return np.stack([keys // nodes, keys % nodes], axis=1)


def _paired(nodes: int, degree: int, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """The edges i < j as i · nodes + j; None: no two of the nodes that are left may be linked."""
    found = list[NDArray[np.int64]]()  # of every round of pairing, ascending
    stubs = np.repeat(np.arange(nodes), degree)
    while len(stubs):
        ends = rng.permutation(stubs).reshape(-1, 2)
        drawn = np.sort(ends.min(axis=1) * nodes + ends.max(axis=1))
        refused = drawn % (nodes + 1) == 0  # i = j
        refused[1:] |= drawn[1:] == drawn[:-1]
        for keys in found:
            refused |= _are_in(keys, drawn)
        if refused.all() and _is_stuck(np.unique(stubs), found, nodes):
            return None
        found.append(drawn[~refused])
        stubs = np.concatenate(np.divmod(drawn[refused], nodes))
    return np.concatenate(found)


def _are_in(keys: NDArray[np.int64], sought: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the sought numbers are among the ascending `keys`."""
    if not len(keys):
        return np.zeros(len(sought), dtype=np.bool_)
    is_in: NDArray[np.bool_] = keys[np.minimum(np.searchsorted(keys, sought), len(keys) - 1)] == sought
    return is_in


def _is_stuck(left: NDArray[np.int64], found: list[NDArray[np.int64]], nodes: int) -> bool:
    i, j = (left[ends] for ends in np.triu_indices(len(left), 1))
    taken = np.zeros(len(i), dtype=np.bool_)
    for keys in found:
        taken |= _are_in(keys, i * nodes + j)
    return bool(taken.all())
