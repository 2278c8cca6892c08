"""From a checked configuration to the things that run: job, topology service, data and initial parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference, rng
from fdtrain.config import Config, Init
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.layers.gcnn import Gcnn
from fdtrain.losses import SquaredError
from fdtrain.mixing import Metropolis, Mixing
from fdtrain.optim.base import Optimizer
from fdtrain.optim.clipped import Clipped
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.plugin import Plugin
from fdtrain.optim.rates import Rate
from fdtrain.optimizers import Decentralized, PluginConfig, check_scheme
from fdtrain.service import EpochRow, Host, Plateau
from fdtrain.shifts import check_shift
from fdtrain.tasks.base import DataService, Order, Samples
from fdtrain.tasks.bundle import RegressionBundle
from fdtrain.tasks.node_regression import SyntheticRegression
from fdtrain.team import Team
from fdtrain.topology.service import TopologyService
from fdtrain.training import train

Array = NDArray[np.float64]


@dataclass
class Experiment:
    """Everything that a configuration describes, checked and ready; nothing of it has run."""

    config: Config
    job: Job
    topology: TopologyService
    data: DataService
    theta: Array  # [V, p] initial parameters
    rate: Rate  # α of every mini-batch

    @property
    def nodes(self) -> int:
        """|V|."""
        return len(self.theta)

    @property
    def oracle(self) -> reference.Model:
        """The model on global matrices."""
        model = self.job.model
        return reference.Model(model.sizes, model.activations, model.form, model.negative_slope)

    def samples(self, t: int, chosen: Order, graph: Graph) -> Samples:
        """All nodes' samples of mini-batch t, on its graph."""
        if self.job.streamed:
            return self.data.minibatch(t, chosen, graph)
        train, _ = self.data.dataset(graph)
        return Samples(train.x[chosen], train.y[chosen])

    def host(self, ranks: int, on_epoch: Callable[[EpochRow], None] | None = None) -> Host:
        """Rank 0's service for a run on `ranks` ranks."""
        stop = self.config.training.early_stop
        plateau = None if stop is None else Plateau(stop.metric, stop.patience, stop.min_delta)
        return Host(self.job, self.topology, self.data, self.theta, ranks, on_epoch, plateau)


def build(config: Config, *, allow_plugins: bool = False) -> Experiment:
    """Draw the first topology, read the data, and check that they fit.

    `allow_plugins`: whether an optimizer of the user's may be imported, and so executed.

    Raises:
        InputError: one line that says what does not fit.
    """
    model = make_model(config)
    task, redraw = config.task, config.topology.redraw
    bundle = None if task.bundle is None else RegressionBundle(task.bundle, model, config.seed)
    topology = make_topology(config, bundle)
    graph = topology.graph(0)
    if bundle is not None and bundle.nodes != graph.num_nodes:
        raise InputError(
            f"topology: has {graph.num_nodes} nodes, but the samples of {task.bundle} have {bundle.nodes}; "
            "they must be equal"
        )
    check_shift(config.model.shift, np.asarray(graph.adjacency().sum(axis=1)), np.arange(graph.num_nodes))
    data: DataService
    if bundle is not None:
        bundle.check_epochs(config.training.epochs)
        data = bundle
    else:
        nodes, redrawn = graph.num_nodes, redraw is not None
        data = SyntheticRegression(task, model, config.model.shift, nodes, config.seed, redrawn=redrawn)
    training, minibatches = config.training, -(-data.train_samples // config.training.batch)
    if training.batch > data.train_samples:
        raise InputError(
            f"training.batch: {training.batch}, but there are only {data.train_samples} training samples"
        )
    rate = config.optimizer.rate(minibatches, training.epochs)
    optimizer, mixing = make_optimizer(config, rate, model.num_parameters, allow_plugins=allow_plugins)
    job = Job(
        model=model,
        shift=config.model.shift,
        loss=SquaredError(),
        optimizer=optimizer,
        mixing=mixing,
        epochs=training.epochs,
        batch=training.batch,
        wave=training.wave,
        scheme=training.scheme,
        consensus_rounds=training.consensus_rounds,
        slices=training.slices,
        train_samples=data.train_samples,
        test_samples=data.test_samples,
        redraw_every=None if redraw is None else redraw.every,
        streamed=data.streamed,
    )
    replace(job).programme  # noqa: B018 - a schedule that is too long is refused here
    given = data.theta()
    theta = initial_parameters(model, config.model.init, graph.num_nodes, config.seed, given)
    return Experiment(config, job, topology, data, theta, rate)


def run_job(job: Job, team: Team, host: Host) -> None:
    """On rank 0: let the whole team run `job`, served by `host`; the others are in :func:`fdtrain.training.follow`.

    Raises:
        DivergenceError: a parameter became infinite or NaN.
        InputError: the topology service found no usable graph.
    """
    team.order(partial(train, job))
    train(job, team, host)
    host.check()


def make_topology(config: Config, bundle: RegressionBundle | None = None) -> TopologyService:
    """The topology service; `bundle` is the task's, where it has been read.

    Raises:
        InputError: the topology is the bundle's, and that cannot be read or has none.
    """
    fixed = None
    if config.topology.kind == "bundle" and config.task.bundle is not None:
        bundle = bundle or RegressionBundle(config.task.bundle, make_model(config), config.seed)
        fixed = bundle.graph()
    return TopologyService(config.topology, config.seed, fixed)


def make_model(config: Config) -> Gcnn:
    """The architecture."""
    model = config.model
    return Gcnn(model.sizes, model.activations, model.form, model.negative_slope)


def make_optimizer(
    config: Config, rate: Rate, num_parameters: int, *, allow_plugins: bool
) -> tuple[Optimizer[Any], Mixing]:
    """The optimizer and the rule for W; of a centralized run, which sends nothing, those of D-SGD.

    Raises:
        InputError: an optimizer of the user's that is not allowed, does not work, or does not fit the scheme.
    """
    section = config.optimizer
    if not isinstance(section, Decentralized):
        return DSGD(rate), Metropolis()
    if isinstance(section, PluginConfig) and not allow_plugins:
        raise InputError(
            f"optimizer.target: {section.target} is code that this run would execute; "
            "if you trust it, allow it with --allow-plugins"
        )
    optimizer = section.make(rate)
    if isinstance(optimizer, Plugin):
        optimizer.check(num_parameters)
        check_scheme(config.training.scheme, optimizer.target, optimizer)
    if section.clip_norm is not None:
        optimizer = Clipped(optimizer, section.clip_norm)
    return optimizer, section.mixing.make()


def mixing_matrix(config: Config, graph: Graph) -> reference.Matrix:
    """W [V, V] of a configuration whose optimizer mixes, on global matrices."""
    assert isinstance(config.optimizer, Decentralized)
    mixing = config.optimizer.mixing
    return reference.mixing_matrix(graph.adjacency(), mixing.kind, getattr(mixing, "beta", 0.0))


def make_recursion(config: Config) -> reference.Recursion:
    """The oracle's matrix recursion for the optimizer.

    Raises:
        InputError: it is one of the user's, of which the oracle knows nothing.
    """
    section = config.optimizer
    given = section.model_dump(include={"beta1", "beta2", "epsilon", "epsilon_form"})
    return reference.Recursion(section.kind, **given, consensus_rounds=config.training.consensus_rounds)


def initial_parameters(model: Gcnn, init: Init, nodes: int, seed: int, given: Array | None = None) -> Array:
    """θ [V, p] before training: `given` [p] on all nodes, or a draw, the same on all nodes unless ``per_node``."""
    if given is not None:
        return np.tile(given, (nodes, 1))
    rows = [
        _draw_parameters(model, init, rng.generator(seed, "init", item=i))
        for i in range(nodes if init.per_node else 1)
    ]
    return np.concatenate(rows * (1 if init.per_node else nodes))


def _draw_parameters(model: Gcnn, init: Init, draws: np.random.Generator) -> Array:
    theta = np.empty((1, model.num_parameters))
    for part in model.views(theta).values():
        if init.kind == "uniform":
            part[...] = draws.uniform(init.low, init.high, part.shape)
        elif init.kind == "normal":
            part[...] = init.std * draws.standard_normal(part.shape)
        else:
            bound = np.sqrt(6.0 / (part.shape[1] + part.shape[2]))
            part[...] = draws.uniform(-bound, bound, part.shape)
    return cast(Array, theta)
