"""How fast: rounds of training against bare exchanges, epochs against a NumPy yardstick, and the start of the ranks.

Machines are shared and noisy, so every figure is a ratio of two measurements taken in turn in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain.engine import Engine
from fdtrain.job import Job
from fdtrain.team import Team
from fdtrain.training import Service

Array = NDArray[np.float64]


class Timing(NamedTuple):
    """Seconds of one mini-batch, and of the bare exchange of the same buffers."""

    minibatch: float
    exchange: float


def measure(job: Job, repeats: int, team: Team, service: Service | None = None) -> list[Timing]:
    """An order: time the first mini-batch of `job`, and its rounds without arithmetic, in turn, `repeats` times.

    The bare exchange sends the same buffers to the same peers over the same transport, round by round. Rank 0's times
    count, from one common start to the next.
    """
    serve = cast(Service, service)
    _, theta = team.deal(lambda: serve.parameters())
    rows, _ = team.deal(lambda: serve.dataset())
    engine = Engine(job.model, job.shift, job.loss, job.optimizer, team.transport, theta)
    engine.rewire(team.deal(lambda: serve.neighbourhoods(0)), job.programme)
    batch = min(job.batch, job.train_samples)
    schedule = job.schedule(batch)
    x, y = rows.x[:, :batch], rows.y[:, :batch]
    layouts = engine.layouts(schedule)
    timings = []
    for _ in range(repeats + 1):
        start = _together(team)
        engine.minibatch(schedule, x, y)
        middle = _together(team)
        for layout in layouts:
            layout.exchange(team.transport)
        timings.append(Timing(middle - start, _together(team) - middle))
    return timings[1:]


def _together(team: Team) -> float:
    team.control.gather(None)
    team.control.bcast(None)
    return time.perf_counter()


def run(job: Job, repeats: int, team: Team, service: Service) -> list[Timing]:
    """On rank 0: :func:`measure` on the whole team."""
    team.order(cast("partial[None]", partial(measure, job, repeats)))
    return measure(job, repeats, team, service)


@dataclass(frozen=True)
class Yardstick:
    """A single-process epoch of centralized SGD in plain vectorised NumPy: two sigmoid layers, one θ for all nodes.

    What a careful user would write for the published setting; S is applied as a dense matrix to all samples at once.
    """

    shift: Array  # [V, V]
    x: Array  # [V, B, g_0]
    y: Array  # [V, B, g_2]
    theta: Sequence[Array]  # Θ0_1, Θ1_1, Θ0_2, Θ1_2

    def epoch(self, minibatches: int = 10, lr: float = 1e-3) -> float:
        """Seconds of an epoch."""
        start = time.perf_counter()
        for _ in range(minibatches):
            self._minibatch(lr)
        return time.perf_counter() - start

    def _minibatch(self, lr: float) -> None:
        T01, T11, T02, T12 = self.theta
        nodes, batch, _ = self.x.shape
        a1 = self._spread(self.x)
        x1 = 1 / (1 + np.exp(-(self.x @ T01 + a1 @ T11)))
        a2 = self._spread(x1)
        out = 1 / (1 + np.exp(-(x1 @ T02 + a2 @ T12)))
        q2 = 2 * (out - self.y) * out * (1 - out) / nodes
        z1 = q2 @ T02.T + self._spread(q2 @ T12.T)
        q1 = z1 * x1 * (1 - x1)
        for theta, left, right in ((T01, self.x, q1), (T11, a1, q1), (T02, x1, q2), (T12, a2, q2)):
            theta -= lr * left.reshape(nodes * batch, -1).T @ right.reshape(nodes * batch, -1)

    def _spread(self, x: Array) -> Array:
        return (self.shift @ x.reshape(len(x), -1)).reshape(x.shape)
