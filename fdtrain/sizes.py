"""Results on networks of several sizes: what they are, as a table for a terminal, and as a CSV file."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fdtrain.errors import InputError
from fdtrain.minibatches import title
from fdtrain.outputs import writing
from fdtrain.progress import as_text, size

Array = NDArray[np.float64]

COMPARED = ("wmmse_4", "wmmse_100")  # baselines to which ratios are told


@dataclass(frozen=True)
class Size:
    """Results on networks of n pairs, on the same channels for all methods. Counts are those of all links."""

    pairs: int  # n
    area: float  # m, side of the square
    batch: int  # B
    rates: Array  # [M] mean sum rate of every mini-batch
    baselines: dict[str, float]  # mean sum rates of the other methods
    rounds: int  # of all mini-batches
    messages: int
    bytes: int

    @property
    def rate(self) -> float:
        """Mean sum rate."""
        return float(self.rates.mean())

    @property
    def error(self) -> float:
        """Its standard error over the mini-batches; NaN of a single one."""
        count = len(self.rates)
        return float(self.rates.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan

    def relative_to(self, baseline: str) -> float:
        """The mean sum rate over another method's; NaN where that is 0."""
        other = self.baselines[baseline]
        return self.rate / other if other else math.nan


def read_sizes(given: str) -> list[int]:
    """What ``--pairs`` lists, each once.

    Raises:
        InputError: something else than numbers of pairs.
    """
    parts = [part.strip() for part in given.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,3}|10000", part) for part in parts):
        raise InputError(
            f"--pairs: must be numbers from 1 to 10000 with commas between them, e.g. 10,25,50; found '{given:.60}'"
        )
    return [*dict.fromkeys(map(int, parts))]


def render(sizes: Sequence[Size], heading: str) -> str:
    """The results as text: rates, a line per size, and what they cost; 80 columns suffice for up to 999 pairs."""
    names, first = [*sizes[0].baselines], sizes[0]
    rates = _table(
        "n", "side\n(m)", "UWMMSE", "per\npair", *(title(name).replace(" ", "\n") for name in names)
    )
    for name in COMPARED:
        rates.add_column(f"ratio to\n{title(name)}", justify="right", no_wrap=True)
    cost = _table("n", "rounds", "messages", "bytes")
    for line in sizes:
        error = "" if math.isnan(line.error) else f" ± {line.error:.2f}"
        rates.add_row(
            f"{line.pairs:,}",
            f"{line.area:,.0f}",
            f"{line.rate:.2f}{error}",
            f"{line.rate / line.pairs:.3f}",
            *(f"{line.baselines[name]:.2f}" for name in names),
            *(f"{line.relative_to(name):.3f}" for name in COMPARED),
        )
        count = len(line.rates)
        sent = (f"{line.messages / count:,.0f}", size(line.bytes / count))
        cost.add_row(f"{line.pairs:,}", f"{line.rounds / count:,.0f}", *sent)
    portions = f"{len(first.rates):,} mini-batch{'es' * (len(first.rates) > 1)}"
    parts = (
        "",
        heading,
        f"Mean sum rates, bit/s/Hz, ± standard error; {portions} of {first.batch} samples:",
        rates,
        "",
        "Inference, per mini-batch, over all links:",
        cost,
    )
    return as_text(parts, 120)


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="", padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def columns(line: Size) -> dict[str, Any]:
    """A size's values by the names of their columns; None for a standard error of a single mini-batch."""
    count = len(line.rates)
    return {
        "n": line.pairs,
        "area": line.area,
        "minibatches": count,
        "samples": count * line.batch,
        "uwmmse": line.rate,
        "uwmmse_error": None if math.isnan(line.error) else line.error,
        "uwmmse_per_pair": line.rate / line.pairs,
        **line.baselines,
        **{f"ratio_{name}": line.relative_to(name) for name in COMPARED},
        "rounds": line.rounds / count,
        "messages": line.messages / count,
        "bytes": line.bytes / count,
    }


def write_csv(file: Path, sizes: Sequence[Size]) -> None:
    """A line per size, floats with 17 significant digits; rounds, messages and bytes are those of a mini-batch.

    Raises:
        InputError: it cannot be written.
    """
    rows = [columns(line) for line in sizes]
    with writing(file), file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(f"{value:.17g}" if isinstance(value, float) else value for value in row.values())
