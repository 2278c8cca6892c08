"""Synthetic samples that every rank draws for its own nodes, with labels by a teacher over messages of its own.

Nobody has the samples of all nodes: rank 0 sends a recipe. The teacher is a model with the same parameters at all
nodes; its rounds are over before training begins, and the ledger knows nothing of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdtrain import scans
from fdtrain.engine import make_pass
from fdtrain.features import draw_all_features, draw_noise
from fdtrain.graph import Neighbourhood
from fdtrain.job import Job
from fdtrain.partition import ExchangePlan
from fdtrain.passes import Pass, Rows
from fdtrain.precision import Arithmetic
from fdtrain.schedule import Schedule, build
from fdtrain.team import Team
from fdtrain.transport.base import Transport
from fdtrain.turns import LocalLoss
from fdtrain.wire import Wire

Array = NDArray[np.float64]

_NUMBERS = 20_000_000  # of all nodes in an array of the teacher's, at most if a wave of one sample allows it


@dataclass(frozen=True, eq=False)
class Recipe:
    """How the samples of a run are drawn, on one graph."""

    number: int  # those of the same number are the same samples of all nodes
    seed: int
    features: str
    noise: float  # standard deviation
    train_samples: int
    test_samples: int
    teacher: Array  # its parameters [p]
    wave: int  # samples that share its messages
    hosts: str = ""  # those of the same are for the same nodes on every rank

    def draw(
        self,
        purpose: str,
        step: int,
        ids: NDArray[np.int64],
        samples: int,
        widths: tuple[int, int],
        arithmetic: Arithmetic = "float64",
    ) -> Rows:
        """Features, and noise in place of labels, of the nodes `ids` [n]; `widths` are g_0 and g_L."""
        features = f"features/{purpose}"
        x = draw_all_features(self.seed, features, step, ids, samples, widths[0], self.features, arithmetic)
        noise = draw_noise(self.seed, f"noise/{purpose}", step, ids, samples, widths[1], self.noise)
        return Rows(x, noise.astype(arithmetic, copy=False))


def drawn(recipe: Recipe, job: Job, hood: Neighbourhood, team: Team) -> tuple[Rows, Rows]:
    """The training and test samples of this rank's nodes, of which it knows `hood`; on all ranks at once.

    The team keeps those that were drawn last, for the jobs to come.
    """
    wanted = (recipe.number, recipe.hosts)
    if team.samples is None or team.samples[0] != wanted:
        team.samples = None  # before others are made
        team.samples = wanted, _draw(recipe, job, hood, team)
    found: tuple[Rows, Rows] = team.samples[1]
    return found


def _draw(recipe: Recipe, job: Job, hood: Neighbourhood, team: Team) -> tuple[Rows, Rows]:
    widths, own = (job.model.inputs, job.model.outputs), job.precision.arithmetic
    train = recipe.draw("train", 0, hood.ids, recipe.train_samples, widths, own)
    test = recipe.draw("test", 0, hood.ids, recipe.test_samples, widths, own)
    teacher = Teacher(recipe.teacher, recipe.wave, job, hood, team.transport)
    for rows in (train, test):
        teacher.label(rows)
    return train, test


class Teacher:
    """One model at all nodes of a rank, and inference by messages."""

    def __init__(self, theta: Array, wave: int, job: Job, hood: Neighbourhood, transport: Transport) -> None:
        """`theta` [p] are its parameters, `wave` samples share its messages; the model and its weights are those of
        `job`, on all ranks at once."""
        self._job, self._wave, self._transport = job, wave, transport
        self._theta, self._nodes = theta[None], hood.num_nodes
        widest = self._schedule(wave)
        plan = ExchangePlan.of(hood, transport.rank)
        self._wire = Wire(plan, max(widest.peak_width, job.network.setup_width(widest)))
        self._wiring = job.network.rewire(hood, self._wire, job.mixing, transport)

    def label(self, rows: Rows) -> None:
        """Add what it makes of the features to ``rows.y``."""
        samples = rows.x.shape[1]
        full = samples - samples % self._wave
        for first, last, size in ((0, full, self._wave), (full, samples, samples - full)):
            if last > first:
                self._add(rows, np.arange(first, last).reshape(-1, size))
                scans.give_back(rows.x)

    def _schedule(self, wave: int) -> Schedule:
        return build("inference", outline=self._job.model.outline, batch=wave, wave=wave)

    def _add(self, rows: Rows, waves: NDArray[np.int64]) -> None:
        """Label the samples of the `waves` [·, w]."""
        job, schedule = self._job, self._schedule(waves.shape[1])
        parts = job.model, job.network, job.loss, LocalLoss(job.loss), job.optimizer
        forward = make_pass(*parts, "test", schedule, self._nodes, job.kernel)
        theta = self._theta
        if isinstance(forward, Pass):
            theta = np.broadcast_to(theta, (self._nodes, theta.shape[1]))
        forward.bind(self._wire, self._wiring.sums(schedule), theta, theta, _send_nothing)
        for wave in waves:
            forward.load(rows._replace(order=wave))
            with np.errstate(all="ignore"):
                forward.run(self._transport)
            rows.y[:, wave] += forward.finished()


def wave_for(nodes: int, widest: int, samples: int) -> int:
    """Samples that share the teacher's messages: as many for any number of ranks, so that labels have the same bits."""
    return min(samples, max(1, _NUMBERS // (nodes * widest)))


def _send_nothing(pass_: object, wave: int | None, out: Array) -> None: ...
