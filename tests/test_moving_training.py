"""Training on networks that move: nodes that are alone, the oracle, packing, what is drawn ahead, what is recorded."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moving import ALL, CASES, DISK, service
from teams import run, serve, verified

from fdtrain import cli, driver, reference
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment, build
from fdtrain.graph import Graph
from fdtrain.rundir import RunDirectory
from fdtrain.service import Host
from fdtrain.shifts import SHIFTS
from fdtrain.tasks.node_regression import Shift
from fdtrain.topology.ahead import Ahead
from fdtrain.topology.connectivity import Connectivity, Recorder, Watch, smallest_window

SPARSE = {"kind": "random_waypoint", **CASES["random_waypoint"], "radio": DISK | {"range": 60.0}}
NOBODY = {"kind": "random_waypoint", **CASES["random_waypoint"], "radio": DISK | {"range": 1e-3}}
INIT = {"kind": "normal", "std": 0.3, "per_node": True}


def experiment(topology: dict[str, Any], **changes: dict[str, Any]) -> Experiment:
    content: dict[str, dict[str, Any]] = {
        "topology": {key: value for key, value in topology.items() if value is not None},
        "model": {"sizes": [6, 5, 2], "activation": "tanh", "shift": "gcn", "init": INIT},
        "task": {"train_samples": 24, "test_samples": 3},
        "training": {"epochs": 2, "batch": 6, "wave": 2},
        "optimizer": {"kind": "d_sgd", "lr": 1e-2},
    }  # fmt: skip
    for section, keys in changes.items():
        content[section] = content[section] | keys
    return build(from_mapping({"seed": 3, **content}))


@pytest.mark.parametrize("name", ALL)
def test_every_kind_is_verified(name: str) -> None:
    kind, changes = ALL[name]
    made = experiment({"kind": kind, **CASES[kind], **changes})
    comparisons = verified(made, ranks=2, minibatches=6)
    assert len(comparisons) == 7
    assert all(comparison.passed for comparison in comparisons), comparisons


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("topology", [SPARSE, NOBODY], ids=["some alone", "all alone"])
def test_nodes_that_are_alone_follow_the_oracle(topology: dict[str, Any], shift: str, form: str) -> None:
    made = experiment(topology, model={"shift": shift, "form": form})
    alone = [(made.topology.graph(t).degrees == 0).sum() for t in range(6)]
    assert min(alone) > 0
    assert all(found == 20 for found in alone) == (topology is NOBODY)
    comparisons = verified(made, minibatches=6)
    assert all(comparison.passed for comparison in comparisons), comparisons


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_node_that_is_alone_trains_on_its_own_data_and_mixes_nothing(shift: str) -> None:
    """By hand: S is 0 for it but for the self-loop of gcn, W is 1, and its step is that of a model of its own."""
    made = experiment(NOBODY, model={"shift": shift, "sizes": [6, 1], "activation": "identity"})
    graph = made.topology.graph(0)
    loop = 1.0 if shift == "gcn" else 0.0
    S = Shift(shift).of(graph).toarray()
    np.testing.assert_array_equal(S, loop * np.eye(20))
    chosen = made.data.order(0)[:6]
    x, y = made.data.minibatch(0, chosen, graph)[:2]
    host = Host(made.job, made.topology, made.data, made.theta, 1)
    host.job = one = type(made.job)(**{**made.job.__dict__, "limit": 1, "epochs": 1})
    theta = serve(one, host, 1).outcome.theta
    for i in range(20):
        own, neighbour = (
            made.theta[i].reshape(2, 6) if loop else (made.theta[i].reshape(2, 6)[0], np.zeros(6))
        )
        error = x[:, i] @ (own + loop * neighbour) - y[:, i, 0]
        slope = 2.0 * error @ x[:, i]
        step = np.concatenate([slope, loop * slope])
        np.testing.assert_allclose(theta[i], made.theta[i] - 1e-2 * step, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("redraw", [{"every": 1}, None])
def test_isolated_nodes_of_drawn_networks_are_welcome_where_disconnected_ones_are(
    shift: str, redraw: Any
) -> None:
    drawn = {"kind": "erdos_renyi", "nodes": 15, "mean_degree": 1.2, "connected": False, "redraw": redraw}
    made = experiment(drawn, model={"shift": shift})
    assert (made.topology.graph(0).degrees == 0).any()
    assert all(comparison.passed for comparison in verified(made, minibatches=6))


def test_the_oracles_laplacian_is_that_of_scipy() -> None:
    from scipy.sparse.csgraph import laplacian

    graph = service("random_waypoint", radio=DISK | {"range": 60.0}).graph(0)
    A = graph.adjacency()
    assert (graph.degrees == 0).any()
    wanted = laplacian(A, normed=True).toarray()
    np.testing.assert_allclose(
        reference.shift_matrix(A, "normalized_laplacian").toarray(), wanted, atol=1e-15
    )
    networkx = pytest.importorskip("networkx")
    same = networkx.normalized_laplacian_matrix(networkx.from_scipy_sparse_array(A)).toarray()
    np.testing.assert_allclose(wanted, same, atol=1e-15)


@pytest.mark.parametrize(
    "case",
    [
        (SPARSE, {}),
        (SPARSE, {"model": {"shift": "normalized_laplacian", "form": "sender"}}),
        (SPARSE, {"training": {"scheme": "per_sample", "consensus_rounds": 2}, "optimizer": {"kind": "naive_adam"}}),
        (NOBODY, {"optimizer": {"kind": "gradient_tracking"}, "training": {"scheme": "per_batch"}}),
        *(({"kind": kind, **CASES[kind]}, {}) for kind in CASES),
    ],
    ids=lambda case: f"{case[0]['kind']} {list(case[1])}",
)  # fmt: skip
def test_packing_changes_nothing(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    topology, changes = case
    found = []
    for ranks in (1, 2, 3):
        outcome = run(experiment(topology, **changes), ranks).outcome
        count = {phase: astuple(total) for phase, total in outcome.ledger.total.items()}
        found.append((outcome.theta.tobytes(), [row.columns() for row in outcome.rows], count))
    assert found[0] == found[1] == found[2]


# Drawn ahead


class Slow:
    """A topology that takes its time, and says who asked."""

    def __init__(self, seconds: float = 0.0, bad: int | None = None) -> None:
        self.inner, self.seconds, self.bad = service("random_waypoint"), seconds, bad
        self.asked: list[tuple[int, str]] = []

    def graph(self, t: int) -> Graph:
        self.asked.append((t, threading.current_thread().name))
        time.sleep(self.seconds)
        if t == self.bad:
            raise InputError(f"no graph at {t}")
        return self.inner.graph(t)


def in_thread(slow: Slow) -> list[int]:
    return [t for t, name in slow.asked if name.startswith("topology")]


def test_what_is_drawn_ahead_is_the_same_and_drawn_once() -> None:
    plain = service("random_waypoint")
    for every in (1, 3):
        slow = Slow()
        ahead = Ahead(slow, every, 12, worth=0.0)
        for t in range(12):
            assert ahead.graph(t) == plain.graph(t - t % every)
            assert ahead.graph(t) is ahead.graph(t)
        ahead.close()
        assert [t for t, _ in slow.asked] == list(range(0, 12, every))  # none twice, none beyond the end
        assert in_thread(slow) == list(
            range(2 * every, 12, every)
        )  # all but the first, and the one that was timed


def test_graphs_may_be_asked_for_in_any_order() -> None:
    plain, slow = service("random_waypoint"), Slow()
    ahead = Ahead(slow, 1, 50, worth=0.0)
    for t in (0, 1, 2, 7, 3, 3, 4, 49, 5, 0, 1):
        assert ahead.graph(t) == plain.graph(t), t
    ahead.close()


def test_there_is_no_thread_where_drawing_is_quick() -> None:
    slow = Slow()
    ahead = Ahead(slow, 1, 20, worth=10.0)
    for t in range(20):
        ahead.graph(t)
    assert in_thread(slow) == []
    ahead.close()


def test_an_error_is_raised_at_the_mini_batch_where_it_belongs() -> None:
    slow = Slow(bad=6)
    ahead = Ahead(slow, 1, 20, worth=0.0)
    for t in range(6):
        ahead.graph(t)
    assert wait_for(lambda: 6 in in_thread(slow))  # it has happened
    assert ahead.graph(5).num_nodes == 20
    with pytest.raises(InputError, match="no graph at 6"):
        ahead.graph(6)
    with pytest.raises(InputError, match="no graph at 6"):
        ahead.graph(6)
    ahead.close()
    unasked = Ahead(Slow(bad=3), 1, 20, worth=0.0)
    for t in range(3):
        unasked.graph(t)
    unasked.close()  # nobody asked for it


def test_nothing_is_left_running() -> None:
    before = threading.active_count()
    slow = Slow(seconds=0.1)
    ahead = Ahead(slow, 1, 20, clock=time.perf_counter)
    for t in range(4):
        ahead.graph(t)
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before
    asked = len(slow.asked)
    assert ahead.graph(9) is not None  # and is drawn at once
    assert threading.active_count() == before
    assert len(slow.asked) == asked + 1


def wait_for(happened: Callable[[], bool]) -> bool:
    """Whether it happens within 20 s."""
    until = time.monotonic() + 20
    while not happened() and time.monotonic() < until:
        time.sleep(0.005)
    return happened()


def test_the_next_graph_is_drawn_while_the_ranks_work() -> None:
    slow = Slow()
    ahead = Ahead(slow, 1, 12, worth=0.0)
    for t in range(11):
        ahead.graph(t)
        if t > 0:
            assert wait_for(lambda t=t: t + 1 in in_thread(slow))  # nobody has asked for it yet
    ahead.close()


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_has_the_same_bits_with_and_without(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    before = threading.active_count()
    for worth in (0.0, float("inf")):
        monkeypatch.setitem(Ahead.__init__.__kwdefaults__, "worth", worth)
        made = experiment(SPARSE)
        host = made.host(ranks)
        assert isinstance(host.topology, Ahead)
        outcome = serve(made.job, host, ranks).outcome
        found.append((outcome.theta.tobytes(), [row.columns() for row in outcome.rows]))
    assert found[0] == found[1]
    assert threading.active_count() == before


def test_an_error_in_a_run_ends_it_at_its_mini_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Ahead.__init__.__kwdefaults__, "worth", 0.0)
    made, before = experiment(SPARSE), threading.active_count()
    host = Host(made.job, Ahead(Slow(bad=5), 1, 8), made.data, made.theta, 2)
    seen: list[Connectivity] = []
    host.connectivity = Recorder(1, 10, seen.append)
    with pytest.raises(InputError, match="no graph at 5"):
        serve(made.job, host, 2)
    assert [row.minibatch for row in seen] == [1, 2, 3, 4, 5]
    assert len(host.outcome.rows) == 1  # an epoch of four mini-batches
    assert threading.active_count() == before


# Connectivity


def union(graphs: list[Graph]) -> int:
    """Components of the union, from the definition."""
    edges = np.unique(np.concatenate([graph.edges() for graph in graphs]), axis=0)
    return Graph.from_edges(graphs[0].num_nodes, edges).components()


@pytest.mark.parametrize("window", [1, 3, 8])
@pytest.mark.parametrize("name", ALL)
def test_connectivity_is_what_the_unions_are(name: str, window: int) -> None:
    kind, changes = ALL[name]
    moving = service(kind, **changes)
    graphs = [moving.graph(t) for t in range(25)]
    watch = Watch(window)
    rows = [watch.see(t, graph) for t, graph in enumerate(graphs)]
    for t, (row, graph) in enumerate(zip(rows, graphs, strict=True)):
        assert (row.minibatch, row.edges, row.components) == (t + 1, graph.num_edges, graph.components())
        assert row.isolated == (graph.degrees == 0).sum()
        needed = [b for b in range(1, t + 2) if union(graphs[t + 1 - b : t + 1]) == 1]
        assert row.needed == (needed[0] if needed else None)
        full = t + 1 >= window
        assert row.window_connected == ((union(graphs[t + 1 - window : t + 1]) == 1) if full else None)
    good = [b for b in range(1, 26) if all(union(graphs[t : t + b]) == 1 for t in range(26 - b))]
    assert smallest_window(rows) == (good[0] if good else None)


def test_the_largest_component() -> None:
    watch = Watch(2)
    assert watch.see(0, Graph.from_edges(5, [(0, 1), (1, 2)])).largest == 0.6
    row = watch.see(1, Graph.from_edges(5, [(3, 4), (0, 3)]))
    assert (row.largest, row.needed, row.window_connected) == (0.6, 2, True)
    empty = watch.see(2, Graph.from_edges(5, []))
    assert (empty.largest, empty.isolated, empty.needed, empty.window_connected) == (0.2, 5, 3, False)
    assert Watch(1).see(0, Graph.from_edges(1, [])).window_connected is True


@pytest.mark.parametrize("every", [1, 3])
def test_a_run_writes_down_its_connectivity(every: int, tmp_path: Path) -> None:
    made = experiment(SPARSE | {"window": 4, "redraw": {"every": every}})
    driver.run(made.config, out=tmp_path / "run")
    rows = RunDirectory(tmp_path / "run").read_connectivity()
    watch = Watch(4)
    starts = range(0, 8, every)
    assert rows == [watch.see(t, made.topology.graph(t)) for t in starts]
    assert [row.minibatch for row in rows] == [t + 1 for t in starts]


def test_the_summary_says_how_connected_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for name, radius in (("never", 1.0), ("always", 1000.0)):
        out = tmp_path / name
        override = [
            f"topology.radio.range={radius}",
            "topology.window=3",
            "training.epochs=1",
            "training.batch=100",
        ]
        arguments = [
            "run",
            "examples/mobility",
            *override,
            "training.wave=100",
            "--ranks",
            "1",
            "--out",
            str(out),
        ]
        assert cli.main(arguments) == 0
        shown[name] = " ".join(capsys.readouterr().out.split())
        assert (out / "figures" / "connectivity.png").stat().st_size > 5000
    assert (
        "connectivity 0 % of graphs connected, 0 % of the windows of 3; 30 nodes alone on average"
        in shown["never"]
    )
    assert "connectivity 100 % of graphs connected, every window of 3 was; 0 nodes alone" in shown["always"]
    assert (
        cli.main(["run", "ci/smoke", "training.epochs=1", "--ranks", "1", "--out", str(tmp_path / "s")]) == 0
    )
    assert "connectivity" not in capsys.readouterr().out
    assert not (tmp_path / "s" / "connectivity.csv").exists()


def test_the_topology_command_shows_a_moving_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "net.png"
    arguments = ["topology", "one_peer_exponential", "nodes=16", "window=4", "--steps", "30"]
    assert cli.main([*arguments, "--minibatch", "5", "--figure", str(figure)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "30 graphs from mini-batch 5 on" in shown
    assert "connected 0.0% of the graphs" in shown
    assert "union of 4 connected 100.0% of 27 windows" in shown
    assert "smallest window 4 graphs" in shown
    assert figure.stat().st_size > 5000
    assert (tmp_path / "net-connectivity.png").stat().st_size > 5000
    nested = ["nodes=5", "area=[100, 50]", "speed=2", "radio.kind=unit_disk", "radio.range=1"]
    assert cli.main(["topology", "random_waypoint", *nested, "--steps", "3"]) == 0
    assert "smallest window none: not even all of them" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["topology", "abilene"]) == 0
    assert "window" not in capsys.readouterr().out


def test_a_trace_of_contacts_trains_from_its_example(tmp_path: Path) -> None:
    arguments = ["run", "examples/contacts", "training.epochs=1", "--ranks", "1", "--no-figures"]
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 0
    graph, _ = RunDirectory(tmp_path / "run").read_network()
    assert graph.labels is not None
    assert "ada" in graph.labels
    facts = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert facts["outcome"] == "complete"
