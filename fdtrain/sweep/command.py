"""``fdtrain sweep``: from the file to the finished table."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from fdtrain.errors import InputError
from fdtrain.jobs import exit_on_signals
from fdtrain.outputs import contents, make_folder, writing
from fdtrain.sweep import display
from fdtrain.sweep.plan import Sweep
from fdtrain.sweep.runner import default_jobs, run_points
from fdtrain.sweep.table import TABLES, Results, atomically, labelled
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
        RunFailedError: a run's process cannot be started.
    """
    with _claimed(out, sweep) as earlier:
        if earlier is not None:
            told = f"{out}: the sweep has changed; the tables and figures of before are kept in {earlier}"
            console.print(told, markup=False, soft_wrap=True)
        with writing(f"--out {out}"):
            _forget_others(out, sweep)
        results = Results(sweep, out)
        display.tell_notes(sweep, results, console)
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
            frame = results.frame()
            with writing(f"--out {out}"):
                files = _draw(sweep, frame, out) if figures else []
        except (KeyboardInterrupt, SystemExit) as end:
            left = sum(results.status(point) == "missing" for point in sweep.points)
            told = f"interrupted: {left} of {len(sweep.points)} runs are left; the same command goes on"
            with contextlib.suppress(OSError):  # the terminal may be gone
                console.print(told)
            return int(end.code or 0) if isinstance(end, SystemExit) else INTERRUPTED
        others = {path.name for path in (out / "runs").iterdir() if path.is_dir()} - _names(sweep)
        display.conclude(sweep, results, frame, out, files, len(others), console)
        return int((frame["status"] == "failed").any())


def show_plan(sweep: Sweep, out: Path, console: Console) -> int:
    """Say what :func:`run_sweep` would run, without running it; 1 where a combination is no configuration."""
    if out.exists():
        _check_out(out, sweep)
    results = Results(sweep, out)
    display.tell_notes(sweep, results, console)
    display.show_points(sweep, results, console)
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


def _draw(sweep: Sweep, frame: pl.DataFrame, out: Path) -> list[Path]:
    from fdtrain.sweep.pictures import draw

    return draw(sweep, labelled(frame, sweep.config), out)


@contextmanager
def _claimed(out: Path, sweep: Sweep) -> Iterator[Path | None]:
    """The directory made, and kept from other sweeps as long as this one is at work; where earlier tables are now."""
    _check_out(out, sweep)
    handle = None
    try:
        with writing(f"--out {out}"):
            make_folder(out)
            handle = os.open(out, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                problem = "another fdtrain sweep is at work there; wait, or name another directory"
                raise InputError(f"--out {out}: {problem}") from None
            earlier = _keep_earlier(out, sweep)
            atomically(out / RECORD, sweep.to_yaml().encode())
            for name in ("runs", "configs", "failures"):
                (out / name).mkdir(exist_ok=True)
        yield earlier
    finally:
        if handle is not None:
            os.close(handle)


def _keep_earlier(out: Path, sweep: Sweep) -> Path | None:
    """Put away what was collected when the sweep was another one, and say where; its runs stay where they are."""
    names = [name for name in (*TABLES, "figures") if (out / name).exists()]
    record = _record(out)
    if not names or record is None or record.get("identity") == sweep.identity():
        return None
    stem = time.strftime("%Y%m%d-%H%M%S")
    places = itertools.chain((stem,), (f"{stem}-{k}" for k in itertools.count(2)))
    kept = next(place for place in (out / "earlier" / name for name in places) if not place.exists())
    kept.mkdir(parents=True)
    shutil.copy2(out / RECORD, kept)  # until it is replaced, the directory is the earlier sweep's
    for name in names:
        os.rename(out / name, kept / name)
    return kept


def _check_out(out: Path, sweep: Sweep) -> None:
    """Refuse a directory that holds something else than this sweep.

    Raises:
        InputError: it does, or is none.
    """
    present = contents(out)
    if not present:
        return
    record = _record(out)
    if record is None:
        raise InputError(f"--out {out}: holds '{present[0]}', which is no sweep's; name another directory")
    if record["name"] != sweep.config.name:
        raise InputError(f"--out {out}: holds the sweep '{record['name']}'; name another directory")


def _record(out: Path) -> dict[str, Any] | None:
    """The record of the sweep whose directory `out` is; None where it is none's."""
    try:
        record = read_mapping(out / RECORD, math.inf)
    except InputError:
        return None
    return record if "points" in record and record.get("name") is not None else None
