"""Who hosts whom: balanced parts, fewer links between them, and the same results whatever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain, needs_mpi
from hypothesis import given, settings
from hypothesis import strategies as st
from teams import run, trace, verified

import fdtrain as package
from fdtrain import cli, driver
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.execution import Partition
from fdtrain.experiment import Experiment, build
from fdtrain.graph import Graph
from fdtrain.partition import block
from fdtrain.partitioners import PARTITIONERS
from fdtrain.placement import Share, cut_edges, shares
from fdtrain.rundir import RunDirectory
from fdtrain.topology import kinds

KINDS = [*PARTITIONERS]
OTHERS = [kind for kind in KINDS if kind != "block"]
fixed = settings(derandomize=True, deadline=None, max_examples=60)


def geometric(nodes: int = 600) -> Graph:
    radius = float(np.sqrt(14 / np.pi / nodes))
    return kinds.RandomGeometric(nodes=nodes, radius=radius).draw(np.random.default_rng(1))


def attached(nodes: int = 600) -> Graph:
    return kinds.BarabasiAlbert(nodes=nodes, m=2).draw(np.random.default_rng(1))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Of any number of components, nodes without links among them."""
    nodes = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    A = np.triu(rng.random((nodes, nodes)) < draw(st.floats(0, 0.5)), 1)
    return Graph.from_adjacency(A + A.T)


@pytest.mark.parametrize("kind", KINDS)
@fixed
@given(graphs(), st.integers(1, 9), st.integers(0, 2**63 - 1))
def test_every_node_has_a_host_and_every_host_a_node(kind: str, graph: Graph, ranks: int, seed: int) -> None:
    owner = PARTITIONERS[kind](graph, ranks, seed)
    assert owner.shape == (graph.num_nodes,)
    assert owner.dtype == np.int64
    sizes = np.bincount(owner, minlength=ranks)
    assert len(sizes) == ranks
    assert (sizes > 0).sum() == min(ranks, graph.num_nodes)
    if kind != "metis":
        assert sizes.max() - sizes.min() <= 1
    assert (PARTITIONERS[kind](graph, ranks, seed) == owner).all()


@pytest.mark.parametrize("graph", [geometric(), attached()], ids=["geometric", "attached"])
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_metis_and_spectral_cut_fewer_edges_than_chance(graph: Graph, ranks: int) -> None:
    cut = {kind: cut_edges(shares(graph, PARTITIONERS[kind](graph, ranks, 5), ranks)) for kind in KINDS}
    limit = 0.35 if graph.positions is not None else 0.75
    assert cut["metis"] < limit * cut["random"]
    assert cut["spectral"] < limit * cut["random"]
    assert np.bincount(PARTITIONERS["metis"](graph, ranks, 5)).max() <= 1.03 * graph.num_nodes / ranks + 1


def test_the_spectral_cut_of_a_grid_is_along_its_short_side() -> None:
    grid = kinds.Grid(rows=6, cols=40).draw(np.random.default_rng(0))  # 240 nodes: by iteration
    owner = PARTITIONERS["spectral"](grid, 2, 0).reshape(6, 40)
    assert cut_edges(shares(grid, owner.reshape(-1), 2)) <= 8  # 6 at best
    small = kinds.Grid(rows=3, cols=10).draw(np.random.default_rng(0))  # all eigenvectors
    owner = PARTITIONERS["spectral"](small, 2, 0).reshape(3, 10)
    assert (owner == owner[0]).all()
    assert np.count_nonzero(np.diff(owner[0])) == 1


def test_islands_are_kept_whole() -> None:
    edges = [(i, j) for first in (0, 4, 8) for i in range(first, first + 4) for j in range(i + 1, first + 4)]
    order = np.random.default_rng(3).permutation(12)
    graph = Graph.from_edges(12, order[np.array(edges)])
    for kind in ("metis", "spectral"):
        assert cut_edges(shares(graph, PARTITIONERS[kind](graph, 3, 1), 3)) == 0, kind


def test_seeds() -> None:
    graph = attached()
    for kind in ("random", "metis"):
        assert (PARTITIONERS[kind](graph, 4, 1) != PARTITIONERS[kind](graph, 4, 2)).any(), kind
    section = Partition(kind="random")
    assert (section.owners(graph, 4, 1) == PARTITIONERS["random"](graph, 4, 1)).all()
    own = Partition(kind="random", seed=2)
    assert (own.owners(graph, 4, 1) == PARTITIONERS["random"](graph, 4, 2)).all()


def test_shares_by_hand() -> None:
    graph = Graph.from_edges(5, [[0, 1], [1, 2], [2, 3], [2, 4], [0, 2]])
    owner = np.array([0, 1, 0, 1, 1])
    # rank 0 has 0 and 2; 1 is heard by both, 3 and 4 by 2
    assert shares(graph, owner, 2) == [Share(2, 6, 4, 1, 2, 3), Share(3, 4, 4, 1, 3, 2)]
    assert cut_edges(shares(graph, owner, 2)) == 4


BASE: dict[str, Any] = {
    "seed": 7,
    "topology": {"kind": "barabasi_albert", "nodes": 13, "m": 2},
    "model": {"sizes": [5, 4, 1], "init": {"per_node": True, "low": -1}},
    "task": {"train_samples": 10, "test_samples": 3},
    "training": {"epochs": 2, "batch": 4, "wave": 3},
    "optimizer": {"kind": "d_sgd", "lr": 0.01},
}
ERDOS = {"kind": "erdos_renyi", "nodes": 11, "mean_degree": 2.0, "connected": False, "redraw": {"every": 1}}
LOSSY = {
    "loss": {"kind": "gilbert_elliott", "to_bad": 0.1, "to_good": 0.4},
    "features": {"loss": 0.1, "delay": {"kind": "geometric", "mean": 0.3}, "missing": "hold"},
    "parameters": {"loss": 0.2, "delay": {"kind": "uniform", "high": 15}, "missing": "push_sum"},
    "crashes": [{"nodes": [3, 7], "start": 2, "stop": 5}],
}
CASES: dict[str, dict[str, Any]] = {
    "static": BASE,
    "sender form, redrawn, nodes alone": BASE
    | {"topology": ERDOS, "model": BASE["model"] | {"form": "sender", "shift": "laplacian"}},
    "moving": BASE
    | {
        "topology": {"kind": "random_matching", "base": {"kind": "ring", "nodes": 9}},
        "model": BASE["model"] | {"shift": "laplacian"},
    },
    "lossy": BASE | {"channel": LOSSY},
    "consensus by sample": BASE
    | {
        "training": BASE["training"] | {"scheme": "per_sample", "consensus_rounds": 2},
        "optimizer": {"kind": "naive_adam"},
    },
    "power allocation": {
        "seed": 4,
        "task": {
            "kind": "power_allocation", "pairs": 7, "area": 400.0, "minibatches": 4, "test_minibatches": 2
        },
        "training": {"epochs": 1, "batch": 3},
    },
    "link scheduling": {
        "seed": 5,
        "topology": {"kind": "erdos_renyi", "nodes": 9, "mean_degree": [1.0, 4.0]},
        "model": {"sizes": [1, 4, 1], "activation": ["leaky_relu", "leaky_relu"]},
        "task": {
            "kind": "link_scheduling", "graphs": 3, "test_graphs": 2, "test_samples": 2,
            "critic": {"hidden": 4, "layers": 2, "samples": 4, "lr": 0.01},
        },
        "training": {"epochs": 1, "batch": 4, "wave": 3},
        "optimizer": {"kind": "naive_adam", "lr": 0.005},
    },
}  # fmt: skip


def made(case: str, kind: str, **changed: Any) -> Experiment:
    return build(from_mapping(CASES[case] | changed | {"execution": {"partition": {"kind": kind}}}))


@pytest.mark.parametrize("case", CASES)
def test_same_bits_and_counts_under_every_partition(case: str) -> None:
    wanted = trace(run(made(case, "block"), 1).outcome)
    for kind in OTHERS:
        for ranks in (1, 2, 4):
            experiment = made(case, kind)
            host = run(experiment, ranks)
            if ranks > 1 and kind == "random":
                assert (host.owner != block(experiment.nodes, ranks)).any()
            found = trace(host.outcome)
            for key, value in wanted.items():
                assert found[key] == value, f"{key}, {kind} on {ranks} ranks"


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("case", ["static", "power allocation", "link scheduling", "lossy"])
def test_verification_holds(case: str, kind: str) -> None:
    comparisons = verified(made(case, kind), ranks=3, minibatches=2)
    assert len(comparisons) >= 3
    assert all(comparison.passed for comparison in comparisons), comparisons


def files(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("metrics.csv", "theta.npz")]


@pytest.mark.parametrize("case", ["static", "lossy", "link scheduling"])
def test_a_run_goes_on_under_another_partition_and_on_other_ranks(case: str, tmp_path: Path) -> None:
    settings = CASES[case] | {"checkpoint": {"every": 1, "keep": 100}}
    driver.run(from_mapping(settings), out=tmp_path / "plain", verify=False)
    for number, (first, then, ranks) in enumerate([("metis", "random", 3), ("random", "block", 2)]):
        out = tmp_path / str(number)
        content = settings | {"execution": {"partition": {"kind": first}}}
        driver.run(from_mapping(content), out=out, ranks=4, verify=False)
        wanted = files(out)
        assert wanted == files(tmp_path / "plain")
        checkpoints = sorted((out / "checkpoints").iterdir())
        for file in checkpoints[1:]:
            file.unlink()
        (out / "theta.npz").unlink()
        (out / "environment.json").unlink()
        text = (out / "config.yaml").read_text()
        assert f"kind: {first}" in text
        (out / "config.yaml").write_text(text.replace(f"kind: {first}", f"kind: {then}"))
        package.resume(out, ranks=ranks)
        assert files(out) == wanted


def test_metis_sends_less_between_ranks_and_the_same_between_nodes() -> None:
    topology = {"kind": "random_geometric", "nodes": 400, "radius": 0.11, "seed": 1}
    training = {"epochs": 1, "batch": 10, "wave": 10}
    changed = {"topology": topology, "training": training}
    ledgers = {kind: run(made("static", kind, **changed), 8).outcome.ledger for kind in KINDS}
    for kind in OTHERS:
        assert ledgers[kind].total == ledgers["block"].total
        assert ledgers[kind].fields == ledgers["block"].fields
    sent = {kind: ledger.physical_bytes for kind, ledger in ledgers.items()}
    assert 0 < sent["metis"] < 0.35 * sent["random"]
    assert 0 < sent["spectral"] < 0.45 * sent["random"]
    assert ledgers["metis"].physical_messages < ledgers["random"].physical_messages


def test_what_a_plan_says_goes_from_rank_to_rank_is_what_goes() -> None:
    experiment = made("static", "metis")
    host = run(experiment, 4)
    found = shares(experiment.topology.graph(0), host.owner, 4)
    job, ledger = experiment.job, host.outcome.ledger
    numbers = sum(
        job.schedule(len(part)).numbers for part in job.batches(np.arange(10)) for _ in range(job.epochs)
    )
    tests = job.epochs * job.test_schedule.numbers
    degrees = ledger.total["setup"].link_bytes // (2 * experiment.topology.graph(0).num_edges) // 8
    sent = sum(share.sent for share in found)
    assert ledger.physical_bytes == sent * (numbers + tests + degrees) * 8


def test_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"execution\.partition\.kind: .*'blocks'"):
        from_mapping(BASE | {"execution": {"partition": {"kind": "blocks"}}})
    with pytest.raises(InputError, match=r"execution\.partiton: unknown key.*partition"):
        from_mapping(BASE | {"execution": {"partiton": {"kind": "metis"}}})
    assert cli.main(["plan", "quickstart", "--ranks", "101"]) == 2
    assert "--ranks: 101, but the network has only 100 nodes" in capsys.readouterr().err
    assert (
        cli.main(["bench", "topology", "quickstart", "topology={kind: ring, nodes: 9}", "--ranks", "1"]) == 2
    )
    assert "bench topology: kind ring is the same at every draw" in capsys.readouterr().err


def test_the_plan_shows_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "quickstart", "execution.partition.kind=metis", "--ranks", "20"]) == 0
    shown = capsys.readouterr().out
    assert "metis partition: " in shown
    assert "of 196 edges are cut" in shown
    assert "⋮" in shown
    assert [line.split()[1] for line in shown.splitlines() if line.strip().startswith("all ")] == ["100"]


def test_benches_of_networks(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["quickstart", "training.wave=100", "task.train_samples=100", "--ranks", "1"]
    assert cli.main(["bench", "topology", *small, "--repeats", "2"]) == 0
    shown = capsys.readouterr().out
    assert "a new barabasi_albert topology of 100 nodes and 196 edges on 1 ranks: " in shown
    assert "once in a run, block partition" in shown
    assert cli.main(["bench", "partitions", *small]) == 0
    shown = capsys.readouterr().out
    assert "the same under each" in shown
    assert [line.split()[0] for line in shown.splitlines()[-4:]] == KINDS


@needs_mpi
@pytest.mark.parametrize("nodes", [9, 10])  # as many nodes on each rank under every partition, or not
def test_the_bench_of_partitions_on_several_ranks(nodes: int) -> None:
    settings = ["training.wave=100", "task.train_samples=100", f"topology={{kind: ring, nodes: {nodes}}}"]
    result = fdtrain("bench", "partitions", "quickstart", *settings, "--ranks", "3")
    assert result.returncode == 0, result.stderr
    assert "the same under each" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[-4:]] == KINDS


@needs_mpi
def test_under_mpi(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(from_mapping(BASE).to_yaml())
    options = ["--no-verify", "--no-figures"]
    assert (
        fdtrain("run", str(config), "--ranks", "1", "--out", str(tmp_path / "one"), *options).returncode == 0
    )
    wanted = RunDirectory(tmp_path / "one")
    for kind in OTHERS:
        out = tmp_path / kind
        setting = f"execution.partition.kind={kind}"
        assert (
            fdtrain("run", str(config), setting, "--ranks", "3", "--out", str(out), *options).returncode == 0
        )
        assert files(out) == files(wanted.path), kind
