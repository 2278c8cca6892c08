"""``fdtrain sweep``: from the file to the finished table."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from fdtrain.errors import InputError
from fdtrain.jobs import exit_on_signals
from fdtrain.outputs import contents
from fdtrain.sweep import display
from fdtrain.sweep.plan import Sweep
from fdtrain.sweep.runner import default_jobs, run_points
from fdtrain.sweep.table import Results, atomically, labelled
from fdtrain.yamlfile import read_mapping

RECORD = "sweep.yaml"
INTERRUPTED = 130


def run_sweep(
    sweep: Sweep,
    out: Path,
    console: Console,
    *,
    jobs: int | None,
    ranks: int,
    figures: bool,
    options: Sequence[str] = (),
) -> int:
    """Run what is missing of `sweep` into the directory `out`, and collect the results.

    `options` are handed to every ``fdtrain run``.

    Returns:
        The exit status: 0, or 1 where a run has failed, or 130 when interrupted; the same command goes on.

    Raises:
        InputError: `out` is not this sweep's, or cannot be written.
    """
    with _claimed(out, sweep):
        _forget_others(out, sweep)
        results = Results(sweep, out)
        results.write()
        todo = {p.directory: p for p in sweep.points if p.error is None and results.status(p) != "complete"}
        view = display.make_view(sweep, results, len(todo), console)
        exit_on_signals()
        try:
            with view:
                run_points(
                    [*todo.values()], out, jobs=jobs or default_jobs(ranks), ranks=ranks,
                    view=view, on_end=results.write, options=options,
                )  # fmt: skip
        except KeyboardInterrupt:
            left = sum(results.status(point) == "missing" for point in sweep.points)
            console.print(
                f"interrupted: {left} of {len(sweep.points)} runs are left; the same command goes on"
            )
            return INTERRUPTED
        frame = results.frame()
        files = _draw(sweep, results, out) if figures else []
        others = {path.name for path in (out / "runs").iterdir() if path.is_dir()} - _names(sweep)
        display.conclude(sweep, results, frame, out, files, len(others), console)
        return int((frame["status"] == "failed").any())


def show_plan(sweep: Sweep, out: Path, console: Console) -> int:
    """Say what :func:`run_sweep` would run, without running it; 1 where a combination is no configuration."""
    if out.exists():
        _check_out(out, sweep)
    display.show_points(sweep, Results(sweep, out), console)
    return int(any(point.error for point in sweep.points))


def _names(sweep: Sweep) -> set[str]:
    """The names of the directories of all runs."""
    return {Path(point.directory).name for point in sweep.points}


def _forget_others(out: Path, sweep: Sweep) -> None:
    """Remove what was written for runs with other settings, but not their results."""
    names = _names(sweep)
    for file in (*(out / "configs").glob("*.yaml"), *(out / "failures").glob("*.txt")):
        if re.search(r"-[0-9a-f]{8}$", file.stem) and file.stem not in names:
            file.unlink(missing_ok=True)


def _draw(sweep: Sweep, results: Results, out: Path) -> list[Path]:
    from fdtrain.sweep.pictures import draw

    return draw(sweep, labelled(results.frame(), sweep.config), out)


@contextmanager
def _claimed(out: Path, sweep: Sweep) -> Iterator[None]:
    """The directory made, and kept from other sweeps as long as this one is at work."""
    _check_out(out, sweep)
    handle = None
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            handle = os.open(out, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            atomically(out / RECORD, lambda file: file.write_text(sweep.to_yaml(), encoding="utf-8"))
            for name in ("runs", "configs", "failures"):
                (out / name).mkdir(exist_ok=True)
        except BlockingIOError:
            problem = "another fdtrain sweep is at work there; wait, or name another directory"
            raise InputError(f"--out {out}: {problem}") from None
        except OSError as error:
            raise InputError(f"--out {out}: cannot be written: {error.strerror}") from None
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _check_out(out: Path, sweep: Sweep) -> None:
    """Refuse a directory that holds something else than this sweep.

    Raises:
        InputError: it does, or is none.
    """
    present = contents(out)
    if not present:
        return
    found = _recorded_name(out)
    if found is None:
        raise InputError(f"--out {out}: holds '{present[0]}', which is no sweep's; name another directory")
    if found != sweep.config.name:
        raise InputError(f"--out {out}: holds the sweep '{found}'; name another directory")


def _recorded_name(out: Path) -> Any:
    """The name of the sweep whose record is in `out`."""
    try:
        record = read_mapping(out / RECORD)
    except InputError:
        return None
    return record.get("name") if "points" in record else None
