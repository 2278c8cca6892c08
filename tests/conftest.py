"""Under ``mpirun -n N pytest --with-mpi`` every rank collects all tests; only those for MPI make sense there."""

from __future__ import annotations

import pytest

from fdtrain.launcher import launched_size


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if launched_size() is None or not config.getoption("--with-mpi"):
        return
    serial = [item for item in items if item.get_closest_marker("mpi") is None]
    config.hook.pytest_deselected(items=serial)
    items[:] = [item for item in items if item.get_closest_marker("mpi") is not None]
