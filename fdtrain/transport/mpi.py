"""Messages over MPI: nonblocking point-to-point on one communicator, control on another. Imports mpi4py.

Nothing waits for ever, and nothing inside the MPI library: completion is polled, so that what never comes ends in an
error that says whose it was, and Python keeps handling signals.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from fdtrain.errors import MessageTimeoutError
from fdtrain.transport import persistent
from fdtrain.transport.base import Kind, Message
from fdtrain.transport.persistent import Native, Prepared

TAG_LIMIT = (
    16_384  # of rounds; from there on tags are numbers of exchanges. Every MPI supports tags up to 32767
)
_PATIENCE = 500  # polls between two looks at the clock
_LEAP = 1.0  # seconds: more of them between two looks at the clock were spent asleep, and count as so many
_LONG = 1.0  # seconds of waiting for neighbours that are not usual
_AWAKE = 0.002  # seconds of waiting on the control plane before the processor is left to others for a while
_NAP = 0.01  # seconds at most
_DOWN, _UP = 0, 1  # tags of the control plane: from rank 0, to rank 0


def _do_nothing() -> None: ...


class _Clock:
    """Seconds that this process has waited; those in which it was stopped do not count."""

    def __init__(self) -> None:
        self.waited, self._last = 0.0, time.monotonic()

    def look(self) -> float:
        now = time.monotonic()
        self.waited += min(now - self._last, _LEAP)
        self._last = now
        return self.waited


class MpiTransport:
    """The data plane on a communicator of its own.

    ``on_late`` is called before a missing message becomes an error; ``meet`` waits until all ranks have called it,
    before they link neighbours, where the MPI library would wait for ever. Waits are short here: none sleeps that is
    not long.
    """

    kinds: tuple[Kind, ...] = ("persistent", "neighbourhood", "point_to_point")

    def __init__(self, comm: MPI.Intracomm, deadline: float = 300.0) -> None:
        """Use a communicator that nobody else uses; `deadline`: seconds until a missing message is an error."""
        self.comm, self.deadline = comm, deadline
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.on_late = self.meet = _do_nothing
        self.rounds = 0
        self.sends = 0
        self.sent_bytes = 0
        self.kind: Kind = "point_to_point"
        self._requests: Sequence[MPI.Request] = ()
        self._receives: Sequence[Message] = ()
        self._prepared: dict[int, Prepared] = {}
        self._neighbours: MPI.Distgraphcomm | None = None
        self._usable: Sequence[Kind] | None = None

    def post(self, sends: Sequence[Message], receives: Sequence[Message], number: int | None = None) -> None:
        if number is None or self.kind == "point_to_point":
            comm, tag = self.comm, self.rounds % TAG_LIMIT
            requests: list[MPI.Request] = [comm.Irecv(buffer, peer, tag) for peer, buffer in receives]
            requests += [comm.Isend(buffer, peer, tag) for peer, buffer in sends]
            self._requests, size = requests, sum(buffer.nbytes for _, buffer in sends)
        else:
            prepared = self.prepare(sends, receives, number)
            MPI.Prequest.Startall(prepared.requests)
            self._requests, size = prepared.requests, prepared.sent_bytes
        self.count(1, len(sends), size)
        self._receives = receives

    def prepare(self, sends: Sequence[Message], receives: Sequence[Message], number: int) -> Prepared:
        """Exchange `number`, as it is kept. Collectives are made in the same order by all ranks."""
        if number not in self._prepared:
            if self.kind == "neighbourhood":
                self.meet()
                if self._neighbours is None:
                    self._neighbours = persistent.neighbours(self.comm, [peer for peer, _ in sends])
                made = persistent.neighbourhood(self._neighbours, sends, receives)
            else:
                made = persistent.point_to_point(self.comm, sends, receives, TAG_LIMIT + number)
            self._prepared[number] = made
        return self._prepared[number]

    def usable(self) -> Sequence[Kind]:
        if self._usable is None:
            self.meet()
            works = persistent.neighbourhoods_work(self.comm)
            self._usable = [kind for kind in self.kinds if kind != "neighbourhood" or works]
        return self._usable

    def native(self) -> Native | None:
        return None if self.kind == "point_to_point" else persistent.native()

    def forget(self) -> None:
        for prepared in self._prepared.values():
            for request in prepared.requests:
                request.Free()
        self._prepared = {}
        if self._neighbours is not None:
            self.meet()
            self._neighbours.Free()
            self._neighbours = None

    def count(self, rounds: int, sends: int, size: int) -> None:
        self.rounds, self.sends, self.sent_bytes = (
            self.rounds + rounds,
            self.sends + sends,
            self.sent_bytes + size,
        )

    def drive(self, advance: Callable[[], tuple[bool, int]], waits_for: Callable[[int], Prepared]) -> None:
        clock, last = _Clock(), -1
        while True:
            done, place = advance()
            if done:
                return
            if place != last:
                clock, last = _Clock(), place
            elif clock.look() > self.deadline:
                missing = waits_for(place)
                self._requests, self._receives = missing.requests, missing.receives
                self._give_up()
            elif clock.waited > _LONG:
                time.sleep(0.001)

    def complete(self) -> None:
        requests = self._requests
        if not requests:
            return
        test = MPI.Request.Testall
        for _ in range(_PATIENCE):
            if test(requests):
                return
        clock = _Clock()
        while clock.look() <= self.deadline:
            if clock.waited > _LONG:
                time.sleep(0.001)
            for _ in range(_PATIENCE):
                if test(requests):
                    return
        self._give_up()

    def _give_up(self) -> None:
        self.on_late()
        if self.kind == "neighbourhood" and len(self._requests) == 1:  # they all are one request
            late = [peer for peer, _ in self._receives]
        else:
            pairs = zip(self._receives, self._requests, strict=False)
            late = [peer for (peer, _), request in pairs if not request.Test()]
        raise MessageTimeoutError(
            f"no message within {self.deadline:g} s from rank(s) {late or '(own sends pending)'} "
            f"in round {self.rounds - 1} of all"
        )


class MpiControl:
    """The control plane: pickled items to and from rank 0, on a communicator of its own. A long wait sleeps.

    ``on_late`` is called before what is missing becomes an error.
    """

    def __init__(self, comm: MPI.Comm, deadline: float = 300.0) -> None:
        """Use a communicator that nobody else uses; `deadline`: seconds until what is missing is an error."""
        self.comm, self.deadline = comm, deadline
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.on_late = _do_nothing
        self._given, self._highest = np.zeros(1, np.int64), np.zeros(1, np.int64)
        self._ballot: MPI.Request | None = None

    def bcast(self, item: Any) -> Any:
        return self.scatter([item] * self.size if self.rank == 0 else None)

    def scatter(self, items: Sequence[Any] | None, patience: float = 0.0) -> Any:
        if items is None:
            return self._receive(0, _DOWN, patience)
        packed: dict[int, bytes] = {}  # by the item's identity: often everybody's is the same
        for item in items[1:]:
            if id(item) not in packed:
                packed[id(item)] = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._send([(peer, packed[id(items[peer])]) for peer in range(1, self.size)], _DOWN)
        return items[0]

    def gather(self, item: Any) -> list[Any] | None:
        if self.rank != 0:
            self._send([(0, pickle.dumps(item, pickle.HIGHEST_PROTOCOL))], _UP)
            return None
        return [item, *(self._receive(peer, _UP) for peer in range(1, self.size))]

    def meet(self) -> None:
        self.gather(None)
        self.bcast(None)

    def vote(self, number: int) -> int:
        highest = self.settle()
        self._given[0] = number
        self._ballot = self.comm.Iallreduce(self._given, self._highest, MPI.MAX)
        return highest

    def settle(self) -> int:
        """Wait until every rank has voted as often as this one, and return the last vote's result."""
        if self._ballot is not None:
            self._wait(self._ballot.Test, lambda: "every rank to vote")
            self._ballot = None
        return int(self._highest[0])

    def _send(self, contents: Sequence[tuple[int, bytes]], tag: int) -> None:
        requests = [self.comm.Isend([content, MPI.BYTE], peer, tag) for peer, content in contents]

        def slow() -> str:
            late = [peer for (peer, _), each in zip(contents, requests, strict=True) if not each.Test()]
            return f"rank(s) {late} to take what rank {self.rank} has sent"

        self._wait(lambda: MPI.Request.Testall(requests), slow)

    def _receive(self, peer: int, tag: int, patience: float = 0.0) -> Any:
        status = MPI.Status()
        found: list[MPI.Message] = []

        def arrives() -> bool:
            message = self.comm.Improbe(peer, tag, status)
            if message is None:
                return False
            found.append(message)
            return True

        self._wait(arrives, lambda: f"rank(s) [{peer}]", patience)
        content = bytearray(status.Get_count(MPI.BYTE))
        request = found[0].Irecv([content, MPI.BYTE])
        self._wait(request.Test, lambda: f"the rest of a message from rank(s) [{peer}]")
        return pickle.loads(content)

    def _wait(self, ready: Callable[[], bool], whom: Callable[[], str], patience: float = 0.0) -> None:
        for _ in range(20):
            if ready():
                return
        clock, limit = _Clock(), self.deadline + patience
        while not ready():
            waited = clock.look()
            if waited > limit:
                self.on_late()
                raise MessageTimeoutError(f"waited {limit:g} s between rounds for {whom()}")
            if waited > _AWAKE:
                time.sleep(min(waited / 20, _NAP))
