"""The kill matrix: whatever of a job's processes fails, in whatever way, it ends soon, says why, and leaves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import needs_mpi
from faults import Ended, FaultyRun

pytestmark = needs_mpi

DEADLINE = 4.0
HOW = ("raise", "early exit", "exit 3", "SIGKILL", "SIGSEGV", "SIGSTOP", "hang")
ASLEEP = ("SIGSTOP", "hang")  # found by the deadline
FROM_WITHIN = [(who, how) for who in ("2", "0", "launcher") for how in HOW]
FROM_OUTSIDE = [(who, how) for who in ("mpirun", "server") for how in ("SIGKILL", "SIGSTOP")]
UNDER_MPIRUN = [(who, how) for who in ("2", "0") for how in HOW]

Cell = tuple[str, str, str]  # under which launcher, who, how


def fail_within(folder: Path, who: str, how: str, *, outside: bool = False) -> Ended:
    """The fault comes in the 40th mini-batch, or with the third event."""
    at = 3 if who == "launcher" else 40
    return FaultyRun(folder, f"{who}|{how}|{at}", outside=outside, deadline=DEADLINE).end()


def fail_from_outside(folder: Path, who: str, how: str) -> Ended:
    run = FaultyRun(folder, deadline=DEADLINE)
    run.trains()
    pid = run.victims()[who]
    run.noted()
    os.kill(pid, getattr(signal, how))
    return run.end()


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[Cell, Future[Ended]]:
    """All cells, a few at a time: most of their time is waiting."""
    folder = tmp_path_factory.mktemp("cells")
    todo: dict[Cell, Callable[[Path], Ended]] = {}
    for who, how in FROM_WITHIN:
        todo["fdtrain", who, how] = lambda path, who=who, how=how: fail_within(path, who, how)  # type: ignore[misc]
    for who, how in FROM_OUTSIDE:
        todo["fdtrain", who, how] = lambda path, who=who, how=how: fail_from_outside(path, who, how)  # type: ignore[misc]
    for who, how in UNDER_MPIRUN:
        todo["mpirun", who, how] = lambda path, who=who, how=how: fail_within(path, who, how, outside=True)  # type: ignore[misc]
    pool = ThreadPoolExecutor(4)
    found = {cell: pool.submit(run, folder / "-".join(cell)) for cell, run in todo.items()}
    pool.shutdown(wait=False)
    return found


def check(ended: Ended, how: str) -> None:
    limit = DEADLINE + 2 if how in ASLEEP else 5
    assert ended.status != 0, ended.errors
    assert ended.seconds < limit, ended
    assert 0 < ended.gone < limit + 1, ended
    assert ended.left == []
    assert ended.mapped  # otherwise the next line would say nothing
    assert ended.files == []


@pytest.mark.parametrize(("who", "how"), FROM_WITHIN)
def test_a_process_of_a_launched_job_fails(cells: dict[Cell, Future[Ended]], who: str, how: str) -> None:
    ended = cells["fdtrain", who, how].result()
    check(ended, how)
    assert "Traceback" not in ended.errors
    if who == "launcher" and how in ("SIGKILL", "SIGSEGV"):
        assert ended.errors == ""  # nobody is left to say it
        return
    assert ended.errors.count("\n") == 1, ended.errors
    (line,) = ended.lines
    if who == "launcher":
        wanted = {
            "raise": "the launching process failed: RuntimeError: the node caught fire",
            "early exit": "the launching process failed: SystemExit: 0",
            "exit 3": "the launching process failed: SystemExit: 3",
            "SIGSTOP": "is stopped: no sign of life within 4 s",
            "hang": "hangs: no sign of life within 4 s",
        }
    else:
        wanted = {
            "raise": f"rank {who} failed: RuntimeError: the node caught fire",
            "early exit": f"rank {who} failed: SystemExit: 0",
            "exit 3": f"rank {who} failed: SystemExit: 3",
            "SIGKILL": f"rank {who} was killed by SIGKILL",
            "SIGSEGV": f"rank {who} was killed by SIGSEGV",
            "SIGSTOP": f"rank {who} is stopped",
            "hang": f"rank {who} is busy in ",
        }
    assert wanted[how] in line
    if how in ASLEEP and who != "launcher":
        check_lateness(line, ended, who, how)


def check_lateness(line: str, ended: Ended, who: str, how: str) -> None:
    """What is missing is named: mini-batch, round, field and peer; and there is a file with everybody's stacks."""
    assert "within 4 s" in line or "waited 4 s" in line
    assert "mini-batch " in line
    if "no message" in line:
        assert "features of layer 1, wave" in line or "backward of layer" in line or "parameters" in line
        assert "round " in line
    stacks = Path(line.split("stacks of all ranks in ")[1].split(";")[0]).read_text()
    assert [f"rank {rank}, process" in stacks for rank in range(4)] == [True] * 4
    if how == "hang":
        assert "sitecustomize.py" in stacks
    assert stacks.count("transport/mpi.py") >= 3


@pytest.mark.parametrize(("who", "how"), FROM_OUTSIDE)
def test_mpirun_or_the_fork_server_fails(cells: dict[Cell, Future[Ended]], who: str, how: str) -> None:
    ended = cells["fdtrain", who, how].result()
    check(ended, how)
    assert ended.errors.count("\n") == 1, ended.errors
    (line,) = ended.lines
    name = "mpirun" if who == "mpirun" else "the fork server"
    assert (f"{name} was killed by SIGKILL" if how == "SIGKILL" else f"{name} is stopped or hangs") in line


@pytest.mark.parametrize(("who", "how"), UNDER_MPIRUN)
def test_a_rank_under_mpirun_fails(cells: dict[Cell, Future[Ended]], who: str, how: str) -> None:
    ended = cells["mpirun", who, how].result()
    check(ended, how)
    if how in ("SIGKILL", "SIGSEGV"):
        assert f"signal {getattr(signal, how):d}" in ended.errors  # says mpirun
        return
    (line,) = ended.lines
    assert f"rank {who} " in line
    if how in ASLEEP:
        check_lateness(line, ended, who, how)
