"""Being asked to stop: signals are noted, and obeyed where the work may stop. Only the command line listens to them."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_ECHO = 0.3  # seconds in which the same wish may come again, by way of a process group

_requested = 0
_since = 0.0


def install(*, second_ends: bool = True) -> None:
    """From now on TERM, INT and USR1 are noted, and do nothing else.

    A second TERM or INT ends the process as it would have without this (``SystemExit``, ``KeyboardInterrupt``), unless
    somebody else sees to that: then `second_ends` is False.
    """
    global _requested
    _requested = 0
    for number in SIGNALS:
        signal.signal(number, _note_and_leave if second_ends else _note)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """A context in which signals are noted (:func:`install`); afterwards they do what they did before.

    In another thread than the main one, which gets no signals, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in SIGNALS]
    install()
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def requested() -> int:
    """The number of the first signal that asked this process to stop; 0: none did."""
    return _requested


def exit_status(number: int) -> int:
    """The exit status of a process that stopped because of signal `number`: 130 for INT, else 143."""
    return 128 + (signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def _note(number: int, frame: FrameType | None) -> None:
    global _requested, _since
    if not _requested:
        _requested, _since = number, time.monotonic()


def _note_and_leave(number: int, frame: FrameType | None) -> None:
    if _requested and number != signal.SIGUSR1 and time.monotonic() - _since > _ECHO:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(exit_status(number))
    _note(number, frame)
