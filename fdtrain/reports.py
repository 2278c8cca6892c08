"""What a rank tells rank 0 of its nodes: within an epoch, at its end, for a checkpoint, and when all is done."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.ledger import Ledger
from fdtrain.scans import Largest
from fdtrain.snapshot import Snapshot
from fdtrain.team import Team

Array = NDArray[np.float64]
Kind = Literal["theta", "gradient"]  # rows [n, p] of every node

_PORTION = 2**22  # numbers that all ranks together hand in at a time


class Diverged(NamedTuple):
    """Where a parameter was first seen not to be finite."""

    minibatch: int
    node: int
    part: str  # of θ, in words


class Log(NamedTuple):
    """What a rank tells rank 0 while an epoch goes on."""

    train_loss: Array  # [n, mini-batches since the last log] Σ_b ℓ_i before each update
    diverged: Diverged | None


@dataclass(frozen=True)
class Report:
    """What a rank tells rank 0 at the end of an epoch."""

    train_loss: Array  # [n, mini-batches since the last log] Σ_b ℓ_i before each update
    test_loss: Array  # [n] Σ over the test samples
    distances: Array  # [n] ‖θ^i − θ̄‖²
    largest: Largest  # of the parameters, with the node's global number
    ledger: Ledger
    diverged: Diverged | None


@dataclass(frozen=True)
class State:
    """What a rank tells rank 0 so that others can go on from here."""

    snapshot: Snapshot | None  # None: there is a problem
    ledger: Ledger
    diverged: Diverged | None
    problem: str = ""


class Saved(NamedTuple):
    """What a rank is handed to go on."""

    snapshot: Snapshot
    ledger: Ledger | None  # the counts of all ranks, on one of them


class Wanted(NamedTuple):
    """What rank 0 wants to have of all nodes when all is done."""

    kinds: tuple[Kind, ...]
    most: int  # nodes of a rank


class Peak(NamedTuple):
    """The most memory that a process had in use at a time."""

    host: str
    process: int
    bytes: int  # resident; pages that processes share count in each of them


class Taker(Protocol):
    """Rank 0, who takes in what the ranks hand in."""

    def wanted(self) -> Wanted:
        """What is to be handed in."""

    def take(self, kind: Kind, first: int, parts: list[Array]) -> None:
        """Rows of every rank's nodes, of those from number `first` of the rank's own on; one portion after another."""

    def note_peaks(self, peaks: list[Peak]) -> None:
        """The memory that the ranks had in use."""


def hand_in(own: dict[Kind, Array], team: Team, serve: Taker) -> None:
    """Hand the rows [n, p] of the rank's nodes to rank 0, in small portions, as far as it wants them; `own` is empty in
    the end. `serve` is called on rank 0 only."""
    wanted: Wanted = team.share(lambda: serve.wanted(), what="what is wanted at the end")
    for kind in {*own} - {*wanted.kinds}:
        del own[kind]
    for kind in wanted.kinds:
        rows = own.pop(kind)
        step = max(1, _PORTION // (max(rows.shape[1], 1) * team.size))
        for first in range(0, wanted.most, step):
            parts = team.control.gather(rows[first : first + step])
            if parts is not None:
                serve.take(kind, first, parts)
    peaks = team.control.gather(peak())
    if peaks is not None:
        serve.note_peaks(peaks)


def peak() -> Peak:
    """This process's."""
    return Peak(os.uname().nodename, os.getpid(), _most_memory())


def _most_memory() -> int:
    """Bytes; what Linux says of this process, since ``getrusage`` may tell of the one that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
