"""Directories of runs that are measured by a rate, made up: nothing is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fdtrain.graph import Graph
from fdtrain.ledger import Ledger
from fdtrain.measure import RATE
from fdtrain.minibatches import MinibatchRow
from fdtrain.rundir import COMPLETE, RunDirectory, write_json
from fdtrain.service import EpochRow

NODES = 6


def epoch(number: int, train: float, test: float, *, sent: bool = True) -> EpochRow:
    return EpochRow(
        number, train, test, 0.1 / number, 10 * number * sent, 60 * number * sent, 480 * number * sent, RATE
    )


def minibatch_rows(count: int, *, top: float = 20.0, every: int = 10) -> list[MinibatchRow]:
    """Rates that rise, a baseline of every mini-batch, and one of every tenth."""
    return [
        MinibatchRow(
            t,
            top - 6 * math.exp(-5 * t / count) + math.sin(t),
            {"wmmse_4": 17.5 + math.sin(t), "wmmse_100": 19.0 + math.sin(t) if t % every == 0 else math.nan},
            RATE,
        )
        for t in range(1, count + 1)
    ]


def rated_run(
    path: Path,
    *,
    epochs: int = 1,
    minibatches: int = 0,
    top: float = 20.0,
    config: dict[str, Any] | None = None,
) -> RunDirectory:
    """A complete run of `epochs`, whose last test is at `top`."""
    content = {"name": path.name, "training": {"epochs": epochs}, **(config or {})}
    run = RunDirectory.create(path, yaml.safe_dump(content))
    run.append_minibatches(minibatch_rows(minibatches, top=top))
    for number in range(1, epochs + 1):
        run.append_epoch(epoch(number, top - 2 / number, top - 1 / number + 1 / epochs), float(number))
    graph = Graph.from_edges(NODES, [(i, (i + 1) % NODES) for i in range(NODES)])
    run.write_network(graph, np.linspace(0.1, 9.0, NODES))
    run.write_theta(np.zeros((NODES, 3)))
    run.write_ledger(Ledger())
    write_json(path / "environment.json", {"outcome": COMPLETE, "wall_seconds": 1.0, "ranks": 1})
    return run
