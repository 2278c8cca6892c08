"""A trained model that schedules: what the messages decide, what is told and written of it, and what is refused."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain, needs_mpi, one_line_error
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtrain import cli, reference, scheduling
from fdtrain.config import from_mapping
from fdtrain.driver import run
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.rng import generator
from fdtrain.scheduling import LGS, OPTIMUM, RUN, Request, Scheduled, Trained, read_conflicts, read_run
from fdtrain.tasks.independent_sets import is_independent, local_greedy, minimum_degree_greedy, optimum
from fdtrain.team import Team, in_threads
from fdtrain.training import follow
from fdtrain.weights_file import read_weights

NODES = 12
CRITICS: dict[str, dict[str, Any]] = {
    "central": {"hidden": 6, "layers": 2},
    "neighbours": {"kind": "neighbours", "hidden": 6, "layers": 2},
}


def train(path: Path, **change: Any) -> Path:
    content: dict[str, Any] = {
        "name": "ls", "seed": 1,
        "task": {"kind": "link_scheduling", "graphs": 2, "test_graphs": 1, "test_samples": 2},
        "topology": {"kind": "erdos_renyi", "nodes": NODES, "mean_degree": 4.0},
        "model": {"sizes": [1, 8, 8, 1]},
        "training": {"epochs": 1, "batch": 4, "wave": 2},
        "optimizer": {"kind": "naive_adam", "lr": 0.02},
    }  # fmt: skip
    for section, values in change.items():
        content[section] = values if "kind" in values else content[section] | values
    run(from_mapping(content), out=path, verify=False)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with each kind of critic; its nodes have different parameters."""
    folder = tmp_path_factory.mktemp("schedule")
    task = {"kind": "link_scheduling", "graphs": 2, "test_graphs": 1, "test_samples": 2}
    return {kind: train(folder / kind, task=task | {"critic": critic}) for kind, critic in CRITICS.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a graph of named vertices, one of them isolated, and weights for it."""
    monkeypatch.chdir(tmp_path)
    nx = pytest.importorskip("networkx")
    graph = nx.Graph([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a"), ("a", "e")])
    graph.add_node("f")
    nx.write_graphml(graph, tmp_path / "graph.graphml")
    (tmp_path / "weights.csv").write_text("node,weight\na,0.5\nb,0.4\nc,0.3\nd,0.2\ne,1e-1\nf,0\n")
    return tmp_path


def random_graph(nodes: int, edges: float, seed: int = 0) -> Graph:
    """Isolated vertices among them; the last one always is."""
    pairs = list(itertools.combinations(range(nodes - 1), 2))
    kept = generator(seed, "topology").random(len(pairs)) < edges
    return Graph.from_edges(nodes, [(0, 1), *itertools.compress(pairs[1:], kept[1:])])


def decide(request: Request, ranks: int = 1, optimum_within: float | None = None) -> Scheduled:
    def work(team: Team) -> Scheduled | None:
        if team.rank > 0:
            follow(team)
            return None
        found = scheduling.schedule(request, team, optimum_within)
        team.dismiss()
        return found

    found: Scheduled = in_threads(ranks, work)
    return found


def is_maximal(graph: Graph, chosen: np.ndarray) -> bool:
    """Whether everybody is chosen, or has a neighbour that is."""
    A = graph.adjacency().toarray() != 0
    return bool((chosen | (chosen.astype(int) @ A > 0)).all())


def oracle_z(model: Trained, graph: Graph, parameters: str) -> np.ndarray:
    rows = np.arange(graph.num_nodes) % len(model.theta)
    mean = np.tile(model.theta.mean(axis=0), (graph.num_nodes, 1))
    actor: Any = model.model
    oracle = reference.Model(actor.sizes, actor.activations, actor.form, actor.negative_slope)
    S, one = reference.conflict_shift(graph.adjacency()), np.ones((1, graph.num_nodes, 1))
    return oracle.forward(S, one, mean if parameters == "mean" else model.theta[rows])[0, :, 0]


@pytest.mark.parametrize("kind", CRITICS)
@pytest.mark.parametrize("parameters", ["mean", "each"])
@pytest.mark.parametrize("samples", [1, 5])
def test_it_is_the_oracle_with_the_same_bits_on_any_number_of_ranks(
    runs: dict[str, Path], kind: str, parameters: Any, samples: int
) -> None:
    model, graph = read_run(runs[kind]), random_graph(17, 0.2)
    assert np.ptp(model.theta, axis=0).max() > 1e-3
    u = generator(1, "weights").random((samples, 17))
    request = Request(model, graph, u, parameters)
    alone = decide(request, 1)
    z = oracle_z(model, graph, parameters)
    assert z.max() > 0
    assert np.ptp(z) > 1e-6
    np.testing.assert_allclose(alone.z, np.tile(z, (samples, 1)), rtol=1e-11, atol=1e-13)
    assert (alone.sets[RUN] == reference.greedy(graph.adjacency(), z * u)).all()
    for ranks in (2, 3):
        found = decide(request, ranks)
        assert found.z.tobytes() == alone.z.tobytes()
        assert (found.sets[RUN] == alone.sets[RUN]).all()
        assert found.ledger.fields == alone.ledger.fields


def test_parameters_of_mean_and_each_differ(runs: dict[str, Path]) -> None:
    model, graph = read_run(runs["central"]), random_graph(17, 0.2)
    u = generator(1, "weights").random((1, 17))
    assert (decide(Request(model, graph, u, "mean")).z != decide(Request(model, graph, u, "each")).z).any()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    nodes=st.integers(2, 14), density=st.floats(0, 1), seed=st.integers(0, 1000), samples=st.integers(1, 3),
    ranks=st.integers(1, 3), tied=st.booleans(), dead=st.booleans(),
)  # fmt: skip
def test_the_set_is_always_independent_and_maximal(
    runs: dict[str, Path],
    nodes: int,
    density: float,
    seed: int,
    samples: int,
    ranks: int,
    tied: bool,
    dead: bool,
) -> None:
    """Also where weights tie or are 0, where z is 0, and of vertices without a neighbour."""
    trained, draws = read_run(runs["central"]), generator(seed, "weights")
    theta = draws.normal(0, 0 if dead else 1, trained.theta.shape)
    model = Trained(trained.config, trained.model, trained.network, theta, ())
    graph = random_graph(nodes + 1, density, seed)
    u = (
        draws.integers(0, 3, (samples, nodes + 1)).astype(float)
        if tied
        else draws.random((samples, nodes + 1))
    )
    u[:, 0] = 1.0
    found = decide(Request(model, graph, u, "each"), min(ranks, nodes))
    chosen = found.sets[RUN]
    assert chosen is not None
    assert is_independent(graph, chosen)
    assert is_maximal(graph, chosen)
    assert (chosen == local_greedy(graph, found.z * u)).all()
    assert chosen[:, -1].all()


def test_what_it_is_compared_with_and_what_it_sent(runs: dict[str, Path]) -> None:
    model, graph = read_run(runs["central"]), random_graph(17, 0.2)
    u = generator(2, "weights").random((4, 17))
    found = decide(Request(model, graph, u, "mean"), 2, 30.0)
    wanted = {
        LGS: local_greedy(graph, u),
        "degree greedy": minimum_degree_greedy(graph, u),
        OPTIMUM: optimum(graph, u),
    }
    assert list(found.sets) == [RUN, *wanted]
    for name, chosen in wanted.items():
        assert (found.sets[name] == chosen).all()
        worth = found.utilities(name)
        assert worth is not None
        np.testing.assert_allclose(worth, (u * chosen).sum(axis=1), rtol=1e-14)
    links, fields = 2 * graph.num_edges, found.ledger.fields
    features = fields["test", "features"]
    assert (features.rounds, features.link_messages) == (3, 3 * links)
    assert features.link_bytes == 8 * 4 * links * sum(hop.forward for hop in model.model.outline.hops)
    assert (fields["test", "weights"].rounds, fields["test", "weights"].link_bytes) == (1, 8 * 4 * links)
    assert fields["test", "states"].rounds >= 1
    assert fields["setup", "degrees"].link_bytes == 8 * 2 * links


def test_a_critic_among_the_neighbours_has_nothing_to_say(runs: dict[str, Path]) -> None:
    model, graph = read_run(runs["neighbours"]), random_graph(17, 0.2)
    found = decide(Request(model, graph, np.ones((1, 17)), "mean"))
    assert found.ledger.fields["test", "features"].rounds == 3


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["schedule", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("kind", CRITICS)
def test_the_command(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    options = ["--ranks", "1", "--optimum", "20", "--out", "on.csv"]
    said = command(capsys, str(runs[kind]), "graph.graphml", "weights.csv", *options)
    lines = said.splitlines()
    assert lines[0] == "ls: trained on 12 nodes; parameters: mean; graph.graphml; on 1 rank"
    assert lines[1] == "Conflict graph: 6 vertices, 5 edges"
    assert max(map(len, lines)) <= 80
    assert "note:" not in said
    table = {line[:13].strip(): line[13:].split() for line in lines}
    assert table["plain LGS"] == ["0.80000", "1.0000", "3"]
    assert table["optimum"] == ["0.80000", "1.0000", "2"]  # f adds nothing
    assert lines[-1] == "written: on.csv"
    rows = read_csv(here / "on.csv")
    assert [*rows[0]] == ["node", "weight", "z", "chosen"]
    assert [row["node"] for row in rows] == list("abcdef")
    assert [float(row["weight"]) for row in rows] == [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    model = read_run(runs[kind])
    graph, _ = read_conflicts("graph.graphml", "none")
    u = np.array([[float(row["weight"]) for row in rows]])
    found = decide(Request(model, graph, u, "mean"))
    assert [float(row["z"]) for row in rows] == found.z[0].tolist()
    chosen = found.sets[RUN]
    assert chosen is not None
    assert [row["chosen"] for row in rows] == [str(int(on)) for on in chosen[0]]
    worth = found.utilities(RUN)
    assert worth is not None
    assert float(table["this run"][0]) == pytest.approx(worth[0], abs=1e-5)


@pytest.mark.parametrize(("interference", "edges"), [("one_hop", 23), ("two_hop", 54)])
def test_links_of_a_network(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str], interference: Any, edges: int
) -> None:
    graph, notes = read_conflicts("abilene", interference)
    assert (graph.num_nodes, graph.num_edges, notes) == (14, edges, [])
    assert graph.labels is not None
    u = generator(3, "weights").random(14)
    files = {
        "labels": [f"{label},{w!r}" for label, w in zip(graph.labels, u.tolist(), strict=True)][::-1],
        "hyphens": [
            f"{label.replace('–', '-')},{w!r}" for label, w in zip(graph.labels, u.tolist(), strict=True)
        ],
        "numbers": [f"{i},{w!r}" for i, w in enumerate(u.tolist())],
    }
    np.savez(here / "array.npz", weights=u)
    np.save(here / "array.npy", u[None])
    for name, lines in files.items():
        (here / f"{name}.csv").write_text("\ufeffNode, Weight\r\n" + "\r\n".join(lines) + "\r\n\r\n", "utf-8")
    seen = set()
    for file in ("labels.csv", "hyphens.csv", "numbers.csv", "array.npz", "array.npy"):
        options = ["--interference", interference, "--ranks", "1", "--out", "on.csv"]
        said = command(capsys, str(runs["central"]), "abilene", file, *options)
        assert f"links of abilene, {interference}; on 1 rank" in said
        assert f"14 vertices, {edges} edges" in said
        seen.add((said, (here / "on.csv").read_text("utf-8")))
    assert len(seen) == 1
    rows = read_csv(here / "on.csv")
    assert [row["node"] for row in rows] == list(graph.labels)
    chosen = np.array([[row["chosen"] == "1" for row in rows]])
    assert is_independent(graph, chosen)
    assert is_maximal(graph, chosen)
    on = [label.split("–") for label, chosen_ in zip(graph.labels, chosen[0], strict=True) if chosen_]
    assert len({end for ends in on for end in ends}) == 2 * len(on)


def test_several_samples(runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    u = generator(4, "weights").random((3, 11))
    np.save(here / "weights.npy", u.astype(np.float32))
    arguments = [str(runs["central"]), "abilene", "weights.npy", "--ranks", "1", "--out", "on.csv"]
    said = command(capsys, *arguments, "--parameters", "each", "--optimum", "20")
    assert "11 vertices, 14 edges, means over 3 samples" in said
    assert "Messages over all edges, of all samples together:" in said
    assert "note: 12 nodes were trained: vertex i has the parameters of node i mod 12" in said
    rows = read_csv(here / "on.csv")
    assert [*rows[0]] == ["sample", "node", "weight", "z", "chosen"]
    assert [row["sample"] for row in rows] == ["0"] * 11 + ["1"] * 11 + ["2"] * 11
    assert [float(row["weight"]) for row in rows] == u.astype(np.float32).astype(float).ravel().tolist()
    graph, _ = read_conflicts("abilene", "none")
    u = u.astype(np.float32).astype(float)
    ratios = (optimum(graph, u) * u).sum(axis=1) / (local_greedy(graph, u) * u).sum(axis=1)
    (line,) = [line.split() for line in said.splitlines() if line.startswith("optimum")]
    assert line[2] == f"{ratios.mean():.4f}"


def test_labels_that_are_numbers_are_labels_or_numbers(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vertices 1, 2, 3 are numbers 0, 1, 2; a file has either the ones or the others."""
    (here / "path.edges").write_text("1 2\n2 3\n")
    seen = set()
    for names in ("123", "012"):
        (here / "weights.csv").write_text(
            "node,weight\n" + "".join(f"{name},{int(name) % 2}\n" for name in names)
        )
        command(capsys, str(runs["central"]), "path.edges", "weights.csv", "--ranks", "1", "--out", "on.csv")
        seen.add(tuple(row["weight"] for row in read_csv(here / "on.csv")))
        assert [row["node"] for row in read_csv(here / "on.csv")] == ["1", "2", "3"]
    assert seen == {("1", "0", "1"), ("0", "1", "0")}


def test_weights_of_edges_do_not_count(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "plain.edges").write_text("0 1\n1 2\n2 3\n")
    (here / "heavy.edges").write_text("0 1 -2.5\n1 2 0.1\n2 3 7\n")
    np.save(here / "weights.npy", np.array([1.0, 2.0, 3.0, 4.0]))
    rows = []
    for name in ("plain", "heavy"):
        said = command(
            capsys, str(runs["central"]), f"{name}.edges", "weights.npy", "--ranks", "1", "--out", "on.csv"
        )
        assert ("note: heavy.edges has edge weights, which do not count" in said) == (name == "heavy")
        rows.append(read_csv(here / "on.csv"))
    assert rows[0] == rows[1]


def test_a_centralized_run_on_ranks_and_a_network_that_is_gone(here: Path) -> None:
    """Its rows are equal, and parameters say nothing of the network on which they were trained."""
    (here / "ring.edges").write_text("".join(f"{i} {(i + 1) % 9}\n" for i in range(9)) + "0 4\n")
    path = train(
        here / "run",
        topology={"kind": "file", "path": str(here / "ring.edges")},
        training={"mode": "centralized", "wave": 1},
        optimizer={"kind": "adam", "lr": 0.02},
    )
    (here / "ring.edges").unlink()
    model, graph = read_run(path), random_graph(10, 0.3)
    u = generator(1, "weights").random((2, 10))
    mean, each = (decide(Request(model, graph, u, how), 2) for how in ("mean", "each"))  # type: ignore[arg-type]
    assert mean.z.tobytes() == each.z.tobytes()


def test_notes(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs["central"], here / "run")
    theta = np.zeros_like(read_run(here / "run").theta)
    np.savez(here / "run" / "theta.npz", theta=theta)
    (here / "run" / "environment.json").write_text('{"outcome": "interrupted"}', encoding="utf-8")

    def takes_too_long(*_: Any, **__: Any) -> Any:
        raise InputError("optimum: sample 0 is not solved within 0.5 s")

    monkeypatch.setattr(scheduling, "optimum", takes_too_long)
    options = ["--ranks", "1", "--optimum", "0.5"]
    said = command(capsys, "run", "graph.graphml", "weights.csv", *options)
    assert "did not reach its end" in said
    assert "z = 0 at all vertices: the model tells none from another; all weights tie" in said
    assert "the optimum of a sample was not found within 0.5 s" in said
    assert ["optimum", "–", "–", "–"] in [line.split() for line in said.splitlines()]


@pytest.mark.parametrize(
    ("largest", "shown"),
    [
        (0.123456, "0.12346"),
        (4.155, "4.1550"),
        (12345.678, "12,346"),
        (1e-9, "1.0000e-09"),
        (2e12, "2.0000e+12"),
    ],
)
def test_numbers_have_five_digits(largest: float, shown: str) -> None:
    assert format(largest, scheduling._spec(largest)) == shown


def test_what_is_no_independent_set_is_not_written(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "is_independent", lambda *_: False)
    arguments = [str(runs["central"]), "graph.graphml", "weights.csv", "--ranks", "1", "--out", "on.csv"]
    assert cli.main(["schedule", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: verification failed")
    assert not (here / "on.csv").exists()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = cli.main(["schedule", *arguments])
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    return line.removeprefix("error: ")


GOOD = ["a,1", "b,1", "c,1", "d,1", "e,1", "f,1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must begin with the line node,weight, found ''"),
        (b"a,1\nb,1\n", "must begin with the line node,weight, found 'a,1'"),
        (b"\xff\xfe", "is no CSV file of UTF-8 text"),
        (b'node,weight\n"a,1\n', "is no CSV file of UTF-8 text"),
        ([*GOOD[:5]], "has no weight of node 'f'; 1 of 6 are missing"),
        ([], "has no weight of node 'a'; 6 of 6 are missing"),
        ([*GOOD, "g,1"], "line 8: there is no vertex 'g'; they are 'a' … 'f', or all by number, 0 … 5"),
        ([*GOOD[:5], "5,1"], "line 7: there is no vertex '5'"),
        ([*GOOD, "b,2"], "line 8: node 'b' is on line 3 already; keep one"),
        ([*GOOD[:5], "f,heavy"], "line 7: the weight must be a number, found 'heavy'"),
        ([*GOOD[:5], "f,"], "line 7: the weight must be a number, found ''"),
        ([*GOOD[:5], "f"], "line 7: must be a node and its weight, found 'f'"),
        ([*GOOD[:5], "f,1,2"], "line 7: must be a node and its weight, found 'f,1,2'"),
        ([*GOOD[:5], "f,-0.5"], "weights must be finite and at least 0, found -0.5 at node 'f'"),
        ([*GOOD[:5], "f,nan"], "weights must be finite and at least 0, found nan at node 'f'"),
        (["a,inf", *GOOD[1:]], "weights must be finite and at least 0, found inf at node 'a'"),
        ([f"{name},0" for name in "abcdef"], "all weights are 0: there is nothing to gain"),
        ([f"{name},1e308" for name in "abcdef"], "the weights add up to more than 1e+300; scale them down"),
    ],
)
def test_bad_csv_is_one_line(
    runs: dict[str, Path],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    text: bytes | list[str],
    message: str,
) -> None:
    raw = text if isinstance(text, bytes) else "\n".join(["node,weight", *text]).encode()
    (here / "weights.csv").write_bytes(raw)
    said = refused(capsys, str(runs["central"]), "graph.graphml", "weights.csv", "--ranks", "1")
    assert said.startswith("weights.csv: ")
    assert message in said


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(5), "weights must be [6], one per vertex, or [B, 6], B samples; found [5]"),
        (np.ones((6, 5)), "found [6, 5]"),
        (np.ones((1, 1, 6)), "found [1, 1, 6]"),
        (np.ones((0, 6)), "found [0, 6]"),
        (np.array(1.0), "found []"),
        (np.ones(6, dtype=complex), "must be real numbers, found complex128"),
        (np.array([*"abcdef"]), "must be real numbers, found <U1"),
        (np.array([None] * 6), "pickle"),
        (np.array([[1.0] * 6, [1, 1, -2, 1, 1, 1]]), "found -2 at node 'c' in sample 1"),
        (np.array([[1.0] * 6, [0.0] * 6]), "all weights are 0 in sample 1"),
    ],
)
def test_bad_arrays_are_one_line(
    runs: dict[str, Path],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    array: np.ndarray,
    message: str,
) -> None:
    np.save(here / "weights.npy", array)
    np.savez(here / "weights.npz", weights=array)
    for name in ("weights.npy", "weights.npz"):
        assert message in refused(capsys, str(runs["central"]), "graph.graphml", name, "--ranks", "1")


def test_files_that_cannot_be_read_are_one_line(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        return refused(capsys, str(runs["central"]), *arguments, "--ranks", "1")

    (here / "edgeless.npz").write_bytes(b"")
    np.savez(here / "edgeless.npz", adjacency=np.zeros((3, 3)))
    (here / "pair.edges").write_text("0 1\n2 3\n")
    (here / "damaged.npy").write_bytes(b"\x93NUMPY\x01\x00nothing")
    (here / "damaged.npz").write_bytes(b"nothing")
    np.savez(here / "other.npz", heights=np.ones(6))
    (here / "folder.csv").mkdir()
    assert "nowhere: no such file" in said("nowhere", "weights.csv")
    assert "the graph is empty; it needs at least 1 edge" in said("edgeless.npz", "weights.csv")
    error = said("pair.edges", "weights.csv", "--interference", "one_hop")
    assert error == "pair.edges: no two of its 2 links conflict, so all can be on; name a larger network"
    assert "nowhere.csv: cannot be read" in said("graph.graphml", "nowhere.csv")
    assert "folder.csv: cannot be read" in said("graph.graphml", "folder.csv")
    assert "unknown suffix '.txt'; weights are in a .csv, .npy, .npz file" in said("abilene", "w.txt")
    assert "damaged.npy: is damaged" in said("graph.graphml", "damaged.npy")
    assert "damaged.npz: is damaged" in said("graph.graphml", "damaged.npz")
    assert "needs an array 'weights', found heights" in said("graph.graphml", "other.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimum", "0"], "--optimum: must be more than 0 seconds and at most 1e6, found 0"),
        (["--optimum", "-3"], "found -3"),
        (["--optimum", "nan"], "found nan"),
        (["--optimum", "inf"], "found inf"),
        (["--optimum", "soon"], "--optimum"),
        (["--interference", "three_hop"], "--interference"),
        (["--parameters", "best"], "--parameters"),
        (["--ranks", "7"], "only 6 nodes"),
        (["--out", "on.txt"], "must end in .csv"),
        (["--out", "nowhere/on.csv"], "there is no directory nowhere"),
        (["--colour", "red"], "No such option: --colour"),
    ],
)
def test_bad_options_are_one_line(
    runs: dict[str, Path],
    here: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in refused(capsys, str(runs["central"]), "graph.graphml", "weights.csv", *options)
    assert not [*here.glob("on.*")]


def test_what_is_no_such_run_is_one_line(
    runs: dict[str, Path], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(path: str) -> str:
        return refused(capsys, path, "graph.graphml", "weights.csv", "--ranks", "1")

    assert "holds no config.yaml" in said("nowhere")
    assert "holds no config.yaml" in said("x" * 300)
    shutil.copytree(runs["central"], here / "run")
    file, shape = here / "run" / "theta.npz", read_run(here / "run").theta.shape
    np.savez(file, theta=np.full(shape, np.nan))
    assert "the run diverged" in said("run")
    np.savez(file, theta=np.full(shape, 1e200))
    assert "z is not finite at node 'a'; the run's parameters are too large" in said("run")
    np.savez(file, theta=np.zeros((NODES, 7)))
    assert f"has 7 parameters per node, the model of config.yaml {shape[1]}" in said("run")
    np.savez(file, theta=np.zeros(3))
    assert "must be float64 [V, p], found float64 [3]" in said("run")
    np.savez(file, other=np.zeros(3))
    assert "has no array 'theta'" in said("run")
    file.write_bytes(b"nothing")
    assert "theta.npz: is damaged or no .npz file" in said("run")
    file.unlink()
    assert "holds no theta.npz: the run was ended before" in said("run")
    (here / "run" / "config.yaml").write_text("task: {kind: link_scheduling, colour: red}", encoding="utf-8")
    assert "colour" in said("run")
    (here / "run" / "config.yaml").write_text("axes: {}", encoding="utf-8")
    assert "config.yaml" in said("run")
    content = {"topology": {"kind": "ring", "nodes": 5}, "model": {"sizes": [10, 1]}}
    (here / "run" / "config.yaml").write_text(json.dumps(content), encoding="utf-8")
    assert "is a run of node_regression, in which nobody decides; name one of link_scheduling" in said("run")


@needs_mpi
def test_under_mpi_the_file_is_the_same(runs: dict[str, Path], here: Path) -> None:
    np.save(here / "weights.npy", generator(4, "weights").random((2, 14)))
    tables = []
    for ranks in ("1", "2"):
        options = ["--interference", "two_hop", "--optimum", "20", "--ranks", ranks, "--out", f"{ranks}.csv"]
        done = fdtrain("schedule", str(runs["neighbours"]), "abilene", "weights.npy", *options, cwd=here)
        assert done.returncode == 0, done.stderr
        heading, *table, _ = done.stdout.splitlines()
        assert f"on {ranks} rank" in heading
        tables.append(table)
    assert tables[0] == tables[1]
    assert (here / "1.csv").read_bytes() == (here / "2.csv").read_bytes()
    wanted = ["schedule", str(runs["central"]), "graph.graphml", "weights.csv", "--ranks", "9"]
    assert "only 6 nodes" in one_line_error(fdtrain(*wanted, cwd=here))


def test_a_link_may_be_called_by_its_ends_in_either_order(tmp_path: Path) -> None:
    links, _ = read_conflicts("abilene", "one_hop")
    assert links.labels is not None
    file, weights = tmp_path / "weights.csv", np.arange(1.0, links.num_nodes + 1)
    for dash in ("–", "-"):
        for way in (1, -1):
            names = [dash.join(label.split("–")[::way]) for label in links.labels]
            lines = [f"{name},{u}" for name, u in zip(names, weights, strict=True)]
            file.write_text("\n".join(["node,weight", *lines]), encoding="utf-8")
            np.testing.assert_array_equal(read_weights(file, links), weights[None])
    nodes, _ = read_conflicts("abilene", "none")
    wanted = r"no vertex 'Sunnyvale-Seattle'; .*; if it is a link, add --interference$"
    with pytest.raises(InputError, match=wanted):
        read_weights(file, nodes)
