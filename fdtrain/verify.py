"""The driver's proof that what the messages computed is what the oracle computes on global matrices (SPEC §7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference, rng
from fdtrain.experiment import Experiment, make_recursion, run_job
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.mixing import Laplacian, Metropolis
from fdtrain.optim.base import Optimizer
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.naive import Naive
from fdtrain.optim.rates import Constant
from fdtrain.optim.sgd import SGD
from fdtrain.optimizers import NaiveAdamConfig, PluginConfig
from fdtrain.schedule import BYTES_PER_NUMBER, expected_numbers, expected_rounds
from fdtrain.service import Host, Outcome
from fdtrain.tasks.base import DataService, Order, Samples
from fdtrain.team import Team
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import Complete
from fdtrain.trajectory import OracleTrajectory, OwnTrajectory, Trajectory

Array = NDArray[np.float64]

COMPLETE_NODES = 32  # exact consensus is shown on a complete graph of at most so many nodes


@dataclass(frozen=True)
class Comparison:
    """One line of the verification: an error and what it may be at most."""

    number: int  # of SPEC §7
    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; NaN is not."""
        return bool(self.error <= self.tolerance)


class Verifier:
    """Makes the comparisons on rank 0 of a team, each with small jobs for the whole team."""

    def __init__(self, experiment: Experiment, team: Team) -> None:
        self._experiment, self._team = experiment, team
        self._job = job = experiment.job
        self._config = experiment.config
        self._model = reference.Model(
            job.model.sizes, job.model.activations, job.model.form, job.model.negative_slope
        )

    def quick(self) -> list[Comparison]:
        """Comparisons 1, 2 and 5 on the first mini-batch."""
        if self._job.scheme == "inference":
            return [self.forward(), *self.cost()]
        return [self.gradient(), self.average(), *self.cost()]

    def full(self, minibatches: int = 3) -> list[Comparison]:
        """Comparisons 1 to 5; the third and the fourth over the given number of mini-batches."""
        if self._job.scheme == "inference":
            return self.quick()
        gradient, average, *cost = self.quick()
        return [gradient, average, self.trajectory(minibatches), self.exact_consensus(minibatches), *cost]

    def forward(self) -> Comparison:
        """1, without training: the network loss of the first mini-batch, inferred by messages."""
        theta = self._different_theta()
        outcome = self._run(theta, limit=1)
        _, S, samples = next(self._minibatches(1))
        wanted = reference.mse(samples.y, self._model.forward(S, samples.x, theta))
        error = _relative(np.array(outcome.rows[-1].mse_train), np.array(wanted))
        return Comparison(1, "forward pass, different θ at every node", error, 1e-12)

    def gradient(self) -> Comparison:
        """1: every node's local gradient, with a different θ at every node.

        The error is relative to the norm of the node's own gradient or, where that nearly vanishes, to 10⁻³ of the
        largest.
        """
        theta = self._different_theta()
        outcome = self._run(theta, limit=1)
        _, S, samples = next(self._minibatches(1))
        wanted = self._model.local_gradients(S, samples.x, samples.y, theta)
        norms = np.linalg.norm(wanted, axis=1)
        scale = np.maximum(norms, 1e-3 * norms.max() if norms.max() > 0 else 1.0)
        error = np.linalg.norm(outcome.gradient - wanted, axis=1) / scale
        return Comparison(1, "local gradients, different θ at every node", float(error.max()), 1e-12)

    def average(self) -> Comparison:
        """2: with equal θ, the mean of the local gradients is the centralized gradient of ℓ."""
        theta = self._equal_theta()
        outcome = self._run(theta, limit=1)
        _, S, samples = next(self._minibatches(1))
        wanted = self._model.centralized_gradient(S, samples.x, samples.y, theta[0])
        error = _relative(outcome.gradient.mean(axis=0), wanted)
        return Comparison(2, "mean local gradient = centralized gradient", error, 1e-12)

    def trajectory(self, minibatches: int) -> Comparison:
        """3: after T mini-batches every θ^i is that of the matrix recursion."""
        theta = self._experiment.theta
        outcome = self._run(theta, limit=minibatches)
        kind, beta = "metropolis", 0.0
        if isinstance(self._job.mixing, Laplacian):
            kind, beta = "laplacian", self._job.mixing.beta
        own = isinstance(self._config.optimizer, PluginConfig)
        steps: Trajectory = (OwnTrajectory if own else OracleTrajectory)(self._experiment, theta)
        for graph, S, samples in self._minibatches(minibatches):
            W = reference.mixing_matrix(graph.adjacency(), kind, beta)
            gradients = [
                self._model.local_gradients(S, *part, steps.theta) for part in self._consensus_parts(samples)
            ]
            steps.advance(W, gradients)
        error = _relative(outcome.theta, steps.theta)
        name = f"every θ after {minibatches} mini-batches"
        name += ", by your optimizer's own step on global matrices" if own else ""
        return Comparison(3, name, error, 1e-10)

    def _consensus_parts(self, samples: Samples) -> list[Samples]:
        """The samples whose gradients are mixed together."""
        schedule = self._job.schedule(len(samples.x))
        if schedule.exchange != "after_wave":
            return [samples]
        stops = [0, *accumulate(schedule.waves)]
        return [Samples(samples.x[a:b], samples.y[a:b]) for a, b in pairwise(stops)]

    def exact_consensus(self, minibatches: int) -> Comparison:
        """4: on a complete graph, where Metropolis mixing is exact averaging, training is centralized training.

        An optimizer that mixes gradients has to follow the centralized one freely. Of the others D-SGD is tried: all
        nodes start a mini-batch from the same θ; after D-SGD's update, one more round of mixing (a mini-batch with α = 0)
        has to bring every node to the θ of centralized SGD. Without that round the identity holds for the first
        mini-batch only: gradients would be taken at θ^i that differ by α g_i.
        """
        if self._job.optimizer.mixes_gradient:
            return self._exact_consensus_on_gradients(minibatches)
        nodes = min(self._experiment.nodes, COMPLETE_NODES)
        topology = TopologyService(Complete(nodes=nodes), seed=0)
        graph = topology.graph(0)
        S = reference.shift_matrix(graph.adjacency(), self._job.shift)
        theta = self._equal_theta()[0]
        lr = self._config.optimizer.lr
        error = 0.0
        for _, _, samples in self._minibatches(minibatches):
            data = _Fixed(Samples(samples.x[:, :nodes], samples.y[:, :nodes]))
            job = self._once_through(data, DSGD(Constant(lr)), len(samples.x))
            stepped = self._execute(job, topology, data, np.tile(theta, (nodes, 1))).theta
            resting = replace(job, optimizer=DSGD(Constant(0.0)))
            mixed = self._execute(resting, topology, data, stepped).theta
            theta = theta - lr * self._model.centralized_gradient(S, *data.samples, theta)
            error = max(error, _relative(mixed, np.tile(theta, (nodes, 1))))
        return Comparison(
            4, f"D-SGD on a complete graph of {nodes} = SGD, {minibatches} mini-batches", error, 1e-10
        )

    def _exact_consensus_on_gradients(self, minibatches: int) -> Comparison:
        nodes = min(self._experiment.nodes, COMPLETE_NODES)
        topology = TopologyService(Complete(nodes=nodes), seed=0)
        S = reference.shift_matrix(topology.graph(0).adjacency(), self._job.shift)
        section, kind, recursion = self._config.optimizer, "sgd", reference.Recursion("sgd")
        optimizer: Optimizer[Any] = Naive(SGD(self._experiment.rate))
        if isinstance(section, NaiveAdamConfig):
            optimizer, kind = section.make(self._experiment.rate), "adam"
            recursion = replace(make_recursion(self._config), kind=kind)
        samples = [samples for _, _, samples in self._minibatches(minibatches)]
        x, y = (np.concatenate(parts)[:, :nodes] for parts in zip(*samples, strict=True))
        data, theta = _Fixed(Samples(x, y)), self._equal_theta()[:nodes]
        job = self._once_through(data, optimizer, min(self._job.batch, len(x)))
        found, state = self._execute(job, topology, data, theta).theta, recursion.start(theta[0])
        for t, chosen in enumerate(job.batches(data.order(0))):
            gradient = self._model.centralized_gradient(S, x[chosen], y[chosen], state.theta)
            state = recursion.advance(state, None, gradient, self._experiment.rate(t))
        error = _relative(found, np.tile(state.theta, (nodes, 1)))
        name = f"naive {kind} on a complete graph of {nodes} = {kind}, {minibatches} mini-batches"
        return Comparison(4, name, error, 1e-10)

    def _once_through(self, data: _Fixed, optimizer: Optimizer[Any], batch: int) -> Job:
        """The experiment's messages for one epoch of `data`, mixed by Metropolis weights."""
        return replace(
            self._job,
            epochs=1,
            batch=batch,
            wave=min(self._job.wave, batch),
            train_samples=len(data.samples.x),
            test_samples=1,
            redraw_every=None,
            streamed=False,
            optimizer=optimizer,
            mixing=Metropolis(),
        )

    def cost(self) -> list[Comparison]:
        """5: rounds, link messages and bytes of a mini-batch, as measured, against the formulas of Table I."""
        experiment, job = self._experiment, self._job
        outcome = self._run(experiment.theta, limit=1)
        graph = experiment.topology.graph(0)
        batch, measured = min(job.batch, job.train_samples), outcome.ledger.total["train"]
        schedule, links = job.schedule(batch), 2 * graph.num_edges
        rounds, numbers = expected_rounds(schedule), expected_numbers(schedule)
        pairs = [
            ("rounds", measured.rounds, rounds),
            ("link messages", measured.link_messages, rounds * links),
            ("link bytes", measured.link_bytes, numbers * links * BYTES_PER_NUMBER),
        ]
        return [
            Comparison(
                5, f"{name} per mini-batch: {found:,} measured, {wanted:,} by formula", abs(found - wanted), 0
            )
            for name, found, wanted in pairs
        ]

    def _run(self, theta: Array, limit: int) -> Outcome:
        job = replace(self._job, limit=limit, epochs=-(-limit // self._job.minibatches))
        return self._execute(job, self._experiment.topology, self._experiment.data, theta)

    def _execute(self, job: Job, topology: TopologyService, data: DataService, theta: Array) -> Outcome:
        host = Host(job, topology, data, theta, self._team.size)
        run_job(job, self._team, host)
        return host.outcome

    def _minibatches(self, count: int) -> Iterator[tuple[Graph, Any, Samples]]:
        """Graph, shift matrix and samples of the first mini-batches, as the oracle sees them: whole."""
        job, data, topology = self._job, self._experiment.data, self._experiment.topology
        for t in range(count):
            epoch, k = divmod(t, job.minibatches)
            graph = topology.graph(t)
            chosen = data.order(epoch)[k * job.batch : (k + 1) * job.batch]
            if job.streamed:
                samples = data.minibatch(t, chosen, graph)
            else:
                train, _ = data.dataset(graph)
                samples = Samples(train.x[chosen], train.y[chosen])
            yield graph, reference.shift_matrix(graph.adjacency(), job.shift), samples

    def _equal_theta(self) -> Array:
        return np.tile(self._experiment.theta[0], (self._experiment.nodes, 1))

    def _different_theta(self) -> Array:
        theta = self._experiment.theta
        spread = 0.1 * max(float(np.abs(theta).max()), 0.1)
        return theta + spread * rng.generator(self._config.seed, "verify").standard_normal(theta.shape)


class _Fixed:
    """A data service with one mini-batch."""

    train_samples = 0
    test_samples = 1
    streamed = False

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        return self.samples, Samples(self.samples.x[:1], self.samples.y[:1])

    def order(self, epoch: int) -> Order:
        return np.arange(len(self.samples.x))

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        raise NotImplementedError

    def test(self, graph: Graph) -> Samples:
        raise NotImplementedError

    def theta(self) -> Array | None:
        return None


def _relative(found: Array, wanted: Array) -> float:
    """max |found − wanted| / max |wanted|."""
    scale = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found - wanted).max()) / scale
