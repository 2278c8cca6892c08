"""The ranks of a run, and how rank 0 hands them something."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fdtrain.errors import MessageTimeoutError
from fdtrain.transport.base import Control, Transport
from fdtrain.transport.loopback import LoopbackHub


class Team:
    """One rank's two planes: `transport` for neighbour messages, `control` for everything between mini-batches."""

    def __init__(self, transport: Transport, control: Control) -> None:
        self.transport, self.control = transport, control
        self.rank, self.size = transport.rank, transport.size
        self.logs: Path | None = None  # where this rank writes its log, once rank 0 has told
        self.minibatch: int | None = None  # that is being trained, if any
        self.samples: tuple[tuple[int, str], Any] | None = (
            None  # those that were drawn last, by the number of their recipe and by who hosts whom
        )
        self._failed = False  # whether all ranks have raised rank 0's error

    def share(
        self, make: Callable[..., Any], *arguments: Any, what: str = "the next order", patience: float = 0.0
    ) -> Any:
        """What rank 0 makes from `arguments`, on every rank; `what` that is, in words.

        Making it may take `patience` seconds beside the deadline. If it fails, all ranks raise the error, or none.
        """
        return self.deal(lambda: [make(*arguments)] * self.size, what=what, patience=patience)

    def deal(
        self,
        make: Callable[..., Sequence[Any]],
        *arguments: Any,
        what: str = "its part",
        patience: float = 0.0,
    ) -> Any:
        """The rank's own of what rank 0 makes from `arguments` for everybody; `what` that is, in words.

        Making it may take `patience` seconds beside the deadline. If it fails, all ranks raise the error, or none.
        """
        items: Sequence[Any] | None = None
        if self.rank == 0:
            try:
                items = make(*arguments)
            except Exception as error:
                self._failed = True
                self.control.scatter([_Failure(error)] * self.size)
                raise
        try:
            item = self.control.scatter(items, patience)
        except MessageTimeoutError as late:
            late.add_note(what)
            raise
        if isinstance(item, _Failure):
            raise item.error
        return item

    def order(self, work: Callable[[Team], Any]) -> None:
        """On rank 0: let the other ranks, which :func:`fdtrain.training.follow`, call `work` with their team."""
        self.share(lambda: work)

    def dismiss(self) -> None:
        """On rank 0, when all is done: tell the other ranks that there is no more."""
        if not self._failed:
            self.share(lambda: None)
            self.transport.forget()


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def in_threads(size: int, work: Callable[[Team], Any]) -> Any:
    """Run `work` on every rank of a team in the threads of this process; return what rank 0's returns.

    Raises:
        Exception: the first one that a rank raised.
    """
    hub = LoopbackHub(size)
    errors: list[BaseException] = []

    def enter(rank: int) -> Any:
        try:
            return work(Team(hub.transport(rank), hub.control(rank)))
        except BaseException as error:
            errors.append(error)
            hub.abort()
            return None

    threads = [threading.Thread(target=enter, args=(rank,), daemon=True) for rank in range(1, size)]
    for thread in threads:
        thread.start()
    result = enter(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return result
