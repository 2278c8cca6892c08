"""The planes of a rank that is profiled: they do as those that they wrap, and tell a recorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fdtrain.profile.recorder import Recorder
from fdtrain.transport.base import Control, Kind, Message, Transport


class ProfiledTransport:
    """A data plane that records posting and waiting; who enters a round says so to the recorder."""

    def __init__(self, inner: Transport, recorder: Recorder) -> None:
        self.inner, self.recorder = inner, recorder
        self.rank, self.size, self.kinds = inner.rank, inner.size, inner.kinds
        self._opened = False  # a round, by this
        self._count()

    @property
    def kind(self) -> Kind:
        """The inner one's."""
        return self.inner.kind

    @kind.setter
    def kind(self, kind: Kind) -> None:
        self.inner.kind = kind

    def usable(self) -> Sequence[Kind]:
        return self.inner.usable()

    def native(self) -> None:
        """Compiled code does not exchange: every round is to be seen."""

    def prepare(self, sends: Sequence[Message], receives: Sequence[Message], number: int) -> Any:
        return self.inner.prepare(sends, receives, number)

    def drive(self, advance: Callable[[], tuple[bool, int]], waits_for: Callable[[int], Any]) -> None:
        self.inner.drive(advance, waits_for)

    def count(self, rounds: int, sends: int, size: int) -> None:
        self.inner.count(rounds, sends, size)
        self._count()

    def forget(self) -> None:
        self.inner.forget()

    def post(self, sends: Sequence[Message], receives: Sequence[Message], number: int | None = None) -> None:
        recorder, before = self.recorder, self.sent_bytes
        if recorder.in_round:
            recorder.mark("pack")
        else:
            recorder.open_round(None)
            self._opened = True
        self.inner.post(sends, receives, number)
        recorder.mark("post")
        recorder.place = "compute"
        self._count()
        recorder.describe(peers=len(sends), bytes=self.sent_bytes - before)

    def complete(self) -> None:
        self.recorder.mark()
        self.inner.complete()
        self.recorder.mark("wait")
        if self._opened:
            self._opened = False
            self.recorder.close()

    def _count(self) -> None:
        inner = self.inner
        self.rounds, self.sends, self.sent_bytes = inner.rounds, inner.sends, inner.sent_bytes


class ProfiledControl:
    """A control plane that records its calls."""

    def __init__(self, inner: Control, recorder: Recorder) -> None:
        self.inner, self.recorder = inner, recorder
        self.rank, self.size = inner.rank, inner.size

    def bcast(self, item: Any) -> Any:
        self.recorder.mark()
        item = self.inner.bcast(item)
        self.recorder.mark("control", "bcast")
        return item

    def scatter(self, items: Sequence[Any] | None, patience: float = 0.0) -> Any:
        self.recorder.mark()
        item = self.inner.scatter(items, patience)
        self.recorder.mark("control", "scatter")
        return item

    def gather(self, item: Any) -> list[Any] | None:
        self.recorder.mark()
        items = self.inner.gather(item)
        self.recorder.mark("control", "gather")
        return items

    def meet(self) -> None:
        self.recorder.mark()
        self.inner.meet()
        self.recorder.mark("control", "meet")

    def vote(self, number: int) -> int:
        self.recorder.mark()
        highest = self.inner.vote(number)
        self.recorder.mark("control", "vote")
        return highest
