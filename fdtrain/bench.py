"""How fast: rounds of training against bare exchanges, epochs against a NumPy yardstick, and the start of the ranks.

Machines are shared and noisy, so every figure is a ratio of two measurements taken in turn in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.bench_orders import Timing, measure, minibatches, start
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment
from fdtrain.layers.gcnn import Gcnn
from fdtrain.networks import ShiftNetwork
from fdtrain.schedule import Schedule
from fdtrain.team import Team

Array = NDArray[np.float64]


class Benchmark:
    """The benchmarks of one experiment, on rank 0 of a team."""

    def __init__(self, experiment: Experiment, team: Team) -> None:
        self._experiment, self._team = experiment, team
        self._host = experiment.host(team.size)

    def rounds(self, repeats: int) -> str:
        """A round of training against a bare exchange of the same buffers."""
        timings = self._measure(repeats)
        count = len(self._schedule().rounds)
        ratios = [timing.minibatch / timing.exchange for timing in timings]
        return (
            f"a round of training {median(t.minibatch for t in timings) / count * 1e3:.3f} ms, "
            f"a bare exchange {median(t.exchange for t in timings) / count * 1e3:.3f} ms "
            f"on {self._team.size} ranks; ratio {_spread(ratios)}"
        )

    def epochs(self, repeats: int) -> str:
        """An epoch against the yardstick's."""
        job = self._experiment.job
        timings = self._measure(repeats, self._yardstick(), job.minibatches)
        ratios = [job.minibatches * t.minibatch / t.yardstick for t in timings]
        return (
            f"an epoch of {job.minibatches} mini-batches at wave {job.wave}: "
            f"{job.minibatches * median(t.minibatch for t in timings) * 1e3:.1f} ms on {self._team.size} ranks, "
            f"single-process NumPy {median(t.yardstick for t in timings) * 1e3:.1f} ms; ratio {_spread(ratios)}"
        )

    def minibatches(self, repeats: int) -> str:
        """Whole mini-batches whose data are streamed, from the drawing of their channels to the update."""
        job = self._experiment.job
        if job.minibatches < 2:
            raise InputError("bench minibatches: the first one only warms up; needs 2 or more in an epoch")
        self._team.order(partial(minibatches, job, repeats))
        seconds = minibatches(job, repeats, self._team, self._host)
        return (
            f"a mini-batch of {job.batch} samples at wave {job.wave}, {self._experiment.nodes} nodes on "
            f"{self._team.size} ranks: {median(seconds) * 1e3:.1f} ms (median of {len(seconds)}, "
            f"{min(seconds) * 1e3:.1f} to {max(seconds) * 1e3:.1f})"
        )

    def start(self, launched: float) -> str:
        """Seconds from `launched`, a ``time.time()``, to the end of the first round of messages."""
        job = self._experiment.job
        self._team.order(partial(start, job))
        start(job, self._team, self._host)
        return (
            f"from the command to the first round of {self._team.size} ranks: {time.time() - launched:.2f} s"
        )

    def _measure(self, repeats: int, yardstick: Yardstick | None = None, count: int = 1) -> list[Timing]:
        job = self._experiment.job
        self._team.order(partial(measure, job, repeats, count=count))
        own = None if yardstick is None else yardstick.epoch
        return measure(job, repeats, self._team, self._host, own, count)

    def _schedule(self) -> Schedule:
        job = self._experiment.job
        return job.schedule(min(job.batch, job.train_samples))

    def _yardstick(self) -> Yardstick:
        job, topology = self._experiment.job, self._experiment.topology
        model, network = job.model, job.network
        fits = isinstance(model, Gcnn) and model.form == "receiver" and model.activations == ("sigmoid",) * 2
        if not fits or not isinstance(network, ShiftNetwork) or self._experiment.nodes > 2000:
            raise InputError(
                "bench epochs: the yardstick is for two sigmoid layers in receiver form and at most 2000 nodes"
            )
        graph = topology.graph(0)
        samples, _ = self._experiment.data.dataset(graph)
        shift = np.asarray(reference.shift_matrix(graph.adjacency(), network.shift).toarray())
        x, y = (np.ascontiguousarray(a[: job.batch].swapaxes(0, 1)) for a in (samples.x, samples.y))
        theta = [view[0].copy() for view in job.model.views(self._experiment.theta[:1]).values()]
        return Yardstick(shift, x, y, theta, job.minibatches)


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f} (median of {len(ratios)}, {min(ratios):.2f} to {max(ratios):.2f})"


@dataclass(frozen=True)
class Yardstick:
    """A single-process epoch of centralized SGD in plain vectorised NumPy: two sigmoid layers, one θ for all nodes.

    What a careful user would write for the published setting; S is applied as a dense matrix to all samples at once.
    """

    shift: Array  # [V, V]
    x: Array  # [V, B, g_0]
    y: Array  # [V, B, g_2]
    theta: Sequence[Array]  # Θ0_1, Θ1_1, Θ0_2, Θ1_2
    minibatches: int
    lr: float = 1e-3

    def epoch(self) -> float:
        """Seconds of an epoch."""
        start = time.perf_counter()
        for _ in range(self.minibatches):
            self._minibatch()
        return time.perf_counter() - start

    def _minibatch(self) -> None:
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
            theta -= self.lr * left.reshape(nodes * batch, -1).T @ right.reshape(nodes * batch, -1)

    def _spread(self, x: Array) -> Array:
        return (self.shift @ x.reshape(len(x), -1)).reshape(x.shape)
