"""How nodes move in a rectangle with mirrors for walls; velocities that are remembered for a while.

A motion is a function of the time alone. Its random numbers come in blocks, of so many steps (or :mod:`legs`) of all
nodes, each from a generator of its own, so that a motion continues where it is, and from the start comes to the same
bits. All of a block is computed at once. Lengths are metres, times seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng

Array = NDArray[np.float64]
Pair = tuple[float, float]

BLOCK = 1 << 19  # numbers of a block of steps


class Motion(Protocol):
    """Where the nodes are."""

    def positions(self, step: int) -> Array:
        """After `step` ≥ 0 steps, [V, 2], in the rectangle."""


@dataclass
class Velocities:
    """Gauss–Markov: v_k = α v_{k−1} + (1 − α) u + σ √(1 − α²) w_k, with w_k normal, and a node moves by v_k per second.

    u is the node's mean velocity, of the given speed, in a direction of its own; σ the deviation of each coordinate
    (Liang & Haas, INFOCOM 1999). Walls reflect, velocity and mean velocity both: in the plane, of which the rectangle
    is a fold, nothing happens there. At the start places are uniform, and v_0 is normal around u, as at all times.
    """

    nodes: int
    sides: Pair
    mean_speed: float  # m/s
    alpha: float
    std: float  # m/s
    step: float  # s
    seed: int
    purpose: str

    def __post_init__(self) -> None:
        self._block: int | None = None  # the number of the block that is kept
        self._places: Array = np.empty((0, self.nodes, 2))  # [steps, V, 2] after each of its steps
        self._steps = int(np.clip(BLOCK // (2 * self.nodes), 1, 4096))

    def positions(self, step: int) -> Array:
        number = step // self._steps
        if self._block is None or number < self._block:
            self._begin()
        while self._block is None or self._block < number:
            self._advance()
        return fold(self._places[step % self._steps], self.sides)

    def _begin(self) -> None:
        draws = rng.generator(self.seed, f"{self.purpose}/start")
        at = draws.random((self.nodes, 2)) * self.sides
        self._mean = self.mean_speed * unit(draws.random(self.nodes))  # u
        self._velocity = self.std * draws.standard_normal((self.nodes, 2))  # less u
        self._block, self._at = None, at

    def _advance(self) -> None:
        number = 0 if self._block is None else self._block + 1
        draws = rng.generator(self.seed, f"{self.purpose}/velocities", number)
        noise = (
            self.std * math.sqrt(1.0 - self.alpha**2) * draws.standard_normal((self._steps, self.nodes, 2))
        )
        velocity, last = noise, self._velocity
        if number == 0:
            velocity[0] = last
        else:
            velocity[0] += self.alpha * last
        for k in range(1, self._steps):
            velocity[k] += self.alpha * velocity[k - 1]
        moves = self.step * (velocity + self._mean)
        if number == 0:
            moves[0] = 0.0
        self._places = self._at + np.cumsum(moves, axis=0)
        self._velocity, self._block = velocity[-1], number
        self._at = self._places[-1] % (2.0 * np.array(self.sides))


def fold(at: Array, sides: Pair) -> Array:
    """Where a point of the plane is in the rectangle of which it is an image in mirrors, [V, 2]."""
    size = np.array(sides)
    rest = np.mod(at, 2.0 * size)
    folded: Array = np.minimum(np.minimum(rest, 2.0 * size - rest), size)
    return folded


def unit(turn: Array) -> Array:
    """Directions [..., 2] of angles in whole turns."""
    angle = 2.0 * np.pi * turn
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
