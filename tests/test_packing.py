"""Packing changes nothing: the same bits in every θ^i, metric and logical count for every number of ranks."""

from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from teams import run

from fdtrain.config import from_mapping
from fdtrain.experiment import Experiment, build
from fdtrain.graph import Graph
from fdtrain.service import Host
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import BundleSource

ERDOS = {"kind": "erdos_renyi", "nodes": 11, "mean_degree": 2.0, "connected": False}
FULL = {"training": {"wave": 4}}
CASES: dict[str, dict[str, Any]] = {
    "static": {},
    "static, fused": FULL,
    "sender form": {"model": {"form": "sender"}},
    "sender form, fused": {"model": {"form": "sender"}} | FULL,
    "wide layers": {"model": {"sizes": [10, 33, 17, 1], "activation": ["sigmoid", "tanh", "leaky_relu"]}},
    "wide layers, sender form": {"model": {"sizes": [10, 33, 17, 1], "form": "sender"}},
    "wide layers, fused": {"model": {"sizes": [16, 64, 8]}} | FULL,
    "one layer": {"model": {"sizes": [5, 1], "shift": "gcn"}},
    "one number everywhere, and a hub": {
        "model": {"sizes": [1, 1, 1]},
        "topology": {"kind": "star", "nodes": 25},
        "training": {"wave": 1},
    },
    "redrawn every mini-batch": {"topology": {"redraw": {"every": 1}}},
    "redrawn every second mini-batch": {"topology": {"redraw": {"every": 2}}, "model": {"form": "sender"}},
    "isolated nodes, redrawn": {
        "topology": ERDOS | {"redraw": {"every": 1}},
        "model": {"shift": "laplacian"},
    },
    "isolated nodes, static": {"topology": ERDOS | {"mean_degree": 1.0}, "model": {"shift": "laplacian"}},
    "no edges at all": {"topology": ERDOS | {"mean_degree": 0.0}, "model": {"shift": "adjacency"}},
    "one node": {"topology": {"kind": "complete", "nodes": 1}, "model": {"shift": "laplacian"}},
    "two nodes": {"topology": {"kind": "path", "nodes": 2}},
    "complete": {"topology": {"kind": "complete", "nodes": 7}, "training": {"slices": "even"}},
    **{
        f"{kind}, {scheme}, wave {wave}": {
            "training": {"scheme": scheme, "consensus_rounds": K, "wave": wave},
            "optimizer": {"kind": kind, "clip_norm": 0.7},
        }
        for kind, scheme, K, wave in (
            ("d_adam", "piggyback_do", 1, 3),
            ("d_amsgrad", "piggyback", 2, 4),
            ("gradient_tracking", "per_batch", 3, 1),
            ("naive_sgd", "per_sample", 2, 1),
            ("naive_adam", "per_sample", 1, 3),
        )
    },
    "isolated nodes, redrawn, with consensus": {
        "topology": ERDOS | {"redraw": {"every": 1}},
        "model": {"shift": "laplacian"},
        "training": {"scheme": "per_sample", "consensus_rounds": 2},
        "optimizer": {"kind": "naive_adam", "epsilon_form": "inside"},
    },
    "an update for every sample": {
        "training": {"scheme": "per_sample", "consensus_rounds": 2},
        "optimizer": {"kind": "naive_adam", "updates": "sample", "clip_norm": 0.7},
    },
    "an update for every sample, isolated nodes, redrawn, sender form": {
        "topology": ERDOS | {"redraw": {"every": 1}},
        "model": {"shift": "laplacian", "form": "sender"},
        "training": {"scheme": "per_sample", "wave": 1},
        "optimizer": {"kind": "naive_sgd", "updates": "sample"},
    },
    "star, drawn online": {"topology": {"kind": "star", "nodes": 9}, "task": {"online": True}},
}


def experiment(change: dict[str, Any]) -> Experiment:
    content: dict[str, Any] = {
        "seed": 7,
        "topology": {"kind": "barabasi_albert", "nodes": 11, "m": 2},
        "model": {"sizes": [7, 5, 3, 2], "activation": "tanh", "init": {"per_node": True, "low": -1}},
        "task": {"train_samples": 10, "test_samples": 3},
        "training": {"epochs": 2, "batch": 4, "wave": 3},
        "optimizer": {"kind": "d_sgd", "lr": 0.01},
    }
    for section, values in change.items():
        replaced = section == "topology" and "kind" in values
        content[section] = values if replaced else content.get(section, {}) | values
    return build(from_mapping(content))


def trace(host: Host) -> dict[str, Any]:
    """All that a run leaves behind, floats as bits; what was physically sent depends on the packing."""
    outcome = host.outcome
    return {
        "theta": outcome.theta.tobytes(),
        "gradient": outcome.gradient.tobytes(),
        "node loss": outcome.node_loss.tobytes(),
        "rows": [[v.hex() if isinstance(v, float) else v for v in astuple(row)] for row in outcome.rows],
        "totals": outcome.ledger.total,
        "fields": outcome.ledger.fields,
    }


def rank_counts(nodes: int) -> list[int]:
    return sorted({2, 3, 4, nodes} & set(range(2, nodes + 1)))


@pytest.mark.parametrize("kernel", ["auto", "numpy"])
@pytest.mark.parametrize("case", CASES)
def test_same_bits_for_every_number_of_ranks(case: str, kernel: str) -> None:
    change = CASES[case] | {"execution": {"kernel": kernel}}
    made = experiment(change)
    alone = trace(run(made, 1))
    assert np.isfinite(np.frombuffer(alone["theta"])).all()
    assert alone["theta"] != made.theta.tobytes()
    for ranks in rank_counts(made.nodes):
        packed = trace(run(experiment(change), ranks))
        for key, wanted in alone.items():
            assert packed[key] == wanted, f"{key} on {ranks} ranks"
    assert trace(run(made, 1)) == alone  # and once more, with an experiment that has been used


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("change", [{}, FULL, {"topology": {"kind": "star", "nodes": 5, "connected": False}}])
def test_more_ranks_than_nodes(change: dict[str, Any], form: str) -> None:
    """Some ranks host no node: exact consensus is verified on a small complete graph by the whole team."""
    change = {"topology": {"kind": "complete", "nodes": 5}, "model": {"form": form}} | change
    alone = trace(run(experiment(change), 1))
    assert trace(run(experiment(change), 8)) == alone


def test_the_cases_are_what_their_names_say() -> None:
    def degrees(case: str) -> list[np.ndarray]:
        made = experiment(CASES[case])
        return [made.topology.graph(t).degrees for t in range(6)]

    assert all((d == 0).any() and (d > 0).any() for d in degrees("isolated nodes, static"))
    assert any((d == 0).any() for d in degrees("isolated nodes, redrawn"))
    assert not np.concatenate(degrees("no edges at all")).any()
    assert not experiment(CASES["static"]).job.streamed
    assert experiment(CASES["redrawn every mini-batch"]).job.streamed


ISLANDS = [[0, 1], [1, 2], [0, 2], [3, 4], [4, 5], [6, 7], [7, 8], [8, 9], [9, 10], [6, 10]]


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_ranks_without_a_remote_neighbour(form: str) -> None:
    """Whole components live on single ranks: 0-2 | 3-5 | 6-10 on block boundaries of 2, 3 and more ranks."""
    made = experiment({"model": {"shift": "normalized_laplacian", "form": form}})
    for edges, nodes in ((ISLANDS, 11), ([*ISLANDS, [5, 6]], 11), ([[0, 1], [1, 2], [3, 4], [4, 5]], 6)):
        topology = TopologyService(BundleSource(connected=False), 0, Graph.from_edges(nodes, edges))
        data = experiment({"topology": {"kind": "complete", "nodes": nodes}, "model": {"form": form}}).data
        islands = replace(made, topology=topology, data=data, theta=made.theta[:nodes])
        alone = trace(run(islands, 1))
        for ranks in rank_counts(nodes):
            host = run(islands, ranks)
            assert trace(host) == alone, f"{ranks} ranks"
            if (nodes, ranks) == (6, 2):
                assert host.outcome.ledger.physical_messages == 0


def test_asymmetric_weights() -> None:
    rng = np.random.default_rng(3)
    A = np.where(rng.random((11, 11)) < 0.35, rng.normal(size=(11, 11)), 0.0)
    np.fill_diagonal(A, 0.0)
    made = experiment({"model": {"shift": "laplacian"}})
    made = replace(made, topology=TopologyService(BundleSource(connected=False), 0, Graph.from_adjacency(A)))
    alone = trace(run(made, 1))
    assert all(trace(run(made, ranks)) == alone for ranks in rank_counts(11))
