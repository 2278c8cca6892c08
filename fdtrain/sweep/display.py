"""What a sweep shows: a live display on a terminal, a line per finished run elsewhere, and how it ended."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fdtrain.progress import duration, figures
from fdtrain.sweep.plan import Point, Sweep
from fdtrain.sweep.runner import Running, View
from fdtrain.sweep.summary import show_summary
from fdtrain.sweep.table import Results

NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


class Lines(View):
    """A line per finished run."""

    def __init__(self, sweep: Sweep, results: Results, todo: int, console: Console) -> None:
        states = [results.status(point) for point in sweep.points]
        self.console = console
        self.total, self.todo = len(states), todo
        self.done = states.count("complete")  # complete, now or before
        self.failed = sum(point.error is not None for point in sweep.points)
        self.worked = 0  # finished by this process
        self.since = time.monotonic()
        before = f", {self.done} complete before" if self.done else ""
        self.console.print(
            f"{sweep.config.name}: {_count(self.total, 'run')}{before}, {todo} to do", markup=False
        )
        for reason, points in _by_reason(_invalid(sweep)):
            self.tell(_invalid_in(sweep, points), reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def ended(self, running: Running, reason: str | None) -> None:
        self.worked += 1
        if reason is None:
            self.done += 1
            self.tell_success(running)
        else:
            self.failed += 1
            self.tell(f"failed {running.point.title}", _short(reason, running.point))

    def tell_success(self, running: Running) -> None:
        took = duration(time.monotonic() - running.since)
        line = f"{self.position()} {running.point.title}: {_figures(running)}, {took}"
        self.console.print(line, markup=False, soft_wrap=True)

    def tell(self, what: str, reason: str) -> None:
        """A failure, on one line: cut on a terminal, since it is told in full at the end."""
        line = Text.assemble((what, "red"), ": ", reason)
        terminal = self.console.is_terminal
        self.console.print(line, no_wrap=True, overflow="ellipsis" if terminal else "ignore", crop=terminal)

    def position(self) -> str:
        return f"{self.done + self.failed}/{self.total}"


class Screen(Lines):
    """The same on a terminal: a bar for all, a line for each run that is under way, and the failures above."""

    def __init__(self, sweep: Sweep, results: Results, todo: int, console: Console) -> None:
        super().__init__(sweep, results, todo, console)
        self._shown = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._live.stop()

    def tell_success(self, running: Running) -> None: ...

    def turn(self, running: Sequence[Running]) -> None:
        if time.monotonic() - self._shown >= 0.2:
            self._shown = time.monotonic()
            self._live.update(Group(self._overall(running), _under_way(running)), refresh=True)

    def _overall(self, running: Sequence[Running]) -> Table:
        elapsed = time.monotonic() - self.since
        worked = self.worked + sum(one.progress.fraction for one in running)
        left = f"{duration(elapsed * (self.todo - worked) / worked)} left" if worked > 0.02 else ""
        line = Table.grid(padding=(0, 2), expand=True)
        for _ in range(4):
            line.add_column(no_wrap=True)
        line.columns[1].ratio = 1
        failed = Text(f"{self.failed} failed", style="red") if self.failed else Text("")
        share = self.total - self.todo + worked
        line.add_row(
            Text(f"{self.position()} runs"), ProgressBar(total=self.total, completed=share), failed,
            Text(", ".join(part for part in (duration(elapsed), left) if part)),
        )  # fmt: skip
        return line


def _under_way(running: Sequence[Running]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    for one in running:
        row = one.progress.row
        at = one.progress.position or "starts"
        table.add_row(Text(one.point.title), at, "" if row is None else _figures(one))
    return table


def make_view(sweep: Sweep, results: Results, todo: int, console: Console) -> Lines:
    """What fits the console."""
    return (Screen if console.is_terminal and todo else Lines)(sweep, results, todo, console)


def show_points(sweep: Sweep, results: Results, console: Console) -> None:
    """A line per point: what is done, what would be run, and what cannot be."""
    table = Table(title=sweep.config.name, title_justify="left", box=None, pad_edge=False)
    for heading in (*sweep.config.axes, "", "directory"):
        table.add_column(escape(heading), overflow="fold")
    for point in sweep.points:
        state = "invalid" if point.error else "complete" if results.status(point) == "complete" else "to run"
        where = "" if point.error else point.directory
        table.add_row(*map(escape, point.labels.values()), state, escape(where))
    console.print(table)
    _tell_invalid(sweep, console)


def conclude(
    sweep: Sweep,
    results: Results,
    frame: pl.DataFrame,
    out: Path,
    figures: Sequence[Path],
    others: int,
    console: Console,
) -> None:
    """The summary, what failed, and where the files are; `others`: directories of runs that are not in the table."""
    show_summary(sweep, frame, console)
    _tell_invalid(sweep, console)
    states = [(point, results.status(point)) for point in sweep.points if point.error is None]
    failed = [(point, results.reason(point) or "") for point, state in states if state == "failed"]
    for reason, points in _by_reason(failed):
        _tell_group(f"{_count(len(points), 'run')} failed", reason, points, console)
    names = ["table.csv", "table.parquet", "summary.csv", *(str(file.relative_to(out)) for file in figures)]
    console.print(f"files in {out}: {', '.join(names)}", markup=False, soft_wrap=True)
    if others:
        left = "directory of other settings in runs/ is left as it is"
        if others > 1:
            left = "directories of other settings in runs/ are left as they are"
        console.print(f"{others} {left}", soft_wrap=True)


def _tell_invalid(sweep: Sweep, console: Console) -> None:
    """The combinations that are no configuration, once per reason."""
    for reason, points in _by_reason(_invalid(sweep)):
        _tell_group(_invalid_in(sweep, points), reason, points, console)


def tell_notes(sweep: Sweep, results: Results, console: Console) -> None:
    """What the user should know before anything is run."""
    for note in sweep.notes:
        console.print(note, markup=False, soft_wrap=True)
    for point, reason in results.damaged():
        again = f"{point.title} is run again: {reason} (in {point.directory})"
        console.print(again, markup=False, soft_wrap=True)


def _invalid(sweep: Sweep) -> list[tuple[Point, str]]:
    return [(point, point.error) for point in sweep.points if point.error is not None]


def _invalid_in(sweep: Sweep, points: Sequence[Point]) -> str:
    return f"{_count(len(points), 'combination')} invalid in {sweep.source}"


def _tell_group(what: str, reason: str, points: Sequence[Point], console: Console) -> None:
    console.print(f"[bold red]{escape(what)}:[/] {escape(reason)}", soft_wrap=not console.is_terminal)
    titles = "; ".join(point.title.replace(" ", "\u00a0") for point in points)  # lines break between them
    for line in textwrap.wrap(titles, console.width - 2, break_on_hyphens=False):
        console.print("  " + line.replace("\u00a0", " "), markup=False)


def _by_reason(failures: Sequence[tuple[Point, str]]) -> list[tuple[str, list[Point]]]:
    """Points with the same reason; numbers in which reasons differ, such as an epoch's, are left out of it."""
    groups: dict[tuple[str, ...], list[tuple[Point, list[str]]]] = {}
    for point, reason in failures:
        parts = NUMBER.split(_short(reason, point))
        groups.setdefault(tuple(parts[::2]), []).append((point, parts))
    found = []
    for group in groups.values():
        columns = zip(*(parts for _, parts in group), strict=True)
        text = "".join(column[0] if len({*column}) == 1 else "…" for column in columns)
        found.append((text, [point for point, _ in group]))
    return found


def _figures(running: Running) -> str:
    row = running.progress.row
    return "no epoch" if row is None else figures(row)


def _short(reason: str, point: Point) -> str:
    return reason.removeprefix(f"{point.title}: ")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
