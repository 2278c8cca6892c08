"""Synthetic samples that every rank draws for its own nodes, with labels by a teacher over messages of its own.

Nobody has the samples of all nodes: rank 0 sends a recipe. The teacher is a model with the same parameters at all
nodes; its rounds are over before training begins, and the ledger knows nothing of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdtrain.engine import make_pass
from fdtrain.features import draw_all_features, draw_noise
from fdtrain.graph import Neighbourhood
from fdtrain.job import Job
from fdtrain.partition import ExchangePlan
from fdtrain.passes import Pass, Rows
from fdtrain.schedule import build
from fdtrain.team import Team
from fdtrain.transport.base import Transport
from fdtrain.turns import LocalLoss
from fdtrain.wire import Wire

Array = NDArray[np.float64]

_NUMBERS = 20_000_000  # of all nodes in an array of the teacher's, at most if a wave of one sample allows it


@dataclass(frozen=True, eq=False)
class Recipe:
    """How the samples of a run are drawn, on one graph."""

    number: int  # those of the same number are the same samples
    seed: int
    features: str
    noise: float  # standard deviation
    train_samples: int
    test_samples: int
    teacher: Array  # its parameters [p]
    wave: int  # samples that share its messages

    def draw(
        self, purpose: str, step: int, ids: NDArray[np.int64], samples: int, widths: tuple[int, int]
    ) -> Rows:
        """Features, and noise in place of labels, of the nodes `ids` [n]; `widths` are g_0 and g_L."""
        x = draw_all_features(self.seed, f"features/{purpose}", step, ids, samples, widths[0], self.features)
        return Rows(x, draw_noise(self.seed, f"noise/{purpose}", step, ids, samples, widths[1], self.noise))


def drawn(recipe: Recipe, job: Job, hood: Neighbourhood, team: Team) -> tuple[Rows, Rows]:
    """The training and test samples of this rank's nodes, of which it knows `hood`; on all ranks at once.

    The team keeps those that were drawn last, for the jobs to come.
    """
    if team.samples is None or team.samples[0] != recipe.number:
        team.samples = None  # before others are made
        team.samples = recipe.number, _draw(recipe, job, hood, team)
    found: tuple[Rows, Rows] = team.samples[1]
    return found


def _draw(recipe: Recipe, job: Job, hood: Neighbourhood, team: Team) -> tuple[Rows, Rows]:
    widths = job.model.inputs, job.model.outputs
    train = recipe.draw("train", 0, hood.ids, recipe.train_samples, widths)
    test = recipe.draw("test", 0, hood.ids, recipe.test_samples, widths)
    teacher = Teacher(recipe.teacher, job, hood, team.transport)
    for rows in (train, test):
        teacher.label(rows, recipe.wave)
    return train, test


class Teacher:
    """One model at all nodes of a rank, and inference by messages."""

    def __init__(self, theta: Array, job: Job, hood: Neighbourhood, transport: Transport) -> None:
        """`theta` [p] are its parameters; the model and its weights are those of `job`, on all ranks at once."""
        self._job, self._transport, self._nodes = job, transport, hood.num_nodes
        self._hood, self._plan = hood, ExchangePlan.of(hood, transport.rank)
        self._theta = theta[None]

    def label(self, rows: Rows, wave: int) -> None:
        """Add what it makes of the features to ``rows.y``, in waves of so many samples."""
        samples = rows.x.shape[1]
        full = samples - samples % wave
        for first, last, size in ((0, full, wave), (full, samples, samples - full)):
            if last > first:
                self._add(Rows(rows.x[:, first:last], rows.y[:, first:last]), size)

    def _add(self, rows: Rows, wave: int) -> None:
        job, hood = self._job, self._hood
        schedule = build("inference", outline=job.model.outline, batch=wave, wave=wave)
        wire = Wire(self._plan, max(schedule.peak_width, job.network.setup_width(schedule)))
        sums = job.network.rewire(hood, wire, job.mixing, self._transport).sums(schedule)
        parts = job.model, job.network, job.loss, LocalLoss(job.loss), job.optimizer
        forward = make_pass(*parts, "test", schedule, self._nodes, job.kernel)
        theta = self._theta
        if isinstance(forward, Pass):
            theta = np.broadcast_to(theta, (self._nodes, theta.shape[1]))
        forward.bind(wire, sums, theta, theta, _send_nothing)
        for first in range(0, rows.x.shape[1], wave):
            part = slice(first, first + wave)
            forward.load(Rows(rows.x[:, part], rows.y[:, part]))
            with np.errstate(all="ignore"):
                forward.run(self._transport)
            rows.y[:, part] += forward.finished()


def wave_for(nodes: int, widest: int, samples: int) -> int:
    """Samples that share the teacher's messages: as many for any number of ranks, so that labels have the same bits."""
    return min(samples, max(1, _NUMBERS // (nodes * widest)))


def _send_nothing(pass_: object, wave: int | None, out: Array) -> None: ...
