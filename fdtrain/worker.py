"""A process that an MPI launcher started: one rank of a team. Imports mpi4py; ranks other than 0 stay light."""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Sequence

from mpi4py import MPI

from fdtrain.errors import InputError
from fdtrain.launcher import INSTALL_HINT, launched_rank, launched_size
from fdtrain.team import Team
from fdtrain.training import follow
from fdtrain.transport.mpi import MpiControl, MpiTransport

DEADLINE_VARIABLE = "FDTRAIN_DEADLINE"  # seconds


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
    text = os.environ.get(DEADLINE_VARIABLE, "120")
    try:
        deadline = float(text)
    except ValueError:
        deadline = 0.0
    if not 0 < deadline < math.inf:
        if world.Get_rank() == 0:
            print(
                f"error: {DEADLINE_VARIABLE}: must be a number of seconds > 0, found '{text}'",
                file=sys.stderr,
            )
        return 2
    team = Team(MpiTransport(world.Dup(), deadline), MpiControl(world.Dup()))
    try:
        if team.rank == 0:
            from fdtrain.cli import run_command

            status = run_command(arguments, team)
            team.dismiss()
            return status
        follow(team)
        return 0
    except InputError:  # rank 0 raises the same, and says it
        return 2
    except BaseException as error:
        try:
            _report(team, error)
        finally:
            world.Abort(1)
        raise


def _report(team: Team, error: BaseException) -> None:
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
    reason = "".join(traceback.format_exception_only(error)).strip().replace("\n", " ")
    print(f"error: rank {team.rank} failed: {reason}; traceback in {place}", file=sys.stderr, flush=True)


def _library() -> str:
    return MPI.Get_library_version().split(",")[0].strip("\x00\n ")
