"""What a task brings to an experiment: model, weights, loss, data, topology, initial parameters, and its oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference, rng
from fdtrain.channel_network import ChannelNetwork
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.layers.gcnn import Gcnn
from fdtrain.layers.uwmmse import Uwmmse
from fdtrain.losses import Loss, NegativeSumRate, SquaredError
from fdtrain.models import BiasedInit, GcnnModel, Init, UwmmseModel
from fdtrain.networks import Network, ShiftNetwork
from fdtrain.oracles import AllocationOracle, Oracle, RegressionOracle
from fdtrain.programs import Program
from fdtrain.service import Topology
from fdtrain.tasks.base import DataService
from fdtrain.tasks.bundle import RegressionBundle
from fdtrain.tasks.channel_data import ChannelBundle, ChannelData, ChannelService, SyntheticChannels
from fdtrain.tasks.node_regression import NodeRegression, Shift, SyntheticRegression
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.topology.channels import ChannelTopology
from fdtrain.topology.service import TopologyService

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A task with its model, checked and ready."""

    model: Program
    network: Network
    loss: Loss
    data: DataService
    topology: Topology
    initial: Callable[[], Array]  # θ [V, p] before training
    oracle: Oracle
    test_minibatches: int = 1
    redraw_every: int | None = None  # mini-batches; None: static


def make_problem(config: Config) -> Problem:
    """Draw the first topology, read the data, and check that they fit.

    Raises:
        InputError: one line that says what does not fit.
    """
    return _power_allocation(config) if isinstance(config.task, PowerAllocation) else _node_regression(config)


def make_topology(config: Config) -> Topology:
    """The topology alone; data are read only where it is theirs.

    Raises:
        InputError: the topology is the data's, and they cannot be read or have none.
    """
    if isinstance(config.task, PowerAllocation):
        return ChannelTopology(_channels(config, config.task))
    return _topology(config, _bundle(config, config.task, _gcnn(config)))


def _node_regression(config: Config) -> Problem:
    assert isinstance(config.task, NodeRegression)
    assert isinstance(config.model, GcnnModel)
    task, section, redraw = config.task, config.model, config.topology.redraw
    model = _gcnn(config)
    bundle = _bundle(config, task, model)
    topology = _topology(config, bundle)
    graph, network = topology.graph(0), ShiftNetwork(section.shift)
    if bundle is not None and bundle.nodes != graph.num_nodes:
        raise InputError(
            f"topology: has {graph.num_nodes} nodes, but the samples of {task.bundle} have {bundle.nodes}; "
            "they must be equal"
        )
    network.check(graph)
    data: RegressionBundle | SyntheticRegression
    if bundle is not None:
        bundle.check_epochs(config.training.epochs)
        data = bundle
    else:
        nodes, redrawn = graph.num_nodes, redraw is not None
        data = SyntheticRegression(task, model, section.shift, nodes, config.seed, redrawn=redrawn)
    oracle = reference.Model(model.sizes, model.activations, model.form, model.negative_slope)
    return Problem(
        model,
        network,
        SquaredError(model.outputs),
        data,
        topology,
        partial(initial_parameters, model, section.init, graph.num_nodes, config.seed, data.theta()),
        RegressionOracle(oracle, Shift(section.shift)),
        redraw_every=None if redraw is None else redraw.every,
    )


def _gcnn(config: Config) -> Gcnn:
    assert isinstance(config.model, GcnnModel)
    section = config.model
    return Gcnn(section.sizes, section.activations, section.form, section.negative_slope)


def _bundle(config: Config, task: NodeRegression, model: Gcnn) -> RegressionBundle | None:
    return None if task.bundle is None else RegressionBundle(task.bundle, model, config.seed)


def _topology(config: Config, bundle: RegressionBundle | None) -> TopologyService:
    fixed = bundle.graph() if bundle is not None and config.topology.kind == "bundle" else None
    return TopologyService(config.topology, config.seed, fixed)


def _power_allocation(config: Config) -> Problem:
    assert isinstance(config.task, PowerAllocation)
    assert isinstance(config.model, UwmmseModel)
    task, section = config.task, config.model
    channels = _channels(config, task)
    channels.check_epochs(config.training.epochs)
    model = Uwmmse(task.noise_power, task.max_power, section.unfolded, section.hidden)
    shapes = [
        (name, view.shape[1:]) for name, view in model.views(np.zeros((1, model.num_parameters))).items()
    ]
    topology = ChannelTopology(channels)
    return Problem(
        model,
        ChannelNetwork(),
        NegativeSumRate(task.noise_power, channels.pairs),
        ChannelData(channels, topology, task, config.seed),
        topology,
        partial(initial_parameters, model, section.init, channels.pairs, config.seed, channels.theta(shapes)),
        AllocationOracle(
            reference.Uwmmse(task.noise_power, task.max_power, section.unfolded, section.hidden)
        ),
        test_minibatches=channels.test_minibatches,
        redraw_every=1,
    )


def _channels(config: Config, task: PowerAllocation) -> ChannelService:
    make = SyntheticChannels if task.bundle is None else ChannelBundle
    return make(task, config.training.batch, config.seed)


def initial_parameters(
    model: Program, init: Init | BiasedInit, nodes: int, seed: int, given: Array | None = None
) -> Array:
    """θ [V, p] before training: `given` [p] on all nodes, or a draw, the same on all nodes unless ``per_node``."""
    if given is not None:
        return np.tile(given, (nodes, 1))
    rows = [
        _draw_parameters(model, init, rng.generator(seed, "init", item=i))
        for i in range(nodes if init.per_node else 1)
    ]
    return np.concatenate(rows * (1 if init.per_node else nodes))


def _draw_parameters(model: Program, init: Init | BiasedInit, draws: np.random.Generator) -> Array:
    theta = np.empty((1, model.num_parameters))
    for part in model.views(theta).values():
        if part.ndim == 2:  # a bias
            part[...] = init.bias if isinstance(init, BiasedInit) else 0.0
        elif isinstance(init, BiasedInit) or init.kind == "glorot_uniform":
            bound = np.sqrt(6.0 / (part.shape[1] + part.shape[2]))
            part[...] = draws.uniform(-bound, bound, part.shape)
        elif init.kind == "uniform":
            part[...] = draws.uniform(init.low, init.high, part.shape)
        else:
            part[...] = init.std * draws.standard_normal(part.shape)
    return cast(Array, theta)
