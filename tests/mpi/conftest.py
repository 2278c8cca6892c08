"""A test that fails on one rank must end all of them, or the others would wait for it."""

from __future__ import annotations

import sys

import pytest

from fdtrain.launcher import launched_rank


def pytest_configure(config: pytest.Config) -> None:
    if "mpi4py" in sys.modules:
        config.option.maxfail = 1
        if config.option.basetemp:  # ranks that clear up one folder trip over each other
            config.option.basetemp = f"{config.option.basetemp}/rank-{launched_rank()}"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus and "mpi4py.run" in sys.modules:
        from mpi4py import run

        run.set_abort_status(int(exitstatus))
