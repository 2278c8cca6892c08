"""Runs ``tests/mpi`` under mpirun, on 1, 2 and 4 ranks: plain pytest would skip them with status 0."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import mpirun, needs_mpi

pytestmark = needs_mpi
FOLDER = Path(__file__).parent / "mpi"


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_mpi_tests_pass(tmp_path: Path, ranks: int) -> None:
    result = mpirun(
        ranks,
        [
            "-m",
            "mpi4py",
            "-m",
            "pytest",
            "--only-mpi",
            "-q",
            "--color=no",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            str(tmp_path),
            str(FOLDER),
        ],
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # mpirun may join the last lines of two ranks into one.
    passed = [int(count) for count in re.findall(r"(\d+) passed", result.stdout)]
    assert len(passed) == ranks, result.stdout
    assert len(set(passed)) == 1
    assert passed[0] >= 5
    assert not re.search(r"\d+ (skipped|failed|error)", result.stdout), result.stdout
