"""What the ranks do in a benchmark. Light: every rank imports it; :mod:`fdtrain.bench` is rank 0's part."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np

from fdtrain.drawing import Recipe, drawn
from fdtrain.engine import Engine
from fdtrain.graph import Neighbourhood
from fdtrain.job import Job
from fdtrain.team import Team
from fdtrain.training import Service, make_engine


class Timing(NamedTuple):
    """Seconds of one mini-batch, of the bare exchange of the same buffers, and of a yardstick epoch."""

    minibatch: float
    exchange: float
    yardstick: float


def measure(
    job: Job,
    repeats: int,
    team: Team,
    service: Service | None = None,
    yardstick: Callable[[], float] | None = None,
) -> list[Timing]:
    """An order: time the first mini-batch of `job`, its rounds without arithmetic, and the yardstick, in turn.

    The bare exchange sends the same buffers to the same peers over the same transport, round by round. Rank 0's times
    count, from one common start to the next; the yardstick runs on rank 0 while the others wait.
    """
    serve = cast(Service, service)
    engine, hood = _engine(job, team, service)
    batch = min(job.batch, job.train_samples)
    schedule = job.schedule(batch)
    if job.streamed:
        rows = team.deal(lambda: serve.minibatch(0, np.arange(batch)))
    else:
        found = team.deal(lambda: serve.dataset())
        train, _ = drawn(found, job, hood, team) if isinstance(found, Recipe) else found
        rows = train._replace(order=np.arange(batch))
    layouts = engine.layouts(schedule)
    timings = []
    for _ in range(repeats + 1):
        start = _together(team)
        engine.minibatch(schedule, rows)
        middle = _together(team)
        for layout in layouts:
            layout.exchange(team.transport)
        stop = _together(team)
        timings.append(Timing(middle - start, stop - middle, yardstick() if yardstick else 0.0))
    return timings[1:]


def minibatches(job: Job, repeats: int, team: Team, service: Service | None = None) -> list[float]:
    """An order: seconds of each of so many mini-batches as training has them, with topology and data of their own,
    which rank 0 draws and deals, messages and update."""
    serve = cast(Service, service)
    engine, _ = _engine(job, team, service)
    order = team.share(lambda: serve.begin(0))
    seconds = []
    for t, chosen in zip(range(repeats + 1), job.batches(order), strict=False):
        start = _together(team)
        if job.rewires_at(t):
            hood = team.deal(lambda t: serve.neighbourhoods(t), t)
            if hood is not None:
                engine.rewire(hood, job.programme)
        rows = team.deal(lambda t, chosen: serve.minibatch(t, chosen), t, chosen)
        engine.minibatch(job.schedule(len(chosen)), rows)
        seconds.append(_together(team) - start)
    return seconds[1:]


def start(job: Job, team: Team, service: Service | None = None) -> None:
    """An order: everything up to the end of the first round of messages."""
    _engine(job, team, service)
    _together(team)


def _engine(job: Job, team: Team, service: Service | None) -> tuple[Engine, Neighbourhood]:
    serve = cast(Service, service)
    ids, theta = team.deal(lambda: serve.parameters())
    engine = make_engine(job, team, serve, np.broadcast_to(theta, (len(ids), theta.shape[1])))
    hood = team.deal(lambda: serve.neighbourhoods(0))
    engine.rewire(hood, job.programme)
    return engine, hood


def _together(team: Team) -> float:
    team.control.gather(None)
    team.control.bcast(None)
    return time.perf_counter()
