"""The sweep file: a base configuration, the axes along which it varies, and what is made of the results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from fdtrain.config import Config
from fdtrain.explain import suggestion
from fdtrain.measure import MEASURES, MSE, Measure
from fdtrain.section import Positive, Section
from fdtrain.sweep.labels import as_label, references
from fdtrain.tasks.allocations import BASELINES
from fdtrain.yamlfile import shown

NETWORK = ("nodes", "edges", "mean_degree", "diameter", "spectral_gap")
TARGET = ("epochs_to_target", "rounds_to_target")
EXCESS = ("excess_train", "excess_test")
RELATIVE = ("relative_train", "relative_test")
RECOVERY = ("epochs_to_recover",)
PUBLISHED = ("published_train", "published_test")
MISSING = ("lost_messages", "late_messages")
COUNTS = ("n", "failed", "n_reached", "n_recovered")  # of the summary

WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")

SCHEDULERS = ("degree_greedy", "optimum")  # other methods of link scheduling

CURVE_X = ("epochs", "rounds", "bytes", "seconds", "minibatches")

Among = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda found: [*map(as_label, found)] if isinstance(found, (list, tuple)) else found),
    Field(strict=False),
]


class Published(Section):
    """What a publication reports for a variant."""

    mse_train: Positive | None = Field(default=None, description="Final training MSE.")
    mse_test: Positive | None = Field(default=None, description="Final test MSE.")
    rate_train: Positive | None = Field(default=None, description="Final sum rate of training.")
    rate_test: Positive | None = Field(default=None, description="Final sum rate on the test samples.")
    ratio_train: Positive | None = Field(default=None, description="Final utility ratio of training.")
    ratio_test: Positive | None = Field(default=None, description="Final utility ratio on held-out graphs.")

    def of(self, side: str) -> float | None:
        """The result on the ``train`` or ``test`` samples, whatever the measure."""
        values = (getattr(self, measure.column(side)) for measure in MEASURES.values())
        return next((value for value in values if value is not None), None)


class Variant(Section):
    """One value of an axis: what it sets in the base configuration."""

    set: dict[str, Any] = Field(
        default={},
        description="Dotted keys and their values; a section's name replaces the whole section. $AXIS is the label of "
        "that axis.",
    )
    published: Published | None = Field(default=None, description="Published results, shown beside.")


class Target(Section):
    """A value to reach; adds the columns epochs_to_target and rounds_to_target."""

    metric: Literal[
        "mse_train", "mse_test", "disagreement", "rate_train", "rate_test", "ratio_train", "ratio_test"
    ] = Field(description="What must reach it.")
    value: float = Field(
        description="Reached at the first epoch at which the metric is at most this; a rate or ratio, at least.",
        allow_inf_nan=False,
    )


class Recovery(Section):
    """How long a disturbance lasts; adds the column epochs_to_recover."""

    metric: Literal[
        "mse_train", "mse_test", "disagreement", "rate_train", "rate_test", "ratio_train", "ratio_test"
    ] = Field(description="What has to recover.")
    since: int = Field(description="The last epoch of the disturbance; epochs after it are counted.", ge=0)
    within: float = Field(
        default=1.1,
        description="Recovered when the metric is at most so many times that of the baseline's run, from then on to "
        "the end; a rate or ratio, when at least the baseline's divided by this.",
        ge=1,
        allow_inf_nan=False,
    )


class Figure(Section):
    """A picture of all runs, in figures/NAME.png."""

    kind: Literal["curves", "scatter", "lines"] = Field(
        description="curves: y along the training; scatter: a point per combination, averaged over the seeds; "
        "lines: these joined along the axis x, a line per combination of the others."
    )
    name: str = Field(description="Names the file.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    x: str = Field(
        description="curves: epochs, rounds, bytes, seconds or minibatches; scatter: a numeric column; "
        "lines: an axis whose labels are numbers."
    )
    y: str = Field(
        description="curves: the task's measure (mse_train, …) or disagreement; scatter, lines: a numeric column."
    )
    xlabel: str | None = Field(default=None, description="What stands at the axis x; default: x in words.")
    ylabel: str | None = Field(default=None, description="What stands at the axis y; default: y in words.")
    colour: str | None = Field(default=None, description="scatter, lines: the axis whose labels get colours.")
    where: dict[str, Among] = Field(
        default={}, description="axis: [labels]; only runs with one of these labels are drawn."
    )

    @property
    def along_minibatches(self) -> bool:
        """Whether it draws the mini-batches of runs."""
        return self.kind == "curves" and self.x == "minibatches"


Labels = Annotated[
    dict[str, str],
    BeforeValidator(
        lambda found: {k: as_label(v) for k, v in found.items()} if isinstance(found, dict) else found
    ),
]


def _named_or_given(found: Any) -> Any:
    """A base as it is.

    Raises:
        ValueError: it is neither a file name nor a mapping.
    """
    if not isinstance(found, (str, dict)):
        raise ValueError(f"must be a file name or a mapping, found {shown(found)}")
    return found


class SweepConfig(Section):
    """A sweep. A list of values becomes variants that set the axis' own key."""

    name: str = Field(
        description="Names the sweep's directory.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100
    )
    base: Annotated[str | dict[str, Any], BeforeValidator(_named_or_given)] = Field(
        description="The configuration that is varied: a file relative to this one, a shipped name, or its keys."
    )
    axes: dict[str, dict[str, Variant]] = Field(
        description="key: [values], or name: {label: {set: {key: value}}}; all combinations are run."
    )
    target: Target | None = Field(default=None, description="A value to reach.")
    baseline: Labels | None = Field(
        default=None,
        description="axis: label of the runs with which the others are compared, in excess_… and relative_…",
    )
    recovery: Recovery | None = Field(
        default=None, description="How many epochs after a disturbance a run is back at the baseline's."
    )
    snapshots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = Field(
        default=(),
        description="Epochs E for columns such as mse_train_at_E, mse_test_at_E and disagreement_at_E.",
    )
    figures: Annotated[tuple[Figure, ...], Field(strict=False)] = Field(
        default=(), description="Pictures of all runs."
    )
    _measure: Measure = PrivateAttr(default=MSE)
    _baselines: tuple[str, ...] = PrivateAttr(default=())
    _tested: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _label_values(cls, content: Any) -> Any:
        axes = content.get("axes") if isinstance(content, dict) else None
        if not isinstance(axes, dict):
            return content
        return {**content, "axes": {key: _variants(key, found) for key, found in axes.items()}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_axes(self.axes)
        self._check_columns()
        for axis, label in (self.baseline or {}).items():
            _known(f"baseline.{axis}", axis, self.axes, "axis")
            _known(f"baseline.{axis}", label, self.axes[axis], "label")
        if self.baseline == {}:
            raise ValueError("baseline: is empty; name an axis and its label, or remove it")
        if self.recovery is not None and self.baseline is None:
            raise ValueError("recovery: needs the runs to compare with; name them by baseline, axis: label")
        for k, figure in enumerate(self.figures):
            self._check_figure(f"figures.{k}", figure)
            if figure.name in (other.name for other in self.figures[:k]):
                raise ValueError(f"figures.{k}.name: '{figure.name}' is an earlier figure's; choose another")
        return self

    def _check_columns(self) -> None:
        """Refuse two columns of the same name in the table or its summary."""
        twice = next((epoch for epoch in self.snapshots if self.snapshots.count(epoch) > 1), None)
        if twice is not None:
            raise ValueError(f"snapshots: the epoch {twice} stands twice; keep one")
        table = {column for measure in MEASURES.values() for column in self._columns_with(measure)}
        for axis in self.axes:
            if axis in self.reserved:
                where = "table" if axis in table else "summary"
                raise ValueError(f"axes.{axis}: is a column of the {where}; name the axis otherwise")

    def _check_figure(self, where: str, figure: Figure) -> None:
        for axis, labels in figure.where.items():
            _known(f"{where}.where", axis, self.axes, "axis")
            for label in labels:
                _known(f"{where}.where.{axis}", label, self.axes[axis], "label")
        if figure.colour is not None and figure.kind == "curves":
            raise ValueError(
                f"{where}.colour: belongs to scatter and lines, found '{figure.colour}'; remove it"
            )
        if figure.colour is not None:
            _known(f"{where}.colour", figure.colour, self.axes, "axis")
        if figure.kind == "lines":
            numeric = [axis for axis in self.groups if self.kind(axis) is not str]
            if not numeric:
                raise ValueError(f"{where}.kind: lines need an axis whose labels are numbers; there is none")
            _known(f"{where}.x", figure.x, numeric, "axis whose labels are numbers")

    def measured_by(
        self, measure: Measure, baselines: Iterable[str] = (), tested: Iterable[str] = ()
    ) -> Self:
        """This sweep, of a task with that measure, whose runs tell what `baselines` reach on their mini-batches, and
        those that are `tested` on the test samples.

        Raises:
            ValueError: it names a column of another measure, or one that there is not.
        """
        others = {name for other in MEASURES.values() if other != measure for name in other.columns}
        for where, name in self._named_columns():
            if name.partition("_at_")[0] in others:
                raise ValueError(
                    f"{where}: the task is measured by its {measure.title}, found '{name}'; "
                    f"use {measure.train} or {measure.test}"
                )
        sweep = self.model_copy()
        sweep._measure, sweep._baselines = measure, tuple(baselines)
        sweep._tested = tuple(f"{name}_test" for name in tested)
        for k, figure in enumerate(self.figures):
            for side, metrics in (("x", CURVE_X), ("y", sweep.metrics)):
                curves = figure.kind == "curves"
                what = f"{side} of curves" if curves else "numeric column"
                options = metrics if curves else sweep.numeric_columns
                _known(f"figures.{k}.{side}", getattr(figure, side), options, what)
        return sweep

    def _named_columns(self) -> Iterator[tuple[str, str]]:
        """The columns that are named, and where."""
        if self.target is not None:
            yield "target.metric", self.target.metric
        if self.recovery is not None:
            yield "recovery.metric", self.recovery.metric
        for axis, variants in self.axes.items():
            for label, variant in variants.items():
                for name in variant.published.model_dump(exclude_none=True) if variant.published else ():
                    yield f"axes.{axis}.{' '.join(label.split())}.published", name
        for k, figure in enumerate(self.figures):
            yield f"figures.{k}.x", figure.x
            yield f"figures.{k}.y", figure.y

    @property
    def measure(self) -> Measure:
        """What the task is measured by."""
        return self._measure

    @property
    def baselines(self) -> tuple[str, ...]:
        """The other methods, whose averages over a run's mini-batches are columns of the table."""
        return self._baselines

    @property
    def tested(self) -> tuple[str, ...]:
        """The columns of what other methods reach on the test samples: ``{name}_test``."""
        return self._tested

    @property
    def reads_minibatches(self) -> bool:
        """Whether something is made of the runs' minibatches.csv."""
        return bool(self._baselines) or any(figure.along_minibatches for figure in self.figures)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns of metrics.csv that say how good a run is."""
        return (*self._measure.columns, "disagreement")

    @property
    def repetitions(self) -> tuple[str, ...]:
        """The axes that the summary averages over: those of seeds."""
        return tuple(axis for axis in self.axes if axis.split(".")[-1] == "seed")

    @property
    def groups(self) -> tuple[str, ...]:
        """The other axes, whose combinations are the summary's lines."""
        return tuple(axis for axis in self.axes if axis not in self.repetitions)

    @property
    def measures(self) -> tuple[str, ...]:
        """The numeric columns of the table, without the axes."""
        target = TARGET if self.target else ()
        excess = (*EXCESS, *RELATIVE) if self.baseline else ()
        recovery = RECOVERY if self.recovery else ()
        published = any(variant.published for axis in self.axes.values() for variant in axis.values())
        early = [f"{metric}_at_{epoch}" for epoch in self.snapshots for metric in self.metrics]
        results = results_of(self._measure)
        found = (*results, *self._baselines, *self._tested, *NETWORK, *target, *recovery, *early, *excess)
        return (*found, *(PUBLISHED if published else ()))

    @property
    def averaged(self) -> tuple[str, ...]:
        """The measures of which the summary has mean and deviation: those of the runs themselves."""
        return tuple(name for name in self.measures if name not in PUBLISHED)

    @property
    def reserved(self) -> frozenset[str]:
        """What no axis can be called: all columns that the table and its summary have, or could have."""
        columns = {name for measure in MEASURES.values() for name in self._columns_with(measure)}
        spread = (f"{name}_{kind}" for name in columns for kind in ("mean", "std"))
        return frozenset((*columns, *COUNTS, *spread))

    def _columns_with(self, measure: Measure) -> set[str]:
        """The columns that the table would have, or could have, with that measure."""
        metrics = (*measure.columns, "disagreement")
        early = {f"{name}_at_{epoch}" for epoch in self.snapshots for name in metrics}
        tested = {f"{name}_test" for name in (*BASELINES, *SCHEDULERS)}
        added = {*BASELINES, *tested, *NETWORK, *TARGET, *RECOVERY, *EXCESS, *RELATIVE, *PUBLISHED}
        return {"status", *results_of(measure), *added, *early, "error", "directory"}

    @property
    def numeric_columns(self) -> tuple[str, ...]:
        """What a scatter can have on its axes: measures, and axes all of whose labels are numbers."""
        return (*self.measures, *(axis for axis in self.axes if self.kind(axis) is not str))

    def kind(self, axis: str) -> type[int | float | str]:
        """What the table makes of an axis' labels: int or float where all stand for one, else text as they are."""
        labels = self.axes[axis]
        for kind, form in ((int, WHOLE), (float, NUMBER)):
            same = len({kind(label) for label in labels if form.fullmatch(label)})
            if same == len(labels):  # all are numbers, and no two the same one
                return kind
        return str


def results_of(measure: Measure) -> tuple[str, ...]:
    """The columns of the table that a run's metrics.csv and timing.csv tell."""
    ledger = ("rounds", "messages", "bytes", *MISSING)
    return ("epochs", *measure.columns, "disagreement", *ledger, "seconds")


def _variants(axis: Any, found: Any) -> Any:
    """An axis' list of values as variants by label; anything else as it is."""
    where = " ".join(f"axes.{axis}".split())
    if isinstance(found, (list, dict)) and not found:
        raise ValueError(f"{where}: is empty; give it at least one value, or remove it")
    if isinstance(found, dict):
        return {as_label(key): variant for key, variant in found.items()}
    if not isinstance(found, list):
        raise ValueError(f"{where}: must be a list of values or a mapping of labels, found {found!r:.60}")
    labels = [as_label(value) for value in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"{where}: the value {twice} stands twice; keep one")
    key = str(axis)
    _known(where, key.split(".")[0], Config.model_fields, "key of a configuration")
    if not all(key.split(".")):
        raise ValueError(f"{where}: must look like section.key, e.g. optimizer.lr")
    return {label: {"set": {key: value}} for label, value in zip(labels, found, strict=True)}


def _check_axes(axes: dict[str, dict[str, Variant]]) -> None:
    if not axes:
        raise ValueError("axes: is empty; give at least one axis, e.g. seed: [1, 2, 3]")
    with_published = [axis for axis, found in axes.items() if any(v.published for v in found.values())]
    if len(with_published) > 1:
        raise ValueError(f"axes: only one axis can have published results, found {', '.join(with_published)}")
    before: list[tuple[str, str]] = []  # axis, key that it sets
    for axis, variants in axes.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", axis):
            where = f"axes.{' '.join(axis.split())}"
            raise ValueError(f"{where}: must be letters, digits, . _ -; name the axis otherwise")
        for label, variant in variants.items():
            where = f"axes.{axis}.{' '.join(label.split())}"
            if not label.strip() or not label.isprintable():
                raise ValueError(f"{where}: a label must be text on one line, found {label!r}")
            _check_keys(where, variant, before)
            for named in references(variant.set):
                _known(f"{where}.set", named, [other for other in axes if other != axis], "other axis")
        before += dict.fromkeys((axis, key) for variant in variants.values() for key in variant.set)


def _check_keys(where: str, variant: Variant, before: list[tuple[str, str]]) -> None:
    """Refuse to undo what an earlier axis, or an earlier key, has set: the label would not be true."""
    for k, key in enumerate(variant.set):
        if not all(key.split(".")):
            raise ValueError(f"{where}.set: '{key}' must look like section.key, e.g. optimizer.lr")
        _known(f"{where}.set.{key}", key.split(".")[0], Config.model_fields, "key of a configuration")
        for axis, other in [*before, *((None, earlier) for earlier in [*variant.set][:k])]:
            if f"{other}.".startswith(f"{key}."):
                whose = f"axis '{axis}' has set" if axis else "the same label sets"
                remedy = "set it in one place" if key == other else f"set {key} before {other}"
                raise ValueError(f"{where}.set.{key}: would undo {other}, which {whose}; {remedy}")


def _known(where: str, found: str, known: Iterable[str], what: str) -> None:
    options = [*known]
    if found not in options:
        raise ValueError(f"{where}: '{found}' is no {what}; {suggestion(found, options)}")
