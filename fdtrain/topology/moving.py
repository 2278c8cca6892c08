"""Networks of nodes that move in a rectangle and hear each other by radio.

Camp, Boleng & Davies, "A survey of mobility models for ad hoc network research" (Wireless Communications and Mobile
Computing 2, 2002), describes the models; here all of them are stationary from the first mini-batch on.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from fdtrain.graph import Graph
from fdtrain.topology.base import MOST, MovingSource, Range, Sides, require
from fdtrain.topology.legs import Directions, Waypoints, mean_distance, mean_inverse
from fdtrain.topology.mobility import Motion, Velocities
from fdtrain.topology.radio import LogDistance, RadioConfig, UnitDisk

MAX_LEGS = 1000  # in a step

Anyone = TypeVar("Anyone", bound="Mobile")


class Mobile(MovingSource):
    """Nodes that move in a rectangle."""

    nodes: int = Field(description="|V|, the number of nodes.", ge=1, le=100_000)
    area: Sides = Field(description="Sides of the rectangle, m: [width, height], or one number for a square.")
    step: float = Field(default=1.0, description="Seconds from one graph to the next.", ge=1e-6, le=MOST)
    radio: RadioConfig = Field(description="Who hears whom.")

    @model_validator(mode="after")
    def _radio_can_serve_so_many(self) -> Self:
        self.radio.check(self.nodes, self.area[0] * self.area[1])
        return self

    @abstractmethod
    def motion(self, seed: int, purpose: str) -> Motion:
        """How the nodes move."""

    def trajectory(self, seed: int, purpose: str) -> _Moved:
        return _Moved(self.motion(seed, purpose), self.radio, self.step, seed, purpose)


@dataclass
class _Moved:
    motion: Motion
    radio: UnitDisk | LogDistance
    step: float
    seed: int
    purpose: str

    def graph(self, step: int) -> Graph:
        at = self.motion.positions(step)
        edges = self.radio.edges(at, step * self.step, self.seed, self.purpose)
        return Graph.from_edges(len(at), edges, positions=at)


class RandomWaypoint(Mobile):
    """Nodes go to one random place after another, with pauses (Johnson & Maltz, Mobile Computing, 1996).

    Speeds are more than 0: otherwise nodes would become slower for ever (Yoon, Liu & Noble, INFOCOM 2003).
    """

    kind: Literal["random_waypoint"] = "random_waypoint"
    speed: Range = Field(
        description="Speed of a leg, m/s: a number, or [low, high] for uniform; more than 0."
    )
    pause: Range = Field(default=(0.0, 0.0), description="Pause after a leg, s: a number, or [low, high].")

    @field_validator("speed")
    @classmethod
    def _moves(cls, speed: tuple[float, float]) -> tuple[float, float]:
        return _positive(speed)

    @model_validator(mode="after")
    def _does_not_hurry(self) -> Self:
        return _check_legs(self, mean_distance(self.area) * mean_inverse(self.speed) + sum(self.pause) / 2)

    def motion(self, seed: int, purpose: str) -> Waypoints:
        return Waypoints(self.nodes, self.area, self.speed, self.pause, self.step, seed, purpose)


class RandomDirection(Mobile):
    """Nodes go straight for a random time, reflected by walls (Nain, Towsley, Liu & Liu, INFOCOM 2005)."""

    kind: Literal["random_direction"] = "random_direction"
    speed: Range = Field(
        description="Speed of a leg, m/s: a number, or [low, high] for uniform; more than 0."
    )
    travel: Range = Field(
        description="Duration of a leg, s: a number, or [low, high] for uniform; more than 0."
    )
    pause: Range = Field(default=(0.0, 0.0), description="Pause after a leg, s: a number, or [low, high].")

    @field_validator("speed", "travel")
    @classmethod
    def _moves(cls, found: tuple[float, float]) -> tuple[float, float]:
        return _positive(found)

    @model_validator(mode="after")
    def _does_not_hurry(self) -> Self:
        return _check_legs(self, sum(self.travel) / 2 + sum(self.pause) / 2)

    def motion(self, seed: int, purpose: str) -> Directions:
        return Directions(
            self.nodes, self.area, self.speed, self.pause, self.step, seed, purpose, self.travel
        )


class GaussMarkov(Mobile):
    """Nodes remember their velocity (Liang & Haas, INFOCOM 1999)."""

    kind: Literal["gauss_markov"] = "gauss_markov"
    mean_speed: float = Field(
        description="Size of a node's mean velocity, m/s; its direction is random.", ge=0, le=MOST
    )
    alpha: float = Field(
        default=0.85,
        description="Memory of the velocity from step to step; 0: none, 1: it stays.",
        ge=0,
        le=1,
    )
    std: float = Field(
        description="Standard deviation of each coordinate of the velocity, m/s.", ge=0, le=MOST
    )

    @model_validator(mode="after")
    def _moves(self) -> Self:
        require(self.mean_speed + self.std > 0, "mean_speed", 0, "more than 0, or std more than 0")
        return self

    def motion(self, seed: int, purpose: str) -> Velocities:
        return Velocities(
            self.nodes, self.area, self.mean_speed, self.alpha, self.std, self.step, seed, purpose
        )


def _positive(found: tuple[float, float]) -> tuple[float, float]:
    if found[0] < 1e-6:
        raise ValueError(f"must be more than 0, at least 1e-6, found {found[0]:g}")
    return found


def _check_legs(source: Anyone, seconds: float) -> Anyone:
    """Refuse steps with more legs, of so many `seconds` on average, than a step may take (ValueError)."""
    most = MAX_LEGS * seconds
    rule = f"at most {MAX_LEGS:,} legs of a node, which take {seconds:.3g} s each on average"
    require(source.step <= most, "step", f"{source.step:g}", rule)
    return source
