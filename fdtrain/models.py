"""The configuration's ``model`` section: architectures, and how their parameters start."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self, Union, get_args

from pydantic import Field, Strict, model_validator

from fdtrain.layers.activations import ACTIVATIONS
from fdtrain.section import Positive, Section

MAX_LAYERS = 200  # programs of more are too deep for Python's stack
ActivationName = Literal["sigmoid", "tanh", "relu", "leaky_relu", "identity"]
assert get_args(ActivationName) == ACTIVATIONS


class Init(Section):
    """How Θ0 and Θ1 start."""

    kind: Literal["uniform", "normal", "glorot_uniform"] = Field(
        default="uniform",
        description="uniform: U(low, high); normal: N(0, std²); glorot_uniform: U(±√(6/(g_in + g_out))).",
    )
    low: float = Field(default=0.0, description="Lower end of uniform.", allow_inf_nan=False)
    high: float = Field(default=1.0, description="Upper end of uniform.", allow_inf_nan=False)
    std: Positive = Field(default=0.1, description="Standard deviation of normal.")
    neighbour_scale: float = Field(
        default=1.0, description="Factor of Θ1, by which neighbours count.", ge=0, allow_inf_nan=False
    )
    per_node: bool = Field(
        default=False, description="A draw of its own for every node, instead of one for all."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"low, high: must be less than 1e308 apart, found {self.low} and {self.high}")
        if self.low >= self.high:
            raise ValueError(f"low, high: low must be below high, found {self.low} and {self.high}")
        return self


class GcnnModel(Section):
    """A stack of graph convolutional layers."""

    kind: Literal["gcnn"] = Field(default="gcnn", description="The model.")

    sizes: Annotated[tuple[Annotated[int, Field(ge=1, strict=True)], ...], Strict(False)] = Field(
        description="Layer sizes g_0 … g_L: input features first, outputs last.",
        min_length=2,
        max_length=MAX_LAYERS + 1,
    )
    activation: ActivationName | Annotated[tuple[ActivationName, ...], Strict(False)] = Field(
        default="sigmoid", description="σ of every layer, or a list of L names."
    )
    negative_slope: float = Field(default=0.01, description="Slope of leaky_relu below 0.", ge=0, le=1)
    shift: Literal["adjacency", "laplacian", "normalized_laplacian", "normalized_adjacency", "gcn"] = Field(
        default="normalized_laplacian", description="Graph shift operator S."
    )
    form: Literal["receiver", "sender"] = Field(
        default="receiver",
        description="Whose Θ1 weighs a message: the receiver's (paper (13b)) or the sender's (10).",
    )
    init: Init = Field(default=Init(), description="Initial parameters.")

    @property
    def activations(self) -> tuple[str, ...]:
        """σ_1 … σ_L."""
        depth = len(self.sizes) - 1
        return (self.activation,) * depth if isinstance(self.activation, str) else self.activation

    @model_validator(mode="after")
    def _check(self) -> Self:
        depth = len(self.sizes) - 1
        if len(self.activations) != depth:
            raise ValueError(f"activation: needs one name or {depth} of them, found {len(self.activations)}")
        return self


class BiasedInit(Section):
    """How the parameters of UWMMSE's GCNNs start: weights are drawn from U(±√(6/(g_in + g_out)))."""

    bias: float = Field(default=0.1, description="Every bias.", allow_inf_nan=False)
    per_node: bool = Field(
        default=False, description="A draw of its own for every node, instead of one for all."
    )


class UwmmseModel(Section):
    """The weighted-MMSE algorithm for power allocation, unfolded, with trained weights."""

    kind: Literal["uwmmse"] = Field(default="uwmmse", description="The model.")
    unfolded: int = Field(default=4, description="K, unfolded layers of WMMSE.", ge=1, le=100)
    hidden: int = Field(default=5, description="F, of the GCNNs of sizes 1-F-1.", ge=1, le=10_000)
    init: BiasedInit = Field(default=BiasedInit(), description="Initial parameters.")


ModelConfig = Annotated[Union[GcnnModel, UwmmseModel], Field(discriminator="kind")]  # noqa: UP007
