"""On which ranks a command's work is done: those of an MPI job there is, this process, or an MPI job started for it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import typer

from fdtrain import launcher, stopping
from fdtrain.config import Config
from fdtrain.driver import Observer
from fdtrain.errors import CrashError, InputError, RunFailedError, StoppedError
from fdtrain.mpi_job import Job
from fdtrain.processes import ending
from fdtrain.progress import Display, Events, make_console, replay
from fdtrain.team import Team, in_threads

EVENTS_VARIABLE = "FDTRAIN_EVENTS"  # set by the launching process: report to it, do not draw or summarize
LAUNCHED_VARIABLE = "FDTRAIN_LAUNCHED"  # when the launching process started, seconds since the epoch
IMPORTED = time.time()
_LEAVING = (129, 130, 143)  # exit statuses of a process that a signal asked to leave


def reports_to_launcher() -> bool:
    """Whether this is rank 0 of a job whose launching process shows what happens."""
    return bool(os.environ.get(EVENTS_VARIABLE))


def launched_at() -> float:
    """When the command was given, a ``time.time()``."""
    return float(os.environ.get(LAUNCHED_VARIABLE, IMPORTED))


class Sized(Protocol):
    """Work for the nodes of a network."""

    @property
    def nodes(self) -> int:
        """|V|."""

    @property
    def config(self) -> Config:
        """What it does."""


def count_ranks(ranks: str, experiment: Sized, team: Team | None) -> int:
    """The number of ranks that ``--ranks`` asks for; under a launcher, the number it started."""
    nodes, centralized = experiment.nodes, experiment.config.training.mode == "centralized"
    if team is not None:
        count, asked = team.size, f"{team.size} processes were started"
        if _is_number(ranks) and int(ranks) != count:
            raise InputError(f"--ranks: {ranks}, but {asked}; leave --ranks out under a launcher")
    elif ranks in ("auto", "pure"):
        count, asked = (
            (nodes if ranks == "pure" else min(launcher.available_cores(), nodes)),
            f"--ranks {ranks}",
        )
        if ranks == "auto" and (centralized or not launcher.has_mpi()):
            count = 1
    elif _is_number(ranks) and int(ranks) >= 1:
        count, asked = int(ranks), f"--ranks {ranks}"
    else:
        raise InputError(f"--ranks: must be a number ≥ 1, 'pure' or 'auto', found '{ranks}'")
    if count > nodes:
        raise InputError(
            f"{asked}, but the network has only {nodes} node{'s' * (nodes != 1)}; use at most {nodes}"
        )
    if centralized and count > 1:
        raise InputError(f"{asked}, but training.mode: centralized runs in one process; use --ranks 1")
    if count > 1 and team is None:
        launcher.find_mpirun()
    return count


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", text) is not None


def repeated(context: typer.Context, **changed: Any) -> list[str]:
    """The arguments with which rank 0 of an MPI job repeats a command: without what is this process's business.

    `changed`: values of parameters other than those that were given.
    """
    positional, options = [context.command.name or ""], list[str]()
    values = {**context.params, "ranks": None, "figures": None, "max_restarts": None, **changed}
    for parameter in context.command.params:
        match values[parameter.name or ""]:
            case None:
                pass
            case bool(given):
                options += parameter.opts if given else parameter.secondary_opts
            case list() | tuple() as given:
                positional += [str(part) for part in given]
            case given if parameter.param_type_name == "argument":
                positional.append(str(given))
            case given:
                options += [parameter.opts[0], str(given)]
    return [positional[0], *options, "--", *positional[1:]]


def on_ranks(
    count: int,
    team: Team | None,
    arguments: list[str],
    logs: Path | None,
    work: Callable[[Team, Observer], None],
    *,
    stoppable: bool = False,
    apart: bool = False,
) -> None:
    """Do `work` on rank 0: of the team there is, of this process alone, or of an MPI job that is started for it.

    Args:
        count: ranks.
        team: those that were started already.
        arguments: the command with which rank 0 of an MPI job comes here again.
        logs: where the ranks write theirs.
        work: what is to be done.
        stoppable: whether the work looks for a wish to stop (:mod:`fdtrain.stopping`), and ends by itself.
        apart: whether one rank is an MPI job, too.

    Raises:
        InputError, VerificationError, DivergenceError, RunFailedError: whatever ended the work.
        StoppedError: a signal did.
        CrashError: a process of the MPI job failed.
    """
    # Open MPI gives rank 0 a terminal of its own, which is not the user's.
    display = Display(make_console(plain=team is not None))
    observer: Observer = Events(sys.stdout) if reports_to_launcher() else display
    if team is not None:
        work(team, observer)
        return
    if count > 1 or apart:
        exit_on_signals()
    with stopping.listening() if stoppable else contextlib.nullcontext():
        try:
            if count > 1 or apart:
                _launch(count, arguments, logs, observer)
            else:
                in_threads(1, lambda alone: work(alone, observer))
        finally:
            observer.finished()


def _launch(count: int, arguments: list[str], logs: Path | None, observer: Observer) -> None:
    """Start the MPI job, show what it reports, and end as it ended."""
    reporting = {EVENTS_VARIABLE: "1", LAUNCHED_VARIABLE: str(IMPORTED)}
    message, cause = None, None
    with Job(count, arguments, reporting) as job:
        try:
            for line in job.lines():
                message = replay(line, observer) or message
        except CrashError as error:
            cause = str(error)
        except (RunFailedError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if isinstance(error, SystemExit) and error.code in _LEAVING:
                raise
            raise RunFailedError(f"the launching process failed: {_explain(error, logs)}") from error
        status = 1 if cause else job.status
        if status == 0 and message is None:
            return
        if message is not None:
            raise _as_error(message, status)
        raise _as_crash(job, status, cause, logs)


def _as_error(message: str, status: int) -> Exception:
    """What rank 0 has said before it ended."""
    if status == 2:
        return InputError(message)
    number = stopping.requested()
    if not number and status in (130, 143):  # a signal that did not come through this process
        number = signal.SIGINT if status == 130 else signal.SIGTERM
    if not number:
        return RunFailedError(message)
    told = signal.SIGUSR1.name  # whatever this process was told, ranks are asked by that
    return StoppedError(message.replace(told, signal.Signals(number).name, 1), number)


def _as_crash(job: Job, status: int, cause: str | None, logs: Path | None) -> Exception:
    """Why a job ended without a word of rank 0: what a rank said, or what was seen from outside."""
    text = job.log.read_text(encoding="utf-8", errors="replace")
    where = ""
    if logs is not None and logs.is_dir():
        (logs / "mpirun.log").write_text(text, encoding="utf-8")
        where = f"; what mpirun said is in {logs / 'mpirun.log'}"
    lines = [line.strip(" \t\0") for line in text.splitlines()]  # mpirun puts something before some
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return InputError(said[0]) if status == 2 else CrashError(said[0])
    if cause is None and status < 0:
        cause = f"mpirun {ending(status)}"
    cause = cause or job.first_failure or f"the MPI job ended with status {status}"
    if not where:
        sys.stderr.write(text)
    return CrashError(f"{cause}{where}")


def _explain(error: BaseException, logs: Path | None) -> str:
    """An error in a line, and where its traceback is."""
    reason = " ".join("".join(traceback.format_exception_only(error)).split())
    text = "".join(traceback.format_exception(error))
    if logs is None or not logs.is_dir():
        sys.stderr.write(text)
        return reason
    (logs / "launcher.log").write_text(text, encoding="utf-8")
    return f"{reason}; traceback in {logs / 'launcher.log'}"


def exit_on_signals() -> None:
    """From now on SIGTERM and SIGHUP end this process by way of what cleans up."""

    def leave(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # by nohup
        signal.signal(signal.SIGHUP, leave)
