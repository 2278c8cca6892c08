"""Draws that depend on what was drawn before, one after another, compiled by numba; imported for large graphs alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Edges = NDArray[np.int64]


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def attach(nodes: int, m: int, rng: Any) -> Edges:
    """Edges [m + (nodes − m − 1) m, 2] of preferential attachment to a star on m + 1 nodes."""
    edges = np.empty((m + (nodes - m - 1) * m, 2), dtype=np.int64)
    for k in range(m):
        edges[k, 0], edges[k, 1] = 0, k + 1
    count = m
    for source in range(m + 1, nodes):
        present, first = 2 * count, count  # an end of an edge, uniform: a node by its degree
        while count < first + m:
            place = int(rng.random() * present)
            target = edges[place // 2, place % 2]
            again = False
            for k in range(first, count):
                again = again or edges[k, 1] == target
            if not again:
                edges[count, 0], edges[count, 1] = source, target
                count += 1
    return edges


@njit(cache=True)  # type: ignore[untyped-decorator,unused-ignore]
def rewire(nodes: int, k: int, p: float, rng: Any) -> Edges:
    """Edges [nodes · k/2, 2] of a ring of k nearest neighbours, rewired one after another, nearest first."""
    half = k // 2
    ends = np.empty((nodes, half), dtype=np.int64)  # of the edges that begin at a node
    degrees = np.full(nodes, k)
    for u in range(nodes):
        for j in range(half):
            ends[u, j] = (u + j + 1) % nodes
    for j in range(half):
        for u in range(nodes):
            if rng.random() >= p or degrees[u] >= nodes - 1:
                continue
            w = int(rng.random() * nodes)
            while w == u or (ends[u] == w).any() or (ends[w] == u).any():
                w = int(rng.random() * nodes)
            degrees[ends[u, j]] -= 1
            degrees[w] += 1
            ends[u, j] = w
    edges = np.empty((nodes * half, 2), dtype=np.int64)
    for u in range(nodes):
        for j in range(half):
            edges[u * half + j, 0], edges[u * half + j, 1] = u, ends[u, j]
    return edges
