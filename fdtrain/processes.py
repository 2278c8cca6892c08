"""Few words about processes that the launching ones share: who ends with whom, and how one ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from fdtrain import leftovers

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_DOZE = 10_000_000  # nanoseconds
_LAUNCHERS = ("mpirun", "prterun", "prted", "orted", "orterun")  # of Open MPI
_prctl = ctypes.CDLL(None).prctl
_exit = ctypes.CDLL(None).exit


def end_with_parent(parent: int | None = None) -> bool:
    """From now on this process is killed when its parent ends, however that does; whether it is still there."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent if parent is not None else os.getppid() != 1


@contextlib.contextmanager
def dozing() -> Iterator[None]:
    """Within, short sleeps of this thread take a while longer, and so wake fewer times.

    An MPI that starts sleeps 0.1 ms between two looks for the other ranks: of a hundred, those that wait would take
    from those that are still to come much of the processor.
    """
    _prctl(_PR_SET_TIMERSLACK, _DOZE)
    try:
        yield
    finally:
        _prctl(_PR_SET_TIMERSLACK, 0)  # as it was


def leave(status: int) -> NoReturn:
    """End this process without the interpreter's own end, which takes apart, and so copies, what it shares with others.

    Unlike after ``os._exit``, C libraries have their last word: an MPI may say goodbye to its launcher only then.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _exit(status)
    raise AssertionError("exit has returned")


def kill(descriptor: int) -> None:
    """Kill the process behind a pidfd, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)


def ending(status: int) -> str:
    """How a process ended, in words, by its exit code as Python has it."""
    if status >= 0:
        return f"ended with status {status}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


def prepare_rank() -> None:
    """Before MPI starts in a process that ``mpirun`` started: it ends with that, and leaves no shared memory."""
    end_with_parent()
    local = os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")
    with contextlib.suppress(OSError):
        launcher = _ancestor(*_LAUNCHERS)
        if local is None or launcher is None:
            return
        shared = leftovers.of(leftovers.SHARED, launcher)
        for name in ("sm", "vader"):
            os.environ.setdefault(f"OMPI_MCA_btl_{name}_backing_directory", str(shared))
        if local == "0":
            leftovers.sweep(leftovers.SHARED)
            _remove_after(launcher, shared)


def _ancestor(*names: str) -> int | None:
    """The nearest process above this one with one of these names."""
    pid = os.getppid()
    while pid > 1:
        if Path(f"/proc/{pid}/comm").read_text().strip() in names:
            return pid
        pid = leftovers.parent(pid)
    return None


def _remove_after(pid: int, folder: Path) -> None:
    """Have a process of its own remove `folder` when process `pid` has ended."""
    descriptor = os.pidfd_open(pid)
    if os.fork():
        os.close(descriptor)
        return
    try:
        os.setsid()
        os.chdir("/")
        os.closerange(0, descriptor)
        os.closerange(descriptor + 1, 1024)
        select.select([descriptor], [], [])
        leftovers.remove([folder])
    finally:
        os._exit(0)
