"""What a run shows while it goes on: a live display on a terminal, plain lines elsewhere, events between processes."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fdtrain.driver import Observer
from fdtrain.service import EpochRow
from fdtrain.verify import Comparison


class Display:
    """Lines, or on a terminal a bar with the present figures, for a person."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress
        self._live: Live | None = None
        self._epochs = 0
        self._since = self._shown = time.monotonic()

    def started(self, name: str, nodes: int, ranks: int, epochs: int) -> None:
        self._epochs = epochs
        ranks_text = f"{ranks} rank{'s' if ranks > 1 else ''}"
        epochs_text = f", {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
        self._console.print(f"{name}: {nodes} nodes on {ranks_text}{epochs_text}", markup=False)

    def verified(self, comparisons: Sequence[Comparison]) -> None:
        self._console.print(comparison_table(comparisons))
        self._since = time.monotonic()

    def epoch(self, row: EpochRow) -> None:
        if self._console.is_terminal:
            self._show(row)
        elif row.epoch in (1, self._epochs) or time.monotonic() - self._shown > max(
            1.0, self._elapsed() / 20
        ):
            self._shown = time.monotonic()
            left = self._elapsed() / row.epoch * (self._epochs - row.epoch)
            self._console.print(
                f"epoch {row.epoch}/{self._epochs}  {self._figures(row)}  {duration(left)} left"
            )

    def finished(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _show(self, row: EpochRow) -> None:
        if self._live is None:
            self._bar = Progress(
                TextColumn("epoch"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=self._console,
            )
            self._bar.add_task("", total=self._epochs)
            self._live = Live(self._bar, console=self._console)
            self._live.start()
        self._bar.update(TaskID(0), completed=row.epoch)
        self._live.update(Group(self._bar, Text(self._figures(row))))

    def _elapsed(self) -> float:
        return time.monotonic() - self._since

    def _figures(self, row: EpochRow) -> str:
        speed = row.rounds / self._elapsed() if self._elapsed() > 0 else math.nan
        text = f"mse train {row.mse_train:.4g} test {row.mse_test:.4g}"
        return f"{text}  disagreement {row.disagreement:.3g}  {speed:,.0f} rounds/s" if row.rounds else text


class Events:
    """The same as JSON lines, for the process that started this one and shows them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def started(self, name: str, nodes: int, ranks: int, epochs: int) -> None:
        self._send("started", name=name, nodes=nodes, ranks=ranks, epochs=epochs)

    def verified(self, comparisons: Sequence[Comparison]) -> None:
        self._send("verified", comparisons=[asdict(comparison) for comparison in comparisons])

    def epoch(self, row: EpochRow) -> None:
        self._send("epoch", row=asdict(row))

    def finished(self) -> None:
        self._send("finished")

    def note(self, text: str) -> None:
        self._send("note", text=text)

    def error(self, message: str) -> None:
        """Say why the run ends early."""
        self._send("error", message=message)

    def _send(self, event: str, **content: Any) -> None:
        print(json.dumps({"event": event, **content}), file=self._stream, flush=True)


def replay(line: str, observer: Observer) -> str | None:
    """Pass one line of :class:`Events` on to `observer`; return the message, where it is an error's.

    A line that is no event is printed by whoever wrote it, and ignored.
    """
    try:
        content = json.loads(line)
        return _pass_on(content.pop("event"), content, observer)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _pass_on(event: str, content: dict[str, Any], observer: Observer) -> str | None:
    match event:
        case "started":
            observer.started(**content)
        case "verified":
            observer.verified([Comparison(**comparison) for comparison in content["comparisons"]])
        case "epoch":
            observer.epoch(EpochRow(**content["row"]))
        case "finished":
            observer.finished()
        case "note":
            observer.note(content["text"])
        case "error":
            return str(content["message"])
    return None


def make_console(*, plain: bool = False) -> Console:
    """The console for standard output; `plain`: lines without colour and live display, whatever is behind it."""
    if plain or not sys.stdout.isatty():
        return Console(width=120, force_terminal=False, no_color=True, highlight=False)
    return Console(highlight=False)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """The verification as a table: a line per comparison."""
    table = Table(
        title="Agreement with the centralized reference", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("no.", justify="right")
    table.add_column("comparison", overflow="fold")
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("allowed", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in comparisons:
        verdict = "[green]pass[/]" if line.passed else "[bold red]FAIL[/]"
        table.add_row(
            str(line.number), escape(line.name), f"{line.error:.2g}", f"{line.tolerance:.0g}", verdict
        )
    return table


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
