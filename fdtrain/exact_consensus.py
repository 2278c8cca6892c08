"""Comparison 4: on a complete graph, where Metropolis mixing is exact averaging, training is centralized training.

An optimizer that mixes gradients has to follow the centralized one freely. Of the others D-SGD is tried: all nodes
start a mini-batch from the same θ; after D-SGD's update, one more round of mixing (a mini-batch with α = 0) has to
bring every node to the θ of centralized SGD. Without that round the identity holds for the first mini-batch only:
gradients would be taken at θ^i that differ by α g_i.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.experiment import make_recursion
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.mixing import Metropolis
from fdtrain.optim.base import Optimizer
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.naive import Naive
from fdtrain.optim.rates import Constant
from fdtrain.optim.sgd import SGD
from fdtrain.optimizers import NaiveAdamConfig
from fdtrain.tasks.base import Order, Samples
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import Complete
from fdtrain.trials import Trials, relative

Array = NDArray[np.float64]

COMPLETE_NODES = 32  # exact consensus is shown on a complete graph of at most so many nodes


def exact_consensus(trials: Trials, minibatches: int) -> tuple[str, float]:
    """What is compared, and the largest relative error of any θ^i."""
    nodes = min(trials.experiment.nodes, COMPLETE_NODES)
    topology = TopologyService(Complete(nodes=nodes), seed=0)
    S = reference.shift_matrix(topology.graph(0).adjacency(), trials.job.shift)
    compare = _on_gradients if trials.job.optimizer.mixes_gradient else _on_parameters
    return compare(trials, minibatches, topology, S)


def _on_parameters(
    trials: Trials, minibatches: int, topology: TopologyService, S: reference.Matrix
) -> tuple[str, float]:
    nodes, theta = topology.graph(0).num_nodes, trials.equal_theta()[0]
    lr, error = trials.experiment.config.optimizer.lr, 0.0
    for _, _, samples in trials.minibatches(minibatches):
        data = _Fixed(Samples(samples.x[:, :nodes], samples.y[:, :nodes]))
        job = _once_through(trials.job, data, DSGD(Constant(lr)), len(samples.x))
        stepped = trials.execute(job, topology, data, np.tile(theta, (nodes, 1))).theta
        resting = replace(job, optimizer=DSGD(Constant(0.0)))
        mixed = trials.execute(resting, topology, data, stepped).theta
        theta = theta - lr * trials.model.centralized_gradient(S, *data.samples, theta)
        error = float(np.maximum(error, relative(mixed, np.tile(theta, (nodes, 1)))))  # NaN stays
    return f"D-SGD on a complete graph of {nodes} = SGD, {minibatches} mini-batches", error


def _on_gradients(
    trials: Trials, minibatches: int, topology: TopologyService, S: reference.Matrix
) -> tuple[str, float]:
    nodes, config, rate = topology.graph(0).num_nodes, trials.experiment.config, trials.experiment.rate
    kind, recursion = "sgd", reference.Recursion("sgd")
    optimizer: Optimizer[Any] = Naive(SGD(rate))
    if isinstance(config.optimizer, NaiveAdamConfig):
        optimizer, kind = config.optimizer.make(rate), "adam"
        recursion = replace(make_recursion(config), kind=kind)
    samples = [samples for _, _, samples in trials.minibatches(minibatches)]
    x, y = (np.concatenate(parts)[:, :nodes] for parts in zip(*samples, strict=True))
    data, theta = _Fixed(Samples(x, y)), trials.equal_theta()[:nodes]
    job = _once_through(trials.job, data, optimizer, min(trials.job.batch, len(x)))
    found, state = trials.execute(job, topology, data, theta).theta, recursion.start(theta[0])
    for t, chosen in enumerate(job.batches(data.order(0))):
        gradient = trials.model.centralized_gradient(S, x[chosen], y[chosen], state.theta)
        state = recursion.advance(state, None, gradient, rate(t))
    error = relative(found, np.tile(state.theta, (nodes, 1)))
    return f"naive {kind} on a complete graph of {nodes} = {kind}, {minibatches} mini-batches", error


def _once_through(job: Job, data: _Fixed, optimizer: Optimizer[Any], batch: int) -> Job:
    """The messages of `job` for one epoch of `data`, mixed by Metropolis weights."""
    return replace(
        job,
        epochs=1,
        batch=batch,
        wave=min(job.wave, batch),
        train_samples=len(data.samples.x),
        test_samples=1,
        redraw_every=None,
        streamed=False,
        optimizer=optimizer,
        mixing=Metropolis(),
    )


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
