"""A process that an MPI launcher started: one rank of a team. Imports mpi4py; ranks other than 0 stay light."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial

from mpi4py import MPI

from fdtrain import limits, stopping
from fdtrain.errors import InputError, MessageTimeoutError, StoppedError
from fdtrain.launcher import INSTALL_HINT, launched_rank, launched_size
from fdtrain.stacks import Stacks
from fdtrain.team import Team
from fdtrain.training import follow
from fdtrain.transport.mpi import MpiControl, MpiTransport

_HEARD = 0.2  # seconds for the launcher to read standard error; MPICH's drops the rest when a job is aborted


def main(arguments: Sequence[str]) -> int:
    """Rank 0 runs the command line, the others what it hands out; return the exit status.

    An exception on any rank ends the whole job: its traceback goes to the rank's log, and the MPI is aborted.
    """
    world = MPI.COMM_WORLD
    launched = launched_size()
    if launched is not None and launched != world.Get_size():
        if launched_rank() > 0:
            return 2
        print(
            f"error: the launcher started {launched} processes, but the MPI library sees {world.Get_size()}: mpirun "
            f"and library belong to different MPIs; use the mpirun of the library ({_library()}), or {INSTALL_HINT}",
            file=sys.stderr,
        )
        return 2
    try:
        deadline = limits.deadline()
    except InputError as error:
        if world.Get_rank() == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments[:1] == ["run"]:
        stopping.install(second_ends=False)
    control = MpiControl(world.Dup(), deadline)
    transport = MpiTransport(world.Dup(), deadline)
    transport.meet = control.meet
    team = Team(transport, control)
    stacks: Stacks | None = None
    try:
        limits.started()
        stacks = Stacks(control)
        transport.on_late = control.on_late = partial(_collect, team, stacks)
        status = _work(arguments, team)
        control.settle()
        return status
    except InputError:  # rank 0 raises the same, and says it
        return 2
    except StoppedError as stop:
        return stopping.exit_status(stop.signal)
    except BaseException as error:
        try:
            if isinstance(error, MessageTimeoutError) and stacks is not None:
                _report(team, _what_is_missing(team, error, stacks), error)
            else:
                _report(team, _in_a_line(error), error)
        finally:
            time.sleep(_HEARD)
            world.Abort(1)
        raise


def _work(arguments: Sequence[str], team: Team) -> int:
    if team.rank > 0:
        follow(team)
        return 0
    from fdtrain.cli import run_command

    status = run_command(arguments, team)
    team.dismiss()
    return status


def _collect(team: Team, stacks: Stacks) -> None:
    stacks.collect(team.logs)


def _what_is_missing(team: Team, late: MessageTimeoutError, stacks: Stacks) -> str:
    """Which message in which round of which mini-batch, what those ranks do that do not wait, where stacks are."""
    where = [] if team.minibatch is None else [f"mini-batch {team.minibatch + 1}"]
    where += getattr(late, "__notes__", [])
    parts = [": ".join(filter(None, [str(late), ", ".join(where)])), stacks.busy]
    if stacks.file is not None:
        parts.append(f"stacks of all ranks in {stacks.file}")
    return "; ".join(filter(None, parts))


def _in_a_line(error: BaseException) -> str:
    return " ".join("".join(traceback.format_exception_only(error)).split())


def _report(team: Team, reason: str, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    place = "standard error"
    try:
        if team.logs is None:
            raise FileNotFoundError
        log = team.logs / f"rank-{team.rank}.log"
        with log.open("a", encoding="utf-8") as stream:
            stream.write(text)
        place = str(log)
    except OSError:
        sys.stderr.write(text)
    print(f"error: rank {team.rank} failed: {reason}; traceback in {place}", file=sys.stderr, flush=True)


def _library() -> str:
    return MPI.Get_library_version().split(",")[0].strip("\x00\n ")
