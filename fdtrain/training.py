"""A training run on one rank: epochs and mini-batches around the engine, and the control plane between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain.engine import Engine
from fdtrain.graph import Neighbourhood
from fdtrain.job import Job
from fdtrain.ledger import Ledger
from fdtrain.team import Team

Array = NDArray[np.float64]
Order = NDArray[np.int64]


class Rows(NamedTuple):
    """Samples of a rank's own nodes: x [n, N, g_0], y [n, N, g_L]."""

    x: Array
    y: Array


class Diverged(NamedTuple):
    """Where a parameter was first seen not to be finite."""

    minibatch: int
    node: int
    layer: int


@dataclass(frozen=True)
class Report:
    """What a rank tells rank 0 at the end of an epoch."""

    train_loss: Array  # [n, mini-batches] Σ_b ℓ_i before each update
    test_loss: Array  # [n] Σ over the test samples
    theta: Array  # [n, p]
    gradient: Array  # [n, p] of the last mini-batch
    ledger: Ledger
    diverged: Diverged | None


class Service(Protocol):
    """What rank 0 hands out and takes in. Lists have one entry per rank: that rank's own nodes and nothing else."""

    def parameters(self) -> Sequence[tuple[NDArray[np.int64], Array]]:
        """The numbers of the rank's nodes [n] and their initial parameters [n, p]."""

    def neighbourhoods(self, t: int) -> Sequence[Neighbourhood]:
        """The topology of mini-batch t."""

    def dataset(self) -> Sequence[tuple[Rows, Rows]]:
        """Training and test samples, where they are served at once."""

    def minibatch(self, t: int, chosen: Order) -> Sequence[Rows]:
        """The samples of mini-batch t, where they are streamed."""

    def test(self, t: int) -> Sequence[Rows]:
        """The test samples on the topology of mini-batch t, where they are streamed."""

    def begin(self, epoch: int) -> Order | None:
        """The order of the epoch's samples; None ends the run."""

    def end(self, epoch: int, reports: Sequence[Report]) -> None:
        """Take in the ranks' reports."""


def train(job: Job, team: Team, service: Service | None = None) -> None:
    """Run `job` on this rank; rank 0 has the `service`.

    Raises:
        InputError: on all ranks, when the topology service finds no usable graph.
    """
    serve = cast(Service, service)  # called on rank 0 only
    ids, theta = team.deal(lambda: serve.parameters())
    engine = Engine(job.model, job.shift, job.loss, job.optimizer, job.mixing, team.transport, theta)
    rows = None if job.streamed else team.deal(lambda: serve.dataset())
    diverged: Diverged | None = None
    t = 0
    for epoch in range(job.epochs):
        order = None if t == job.limit else team.share(lambda e: serve.begin(e), epoch)
        if order is None:
            break
        losses = []
        for chosen in job.batches(order):
            if t == job.limit:
                break
            if job.rewires_at(t):
                engine.rewire(team.deal(lambda t: serve.neighbourhoods(t), t), job.programme)
            if rows is None:
                x, y = team.deal(lambda t, chosen: serve.minibatch(t, chosen), t, chosen)
            else:
                x, y = rows[0].x[:, chosen], rows[0].y[:, chosen]
            losses.append(engine.minibatch(job.schedule(len(chosen)), x, y))
            if diverged is None and not np.isfinite(engine.theta).all():
                diverged = _locate(t, engine, ids)
            t += 1
        x, y = rows[1] if rows is not None else team.deal(lambda t: serve.test(t), t - 1)
        test_loss = engine.infer(job.test_schedule, x, y)
        train_loss = np.stack(losses, axis=1)
        report = Report(train_loss, test_loss, engine.theta, engine.grad, engine.settle(), diverged)
        reports = team.control.gather(report)
        if reports is not None:
            serve.end(epoch, reports)


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
    return Diverged(t, int(ids[node]), engine.model.layer_of(int(number)))
