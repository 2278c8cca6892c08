"""The configuration: a YAML file, checked against a schema. The driver's business; ranks never see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, Strict, TypeAdapter, ValidationError, model_validator

from fdtrain.errors import InputError
from fdtrain.explain import check, explain
from fdtrain.layers.activations import ACTIVATIONS
from fdtrain.optim.rates import Constant
from fdtrain.optimizers import (
    Decentralized,
    DSGDConfig,
    OptimizerConfig,
    PluginConfig,
    check_scheme,
)
from fdtrain.schemes import SCHEMES
from fdtrain.section import Fraction, Positive, Section, models_in
from fdtrain.tasks.node_regression import NodeRegression
from fdtrain.topology.sources import FileSource, Source, TopologyConfig
from fdtrain.yamlfile import apply_override, dump, read_mapping

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


class Model(Section):
    """The graph convolutional network."""

    sizes: Annotated[tuple[Annotated[int, Field(ge=1, strict=True)], ...], Strict(False)] = Field(
        description="Layer sizes g_0 … g_L: input features first, outputs last.", min_length=2
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


class EarlyStop(Section):
    """When to end before the last epoch."""

    metric: Literal["mse_train", "mse_test"] = Field(
        default="mse_train", description="What has to go on improving."
    )
    patience: int = Field(description="End after so many epochs without improvement.", ge=1)
    min_delta: Fraction = Field(default=1e-3, description="Improvement that counts, relative to the best.")


class Training(Section):
    """How long, in what portions, and over which messages."""

    mode: Literal["distributed", "centralized"] = Field(
        default="distributed", description="centralized: the baseline, one model trained in one process."
    )
    epochs: int = Field(default=100, description="Passes over the training samples.", ge=1)
    batch: int = Field(default=100, description="B, samples per mini-batch.", ge=1)
    wave: int = Field(
        default=1, description="w, samples that share a round's messages; 1 is the paper's.", ge=1
    )
    scheme: Literal["inference", "per_sample", "per_batch", "piggyback", "piggyback_do"] = Field(
        default="piggyback_do", description="Communication scheme (Table I); inference only evaluates."
    )
    consensus_rounds: int = Field(
        default=1, description="K, rounds of consensus of per_sample, per_batch and piggyback.", ge=1
    )
    slices: Literal["even", "idle"] = Field(
        default="idle",
        description="Rounds in which parameter slices ride: all, or those without a backward term.",
    )
    early_stop: EarlyStop | None = Field(default=None, description="End when nothing improves any more.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.wave > self.batch:
            raise ValueError(f"wave: must be at most batch = {self.batch}, found {self.wave}")
        if self.consensus_rounds > 1 and SCHEMES[self.scheme].exchange in ("never", "along"):
            raise ValueError(
                f"consensus_rounds: {self.scheme} has no rounds of consensus, found {self.consensus_rounds}; "
                "leave it out, or use per_sample, per_batch or piggyback"
            )
        if self.slices == "even" and SCHEMES[self.scheme].exchange != "along":
            raise ValueError(f"slices: {self.scheme} sends no slices; leave it out, or use piggyback_do")
        return self


assert set(get_args(Training.model_fields["scheme"].annotation)) == set(SCHEMES)


class Config(Section):
    """An experiment."""

    name: str = Field(
        default="experiment",
        description="Names the run's directory.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    seed: int = Field(default=0, description="Seed of everything that is drawn.", ge=0, lt=2**63)
    topology: TopologyConfig = Field(description="The network.")
    model: Model = Field(description="The graph neural network.")
    task: NodeRegression = Field(default=NodeRegression(), description="Data and loss.")
    training: Training = Field(default=Training(), description="Training.")
    optimizer: OptimizerConfig = Field(default=DSGDConfig(), description="Optimizer.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        centralized = self.training.mode == "centralized"
        if centralized == isinstance(self.optimizer, Decentralized):
            wanted = "sgd or adam" if centralized else "one that sends messages, such as d_sgd"
            raise ValueError(
                f"optimizer.kind: training.mode {self.training.mode} needs {wanted}, found {self.optimizer.kind}"
            )
        if centralized and self.training.scheme == "inference":
            raise ValueError("training.scheme: inference sends messages; it needs training.mode: distributed")
        if isinstance(self.optimizer, Decentralized) and not isinstance(self.optimizer, PluginConfig):
            check_scheme(self.training.scheme, self.optimizer.kind, self.optimizer.make(Constant(1.0)))
        if self.topology.kind == "bundle" and self.task.bundle is None:
            raise ValueError("topology.kind: bundle takes the edges of task.bundle, which is not given")
        if self.task.bundle is None and self.training.batch > self.task.train_samples:
            raise ValueError(
                f"training.batch: must be at most task.train_samples = {self.task.train_samples}, "
                f"found {self.training.batch}"
            )
        return self

    def to_yaml(self) -> str:
        """The whole configuration with its defaults, as a file that can be run again."""
        return dump(self.model_dump(mode="json", exclude_none=True))


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, with ``key.subkey=value`` overrides.

    Paths inside it are relative to its own folder.

    Raises:
        InputError: one line that names the file, the key, what was found, and what would be right.
    """
    path = Path(path)
    content = read_mapping(path)
    if "axes" in content:
        raise InputError(f"{path}: is a sweep, not a configuration; give it to fdtrain sweep")
    for override in overrides:
        apply_override(content, override)
    return from_mapping(content, source=str(path), base=path.parent)


def from_mapping(content: dict[str, Any], *, source: str = "config", base: Path | None = None) -> Config:
    """Check a configuration given as nested dictionaries; `base` is the folder that paths are relative to.

    Raises:
        InputError: as :func:`load`.
    """
    config = check(Config, content, source, whole=True)
    updates: dict[str, Any] = {}
    if isinstance(config.topology, FileSource):
        updates["topology"] = config.topology.resolved(base)
    if config.task.bundle is not None:
        updates["task"] = config.task.resolved(base)
    if isinstance(config.optimizer, PluginConfig):
        updates["optimizer"] = config.optimizer.resolved(base)
    return config.model_copy(update=updates)


def topology_from(kind: str, parameters: Sequence[str]) -> Source:
    """A topology given by its kind and ``key=value`` parameters.

    Raises:
        InputError: an unknown kind or parameter, or a value that does not fit.
    """
    content: dict[str, Any] = {"kind": kind}
    for parameter in parameters:
        apply_override(content, parameter)
    try:
        source: Source = TypeAdapter(TopologyConfig).validate_python(content)
    except ValidationError as error:
        raise InputError(explain(error, models_in(TopologyConfig))) from None
    return source
