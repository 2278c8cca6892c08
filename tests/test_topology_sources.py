"""Every kind of topology: what it accepts, what it draws, and when it draws again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from moving import CASES as MOVING
from pydantic import TypeAdapter, ValidationError

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology import TopologyConfig, TopologyService, describe
from fdtrain.topology.sources import RANDOM_KINDS, FileSource, RandomRegular

ADAPTER: TypeAdapter[Any] = TypeAdapter(TopologyConfig)

# config, nodes, edges (None: they vary)
CASES: dict[str, tuple[dict[str, Any], int, int | None]] = {
    "barabasi_albert": ({"nodes": 30, "m": 2}, 30, 56),
    "erdos_renyi": ({"nodes": 30, "p": 0.3}, 30, None),
    "watts_strogatz": ({"nodes": 30, "k": 4, "p": 0.2}, 30, 60),
    "random_geometric": ({"nodes": 30, "radius": 0.5}, 30, None),
    "random_regular": ({"nodes": 30, "degree": 3}, 30, 45),
    "grid": ({"rows": 3, "cols": 4}, 12, 17),
    "ring": ({"nodes": 7}, 7, 7),
    "star": ({"nodes": 7}, 7, 6),
    "path": ({"nodes": 7}, 7, 6),
    "complete": ({"nodes": 7}, 7, 21),
    "file": ({"path": "abilene"}, 11, 14),
    "conflict": ({"network": {"kind": "grid", "rows": 3, "cols": 4}}, 17, 34),
}


def source(kind: str, **fields: Any) -> Any:
    return ADAPTER.validate_python({"kind": kind, **fields})


def generator(item: int = 0) -> np.random.Generator:
    return rng.generator(5, "topology", item=item)


@pytest.mark.parametrize("kind", CASES)
def test_draws_what_it_says_and_the_same_bits_for_the_same_generator(kind: str) -> None:
    fields, nodes, edges = CASES[kind]
    drawn = source(kind, **fields).draw(generator())
    assert drawn.num_nodes == nodes
    assert edges is None or drawn.num_edges == edges
    assert drawn == source(kind, **fields).draw(generator())
    changed = drawn != source(kind, **fields).draw(generator(1))
    assert changed == (kind in RANDOM_KINDS)


def test_every_kind_is_in_the_table_and_every_field_is_described() -> None:
    schema = ADAPTER.json_schema()
    assert set(schema["discriminator"]["mapping"]) == {*CASES, *MOVING, "bundle", "channels"}
    for model in schema["$defs"].values():
        for name, field in model["properties"].items():
            assert name == "kind" or field.get("description"), (model["title"], name)
        assert model["additionalProperties"] is False


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kind": "barabasi_albert", "nodes": 5, "m": 5}, "m: must be less than nodes = 5, found 5"),
        ({"kind": "barabasi_albert", "nodes": 5, "m": 0}, "m"),
        ({"kind": "erdos_renyi", "nodes": 5}, "p, mean_degree: give exactly one of the two, found neither"),
        (
            {"kind": "erdos_renyi", "nodes": 5, "p": 0.1, "mean_degree": 2},
            "exactly one of the two, found both",
        ),
        (
            {"kind": "erdos_renyi", "nodes": 5, "mean_degree": 4.5},
            "mean_degree: must be at most nodes − 1 = 4",
        ),
        ({"kind": "erdos_renyi", "nodes": 5, "mean_degree": float("nan")}, "mean_degree"),
        (
            {"kind": "erdos_renyi", "nodes": 5, "mean_degree": [1, 4.5]},
            "mean_degree: must be at most nodes − 1 = 4",
        ),
        *[
            (
                {"kind": "erdos_renyi", "nodes": 5, "mean_degree": given},
                f"must be a number of at least 0, or a range [low, high] with 0 ≤ low ≤ high, found {given!r}",
            )
            for given in (
                -1,
                [-1, 2],
                [3, 2],
                [1],
                [1, 2, 3],
                [],
                ["1", 2],
                [None, 2],
                "2",
                True,
                [float("nan"), 2],
            )
        ],
        ({"kind": "erdos_renyi", "nodes": 5, "p": 1.1}, "less than or equal to 1"),
        ({"kind": "watts_strogatz", "nodes": 5, "k": 6, "p": 0}, "k: must be at most nodes = 5, found 6"),
        ({"kind": "watts_strogatz", "nodes": 9, "k": 3, "p": 0}, "k: must be even"),
        ({"kind": "random_geometric", "nodes": 9, "radius": 0}, "greater than 0"),
        ({"kind": "random_regular", "nodes": 5, "degree": 3}, "nodes · degree must be even, found 5 · 3"),
        ({"kind": "random_regular", "nodes": 4, "degree": 4}, "degree: must be less than nodes = 4, found 4"),
        ({"kind": "ring", "nodes": 2}, "greater than or equal to 3"),
        ({"kind": "path", "nodes": 0}, "greater than or equal to 1"),
        ({"kind": "ring", "nodes": 5, "seed": -1}, "greater than or equal to 0"),
        ({"kind": "ring", "nodes": 5, "max_draws": 0}, "greater than or equal to 1"),
        ({"kind": "ring", "nodes": 5, "colour": 1}, "Extra inputs are not permitted"),
        ({"kind": "torus", "nodes": 5}, "torus"),
        (
            {"kind": "random_regular", "nodes": 4, "degree": 2, "redraw": {"every": 0}},
            "greater than or equal to 1",
        ),
        *[
            (
                {"kind": kind, **CASES.get(kind, ({},))[0], "redraw": {"every": 1}},
                f"redraw: kind {kind} is the same",
            )
            for kind in (*CASES, "bundle")
            if kind not in (*RANDOM_KINDS, "conflict")
        ],
        (
            {"kind": "conflict", **CASES["conflict"][0], "redraw": {"every": 1}},
            "redraw: kind grid is the same",
        ),
    ],
)
def test_refuses(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(config)
    assert caught.value.error_count() == 1
    message = caught.value.errors()[0]["msg"]
    assert words in message or words in caught.value.errors()[0]["loc"]
    assert "\n" not in message
    if "redraw: kind" in words:
        assert all(kind in message for kind in RANDOM_KINDS)


def test_shapes() -> None:
    assert source("star", nodes=5).draw(generator()).degrees.tolist() == [4, 1, 1, 1, 1]
    assert source("path", nodes=1).draw(generator()).num_edges == 0
    assert source("grid", rows=2, cols=2).draw(generator()).edges().tolist() == [
        [0, 1],
        [0, 2],
        [1, 3],
        [2, 3],
    ]
    torus = source("grid", rows=3, cols=4, periodic=True).draw(generator())
    assert torus.degrees.tolist() == [4] * 12
    assert torus.neighbours(0).tolist() == [1, 3, 4, 8]
    assert source("grid", rows=1, cols=4, periodic=True).draw(generator()) == source("ring", nodes=4).draw(
        generator()
    )
    assert source("watts_strogatz", nodes=4, k=4, p=0.5).draw(generator()).num_edges == 6


@pytest.mark.parametrize("degree", range(1, 10))
def test_random_regular_of_any_degree(degree: int) -> None:
    assert set(RandomRegular(nodes=10, degree=degree).draw(generator()).degrees) == {degree}


def test_dense_random_regular_is_quick() -> None:
    assert set(RandomRegular(nodes=100, degree=97).draw(generator()).degrees) == {97}


def test_random_geometric_keeps_positions_that_explain_its_edges() -> None:
    graph = source("random_geometric", nodes=40, radius=0.3).draw(generator())
    assert graph.positions is not None
    distances = np.linalg.norm(graph.positions[:, None] - graph.positions[None], axis=2)
    expected = (distances <= 0.3) & ~np.eye(40, dtype=bool)
    np.testing.assert_array_equal(graph.adjacency().toarray() != 0, expected)


def test_erdos_renyi_has_the_mean_degree_asked_for() -> None:
    drawn = [
        source("erdos_renyi", nodes=200, mean_degree=6).draw(generator(i)).degrees.mean() for i in range(20)
    ]
    assert abs(np.mean(drawn) - 6) < 0.2  # its standard deviation is about 0.055
    assert source("erdos_renyi", nodes=20, p=1e-300).draw(generator()).num_edges == 0
    assert source("erdos_renyi", nodes=20, p=1).draw(generator()).num_edges == 190
    assert source("erdos_renyi", nodes=1, mean_degree=0).draw(generator()).num_edges == 0


def test_a_number_for_the_mean_degree_draws_nothing_else() -> None:
    import networkx as nx

    drawn = source("erdos_renyi", nodes=30, mean_degree=6).draw(generator())
    expected = nx.fast_gnp_random_graph(30, 6 / 29, seed=generator())
    assert drawn == Graph.from_edges(30, np.array(list(expected.edges)))
    assert drawn == source("erdos_renyi", nodes=30, p=6 / 29).draw(generator())


def test_a_range_of_mean_degrees_is_uniform_over_draws() -> None:
    config = source("erdos_renyi", nodes=200, mean_degree=[2, 20], connected=False, redraw={"every": 1})
    service = TopologyService(config, seed=0)
    found = np.array([service.graph(t).degrees.mean() for t in range(200)])
    assert 1.5 < found.min() < 3  # the deviation of a draw's mean degree is at most about 0.45
    assert 19 < found.max() < 22
    quarters = np.histogram(found, [0, 6.5, 11, 15.5, 25])[0]
    assert (abs(quarters - 50) < 20).all()
    draws = generator()
    mean = draws.uniform(2, 20)
    first = source("erdos_renyi", nodes=200, mean_degree=mean).draw(draws)
    assert config.draw(generator()) == first  # the mean degree first, then the graph
    exact = source("erdos_renyi", nodes=5, mean_degree=[4, 4]).draw(generator())
    assert exact == source("complete", nodes=5).draw(generator())


def test_service_draws_a_static_source_once() -> None:
    service = TopologyService(source("barabasi_albert", nodes=20, m=2), seed=1)
    first = service.graph(0)
    assert service.graph(1) is first
    assert service.graph(10**6) is first


def test_service_redraws_on_schedule_and_in_any_order() -> None:
    config = source("barabasi_albert", nodes=20, m=2, redraw={"every": 3})
    service = TopologyService(config, seed=1)
    drawn = [service.graph(t) for t in range(9)]
    assert drawn[0] is drawn[2]
    assert drawn[0] != drawn[3]
    assert drawn[3] != drawn[6]
    for t in (7, 1, 4, 0, 8):
        assert TopologyService(config, seed=1).graph(t) == drawn[t]
        assert service.graph(t) == drawn[t]
    assert TopologyService(config, seed=2).graph(0) != drawn[0]
    with pytest.raises(ValueError, match="count from 0"):
        service.graph(-1)


def test_the_sources_seed_comes_before_the_experiments() -> None:
    config = source("barabasi_albert", nodes=20, m=2, seed=3)
    assert TopologyService(config, seed=1).graph(0) == TopologyService(config, seed=2).graph(0)
    assert TopologyService(config, seed=1).graph(0) == config.draw(rng.generator(3, "topology"))


def test_a_disconnected_draw_is_redrawn_from_the_next_attempt() -> None:
    config = source("erdos_renyi", nodes=20, p=0.15)
    draws = {
        seed: [config.draw(rng.generator(seed, "topology", item=a)).components() == 1 for a in range(100)]
        for seed in range(10)
    }
    attempts = {seed: good.index(True) for seed, good in draws.items()}
    assert max(attempts.values()) > 0  # else this tests nothing
    for seed, attempt in attempts.items():
        expected = config.draw(rng.generator(seed, "topology", item=attempt))
        assert TopologyService(config, seed).graph(0) == expected


def test_no_connected_draw_is_an_error_that_says_what_to_do() -> None:
    service = TopologyService(
        source("random_regular", nodes=6, degree=1, max_draws=7, redraw={"every": 2}), seed=0
    )
    with pytest.raises(InputError) as caught:
        service.graph(5)
    message = str(caught.value)
    assert message == (
        "topology: random_regular at mini-batch 5: no connected graph in 7 draws, "
        "the last has 3 edges and 3 components; give it more edges, or set connected: false"
    )


def test_no_edge_at_all_is_an_error_only_where_nodes_must_be_connected() -> None:
    with pytest.raises(InputError, match="0 edges and 4 components"):
        TopologyService(source("erdos_renyi", nodes=4, p=0), seed=0).graph(0)
    assert (
        TopologyService(source("erdos_renyi", nodes=4, p=0, connected=False), seed=0).graph(0).num_edges == 0
    )
    assert TopologyService(source("complete", nodes=1), seed=0).graph(0).num_nodes == 1


def test_a_bundle_hands_over_its_graph() -> None:
    graph = Graph.from_edges(3, [(0, 1), (1, 2)])
    assert TopologyService(source("bundle"), 0, fixed=graph).graph(4) is graph
    with pytest.raises(InputError, match=r"task\.bundle"):
        TopologyService(source("bundle"), 0).graph(0)
    halves = Graph.from_edges(4, [(0, 1), (2, 3)])
    with pytest.raises(InputError, match="bundle at mini-batch 0: no connected graph in 1 draw, "):
        TopologyService(source("bundle"), 0, fixed=halves).graph(0)
    assert TopologyService(source("bundle", connected=False), 0, fixed=halves).graph(0) is halves


def test_a_file_source_resolves_against_the_config(tmp_path: Any) -> None:
    (tmp_path / "net.edges").write_text("0 1\n1 2\n")
    resolved = FileSource(path="net.edges").resolved(tmp_path)
    assert resolved.path == str(tmp_path / "net.edges")
    assert resolved.draw(generator()).num_edges == 2
    assert FileSource(path="abilene.edges").resolved(tmp_path).path == "abilene"


def test_describe() -> None:
    ring = describe(source("ring", nodes=6).draw(generator()))
    assert ring == {
        "nodes": 6, "edges": 6, "degree_min": 2, "degree_mean": 2.0, "degree_max": 2, "components": 1,
        "diameter": 3, "clustering": 0.0, "asymmetric": False,
        "spectral_gap": pytest.approx(1 / 3),  # W has eigenvalues (1 + 2 cos 2πk/6) / 3
    }  # fmt: skip
    json.dumps(describe(source("complete", nodes=5).draw(generator())))
    assert describe(source("complete", nodes=5).draw(generator()))["spectral_gap"] == pytest.approx(1)
    halves = describe(Graph.from_edges(4, [(0, 1), (2, 3)]))
    assert (halves["components"], halves["diameter"], halves["spectral_gap"]) == (2, None, 0.0)
    alone = describe(source("path", nodes=1).draw(generator()))
    assert (alone["diameter"], alone["spectral_gap"], alone["degree_max"]) == (0, 1.0, 0)
    assert describe(Graph.from_adjacency(np.array([[0, 2.0], [1.0, 0]])))["asymmetric"] is True


def test_describe_agrees_with_networkx() -> None:
    import networkx as nx

    graph = source("erdos_renyi", nodes=60, mean_degree=8).draw(generator())
    other = nx.Graph(graph.edges().tolist())
    figures = describe(graph)
    assert figures["clustering"] == pytest.approx(nx.average_clustering(other))
    assert figures["diameter"] == nx.diameter(other)


def test_the_sparse_spectral_gap_is_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = source("barabasi_albert", nodes=400, m=2).draw(generator())
    dense = describe(graph)["spectral_gap"]
    monkeypatch.setattr("fdtrain.topology.spectrum.DENSE_LIMIT", 10)
    assert describe(graph)["spectral_gap"] == pytest.approx(dense, rel=1e-9)


def test_networkx_is_not_imported_before_a_draw() -> None:
    code = "import sys, fdtrain.topology; sys.exit('networkx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
