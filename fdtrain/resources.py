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


def find_config(name: str) -> Path:
    """A configuration file by path, or one that comes with fdtrain by name, e.g. ``quickstart``, ``paper/fig2a``.

    Raises:
        InputError: there is neither.
    """
    path = Path(name)
    if os.path.isfile(path):  # Path.is_file raises on a name that is too long
        return path
    shipped = folder("configs")
    known = {str(file.relative_to(shipped).with_suffix("")): file for file in sorted(shipped.rglob("*.yaml"))}
    key = name.removeprefix("configs/").removesuffix(".yaml")
    if key in known:
        return known[key]
    raise InputError(
        f"{name}: no such file, and no configuration that comes with fdtrain; those are {', '.join(known)}"
    )
