"""What all kinds of topology share: the section of the configuration, and its two sorts, drawn and moving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, Protocol, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.section import Section

MAX_NODES = 10_000_000
MAX_EDGES = 50_000_000  # expected, of a random graph
MOST = 1e9  # metres, seconds, or metres per second
RANDOM_KINDS = ("barabasi_albert", "erdos_renyi", "watts_strogatz", "random_geometric", "random_regular")

Nodes = Annotated[int, Field(description="|V|, the number of nodes.", ge=1, le=MAX_NODES)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class UnusableDrawError(InputError):
    """What was drawn cannot be used; another draw may be."""


class Redraw(Section):
    """A topology that changes while the network trains."""

    every: int = Field(description="Draw a new graph every so many mini-batches.", ge=1)


class Source(Section):
    """What all kinds share."""

    kind: str
    seed: int | None = Field(
        default=None, description="Seed of the draws; default: the experiment's seed.", ge=0, lt=2**64
    )
    connected: bool = Field(
        default=True,
        description="A disconnected draw is redrawn up to max_draws times, then an error; false accepts it.",
    )
    max_draws: int = Field(default=100, description="Draws tried for a connected graph.", ge=1, le=1_000_000)
    redraw: Redraw | None = Field(
        default=None, description="Draw the graph anew while training; only for the random kinds."
    )

    @property
    def drawn_kind(self) -> str:
        """The kind that the bits of a draw go into."""
        return self.kind

    @property
    def is_random(self) -> bool:
        """Whether another draw is another graph."""
        return self.drawn_kind in RANDOM_KINDS

    def resolved(self, base: Path | None) -> Self:
        """The same source with paths of files made absolute: from `base`, or else from the working directory."""
        return self

    @model_validator(mode="after")
    def _only_random_kinds_are_redrawn(self) -> Self:
        if self.redraw is not None and not self.is_random:
            kinds = ", ".join(RANDOM_KINDS)
            raise ValueError(
                f"redraw: kind {self.drawn_kind} is the same at every draw; remove redraw, or use {kinds}"
            )
        return self


class DrawnSource(Source, ABC):
    """A kind of which every draw stands for itself."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Graph:
        """One draw with the bits of `rng`, connected or not; the service asks for another.

        Raises:
            UnusableDrawError: it cannot be used; the service asks for another.
            InputError: no draw can.
        """


class Trajectory(Protocol):
    """The graphs of a moving network, one after another."""

    def graph(self, step: int) -> Graph:
        """The graph after `step` ≥ 0 steps; it depends on nothing else, whatever was asked before.

        A later step goes on from the last one; for an earlier one the way there is computed anew.
        """


class MovingSource(Source, ABC):
    """A network that changes from mini-batch to mini-batch, one step at a time. It may be disconnected at any time:
    nodes may be alone, and there may be no edge at all."""

    connected: bool = Field(
        default=False, description="Always false: a moving network may fall apart.", exclude=True
    )
    max_draws: int = Field(default=1, description="Has no meaning for a moving network.", exclude=True)
    redraw: Redraw | None = Field(
        default=Redraw(every=1),
        description="One step every so many mini-batches; null: the network stays as it is at the start.",
    )
    window: int = Field(
        default=10,
        description="Connectivity is reported over the union of so many graphs, one after another.",
        ge=1,
        le=1_000_000,
    )

    @property
    def is_random(self) -> bool:
        return True

    @model_validator(mode="after")
    def _takes_graphs_as_they_come(self) -> Self:
        if self.connected:
            raise ValueError(
                f"connected: {self.kind} moves, and may be disconnected at any time; remove connected, and see "
                "connectivity.csv of a run, or fdtrain topology, for how often it is"
            )
        if "max_draws" in self.model_fields_set:
            raise ValueError(f"max_draws: {self.kind} moves, and no step is drawn twice; remove max_draws")
        return self

    @abstractmethod
    def trajectory(self, seed: int, purpose: str) -> Trajectory:
        """The network from its start, by draws of `seed` for `purpose`.

        Raises:
            InputError: a file that it needs cannot be used.
        """


def require(holds: bool, key: str, found: object, rule: str) -> None:
    """Refuse the value `found` of `key` (ValueError), which must be what the `rule` says."""
    if not holds:
        raise ValueError(f"{key}: must be {rule}, found {found}")


def _pair_of_numbers(value: Any) -> tuple[float, float]:
    ends = list(value) if isinstance(value, (list, tuple)) else [value, value]
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends)
    if not numbers or len(ends) != 2 or not all(math.isfinite(end) for end in ends):
        raise ValueError(f"must be a number or a list of two, found {value!r:.60}")
    return float(ends[0]), float(ends[1])


def _range(value: Any) -> tuple[float, float]:
    low, high = _pair_of_numbers(value)
    if not 0 <= low <= high <= MOST:
        raise ValueError(
            f"must be a number from 0 to 1e9, or [low, high] with low ≤ high, found {value!r:.60}"
        )
    return low, high


def _sides(value: Any) -> tuple[float, float]:
    width, height = _pair_of_numbers(value)
    if not (1e-3 <= width <= MOST and 1e-3 <= height <= MOST):
        raise ValueError(f"must be from 1e-3 to 1e9 metres, found {value!r:.60}")
    return width, height


_NUMBER_OR_TWO: Any = float | list[float]
Range = Annotated[tuple[float, float], BeforeValidator(_range, json_schema_input_type=_NUMBER_OR_TWO)]
Sides = Annotated[tuple[float, float], BeforeValidator(_sides, json_schema_input_type=_NUMBER_OR_TWO)]
