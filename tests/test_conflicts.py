"""Which links conflict: against networkx and the definition; and the topology that is made of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology import TopologyConfig, TopologyService, conflicts, read_graph, resolve
from fdtrain.topology.conflicts import conflict_graph
from fdtrain.topology.sources import RANDOM_KINDS, ConflictSource, RandomGeometric

ADAPTER: TypeAdapter[Any] = TypeAdapter(TopologyConfig)
GEOMETRIC = {"kind": "random_geometric", "nodes": 20, "radius": 0.3}
PATH = Graph.from_edges(5, [(0, 1), (1, 2), (2, 3), (3, 4)])

fixed = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Networks of one link at least, nodes without links among them."""
    nodes = draw(st.integers(2, 8))
    pairs = list(itertools.combinations(range(nodes), 2))
    return Graph.from_edges(nodes, draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1)))


def generator(item: int = 0) -> np.random.Generator:
    return rng.generator(5, "topology", item=item)


def source(**fields: Any) -> ConflictSource:
    found = ADAPTER.validate_python({"kind": "conflict", **fields})
    assert isinstance(found, ConflictSource)
    return found


def pairs_of(graph: Graph) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in graph.edges()}


@fixed
@given(network=networks())
def test_links_conflict_by_definition(network: Graph) -> None:
    links = network.edges().tolist()
    linked = pairs_of(network) | {(j, i) for i, j in pairs_of(network)}
    share, near = set(), set()
    for a, b in itertools.combinations(range(len(links)), 2):
        ends = list(itertools.product(links[a], links[b]))
        if any(i == j for i, j in ends):
            share.add((a, b))
        elif any(end in linked for end in ends):
            near.add((a, b))
    one, two = conflict_graph(network, "one_hop"), conflict_graph(network, "two_hop")
    assert one.num_nodes == two.num_nodes == len(links)
    assert pairs_of(one) == share
    assert pairs_of(two) == share | near
    assert one == conflict_graph(network)
    for graph in (one, two):  # what Graph promises: symmetric, ascending, no self-loops, int64
        assert graph == Graph.from_edges(graph.num_nodes, graph.edges())
        assert graph.indptr.dtype == graph.indices.dtype == np.int64


@fixed
@given(network=networks())
def test_one_hop_is_networkx_line_graph_and_two_hop_its_square(network: Graph) -> None:
    number_of = {tuple(link): number for number, link in enumerate(network.edges().tolist())}
    line = nx.relabel_nodes(
        nx.line_graph(nx.Graph(network.edges().tolist())),
        lambda link: number_of[min(link), max(link)],
    )
    for graph, expected in (
        (conflict_graph(network, "one_hop"), line),
        (conflict_graph(network, "two_hop"), nx.power(line, 2)),
    ):
        assert pairs_of(graph) == {(min(edge), max(edge)) for edge in expected.edges}


def test_by_hand() -> None:
    assert conflict_graph(PATH).edges().tolist() == [[0, 1], [1, 2], [2, 3]]
    assert conflict_graph(PATH, "two_hop").edges().tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    star = Graph.from_edges(5, [(0, k) for k in range(1, 5)])
    assert conflict_graph(star).num_edges == 6
    assert conflict_graph(Graph.from_edges(4, [(0, 1), (2, 3)]), "two_hop").num_edges == 0
    assert conflict_graph(Graph.from_edges(2, [(0, 1)])).num_nodes == 1


def test_a_vertex_has_the_names_and_the_middle_of_its_link() -> None:
    assert conflict_graph(PATH).labels == ("0–1", "1–2", "2–3", "3–4")
    assert conflict_graph(PATH).positions is None
    places = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]])
    named = Graph.from_edges(3, [(1, 2), (0, 2)], labels=("Rome", "Oslo", "Bern"), positions=places)
    graph = conflict_graph(named)
    assert graph.labels == ("Rome–Bern", "Oslo–Bern")
    assert graph.positions is not None
    assert graph.positions.tolist() == [[0.5, 1.5], [1.0, 1.5]]


def test_weights_of_links_do_not_count() -> None:
    deaf = np.array([[0, 2.5, 0], [0, 0, -1e-300], [0, 3.0, 0]])  # 0 hears 1, who does not hear 0
    for interference in ("one_hop", "two_hop"):
        graph = conflict_graph(Graph.from_adjacency(deaf), interference)
        assert graph == Graph.from_edges(2, [(0, 1)])
    A = np.diag([1.0, 1, 1], 1) + np.diag([1.0, 0, 1], -1)  # 2 does not hear 1
    assert conflict_graph(Graph.from_adjacency(A), "two_hop") == Graph.from_edges(3, [(0, 1), (0, 2), (1, 2)])


def test_many_links() -> None:
    links = 10_000
    chain = Graph.from_edges(links + 1, np.stack([np.arange(links), np.arange(links) + 1], axis=1))
    graph = conflict_graph(chain, "two_hop")
    a = np.arange(links)
    expected = np.concatenate([np.stack([a[:-k], a[k:]], axis=1) for k in (1, 2)])
    assert graph == Graph.from_edges(links, expected)


def test_no_link_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        conflict_graph(Graph.from_edges(3, []))
    assert str(caught.value) == "conflict graph: the network of 3 nodes has no link; give it more edges"


def test_too_many_conflicts_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "MAX_CONFLICTS", 3)
    assert conflict_graph(PATH).num_edges == 3
    with pytest.raises(InputError) as caught:
        conflict_graph(PATH, "two_hop")
    assert str(caught.value) == (
        "conflict graph: 4 links have up to 6 conflicts, which must be at most 3; take a smaller or sparser network"
    )
    monkeypatch.setattr(conflicts, "MAX_CONFLICTS", 2)
    with pytest.raises(InputError, match="4 links have up to 3 conflicts"):
        conflict_graph(PATH)
    monkeypatch.undo()
    hub = Graph.from_edges(100_001, [(0, k) for k in range(1, 100_001)])  # its conflicts would take 100 GB
    for interference in ("one_hop", "two_hop"):
        with pytest.raises(InputError, match="up to 4,999,950,000 conflicts"):
            conflict_graph(hub, interference)


@fixed
@given(network=networks())
def test_the_bound_on_conflicts_holds(network: Graph) -> None:
    for interference in ("one_hop", "two_hop"):
        with pytest.MonkeyPatch.context() as patch:
            found = conflict_graph(network, interference).num_edges
            patch.setattr(conflicts, "MAX_CONFLICTS", found - 1)
            with pytest.raises(InputError, match="up to"):
                conflict_graph(network, interference)
            if interference == "one_hop":
                patch.setattr(conflicts, "MAX_CONFLICTS", found)
                assert conflict_graph(network).num_edges == found


@pytest.mark.parametrize("interference", ["one_hop", "two_hop"])
def test_the_source_draws_the_network_from_the_same_bits(interference: Any) -> None:
    config = source(network=GEOMETRIC, interference=interference)
    network = RandomGeometric(nodes=20, radius=0.3).draw(generator())
    drawn = config.draw(generator())
    assert drawn == conflict_graph(network, interference)
    assert drawn.positions is not None
    assert drawn != config.draw(generator(1))
    assert source(network=GEOMETRIC).interference == "one_hop"


def test_it_is_as_random_as_its_network() -> None:
    static = {
        "grid": {"rows": 2, "cols": 3}, "ring": {"nodes": 5}, "star": {"nodes": 5}, "path": {"nodes": 5},
        "complete": {"nodes": 5}, "file": {"path": "abilene"},
    }  # fmt: skip
    random = {
        "barabasi_albert": {"m": 1}, "erdos_renyi": {"p": 0.5}, "watts_strogatz": {"k": 2, "p": 0},
        "random_geometric": {"radius": 0.3}, "random_regular": {"degree": 2},
    }  # fmt: skip
    assert set(random) == set(RANDOM_KINDS)
    for kind, fields in static.items():
        assert not source(network={"kind": kind, **fields}).is_random
        with pytest.raises(ValidationError, match=f"redraw: kind {kind} is the same at every draw; remove"):
            source(network={"kind": kind, **fields}, redraw={"every": 1})
    for kind, fields in random.items():
        network = {"kind": kind, "nodes": 6, **fields}
        assert source(network=network, links=2, redraw={"every": 1}).is_random
        with pytest.raises(ValidationError, match="redraw: another network may have another number of links"):
            source(network=network, redraw={"every": 1})


def test_some_of_the_links() -> None:
    network = {"kind": "file", "path": "abilene"}
    whole = conflict_graph(read_graph(resolve("abilene")), "two_hop")
    some = source(network=network, interference="two_hop", links=6)
    assert some.is_random
    drawn = [some.draw(generator(seed)) for seed in range(20)]
    assert len({graph.labels for graph in drawn}) > 10
    A = whole.adjacency().toarray()
    for graph in drawn:
        assert whole.labels is not None
        assert graph.labels is not None
        chosen = [whole.labels.index(label) for label in graph.labels]
        assert chosen == sorted({*chosen})
        np.testing.assert_array_equal(graph.adjacency().toarray(), A[np.ix_(chosen, chosen)])
    with pytest.raises(
        InputError, match=r"topology\.links: 99, but the network has only 14; give it more edges"
    ):
        source(network=network, links=99).draw(generator())


def test_the_service_redraws_it() -> None:
    config = source(
        network={"kind": "erdos_renyi", "nodes": 8, "mean_degree": [4, 6]},
        links=10,
        redraw={"every": 2},
        seed=3,
    )
    service = TopologyService(config, seed=1)
    drawn = [service.graph(t) for t in range(4)]
    assert drawn[0] is drawn[1]
    assert drawn[1] != drawn[2]
    assert {graph.components() for graph in drawn} == {1}
    assert TopologyService(config, seed=2).graph(3) == drawn[3]
    sparse = source(network={"kind": "random_regular", "nodes": 6, "degree": 1}, max_draws=4)
    with pytest.raises(InputError, match="no two of 3 links conflict"):
        TopologyService(sparse, 0).graph(0)
    apart = source(network={"kind": "erdos_renyi", "nodes": 40, "mean_degree": 1.2}, max_draws=4)
    with pytest.raises(InputError, match="conflict at mini-batch 0: no connected graph in 4 draws"):
        TopologyService(apart, 0).graph(0)


def test_no_conflicts_are_one_line() -> None:
    with pytest.raises(InputError) as caught:
        source(network={"kind": "path", "nodes": 2}).draw(generator())
    assert str(caught.value) == "topology: conflict: no two of 1 links conflict; give network more edges"
    with pytest.raises(InputError, match="3 nodes has no link"):
        source(network={"kind": "erdos_renyi", "nodes": 3, "p": 0}).draw(generator())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("connected", False),
        ("connected", True),
        ("max_draws", 7),
        ("redraw", {"every": 1}),
        ("redraw", None),
    ],
)
def test_what_stands_beside_the_network_is_refused_within(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        source(network=GEOMETRIC | {key: value})
    (error,) = caught.value.errors()
    assert error["loc"] == ("conflict", "network")
    assert error["msg"] == f"Value error, {key}: has no meaning here; put it beside network"
    assert getattr(source(network=GEOMETRIC, links=2, **{key: value}), key) is not ...


@pytest.mark.parametrize("kind", ["bundle", "channels", "conflict", "torus"])
def test_networks_that_cannot_be_nested(kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        source(network={"kind": kind, "network": GEOMETRIC} if kind == "conflict" else {"kind": kind})
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"]) == ("union_tag_invalid", ("conflict", "network"))


def test_other_interference_is_refused() -> None:
    with pytest.raises(ValidationError, match="'one_hop' or 'two_hop'"):
        source(network=GEOMETRIC, interference="three_hop")


def test_what_is_written_down_is_read_back_equal() -> None:
    config = source(network=GEOMETRIC | {"kind": "random_geometric"}, interference="two_hop", seed=3)
    content = config.model_dump(mode="json", exclude_none=True)
    assert content["network"] == GEOMETRIC
    assert (content["seed"], content["connected"]) == (3, True)
    assert ADAPTER.validate_python(content) == config


def test_the_file_of_a_network_is_resolved_against_the_config(tmp_path: Path) -> None:
    (tmp_path / "net.edges").write_text("a b\nb c\n")
    resolved = source(network={"kind": "file", "path": "net.edges"}).resolved(tmp_path)
    assert resolved.network == ADAPTER.validate_python({"kind": "file", "path": str(tmp_path / "net.edges")})
    assert resolved.draw(generator()).labels == ("a–b", "b–c")
    named = source(network={"kind": "file", "path": "abilene.edges"}).resolved(tmp_path)
    assert getattr(named.network, "path", "") == "abilene"
    assert source(network=GEOMETRIC).resolved(tmp_path) == source(network=GEOMETRIC)
