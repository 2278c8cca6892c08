"""Learning-rate schedules: α of mini-batch t = 0, 1, … All but the constant one change from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rate = Callable[[int], float]


@dataclass(frozen=True, eq=False)
class Scaled:
    """α of every parameter: that of `rate`, times its factor."""

    rate: Rate
    factors: NDArray[np.float64]  # [p]

    def __call__(self, t: int) -> Any:
        return self.rate(t) * self.factors


@dataclass(frozen=True)
class Constant:
    """α_t = α."""

    lr: float

    def __call__(self, t: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Exponential:
    """α_t = α · decay^e in epoch e = ⌊t / minibatches⌋."""

    lr: float
    decay: float
    minibatches: int  # per epoch

    def __call__(self, t: int) -> float:
        return float(self.lr * self.decay ** (t // self.minibatches))


@dataclass(frozen=True)
class Step:
    """α_t = α · factor^⌊e / every⌋ in epoch e."""

    lr: float
    factor: float
    every: int  # epochs
    minibatches: int  # per epoch

    def __call__(self, t: int) -> float:
        return float(self.lr * self.factor ** (t // self.minibatches // self.every))


@dataclass(frozen=True)
class Cosine:
    """α_t = final + (α − final)(1 + cos(π e/E))/2 in epoch e < E, and final from then on (Loshchilov and Hutter,
    "SGDR", 2017, without restarts)."""

    lr: float
    final: float
    epochs: int  # E
    minibatches: int  # per epoch

    def __call__(self, t: int) -> float:
        done = min(t // self.minibatches / self.epochs, 1.0)
        return self.final + (self.lr - self.final) * (1.0 + math.cos(math.pi * done)) / 2.0
