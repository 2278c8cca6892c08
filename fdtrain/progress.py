"""What a run shows while it goes on: a live display on a terminal, plain lines elsewhere, events between processes."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from rich.console import Console, Group, RenderableType
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
from fdtrain.measure import MEASURES
from fdtrain.minibatches import RECENT, MinibatchRow
from fdtrain.service import EpochRow
from fdtrain.verify import Comparison

PHASES = {"decide": "decisions", "control": "critic"}  # of a ledger, where they are not called by their names


class Display:
    """Lines, or on a terminal a bar with the present figures, for a person."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress
        self._live: Live | None = None
        self._epochs = self._minibatches = 0
        self._before = 0.0  # epochs of an earlier life of the run
        self._recent = deque[float](maxlen=RECENT)
        self._row: EpochRow | None = None
        self._since = self._shown = time.monotonic()

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None:
        self._epochs, self._minibatches = epochs, minibatches
        ranks_text = f"{ranks} rank{'s' if ranks > 1 else ''}"
        epochs_text = f", {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
        self._console.print(f"{name}: {nodes} nodes on {ranks_text}{epochs_text}", markup=False)

    def resumed(self, done: int) -> None:
        self._before = done / self._minibatches
        epoch = (done - 1) // self._minibatches + 1
        self._console.print(f"going on after mini-batch {done:,} (epoch {epoch})", markup=False)
        self._since = time.monotonic()

    def verified(self, comparisons: Sequence[Comparison]) -> None:
        self._console.print(comparison_table(comparisons))
        self._since = time.monotonic()

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        if not rows or not self._minibatches:
            return
        self._recent.extend(row.train for row in rows)
        done = rows[-1].minibatch / self._minibatches
        if self._console.is_terminal:
            lines = [] if self._row is None else [self._figures(self._row)]
            self._show(done, [*lines, self._progress(rows[-1])])
        elif self._is_time():
            self._say(self._progress(rows[-1]), done)

    def epoch(self, row: EpochRow) -> None:
        self._row = row
        if self._console.is_terminal:
            self._show(row.epoch, [self._figures(row)])
        elif row.epoch in (1, self._epochs) or self._is_time():
            self._say(f"epoch {row.epoch}/{self._epochs}  {self._figures(row)}", row.epoch)

    def finished(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _is_time(self) -> bool:
        """Whether another line is due: not too many of them, however long this takes."""
        return time.monotonic() - self._shown > max(1.0, self._elapsed() / 20)

    def _say(self, text: str, done: float) -> None:
        """A line, after so many epochs or parts of one."""
        self._shown = time.monotonic()
        since = done - self._before
        left = f"  {duration(self._elapsed() / since * (self._epochs - done))} left" if since > 0 else ""
        self._console.print(f"{text}{left}")

    def _show(self, done: float, lines: Sequence[str]) -> None:
        """The bar after so many epochs or parts of one, and the present figures."""
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
        self._bar.update(TaskID(0), completed=done)
        self._live.update(Group(self._bar, *map(Text, lines)))

    def _elapsed(self) -> float:
        return time.monotonic() - self._since

    def _figures(self, row: EpochRow) -> str:
        rounds = row.rounds * (1.0 - self._before / row.epoch)  # of this life
        speed = rounds / self._elapsed() if self._elapsed() > 0 else math.nan
        text = figures(row)
        return f"{text}  disagreement {row.disagreement:.3g}  {speed:,.0f} rounds/s" if row.rounds else text

    def _progress(self, row: MinibatchRow) -> str:
        """How far an epoch is, and the mean of its last mini-batches."""
        epoch, number = divmod(row.minibatch - 1, self._minibatches)
        mean = sum(self._recent) / len(self._recent)
        where = f"epoch {epoch + 1}/{self._epochs}, " if self._epochs > 1 else ""
        at = f"{where}mini-batch {number + 1:,} of {self._minibatches:,}"
        return f"{at}, {row.measure.title} (last {len(self._recent)}) {mean:.4g}"


def figures(row: EpochRow) -> str:
    """What an epoch's row says of the task: ``mse train 0.5 test 0.4``."""
    return f"{row.measure.name} train {row.train:.4g} test {row.test:.4g}"


class Events:
    """The same as JSON lines, for the process that started this one and shows them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None:
        self._send("started", name=name, nodes=nodes, ranks=ranks, epochs=epochs, minibatches=minibatches)

    def resumed(self, done: int) -> None:
        self._send("resumed", done=done)

    def verified(self, comparisons: Sequence[Comparison]) -> None:
        self._send("verified", comparisons=[asdict(comparison) for comparison in comparisons])

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        self._send("minibatches", rows=[_sent(row) for row in rows])

    def epoch(self, row: EpochRow) -> None:
        self._send("epoch", row=_sent(row))

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
        case "resumed":
            observer.resumed(**content)
        case "verified":
            observer.verified([Comparison(**comparison) for comparison in content["comparisons"]])
        case "minibatches":
            observer.minibatches([MinibatchRow(**_received(row)) for row in content["rows"]])
        case "epoch":
            observer.epoch(EpochRow(**_received(content["row"])))
        case "finished":
            observer.finished()
        case "note":
            observer.note(content["text"])
        case "error":
            return str(content["message"])
    return None


def _sent(row: EpochRow | MinibatchRow) -> dict[str, Any]:
    return {**asdict(row), "measure": row.measure.name}


def _received(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "measure": MEASURES[content["measure"]]}


def make_console(*, plain: bool = False) -> Console:
    """The console for standard output; `plain`: lines without colour and live display, whatever is behind it."""
    if plain or not sys.stdout.isatty():
        return Console(width=120, force_terminal=False, no_color=True, highlight=False)
    return Console(highlight=False)


def as_text(parts: Sequence[RenderableType], width: int) -> str:
    """Lines and tables as plain text; a table has at most `width` columns, a line is as long as it is."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, highlight=False)
    for part in parts:
        console.print(part, markup=False, soft_wrap=isinstance(part, str))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


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
