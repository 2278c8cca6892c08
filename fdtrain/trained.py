"""What a run leaves behind: its configuration and its parameters, and which of these the nodes of another network take.

θ [V, p] has a row per trained node.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.npz import Archive
from fdtrain.programs import Program
from fdtrain.rundir import is_complete

Array = NDArray[np.float64]
Parameters = Literal["mean", "each"]


def config_file(path: Path) -> Path:
    """The configuration of the run in `path`.

    Raises:
        InputError: there is none.
    """
    file = path / "config.yaml"
    if not os.path.isfile(file):  # Path.is_file raises on a name that is too long
        raise InputError(f"{path}: holds no config.yaml; name the directory of a run")
    return file


def read_theta(path: Path) -> Array:
    """θ of the run in `path`, [V, p].

    Raises:
        InputError: there is none, it is damaged, or it is not finite.
    """
    file = path / "theta.npz"
    if not os.path.isfile(file):
        raise InputError(
            f"{path}: holds no theta.npz: the run was ended before it could write its parameters"
        )
    try:
        with file.open("rb") as stream:
            found = Archive(stream)["theta"]
    except KeyError:
        raise InputError(f"{file}: has no array 'theta'") from None
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    if found.dtype != np.float64 or found.ndim != 2 or len(found) == 0:
        raise InputError(f"{file}: 'theta' must be float64 [V, p], found {found.dtype} {list(found.shape)}")
    if not np.isfinite(found).all():
        raise InputError(f"{file}: has parameters that are not finite: the run diverged")
    return found


def check_fits(path: Path, theta: Array, model: Program) -> None:
    """Refuse parameters of the run in `path` that are another model's.

    Raises:
        InputError: a node has more or fewer of them than `model`.
    """
    if theta.shape[1] != model.num_parameters:
        raise InputError(
            f"{path / 'theta.npz'}: has {theta.shape[1]} parameters per node, the model of config.yaml "
            f"{model.num_parameters}"
        )


def notes_on(path: Path) -> list[str]:
    """What a reader has to know of the parameters of the run in `path`."""
    if is_complete(path):
        return []
    return [f"{path} did not reach its end: these are the parameters of its last finished epoch"]


def on_nodes(theta: Array, nodes: int, parameters: Parameters) -> Array:
    """θ [nodes, p] from that of V trained nodes: the mean of all on every node, or row i mod V on node i."""
    if parameters == "each":
        return theta[np.arange(nodes) % len(theta)]
    mean = theta[0] + (theta - theta[0]).mean(axis=0)  # equal rows stay as they are, to the bit
    return np.tile(mean, (nodes, 1))
