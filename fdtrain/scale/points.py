"""The points of a scaling study: a configuration and a number of ranks for every combination of what varies."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from fdtrain import config as configuration
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.scale.study import AXES, Loaded
from fdtrain.scale.work import check_scalable

MAX_POINTS = 1000
_BY_NODES = ("ring", "star", "path", "complete")  # kinds without a degree to choose


@dataclass(frozen=True)
class Point:
    """A combination: values by axis, None where the base configuration's stays."""

    ranks: int
    nodes: int | None  # of the whole network
    values: dict[str, int | None]  # as the study has them; in weak scaling nodes are those of a rank
    config: Config

    @property
    def key(self) -> str:
        """A file's name."""
        letters = {"ranks": "r", "nodes": "n", "degree": "d", "hidden": "h", "wave": "w"}
        return "-".join(f"{letters[axis]}{value}" for axis, value in self.values.items() if value is not None)

    @property
    def title(self) -> str:
        """The combination in words."""
        return ", ".join(f"{axis} {value:,}" for axis, value in self.values.items() if value is not None)


def plan(loaded: Loaded) -> list[Point]:
    """All points, the number of ranks varying fastest, so that those that are compared are measured one after another.

    Raises:
        InputError: a combination that is no configuration, or has more ranks than nodes.
    """
    check_scalable(loaded.config)
    scaling = loaded.study.scaling
    axes = [getattr(scaling, axis) or (None,) for axis in (*AXES[1:], AXES[0])]
    count = math.prod(len(values) for values in axes)
    if count > MAX_POINTS:
        raise InputError(f"scaling: {count:,} points are more than {MAX_POINTS:,}; make several studies")
    return [_point(loaded, ranks, rest) for *rest, ranks in itertools.product(*axes)]


def _point(loaded: Loaded, ranks: int, rest: list[int | None]) -> Point:
    values = dict(zip(AXES, (ranks, *rest), strict=True))
    scaling, nodes = loaded.study.scaling, values["nodes"]
    content: dict[str, Any] = loaded.config.model_dump(mode="json", exclude_none=True)
    base = content["topology"].get("nodes")
    if scaling.mode == "weak":
        per_rank = nodes if nodes is not None else base
        if per_rank is None:
            raise InputError(
                f"scaling.mode: weak changes the number of nodes, and topology.kind {content['topology']['kind']} "
                "has none of its own; give --nodes"
            )
        values["nodes"], nodes = per_rank, per_rank * ranks
    if nodes is not None or values["degree"] is not None:
        content["topology"] = network(content["topology"], nodes, values["degree"])
    if values["hidden"] is not None:
        sizes = content["model"]["sizes"]
        if len(sizes) < 3:
            raise InputError(f"hidden: model.sizes {sizes} have no hidden layer; leave the axis out")
        content["model"]["sizes"] = [sizes[0], *[values["hidden"]] * (len(sizes) - 2), sizes[-1]]
    training = content["training"]
    if values["wave"] is not None:
        training["wave"] = values["wave"]
    batch = min(training["batch"], content["task"]["train_samples"])
    training |= {"epochs": 1, "batch": batch}
    content["task"] |= loaded.config.task.of_one_minibatch(batch)
    title = ", ".join(f"{axis} {value}" for axis, value in values.items() if value is not None)
    config = configuration.from_mapping(content, source=title)
    if nodes is None:
        rows, columns = content["topology"].get("rows"), content["topology"].get("cols")
        nodes = rows * columns if rows else base
    if nodes is not None and ranks > nodes:
        raise InputError(f"{title}: more ranks than nodes; use at most {nodes:,} rank{'s' * (nodes > 1)}")
    return Point(ranks, nodes, values, config)


def network(section: dict[str, Any], nodes: int | None, degree: int | None) -> dict[str, Any]:
    """A topology's section with another number of nodes or mean degree; the mean degree stays where only nodes change.

    Raises:
        InputError: its kind has no such number to choose.
    """
    kind, found = section["kind"], dict(section)
    if kind in _BY_NODES or kind == "grid":
        if degree is not None:
            raise InputError(f"degree: that of topology.kind {kind} is given; leave the axis out")
        if kind == "grid" and nodes is not None:
            rows = next(r for r in range(math.isqrt(nodes), 0, -1) if nodes % r == 0)
            return found | {"rows": rows, "cols": nodes // rows}
        return found if nodes is None else found | {"nodes": nodes}
    if kind not in _DEGREES:
        raise InputError(
            f"nodes, degree: a network of topology.kind {kind} is of one size; leave the axes out, or use one of "
            f"{', '.join((*_BY_NODES, 'grid', *_DEGREES))}"
        )
    before = section["nodes"]
    found["nodes"] = before if nodes is None else nodes
    _DEGREES[kind](found, before, degree)
    return found


def _barabasi_albert(section: dict[str, Any], before: int, degree: int | None) -> None:
    if degree is not None:
        if degree % 2:
            raise InputError(f"degree: barabasi_albert has even mean degrees, 2m; found {degree}")
        section["m"] = degree // 2


def _erdos_renyi(section: dict[str, Any], before: int, degree: int | None) -> None:
    if degree is not None or "p" in section:
        mean = section.pop("p", 0.0) * (before - 1)
        section["mean_degree"] = mean if degree is None else degree


def _watts_strogatz(section: dict[str, Any], before: int, degree: int | None) -> None:
    section["k"] = section["k"] if degree is None else degree


def _random_regular(section: dict[str, Any], before: int, degree: int | None) -> None:
    section["degree"] = section["degree"] if degree is None else degree


def _random_geometric(section: dict[str, Any], before: int, degree: int | None) -> None:
    nodes = section["nodes"]
    if degree is not None:
        section["radius"] = math.sqrt(degree / (math.pi * nodes))
    else:
        section["radius"] *= math.sqrt(before / nodes)


_DEGREES = {
    "barabasi_albert": _barabasi_albert,
    "erdos_renyi": _erdos_renyi,
    "watts_strogatz": _watts_strogatz,
    "random_regular": _random_regular,
    "random_geometric": _random_geometric,
}
