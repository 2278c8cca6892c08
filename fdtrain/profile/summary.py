"""How much of a run each rank spent on what."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from fdtrain.profile.recorder import CATEGORIES, Recorder

FILE = "summary.csv"
_SHOWN = 8  # ranks; of more, some


class Shares(NamedTuple):
    """What a rank did in a whole run."""

    rank: int
    host: str
    seconds: float
    spent: dict[str, float]  # seconds by category
    minibatches: int
    rounds: int
    sent_bytes: int
    clock_error: float  # seconds by which its times may be off rank 0's

    def share(self, category: str) -> float:
        """The part of its time."""
        return self.spent[category] / self.seconds


def shares_of(recorder: Recorder, rank: int, host: str, sent_bytes: int, clock_error: int) -> Shares:
    """What a recorder has counted; `clock_error` in nanoseconds."""
    spent = {category: nanoseconds / 1e9 for category, nanoseconds in recorder.totals.items()}
    seconds = (recorder.stop - recorder.start) / 1e9
    counts = recorder.minibatches, recorder.rounds, sent_bytes
    return Shares(rank, host, seconds, spent, *counts, clock_error / 1e9)


def write(folder: Path, shares: Sequence[Shares]) -> None:
    """Write them as a CSV file: seconds of every rank, in all and by category.

    Raises:
        OSError: it cannot be written.
    """
    with (folder / FILE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        tail = ["minibatches", "rounds", "sent_bytes", "clock_error"]
        table.writerow(["rank", "host", "seconds", *CATEGORIES, *tail])
        for one in shares:
            spent = [f"{one.spent[category]:.6f}" for category in CATEGORIES]
            counts = [one.minibatches, one.rounds, one.sent_bytes]
            table.writerow(
                [one.rank, one.host, f"{one.seconds:.6f}", *spent, *counts, f"{one.clock_error:.9f}"]
            )


def table(shares: Sequence[Shares]) -> str:
    """A few lines: the parts of their time that ranks spent on what."""
    used = [c for c in CATEGORIES if any(one.share(c) >= 0.0005 for one in shares)]
    seconds = max(one.seconds for one in shares)
    lines = [f"profile: parts of {seconds:.2f} s in {shares[0].minibatches:,} mini-batches"]
    lines.append(" " * 12 + "".join(f"{category:>9}" for category in used))
    rows = [(f"rank {one.rank}", [one.share(c) for c in used]) for one in shares]
    if len(rows) > _SHOWN:
        busiest, idlest = (pick(shares, key=lambda one: one.share("compute")).rank for pick in (max, min))
        chosen = sorted({0, busiest, idlest})
        means = [mean(row[1][k] for row in rows) for k in range(len(used))]
        rows = [(f"mean of {len(rows)}", means), *(rows[rank] for rank in chosen)]
    lines += [f"{name:<12}" + "".join(f"{share:>9.1%}" for share in row) for name, row in rows]
    error = max(one.clock_error for one in shares)
    if error:
        lines.append(f"clocks of different hosts, aligned to {error * 1e6:.0f} µs")
    return "\n".join(lines)
