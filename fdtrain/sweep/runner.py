"""Runs the points of a sweep as processes of their own, some at a time; whatever happens, none is left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from fdtrain import launcher
from fdtrain.driver import Quiet
from fdtrain.errors import RunFailedError
from fdtrain.jobs import EVENTS_VARIABLE
from fdtrain.minibatches import MinibatchRow
from fdtrain.outputs import writing
from fdtrain.progress import replay
from fdtrain.rundir import is_complete
from fdtrain.service import EpochRow
from fdtrain.sweep.plan import Point
from fdtrain.sweep.table import failure_file

TURN = 0.25  # seconds between two looks at the clock
GRACE = 15.0  # seconds that a run has to end in; a job of several ranks stops its ranks first


class Progress(Quiet):
    """How far a run is, from its events."""

    def __init__(self) -> None:
        self.epochs = 0
        self.row: EpochRow | None = None
        self._minibatch = self._per_epoch = 0

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None:
        self.epochs, self._per_epoch = epochs, minibatches

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        self._minibatch = rows[-1].minibatch if rows else self._minibatch

    def epoch(self, row: EpochRow) -> None:
        self.row = row

    @property
    def fraction(self) -> float:
        """The part of the epochs that is done."""
        done = 0.0 if self.row is None else float(self.row.epoch)
        if self._per_epoch:
            done = max(done, self._minibatch / self._per_epoch)
        return done / self.epochs if self.epochs else 0.0

    @property
    def position(self) -> str:
        """How far that is, in a line; empty before the first news."""
        epoch = 0 if self.row is None else self.row.epoch
        within = self._minibatch - epoch * self._per_epoch
        if within > 0:
            return f"epoch {epoch + 1}/{self.epochs}, mini-batch {within:,} of {self._per_epoch:,}"
        return f"epoch {epoch}/{self.epochs}" if epoch else ""


class Running:
    """A point's process."""

    def __init__(self, point: Point, out: Path, ranks: int, options: Sequence[str] = ()) -> None:
        self.point = point
        self.progress = Progress()
        self.since = time.monotonic()
        self._out = out
        self._message: str | None = None
        self._rest = b""
        directory = out / point.directory
        settings = out / "configs" / f"{directory.name}.yaml"
        with writing(f"--out {out}"):
            settings.write_text(point.text, encoding="utf-8")
            if directory.is_dir():  # of a run that did not get to its end, perhaps not even to this file
                (directory / "config.yaml").touch()
            failure_file(out, point).unlink(missing_ok=True)
        arguments = ["run", str(settings), "--ranks", str(ranks), "--out", str(directory), *options]
        # -P: no module comes from the directory that the user happens to be in.
        command = [sys.executable, "-P", "-m", "fdtrain.sweep.child", str(os.getpid()), *arguments]
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
            self.process = subprocess.Popen(
                [*command, "--overwrite", "--no-figures"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True,
                env={**os.environ, EVENTS_VARIABLE: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        except OSError as error:
            problem = error.strerror or error
            raise RunFailedError(f"{point.title}: its process cannot be started: {problem}") from None
        assert self.process.stdout is not None
        self.stream = self.process.stdout

    def read(self) -> bool:
        """Take in what the run says, once it says something; False when it has ended."""
        chunk = os.read(self.stream.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._message = replay(line.decode(errors="replace"), self.progress) or self._message
        return bool(chunk)

    def finish(self) -> str | None:
        """Wait for the end; why the run failed, on one line, or None where it is complete."""
        status = self.process.wait()
        self.signal(signal.SIGKILL)  # whatever it left behind
        complete = status == 0 and is_complete(self._out / self.point.directory)
        said = self._said()
        self.close()
        if complete:
            return None
        reason = " ".join((self._message or _reason(status, said)).split())
        file = failure_file(self._out, self.point)
        with writing(f"--out {self._out}"):
            file.write_text(f"{reason}\n\n{said}" if said else f"{reason}\n", encoding="utf-8")
        return reason

    def signal(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        self.stream.close()
        self._errors.close()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")


def _reason(status: int, said: str) -> str:
    """The most telling line of what a failed process wrote."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return lines[-1] if lines else f"ended with status {status} and no result"


class View:
    """Watches a sweep; shows nothing."""

    def began(self, point: Point) -> None:
        """A run starts."""

    def ended(self, running: Running, reason: str | None) -> None:
        """A run has ended; `reason` is why it failed."""

    def turn(self, running: Sequence[Running]) -> None:
        """Some time went by."""


def run_points(
    points: Sequence[Point],
    out: Path,
    *,
    jobs: int,
    ranks: int,
    view: View,
    on_end: Callable[[], None],
    options: Sequence[str] = (),
) -> None:
    """Run `points`, `jobs` at a time on `ranks` ranks each; `on_end` is called whenever one has ended.

    `options` are handed to every ``fdtrain run``. A centralized run has one rank. When this is interrupted, the runs
    are ended, and nothing is said about them.

    Raises:
        InputError: `out` cannot be written to.
        RunFailedError: a process cannot be started.
    """
    waiting, running = deque(points), list[Running]()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    point = waiting.popleft()
                    count = 1 if _is_centralized(point) else ranks
                    running.append(Running(point, out, count, options))
                    selector.register(running[-1].stream, selectors.EVENT_READ, running[-1])
                    view.began(point)
                for key, _ in selector.select(TURN):
                    one: Running = key.data
                    if not one.read():
                        selector.unregister(one.stream)
                        running.remove(one)
                        reason = one.finish()
                        on_end()
                        view.ended(one, reason)
                view.turn(running)
        finally:
            _stop(running)


def _is_centralized(point: Point) -> bool:
    return point.config is not None and point.config.training.mode == "centralized"


def _stop(running: Sequence[Running]) -> None:
    """End what runs; at once what does not want to, or when this is interrupted again."""
    deadline = time.monotonic() + GRACE
    try:
        for one in running:
            one.signal(signal.SIGTERM)
        for one in running:
            one.process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for one in running:
            one.signal(signal.SIGKILL)
            one.process.wait()
            one.close()


def default_jobs(ranks: int) -> int:
    """As many runs at a time as there are cores for."""
    return max(1, launcher.available_cores() // ranks)
