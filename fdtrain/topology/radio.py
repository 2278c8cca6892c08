"""Who hears whom, from where the nodes are: within a range, or by path loss with shadowing."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fdtrain import rng
from fdtrain.section import Section
from fdtrain.topology.base import MAX_EDGES, MOST, require

Array = NDArray[np.float64]
Edges = NDArray[np.int64]

MAX_SHADOWED = 5000  # nodes; every pair of them has a shadowing
REFERENCE = 1.0  # metre, at which the reference loss is measured

Decibels = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]


class UnitDisk(Section):
    """Nodes hear each other within a range (Clark, Colbourn & Johnson, Discrete Math. 86, 1990)."""

    kind: Literal["unit_disk"] = "unit_disk"
    range: float = Field(description="Range of a node, m.", gt=0, le=MOST)

    def check(self, nodes: int, area: float) -> None:
        """Refuse what would take too long on so many m² (ValueError)."""
        _check_edges(nodes, area, self.range)

    def edges(self, positions: Array, time: float, seed: int, purpose: str) -> Edges:
        """The links [M, 2] among nodes at `positions` [V, 2]."""
        return _within(positions, self.range)


class LogDistance(Section):
    """Log-distance path loss with log-normal shadowing (Rappaport, Wireless Communications, 2002, ch. 4.9).

    Nodes at a distance of d metres, at least 1, hear each other if tx_power − reference_loss − 10 exponent log₁₀ d − X
    ≥ sensitivity. X is normal with a deviation of `shadowing` dB, the same in both directions, another for every pair
    (Hekmat & Van Mieghem, Wireless Networks 12, 2006). With a `coherence` of c seconds it changes: at times 0, c, 2c, …
    it is Z_0, Z_1, …, which are independent, and between, at the time (k + s) c, X = Z_k cos(πs/2) + Z_{k+1} sin(πs/2),
    which has the same deviation at all times; after 2c nothing is left of what it was. Without, it stays for the run.
    """

    kind: Literal["log_distance"] = "log_distance"
    exponent: float = Field(default=3.0, description="Path loss exponent: 2 in free space.", gt=0, le=20)
    reference_loss: Decibels = Field(default=40.0, description="Loss at a distance of 1 m, dB.")
    tx_power: Decibels = Field(default=0.0, description="Power of a sender, dBm.")
    sensitivity: Decibels = Field(default=-100.0, description="The least power that is heard, dBm.")
    shadowing: float = Field(
        default=0.0, description="Standard deviation of the shadowing, dB.", ge=0, le=1000
    )
    coherence: float | None = Field(
        default=None,
        description="Seconds in which the shadowing of a pair becomes another; left out: it stays.",
        ge=1e-3,
        le=MOST,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.coherence is not None and self.shadowing == 0:
            raise ValueError(
                "coherence: there is no shadowing that could change; set shadowing, or remove coherence"
            )
        return self

    @property
    def budget(self) -> float:
        """The loss beyond that at 1 m with which a sender is still heard, dB."""
        return self.tx_power - self.reference_loss - self.sensitivity

    @property
    def range(self) -> float:
        """Metres within which nodes hear each other, if nothing is shadowed; 0: not even at 1 m."""
        decades = self.budget / (10.0 * self.exponent)
        return 10.0 ** min(decades, math.log10(MOST)) if decades >= 0 else 0.0

    def check(self, nodes: int, area: float) -> None:
        """Refuse what would take too long on so many m² (ValueError)."""
        if self.shadowing > 0:
            require(nodes <= MAX_SHADOWED, "nodes", nodes, f"at most {MAX_SHADOWED:,} with shadowing")
        else:
            _check_edges(nodes, area, self.range)

    def edges(self, positions: Array, time: float, seed: int, purpose: str) -> Edges:
        """The links [M, 2] among nodes at `positions` [V, 2] at `time`, s."""
        if self.shadowing == 0:
            return _within(positions, self.range) if self.range > 0 else _NONE
        from scipy.spatial.distance import pdist

        loss = 10.0 * self.exponent * np.log10(np.maximum(pdist(positions), REFERENCE))
        heard = np.flatnonzero(loss + self._shadowing(len(loss), time, seed, purpose) <= self.budget)
        return _pairs(heard, len(positions))

    def _shadowing(self, pairs: int, time: float, seed: int, purpose: str) -> Array:
        """X of every pair of nodes, in the order (0, 1), (0, 2), …, (1, 2), …"""

        def draw(k: int) -> Array:
            return self.shadowing * rng.generator(seed, f"{purpose}/shadowing", k).standard_normal(pairs)

        if self.coherence is None:
            return draw(0)
        k, rest = divmod(time, self.coherence)
        angle = math.pi / 2 * rest / self.coherence
        found: Array = math.cos(angle) * draw(int(k)) + math.sin(angle) * draw(int(k) + 1)
        return found


RadioConfig = Annotated[UnitDisk | LogDistance, Field(discriminator="kind")]
_NONE = np.empty((0, 2), dtype=np.int64)


def _check_edges(nodes: int, area: float, distance: float) -> None:
    share = min(1.0, math.pi * distance**2 / area)
    few = f"few enough, or their range short enough, for {MAX_EDGES:,} edges"
    require(nodes * (nodes - 1) / 2 * share <= MAX_EDGES, "nodes", nodes, few)


def _within(positions: Array, distance: float) -> Edges:
    from scipy.spatial import cKDTree

    return cKDTree(positions).query_pairs(distance, output_type="ndarray").astype(np.int64).reshape(-1, 2)


def _pairs(chosen: NDArray[np.int64], nodes: int) -> Edges:
    """The pairs (i, j), i < j, of their numbers in the order of rows."""
    ends = np.cumsum(np.arange(nodes - 1, 0, -1))  # of the pairs with i = 0, 1, …
    i = np.searchsorted(ends, chosen, side="right")
    before = np.concatenate([[0], ends])[i]
    return np.stack([i, chosen - before + i + 1], axis=1)
