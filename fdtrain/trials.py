"""Small jobs of an experiment, and what the oracle has to know to compute the same (SPEC §7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.experiment import Experiment, run_job
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.reports import Kind
from fdtrain.service import Host, Outcome, Topology
from fdtrain.tasks.base import DataService, Samples
from fdtrain.team import Team

Array = NDArray[np.float64]


class Trials:
    """Runs them on rank 0 of a team, each a job for the whole team."""

    def __init__(self, experiment: Experiment, team: Team) -> None:
        self.experiment, self._team = experiment, team
        self.job = replace(experiment.job, channel=None)  # on which all messages arrive
        self.oracle = experiment.oracle

    def run(
        self, theta: Array, limit: int, *, lossy: bool = False, wanted: Sequence[Kind] = ("theta",)
    ) -> Outcome:
        """The experiment's first `limit` mini-batches, from `theta` [V, p], with one test mini-batch; `lossy`: over its
        own channels. What is `wanted` of all nodes is in the outcome."""
        epochs = -(-limit // self.job.minibatches)
        whole = self.experiment.job if lossy else self.job
        job = replace(whole, limit=limit, epochs=epochs, test_minibatches=1)
        return self.execute(job, self.experiment.topology, self.experiment.data, theta, wanted)

    def execute(
        self,
        job: Job,
        topology: Topology,
        data: DataService,
        theta: Array,
        wanted: Sequence[Kind] = ("theta",),
    ) -> Outcome:
        """Any job, from `theta` [V, p]."""
        ranks, critic = self._team.size, self.experiment.critic()
        owner = self.experiment.owners(topology, ranks)
        host = Host(job, topology, data, theta, ranks, critic=critic, owner=owner)
        host.kinds = tuple(wanted)
        run_job(job, self._team, host)
        return host.outcome

    def minibatches(self, count: int) -> Iterator[tuple[Graph, Samples]]:
        """Graph and samples of the first mini-batches, as the oracle sees them: whole."""
        job, data, topology = self.job, self.experiment.data, self.experiment.topology
        for t in range(count):
            epoch, k = divmod(t, job.minibatches)
            graph = topology.graph(t)
            chosen = data.order(epoch)[k * job.batch : (k + 1) * job.batch]
            samples = self.experiment.samples(t, chosen, graph)
            yield graph, samples

    def equal_theta(self) -> Array:
        """The first node's initial θ at every node, [V, p]."""
        theta = self.experiment.theta
        return np.broadcast_to(theta[0], theta.shape)

    def different_theta(self) -> Array:
        """Initial parameters [V, p] that differ from node to node."""
        theta = self.experiment.theta
        spread = 0.1 * max(float(np.abs(theta).max()), 0.1)
        draws = rng.generator(self.experiment.config.seed, "verify")
        return theta + spread * draws.standard_normal(theta.shape)


def relative(found: Array, wanted: Array) -> float:
    """max |found − wanted| / max |wanted|."""
    scale = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found - wanted).max()) / scale
