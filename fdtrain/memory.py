"""What rank 0 has to remember of a run between mini-batches, and who keeps it for a later life of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


@dataclass
class Memory:
    """What rank 0 has to remember from mini-batch to mini-batch."""

    measures: list[float] = field(default_factory=list)  # of the epoch's mini-batches so far
    minibatches: int = 0  # that were reported, of all epochs
    baselines: dict[int, Mapping[str, float]] = field(
        default_factory=dict
    )  # of mini-batches not yet reported
    tested: dict[int, Mapping[str, float]] = field(default_factory=dict)  # baselines by test mini-batch

    def test_baselines(self) -> Mapping[str, float]:
        """The means over the test mini-batches."""
        last = next(reversed(self.tested.values()), {})
        return {name: float(np.mean([found[name] for found in self.tested.values()])) for name in last}

    def as_dict(self) -> dict[str, Any]:
        """Numbers and texts."""
        return {
            "measures": np.array(self.measures),
            "minibatches": self.minibatches,
            "baselines": [[t, dict(found)] for t, found in self.baselines.items()],
            "tested": [[k, dict(found)] for k, found in self.tested.items()],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Memory:
        """What :meth:`as_dict` gave."""
        measures = content["measures"].tolist()
        return cls(measures, content["minibatches"], dict(content["baselines"]), dict(content["tested"]))


class Keeper(Protocol):
    """Keeps checkpoints."""

    def write(self, t: int, content: Mapping[str, Any]) -> None:
        """Keep what is needed to go on after t mini-batches."""

    def refuse(self, t: int, problem: str) -> None:
        """There is nothing that could be kept."""
