"""Mixing matrices W: how a node averages its parameters with its neighbours' (SPEC §3).

A node computes its own row from its own and its neighbours' degrees, which travel as messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Mixing(Protocol):
    """A rule for the rows of W; every row sums to 1."""

    def row(self, degrees: Array, own: NDArray[np.int64], other: Array) -> tuple[Array, Array]:
        """W_ij of the edges [m] and W_ii of the nodes [n].

        Args:
            degrees: d_i of the rank's nodes, [n].
            own: which of the rank's nodes each edge belongs to, [m].
            other: the neighbour's degree d_j, [m].
        """


@dataclass(frozen=True)
class Metropolis:
    """W_ij = 1/(1 + max(d_i, d_j)), paper (16): symmetric and doubly stochastic on every graph."""

    def row(self, degrees: Array, own: NDArray[np.int64], other: Array) -> tuple[Array, Array]:
        weights = 1.0 / (1.0 + np.maximum(degrees[own], other))
        taken = np.zeros(len(degrees))
        np.add.at(taken, own, weights)
        return weights, 1.0 - taken


@dataclass(frozen=True)
class Laplacian:
    """W = I − β(D − A): θ_i + β Σ_j (θ_j − θ_i). It averages when β is below 2/λ_max(D − A)."""

    beta: float

    def row(self, degrees: Array, own: NDArray[np.int64], other: Array) -> tuple[Array, Array]:
        return np.full(len(own), self.beta), 1.0 - self.beta * degrees
