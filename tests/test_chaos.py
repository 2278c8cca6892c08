"""Random kills, in short: ``make chaos`` does more of them."""

from __future__ import annotations

from pathlib import Path

from chaos import chaos, check
from commands import needs_mpi


@needs_mpi
def test_three_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    check(chaos(tmp_path, 3, 7))
