"""One time for the timelines of all ranks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fdtrain.transport.base import Control

_TRIES = 8


class Shift(NamedTuple):
    """What a rank's clock shows when rank 0's shows 0, and by how much that may be wrong; nanoseconds."""

    offset: int
    error: int


def identity() -> str:
    """Which clock this process reads: that of the running kernel, and of its time namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/time')}"
    except OSError:
        return f"process {os.uname().nodename} {os.getpid()}"


def align(control: Control, clock: Callable[[], int], name: str) -> Shift:
    """Compare this rank's `clock`, in nanoseconds, with rank 0's; every rank calls.

    Clocks with the same `name` are the same clock. With others rank 0 exchanges a word several times: the rank's clock
    was read between two readings of rank 0's, and the middle of them is off by half of their distance at most.
    """
    names = control.bcast(control.gather(name))
    if len(set(names)) == 1:
        return Shift(0, 0)
    best = [Shift(0, 2**62) for _ in names]
    for _ in range(_TRIES):
        start = clock()
        control.bcast(None)
        shown = control.gather(clock())
        stop = clock()
        if shown is not None:
            found = [Shift(time - (start + stop) // 2, (stop - start + 1) // 2) for time in shown]
            best = [min(pair, key=lambda shift: shift.error) for pair in zip(best, found, strict=True)]
    best = [Shift(0, 0) if own == names[0] else shift for own, shift in zip(names, best, strict=True)]
    mine: Shift = control.scatter(best if control.rank == 0 else None)
    return mine
