"""Training in the threads of the test's own process: the data for it, and small configurations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdtrain import cli
from fdtrain.config import from_mapping
from fdtrain.experiment import Experiment, build, run_job
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.layers.gcnn import Gcnn
from fdtrain.losses import SquaredError
from fdtrain.mixing import Metropolis
from fdtrain.networks import ShiftNetwork
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.rates import Constant
from fdtrain.service import Host, Outcome
from fdtrain.tasks.base import Order, Samples
from fdtrain.team import Team, in_threads
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import BundleSource
from fdtrain.training import follow
from fdtrain.verify import Comparison, Verifier


def led(work: Callable[[Team], Any], ranks: int) -> Any:
    """What `work` makes on rank 0, which the others of `ranks` ranks follow."""

    def enter(team: Team) -> Any:
        if team.rank > 0:
            return follow(team)
        found = work(team)
        team.dismiss()
        return found

    return in_threads(ranks, enter)


def serve(job: Job, host: Host, ranks: int) -> Host:
    """Train on `ranks` ranks; the host has the outcome, gradients of the last mini-batch included."""
    host.kinds = ("theta", "gradient")
    led(lambda team: run_job(job, team, host), ranks)
    return host


def run(made: Experiment, ranks: int) -> Host:
    """Train on `ranks` ranks; the host has the outcome."""
    return serve(made.job, made.host(ranks), ranks)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm-wise, relative to the oracle."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@dataclass
class Given:
    """A data service that serves what it was given; streamed labels follow the graph of the moment."""

    train: Samples
    held_out: Samples
    orders: np.ndarray  # [epochs, N]
    parameters: np.ndarray | None = None
    streamed: bool = False

    @property
    def train_samples(self) -> int:
        return len(self.train.x)

    @property
    def test_samples(self) -> int:
        return len(self.held_out.x)

    def recipe(self, graph: Graph) -> None: ...

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        return self.train, self.held_out

    def order(self, epoch: int) -> Order:
        return np.asarray(self.orders[epoch])

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        return Samples(self.train.x[chosen], self.train.y[chosen] + graph.degrees[:, None])

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        return graph, Samples(self.held_out.x, self.held_out.y + graph.degrees[:, None])

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    def test_baselines(self, k: int) -> Mapping[str, float]:
        return {}

    def theta(self) -> np.ndarray | None:
        return self.parameters


def samples(n: int, nodes: int, sizes: Sequence[int], rng: np.random.Generator) -> Samples:
    return Samples(rng.normal(size=(n, nodes, sizes[0])), rng.normal(size=(n, nodes, sizes[-1])))


def make_job(model: Gcnn, data: Given, **settings: Any) -> Job:
    defaults = {
        "network": ShiftNetwork("laplacian"), "optimizer": DSGD(Constant(0.003)), "mixing": Metropolis(),
        "epochs": len(data.orders), "batch": 4, "wave": 1, "scheme": "piggyback_do", "slices": "idle",
        "consensus_rounds": 1, "streamed": data.streamed,
    }  # fmt: skip
    return Job(
        model=model, loss=SquaredError(model.outputs), train_samples=data.train_samples, test_samples=data.test_samples,
        **(defaults | settings),
    )  # fmt: skip


def trained(
    job: Job, topology: TopologyService, data: Given, theta: np.ndarray, ranks: int
) -> tuple[Host, list[np.ndarray]]:
    """Run the job; the host, and θ after every epoch."""
    job = replace(job, save_every=job.minibatches)
    host = Host(job, topology, data, theta, ranks)
    host.keeper = kept = Thetas()
    serve(job, host, ranks)
    return host, kept.found


class Thetas:
    """A keeper that takes θ out of the checkpoints."""

    def __init__(self) -> None:
        self.found: list[np.ndarray] = []

    def write(self, t: int, content: Mapping[str, Any]) -> None:
        self.found.append(content["snapshot"]["nodes"]["theta"])

    def refuse(self, t: int, problem: str) -> None: ...


def still(graph: Graph) -> TopologyService:
    return TopologyService(BundleSource(connected=False), 0, graph)


def content(change: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "seed": 3,
        "topology": {"kind": "barabasi_albert", "nodes": 9, "m": 2},
        "model": {"sizes": [5, 4, 1], "activation": "sigmoid"},
        "task": {"train_samples": 10, "test_samples": 3},
        "training": {"epochs": 4, "batch": 4, "wave": 3},
        "optimizer": {"kind": "d_sgd", "lr": 0.01},
    }
    for section, values in change.items():
        replaced = "kind" in values
        made[section] = values if replaced else made.get(section, {}) | values
    return made


def experiment(
    change: dict[str, Any], base: Path | None = None, *, allow_plugins: bool = False
) -> Experiment:
    return build(from_mapping(content(change), base=base), allow_plugins=allow_plugins)


def verified(made: Experiment, ranks: int = 1, minibatches: int = 4) -> list[Comparison]:
    """The full verification."""
    found: list[Comparison] = led(lambda team: Verifier(made, team).full(minibatches), ranks)
    return found


def refused(capsys: pytest.CaptureFixture[str], folder: Path, change: dict[str, Any], *options: str) -> str:
    """What ``fdtrain run`` says that refuses a configuration: one line, exit status 2, and no directory is made."""
    config = folder / "config.yaml"
    config.write_text(json.dumps(content(change)), encoding="utf-8")
    status = cli.main(["run", str(config), "--ranks", "1", "--out", str(folder / "run"), *options])
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    assert lines[0].isprintable()
    assert not (folder / "run").exists()
    return lines[0].removeprefix("error: ")


def trace(outcome: Outcome) -> dict[str, Any]:
    """All that a run leaves behind, floats as bits, but for what was sent physically."""
    return {
        "theta": outcome.theta.tobytes(),
        "gradient": outcome.gradient.tobytes(),
        "node measures": outcome.node_loss.tobytes(),
        "rows": [[v.hex() if isinstance(v, float) else v for v in astuple(row)[:-1]] for row in outcome.rows],
        "totals": outcome.ledger.total,
        "fields": outcome.ledger.fields,
    }
