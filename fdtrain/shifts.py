"""The graph shift operator S, each node's row computed from what the node and its neighbours know (SPEC §1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import edge_sums
from fdtrain.errors import InputError
from fdtrain.graph import Neighbourhood

Array = NDArray[np.float64]

SHIFTS = ("adjacency", "laplacian", "normalized_laplacian", "normalized_adjacency", "gcn")


def strengths(hood: Neighbourhood) -> Array:
    """Σ_j A_ij of the rank's nodes, [n]: the degree, where all edges weigh 1.

    Every node sums its edges one after another in ascending order of the neighbour, wherever it lives.
    """
    return edge_sums(hood.indptr, hood.weights[:, None])[:, 0]


def check_shift(
    kind: str, strength: Array, ids: NDArray[np.int64], silent: NDArray[np.bool_] | None = None
) -> None:
    """Refuse nodes for which a normalised shift does not exist.

    Args:
        kind: one of :data:`SHIFTS`.
        strength: Σ_j A_ij, [n].
        ids: the nodes' global numbers, [n].
        silent: nodes without a neighbour that may be so: their row of S is 0, [n].

    Raises:
        InputError: naming the first node whose degree (for ``gcn``, 1 + degree) is not positive.
    """
    if kind.startswith("normalized") or kind == "gcn":
        scale = strength + 1.0 if kind == "gcn" else strength
        bad = np.flatnonzero((scale <= 0) & (True if silent is None else ~silent))
        if len(bad):
            found = strength[bad[0]]
            why = " (it hears nobody, or weights cancel)" if found == 0 else ""
            root = "1 + the degree" if kind == "gcn" else "the degree"
            others = "adjacency or laplacian" if (strength <= -1).any() else "adjacency, laplacian or gcn"
            raise InputError(
                f"model.shift: node {ids[bad[0]]} has weighted degree {found:g}{why}, but '{kind}' divides by "
                f"the square root of {root}; use {others}, or a connected topology with positive weights"
            )


def shift_row(
    kind: str, strength: Array, own: NDArray[np.int64], weights: Array, other: Array
) -> tuple[Array, Array]:
    """S_ij of the given edges and S_ii of the given nodes.

    Args:
        kind: one of :data:`SHIFTS`.
        strength: Σ_j A_ij of the rank's nodes, [n].
        own: which of the rank's nodes each edge belongs to, [m].
        weights: A_ij (for the adjoint, S_ji: A_ji), [m].
        other: the neighbour's strength, which it sent, [m].

    Returns:
        S_ij [m] and S_ii [n].
    """
    nodes = len(strength)
    if kind == "adjacency":
        return weights.copy(), np.zeros(nodes)
    if kind == "laplacian":
        return -weights, strength.copy()
    scale = strength + 1.0 if kind == "gcn" else strength
    other_scale = other + 1.0 if kind == "gcn" else other
    normalized = weights / np.sqrt(scale[own] * other_scale)
    if kind == "normalized_laplacian":
        return -normalized, np.where(scale == 0, 0.0, 1.0)  # of a node without a neighbour: 0
    return normalized, (1.0 / scale if kind == "gcn" else np.zeros(nodes))
