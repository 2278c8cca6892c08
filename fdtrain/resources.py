"""Files that come with fdtrain: configurations, and next to them the named networks."""

from __future__ import annotations

import os
from pathlib import Path

from fdtrain.errors import InputError

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `name` (``configs``, ``topologies``), in an installed package or in a source checkout."""
    checkout = _PACKAGE.parent
    return (checkout if (checkout / "pyproject.toml").is_file() else _PACKAGE / "share") / name


_MARKS = {"axes:": "sweep", "scaling:": "scaling study", "machine:": "machine"}


def kind_of(file: Path) -> str:
    """What a YAML file is, by a key that the others do not have: a configuration, sweep, scaling study or machine."""
    lines = file.read_text(encoding="utf-8").splitlines()
    marks = (kind for line in lines for mark, kind in _MARKS.items() if line.startswith(mark))
    return next(marks, "configuration")


def is_sweep(file: Path) -> bool:
    """Whether a YAML file is a sweep: it has ``axes``, which no configuration has."""
    return kind_of(file) == "sweep"


def known_configs() -> dict[str, Path]:
    """The configurations, sweeps, scaling studies and machines that come with fdtrain, by name."""
    shipped = folder("configs")
    return {str(file.relative_to(shipped).with_suffix("")): file for file in sorted(shipped.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """A configuration file by path, or one that comes with fdtrain by name, e.g. ``quickstart``.

    Raises:
        InputError: there is neither.
    """
    return _find(name, "configuration")


def find_sweep(name: str) -> Path:
    """A sweep file by path, or one that comes with fdtrain by name.

    Raises:
        InputError: there is neither.
    """
    return _find(name, "sweep")


def find_study(name: str) -> Path:
    """A scaling study or a configuration by path, or one that comes with fdtrain by name.

    Raises:
        InputError: there is neither.
    """
    return _find(name, "scaling study", "configuration")


def find_machine(name: str) -> Path:
    """A machine by path, or one that comes with fdtrain by name, e.g. ``wifi``.

    Raises:
        InputError: there is neither.
    """
    return _find(name, "machine", folder="machines/")


def _find(name: str, *kinds: str, folder: str = "") -> Path:
    """A file by path, or one that comes with fdtrain by name, which need not name its `folder`."""
    path = Path(name)
    if os.path.isfile(path):  # Path.is_file raises on a name that is too long
        return path
    known = known_configs()
    key = name.removeprefix("configs/").removesuffix(".yaml")
    for one in (key, f"{folder}{key}"):
        if one in known:
            return known[one]
    shown = ", ".join(key.removeprefix(folder) for key, file in known.items() if kind_of(file) in kinds)
    what = " or ".join(kinds)
    raise InputError(f"{name}: no such file, and no {what} that comes with fdtrain; those are {shown}")
