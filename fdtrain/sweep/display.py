"""What a sweep shows: a live display on a terminal, a line per finished run elsewhere, and the summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fdtrain.progress import duration
from fdtrain.sweep.plan import Point, Sweep
from fdtrain.sweep.runner import Running, View
from fdtrain.sweep.table import Results, summarize

COLUMNS = {  # of the summary, the most important first
    "mse_train": "mse train",
    "mse_test": "mse test",
    "epochs_to_target": "epochs to target",
    "excess_test": "excess test",
    "disagreement": "disagreement",
}


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
        for point in sweep.points:
            if point.error is not None:
                self.tell_failure(point, point.error)

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
            self.tell_failure(running.point, reason)

    def tell_success(self, running: Running) -> None:
        took = duration(time.monotonic() - running.since)
        line = f"{self.position()} {running.point.title}: {_figures(running)}, {took}"
        self.console.print(line, markup=False, soft_wrap=True)

    def tell_failure(self, point: Point, reason: str) -> None:
        self.console.print(
            f"[red]failed[/] {escape(point.title)}: {escape(_short(reason, point))}", soft_wrap=True
        )

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
        row, epochs = one.progress.row, one.progress.epochs
        at = f"epoch {row.epoch}/{epochs}" if row is not None else "starts"
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
        last = _short(point.error, point) if point.error else point.directory
        table.add_row(*map(escape, point.labels.values()), state, escape(last))
    console.print(table)


def conclude(
    sweep: Sweep, results: Results, frame: pl.DataFrame, out: Path, figures: Sequence[Path], console: Console
) -> None:
    """The summary, what failed, and where the files are."""
    console.print(_fitting_summary(sweep, summarize(frame, sweep.config), console))
    failed = [point for point in sweep.points if results.status(point) == "failed"]
    if failed:
        console.print(f"[bold red]{_count(len(failed), 'run')} failed[/]")
        for point in failed:
            reason = _short(results.reason(point) or "", point)
            console.print(f"  {escape(point.title)}: {escape(reason)}", soft_wrap=True)
    names = ["table.csv", "table.parquet", "summary.csv", *(str(file.relative_to(out)) for file in figures)]
    console.print(f"files in {out}: {', '.join(names)}", markup=False, soft_wrap=True)


def _fitting_summary(sweep: Sweep, summary: pl.DataFrame, console: Console) -> Table:
    """The summary as a table; where it is too wide, without what matters less: ``summary.csv`` has everything."""
    columns = {key: heading for key, heading in COLUMNS.items() if f"{key}_mean" in summary.columns}
    table = _summary(sweep, summary, columns)
    while len(columns) > 2 and console.measure(table).maximum > console.width:
        columns.popitem()
        table = _summary(sweep, summary, columns)
    return table


def _summary(sweep: Sweep, summary: pl.DataFrame, columns: dict[str, str]) -> Table:
    table = Table(title=sweep.config.name, title_justify="left", box=None, pad_edge=False)
    published = [side for side in ("train", "test") if f"published_{side}" in summary.columns]
    for axis in sweep.config.groups:
        table.add_column(escape(axis.split(".")[-1]), overflow="fold")
    for heading in ("n", *columns.values(), *(f"published {side}" for side in published)):
        table.add_column(heading, justify="right", overflow="fold")
    for line in summary.iter_rows(named=True):
        cells = [*(escape(line[axis]) for axis in sweep.config.groups), str(line["n"])]
        table.add_row(
            *cells, *(_cell(line, key) for key in columns), *(_beside(line, side) for side in published)
        )
    return table


def _cell(line: dict[str, Any], key: str) -> str:
    if key == "disagreement" and not line["rounds_mean"]:
        return "–"  # one model
    some = key == "epochs_to_target" and 0 < line["n_reached"] < line["n"]
    part = f" ({line['n_reached']} of {line['n']})" if some else ""
    return _spread(line[f"{key}_mean"], line[f"{key}_std"]) + part


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.4g}" if deviation is None else f"{mean:.4g} ± {deviation:.2g}"


def _beside(line: dict[str, Any], side: str) -> str:
    """A published value, and the own mean in percent of it."""
    published, own = line[f"published_{side}"], line[f"mse_{side}_mean"]
    if published is None:
        return "–"
    return f"{published:.4g}" if own is None else f"{published:.4g} ({100 * own / published:.1f} %)"


def _figures(running: Running) -> str:
    row = running.progress.row
    return "no epoch" if row is None else f"mse train {row.mse_train:.4g} test {row.mse_test:.4g}"


def _short(reason: str, point: Point) -> str:
    return reason.removeprefix(f"{point.title}: ")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
