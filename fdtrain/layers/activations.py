"""Activation functions σ, with σ' written in terms of the output y = σ(h), so that h need not be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Activation(Protocol):
    """A pointwise function."""

    def apply(self, h: Array, out: Array) -> None:
        """out ← σ(h), overwriting h. `h` is contiguous: NumPy's exp and tanh may round otherwise on strided arrays."""

    def scale_by_derivative(self, y: Array, z: Array, out: Array) -> None:
        """out ← z ⊙ σ'(h), from y = σ(h); q of SPEC §2. `out` may not share memory with `y` or `z`."""


@dataclass(frozen=True)
class Sigmoid:
    """σ(h) = 1/(1 + e^−h)."""

    def apply(self, h: Array, out: Array) -> None:
        np.negative(h, h)
        np.exp(h, h)  # overflows to inf for h < −709, and 1/(1 + inf) = 0 is right
        np.add(h, 1.0, h)
        np.reciprocal(h, out)

    def scale_by_derivative(self, y: Array, z: Array, out: Array) -> None:
        np.subtract(1.0, y, out)
        np.multiply(out, y, out)
        np.multiply(out, z, out)


@dataclass(frozen=True)
class Tanh:
    """σ(h) = tanh h."""

    def apply(self, h: Array, out: Array) -> None:
        np.tanh(h, h)
        np.copyto(out, h)

    def scale_by_derivative(self, y: Array, z: Array, out: Array) -> None:
        np.multiply(y, y, out)
        np.subtract(1.0, out, out)
        np.multiply(out, z, out)


@dataclass(frozen=True)
class LeakyRelu:
    """σ(h) = h for h > 0, `negative_slope` · h otherwise; σ'(0) = negative_slope. Slope 0 is the plain relu."""

    negative_slope: float

    def apply(self, h: Array, out: Array) -> None:
        np.multiply(h, self.negative_slope, out=h, where=h <= 0)
        np.copyto(out, h)

    def scale_by_derivative(self, y: Array, z: Array, out: Array) -> None:
        np.multiply(z, self.negative_slope, out)
        np.copyto(out, z, where=y > 0)


@dataclass(frozen=True)
class Identity:
    """σ(h) = h."""

    def apply(self, h: Array, out: Array) -> None:
        np.copyto(out, h)

    def scale_by_derivative(self, y: Array, z: Array, out: Array) -> None:
        np.copyto(out, z)


ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")


def activation(name: str, negative_slope: float = 0.01) -> Activation:
    """The activation called `name`, one of :data:`ACTIVATIONS`; `negative_slope` is that of ``leaky_relu``."""
    table: dict[str, Activation] = {
        "sigmoid": Sigmoid(),
        "tanh": Tanh(),
        "relu": LeakyRelu(0.0),
        "leaky_relu": LeakyRelu(negative_slope),
        "identity": Identity(),
    }
    return table[name]
