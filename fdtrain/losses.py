"""Losses of a node's output, local to the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Loss(Protocol):
    """ℓ_i, a function of a node's own output ŷ_i and label y_i."""

    def gradient(self, output: Array, label: Array, out: Array) -> None:
        """out ← z^L = ∂ℓ/∂ŷ, [n, w, g_L]."""

    def per_node(self, output: Array, label: Array) -> Array:
        """Σ over samples and outputs of ℓ_i, [n], from arrays [n, B, g_L]."""


@dataclass(frozen=True)
class SquaredError:
    """ℓ_i = Σ over outputs of (y_i − ŷ_i)², SPEC §1."""

    def gradient(self, output: Array, label: Array, out: Array) -> None:
        np.subtract(output, label, out)
        np.multiply(out, 2.0, out)

    def per_node(self, output: Array, label: Array) -> Array:
        nodes, samples, outputs = output.shape
        squares = np.square(output - label).reshape(nodes, samples * outputs)  # not −1: there may be no node
        total: Array = squares.sum(axis=1)
        return total
