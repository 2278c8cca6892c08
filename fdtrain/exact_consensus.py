"""Comparison 4: on a complete graph, where Metropolis mixing is exact averaging, training is centralized training.

An optimizer that mixes gradients has to follow the centralized one freely. Of the others D-SGD is tried: all nodes
start a mini-batch from the same θ; after D-SGD's update, one more round of mixing (a mini-batch with α = 0) has to
bring every node to the θ of centralized SGD. Without that round the identity holds for the first mini-batch only:
gradients would be taken at θ^i that differ by α g_i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference, rng
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
from fdtrain.oracles import updates
from fdtrain.tasks.base import Order, Samples
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import Complete
from fdtrain.trials import Trials, relative

Array = NDArray[np.float64]

# ε of Adam is at least this: what is 0 but for rounding, as 1 − Σ_j S_ij is, must not become a step of size α.
LEAST_EPSILON = 1e-6
COMPLETE_NODES = 32  # exact consensus is shown on a complete graph of at most so many nodes


def exact_consensus(trials: Trials, minibatches: int) -> tuple[str, float]:
    """What is compared, and the largest relative error of any θ^i."""
    nodes = min(trials.experiment.nodes, COMPLETE_NODES)
    topology = TopologyService(Complete(nodes=nodes), seed=0)
    compare = _on_gradients if trials.job.optimizer.mixes_gradient else _on_parameters
    return compare(trials, minibatches, topology)


def _on_parameters(trials: Trials, minibatches: int, topology: TopologyService) -> tuple[str, float]:
    graph, theta = topology.graph(0), trials.equal_theta()[0]
    nodes = graph.num_nodes
    lr, error = trials.experiment.config.optimizer.lr, 0.0
    for _, samples in trials.minibatches(minibatches):
        data = _Fixed([_complete(samples, nodes)])
        job = _once_through(trials.job, data, DSGD(Constant(lr)), len(samples.x))
        stepped = trials.execute(job, topology, data, np.tile(theta, (nodes, 1))).theta
        resting = replace(job, optimizer=DSGD(Constant(0.0)))
        mixed = trials.execute(resting, topology, data, stepped).theta
        theta = theta - lr * trials.oracle.shared_pass(graph, data.samples, theta)[1]
        error = float(np.maximum(error, relative(mixed, np.tile(theta, (nodes, 1)))))  # NaN stays
    return f"D-SGD on a complete graph of {nodes} = SGD, {minibatches} mini-batches", error


def _on_gradients(trials: Trials, minibatches: int, topology: TopologyService) -> tuple[str, float]:
    graph, config, rate = topology.graph(0), trials.experiment.config, trials.experiment.rate
    nodes = graph.num_nodes
    kind, recursion = "sgd", reference.Recursion("sgd")
    optimizer: Optimizer[Any] = Naive(SGD(rate), config.optimizer.by_sample)
    if isinstance(config.optimizer, NaiveAdamConfig):
        epsilon = max(config.optimizer.epsilon, LEAST_EPSILON)
        optimizer, kind = config.optimizer.model_copy(update={"epsilon": epsilon}).make(rate), "adam"
        recursion = replace(make_recursion(config), kind=kind, epsilon=epsilon)
    data = _Fixed([_complete(samples, nodes) for _, samples in trials.minibatches(minibatches)])
    theta = trials.equal_theta()[:nodes]
    job = _once_through(trials.job, data, optimizer, min(trials.job.batch, data.train_samples))
    found, state = trials.execute(job, topology, data, theta).theta, recursion.start(theta[0])
    oracle = trials.oracle.fresh()
    for t, chosen in enumerate(job.batches(data.order(0))):
        samples, before = data.minibatch(t, chosen, graph), state.theta
        _, gradients = updates(oracle, graph, samples, before, by_sample=optimizer.by_sample)
        for gradient in gradients:
            state = recursion.advance(state, None, gradient, rate(state.t))
        oracle.learn(graph, samples, before)
    error = relative(found, np.tile(state.theta, (nodes, 1)))
    note = f", ε ≥ {LEAST_EPSILON:g}" if kind == "adam" else ""
    return f"naive {kind} on a complete graph of {nodes} = {kind}, {minibatches} mini-batches{note}", error


def _complete(samples: Samples, nodes: int) -> Samples:
    """The samples of the first nodes; channels without a link get one, as weak as the weakest that there is.

    By constant features the nodes of a complete graph could not be told apart, and had nothing to learn: they get
    others.
    """
    x, y, H = samples.x[:, :nodes], samples.y[:, :nodes], samples.channels
    if H is None:
        constant = (np.ptp(x, axis=(0, 1)) == 0) & (x[0, 0] != 0)
        return Samples(np.where(constant, rng.generator(0, "verify").random(x.shape), x), y)
    H = H[:, :nodes, :nodes]
    H = np.where(H > 0, H, H[H > 0].min(initial=1.0))
    return Samples(np.diagonal(H, axis1=1, axis2=2)[..., None], y, H)


def _once_through(job: Job, data: _Fixed, optimizer: Optimizer[Any], batch: int) -> Job:
    """The messages of `job` for one epoch of `data`, mixed by Metropolis weights."""
    return replace(
        job,
        epochs=1,
        batch=batch,
        wave=min(job.wave, batch),
        loss=job.loss.on(data.samples.x.shape[1]),
        train_samples=data.train_samples,
        test_samples=1,
        test_minibatches=1,
        redraw_every=None,
        streamed=True,
        log_every=None,
        optimizer=optimizer,
        mixing=Metropolis(),
    )


class _Fixed:
    """A data service with these samples, once in their order."""

    test_samples = 1
    streamed = True

    def __init__(self, parts: Sequence[Samples]) -> None:
        x, y, channels = zip(*parts, strict=True)
        H = None if channels[0] is None else np.concatenate(channels)
        self.samples = Samples(np.concatenate(x), np.concatenate(y), H)
        self.train_samples = len(self.samples.x)

    def recipe(self, graph: Graph) -> None: ...

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        raise NotImplementedError

    def order(self, epoch: int) -> Order:
        return np.arange(self.train_samples)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        x, y, H = self.samples
        return Samples(x[chosen], y[chosen], None if H is None else H[chosen])

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        return graph, self.minibatch(0, np.arange(1), graph)

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    def test_baselines(self, k: int) -> Mapping[str, float]:
        return {}
