"""Ranks that are forked from one warm process, instead of a hundred that each import everything for themselves.

``mpirun`` starts a small *stub* per rank (:mod:`fdtrain.stub`). A stub hands its environment and its open files to this
server, which forks the rank; the rank speaks to the MPI launcher in the stub's name. Two things are gained in a pure
run on one machine: starting takes a fork and not a second of imports, and ranks share in memory what they do not write,
which is most of what a round of training reads; 100 ranks otherwise drive each other out of the processor's cache.

Nobody outlives anybody. The server kills a rank whose stub is gone, and ranks die with the server. The launching
process and the server exchange signs of life; when the other one's do not come any more, or its end of the pipe is
closed, each of them ends the whole job, and removes what it leaves behind.
"""

from __future__ import annotations

import contextlib
import gc
import json
import marshal
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from fdtrain import leftovers, limits, stopping
from fdtrain.launcher import launched_rank
from fdtrain.processes import dozing, end_with_parent, kill, leave

MAX_HEADER = 1 << 20  # bytes; an environment is far smaller
MAX_FILES = 250
WARM = (
    "fdtrain.worker",
    "fdtrain.bench_orders",
    "fdtrain.compiled",
    "fdtrain.layers.gcnn",
    "fdtrain.optim.dsgd",
    "numpy.ma",  # by np.unique
)
PREPARATIONS = ("fdtrain.kernels.loop:warm",)  # "module:function" of what else to do before there are ranks
_SIZE = 4  # bytes of the length before what a stub says
_SLOW = 60.0  # seconds for a stub to say what it wants, on a machine that has far too much to do
_LAST_WAIT = 2.0  # seconds for those that were killed to be gone


class Watch(NamedTuple):
    """What the server has to know to end a job by itself."""

    launcher: int  # pid
    deadline: float  # seconds without a sign of life
    folders: Sequence[str]  # to be removed at the end
    errors: int  # a file, where the user sees what is written


class _Rank(NamedTuple):
    number: int
    stub: socket.socket
    stub_pid: int


class Server:
    """Listens on a socket for stubs, forks their ranks, tells them how the ranks ended."""

    def __init__(self, address: Path, watch: Watch | None = None) -> None:
        self._pid = os.getpid()
        self._watch = watch
        self._launcher = None if watch is None else os.pidfd_open(watch.launcher)
        self._mpirun: int | None = None
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen(4096)
        self._ranks: dict[int, _Rank] = {}  # by pid
        self._segments: set[Path] = set()
        self._has_failed = False  # a rank did
        self._asked = 0  # the signal that ranks were sent
        self._heard = b""
        self._silent = 0.0  # seconds since the last sign of life
        self._wakeup, wakeup_end = socket.socketpair()
        wakeup_end.setblocking(False)
        self._wakeup.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)  # the launching process gets them as well
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        self._wakeup_end = wakeup_end

    def serve(self) -> None:
        """Serve until standard input is closed, or has been silent for too long; then end what is left of the job."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)
        self._selector.register(0, selectors.EVENT_READ)
        tick = None if self._watch is None else min(1.0, self._watch.deadline / 8)
        last, is_open = time.monotonic(), True
        while is_open and not self._is_left():
            for key, _ in self._selector.select(tick):
                if key.fd == 0:
                    is_open = self._obey(os.read(0, 4096))
                else:
                    key.data()
            now = time.monotonic()
            self._silent += min(now - last, 2 * (tick or 1.0))  # a process that was stopped was not waiting
            last = now
        self._finish()

    def _is_left(self) -> bool:
        """Whether the launching process has been silent for too long: stopped, or caught in something."""
        watch = self._watch
        if watch is None or self._silent <= watch.deadline or self._launcher is None:
            return False
        is_stopped = leftovers.state(watch.launcher) == "T"
        kill(self._launcher)
        told = f"error: the launching process, {watch.launcher}, {'is stopped' if is_stopped else 'hangs'}: "
        told += f"no sign of life within {watch.deadline:g} s; the job was ended\n"
        with contextlib.suppress(OSError):
            os.write(watch.errors, told.encode())
        return True

    def _obey(self, part: bytes) -> bool:
        """Do what the launching process says, a line each; False: it is gone, or needs nothing more."""
        self._silent = 0.0
        *lines, self._heard = (self._heard + part).split(b"\n")
        for line in lines:
            match line.decode().split():
                case ["alive"]:
                    self._say("alive")
                case ["mpirun", pid]:
                    with contextlib.suppress(ProcessLookupError):
                        self._mpirun = os.pidfd_open(int(pid))
                case ["signal", number]:
                    self._asked = int(number)
                    self._signal_ranks(self._asked)
                case ["pause", seconds]:
                    self._signal_ranks(signal.SIGSTOP)
                    self._silent = -float(seconds)
                case ["resume"]:
                    self._signal_ranks(signal.SIGCONT)
        return bool(part)

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # standard input will tell
            os.write(1, f"{line}\n".encode())

    def _signal_ranks(self, number: int) -> None:
        for pid in self._ranks:
            os.kill(pid, number)

    def _finish(self) -> None:
        """Kill whatever of the job is still there, and remove what it leaves behind."""
        self._segments |= leftovers.segments(self._ranks)
        for pid, rank in self._ranks.items():
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # it is connected, so its number is its own
                os.kill(rank.stub_pid, signal.SIGKILL)
        if self._mpirun is not None:
            kill(self._mpirun)
        end = time.monotonic() + _LAST_WAIT
        while self._ranks and time.monotonic() < end:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._ranks.pop(pid, None)
            else:
                time.sleep(0.01)
        if self._watch is not None:
            leftovers.remove(Path(folder) for folder in self._watch.folders)
        for segment in self._segments:
            with contextlib.suppress(OSError):
                segment.unlink()

    def _accept(self) -> None:
        stub, _ = self._listener.accept()
        stub.settimeout(_SLOW)
        files: list[int] = []
        try:
            header, files, _, _ = socket.recv_fds(stub, MAX_HEADER, MAX_FILES)
            while len(header) < _SIZE or len(header) < _SIZE + int.from_bytes(header[:_SIZE], sys.byteorder):
                part = stub.recv(MAX_HEADER)
                if not part:
                    raise ConnectionError
                header += part
        except OSError:  # the stub was killed before it had said all
            for file in files:
                os.close(file)
            stub.close()
            return
        request = marshal.loads(header[_SIZE:])
        pid = os.fork()
        if pid == 0:
            stub.close()  # by number it would be closed again, when another file has the number
            self._become(request, files)
        for file in files:
            os.close(file)
        self._ranks[pid] = _Rank(launched_rank(request["environment"]), stub, _peer(stub))
        self._selector.register(stub, selectors.EVENT_READ, partial(self._hear, pid, stub))

    def _become(self, request: Mapping[str, Any], files: list[int]) -> NoReturn:
        """In the forked process: be the rank that the stub stands for."""
        if not end_with_parent(self._pid):
            sys.exit(1)  # the server is gone already
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["arguments"][:1] == ["run"]:
            stopping.install(second_ends=False)
        if self._asked:
            os.kill(os.getpid(), self._asked)
        self._selector.close()
        for end in (self._listener, self._wakeup, self._wakeup_end, *(r.stub for r in self._ranks.values())):
            end.close()
        _place(files, request["files"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        os.umask(request["umask"])
        os.sched_setaffinity(0, request["processors"])
        sys.argv = ["fdtrain", *request["arguments"]]
        status = _run_rank(request["arguments"])
        if launched_rank() > 0:
            leave(status)
        sys.exit(status)

    def _hear(self, pid: int, stub: socket.socket) -> None:
        """A stub forwards signals, a byte each; when it is gone, its rank has to go as well."""
        if stub.fileno() < 0:  # its rank has ended in this same moment
            return
        try:
            heard = stub.recv(64)
        except OSError:
            heard = b""
        if not heard:
            self._selector.unregister(stub)
            stub.close()
        if pid in self._ranks:
            for number in heard or [signal.SIGKILL]:
                os.kill(pid, number)

    def _reap(self) -> None:
        self._wakeup.recv(4096)
        while self._ranks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            rank = self._ranks.pop(pid, None)
            if rank is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code and not self._has_failed:  # the others still have the shared memory mapped
                self._has_failed = True
                self._segments |= leftovers.segments(self._ranks)
            self._say(f"ended {rank.number} {code}")
            if rank.stub.fileno() >= 0:
                self._selector.unregister(rank.stub)
                with contextlib.suppress(OSError):  # killed meanwhile
                    rank.stub.sendall(f"{code}\n".encode())
                rank.stub.close()


def _peer(stub: socket.socket) -> int:
    """The process at the other end."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", stub.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])


def _place(received: list[int], wanted: list[int]) -> None:
    """Give the received files the numbers that they had in the stub, and close whatever else is open."""
    limit = max([*received, *wanted]) + 1
    high = [os.dup2(file, limit + k) for k, file in enumerate(received)]
    os.closerange(0, limit)
    for file, number in zip(high, wanted, strict=True):
        os.dup2(file, number)
    os.closerange(limit, limit + len(high))


def _run_rank(arguments: list[str]) -> int:
    from mpi4py import MPI

    from fdtrain.worker import main

    limits.limit_start()
    with dozing():
        MPI.Init()
    try:
        return main(arguments)
    finally:
        MPI.Finalize()


def warm() -> None:
    """Import and prepare what every rank needs, so that none of them has to: once, instead of a hundred times."""
    for name in WARM:
        import_module(name)
    for prepare in PREPARATIONS:
        module, function = prepare.split(":")
        getattr(import_module(module), function)()


def main(address: str, watch: str) -> int:
    """Import what ranks need, without starting MPI; then serve. `watch`: a :class:`Watch`, as JSON."""
    import mpi4py

    mpi4py.rc.initialize = False
    warm()
    server = Server(Path(address), Watch(*json.loads(watch)))
    gc.collect()
    gc.freeze()  # a collection would write to, and so copy, what is shared
    os.write(1, b"ready\n")
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
