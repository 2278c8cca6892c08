"""The calls that lead to the planes, recorded while something is profiled: passes, rounds, topologies, what is dealt.

They are replaced on their classes, once for all ranks of a process, and only while a rank of it is profiled. An object
is known as one of a profiled rank by its planes; all others are served as ever.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fdtrain.engine import Engine
from fdtrain.profile.planes import ProfiledControl, ProfiledTransport
from fdtrain.team import Team
from fdtrain.wire import Layout

_lock = threading.Lock()
_users = 0
_originals: list[tuple[type, str, Any]] = []


@contextmanager
def recorded_calls() -> Iterator[None]:
    """Within, the calls are recorded, of all profiled ranks of this process."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _replace()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                while _originals:
                    owner, name, original = _originals.pop()
                    setattr(owner, name, original)


def _replace() -> None:
    wrapped: list[tuple[type, str, Callable[[Any], Any]]] = [
        (Layout, "exchange", _exchange),
        (Team, "deal", _deal),
        (Engine, "minibatch", functools.partial(_engine, "train", "compute")),
        (Engine, "infer", functools.partial(_engine, "test", "compute")),
        (Engine, "rewire", functools.partial(_engine, "rewire", "rewire")),
    ]
    for owner, name, wrap in wrapped:
        original = owner.__dict__[name]
        _originals.append((owner, name, original))
        setattr(owner, name, functools.wraps(original)(wrap(original)))


def _exchange(original: Callable[..., None]) -> Callable[..., None]:
    def exchange(layout: Layout, transport: Any, round_: Any = None) -> None:
        if not isinstance(transport, ProfiledTransport):
            original(layout, transport, round_)
            return
        transport.recorder.open_round(layout.payload if round_ is None else round_)
        try:
            original(layout, transport, round_)
        finally:
            transport.recorder.close()

    return exchange


def _deal(original: Callable[..., Any]) -> Callable[..., Any]:
    def deal(team: Team, make: Any, *arguments: Any, what: str = "its part", **named: Any) -> Any:
        if not isinstance(team.control, ProfiledControl):
            return original(team, make, *arguments, what=what, **named)
        recorder = team.control.recorder
        recorder.open(what, "deal", "serve" if team.rank == 0 else "control")
        try:
            return original(team, make, *arguments, what=what, **named)
        finally:
            recorder.close()

    return deal


def _engine(name: str, place: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(engine: Engine, *arguments: Any, **named: Any) -> Any:
        if not isinstance(engine.transport, ProfiledTransport):
            return original(engine, *arguments, **named)
        recorder = engine.transport.recorder
        recorder.open(name, "pass", place)
        try:
            return original(engine, *arguments, **named)
        finally:
            recorder.close()

    return call
