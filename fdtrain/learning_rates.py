"""The configuration's ``optimizer.lr_schedule`` section, and the learning rate that it describes."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from pydantic import Field

from fdtrain.optim.rates import Constant, Cosine, Exponential, Rate, Step
from fdtrain.section import Section


class ConstantRate(Section):
    """α stays as it is."""

    kind: Literal["constant"] = "constant"

    def make(self, lr: float, minibatches: int, epochs: int) -> Rate:
        """α of every mini-batch."""
        return Constant(lr)


class ExponentialRate(Section):
    """α · decay^e in epoch e = 0, 1, …"""

    kind: Literal["exponential"] = "exponential"
    decay: Annotated[float, Field(gt=0, le=1)] = Field(description="Factor from one epoch to the next.")

    def make(self, lr: float, minibatches: int, epochs: int) -> Rate:
        """α of every mini-batch."""
        return Exponential(lr, self.decay, minibatches)


class StepRate(Section):
    """α · factor^⌊e / every⌋ in epoch e."""

    kind: Literal["step"] = "step"
    every: int = Field(description="Epochs between two steps.", ge=1)
    factor: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="Factor of a step.")

    def make(self, lr: float, minibatches: int, epochs: int) -> Rate:
        """α of every mini-batch."""
        return Step(lr, self.factor, self.every, minibatches)


class CosineRate(Section):
    """final + (α − final)(1 + cos(π e/epochs))/2 in epoch e, and final from then on."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(
        default=0.0,
        description="The learning rate itself at the end, not a fraction.",
        ge=0,
        allow_inf_nan=False,
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Epochs until then; left out: training.epochs."
    )

    def make(self, lr: float, minibatches: int, epochs: int) -> Rate:
        """α of every mini-batch."""
        return Cosine(lr, self.final, self.epochs or epochs, minibatches)


RateConfig = Annotated[
    Union[ConstantRate, ExponentialRate, StepRate, CosineRate],  # noqa: UP007
    Field(discriminator="kind"),
]
