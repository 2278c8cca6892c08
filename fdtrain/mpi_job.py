"""An MPI job on this machine, and the watch over it: whoever fails, nothing hangs and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from fdtrain import leftovers, limits, stopping
from fdtrain.errors import CrashError, InputError, StoppedError
from fdtrain.launcher import INSTALL_HINT, find_mpirun, rank_environment
from fdtrain.processes import end_with_parent, ending

_MAX_ADDRESS = 107  # bytes of a socket's path
_LAST_WAIT = 4.0  # seconds for what was killed or told to end
_STRAGGLING = 3.0  # seconds at least between the ends of two ranks, or of all and mpirun


class Job:
    """``mpirun``, and the fork server that its ranks come from. A context: all of it is gone when that is left."""

    def __init__(self, ranks: int, command: Sequence[str], extra: Mapping[str, str]) -> None:
        """Start ``mpirun -n ranks fdtrain command``; standard errors go to :attr:`log`.

        Raises:
            InputError: there is no MPI, or a limit in the environment is none.
            CrashError: the fork server does not start.
        """
        mpirun = find_mpirun()
        self.ranks, self.deadline, self._grace = ranks, limits.deadline(), limits.grace()
        self._tick = min(1.0, self.deadline / 8)
        self._folders: list[Path] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._mpirun: subprocess.Popen[bytes] | None = None
        self._selector = selectors.DefaultSelector()
        self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ends: list[tuple[int, int]] = []  # the ranks that ended, in their order, and how
        self._asked_at: float | None = None  # when ranks were asked to stop
        self._heard, self._last = b"", time.monotonic()
        self._silent = {"the fork server": 0.0, "mpirun": 0.0, "straggling": 0.0}  # seconds
        try:
            scratch, folders = self._make_folders()
            self.log = scratch / "mpirun.log"
            environment = {**folders, **rank_environment(ranks), **extra}
            address = scratch / "ranks"
            if len(os.fsencode(address)) > _MAX_ADDRESS:
                raise InputError(
                    f"TMPDIR: the path of a temporary directory is too long: {scratch}; set a shorter one"
                )
            self._start(mpirun, address, command, environment)
        except BaseException:
            self.end()
            raise

    def _make_folders(self) -> tuple[Path, dict[str, str]]:
        """The folder for the job's files, and what tells the MPI to use it, and one for shared memory."""
        try:
            temporary = Path(tempfile.gettempdir())
        except OSError as error:
            raise InputError(f"TMPDIR: {error.strerror}; name a folder that can be written") from None
        leftovers.sweep(temporary, leftovers.SHARED)
        scratch = leftovers.make(temporary)
        self._folders.append(scratch)
        found = {"PRTE_MCA_prte_tmpdir_base": str(scratch), "OMPI_MCA_orte_tmpdir_base": str(scratch)}
        with contextlib.suppress(OSError):
            shared = leftovers.make(leftovers.SHARED)
            self._folders.append(shared)
            found |= {f"OMPI_MCA_btl_{name}_backing_directory": str(shared) for name in ("sm", "vader")}
        return scratch, found

    def _start(
        self, mpirun: str, address: Path, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        # Groups keep a terminal's Ctrl-C from ranks. Sessions would, too, but Linux schedules those apart: stubs and
        # ranks in two of them, 100 ranks take minutes to start.
        errors_of_user = os.dup(2)
        watch = [os.getpid(), self.deadline, [str(folder) for folder in self._folders], errors_of_user]
        with self.log.open("w", encoding="utf-8") as errors:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "fdtrain.forkserver", str(address), json.dumps(watch)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                bufsize=0, pass_fds=[errors_of_user], process_group=0,
            )  # fmt: skip
            os.close(errors_of_user)
            assert self._server.stdin is not None
            assert self._server.stdout is not None
            os.set_blocking(self._server.stdin.fileno(), False)
            self._selector.register(self._server.stdout, selectors.EVENT_READ)
            self._await_server()
            parent = os.getpid()
            stub = [sys.executable, "-I", "-S", str(Path(__file__).with_name("stub.py")), str(address)]
            self._mpirun = subprocess.Popen(
                [mpirun, "-n", str(self.ranks), *stub, *command],
                stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, env=environment,
                bufsize=0, process_group=0,
                preexec_fn=lambda: end_with_parent(parent) or os._exit(1),
            )  # fmt: skip
        assert self._mpirun.stdout is not None
        self._selector.register(self._mpirun.stdout, selectors.EVENT_READ)
        self._selector.register(self._wakeup[0], selectors.EVENT_READ)
        self._tell(f"mpirun {self._mpirun.pid}")

    def _await_server(self) -> None:
        assert self._server is not None
        assert self._server.stdout is not None
        if not self._selector.select(self.deadline):
            raise CrashError(f"the fork server did not start within {self.deadline:g} s")
        if self._server.stdout.read(6) != b"ready\n":
            self._wait_for(self._server)
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = said[-1] if said else "no message"
            raise InputError(f"--ranks: the MPI library cannot be loaded: {why}; {INSTALL_HINT}")

    def __enter__(self) -> Job:
        self._handlers = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        self._suspending = signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(self, *error: object) -> None:
        signal.set_wakeup_fd(self._handlers)
        signal.signal(signal.SIGTSTP, self._suspending)
        self.end()

    def lines(self) -> Iterator[str]:
        """What rank 0 writes, line by line, until the job has ended; between them the job is watched.

        Raises:
            CrashError: a process that is not a rank failed, or a rank left without a word.
            StoppedError: the job was asked to stop, and did not within the grace time.
        """
        assert self._mpirun is not None
        assert self._mpirun.stdout is not None
        output, rest, is_open = self._mpirun.stdout, b"", True
        while is_open or self._mpirun.poll() is None:
            part = b""
            for key, _ in self._selector.select(self._tick if is_open else 0.05):
                if key.fileobj is output:
                    part = os.read(key.fd, 65536)
                    is_open = bool(part)
                    if not is_open:
                        self._selector.unregister(output)
                elif key.fd == self._wakeup[0]:
                    os.read(key.fd, 4096)
                else:
                    self._hear(os.read(key.fd, 65536))
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
            self._look_after(is_open)
            if not part and self._mpirun.poll() is not None:
                break
        if is_open:  # what it wrote since it was looked for
            rest += _left_in(output.fileno())
        for line in rest.split(b"\n")[:-1]:
            yield line.decode(errors="replace")

    @property
    def status(self) -> int:
        """``mpirun``'s exit status."""
        assert self._mpirun is not None
        return self._wait_for(self._mpirun)

    @property
    def first_failure(self) -> str | None:
        """Which rank ended otherwise than with status 0 before all others, and how; or left them before that."""
        found = next(((rank, code) for rank, code in self._ends if code), None)
        if found is None:
            return None
        rank, code = self._ends[0]
        return (
            f"rank {rank} left the others, with status 0"
            if code == 0
            else f"rank {found[0]} {ending(found[1])}"
        )

    def _hear(self, part: bytes) -> None:
        """What the fork server says."""
        assert self._server is not None
        if not part:
            raise CrashError(f"the fork server {ending(self._wait_for(self._server))}")
        *lines, self._heard = (self._heard + part).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["alive"]:
                    self._silent["the fork server"] = 0.0
                case ["ended", rank, code]:
                    self._ends.append((int(rank), int(code)))
                    self._silent["straggling"] = 0.0

    def _look_after(self, is_open: bool) -> None:
        """Every now and then: signs of life, from this process and of the others; and signals."""
        self._pass_on_signals()
        now = time.monotonic()
        if now - self._last < self._tick:
            return
        passed = min(now - self._last, 2 * self._tick)  # a process that was stopped was not waiting
        self._last = now
        self._tell("alive")
        assert self._mpirun is not None
        is_stopped = leftovers.state(self._mpirun.pid) == "T"
        self._silent["mpirun"] = self._silent["mpirun"] + passed if is_stopped else 0.0
        self._silent["the fork server"] += passed
        for who, seconds in self._silent.items():
            if who != "straggling" and seconds > self.deadline:
                raise CrashError(f"{who} is stopped or hangs: no sign of life within {self.deadline:g} s")
        if self._ends or not is_open:
            self._silent["straggling"] += passed
        if self._silent["straggling"] > max(_STRAGGLING, self.deadline / 10) and self._mpirun.poll() is None:
            if len(self._ends) == self.ranks:
                raise CrashError(f"mpirun does not end after its {self.ranks} ranks")
            rank, code = self._ends[0] if self._ends else (0, 0)
            raise CrashError(f"rank {rank} {ending(code)}, and others went on")

    def _pass_on_signals(self) -> None:
        number = stopping.requested()
        if number and self._asked_at is None:
            self._asked_at = time.monotonic()
            self._tell(f"signal {number}")
        if self._asked_at is not None and time.monotonic() - self._asked_at > self._grace:
            name = signal.Signals(number).name
            raise StoppedError(
                f"stopped by {name}: the ranks did not end within {self._grace:g} s ({limits.GRACE}), and were killed",
                number,
            )

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the ranks are suspended with this process."""
        self._tell(f"pause {24 * 3600}")
        os.kill(os.getpid(), signal.SIGSTOP)
        self._tell("resume")

    def _tell(self, line: str) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        with contextlib.suppress(OSError):  # gone, or stopped with a full pipe: it does not answer either
            self._server.stdin.write(f"{line}\n".encode())

    def end(self) -> None:
        """End what is left of the job, and remove what it leaves behind. Nothing here waits for long."""
        server, mpirun = self._server, self._mpirun
        if mpirun is not None and mpirun.poll() is None:
            mpirun.kill()
        if server is not None:
            if self._silent["the fork server"] > self.deadline:
                server.kill()
            assert server.stdin is not None
            with contextlib.suppress(OSError):
                server.stdin.close()
            self._wait_for(server)
        for process in (server, mpirun):
            if process is not None:
                self._wait_for(process)
                assert process.stdout is not None
                process.stdout.close()
        leftovers.remove(self._folders)
        self._selector.close()
        for end in self._wakeup:
            with contextlib.suppress(OSError):
                os.close(end)
        self._folders = []

    @staticmethod
    def _wait_for(process: subprocess.Popen[Any]) -> int:
        """Wait for a process that was told to end, and kill it if it does not."""
        try:
            return process.wait(timeout=_LAST_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _left_in(pipe: int) -> bytes:
    """What can be read from a pipe without waiting."""
    os.set_blocking(pipe, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(pipe, 65536):
            found += part
    return found
