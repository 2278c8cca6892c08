"""Runs ``tests/mpi`` under mpirun, on 1, 2 and 4 ranks: plain pytest would skip them with status 0."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import mpirun, needs_mpi

pytestmark = needs_mpi
FOLDER = Path(__file__).parent / "mpi"


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_mpi_tests_pass(ranks: int) -> None:
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
            str(FOLDER),
        ],
    )
    assert result.returncode == 0, result.stdout + result.stderr
    closing = [line for line in result.stdout.splitlines() if re.search(r"\d+ passed", line)]
    assert len(closing) == ranks, result.stdout
    counts = {int(re.search(r"(\d+) passed", line).group(1)) for line in closing}  # type: ignore[union-attr]
    assert len(counts) == 1
    assert counts.pop() >= 5
    assert not any(word in line for line in closing for word in ("skipped", "failed", "error"))
