"""Messages in narrower types of numbers: to the nearest, ties to even, by the definition of the types."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError

Array = NDArray[np.float64]

# type -> significand bits, least and largest exponent e of numbers m 2^e with 1/2 <= |m| < 1
_FORMATS = {"float32": (24, -125, 128), "float16": (11, -13, 16), "bfloat16": (8, -125, 128)}


class Rounding(NamedTuple):
    """The types of what travels."""

    features: str = "float64"
    backward: str = "float64"
    parameters: str = "float64"


EXACT = Rounding()


def nearest(x: Array, kind: str) -> Array:
    """Every number of x rounded to the type; beyond its largest number, infinite."""
    if kind == "float64":
        return x
    if kind not in _FORMATS:
        raise InputError(f"unknown type of numbers {kind!r}; choose one of float64, {', '.join(_FORMATS)}")
    bits, least, largest = _FORMATS[kind]
    with np.errstate(invalid="ignore"):
        _, exponent = np.frexp(x)
        step = np.maximum(exponent, least) - bits
        rounded = np.ldexp(np.rint(np.ldexp(x, -step)), step)
        return np.where(np.abs(rounded) >= 2.0**largest, np.copysign(np.inf, x), rounded)


def mix(W: Any, X: Array, rounds: int, kind: str) -> Array:
    """K rounds of consensus Y <- W Q(Y) + (Y - Q(Y)) from X [V, p]: a node keeps what rounding took from its own."""
    for _ in range(rounds):
        sent = nearest(X, kind)
        X = np.asarray(W @ sent, dtype=np.float64) + (X - sent)
    return X
