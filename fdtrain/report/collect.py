"""The runs that a report is on: those in the given directories, sweeps expanded to theirs."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.report.read import Run, finite, read_run
from fdtrain.sweep.labels import describe


def read_runs(directories: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs in `directories`, sweeps expanded to theirs, and notes on runs of sweeps that are left out.

    Raises:
        InputError: a directory is not there, holds neither run nor sweep, or no finished epoch.
    """
    runs: list[Run] = []
    notes: list[str] = []
    seen: set[Path] = set()
    for path in directories:
        if not os.path.isdir(path):
            raise InputError(f"report: {path}: no such directory; name the directory of a run or of a sweep")
        if (path / "table.csv").is_file() and not (path / "config.yaml").is_file():
            found, left_out = _read_sweep(path)
            notes += left_out
        else:
            found = [read_run(path, path.resolve().name)]
        runs += [run for run in found if run.path.resolve() not in seen]
        seen |= {run.path.resolve() for run in found}
    _name(runs)
    for label in {run.label for run in runs}:
        same = [run for run in runs if run.label == label]
        for run in same if len(same) > 1 else ():
            run.label = str(run.path) if not run.axes else f"{run.path.parent.name}: {run.label}"
    return runs, notes


def _name(runs: Sequence[Run]) -> None:
    """Call the runs that are of no sweep by the names in their configurations where no two have the same."""
    single = [run for run in runs if not run.axes]
    names = [str(run.config.get("name") or "") for run in single]
    for run, name in zip(single, names, strict=True):
        if name not in ("", Config.model_fields["name"].default) and names.count(name) == 1:
            run.label = name


def _read_sweep(path: Path) -> tuple[list[Run], list[str]]:
    try:
        with (path / "table.csv").open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            names, lines = list(table.fieldnames or ()), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"report: {path / 'table.csv'}: cannot be read: {error}") from None
    if not {"status", "directory"} <= set(names):
        raise InputError(f"report: {path / 'table.csv'}: needs the columns status and directory")
    axes = names[: names.index("status")]
    runs, missing = [], 0
    for line in lines:
        directory = path / (line["directory"] or "-")
        values = {name: line[name] or "–" for name in axes}
        label = describe(values) or directory.name
        try:
            run = read_run(directory, label)
        except InputError:
            missing += 1
            continue
        run.axes = values
        run.published = _read_published(line)
        runs.append(run)
    if not runs:
        raise InputError(f"report: {path}: no run of this sweep has a finished epoch, nothing to show")
    note = f"{path.resolve().name}: {missing} of {len(lines)} runs left out, as they have no finished epoch"
    return runs, [note] if missing else []


def _read_published(line: dict[str, str]) -> dict[str, float]:
    """The published results that a line of a sweep's table has, by ``train`` and ``test``."""
    found: dict[str, float] = {}
    for side in ("train", "test"):
        try:
            value = finite(float(line.get(f"published_{side}") or "nan"))
        except ValueError:
            continue
        if value:
            found[side] = value
    return found
