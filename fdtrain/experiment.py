"""From a checked configuration to the things that run: job, topology service, data and initial parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import partition, reference
from fdtrain.channel.spec import Channel
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.footprint import Footprint, Share, footprint, shares_of
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.measure import measure_of
from fdtrain.mixing import Metropolis, Mixing
from fdtrain.optim.base import Optimizer
from fdtrain.optim.clipped import Clipped
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.plugin import Plugin
from fdtrain.optim.rates import Rate, Scaled
from fdtrain.optimizers import Decentralized, PluginConfig, check_scheme
from fdtrain.oracles import Oracle, Rule
from fdtrain.passes import compiles
from fdtrain.problems import make_problem
from fdtrain.profile import Profile, profiled
from fdtrain.service import Critic, EpochRow, Host, Plateau, Topology
from fdtrain.tasks.base import DataService, Order, Samples
from fdtrain.team import Team
from fdtrain.topology.ahead import Ahead
from fdtrain.topology.service import TopologyService
from fdtrain.training import train
from fdtrain.turns import LocalLoss, make_turn

Array = NDArray[np.float64]


@dataclass
class Experiment:
    """Everything that a configuration describes, checked and ready; nothing of it has run."""

    config: Config
    job: Job
    topology: Topology
    data: DataService
    theta: Array  # [V, p] initial parameters
    oracle: Oracle
    critic: Callable[[], Critic | None]  # as it is at the start
    held_out: Callable[[], dict[str, NDArray[Any]]]  # what is tested on, to be written out
    rate: Rate  # α of every update

    @property
    def nodes(self) -> int:
        """|V|."""
        return len(self.theta)

    def samples(self, t: int, chosen: Order, graph: Graph) -> Samples:
        """All nodes' samples of mini-batch t, on its graph."""
        if self.job.streamed:
            return self.data.minibatch(t, chosen, graph)
        train, _ = self.data.dataset(graph)
        return Samples(train.x[chosen], train.y[chosen])

    def footprint(self, ranks: int, job: Job | None = None) -> Footprint:
        """The memory of a run on so many ranks; `job`: this experiment's, if not another."""
        return footprint(job or self.job, self.shares(ranks))

    def shares(self, ranks: int) -> list[Share]:
        """What each of so many ranks has of the first network."""
        owner = self.owners(self.topology, ranks)
        if owner is None:
            owner = partition.block(self.nodes, ranks)
        return shares_of(self.topology.graph(0), owner, ranks)

    def host(
        self, ranks: int, on_epoch: Callable[[EpochRow], None] | None = None, job: Job | None = None
    ) -> Host:
        """Rank 0's service for a run on `ranks` ranks; `job`: this experiment's, if not from its start."""
        stop = self.config.training.early_stop
        plateau = None if stop is None else Plateau(stop.metric, stop.patience, stop.min_delta)
        topology, every, job = self.topology, self.job.redraw_every, job or self.job
        if every is not None and isinstance(topology, TopologyService):
            topology = Ahead(topology, every, job.epochs * job.minibatches)
        owner = self.owners(self.topology, ranks)
        return Host(job, topology, self.data, self.theta, ranks, on_epoch, plateau, self.critic(), owner)

    def owners(self, topology: Topology, ranks: int) -> NDArray[np.int64] | None:
        """The rank [V] of every node of a `topology`, as the configuration wants it; None: blocks."""
        partition = self.config.execution.partition
        if partition.kind == "block":
            return None
        return partition.owners(topology.graph(0), ranks, self.config.seed)


def build(config: Config, *, allow_plugins: bool = False) -> Experiment:
    """Draw the first topology, read the data, and check that they fit.

    `allow_plugins`: whether an optimizer of the user's may be imported, and so executed.

    Raises:
        InputError: one line that says what does not fit.
    """
    problem = make_problem(config)
    data = problem.data
    training, minibatches = config.training, -(-data.train_samples // config.training.batch)
    if training.batch > data.train_samples:
        raise InputError(
            f"training.batch: {training.batch}, but there are only {data.train_samples} training samples"
        )
    updates = data.train_samples if config.optimizer.by_sample else minibatches
    rate = config.optimizer.rate(updates, training.epochs)
    if problem.lr_factors is not None:
        rate = Scaled(rate, problem.lr_factors)
    optimizer, mixing = make_optimizer(
        config, rate, problem.model.num_parameters, allow_plugins=allow_plugins
    )
    job = Job(
        model=problem.model,
        network=problem.network,
        loss=problem.loss,
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
        test_minibatches=problem.test_minibatches,
        redraw_every=problem.redraw_every,
        streamed=data.streamed,
        measure=measure_of(config.task.kind),
        log_every=training.log_every or None,
        critic=problem.critic_kind,
        kernel=config.execution.kernel,
        transport=config.execution.transport,
        channel=_channel(config, optimizer, len(problem.initial())),
        precision=config.precision.make(),
    )
    turn = make_turn(job.critic, lambda report: report) or LocalLoss(job.loss)
    parts = job.model, job.loss, turn, job.network
    if job.kernel == "numba" and not compiles(*parts, by_sample=optimizer.by_sample):
        raise InputError(
            f"execution.kernel: numba is for the passes of node regression with one update per mini-batch, and not for "
            f"{config.task.kind} as it is set; use auto"
        )
    replace(job).programme  # noqa: B018 - a schedule that is too long is refused here
    return Experiment(
        config,
        job,
        problem.topology,
        data,
        problem.initial(),
        problem.oracle,
        problem.critic,
        problem.held_out,
        rate,
    )


def _channel(config: Config, optimizer: Optimizer[Any], nodes: int) -> Channel | None:
    if config.channel is None:
        return None
    channel = config.channel.make(config.seed, nodes)
    if channel.parameter_policy == "push_sum" and optimizer.mixes_gradient:
        raise InputError(
            "channel.parameters.missing: push_sum is for optimizers that mix parameters, and yours mixes its gradient; "
            "use keep_own"
        )
    return channel


def run_job(job: Job, team: Team, host: Host, profile: Profile | None = None) -> None:
    """On rank 0: let the whole team run `job`, served by `host`; the others are in :func:`fdtrain.training.follow`.

    `profile`: where it is written what each rank does when; by default nowhere.

    Raises:
        DivergenceError: a parameter became infinite or NaN.
        InputError: the topology service found no usable graph.
    """
    work = partial(train, job)
    team.order(work if profile is None else partial(profiled, profile.settings, work))
    try:
        if profile is None:
            work(team, host)
        else:
            profile.tell(*profiled(profile.settings, partial(work, service=host), team))
    finally:
        host.close()
    host.check()


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
        if config.checkpoint.every is not None:
            optimizer.check_state(num_parameters)
        check_scheme(config.training.scheme, optimizer.target, optimizer)
    if section.clip_norm is not None:
        optimizer = Clipped(optimizer, section.clip_norm)
    return optimizer, section.mixing.make()


def mixing_rule(config: Config) -> Rule:
    """How W comes from a graph, of a configuration whose optimizer mixes."""
    assert isinstance(config.optimizer, Decentralized)
    mixing = config.optimizer.mixing
    return Rule(mixing.kind, getattr(mixing, "beta", 0.0))


def make_recursion(config: Config) -> reference.Recursion:
    """The oracle's matrix recursion for the optimizer.

    Raises:
        InputError: it is one of the user's, of which the oracle knows nothing.
    """
    section = config.optimizer
    given = section.model_dump(include={"beta1", "beta2", "epsilon", "epsilon_form"})
    return reference.Recursion(section.kind, **given, consensus_rounds=config.training.consensus_rounds)
