"""The ``precision`` section of the configuration: in which types numbers travel, and are computed."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fdtrain.precision import TYPES, Arithmetic, Number, Precision
from fdtrain.section import Section

_TYPE = "Type of {} in messages; default: that of arithmetic."


class PrecisionConfig(Section):
    """In which types of numbers messages travel, of training and of tests; what they round, verify states."""

    features: Number | None = Field(default=None, description=_TYPE.format("features"))
    backward: Number | None = Field(default=None, description=_TYPE.format("backward terms"))
    parameters: Number | None = Field(
        default=None,
        description=_TYPE.format("what the optimizer mixes, in slices or in rounds of consensus,"),
    )
    arithmetic: Arithmetic = Field(
        default="float64", description="Type in which nodes compute, and keep their parameters."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("features", "backward", "parameters"):
            found = getattr(self, name)
            if found is not None and TYPES[found].bits > TYPES[self.arithmetic].bits:
                raise ValueError(
                    f"{name}: messages have at most the precision of arithmetic, {self.arithmetic}, found {found}; "
                    "leave it out"
                )
        return self

    def make(self) -> Precision:
        """The types."""
        own = self.arithmetic
        return Precision(self.features or own, self.backward or own, self.parameters or own, own)
