"""What the ranks do when a point of a scaling study is measured. Light: every rank imports it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple, cast

from fdtrain.bench_orders import first_samples, ready
from fdtrain.engine import Engine
from fdtrain.job import Job
from fdtrain.passes import Rows
from fdtrain.schedule import Schedule
from fdtrain.team import Team
from fdtrain.training import Service
from fdtrain.transport.base import Message, Transport


class Times(NamedTuple):
    """Of a rank: seconds of every mini-batch, and what a mini-batch sent."""

    seconds: list[float]  # of each mini-batch as training has it
    busy: list[float]  # of each timed one: arithmetic and packing
    sending: list[float]  # starting the messages of its rounds
    waiting: list[float]  # for them to be complete
    messages: int  # physical ones that the rank sent in a mini-batch
    bytes: int
    host: str
    cores: tuple[int, ...]  # that this process may use


class Timed:
    """Wraps a transport, and adds up the seconds that its two steps take."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.sending = self.waiting = 0.0

    def post(self, sends: Sequence[Message], receives: Sequence[Message], number: int | None = None) -> None:
        """Start a round, as the transport does."""
        start = time.perf_counter()
        self._inner.post(sends, receives, number)
        self.sending += time.perf_counter() - start

    def complete(self) -> None:
        """Finish it, as the transport does."""
        start = time.perf_counter()
        self._inner.complete()
        self.waiting += time.perf_counter() - start

    def native(self) -> None:
        """No compiled code starts exchanges past this."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def measure(
    job: Job, warmup: int, repeats: int, team: Team, service: Service | None = None
) -> list[Times] | None:
    """An order: time so many mini-batches, one after another as in training, and as many over a timed transport.

    They are all the first mini-batch of `job`, on its first topology. No rank waits for another but for its messages;
    `warmup` mini-batches before the first are not counted.

    Returns:
        The times of all ranks, on rank 0.
    """
    engine, hood = ready(job, team, service)
    batch = min(job.batch, job.train_samples)
    schedule, rows = job.schedule(batch), first_samples(job, batch, hood, team, service)
    before = team.transport.sends, team.transport.sent_bytes
    seconds = [seconds for seconds, _, _ in _minibatches(engine, schedule, rows, warmup, repeats)]
    messages, size = team.transport.sends - before[0], team.transport.sent_bytes - before[1]
    timed = Timed(team.transport)
    engine.transport = cast(Transport, timed)
    engine.rewire(hood, job.programme)
    parts = _minibatches(engine, schedule, rows, warmup, repeats, timed)
    count = warmup + repeats
    found = Times(
        seconds=seconds,
        busy=[whole - sending - waiting for whole, sending, waiting in parts],
        sending=[sending for _, sending, _ in parts],
        waiting=[waiting for _, _, waiting in parts],
        messages=messages // count,
        bytes=size // count,
        host=socket.gethostname(),
        cores=tuple(sorted(os.sched_getaffinity(0))),
    )
    return team.control.gather(found)


def _minibatches(
    engine: Engine, schedule: Schedule, rows: Rows, warmup: int, repeats: int, timed: Timed | None = None
) -> list[tuple[float, float, float]]:
    """Of each mini-batch after the warm-up: seconds in all, sending and waiting."""

    def now() -> tuple[float, float, float]:
        sent, waited = (0.0, 0.0) if timed is None else (timed.sending, timed.waiting)
        return time.perf_counter(), sent, waited

    found = []
    for number in range(warmup + repeats):
        start = now()
        engine.minibatch(schedule, rows)
        stop = now()
        if number >= warmup:
            found.append((stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]))
    return found
