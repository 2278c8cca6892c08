"""The published size from a bundle over 1000 epochs against the matrix recursion: `make long-bundle`, some minutes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from commands import fdtrain, needs_mpi

from fdtrain import reference
from fdtrain.config import from_mapping
from fdtrain.experiment import build

pytestmark = needs_mpi
EPOCHS = 1000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[reference.EpochResult]]:
    """Data of the published recipe as a bundle, and what the matrix recursion makes of it."""
    made = build(
        from_mapping(
            {
                "seed": 42,
                "topology": {"kind": "barabasi_albert", "nodes": 100, "m": 2, "seed": 3},
                "model": {"sizes": [10, 10, 1]},
            }
        )
    )
    graph = made.topology.graph(0)
    train, test = made.data.dataset(graph)
    order = np.stack([made.data.order(epoch) for epoch in range(EPOCHS)])
    views = {name.lower(): view[0] for name, view in made.job.model.views(made.theta).items()}
    path = tmp_path_factory.mktemp("bundle") / "data.npz"
    np.savez(
        path, x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y,
        edges=graph.edges(), order=order, **views,
    )  # fmt: skip
    model = reference.Model((10, 10, 1), ("sigmoid", "sigmoid"), "receiver")
    _, results = reference.train_distributed(
        model, "normalized_laplacian", "laplacian", 1e-3, reference.Recursion("d_sgd"), 1e-3, graph.adjacency(),
        train.x, train.y, test.x, test.y, made.theta, order, 100,
    )  # fmt: skip
    return path, results


@pytest.mark.parametrize("wave", [1, 100])
def test_metrics_are_those_of_the_recursion(
    bundle: tuple[Path, list[reference.EpochResult]], wave: int, tmp_path: Path
) -> None:
    path, results = bundle
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
topology: {{kind: bundle}}
model: {{sizes: [10, 10, 1]}}
task: {{bundle: {path}}}
training: {{epochs: {EPOCHS}, batch: 100, wave: {wave}}}
optimizer: {{kind: d_sgd, lr: 1e-3, mixing: {{kind: laplacian, beta: 1e-3}}}}
"""
    )
    out = tmp_path / "run"
    result = fdtrain("run", str(config), "--ranks", "2", "--out", str(out), "--no-figures", timeout=1200)
    assert result.returncode == 0, result.stderr
    with (out / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    worst = {
        name: max(
            abs(float(row[name]) / getattr(line, name) - 1) for row, line in zip(rows, results, strict=True)
        )
        for name in ("mse_train", "mse_test", "disagreement")
    }
    last = rows[-1]
    print(
        f"\nwave {wave}: final mse {last['mse_train']} / {last['mse_test']}; largest relative errors {worst}"
    )
    assert max(worst["mse_train"], worst["mse_test"]) <= 1e-12
    assert worst["disagreement"] <= 1e-10
