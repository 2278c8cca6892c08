"""The configuration's ``optimizer`` section, and the optimizer and the mixing that it describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union

from pydantic import Field, model_validator

from fdtrain.errors import InputError
from fdtrain.learning_rates import ConstantRate, CosineRate, RateConfig
from fdtrain.mixing import Laplacian, Metropolis, Mixing
from fdtrain.optim.adam import Adam
from fdtrain.optim.base import Optimizer
from fdtrain.optim.dadam import DAdam
from fdtrain.optim.damsgrad import DAMSGrad
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.gradient_tracking import GradientTracking
from fdtrain.optim.naive import Naive
from fdtrain.optim.plugin import Plugin
from fdtrain.optim.rates import Rate
from fdtrain.optim.sgd import SGD
from fdtrain.schemes import SCHEMES
from fdtrain.section import Fraction, Positive, Section, beside


class MetropolisMixing(Section):
    """W_ij = 1/(1 + max(d_i, d_j))."""

    kind: Literal["metropolis"] = "metropolis"

    def make(self) -> Mixing:
        """The rule for W."""
        return Metropolis()


class LaplacianMixing(Section):
    """W = I − β(D − A)."""

    kind: Literal["laplacian"] = "laplacian"
    beta: Positive = Field(description="β; the published curves use 1e-3.")

    def make(self) -> Mixing:
        """The rule for W."""
        return Laplacian(self.beta)


MixingConfig = Annotated[Union[MetropolisMixing, LaplacianMixing], Field(discriminator="kind")]  # noqa: UP007


class OptimizerSection(Section):
    """What every optimizer takes."""

    kind: str
    lr: Positive = Field(default=1e-3, description="Learning rate α, at the start.")
    lr_schedule: RateConfig = Field(default=ConstantRate(), description="How α changes from epoch to epoch.")
    clip_norm: Positive | None = Field(
        default=None, description="Every node scales its gradient down to at most this Euclidean norm."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.lr_schedule, CosineRate) and self.lr_schedule.final > self.lr:
            raise ValueError(
                f"lr_schedule.final: is a learning rate too and must be at most lr = {self.lr:g}, "
                f"found {self.lr_schedule.final:g}"
            )
        return self

    @property
    def by_sample(self) -> bool:
        """Whether every sample is an update of its own."""
        return False

    def rate(self, updates: int, epochs: int) -> Rate:
        """α of update t, where an epoch has so many updates, and the training so many epochs."""
        return self.lr_schedule.make(self.lr, updates, epochs)


class Decentralized(OptimizerSection):
    """What every optimizer on the network takes."""

    mixing: MixingConfig = Field(default=MetropolisMixing(), description="Mixing matrix W.")

    def make(self, rate: Rate) -> Optimizer[Any]:
        """The optimizer, but for clipping."""
        raise NotImplementedError


def fits(scheme: str, optimizer: Optimizer[Any]) -> bool:
    """Whether the scheme's messages are those that the optimizer needs."""
    exchange = SCHEMES[scheme].exchange
    if optimizer.by_sample:
        return exchange in ("after_wave", "never")
    return exchange != ("along" if optimizer.mixes_gradient else "after_wave")


def check_scheme(scheme: str, kind: str, optimizer: Optimizer[Any]) -> None:
    """Refuse a scheme whose messages are not those that the optimizer needs.

    Raises:
        InputError: naming both.
    """
    if fits(scheme, optimizer):
        return
    if optimizer.by_sample:
        raise InputError(
            f"training.scheme: {scheme} has no consensus on the gradient of every sample, which "
            "optimizer.updates: sample needs; use per_sample, or optimizer.updates: batch"
        )
    if optimizer.mixes_gradient:
        raise InputError(
            f"training.scheme: {scheme} sends what is mixed before the gradient is known, and {kind} mixes the gradient"
            "; use per_sample, per_batch or piggyback"
        )
    raise InputError(
        f"training.scheme: {scheme} has consensus on the gradient of every sample, and {kind} does not mix the "
        "gradient; use per_batch, piggyback or piggyback_do, or optimizer.kind naive_sgd or naive_adam"
    )


class _Moments(Section):
    beta1: Fraction = Field(default=0.9, description="β1, memory of the first moment.")
    beta2: Fraction = Field(default=0.999, description="β2, memory of the second moment.")
    epsilon: Positive = Field(default=1e-8, description="ε.")


class _EpsilonForm(_Moments):
    epsilon_form: Literal["inside", "outside"] = Field(
        default="outside",
        description="outside: m̂/(√v̂ + ε); inside: √(1−β2^t)/(1−β1^t) · m/(√v + ε), as published for centralized Adam.",
    )


class _Updates(Section):
    updates: Literal["batch", "sample"] = Field(
        default="batch",
        description="batch: one update per mini-batch, of its summed gradient; sample: one for every sample's.",
    )

    @property
    def by_sample(self) -> bool:
        return self.updates == "sample"


class DSGDConfig(Decentralized):
    """Decentralized SGD: θ ← mix(θ) − α g."""

    kind: Literal["d_sgd"] = "d_sgd"

    def make(self, rate: Rate) -> Optimizer[Any]:
        return DSGD(rate)


class DAdamConfig(_Moments, Decentralized):
    """Decentralized Adam: θ ← mix(θ) − α m̂/(√v̂ + ε)."""

    kind: Literal["d_adam"] = "d_adam"

    def make(self, rate: Rate) -> Optimizer[Any]:
        return DAdam(rate, self.beta1, self.beta2, self.epsilon)


class DAMSGradConfig(_Moments, Decentralized):
    """Decentralized AMSGrad; θ and ũ travel."""

    kind: Literal["d_amsgrad"] = "d_amsgrad"

    def make(self, rate: Rate) -> Optimizer[Any]:
        return DAMSGrad(rate, self.beta1, self.beta2, self.epsilon)


class GradientTrackingConfig(Decentralized):
    """Gradient tracking: y ← mix(y) + g(t) − g(t−1), θ ← mix(θ) − α y; θ and y travel."""

    kind: Literal["gradient_tracking"] = "gradient_tracking"

    def make(self, rate: Rate) -> Optimizer[Any]:
        return GradientTracking(rate)


class NaiveSGDConfig(_Updates, Decentralized):
    """training.consensus_rounds of consensus on g, then SGD at every node."""

    kind: Literal["naive_sgd"] = "naive_sgd"

    def make(self, rate: Rate) -> Optimizer[Any]:
        return Naive(SGD(rate), self.by_sample)


class NaiveAdamConfig(_EpsilonForm, _Updates, Decentralized):
    """training.consensus_rounds of consensus on g, then Adam at every node."""

    kind: Literal["naive_adam"] = "naive_adam"

    def make(self, rate: Rate) -> Optimizer[Any]:
        adam = Adam(rate, self.beta1, self.beta2, self.epsilon, self.epsilon_form)
        return Naive(adam, self.by_sample)


class PluginConfig(Decentralized):
    """An optimizer of your own; needs --allow-plugins."""

    kind: Literal["plugin"] = "plugin"
    target: Annotated[str, Field(min_length=3)] = Field(
        description="module:Class, or file.py:Class; a file is looked for beside the configuration."
    )
    parameters: dict[str, Any] = Field(
        default={}, description="What the class is called with, beside the learning rate lr."
    )

    def make(self, rate: Rate) -> Optimizer[Any]:
        return Plugin(self.target, rate, self.parameters)

    def resolved(self, base: Path | None) -> PluginConfig:
        """The same with the path of a file made absolute: from `base`, or else from the working directory."""
        file, colon, name = self.target.rpartition(":")
        if not file.endswith(".py"):
            return self
        return self.model_copy(update={"target": f"{beside(file, base)}{colon}{name}"})


class SGDConfig(_Updates, OptimizerSection):
    """Centralized SGD, for training.mode: centralized."""

    kind: Literal["sgd"] = "sgd"


class AdamConfig(_EpsilonForm, _Updates, OptimizerSection):
    """Centralized Adam, for training.mode: centralized."""

    kind: Literal["adam"] = "adam"


OptimizerConfig = Annotated[
    Union[  # noqa: UP007
        DSGDConfig,
        DAdamConfig,
        DAMSGradConfig,
        GradientTrackingConfig,
        NaiveSGDConfig,
        NaiveAdamConfig,
        PluginConfig,
        SGDConfig,
        AdamConfig,
    ],
    Field(discriminator="kind"),
]
