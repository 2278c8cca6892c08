"""The file of a scaling study: a base configuration, and what varies."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict

from fdtrain import config as configuration
from fdtrain import resources
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.explain import check
from fdtrain.launcher import available_cores
from fdtrain.section import Section
from fdtrain.yamlfile import apply_override, read_mapping

AXES = ("ranks", "nodes", "degree", "hidden", "wave")


def _once(values: tuple[int, ...]) -> tuple[int, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"the value {twice} stands twice; keep one")
    return values


Counts = Annotated[
    tuple[Annotated[int, Field(ge=1, le=10_000_000)], ...],
    Strict(False),
    Field(min_length=1),
    AfterValidator(_once),
]


def _ranks() -> tuple[int, ...]:
    cores = available_cores()
    return tuple(2**k for k in range(cores.bit_length()) if 2**k <= cores)


class Scaling(Section):
    """What varies, and how it is measured. All combinations are points of the study."""

    mode: Literal["strong", "weak"] = Field(
        default="strong", description="strong: nodes are those of the network; weak: those of a rank."
    )
    ranks: Counts = Field(
        default_factory=_ranks, description="MPI ranks; default: 1, 2, 4 … up to the cores."
    )
    nodes: Counts | None = Field(default=None, description="|V|; in weak scaling |V| per rank.")
    degree: Counts | None = Field(default=None, description="Mean degree, where the topology's kind has one.")
    hidden: Counts | None = Field(default=None, description="Size of all hidden layers.")
    wave: Counts | None = Field(default=None, description="w, samples that share a round's messages.")
    repeats: int = Field(default=5, description="Mini-batches that are timed.", ge=1)
    statistic: Literal["median", "shortest"] = Field(
        default="median",
        description="Which of them counts; the shortest is the steadier one where other programs run beside.",
    )
    warmup: int = Field(default=2, description="Mini-batches before them that are not.", ge=1)
    visits: int = Field(
        default=1, description="How often the whole study is gone through, each time with all repeats.", ge=1
    )


class Study(Section):
    """A scaling study."""

    name: str = Field(description="Names the default output directory.", min_length=1)
    base: str | dict[str, Any] = Field(description="The configuration: a file, a name, or itself.")
    scaling: Scaling = Field(default=Scaling(), description="What varies, and how it is measured.")


@dataclass(frozen=True)
class Loaded:
    """A study with its base configuration."""

    study: Study
    config: Config


def load(
    name: str, overrides: Sequence[str] = (), options: Mapping[str, str | int | None] | None = None
) -> Loaded:
    """Read a study, or a configuration that is made one by the options of the command line.

    Args:
        name: a file, or one that comes with fdtrain.
        overrides: ``key=value`` for the base configuration.
        options: of the section ``scaling``; lists as text, such as ``1,2,4``. None: as the file says.

    Raises:
        InputError: one line that says what cannot be used.
    """
    path = resources.find_study(name)
    content = read_mapping(path)
    if "axes" in content:
        raise InputError(f"{path}: is a sweep, not a scaling study; give it to fdtrain sweep")
    if "scaling" not in content:
        content = {"name": content.get("name", path.stem), "base": content, "scaling": {}}
    given = {key: _read(key, value) for key, value in (options or {}).items() if value is not None}
    scaling = content["scaling"]
    if isinstance(scaling, dict):
        for key, value in given.items():
            check(Scaling, {key: value}, "--" + key)
        content = {**content, "scaling": {**scaling, **given}}
    study = check(Study, content, str(path))
    base, folder = _base(study, path)
    for override in overrides:
        apply_override(base, override)
    return Loaded(study, configuration.from_mapping(base, source=str(path), base=folder))


def _base(study: Study, path: Path) -> tuple[dict[str, Any], Path]:
    """The base configuration, unchecked, and the folder that its paths are relative to."""
    if isinstance(study.base, dict):
        return {"name": study.name, **copy.deepcopy(study.base)}, path.parent
    near = path.parent / study.base
    try:
        file = near if os.path.isfile(near) else resources.find_config(study.base)
        return read_mapping(file), file.parent
    except InputError as error:
        raise InputError(f"{path}: base: {error}") from None


def _read(key: str, value: str | int) -> Any:
    """An option's value, a list of numbers where it is an axis."""
    if key not in AXES or isinstance(value, int):
        return value
    return read_numbers(key, value)


def read_numbers(option: str, given: str) -> list[int]:
    """The numbers that an option lists.

    Raises:
        InputError: it does not.
    """
    parts = [part.strip() for part in given.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,7}", part) for part in parts):
        raise InputError(
            f"--{option}: must be numbers from 1 to 99999999 with commas between them, e.g. 1,2,4; "
            f"found '{given:.60}'"
        )
    return [int(part) for part in parts]
