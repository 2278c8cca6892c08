"""Which runs a sweep consists of: one point per combination of the axes' labels."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdtrain import config as configuration
from fdtrain import resources, yamlfile
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.explain import check
from fdtrain.measure import Measure, measure_of
from fdtrain.sweep.labels import describe, filled, slug
from fdtrain.sweep.schema import SCHEDULERS, SweepConfig, Variant
from fdtrain.tasks.allocations import BASELINES
from fdtrain.tasks.link_scheduling import LinkScheduling
from fdtrain.tasks.power_allocation import PowerAllocation

MAX_POINTS = 100_000


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    labels: dict[str, str]  # axis -> label
    overrides: dict[str, Any]  # dotted key -> value, in the order in which they are set
    config: Config | None  # the base configuration with them; None where that is not valid
    text: str  # the same as YAML, with all defaults
    error: str | None = None  # why it is not valid, on one line
    published: dict[str, float] = field(default_factory=dict)  # published_train, published_test
    directory: str = field(init=False)  # within the sweep's; another one for other settings or other data

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.text.encode())
        for file in _files(self.config):
            with contextlib.suppress(OSError):  # the run will say that it cannot be read
                status = os.stat(file)
                digest.update(_digest(file, status.st_mtime_ns, status.st_size))
        object.__setattr__(self, "directory", f"runs/{slug(self.labels)}-{digest.hexdigest()[:8]}")

    @property
    def title(self) -> str:
        """The labels as messages show them: ``D-SGD, seed 2``."""
        return describe(self.labels)


@functools.lru_cache(maxsize=64)
def _digest(file: str, mtime_ns: int, size: int) -> bytes:
    """The hash of a file as it was at that time; many points share one."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _files(config: Config | None) -> list[str]:
    """The files beside the configuration on which a run depends."""
    if config is None:
        return []
    named = [config.task.bundle, getattr(config.topology, "path", None)]
    own = getattr(config.optimizer, "target", "").rpartition(":")[0]  # file.py:Class, but not module:Class
    return [file for file in (*named, own if own.endswith(".py") else None) if file]


@dataclass(frozen=True)
class Sweep:
    """A sweep file, and the runs that it means."""

    config: SweepConfig
    points: list[Point]
    source: str
    overrides: Sequence[str] = ()
    notes: Sequence[str] = ()  # a line each, for the user

    def identity(self) -> str:
        """The same for sweeps with the same table: equal points, and equal columns."""
        columns: tuple[object, ...] = (self.config.target, self.config.baseline, self.config.snapshots)
        columns += (self.config.recovery,) if self.config.recovery else ()
        points = [(point.labels, point.directory, point.error, point.published) for point in self.points]
        return hashlib.sha256(repr((columns, points)).encode()).hexdigest()

    def to_yaml(self) -> str:
        """All points with labels and directories, for who looks at the results."""
        content = self.config.model_dump(mode="json", exclude_none=True)
        content |= {
            "axes": {axis: [*variants] for axis, variants in self.config.axes.items()},
            "repetitions": [*self.config.repetitions],
            "source": self.source,
            "overrides": [*self.overrides],
            "identity": self.identity(),
            "points": [
                {"labels": point.labels, "set": point.overrides, "directory": point.directory}
                | ({"error": point.error} if point.error else {})
                for point in self.points
            ],
        }
        return yamlfile.dump(content)


def load(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file; `overrides` of the form ``key=value`` go to the base configuration.

    Paths of data and networks are relative to the file that names them.

    Raises:
        InputError: the file is no sweep, or no combination of its axes is a configuration.
    """
    content = yamlfile.read_mapping(path)
    if "axes" not in content and "topology" in content:
        raise InputError(f"{path}: has no axes: is a configuration, not a sweep; give it to fdtrain run")
    config = check(SweepConfig, content, str(path))
    base = _base(config, path)
    for override in overrides:
        yamlfile.apply_override(base, override)
    try:
        found = points(config, base, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    first = found[0].error
    if first is not None and all(point.error for point in found):
        raise InputError(f"{path}: no combination of the axes is a valid configuration; the first: {first}")
    try:
        config = config.measured_by(_measure(found), *_others(found))
        _check_logged(config, found)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return Sweep(config, found, str(path), tuple(overrides), _without_effect(config, overrides))


def _measure(found: Sequence[Point]) -> Measure:
    """What the task of all points is measured by.

    Raises:
        ValueError: they have tasks that are measured by different things.
    """
    first, *others = dict.fromkeys(measure_of(point.config.task.kind) for point in found if point.config)
    if others:
        raise ValueError(
            f"axes: some runs are measured by their {first.title}, others by their {others[0].title}; "
            "make a sweep of each"
        )
    return first


def _others(found: Sequence[Point]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The other methods of which some runs tell what they reach on mini-batches, and on the test samples."""
    configs = [point.config for point in found if point.config is not None]
    allocated = [one for one in configs if isinstance(one.task, PowerAllocation) and one.task.baselines_every]
    scheduled = [one.task for one in configs if isinstance(one.task, LinkScheduling)]
    solved = any(task.optimum_within for task in scheduled)
    logged = any(one.training.log_every for one in allocated)
    tested = BASELINES if allocated else SCHEDULERS[: 1 + solved] if scheduled else ()
    return BASELINES if logged else (), tested


def _check_logged(sweep: SweepConfig, found: Sequence[Point]) -> None:
    """Refuse to draw mini-batches of runs that do not tell them.

    Raises:
        ValueError: ``training.log_every`` is missing.
    """
    for k, figure in enumerate(sweep.figures):
        for point in found if figure.along_minibatches else ():
            drawn = all(point.labels[axis] in labels for axis, labels in figure.where.items())
            if drawn and point.config is not None and not point.config.training.log_every:
                raise ValueError(
                    f"figures.{k}.x: the run {point.title} has no minibatches.csv; set training.log_every "
                    "in the base, e.g. 100"
                )


def _without_effect(sweep: SweepConfig, overrides: Sequence[str]) -> list[str]:
    """A line for every override of what an axis sets, whatever the label."""
    found = []
    for override in overrides:
        key = override.partition("=")[0]
        for axis, variants in sweep.axes.items():
            if all(any(f"{key}.".startswith(f"{own}.") for own in v.set) for v in variants.values()):
                found.append(f"override {override} has no effect: the axis {axis} sets it")
                break
    return found


def points(sweep: SweepConfig, base: dict[str, Any], folder: Path) -> list[Point]:
    """The product of all axes, the last one varying fastest; `folder` is what paths are relative to.

    Raises:
        InputError: there are too many.
    """
    count = 1
    for variants in sweep.axes.values():
        count *= len(variants)
    if count > MAX_POINTS:
        raise InputError(f"axes: {count:,} combinations are more than {MAX_POINTS:,}; make several sweeps")
    choices = [[(axis, *item) for item in variants.items()] for axis, variants in sweep.axes.items()]
    return [_point(chosen, base, folder) for chosen in itertools.product(*choices)]


def _point(chosen: Sequence[tuple[str, str, Variant]], base: dict[str, Any], folder: Path) -> Point:
    labels = {axis: label for axis, label, _ in chosen}
    overrides = {key: filled(value, labels) for _, _, variant in chosen for key, value in variant.set.items()}
    content, config, error = copy.deepcopy(base), None, None
    try:
        for key, value in overrides.items():
            yamlfile.assign(content, key, copy.deepcopy(value), key)
        config = configuration.from_mapping(content, source=describe(labels), base=folder)
    except InputError as refused:
        error = " ".join(str(refused).split())
    published: dict[str, float] = {}
    for _, _, variant in chosen:
        for side in ("train", "test"):
            value = None if variant.published is None else variant.published.of(side)
            if value is not None:
                published[f"published_{side}"] = value
    text = yamlfile.dump(content) if config is None else config.to_yaml()
    return Point(labels, overrides, config, text, error, published)


def _base(sweep: SweepConfig, path: Path) -> dict[str, Any]:
    """The base configuration, unchecked: an axis may bring what it lacks.

    Raises:
        InputError: there is no such file, or it is a sweep itself.
    """
    if isinstance(sweep.base, dict):
        return {"name": sweep.name, **copy.deepcopy(sweep.base)}
    near = [path.parent / sweep.base, path.parent / f"{sweep.base}.yaml"]
    try:
        file = next((file for file in near if os.path.isfile(file)), None) or resources.find_config(
            sweep.base
        )
        content = yamlfile.read_mapping(file)
    except InputError as error:
        raise InputError(f"{path}: base: {error}") from None
    if "axes" in content:
        raise InputError(f"{path}: base: {file} is a sweep; name a configuration")
    for section, key in (("task", "bundle"), ("topology", "path"), ("optimizer", "target")):
        inner = content.get(section)
        if not isinstance(inner, dict):
            continue
        named = str(inner.get(key, ""))
        own = named.rpartition(":")[0] if key == "target" else named  # file.py:Class
        if own and os.path.isfile(file.parent / own):
            inner[key] = str((file.parent / own).absolute()) + named.removeprefix(own)
    return content
