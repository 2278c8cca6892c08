"""The sweep file: a base configuration, the axes along which it varies, and what is made of the results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fdtrain.config import Config
from fdtrain.explain import suggestion
from fdtrain.section import Positive, Section
from fdtrain.sweep.labels import as_label
from fdtrain.yamlfile import shown

MEASURES = ("epochs", "mse_train", "mse_test", "disagreement", "rounds", "messages", "bytes", "seconds")
NETWORK = ("nodes", "edges", "mean_degree", "diameter", "spectral_gap")
TARGET = ("epochs_to_target", "rounds_to_target")
EXCESS = ("excess_train", "excess_test")
PUBLISHED = ("published_train", "published_test")
COLUMNS = ("status", *MEASURES, *NETWORK, *TARGET, *EXCESS, *PUBLISHED, "error", "directory")
COUNTS = ("n", "failed", "n_reached")  # of the summary

WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")

CURVE_X = ("epochs", "rounds", "bytes", "seconds")
CURVE_Y = ("mse_train", "mse_test", "disagreement")


Among = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda found: [*map(as_label, found)] if isinstance(found, (list, tuple)) else found),
    Field(strict=False),
]


class Published(Section):
    """What a publication reports for a variant."""

    mse_train: Positive | None = Field(default=None, description="Final training MSE.")
    mse_test: Positive | None = Field(default=None, description="Final test MSE.")


class Variant(Section):
    """One value of an axis: what it sets in the base configuration."""

    set: dict[str, Any] = Field(
        default={}, description="Dotted keys and their values; a section's name replaces the whole section."
    )
    published: Published | None = Field(default=None, description="Published results, shown beside.")


class Target(Section):
    """A value to reach; adds the columns epochs_to_target and rounds_to_target."""

    metric: Literal["mse_train", "mse_test", "disagreement"] = Field(description="What must reach it.")
    value: float = Field(
        description="Reached at the first epoch at which the metric is at most this.", allow_inf_nan=False
    )


class Figure(Section):
    """A picture of all runs, in figures/NAME.png."""

    kind: Literal["curves", "scatter"] = Field(
        description="curves: y along the training; scatter: a point per combination, averaged over the seeds."
    )
    name: str = Field(description="Names the file.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    x: str = Field(description="curves: epochs, rounds, bytes or seconds; scatter: a numeric column.")
    y: str = Field(description="curves: mse_train, mse_test or disagreement; scatter: a numeric column.")
    colour: str | None = Field(default=None, description="scatter: the axis whose labels get colours.")
    where: dict[str, Among] = Field(
        default={}, description="axis: [labels]; only runs with one of these labels are drawn."
    )


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
        default=None, description="axis: label of the runs that excess_train and excess_test are relative to."
    )
    snapshots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = Field(
        default=(), description="Epochs E for columns mse_train_at_E, mse_test_at_E and disagreement_at_E."
    )
    figures: Annotated[tuple[Figure, ...], Field(strict=False)] = Field(
        default=(), description="Pictures of all runs."
    )

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
        for axis in self.axes:
            if axis in self.reserved:
                where = "table" if axis in (*COLUMNS, *self.measures) else "summary"
                raise ValueError(f"axes.{axis}: is a column of the {where}; name the axis otherwise")

    def _check_figure(self, where: str, figure: Figure) -> None:
        for axis, labels in figure.where.items():
            _known(f"{where}.where", axis, self.axes, "axis")
            for label in labels:
                _known(f"{where}.where.{axis}", label, self.axes[axis], "label")
        if figure.kind == "curves":
            _known(f"{where}.x", figure.x, CURVE_X, "x of curves")
            _known(f"{where}.y", figure.y, CURVE_Y, "y of curves")
            if figure.colour is not None:
                raise ValueError(f"{where}.colour: belongs to a scatter, found '{figure.colour}'; remove it")
            return
        for side in ("x", "y"):
            _known(f"{where}.{side}", getattr(figure, side), self.numeric_columns, "numeric column")
        if figure.colour is not None:
            _known(f"{where}.colour", figure.colour, self.axes, "axis")

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
        excess = EXCESS if self.baseline else ()
        published = any(variant.published for axis in self.axes.values() for variant in axis.values())
        early = [f"{metric}_at_{epoch}" for epoch in self.snapshots for metric in CURVE_Y]
        return (*MEASURES, *NETWORK, *target, *early, *excess, *(PUBLISHED if published else ()))

    @property
    def averaged(self) -> tuple[str, ...]:
        """The measures of which the summary has mean and deviation: those of the runs themselves."""
        return tuple(name for name in self.measures if name not in PUBLISHED)

    @property
    def reserved(self) -> frozenset[str]:
        """What no axis can be called: all columns that the table and its summary have, or could have."""
        spread = (f"{name}_{kind}" for name in self.averaged for kind in ("mean", "std"))
        return frozenset((*COLUMNS, *self.measures, *COUNTS, *spread))

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
