"""Who watches a run: what happens is told to an observer, which shows it, sends it on, or is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fdtrain.minibatches import MinibatchRow
from fdtrain.service import EpochRow
from fdtrain.verify import Comparison


class Observer(Protocol):
    """Watches a run."""

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None:
        """The run begins; `minibatches` are those of an epoch."""

    def resumed(self, done: int) -> None:
        """It goes on after so many mini-batches."""

    def verified(self, comparisons: Sequence[Comparison]) -> None:
        """The comparisons with the oracle were made."""

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        """Some mini-batches of an epoch ended; only tasks with long epochs tell."""

    def epoch(self, row: EpochRow) -> None:
        """An epoch ended."""

    def finished(self) -> None:
        """Training ended."""

    def note(self, text: str) -> None:
        """Something else to tell."""


class Quiet:
    """An observer that shows nothing."""

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None: ...

    def resumed(self, done: int) -> None: ...

    def verified(self, comparisons: Sequence[Comparison]) -> None: ...

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None: ...

    def epoch(self, row: EpochRow) -> None: ...

    def finished(self) -> None: ...

    def note(self, text: str) -> None: ...
