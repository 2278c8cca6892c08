"""What the engine and the driver need of a message-passing system, and nothing of learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[np.float64]
Message = tuple[int, Buffer]  # (peer rank, contiguous buffer)
Kind = Literal[
    "point_to_point", "persistent", "neighbourhood"
]  # how exchanges are made that come again and again


class Transport(Protocol):
    """The data plane: neighbour messages only, nonblocking, no collective."""

    rank: int
    size: int
    rounds: int  # number of the next round, alike on the ranks that exchange something in it
    sends: int  # physical messages sent so far
    sent_bytes: int  # physical bytes sent so far
    kinds: tuple[Kind, ...]  # that it knows, the first choice first
    kind: Kind  # how numbered exchanges are made: change it on all ranks alike, before there are any

    def post(self, sends: Sequence[Message], receives: Sequence[Message], number: int | None = None) -> None:
        """Start a round: send and receive one buffer per peer. The buffers belong to the transport until completion.

        Ranks count rounds alike, with or without peers, and a message matches only its own round. Whoever calls again
        and again with the same buffers may `number` the exchange, on all ranks alike: what can be made once is then
        kept until :meth:`forget`.
        """

    def forget(self) -> None:
        """There are other buffers from now on: free what was kept of numbered exchanges. All ranks call."""

    def usable(self) -> Sequence[Kind]:
        """The kinds that work here. All ranks call, and find the same."""

    def native(self) -> Any:
        """How compiled code starts and tests numbered exchanges (:class:`fdtrain.transport.persistent.Native`), with
        ``prepare``, ``drive`` and ``count`` of this transport; None if it cannot."""

    def prepare(self, sends: Sequence[Message], receives: Sequence[Message], number: int) -> Any:
        """Exchange `number`, as it is kept (:class:`fdtrain.transport.persistent.Prepared`)."""

    def drive(self, advance: Callable[[], tuple[bool, int]], waits_for: Callable[[int], Any]) -> None:
        """Let compiled code exchange: call ``advance() → (all is done, place)`` until it is done, and watch the clock.

        Args:
            advance: looks for messages a while, and goes on when they are there.
            waits_for: what was prepared for the exchange at a place.

        Raises:
            MessageTimeoutError: a message did not come before the deadline.
        """

    def count(self, rounds: int, sends: int, size: int) -> None:
        """Enter rounds, physical messages and bytes that went by others' hands."""

    def complete(self) -> None:
        """Finish the round that was posted.

        Raises:
            MessageTimeoutError: a message did not come before the deadline.
        """


class Control(Protocol):
    """The control plane: topology, data and metrics, between mini-batches. Root is rank 0; every rank calls."""

    rank: int
    size: int

    def bcast(self, item: Any) -> Any:
        """Rank 0's `item`, on every rank."""

    def scatter(self, items: Sequence[Any] | None, patience: float = 0.0) -> Any:
        """The rank's own of rank 0's `items`, which may take `patience` seconds longer than others to come."""

    def gather(self, item: Any) -> list[Any] | None:
        """Everybody's `item` by rank, on rank 0; None elsewhere."""

    def meet(self) -> None:
        """Wait until all ranks have called."""

    def vote(self, number: int) -> int:
        """The largest `number` ≥ 0 that a rank gave in the call before this one, on every rank; 0 in the first.

        A call waits for nobody who has made the call before it.
        """
