"""The configuration: a YAML file, checked against a schema. The driver's business; ranks never see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from fdtrain.channel.section import ChannelConfig
from fdtrain.errors import InputError
from fdtrain.execution import Execution
from fdtrain.explain import check, explain
from fdtrain.measure import MEASURES, measure_of
from fdtrain.models import ModelConfig
from fdtrain.optim.rates import Constant
from fdtrain.optimizers import (
    Decentralized,
    DSGDConfig,
    OptimizerConfig,
    PluginConfig,
    check_scheme,
)
from fdtrain.precision import FULL
from fdtrain.precision_section import PrecisionConfig
from fdtrain.schemes import SCHEMES
from fdtrain.section import Fraction, Section, models_in
from fdtrain.tasks import TASKS, TaskConfig
from fdtrain.tasks.node_regression import NodeRegression
from fdtrain.topology.sources import Source, TopologyConfig
from fdtrain.yamlfile import apply_override, dump, read_mapping


class EarlyStop(Section):
    """When to end before the last epoch."""

    metric: Literal[
        "train", "test", "mse_train", "mse_test", "rate_train", "rate_test", "ratio_train", "ratio_test"
    ] = Field(
        default="train", description="What has to go on improving: the task's measure, or its column by name."
    )
    patience: int = Field(description="End after so many epochs without improvement.", ge=1)
    min_delta: Fraction = Field(default=1e-3, description="Improvement that counts, relative to the best.")


assert set(get_args(EarlyStop.model_fields["metric"].annotation)) == {
    "train",
    "test",
    *(column for measure in MEASURES.values() for column in measure.columns),
}


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
    log_every: int = Field(
        default=0,
        description="Write the measure of every mini-batch to minibatches.csv, so many at a time; 0: not at all.",
        ge=0,
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


class Checkpoint(Section):
    """What is kept of a run so that it can go on where it was stopped, with fdtrain run --resume."""

    every: int | None = Field(
        default=None,
        description="Mini-batches between two checkpoints; by default only one when it is stopped.",
        ge=1,
    )
    keep: int = Field(default=3, description="Checkpoints that are kept: the newest.", ge=1)


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
    model: ModelConfig = Field(description="The graph neural network.")
    task: TaskConfig = Field(default=NodeRegression(), description="Data and loss.")
    training: Training = Field(default=Training(), description="Training.")
    optimizer: OptimizerConfig = Field(default=DSGDConfig(), description="Optimizer.")
    channel: ChannelConfig | None = Field(
        default=None, description="Messages that do not arrive while training; left out: all do."
    )
    precision: PrecisionConfig = Field(default=PrecisionConfig(), description="Types of numbers.")
    checkpoint: Checkpoint = Field(default=Checkpoint(), description="Checkpoints.")
    execution: Execution = Field(default=Execution(), description="What only the cost depends on.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, content: Any) -> Any:
        """A task without a kind is the first one, and a model that of its task, which brings what is left out."""
        if not isinstance(content, dict):
            return content
        content = dict(content)
        task = content.get("task", {})
        if isinstance(task, dict) and "kind" not in task:
            content["task"] = task = {"kind": "node_regression", **task}
        kind = task.get("kind") if isinstance(task, dict) else getattr(task, "kind", None)
        chosen = TASKS.get(kind) if isinstance(kind, str) else None
        if chosen is not None:
            chosen.complete(content)
        model = content.get("model")
        if isinstance(model, dict) and "kind" not in model:
            content["model"] = {"kind": "gcnn" if chosen is None else chosen.model_kind, **model}
        return content

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_task()
        centralized = self.training.mode == "centralized"
        if centralized == isinstance(self.optimizer, Decentralized):
            wanted = "sgd or adam" if centralized else "one that sends messages, such as d_sgd"
            raise ValueError(
                f"optimizer.kind: training.mode {self.training.mode} needs {wanted}, found {self.optimizer.kind}"
            )
        if centralized and self.model.init.per_node:
            raise ValueError("model.init.per_node: a centralized model has one draw of parameters; remove it")
        if centralized and self.training.scheme == "inference":
            raise ValueError("training.scheme: inference sends messages; it needs training.mode: distributed")
        if isinstance(self.optimizer, Decentralized) and not isinstance(self.optimizer, PluginConfig):
            check_scheme(self.training.scheme, self.optimizer.kind, self.optimizer.make(Constant(1.0)))
        self._check_channel()
        self._check_precision()
        if self.topology.kind == "bundle" and self.task.bundle is None:
            raise ValueError("topology.kind: bundle takes the edges of task.bundle, which is not given")
        measure, stop = measure_of(self.task.kind), self.training.early_stop
        if stop is not None and measure.column(stop.metric) not in measure.columns:
            raise ValueError(
                f"training.early_stop.metric: the task {self.task.kind} is measured by its {measure.title}, "
                f"found '{stop.metric}'; use {measure.train} or {measure.test}"
            )
        samples = self.task.max_batch()
        if samples is not None and self.training.batch > samples:
            raise ValueError(
                f"training.batch: must be at most task.train_samples = {samples}, found {self.training.batch}"
            )
        return self

    def _check_channel(self) -> None:
        """Whether there is something that can be lost, and whether what stands in for it can be had."""
        if self.channel is None:
            return
        if self.training.mode == "centralized":
            raise ValueError("channel: training.mode centralized sends no messages; remove it")
        if self.task.kind != "node_regression":
            raise ValueError(
                f"channel: only for task.kind node_regression so far, found {self.task.kind}; remove it"
            )
        scheme, optimizer = self.training.scheme, self.optimizer
        if optimizer.by_sample:
            raise ValueError(
                "channel: optimizer.updates sample sends rows that it does not know; remove one of the two"
            )
        if self.channel.parameters.missing != "push_sum":
            return
        if SCHEMES[scheme].exchange not in ("along", "after_batch"):
            raise ValueError(
                f"channel.parameters.missing: push_sum needs one mixing per mini-batch, found scheme {scheme}; "
                "use piggyback_do, piggyback or per_batch"
            )
        if optimizer.kind.startswith("naive_"):
            raise ValueError(
                f"channel.parameters.missing: push_sum is for optimizers that mix parameters, found {optimizer.kind}; "
                "use keep_own"
            )

    def _check_precision(self) -> None:
        """Whether what is to be rounded is sent at all, and whether the oracle can follow."""
        precision = self.precision.make()
        if precision == FULL:
            return
        if self.training.mode == "centralized":
            raise ValueError("precision: training.mode centralized sends no messages, in float64; remove it")
        if self.task.kind != "node_regression":
            raise ValueError(
                f"precision: only for task.kind node_regression so far, found {self.task.kind}; remove it"
            )
        short = precision.arithmetic != "float64"
        if short and isinstance(self.optimizer, PluginConfig):
            raise ValueError(
                f"precision.arithmetic: an optimizer of your own computes in float64, found {precision.arithmetic}; "
                "leave it out"
            )
        channel = self.channel
        if channel is None:
            return
        if short:
            raise ValueError(
                f"precision.arithmetic: with a channel it has to be float64, found {precision.arithmetic}; leave it out"
            )
        if precision.backward != precision.arithmetic and channel.features.missing == "drop_edge":
            raise ValueError(
                f"precision.backward: channel.features.missing drop_edge scales backward terms after they are rounded, "
                f"found {precision.backward}; leave it out, or use zero or hold"
            )

    def _check_task(self) -> None:
        """Whether model and network are those of the task."""
        task, found = self.task, self.topology.kind
        if self.model.kind != task.model_kind:
            raise ValueError(
                f"model.kind: the task {task.kind} needs {task.model_kind}, found {self.model.kind}"
            )
        owners = [kind for kind, other in TASKS.items() if other.topology_kind == found]
        if task.topology_kind not in (None, found):
            raise ValueError(
                f"topology.kind: the network of {task.kind} is that of its {task.topology_kind}, found {found}; "
                "remove topology"
            )
        if owners and task.kind not in owners:
            raise ValueError(f"topology.kind: {found} are those of task.kind {owners[0]}; choose another")

    def to_yaml(self) -> str:
        """The whole configuration with its defaults, as a file that can be run again."""
        content = self.model_dump(mode="json", exclude_none=True)
        if self.topology.redraw is None and self.topology.is_random:
            content["topology"]["redraw"] = None  # a task may bring another one where it is left out
        return dump(content)


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
    if "scaling" in content:
        raise InputError(f"{path}: is a scaling study, not a configuration; give it to fdtrain scale")
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
    topology = config.topology.resolved(base)
    if topology is not config.topology:
        updates["topology"] = topology
    task = config.task.resolved(base)
    if task is not config.task:
        updates["task"] = task
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
