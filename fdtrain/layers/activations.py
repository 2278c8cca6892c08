"""Activation functions σ and their slopes σ'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


_LARGEST = {8: 700.0, 4: 80.0}  # by the bytes of a number: e^709 overflows in float64, e^88 in float32


class Activation(Protocol):
    """A pointwise function and its slope."""

    def apply(self, h: Array, out: Array) -> None:
        """out ← σ(h), and h ← σ'(h) for the backward pass, accurate where σ saturates.

        `h` is contiguous, `out` need not be: NumPy's exp and tanh may round otherwise on strided arrays.
        """


@dataclass(frozen=True)
class Sigmoid:
    """y = σ(h) = 1/(1 + e), σ'(h) = e y², with e = e^−h; (1 − y) y would lose all digits as y approaches 1."""

    def apply(self, h: Array, out: Array) -> None:
        np.negative(h, h)
        np.minimum(h, _LARGEST[h.itemsize], out=h)
        np.exp(h, h)
        np.add(h, 1.0, out)
        np.reciprocal(out, out)
        np.multiply(h, out, h)
        np.multiply(h, out, h)


@dataclass(frozen=True)
class Tanh:
    """σ(h) = tanh h, σ'(h) = 4e/(1 + e)², with e = e^−2|h|."""

    def apply(self, h: Array, out: Array) -> None:
        e = np.exp(-2.0 * np.abs(h))
        np.tanh(h, h)
        np.copyto(out, h)
        np.divide(4.0 * e, np.square(1.0 + e), h)


@dataclass(frozen=True)
class LeakyRelu:
    """σ(h) = h for h > 0, `negative_slope` · h otherwise; σ'(0) = negative_slope. Slope 0 is the plain relu."""

    negative_slope: float

    def apply(self, h: Array, out: Array) -> None:
        slope = np.where(h > 0, 1.0, self.negative_slope)
        np.multiply(h, slope, out)
        np.copyto(h, slope)


@dataclass(frozen=True)
class Identity:
    """σ(h) = h."""

    def apply(self, h: Array, out: Array) -> None:
        np.copyto(out, h)
        h.fill(1.0)


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
