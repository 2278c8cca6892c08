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


def is_sweep(file: Path) -> bool:
    """Whether a YAML file is a sweep: it has ``axes``, which no configuration has."""
    return any(line.startswith("axes:") for line in file.read_text(encoding="utf-8").splitlines())


def known_configs() -> dict[str, Path]:
    """The configurations and sweeps that come with fdtrain, by name."""
    shipped = folder("configs")
    return {str(file.relative_to(shipped).with_suffix("")): file for file in sorted(shipped.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """A configuration file by path, or one that comes with fdtrain by name, e.g. ``quickstart``.

    Raises:
        InputError: there is neither.
    """
    return _find(name, sweep=False)


def find_sweep(name: str) -> Path:
    """A sweep file by path, or one that comes with fdtrain by name.

    Raises:
        InputError: there is neither.
    """
    return _find(name, sweep=True)


def _find(name: str, *, sweep: bool) -> Path:
    path = Path(name)
    if os.path.isfile(path):  # Path.is_file raises on a name that is too long
        return path
    known = known_configs()
    key = name.removeprefix("configs/").removesuffix(".yaml")
    if key in known:
        return known[key]
    what = "sweep" if sweep else "configuration"
    shown = ", ".join(key for key, file in known.items() if is_sweep(file) == sweep)
    raise InputError(f"{name}: no such file, and no {what} that comes with fdtrain; those are {shown}")
