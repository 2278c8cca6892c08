"""The driver's proof that what the messages computed is what the oracle computes on global matrices (SPEC §7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.exact_consensus import exact_consensus
from fdtrain.experiment import Experiment, mixing_rule
from fdtrain.footprint import available_memory, in_gib
from fdtrain.formulas import expected_numbers, expected_rounds
from fdtrain.lossy_oracle import LossyTrajectory
from fdtrain.optimizers import PluginConfig
from fdtrain.rounds import BYTES_PER_NUMBER
from fdtrain.schedule import Schedule
from fdtrain.service import Outcome
from fdtrain.team import Team
from fdtrain.trajectory import OracleTrajectory, OwnTrajectory, Trajectory
from fdtrain.trials import Trials, relative

Array = NDArray[np.float64]

_FEW = 3  # mini-batches
_MOST_OF_A_RUN = 25_000_000  # numbers of a mini-batch on global matrices, before every run
_COPIES = 6  # of them that the oracle has in use at a time
_MOST_NUMBERS = 20_000_000
_LEAST = 1e-5  # of a node's whole gradient: what is left of a part that vanishes, as by S 1 = 0, is rounding
_ALL_ZERO = " (all are 0)"


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
        self._experiment = experiment
        self._trials = Trials(experiment, team)
        self._job = self._trials.job
        self._oracle = self._trials.oracle

    @property
    def bytes(self) -> int:
        """What a mini-batch takes on global matrices, about: they are rank 0's alone."""
        return 8 * _COPIES * self._numbers

    @property
    def left_out(self) -> str:
        """Why :meth:`quick` compares no gradients, in words, if it does not."""
        if self._numbers <= _MOST_OF_A_RUN:
            return ""
        return (
            f"gradients are not compared with the centralized reference, since {self._experiment.nodes:,} nodes take "
            f"about {in_gib(self.bytes)} of memory there; compare them on fewer, with fdtrain verify"
        )

    @property
    def _numbers(self) -> int:
        """Of all nodes' samples in the first mini-batch, layer by layer, and of their parameters."""
        model, batch = self._job.model, min(self._job.batch, self._job.train_samples)
        widths = sum(hop.forward for hop in model.outline.hops) + model.outputs
        return self._experiment.nodes * (batch * widths + model.num_parameters)

    def quick(self, minibatches: int = _FEW) -> list[Comparison]:
        """Comparisons 1, 2 and 5 on the first mini-batch; over unreliable channels also the third. Where the network is
        too large for global matrices (:attr:`left_out`), the fifth alone."""
        return self.cost() if self.left_out else self._on_the_first(minibatches)

    def _on_the_first(self, minibatches: int) -> list[Comparison]:
        if self._job.scheme == "inference":
            return [self.forward(), *self.cost()]
        lossy = self.lossy(minibatches) if self._oracle_knows_the_channel() else []
        return _in_order([self.gradient(), self.average(), *lossy, *self.cost()])

    def full(self, minibatches: int = 3) -> list[Comparison]:
        """Comparisons 1 to 5; the third and the fourth over the given number of mini-batches.

        Raises:
            InputError: there is not enough memory for the network's global matrices.
        """
        if self.bytes > (available := available_memory()):
            raise InputError(
                f"verify: the centralized reference takes about {in_gib(self.bytes)} on {self._experiment.nodes:,} "
                f"nodes, and {in_gib(available)} of memory are available; verify fewer nodes or a smaller batch"
            )
        if self._job.scheme == "inference":
            return self._on_the_first(minibatches)
        minibatches = min(minibatches, self._job.epochs * self._job.minibatches)
        longer = [self.trajectory(minibatches), self.exact_consensus(minibatches)]
        return _in_order([*self._on_the_first(minibatches), *longer])

    def forward(self) -> Comparison:
        """1, without training: the network's measure of the first mini-batch, inferred by messages."""
        theta = self._trials.different_theta()
        outcome = self._trials.run(theta, limit=1, wanted=())
        wanted = self._oracle.measure(*next(self._trials.minibatches(1)), theta)
        error = relative(np.array(outcome.rows[-1].train), np.array(wanted))
        return Comparison(1, "forward pass, different θ at every node", error, self._oracle.tolerance)

    def gradient(self) -> Comparison:
        """1: every node's local gradient, with a different θ at every node.

        Every named part of the parameters is compared for itself, so that large ones do not hide small ones. The
        error is relative to the norm of the node's own part or, where that nearly vanishes, to 10⁻³ of the largest.
        """
        theta = self._trials.different_theta()
        outcome = self._trials.run(theta, limit=1, wanted=("gradient",))
        wanted = self._oracle.local_gradients(*next(self._trials.minibatches(1)), theta)
        views = self._job.model.views
        floor = _LEAST * float(np.linalg.norm(wanted, axis=1).max())
        found = zip(views(outcome.gradient).values(), views(wanted).values(), strict=True)
        error = max(_part_error(own, part, floor) for own, part in found)
        name = "local gradients, different θ at every node" + ("" if wanted.any() else _ALL_ZERO)
        return Comparison(1, name, error, self._oracle.tolerance)

    def average(self) -> Comparison:
        """2: with equal θ, the mean of the local gradients is the centralized gradient of the objective.

        The error is relative to the largest entry of that or, where the nodes' gradients cancel, to 10⁻³ of theirs.
        """
        theta = self._trials.equal_theta()
        outcome = self._trials.run(theta, limit=1, wanted=("gradient",))
        _, wanted = self._oracle.shared_pass(*next(self._trials.minibatches(1)), theta[0])
        largest = float(np.abs(outcome.gradient).max())
        scale = max(float(np.abs(wanted).max()), 1e-3 * largest) or 1.0
        error = float(np.abs(outcome.gradient.mean(axis=0) - wanted).max()) / scale
        name = "mean local gradient = centralized gradient" + (_ALL_ZERO if largest == 0 else "")
        return Comparison(2, name, error, self._oracle.tolerance)

    def trajectory(self, minibatches: int) -> Comparison:
        """3: after T mini-batches every θ^i is that of the matrix recursion."""
        theta = self._experiment.theta
        outcome = self._trials.run(theta, limit=minibatches)
        config = self._experiment.config
        own = isinstance(config.optimizer, PluginConfig)
        steps: Trajectory = (OwnTrajectory if own else OracleTrajectory)(self._experiment, theta)
        rule, oracle = mixing_rule(config), self._oracle.fresh()
        for graph, samples in self._trials.minibatches(minibatches):
            schedule, before = self._job.schedule(len(samples.x)), steps.theta
            steps.advance(oracle.consensus(graph, samples, before, schedule, rule))
            oracle.learn(graph, samples, before)
        error = relative(outcome.theta, steps.theta)
        name = f"every θ after {minibatches} mini-batches"
        name += ", by your optimizer's own step on global matrices" if own else ""
        return Comparison(3, name, error, 1e-10)

    def lossy(self, minibatches: int) -> list[Comparison]:
        """3, where messages are lost and late as the channel has it: every θ^i, and how many messages were."""
        minibatches = min(minibatches, self._job.epochs * self._job.minibatches)
        theta, job = self._trials.different_theta(), self._experiment.job
        outcome = self._trials.run(theta, limit=minibatches, lossy=True)
        steps = LossyTrajectory(self._experiment, theta)
        for graph, samples in self._trials.minibatches(minibatches):
            steps.advance(graph, samples, job.schedule(len(samples.x)))
        found = {
            kind: (count.lost_messages, count.late_messages)
            for (phase, kind), count in outcome.ledger.fields.items()
            if phase == "train"
        }
        wanted = {kind: steps.missing[kind] for kind in found}
        lost, late = (sum(pair[side] for pair in found.values()) for side in (0, 1))
        error = sum(abs(a - b) for kind in found for a, b in zip(found[kind], wanted[kind], strict=True))
        after = f"after {minibatches} mini-batches of unreliable channels"
        return [
            Comparison(3, f"every θ {after}", relative(outcome.theta, steps.theta), 1e-10),
            Comparison(3, f"fields lost and late {after}: {lost:,} and {late:,}", error, 0),
        ]

    def _oracle_knows_the_channel(self) -> bool:
        """Not where the optimizer is the user's, nor of many nodes, since it keeps a row for every pair of them."""
        own, nodes = isinstance(self._experiment.config.optimizer, PluginConfig), self._experiment.nodes
        small = nodes**2 * self._job.model.num_parameters <= _MOST_NUMBERS
        return self._experiment.job.channel is not None and not own and small

    def exact_consensus(self, minibatches: int) -> Comparison:
        """4: on a complete graph training is centralized training; see :mod:`fdtrain.exact_consensus`."""
        name, error = exact_consensus(self._trials, minibatches)
        return Comparison(4, name, error, 1e-10)

    def cost(self) -> list[Comparison]:
        """5: rounds, link messages and bytes of a mini-batch, as measured, against the formulas of Table I; and those
        in which nodes decide, against the oracle's."""
        experiment, job = self._experiment, self._experiment.job
        outcome = self._trials.run(experiment.theta, limit=1, lossy=True, wanted=())
        graph = experiment.topology.graph(0)
        batch, measured = min(job.batch, job.train_samples), outcome.ledger.total["train"]
        schedule, links = job.schedule(batch), 2 * graph.num_edges
        rounds, numbers = expected_rounds(schedule), expected_numbers(schedule)
        pairs = [
            ("rounds", measured.rounds, rounds),
            ("link messages", measured.link_messages, rounds * links),
            ("link bytes", measured.link_bytes, numbers * links * BYTES_PER_NUMBER),
        ]
        comparisons = [
            Comparison(
                5, f"{name} per mini-batch: {found:,} measured, {wanted:,} by formula", abs(found - wanted), 0
            )
            for name, found, wanted in pairs
        ]
        return comparisons + self._decisions(outcome, schedule)

    def _decisions(self, outcome: Outcome, schedule: Schedule) -> list[Comparison]:
        if self._job.critic is None:
            return []
        first = next(self._trials.minibatches(1))
        costs = self._oracle.decisions(*first, self._experiment.theta, schedule)
        if not costs:
            return []
        rounds, size = sum(cost.rounds for cost in costs), BYTES_PER_NUMBER
        sent = sum(cost.link_messages * w for cost, w in zip(costs, schedule.waves, strict=True)) * size
        count = outcome.ledger.total["decide"]
        pairs = [("rounds", count.rounds, rounds), ("link bytes", count.link_bytes, sent)]
        measure = self._oracle.measure(*first, self._experiment.theta)
        error = relative(np.array(outcome.rows[-1].train), np.array(measure))
        decided = Comparison(1, "utility of the nodes that decided to be on", error, self._oracle.tolerance)
        costs_agree = [
            Comparison(
                5, f"{name} to decide: {found:,} measured, {wanted:,} by the oracle", abs(found - wanted), 0
            )
            for name, found, wanted in pairs
        ]
        return [decided, *costs_agree]


def _in_order(comparisons: list[Comparison]) -> list[Comparison]:
    return sorted(comparisons, key=lambda comparison: comparison.number)


def _part_error(found: Array, wanted: Array, floor: float) -> float:
    """The largest error of any node's part [V, …]; NaN stays."""
    axes = tuple(range(1, wanted.ndim))
    norms = np.sqrt(np.square(wanted).sum(axis=axes))
    scale = np.maximum(norms, max(1e-3 * norms.max(), floor) or 1.0)
    return float((np.sqrt(np.square(found - wanted).sum(axis=axes)) / scale).max())
