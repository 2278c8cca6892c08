"""The oracle of training over unreliable channels, as the driver asks it: with a configuration's own channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.channel import spec
from fdtrain.experiment import Experiment, make_recursion, mixing_rule
from fdtrain.graph import Graph
from fdtrain.oracles import RegressionOracle, rounding_of
from fdtrain.schedule import Schedule
from fdtrain.tasks.base import Samples

Array = NDArray[np.float64]


class LossyTrajectory:
    """θ [V, p] of all nodes after mini-batches in which messages are lost and late, by the same draws."""

    def __init__(self, experiment: Experiment, theta: Array) -> None:
        channel, oracle = experiment.job.channel, experiment.oracle
        if channel is None or not isinstance(oracle, RegressionOracle):
            raise TypeError("only of a GCNN with squared error over unreliable channels")
        self._channel, self._shift = channel, oracle.shift
        self._rate, self._rule = experiment.rate, mixing_rule(experiment.config)
        self._training = reference.LossyTraining(
            oracle.rounded(rounding_of(experiment.job.precision)).model,
            make_recursion(experiment.config),
            theta,
            channel_of(channel),
            experiment.config.optimizer.clip_norm,
        )

    @property
    def theta(self) -> Array:
        """After the mini-batches so far."""
        return self._training.theta

    @property
    def missing(self) -> dict[str, tuple[int, int]]:
        """Messages that were lost, and late, by the kind of field."""
        return {kind: (lost, self._training.late[kind]) for kind, lost in self._training.lost.items()}

    def advance(self, graph: Graph, samples: Samples, schedule: Schedule) -> None:
        """One mini-batch."""
        A, t = graph.adjacency(), self._training.state.t
        W = reference.mixing_matrix(A, *self._rule)
        rounds = [[self._sent(field) for field in round_.fields] for round_ in schedule.rounds]
        S = self._shift.of(graph)
        waves, lr = schedule.waves, self._rate(t)
        self._training.minibatch(samples.x, samples.y, S, W, waves, rounds, lr, links=A)

    def _sent(self, field: Any) -> reference.Sent:
        """A field of a round; the weights of push-sum, which ride along, are not the oracle's numbers."""
        start, width = field.start, field.width
        if self._channel.parameter_policy == "push_sum" and field.kind == "consensus":
            width -= 1
        elif field.kind == "slice":
            start, width = start // self._channel.grain, width // self._channel.grain
        return reference.Sent(field.kind, field.layer, field.wave, start, width, field.step)


def channel_of(channel: spec.Channel) -> reference.Channel:
    """The channel in the oracle's terms."""

    def field(name: spec.FieldName, policy: str) -> reference.FieldChannel:
        own = channel.of(name)
        return reference.FieldChannel(_loss(own.loss), _delay(own.delay), policy)

    return reference.Channel(
        channel.seed,
        _loss(channel.loss),
        field("features", channel.feature_policy),
        field("backward", "zero"),
        field("parameters", channel.parameter_policy),
        tuple(
            reference.Outage(a, b, _during(outage.span))
            for outage in channel.outages
            for a, b in sorted(outage.pairs)
        ),
        tuple(
            reference.Partition(tuple(sorted(partition.side)), _during(partition.span))
            for partition in channel.partitions
        ),
        tuple(
            reference.Crash(node, _during(crash.span))
            for crash in channel.crashes
            for node in sorted(crash.nodes)
        ),
    )


def _during(span: spec.Span) -> reference.Interval:
    return reference.Interval(span.start, span.stop)


def _loss(loss: spec.Loss | None) -> reference.Independent | reference.GilbertElliott | None:
    match loss:
        case spec.Independent(rate):
            return reference.Independent(rate)
        case spec.GilbertElliott(to_bad, to_good, loss_good, loss_bad):
            return reference.GilbertElliott(to_bad, to_good, loss_good, loss_bad)
    return None


def _delay(delay: spec.Delay | None) -> reference.Fixed | reference.Uniform | reference.Geometric | None:
    match delay:
        case spec.Fixed(rounds):
            return reference.Fixed(rounds)
        case spec.Uniform(low, high):
            return reference.Uniform(low, high)
        case spec.Geometric(mean, most):
            return reference.Geometric(mean, most)
    return None
