"""The named networks against published figures of the same networks (as remembered; see topologies/)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

import networkx as nx
import numpy as np
import pytest

from fdtrain.graph import Graph
from fdtrain.topology import describe, named_networks, read_graph


class Published(NamedTuple):
    nodes: int
    edges: int
    degrees: dict[str, int]  # of some nodes
    distance: float | None = None  # average shortest path
    diameter: int | None = None
    clustering: float | None = None
    algebraic: float | None = None  # λ₂ of the Laplacian


# Distances and λ₂ of the IEEE systems: Z. Wang, A. Scaglione, R. J. Thomas, Generating statistically correct
# random topologies for testing smart grid communication and control networks, IEEE Trans. Smart Grid, 2010.
PUBLISHED = {
    "abilene": Published(11, 14, {"Denver": 3, "Seattle": 2, "Chicago": 2, "Houston": 3}),
    "nsfnet": Published(14, 21, {"Pittsburgh": 4, "Houston": 4, "Lincoln": 2, "Atlanta": 2}, 2.143, 3),
    "ieee14": Published(14, 20, {"4": 5, "8": 1, "2": 4, "5": 4, "6": 4, "9": 4, "7": 3, "13": 3}),
    "ieee30": Published(
        30, 41, {"6": 7, "10": 6, "12": 5, "26": 1, "11": 1, "13": 1}, 3.31, None, 0.235, 0.21213
    ),
    "ieee57": Published(57, 78, {"9": 6, "13": 6, "33": 1}, 4.95, 12, 0.122, 0.088223),
    "ieee118": Published(118, 179, {"49": 9, "10": 1, "117": 1, "100": 8}, 6.309, 14, 0.165, 0.027132),
    "geant": Published(22, 36, {"de": 8, "uk": 6, "fr": 6, "ie": 1}),  # counts only; see the file
    "sioux_falls": Published(24, 38, {"10": 5, "1": 2, "2": 2, "7": 2, "13": 2, "8": 4, "16": 4, "20": 4}),
    "polska": Published(12, 18, {"Warsaw": 5, "Szczecin": 2, "Rzeszow": 2}, None, 4),
    "nobel_germany": Published(17, 26, {"Hannover": 6, "Frankfurt": 5, "Essen": 2}, 2.70, 6),
}


@pytest.fixture(params=sorted(PUBLISHED))
def network(request: pytest.FixtureRequest) -> tuple[Published, Graph]:
    return PUBLISHED[request.param], read_graph(named_networks()[request.param])


def test_every_file_is_compared() -> None:
    assert set(named_networks()) == set(PUBLISHED)


def test_counts_and_degrees(network: tuple[Published, Graph]) -> None:
    published, graph = network
    assert (graph.num_nodes, graph.num_edges, graph.components()) == (published.nodes, published.edges, 1)
    assert graph.labels is not None
    assert len(set(graph.labels)) == graph.num_nodes
    found = {label: int(degree) for label, degree in zip(graph.labels, graph.degrees, strict=True)}
    assert {label: found[label] for label in published.degrees} == published.degrees
    assert max(published.degrees.values()) == graph.degrees.max()
    assert set(graph.weights) == {1.0}


def test_figures(network: tuple[Published, Graph]) -> None:
    published, graph = network
    figures, other = describe(graph), nx.Graph(graph.edges().tolist())
    if published.distance is not None:
        decimals = len(str(published.distance).split(".")[1])
        assert abs(nx.average_shortest_path_length(other) - published.distance) <= 0.6 * 10**-decimals
    if published.diameter is not None:
        assert figures["diameter"] == published.diameter
    if published.clustering is not None:
        assert abs(figures["clustering"] - published.clustering) <= 6e-4
    if published.algebraic is not None:
        laplacian = np.diag(graph.degrees) - graph.adjacency().toarray()
        assert np.linalg.eigvalsh(laplacian)[1] == pytest.approx(published.algebraic, rel=3e-5)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_headers_and_order(name: str) -> None:
    text = named_networks()[name].read_text()
    published = PUBLISHED[name]
    assert f"# nodes: {published.nodes}, " in text
    assert f"# edges: {published.edges}, " in text
    assert "# source: " in text
    assert "from memory" in text
    if name.startswith(("ieee", "sioux")):  # numbered 1 … V
        labels = read_graph(named_networks()[name]).labels
        assert labels == tuple(str(i) for i in range(1, published.nodes + 1))
        rows = [tuple(map(int, row)) for row in re.findall(r"^(\d+) (\d+)$", text, re.MULTILINE)]
        assert all(i < j for i, j in rows)
        assert all(a < b for a, b in pairwise(rows))
    readme = (named_networks()[name].parent / "README.md").read_text()
    assert f"| `{name}` | {published.nodes} | {published.edges} |" in readme


def test_nsfnet_is_the_variant_that_is_used_most() -> None:
    # the edge list of the RouteNet data sets, which number the sites in another order
    common = [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 7),
        (2, 5),
        (3, 8),
        (3, 4),
        (4, 5),
        (4, 6),
        (5, 12),
        (5, 13),
    ]
    common += [(6, 7), (7, 10), (8, 9), (8, 11), (9, 10), (9, 12), (10, 11), (10, 13), (11, 12)]
    ours = read_graph(named_networks()["nsfnet"]).edges().tolist()
    assert nx.is_isomorphic(nx.Graph(ours), nx.Graph(common))


def test_sioux_falls_is_planar() -> None:
    assert nx.check_planarity(nx.Graph(read_graph(named_networks()["sioux_falls"]).edges().tolist()))[0]
