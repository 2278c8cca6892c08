"""A run that goes on after a crash: the process that launched its ranks starts them anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import typer

from fdtrain import checkpoint, stopping
from fdtrain.errors import CrashError, InputError
from fdtrain.jobs import repeated
from fdtrain.launcher import INSTALL_HINT, find_mpirun
from fdtrain.team import Team


def check(count: int, team: Team | None) -> None:
    """Refuse where nobody could start `count` ranks anew: that has to be another process than theirs.

    Raises:
        InputError: an MPI launcher started this process, as one of `team`; or there is no MPI.
    """
    if team is not None:
        raise InputError(
            "--max-restarts: this process was started by an MPI launcher, which would have to restart it"
        )
    try:
        find_mpirun()
    except InputError:
        if count > 1:
            raise
        raise InputError(
            f"--max-restarts: also one rank has to be a process of its own, by mpirun, which is missing; {INSTALL_HINT}"
        ) from None


def with_restarts(
    start: Callable[[list[str]], None], arguments: list[str], context: typer.Context, path: Path, limit: int
) -> None:
    """Call `start` with the `arguments` of the ranks' command; after a crash with those that go on with the run in
    `path`, at most so many times.

    Raises:
        CrashError: the last one; others are told on standard error.
    """
    for number in range(1, limit + 1):
        try:
            start(arguments)
            return
        except CrashError as crash:
            if stopping.requested():
                raise
            kept = checkpoint.found_in(path / "checkpoints")
            where = f"mini-batch {checkpoint.number_of(kept[0]):,}" if kept else "the beginning"
            print(f"note: {crash}; restart {number} of {limit}, from {where}", file=sys.stderr)
            arguments = _resumed(context, path)
    start(arguments)


def _resumed(context: typer.Context, path: Path) -> list[str]:
    """The arguments with which the ranks go on with the run in `path`; from its beginning where it has none."""
    if not (path / "config.yaml").is_file():
        return repeated(context, out=path)
    left_out = {"config_name": None, "overrides": None, "out": None, "overwrite": False}
    return repeated(context, **left_out, resume=path)
