"""Messages over MPI: nonblocking point-to-point on one communicator, control on another. Imports mpi4py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mpi4py import MPI

from fdtrain.errors import MessageTimeoutError
from fdtrain.transport.base import Message

TAG_LIMIT = 32_768  # every MPI supports tags up to 32767
_PATIENCE = 2_000  # polls between two looks at the clock


class MpiTransport:
    """The data plane on a communicator of its own.

    Completion is polled and not awaited in ``Waitall``, so that a message that never comes ends in an error that says
    whose it was, and Python keeps handling signals.
    """

    def __init__(self, comm: MPI.Comm, deadline: float = 120.0) -> None:
        """Use a communicator that nobody else uses; `deadline`: seconds until a missing message is an error."""
        self.comm, self.deadline = comm, deadline
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.rounds = 0
        self.sends = 0
        self.sent_bytes = 0
        self._requests: list[MPI.Request] = []
        self._receives: Sequence[Message] = ()

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        comm, tag = self.comm, self.rounds % TAG_LIMIT
        requests = [comm.Irecv(buffer, peer, tag) for peer, buffer in receives]
        for peer, buffer in sends:
            requests.append(comm.Isend(buffer, peer, tag))
            self.sent_bytes += buffer.nbytes
        self.sends += len(sends)
        self.rounds += 1
        self._requests, self._receives = requests, receives

    def complete(self) -> None:
        requests = self._requests
        if not requests:
            return
        test = MPI.Request.Testall
        started = 0.0
        while not test(requests):
            for _ in range(_PATIENCE):
                if test(requests):
                    return
            now = time.monotonic()
            started = started or now
            if now - started > self.deadline:
                self._give_up()

    def _give_up(self) -> None:
        late = [
            peer
            for (peer, _), request in zip(self._receives, self._requests, strict=False)
            if not request.Test()
        ]
        raise MessageTimeoutError(
            f"rank {self.rank}: no message within {self.deadline:g} s from rank(s) {late or '(own sends pending)'} "
            f"in round {self.rounds - 1}"
        )


class MpiControl:
    """The control plane: pickled collectives on a communicator of its own."""

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def bcast(self, item: Any) -> Any:
        return self.comm.bcast(item)

    def scatter(self, items: Sequence[Any] | None) -> Any:
        return self.comm.scatter(items)

    def gather(self, item: Any) -> list[Any] | None:
        result: list[Any] | None = self.comm.gather(item)
        return result
