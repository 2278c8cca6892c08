"""What a task brings to an experiment: model, weights, loss, data, topology, initial parameters, and its oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference, rng
from fdtrain.channel_network import ChannelNetwork
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.layers.twin import Twin
from fdtrain.layers.uwmmse import Uwmmse
from fdtrain.losses import NegativeSumRate, Objective, SquaredError, Utility
from fdtrain.models import BiasedInit, GcnnModel, Init, UwmmseModel
from fdtrain.networks import Network, ShiftNetwork
from fdtrain.oracles import AllocationOracle, Oracle, RegressionOracle
from fdtrain.programs import Program
from fdtrain.scheduling_oracles import SchedulingOracle, TwinOracle
from fdtrain.service import Critic, Topology
from fdtrain.tasks.base import DataService
from fdtrain.tasks.bundle import RegressionBundle
from fdtrain.tasks.channel_data import ChannelBundle, ChannelData, ChannelService, SyntheticChannels
from fdtrain.tasks.critic import CentralCritic
from fdtrain.tasks.link_scheduling import Critic as CriticSection
from fdtrain.tasks.link_scheduling import LinkScheduling
from fdtrain.tasks.node_regression import NodeRegression, Shift, SyntheticRegression
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.tasks.schedules import WeightData
from fdtrain.topology.channels import ChannelTopology
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import Redraw
from fdtrain.turns import CriticKind

Array = NDArray[np.float64]


def _no_critic() -> None:
    return None


@dataclass(frozen=True)
class Problem:
    """A task with its model, checked and ready."""

    model: Program
    network: Network
    loss: Objective
    data: DataService
    topology: Topology
    initial: Callable[[], Array]  # θ [V, p] before training
    oracle: Oracle
    test_minibatches: int = 1
    redraw_every: int | None = None  # mini-batches; None: static
    critic: Callable[[], Critic | None] = _no_critic  # as it is at the start
    critic_kind: CriticKind | None = None
    held_out: Callable[[], dict[str, NDArray[Any]]] = dict  # what is tested on, to be written out
    lr_factors: Array | None = None  # [p] of the learning rate; None: 1


def make_problem(config: Config) -> Problem:
    """Draw the first topology, read the data, and check that they fit.

    Raises:
        InputError: one line that says what does not fit.
    """
    return _PROBLEMS[config.task.kind](config)


def make_topology(config: Config) -> Topology:
    """The topology alone; data are read only where it is theirs.

    Raises:
        InputError: the topology is the data's, and they cannot be read or have none.
    """
    if isinstance(config.task, PowerAllocation):
        return ChannelTopology(_channels(config, config.task))
    bundle = _bundle(config, config.task, _gcnn(config)) if isinstance(config.task, NodeRegression) else None
    return _topology(config, bundle)


def _node_regression(config: Config) -> Problem:
    assert isinstance(config.task, NodeRegression)
    assert isinstance(config.model, GcnnModel)
    task, section, redraw = config.task, config.model, config.topology.redraw
    model = _gcnn(config)
    bundle = _bundle(config, task, model)
    topology = _topology(config, bundle)
    alone = not config.topology.connected  # nodes may be
    graph, network = topology.graph(0), ShiftNetwork(section.shift, isolated=alone, edgeless=alone)
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
    own = config.precision.arithmetic
    return Gcnn(section.sizes, section.activations, section.form, section.negative_slope, own)


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


def _link_scheduling(config: Config) -> Problem:
    assert isinstance(config.task, LinkScheduling)
    assert isinstance(config.model, GcnnModel)
    task, section, redraw = config.task, config.model, config.topology.redraw
    actor, network = _gcnn(config), ShiftNetwork(section.shift, isolated=True)
    topology = TopologyService(config.topology, config.seed, check=network.check)
    if (actor.inputs, actor.outputs) != (1, 1):
        raise InputError(
            f"model.sizes: the actor has 1 input, the constant 1, and 1 output, z; found {list(actor.sizes)}"
        )
    graph = topology.graph(0)
    if (graph.weights != 1).any():
        raise InputError("topology: edges of a conflict graph have no weights; remove them from the file")
    model, oracle, critic = _with_critic(actor, section.shift, task.critic, config.seed)
    held_out = topology
    if redraw is not None:
        source = config.topology.model_copy(update=_HELD_OUT)
        held_out = TopologyService(source, task.test_seed, purpose="topology/test", check=network.check)
    data = WeightData(task, held_out, config.training.batch, config.seed)
    draw = partial(initial_parameters, model, section.init, graph.num_nodes, config.seed)
    return Problem(
        model,
        network,
        Utility(),
        data,
        topology,
        draw if section.init.per_node else partial(_awake, actor, oracle, graph, task.start, draw),
        oracle,
        test_minibatches=task.test_graphs,
        redraw_every=None if redraw is None else redraw.every,
        critic=critic,
        critic_kind=task.critic.kind,
        held_out=data.held_out,
        lr_factors=_lr_factors(model, task.critic.lr / config.optimizer.lr),
    )


def _lr_factors(model: Program, critic: float) -> Array | None:
    """A factor for the learning rate of a critic among the nodes' parameters."""
    if not isinstance(model, Twin):
        return None
    factors = np.ones(model.num_parameters)
    model.split(factors)[1][:] = critic
    return factors


def _with_critic(
    actor: Gcnn, shift: str, section: CriticSection, seed: int
) -> tuple[Program, SchedulingOracle | TwinOracle, Callable[[], Critic | None]]:
    """The nodes' model, its oracle, and the critic at rank 0, if it is there."""
    S, slope = Shift(shift, isolated=True), section.negative_slope
    model = reference.Model(actor.sizes, actor.activations, actor.form, actor.negative_slope)
    if section.kind == "neighbours":
        names = (*["leaky_relu"] * (section.layers - 1), "identity")
        twin = Twin(actor, Gcnn(section.sizes, names, actor.form, slope), section.l2)
        pair = reference.Twin(model, reference.critic_model(actor.form, section.sizes, slope), section.l2)
        return twin, TwinOracle(pair, S), _no_critic
    central = partial(CentralCritic, section, seed)
    judge = reference.Critic(section.sizes, slope, section.l2)
    return (
        actor,
        SchedulingOracle(model, judge, S, central().phi, samples=section.samples, lr=section.lr),
        central,
    )


def _awake(
    actor: Gcnn,
    oracle: SchedulingOracle | TwinOracle,
    graph: Graph,
    mean: float,
    draw: Callable[..., Array],
) -> Array:
    """The first draw of θ by which no node of `graph` has z = 0, with the actor's last layer scaled to a `mean` of z.

    Where z = 0, the last relu has no slope: where all nodes have it, as after one draw in five, nothing is ever
    learned. And the noise that explores has a size of its own. Where the last activation is another one, any draw will
    do.
    """
    for attempt in range(_ATTEMPTS):
        theta = draw(attempt=attempt)
        if actor.activations[-1] != "relu":
            return theta
        z = oracle.output(graph, theta)
        if (z > 0).all():
            row = theta[:1].copy()
            with np.errstate(all="ignore"):  # what overflows is reported
                row[:, actor.offsets[-1]] *= mean / z.mean()
            theta = np.broadcast_to(row, theta.shape)
            if not np.isfinite(theta).all():
                raise InputError(
                    f"task.start: must be a mean of z that parameters can reach, found {mean:g}; lower it"
                )
            return theta
    raise InputError(
        f"model.init: {_ATTEMPTS:,} draws of parameters, and by each of them z = 0 at some node; use another "
        "model.init, such as a smaller neighbour_scale"
    )


def initial_parameters(
    model: Program,
    init: Init | BiasedInit,
    nodes: int,
    seed: int,
    given: Array | None = None,
    attempt: int = 0,
) -> Array:
    """θ [V, p] before training: `given` [p] on all nodes, or a draw, the same on all nodes unless ``per_node``; another
    one for every `attempt`. What is the same on all nodes is there once, and cannot be written to."""
    if given is not None:
        return np.broadcast_to(given, (nodes, len(given)))
    if not init.per_node:
        row = _draw_parameters(model, init, rng.generator(seed, "init", attempt))
        return np.broadcast_to(row, (nodes, row.shape[1]))
    theta = np.empty((nodes, model.num_parameters))
    for own, draws in zip(theta, rng.each(seed, "init", attempt, range(nodes)), strict=True):
        own[:] = _draw_parameters(model, init, draws)[0]
    return theta


def _draw_parameters(model: Program, init: Init | BiasedInit, draws: np.random.Generator) -> Array:
    theta = np.empty((1, model.num_parameters))
    for name, part in model.views(theta).items():
        if part.ndim == 2:  # a bias
            part[...] = init.bias if isinstance(init, BiasedInit) else 0.0
        elif isinstance(init, BiasedInit) or init.kind == "glorot_uniform":
            bound = np.sqrt(6.0 / (part.shape[1] + part.shape[2]))
            part[...] = draws.uniform(-bound, bound, part.shape)
        elif init.kind == "uniform":
            part[...] = draws.uniform(init.low, init.high, part.shape)
        else:
            part[...] = init.std * draws.standard_normal(part.shape)
        if isinstance(init, Init) and name.startswith("Theta1"):
            part *= init.neighbour_scale
    return cast(Array, theta)


_ATTEMPTS = 1000
_HELD_OUT = {
    "redraw": Redraw(every=1),
    "seed": None,
}  # a graph for every test mini-batch, the same for all runs; a static one is tested on itself
_PROBLEMS: dict[str, Callable[[Config], Problem]] = {
    "node_regression": _node_regression,
    "power_allocation": _power_allocation,
    "link_scheduling": _link_scheduling,
}
