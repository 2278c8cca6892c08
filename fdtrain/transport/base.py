"""What the engine and the driver need of a message-passing system, and nothing of learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[np.float64]
Message = tuple[int, Buffer]  # (peer rank, contiguous buffer)


class Transport(Protocol):
    """The data plane: neighbour messages only, nonblocking, no collective."""

    rank: int
    size: int
    rounds: int  # number of the next round, alike on the ranks that exchange something in it
    sends: int  # physical messages sent so far
    sent_bytes: int  # physical bytes sent so far

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Start a round: send and receive one buffer per peer. The buffers belong to the transport until completion.

        Ranks count rounds alike, with or without peers, and a message matches only its own round.
        """

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

    def scatter(self, items: Sequence[Any] | None) -> Any:
        """The rank's own of rank 0's `items`."""

    def gather(self, item: Any) -> list[Any] | None:
        """Everybody's `item` by rank, on rank 0; None elsewhere."""

    def vote(self, number: int) -> int:
        """The largest `number` ≥ 0 that a rank gave in the call before this one, on every rank; 0 in the first.

        A call waits for nobody who has made the call before it.
        """
