"""A training run on one rank: epochs and mini-batches around the engine, and the control plane between them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain import stopping
from fdtrain.engine import Engine
from fdtrain.errors import InputError
from fdtrain.graph import Neighbourhood
from fdtrain.job import Job
from fdtrain.ledger import Ledger
from fdtrain.passes import Rows
from fdtrain.snapshot import Snapshot
from fdtrain.team import Team
from fdtrain.transport.choice import choose
from fdtrain.turns import make_turn

Array = NDArray[np.float64]
Order = NDArray[np.int64]

_LOSSES = (
    "losses"  # the snapshot's rows that are no engine's: Σ_b ℓ_i of mini-batches of which rank 0 was not told
)


class Diverged(NamedTuple):
    """Where a parameter was first seen not to be finite."""

    minibatch: int
    node: int
    part: str  # of θ, in words


class Log(NamedTuple):
    """What a rank tells rank 0 while an epoch goes on."""

    train_loss: Array  # [n, mini-batches since the last log] Σ_b ℓ_i before each update
    diverged: Diverged | None


@dataclass(frozen=True)
class Report:
    """What a rank tells rank 0 at the end of an epoch."""

    train_loss: Array  # [n, mini-batches since the last log] Σ_b ℓ_i before each update
    test_loss: Array  # [n] Σ over the test samples
    theta: Array  # [n, p]
    gradient: Array  # [n, p] of the last mini-batch
    ledger: Ledger
    diverged: Diverged | None


@dataclass(frozen=True)
class State:
    """What a rank tells rank 0 so that others can go on from here."""

    snapshot: Snapshot | None  # None: there is a problem
    ledger: Ledger
    diverged: Diverged | None
    problem: str = ""


class Saved(NamedTuple):
    """What a rank is handed to go on."""

    snapshot: Snapshot
    ledger: Ledger | None  # the counts of all ranks, on one of them


class Service(Protocol):
    """What rank 0 hands out and takes in. Lists have one entry per rank: that rank's own nodes and nothing else."""

    def parameters(self) -> Sequence[tuple[NDArray[np.int64], Array]]:
        """The numbers of the rank's nodes [n] and their initial parameters [n, p]."""

    def neighbourhoods(self, t: int) -> Sequence[Neighbourhood | None]:
        """The topology of mini-batch t; None where it is the one that was served last."""

    def dataset(self) -> Sequence[tuple[Rows, Rows]]:
        """Training and test samples, where they are served at once."""

    def minibatch(self, t: int, chosen: Order) -> Sequence[Rows]:
        """The samples of mini-batch t, where they are streamed."""

    def test(self, t: int, k: int) -> Sequence[tuple[Neighbourhood | None, Rows]]:
        """The test samples' mini-batch k after mini-batch t, where they are streamed, and the topology for it."""

    def begin(self, epoch: int) -> Order | None:
        """The order of the epoch's samples; None ends the run."""

    def criticise(self, reports: Sequence[Array]) -> Sequence[Array]:
        """What the central critic makes of the nodes' reports on a wave [n, w, 3]: ∂(objective)/∂z [n, w]."""

    def log(self, logs: Sequence[Log]) -> bool:
        """Take in what the ranks tell within an epoch; whether the run is to go on."""

    def end(self, epoch: int, reports: Sequence[Report]) -> None:
        """Take in the ranks' reports."""

    def save(self, t: int, states: Sequence[State], stop: int) -> None:
        """Keep what the ranks have after t mini-batches; `stop`: the signal that ends the run here, or 0."""

    def saved(self) -> Sequence[Saved]:
        """What was kept before."""


def train(job: Job, team: Team, service: Service | None = None) -> None:
    """Run `job` on this rank; rank 0 has the `service`.

    A run that is asked to stop (:mod:`fdtrain.stopping`) does so on all ranks after the same mini-batch.

    Raises:
        InputError: on all ranks, when the topology service finds no usable graph, or what was saved does not fit.
    """
    serve = cast(Service, service)  # called on rank 0 only
    ids, theta = team.deal(lambda: serve.parameters(), what="initial parameters")
    engine = make_engine(job, team, serve, theta)
    rows = None if job.streamed else team.deal(lambda: serve.dataset(), what="samples")
    diverged: Diverged | None = None
    t, losses = job.done, _go_on(engine, job, team, serve) if job.done else list[Array]()
    first, place = job.place(t)
    for epoch in range(first, job.epochs):
        if t == job.limit:
            break
        order = team.share(lambda e: serve.begin(e), epoch, what="the order of samples")
        if order is None:
            break
        for chosen in job.batches(order, place):
            if t == job.limit:
                break
            team.minibatch = t
            tested = rows is None and t % job.minibatches == 0  # since the last one, maybe on other graphs
            if job.rewires_at(t) or tested:
                rewire(engine, job, team, team.deal(lambda t: serve.neighbourhoods(t), t, what="topology"))
            if rows is None:
                part = team.deal(lambda t, chosen: serve.minibatch(t, chosen), t, chosen, what="samples")
            else:
                part = Rows(rows[0].x[:, chosen], rows[0].y[:, chosen])
            losses.append(engine.minibatch(job.schedule(len(chosen)), part))
            if diverged is None and not np.isfinite(engine.theta).all():
                diverged = _locate(t, engine, ids)
            t += 1
            if len(losses) == job.log_every:
                logs = team.control.gather(Log(_stacked(losses, len(ids)), diverged))
                losses = []
                if not team.share(lambda logs: serve.log(logs), logs):
                    return
            stop = team.control.vote(stopping.requested())
            if stop or job.saves_after(t):
                states = team.control.gather(_state(engine, losses, diverged))
                if states is not None:
                    serve.save(t, states, stop)
                if stop:
                    return
        report = _report(engine, job, team, serve, t, rows, losses, diverged)
        reports = team.control.gather(report)
        if reports is not None:
            serve.end(epoch, reports)
        losses, place = [], 0


def _report(
    engine: Engine,
    job: Job,
    team: Team,
    serve: Service,
    t: int,
    rows: tuple[Rows, Rows] | None,
    losses: Sequence[Array],
    diverged: Diverged | None,
) -> Report:
    """Test after t mini-batches, and tell of the epoch."""
    test_loss = np.zeros(engine.n)
    for k in range(job.test_minibatches):
        if rows is None:
            hood, part = team.deal(lambda t, k: serve.test(t, k), t - 1, k, what="test samples")
            rewire(engine, job, team, hood)
        else:
            part = rows[1]
        test_loss += engine.infer(job.test_schedule, part)
    train_loss = _stacked(losses, engine.n)
    return Report(train_loss, test_loss, engine.theta, engine.grad, engine.settle(), diverged)


def _go_on(engine: Engine, job: Job, team: Team, serve: Service) -> list[Array]:
    """Take up what was saved after ``job.done`` mini-batches; return the losses that rank 0 had not yet heard."""
    rewire(engine, job, team, team.deal(lambda t: serve.neighbourhoods(t), job.done - 1, what="topology"))
    saved: Saved = team.deal(lambda: serve.saved(), what="what was saved")
    snapshot = saved.snapshot
    losses = snapshot.nodes[_LOSSES]
    engine.restore(
        replace(snapshot, nodes={k: v for k, v in snapshot.nodes.items() if k != _LOSSES}), saved.ledger
    )
    return [*np.ascontiguousarray(losses.T)]


def _state(engine: Engine, losses: Sequence[Array], diverged: Diverged | None) -> State:
    ledger = copy.deepcopy(engine.settle())
    try:
        snapshot = engine.snapshot()
    except InputError as error:
        return State(None, ledger, diverged, str(error))
    snapshot.nodes[_LOSSES] = _stacked(losses, engine.n)
    return State(snapshot, ledger, diverged)


def _stacked(losses: Sequence[Array], nodes: int) -> Array:
    return np.stack(losses, axis=1) if losses else np.zeros((nodes, 0))


def make_engine(job: Job, team: Team, serve: Service, theta: Array) -> Engine:
    """This rank's nodes, with parameters `theta` [n, p]; `serve` is called on rank 0 only."""

    def ask(report: Array) -> Array:
        sensitivities: Array = team.deal(
            lambda reports: serve.criticise(reports), team.control.gather(report)
        )
        return sensitivities

    turn = make_turn(job.critic, ask)
    parts = job.model, job.network, job.loss, job.optimizer, job.mixing, team.transport
    return Engine(*parts, theta, turn, job.links(len(theta)), job.kernel, job.precision)


def rewire(engine: Engine, job: Job, team: Team, hood: Neighbourhood | None) -> None:
    """Take a new topology, where there is one; the first says how messages are best exchanged."""
    if hood is None:
        return
    is_first = engine.plan is None
    engine.rewire(hood, job.programme)
    if is_first and engine.plan is not None:
        schedule = job.programme[0][1]
        until = None if job.redraw_every is None else job.redraw_every * len(schedule.rounds)
        choose(job.transport, engine.plan, math.ceil(schedule.average_width), until, team)


def follow(team: Team) -> None:
    """The part of all ranks but 0: carry out what rank 0 orders, until there is no more.

    An order is a function of the team that every rank calls, such as ``partial(train, job)``.
    """
    while (order := team.share(lambda: None)) is not None:
        order(team)


def log_to(folder: Path, team: Team) -> None:
    """An order: write this rank's log into `folder`."""
    team.logs = folder


def _locate(t: int, engine: Engine, ids: NDArray[np.int64]) -> Diverged:
    node, number = np.argwhere(~np.isfinite(engine.theta))[0]
    return Diverged(t, int(ids[node]), engine.model.part_of(int(number)))
