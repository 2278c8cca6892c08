"""Messages inside one process: one rank alone, or several ranks in threads, without MPI."""

from __future__ import annotations

import math
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from fdtrain.errors import MessageTimeoutError
from fdtrain.transport.base import Kind, Message


class LoopbackHub:
    """The mailboxes that the ranks of one process share."""

    def __init__(self, size: int = 1, deadline: float = 60.0) -> None:
        self.size, self.deadline = size, deadline
        self._boxes: dict[Any, queue.SimpleQueue[Any]] = defaultdict(queue.SimpleQueue)
        self._lock = threading.Lock()
        self._broken = threading.Event()
        self._ballots: dict[int, list[int]] = defaultdict(list)
        self._counted = threading.Condition(self._lock)

    def transport(self, rank: int) -> LoopbackTransport:
        """The data plane of `rank`."""
        return LoopbackTransport(self, rank)

    def control(self, rank: int) -> LoopbackControl:
        """The control plane of `rank`."""
        return LoopbackControl(self, rank)

    def abort(self) -> None:
        """Let every rank that waits, or will wait, give up: another one failed."""
        self._broken.set()
        with self._counted:
            self._counted.notify_all()

    def put(self, address: Any, item: Any) -> None:
        """Deliver `item` to the mailbox `address`."""
        self._box(address).put(item)

    def get(self, address: Any, deadline: float = math.inf) -> Any:
        """Take the next item from the mailbox `address`.

        Raises:
            MessageTimeoutError: nothing came before the deadline (seconds), or another rank failed.
        """
        box = self._box(address)
        waited = 0.0
        while waited < deadline and not self._broken.is_set():
            try:
                return box.get(timeout=0.2)
            except queue.Empty:
                waited += 0.2
        raise MessageTimeoutError(
            f"no message for {address}: " + ("a rank failed" if self._broken.is_set() else "late")
        )

    def vote(self, call: int, number: int) -> int:
        """Give `number` in a call, counted from 1; return the largest of the call before it.

        Raises:
            MessageTimeoutError: somebody did not vote before the deadline, or another rank failed.
        """
        with self._counted:
            self._ballots[call].append(number)
            if len(self._ballots[call]) == self.size:
                self._ballots.pop(call - 2, None)
                self._counted.notify_all()
            if call == 1:
                return 0
            before = self._ballots[call - 1]
            done = self._counted.wait_for(
                lambda: len(before) == self.size or self._broken.is_set(), self.deadline
            )
            if len(before) < self.size:
                raise MessageTimeoutError(f"no vote of every rank: {'a rank failed' if done else 'late'}")
            return max(before)

    def _box(self, address: Any) -> queue.SimpleQueue[Any]:
        with self._lock:
            return self._boxes[address]


class LoopbackTransport:
    """The data plane of one rank; a message is copied when it is posted, as a network would."""

    kinds: tuple[Kind, ...] = ("point_to_point",)

    def __init__(self, hub: LoopbackHub, rank: int) -> None:
        self._hub, self.rank, self.size = hub, rank, hub.size
        self.kind: Kind = "point_to_point"
        self.rounds = 0
        self.sends = 0
        self.sent_bytes = 0
        self._receives: Sequence[Message] = ()

    def post(self, sends: Sequence[Message], receives: Sequence[Message], number: int | None = None) -> None:
        for peer, buffer in sends:
            self._hub.put(("data", self.rank, peer), (self.rounds, buffer.copy()))
            self.sent_bytes += buffer.nbytes
        self.sends += len(sends)
        self.rounds += 1
        self._receives = receives

    def forget(self) -> None: ...

    def usable(self) -> Sequence[Kind]:
        return self.kinds

    def native(self) -> None: ...

    def prepare(self, sends: Sequence[Message], receives: Sequence[Message], number: int) -> NoReturn:
        raise NotImplementedError("threads keep no exchanges")

    def drive(self, advance: Callable[[], tuple[bool, int]], waits_for: Callable[[int], Any]) -> NoReturn:
        raise NotImplementedError("threads exchange in Python")

    def count(self, rounds: int, sends: int, size: int) -> None:
        self.rounds += rounds

    def complete(self) -> None:
        for peer, buffer in self._receives:
            sent_in, content = self._hub.get(("data", peer, self.rank), self._hub.deadline)
            if sent_in != self.rounds - 1 or content.size != buffer.size:
                raise RuntimeError(
                    f"rank {self.rank} expected {buffer.size} numbers of round {self.rounds - 1} from rank {peer}, "
                    f"received {content.size} of round {sent_in}"
                )
            np.copyto(buffer, content.reshape(buffer.shape))


class LoopbackControl:
    """The control plane of one rank."""

    def __init__(self, hub: LoopbackHub, rank: int) -> None:
        self._hub, self.rank, self.size = hub, rank, hub.size
        self._votes = 0

    def bcast(self, item: Any) -> Any:
        return self.scatter([item] * self.size if self.rank == 0 else None)

    def scatter(self, items: Sequence[Any] | None, patience: float = 0.0) -> Any:
        if items is None:
            return self._hub.get(("control", 0, self.rank))
        for peer in range(1, self.size):
            self._hub.put(("control", 0, peer), items[peer])
        return items[0]

    def gather(self, item: Any) -> list[Any] | None:
        if self.rank != 0:
            self._hub.put(("gather", self.rank), item)
            return None
        return [item, *(self._hub.get(("gather", peer)) for peer in range(1, self.size))]

    def meet(self) -> None:
        self.gather(None)
        self.bcast(None)

    def vote(self, number: int) -> int:
        self._votes += 1
        return self._hub.vote(self._votes, number)
