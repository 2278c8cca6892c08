"""What the ranks do in a benchmark. Light: every rank imports it; :mod:`fdtrain.bench` is rank 0's part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np

from fdtrain.drawing import Recipe, drawn
from fdtrain.engine import Engine
from fdtrain.graph import Graph, Neighbourhood
from fdtrain.job import Job
from fdtrain.partition import ExchangePlan
from fdtrain.passes import Rows
from fdtrain.team import Team
from fdtrain.training import Service, compile_once, make_engine, rewire


class Timing(NamedTuple):
    """Seconds of a mini-batch, of the bare exchange of the same buffers, and of a yardstick epoch."""

    minibatch: float
    exchange: float
    yardstick: float


def measure(
    job: Job,
    repeats: int,
    team: Team,
    service: Service | None = None,
    yardstick: Callable[[], float] | None = None,
    count: int = 1,
) -> list[Timing]:
    """An order: time the first mini-batch of `job`, `count` times in a row, its rounds without arithmetic, and the
    yardstick, in turn.

    The bare exchange sends the same buffers to the same peers over the same transport, round by round. Rank 0's times
    count, from one common start to the next; the yardstick runs on rank 0 while the others wait.
    """
    engine, hood = ready(job, team, service)
    batch = min(job.batch, job.train_samples)
    schedule = job.schedule(batch)
    rows = first_samples(job, batch, hood, team, service)
    timings = []
    for _ in range(repeats + 1):
        start = _together(team)
        for _ in range(count):
            engine.minibatch(schedule, rows)
        middle = _together(team)
        for _ in range(count):
            engine.exchange(schedule)
        stop = _together(team)
        own = yardstick() if yardstick else 0.0
        timings.append(Timing((middle - start) / count, (stop - middle) / count, own))
    return timings[1:]


def minibatches(job: Job, repeats: int, team: Team, service: Service | None = None) -> list[float]:
    """An order: seconds of each of so many mini-batches as training has them, with topology and data of their own,
    which rank 0 draws and deals, messages and update."""
    serve = cast(Service, service)
    engine, _ = ready(job, team, service)
    order = team.share(lambda: serve.begin(0))
    seconds = []
    for t, chosen in zip(range(repeats + 1), job.batches(order), strict=False):
        start = _together(team)
        if job.rewires_at(t):
            hood = team.deal(lambda t: serve.neighbourhoods(t), t)
            rewire(engine, job, team, hood)
        rows = team.deal(lambda t, chosen: serve.minibatch(t, chosen), t, chosen)
        engine.minibatch(job.schedule(len(chosen)), rows)
        seconds.append(_together(team) - start)
    return seconds[1:]


class Drawn(NamedTuple):
    """Seconds of a new topology: drawn, cut into the ranks' parts, dealt to them, and planned on the slowest rank."""

    draw: float
    cut: float
    deal: float
    plan: float


class Drawer(Protocol):
    """Who makes topologies, on rank 0."""

    def graph(self, number: int) -> Graph:
        """A new graph."""

    def cut(self, graph: Graph) -> Sequence[Neighbourhood]:
        """What every rank is told of it."""


def draws(repeats: int, team: Team, drawer: Drawer | None = None) -> list[Drawn]:
    """An order: times of so many new topologies, from drawing to every rank's exchange plan."""
    make, seconds = cast(Drawer, drawer), []
    for number in range(repeats + 1):
        marks = [_together(team)]

        def parts(number: int, marks: list[float]) -> Sequence[Neighbourhood]:
            graph = make.graph(number)
            marks.append(time.perf_counter())
            hoods = make.cut(graph)
            marks.append(time.perf_counter())
            return hoods

        hood = team.deal(parts, number, marks)
        dealt = _together(team)
        ExchangePlan.of(hood, team.rank)
        planned = team.control.gather(time.perf_counter() - dealt)
        if planned is not None:
            begin, drawn, cut = marks
            seconds.append(Drawn(drawn - begin, cut - drawn, dealt - cut, max(planned)))
    return seconds[1:]


def start(job: Job, team: Team, service: Service | None = None) -> None:
    """An order: everything up to the end of the first round of messages."""
    ready(job, team, service)
    _together(team)


def ready(job: Job, team: Team, service: Service | None) -> tuple[Engine, Neighbourhood]:
    """An engine on the first topology, and what this rank knows of that."""
    serve = cast(Service, service)
    compile_once(job, team)
    ids, theta = team.deal(lambda: serve.parameters())
    engine = make_engine(job, team, serve, np.broadcast_to(theta, (len(ids), theta.shape[1])))
    hood = team.deal(lambda: serve.neighbourhoods(0))
    rewire(engine, job, team, hood)
    return engine, hood


def _together(team: Team) -> float:
    team.control.meet()
    return time.perf_counter()


def first_samples(job: Job, batch: int, hood: Neighbourhood, team: Team, service: Service | None) -> Rows:
    """So many samples of the rank's nodes."""
    serve = cast(Service, service)
    if job.streamed:
        rows: Rows = team.deal(lambda: serve.minibatch(0, np.arange(batch)))
        return rows
    found = team.deal(lambda: serve.dataset())
    train, _ = drawn(found, job, hood, team) if isinstance(found, Recipe) else found
    return train._replace(order=np.arange(batch))
