"""The ``channel`` section of the configuration: on which messages may be lost."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, Union

import numpy as np
from pydantic import BeforeValidator, Field, Strict, model_validator

from fdtrain.channel import spec
from fdtrain.errors import InputError
from fdtrain.section import Section

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
MAX_DELAY = 1_000_000  # rounds
Rounds = Annotated[int, Field(ge=0, le=MAX_DELAY)]
Node = Annotated[int, Field(ge=0)]


class IndependentLoss(Section):
    """Every message is lost with the same probability."""

    kind: Literal["independent"] = "independent"
    rate: Probability = Field(description="Probability that a message is lost.")

    def make(self) -> spec.Loss:
        """The model."""
        return spec.Independent(self.rate)


class BurstLoss(Section):
    """Gilbert–Elliott: links are good or bad, and change from round to round."""

    kind: Literal["gilbert_elliott"] = "gilbert_elliott"
    to_bad: Probability = Field(description="Probability that a good link is bad in the next round.")
    to_good: Probability = Field(
        description="Probability that a bad link is good in the next round; bursts last 1/to_good rounds on average."
    )
    loss_good: Probability = Field(default=0.0, description="Probability that a good link loses a message.")
    loss_bad: Probability = Field(default=1.0, description="Probability that a bad link loses a message.")

    def make(self) -> spec.Loss:
        """The model."""
        return spec.GilbertElliott(self.to_bad, self.to_good, self.loss_good, self.loss_bad)


class FixedDelay(Section):
    """All messages take so many rounds longer."""

    kind: Literal["fixed"] = "fixed"
    rounds: Rounds = Field(description="Rounds of delay.")

    def make(self) -> spec.Delay:
        """The model."""
        return spec.Fixed(self.rounds)


class UniformDelay(Section):
    """Any delay in a range is as likely as another."""

    kind: Literal["uniform"] = "uniform"
    low: Rounds = Field(default=0, description="Least rounds of delay.")
    high: Rounds = Field(description="Most rounds of delay.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low: must be at most high = {self.high}, found {self.low}")
        return self

    def make(self) -> spec.Delay:
        """The model."""
        return spec.Uniform(self.low, self.high)


class GeometricDelay(Section):
    """Every further round is as likely as the one before."""

    kind: Literal["geometric"] = "geometric"
    mean: float = Field(description="Mean rounds of delay.", ge=0, le=MAX_DELAY, allow_inf_nan=False)
    max: Rounds = Field(default=1000, description="Most rounds of delay.")

    def make(self) -> spec.Delay:
        """The model."""
        return spec.Geometric(self.mean, self.max)


def _independent(given: Any) -> Any:
    """A number alone is the rate of independent losses."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return {"kind": "independent", "rate": given} if is_number else given


def _fixed(given: Any) -> Any:
    """A number alone is a fixed delay."""
    is_number = isinstance(given, int) and not isinstance(given, bool)
    return {"kind": "fixed", "rounds": given} if is_number else given


LossConfig = Annotated[Union[IndependentLoss, BurstLoss], Field(discriminator="kind")]  # noqa: UP007
DelayConfig = Annotated[Union[FixedDelay, UniformDelay, GeometricDelay], Field(discriminator="kind")]  # noqa: UP007
_LOSS = "Loss of {}: a rate, or a model."
_DELAY = "Delay, in rounds: a number, or a model; left out: none."


def _made(loss: IndependentLoss | BurstLoss | None) -> spec.Loss | None:
    return None if loss is None else loss.make()


class Backward(Section):
    """The channel of backward terms; a term that is missing counts as 0."""

    loss: Annotated[LossConfig | None, BeforeValidator(_independent)] = Field(
        default=None, description=_LOSS.format("backward terms")
    )
    delay: Annotated[DelayConfig | None, BeforeValidator(_fixed)] = Field(default=None, description=_DELAY)
    missing: Literal["zero"] = Field(default="zero", description="What stands in for a missing term: 0.")

    def make(self) -> spec.FieldChannel:
        """The model."""
        return spec.FieldChannel(_made(self.loss), None if self.delay is None else self.delay.make())


class Features(Backward):
    """The channel of features."""

    loss: Annotated[LossConfig | None, BeforeValidator(_independent)] = Field(
        default=None, description=_LOSS.format("features")
    )
    missing: spec.FeaturePolicy = Field(  # type: ignore[assignment]
        default="hold",
        description="What stands in for missing features: zero; hold: the last that came on the link; drop_edge: the "
        "link leaves the sum and its adjoint, and the other weights are renormalised.",
    )


class Parameters(Backward):
    """The channel of parameters, in slices or consensus."""

    loss: Annotated[LossConfig | None, BeforeValidator(_independent)] = Field(
        default=None, description=_LOSS.format("parameters")
    )
    missing: spec.ParameterPolicy = Field(  # type: ignore[assignment]
        default="keep_own",
        description="What is mixed in place of missing parameters: keep_own; hold: the last that came on the link; "
        "push_sum: ratio consensus, in which nothing is lost for good.",
    )


class During(Section):
    """A span of mini-batches."""

    start: int = Field(default=0, description="First mini-batch, from 0.", ge=0)
    stop: int | None = Field(default=None, description="First mini-batch after it; left out: never.", ge=0)

    @model_validator(mode="after")
    def _ends_later(self) -> Self:
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop: must be more than start = {self.start}, found {self.stop}")
        return self

    @property
    def span(self) -> spec.Span:
        """The mini-batches."""
        return spec.Span(self.start, self.stop)


class OutageConfig(During):
    """Links that are down."""

    links: list[Annotated[tuple[Node, Node], Strict(False)]] = Field(
        description="The links [i, j]; both directions are down.", min_length=1
    )

    def make(self, nodes: int) -> spec.Outage:
        """The model, of a network with so many nodes."""
        for i, j in self.links:
            if i == j or max(i, j) >= nodes:
                raise InputError(
                    f"channel.outages.links: must be pairs of different nodes below {nodes}, found [{i}, {j}]"
                )
        return spec.Outage(self.span, frozenset((min(pair), max(pair)) for pair in self.links))


class PartitionConfig(During):
    """A network that falls into two parts."""

    nodes: list[Node] | None = Field(
        default=None, description="The nodes of one part; or give fraction.", min_length=1
    )
    fraction: float | None = Field(
        default=None, description="The part of the first nodes, of all of them; or give nodes.", gt=0, lt=1
    )

    @model_validator(mode="after")
    def _names_a_part(self) -> Self:
        if (self.nodes is None) == (self.fraction is None):
            found = "neither" if self.nodes is None else "both"
            raise ValueError(f"nodes, fraction: give exactly one of the two, found {found}")
        return self

    def make(self, nodes: int) -> spec.Partition:
        """The model, of a network with so many nodes."""
        if self.nodes is None:
            assert self.fraction is not None
            count = round(self.fraction * nodes)
            if not 0 < count < nodes:
                raise InputError(
                    f"channel.partitions.fraction: {self.fraction:g} of {nodes} nodes are {count}; leave both parts one"
                )
            return spec.Partition(self.span, frozenset(range(count)))
        return spec.Partition(self.span, _known(self.nodes, nodes, "channel.partitions.nodes"))


class CrashConfig(During):
    """Nodes that are down for a while."""

    nodes: list[Node] = Field(description="The nodes.", min_length=1)

    def make(self, nodes: int) -> spec.Crash:
        """The model, of a network with so many nodes."""
        return spec.Crash(self.span, _known(self.nodes, nodes, "channel.crashes.nodes"))


class ChannelConfig(Section):
    """What becomes of messages while training, and what nodes do without them."""

    seed: int | None = Field(
        default=None, description="Seed of the draws; default: the experiment's seed.", ge=0, lt=2**63
    )
    loss: Annotated[LossConfig | None, BeforeValidator(_independent)] = Field(
        default=None, description="Loss of whole messages, with all that rides in them: a rate, or a model."
    )
    features: Features = Field(default=Features(), description="Features.")
    backward: Backward = Field(default=Backward(), description="Backward terms.")
    parameters: Parameters = Field(
        default=Parameters(), description="Parameters, in slices or in rounds of consensus."
    )
    outages: list[OutageConfig] = Field(default=[], description="Links that are down for a while.")
    partitions: list[PartitionConfig] = Field(
        default=[], description="Between two parts of the network no message arrives for a while."
    )
    crashes: list[CrashConfig] = Field(
        default=[], description="Nodes that are down for a while: they neither hear nor send nor train."
    )

    def make(self, seed: int, nodes: int) -> spec.Channel:
        """The model, of a network with so many nodes; `seed` is the experiment's.

        Raises:
            InputError: it names nodes that there are not, or lets all of them be down at once.
        """
        channel = spec.Channel(
            seed if self.seed is None else self.seed,
            _made(self.loss),
            self.features.make(),
            self.backward.make(),
            self.parameters.make(),
            self.features.missing,
            self.parameters.missing,
            tuple(outage.make(nodes) for outage in self.outages),
            tuple(partition.make(nodes) for partition in self.partitions),
            tuple(crash.make(nodes) for crash in self.crashes),
        )
        for crash in self.crashes:
            if channel.crashed(crash.start, np.arange(nodes)).all():
                raise InputError(
                    f"channel.crashes: all {nodes} nodes are down in mini-batch {crash.start}; leave one up"
                )
        return channel


def _known(found: list[int], nodes: int, key: str) -> frozenset[int]:
    if max(found) >= nodes:
        raise InputError(f"{key}: must be below {nodes}, the number of nodes, found {max(found)}")
    return frozenset(found)
