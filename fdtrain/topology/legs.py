"""Nodes that move in straight legs, with a pause after each: random waypoint and random direction."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.topology.mobility import Array, Pair, fold, unit

LEGS = 32  # of a block


class Start(NamedTuple):
    """How a motion in legs begins: in the middle of a leg, or of a pause."""

    at: Array  # [V, 2]
    goal: Array  # [V, 2] the end of the first leg
    travel: Array  # [V] seconds until then; 0 for a node that pauses
    pause: Array  # [V] seconds from then to the next leg


class _Block(NamedTuple):
    """Legs one after another: n of them for each of V nodes."""

    begin: Array  # [n, V] seconds
    arrive: Array  # [n, V]
    leave: Array  # [n, V] the end of the pause: when the next leg begins
    origin: Array  # [n, V, 2]
    goal: Array  # [n, V, 2]

    @classmethod
    def of(cls, start: float | Array, origin: Array, goals: Array, travel: Array, pause: Array) -> _Block:
        leave = start + np.cumsum(travel + pause, axis=0)
        begin = np.concatenate([np.broadcast_to(start, leave[:1].shape), leave[:-1]])
        origins = np.concatenate([origin[None], goals[:-1]])
        return cls(begin, begin + travel, leave, origins, goals)


@dataclass
class Legs(ABC):
    """A motion in straight legs at constant speed, with a pause after each."""

    nodes: int
    sides: Pair
    speed: Pair  # m/s, uniform over legs
    pause: Pair  # s, uniform
    step: float  # s
    seed: int
    purpose: str

    def __post_init__(self) -> None:
        self._first = 0  # the number of the first block that is kept; the start is block 0
        self._blocks: list[_Block] = []

    def positions(self, step: int) -> Array:
        time = step * self.step
        if not self._blocks or (self._blocks[0].begin[0] > time).any():
            self._first, self._blocks = 0, [self._begin()]
        while (self._blocks[-1].leave[-1] <= time).any():
            self._blocks.append(self._follow(self._blocks[-1], self._first + len(self._blocks)))
            while len(self._blocks) > 1 and (self._blocks[0].leave[-1] <= time).all():
                del self._blocks[0]
                self._first += 1
        found = np.empty((self.nodes, 2))
        for block in self._blocks:
            here = np.flatnonzero((block.begin[0] <= time) & (time < block.leave[-1]))
            leg = (block.leave[:, here] <= time).sum(axis=0)
            begin, arrive = block.begin[leg, here], block.arrive[leg, here]
            share = np.divide(time - begin, arrive - begin, out=np.ones(len(here)), where=arrive > begin)
            share = np.minimum(share, 1.0)[:, None]
            found[here] = (1.0 - share) * block.origin[leg, here] + share * block.goal[leg, here]
        return fold(found, self.sides)

    @abstractmethod
    def start(self) -> Start:
        """A draw from the stationary distribution, so that the first graphs are like all others."""

    @abstractmethod
    def legs(self, draws: np.random.Generator, origin: Array) -> tuple[Array, Array]:
        """Goals [LEGS, V, 2] of a block that begins at `origin` [V, 2], and the seconds to each [LEGS, V]."""

    def draws(self, what: str, number: int = 0) -> np.random.Generator:
        """The generator of draw `number` of something."""
        return rng.generator(self.seed, f"{self.purpose}/{what}", number)

    def _begin(self) -> _Block:
        at, goal, travel, pause = self.start()
        return _Block.of(0.0, at, goal[None], travel[None], pause[None])

    def _follow(self, last: _Block, number: int) -> _Block:
        draws, origin = self.draws("legs", number), last.goal[-1]
        goals, travel = self.legs(draws, origin)
        pause = draws.uniform(*self.pause, travel.shape)
        return _Block.of(last.leave[-1], origin, goals, travel, pause)


class Waypoints(Legs):
    """Random waypoint: a goal that is uniform in the rectangle, a uniform speed, a pause; over and over.

    The start is drawn from the stationary distribution (Navidi & Camp, IEEE Trans. Mobile Computing 3(1), 2004): nodes
    are more often in the middle, and slow ones are met more often.
    """

    def start(self) -> Start:
        draws = self.draws("start")
        origin, goal = self._chosen_by_length()
        share, slow, place = draws.random((3, self.nodes))
        low, high = self.speed
        speed = low ** (1.0 - slow) * high**slow  # density ∝ 1/speed
        at = (1.0 - share)[:, None] * origin + share[:, None] * goal
        travel = np.linalg.norm(goal - at, axis=1) / speed
        mean_travel = mean_distance(self.sides) * mean_inverse(self.speed)
        pausing, rest = _pausing(draws, self.nodes, self.pause, mean_travel, place)
        at = np.where(pausing[:, None], goal, at)
        uniform = draws.random((self.nodes, 2)) * self.sides
        at, goal = np.where(pausing[:, None], uniform, at), np.where(pausing[:, None], uniform, goal)
        pause = np.where(pausing, rest, draws.uniform(*self.pause, self.nodes))
        return Start(at, goal, np.where(pausing, 0.0, travel), pause)

    def _chosen_by_length(self) -> tuple[Array, Array]:
        """Ends of legs [V, 2] with a density ∝ their length, by rejection."""
        ends, missing = np.empty((2, self.nodes, 2)), np.ones(self.nodes, dtype=bool)
        attempt = 0
        while missing.any():
            draws = self.draws("first legs", attempt)
            tried = draws.random((2, self.nodes, 2)) * self.sides
            length = np.linalg.norm(tried[0] - tried[1], axis=1)
            taken = missing & (draws.random(self.nodes) * math.hypot(*self.sides) < length)
            ends[:, taken] = tried[:, taken]
            missing &= ~taken
            attempt += 1
        return ends[0], ends[1]

    def legs(self, draws: np.random.Generator, origin: Array) -> tuple[Array, Array]:
        goals = draws.random((LEGS, self.nodes, 2)) * self.sides
        length = np.linalg.norm(np.diff(goals, axis=0, prepend=origin[None]), axis=2)
        return goals, length / draws.uniform(*self.speed, length.shape)


@dataclass
class Directions(Legs):
    """Random direction: a direction that is uniform, a uniform speed, a travel time; walls reflect.

    A rectangle with mirrors is the plane folded up, where the legs are straight. Places are uniform at all times, and
    so are directions (Nain, Towsley, Liu & Liu, "Properties of random direction models", INFOCOM 2005).
    """

    travel: Pair  # s, uniform

    def start(self) -> Start:
        draws = self.draws("start")
        at = draws.random((self.nodes, 2)) * self.sides
        angle, place, share = draws.random((3, self.nodes))
        pausing, rest = _pausing(draws, self.nodes, self.pause, sum(self.travel) / 2, place)
        travel = np.where(pausing, 0.0, share * _by_length(draws.random(self.nodes), self.travel))
        length = travel * draws.uniform(*self.speed, self.nodes)
        pause = np.where(pausing, rest, draws.uniform(*self.pause, self.nodes))
        return Start(at, at + length[:, None] * unit(angle), travel, pause)

    def legs(self, draws: np.random.Generator, origin: Array) -> tuple[Array, Array]:
        shape = (LEGS, self.nodes)
        travel = draws.uniform(*self.travel, shape)
        length = travel * draws.uniform(*self.speed, shape)
        return origin + np.cumsum(length[..., None] * unit(draws.random(shape)), axis=0), travel


def mean_distance(sides: Pair) -> float:
    """The mean distance of two points that are uniform in a rectangle (Ghosh, Bull. Calcutta Math. Soc. 43, 1951)."""
    b, a = sorted(sides)
    if b < 1e-4 * a:  # a line, as far as the digits of what follows go
        return a / 3
    d = math.hypot(a, b)
    polynomial = (a**3 / b**2 + b**3 / a**2 + d * (3 - a**2 / b**2 - b**2 / a**2)) / 15
    return polynomial + (b**2 / a * math.acosh(d / b) + a**2 / b * math.acosh(d / a)) / 6


def mean_inverse(speed: Pair) -> float:
    """E[1/v] of a speed v that is uniform between two ends."""
    low, high = speed
    return 1.0 / low if low == high else math.log(high / low) / (high - low)


def _by_length(draws: Array, times: Pair) -> Array:
    """Of times that are uniform between two ends, those that one meets: with a density ∝ the time itself."""
    low, high = times
    return np.sqrt(low**2 + draws * (high**2 - low**2))


def _pausing(
    draws: np.random.Generator, nodes: int, pause: Pair, mean_travel: float, place: Array
) -> tuple[NDArray[np.bool_], Array]:
    """Who pauses at a time that is chosen at random, by `place` in (0, 1), [V]; and what is left of that pause, [V]."""
    mean = sum(pause) / 2
    rest = draws.random(nodes) * _by_length(draws.random(nodes), pause)
    pausing: NDArray[np.bool_] = place * (mean + mean_travel) < mean
    return pausing, rest
