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
    """A rule for the rows of W; every row sums to 1, so W_ii is what its edges leave."""

    def weights(self, degrees: Array, other: Array) -> Array:
        """W_ij of edges, from the degrees d_i and d_j of their ends; arrays of any one shape."""


@dataclass(frozen=True)
class Metropolis:
    """W_ij = 1/(1 + max(d_i, d_j)), paper (16): symmetric and doubly stochastic on every graph."""

    def weights(self, degrees: Array, other: Array) -> Array:
        found: Array = 1.0 / (1.0 + np.maximum(degrees, other))
        return found


@dataclass(frozen=True)
class Laplacian:
    """W = I − β(D − A): θ_i + β Σ_j (θ_j − θ_i). It averages when β is below 2/λ_max(D − A)."""

    beta: float

    def weights(self, degrees: Array, other: Array) -> Array:
        return np.full(degrees.shape, self.beta)
