"""Ranks that are forked from one warm process, instead of a hundred that each import everything for themselves.

``mpirun`` starts a small *stub* per rank (:mod:`fdtrain.stub`). A stub hands its environment and its open files to this
server, which forks the rank; the rank speaks to the MPI launcher in the stub's name. Two things are gained in a pure
run on one machine: starting takes a fork and not a second of imports, and ranks share in memory what they do not write,
which is most of what a round of training reads; 100 ranks otherwise drive each other out of the processor's cache.

Nobody outlives anybody: the server kills a rank whose stub is gone, ranks die with the server, and the server ends
when its standard input is closed, at the latest by the end of the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

MAX_HEADER = 1 << 20  # bytes; an environment is far smaller
MAX_FILES = 250
_PR_SET_PDEATHSIG = 1


class Server:
    """Listens on a socket for stubs, forks their ranks, tells them how the ranks ended."""

    def __init__(self, address: Path) -> None:
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen(4096)
        self._stubs: dict[int, socket.socket] = {}  # by the rank's pid
        self._wakeup, wakeup_end = socket.socketpair()
        wakeup_end.setblocking(False)
        self._wakeup.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        self._wakeup_end = wakeup_end

    def serve(self) -> None:
        """Serve until standard input is closed."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)
        self._selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd == 0:
                    if not os.read(0, 4096):
                        return
                else:
                    key.data()

    def _accept(self) -> None:
        stub, _ = self._listener.accept()
        stub.settimeout(10.0)
        files: list[int] = []
        try:
            header, files, _, _ = socket.recv_fds(stub, MAX_HEADER, MAX_FILES)
            while not header.endswith(b"\n"):
                part = stub.recv(MAX_HEADER)
                if not part:
                    raise ConnectionError
                header += part
        except OSError:  # the stub was killed before it had said all
            for file in files:
                os.close(file)
            stub.close()
            return
        request = json.loads(header)
        pid = os.fork()
        if pid == 0:
            stub.close()  # by number it would be closed again, when another file has the number
            self._become(request, files)
        for file in files:
            os.close(file)
        self._stubs[pid] = stub
        self._selector.register(stub, selectors.EVENT_READ, partial(self._hear, pid, stub))

    def _become(self, request: Mapping[str, Any], files: list[int]) -> NoReturn:
        """In the forked process: be the rank that the stub stands for.

        It leaves by an ordinary exit, and not ``os._exit``, since an MPI may say goodbye to its launcher only then.
        """
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            sys.exit(1)  # the server is gone already
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._selector.close()
        for end in (self._listener, self._wakeup, self._wakeup_end, *self._stubs.values()):
            end.close()
        _place(files, request["files"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        os.umask(request["umask"])
        os.sched_setaffinity(0, request["processors"])
        sys.argv = ["fdtrain", *request["arguments"]]
        sys.exit(_run_rank(request["arguments"]))

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
        if pid in self._stubs:
            for number in heard or [signal.SIGKILL]:
                os.kill(pid, number)

    def _reap(self) -> None:
        self._wakeup.recv(4096)
        while self._stubs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            stub = self._stubs.pop(pid, None)
            if stub is not None and stub.fileno() >= 0:
                self._selector.unregister(stub)
                with contextlib.suppress(OSError):  # killed meanwhile
                    stub.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                stub.close()


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

    MPI.Init()
    try:
        return main(arguments)
    finally:
        MPI.Finalize()


def main(address: str) -> int:
    """Import what ranks need, without starting MPI; then serve."""
    import mpi4py

    mpi4py.rc.initialize = False
    import fdtrain.bench_orders
    import fdtrain.optim.dsgd
    import fdtrain.worker  # noqa: F401

    server = Server(Path(address))
    gc.collect()
    gc.freeze()  # a collection would write to, and so copy, what is shared
    print("ready", flush=True)
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
