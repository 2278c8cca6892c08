"""A training run on one rank: epochs and mini-batches around the engine, and the control plane between them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain import disagreement, scans, stopping
from fdtrain.drawing import Recipe, drawn
from fdtrain.engine import Engine
from fdtrain.errors import InputError
from fdtrain.graph import Neighbourhood
from fdtrain.job import Job
from fdtrain.losses import SquaredError
from fdtrain.passes import Rows
from fdtrain.reports import Diverged, Kind, Log, Report, Saved, State, Taker, hand_in
from fdtrain.team import Team
from fdtrain.transport.choice import choose
from fdtrain.turns import make_turn

Array = NDArray[np.float64]
Order = NDArray[np.int64]

_COMPILING = 300.0  # seconds
_LOSSES = (
    "losses"  # the snapshot's rows that are no engine's: Σ_b ℓ_i of mini-batches of which rank 0 was not told
)


class Service(Taker, Protocol):
    """What rank 0 hands out and takes in. Lists have one entry per rank: that rank's own nodes and nothing else."""

    def parameters(self) -> Sequence[tuple[NDArray[np.int64], Array]]:
        """The numbers of the rank's nodes [n] and their initial parameters [n, p], or [1, p] where all are alike."""

    def neighbourhoods(self, t: int) -> Sequence[Neighbourhood | None]:
        """The topology of mini-batch t; None where it is the one that was served last."""

    def dataset(self) -> Sequence[tuple[Rows, Rows] | Recipe]:
        """Training and test samples, where they are served at once; or the recipe by which ranks draw their own."""

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

    def average(self, parts: Sequence[disagreement.Sums]) -> Array:
        """θ̄ [p], from the sums of every rank."""

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
    own = _train(job, team, serve)
    scans.give_back(own["theta"])  # the engine is not needed any more
    hand_in(own, team, serve)


def _train(job: Job, team: Team, serve: Service) -> dict[Kind, Array]:
    """All mini-batches; what the rank's nodes have in the end."""
    ids, engine, rows = _prepare(job, team, serve)
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
                part = rows[0]._replace(order=chosen)
            losses.append(engine.minibatch(job.schedule(len(chosen)), part))
            if diverged is None and not scans.is_finite(engine.theta):
                diverged = _locate(t, engine, ids)
            t += 1
            if len(losses) == job.log_every:
                logs = team.control.gather(Log(_stacked(losses, len(ids)), diverged))
                losses = []
                if not team.share(lambda logs: serve.log(logs), logs):
                    return _own(engine)
            stop = team.control.vote(stopping.requested())
            if stop or job.saves_after(t):
                problem = "" if job.saves_after(t) else job.unsaved
                states = team.control.gather(_state(engine, losses, diverged, problem))
                if states is not None:
                    serve.save(t, states, stop)
                if stop:
                    return _own(engine)
        report = _report(engine, job, team, serve, t, rows, ids, losses, diverged)
        reports = team.control.gather(report)
        if reports is not None:
            serve.end(epoch, reports)
        losses, place = [], 0
    return _own(engine)


def _own(engine: Engine) -> dict[Kind, Array]:
    return {"theta": engine.theta, "gradient": engine.grad}


def _prepare(
    job: Job, team: Team, serve: Service
) -> tuple[NDArray[np.int64], Engine, tuple[Rows, Rows] | None]:
    """The numbers of the rank's nodes, an engine for them, and all samples, where they are not streamed."""
    rows, hood = None, None
    compile_once(job, team)
    if not job.streamed:
        hood = team.deal(lambda t: serve.neighbourhoods(t), max(job.done - 1, 0), what="topology")
        rows = team.deal(lambda: serve.dataset(), what="samples")
        if isinstance(rows, Recipe):
            rows = drawn(rows, job, hood, team)
    ids, theta = team.deal(lambda: serve.parameters(), what="initial parameters")
    engine = make_engine(job, team, serve, np.broadcast_to(theta, (len(ids), theta.shape[1])))
    rewire(engine, job, team, hood)
    return ids, engine, rows


def _report(
    engine: Engine,
    job: Job,
    team: Team,
    serve: Service,
    t: int,
    rows: tuple[Rows, Rows] | None,
    ids: NDArray[np.int64],
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
    parts = team.control.gather(disagreement.sums_of(engine.theta))
    mean = team.share(lambda parts: serve.average(parts), parts, what="the mean parameters")
    return Report(
        _stacked(losses, engine.n),
        test_loss,
        disagreement.squared_distances(engine.theta, mean),
        _largest(engine.theta, ids),
        engine.settle(),
        diverged,
    )


def _largest(theta: Array, ids: NDArray[np.int64]) -> scans.Largest:
    found = scans.largest(theta)
    return found._replace(node=int(ids[found.node])) if len(ids) else found


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


def _state(engine: Engine, losses: Sequence[Array], diverged: Diverged | None, problem: str) -> State:
    ledger = copy.deepcopy(engine.settle())
    if problem:
        return State(None, ledger, diverged, problem)
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


def compile_once(job: Job, team: Team) -> None:
    """Let rank 0 compile what all ranks are going to need; the others then find it on disk."""
    if team.size > 1 and job.kernel != "numpy" and isinstance(job.loss, SquaredError):

        def compile_all() -> None:
            from fdtrain.kernels.loop import warm

            warm(job.precision.arithmetic)

        team.share(compile_all, what="compiled loops", patience=_COMPILING)


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
    team.transport.forget()


def log_to(folder: Path, team: Team) -> None:
    """An order: write this rank's log into `folder`."""
    team.logs = folder


def _locate(t: int, engine: Engine, ids: NDArray[np.int64]) -> Diverged:
    node, number = scans.first_not_finite(engine.theta)
    return Diverged(t, int(ids[node]), engine.model.part_of(number))
