"""Large graphs without loops: the draws of networkx where they can be had, its distribution where they cannot."""

from typing import Any

import networkx as nx
import numpy as np
import pytest
from scipy.stats import chi2_contingency

from fdtrain.graph import Graph
from fdtrain.topology import kinds
from fdtrain.topology.random_graphs import attached_edges, gnp_edges, regular_edges, rewired_edges


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, 11], dtype=np.uint64)))


def as_graph(found: Any) -> Graph:
    edges = np.array([sorted(edge) for edge in found.edges], dtype=np.int64).reshape(-1, 2)
    return Graph.from_edges(found.number_of_nodes(), edges)


@pytest.mark.parametrize(
    ("nodes", "p"),
    [
        (1, 0.5),
        (2, 0.5),
        (30, 0.0),
        (30, 1.0),
        (30, 0.999),
        (60, 0.1),
        (300, 1e-3),
        (300, 1e-15),
        (2000, 0.003),
    ],
)
def test_erdos_renyi_is_networkxs_draw_for_draw(nodes: int, p: float) -> None:
    for seed in range(60):
        here, there = generator(seed), generator(seed)
        found = Graph.from_edges(nodes, gnp_edges(nodes, p, here))
        assert found == as_graph(nx.fast_gnp_random_graph(nodes, p, seed=there))
        if 0 < p < 1:
            assert here.random() == there.random()  # what is drawn next is the same, too


def test_erdos_renyi_finds_its_pairs_where_square_roots_are_rounded() -> None:
    from fdtrain.topology.random_graphs import _pairs_at

    v = np.array([1, 2, 3, 94_906_267, 10_000_000, 9_999_999])
    first, last = v * (v - 1) // 2, v * (v + 1) // 2 - 1
    assert _pairs_at(first).tolist() == [[i, 0] for i in v.tolist()]
    assert _pairs_at(last).tolist() == [[i, i - 1] for i in v.tolist()]


@pytest.mark.parametrize(("nodes", "radius"), [(1, 0.3), (2, 1.5), (40, 0.2), (300, 0.08)])
def test_random_geometric_is_networkxs_draw_for_draw(nodes: int, radius: float) -> None:
    for seed in range(30):
        here, there = generator(seed), generator(seed)
        found = kinds.RandomGeometric(nodes=nodes, radius=radius).draw(here)
        wanted = nx.random_geometric_graph(nodes, radius, seed=there)
        assert found == as_graph(wanted)
        assert found.positions is not None
        assert found.positions.tolist() == [wanted.nodes[i]["pos"] for i in range(nodes)]
        assert here.random() == there.random()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_fixed_kinds_are_networkxs(size: int) -> None:
    pairs = [
        (kinds.PathGraph(nodes=size), nx.path_graph(size)),
        (kinds.Complete(nodes=size), nx.complete_graph(size)),
    ]
    if size >= 2:
        pairs.append((kinds.Star(nodes=size), nx.star_graph(size - 1)))
    if size >= 3:
        pairs.append((kinds.Ring(nodes=size), nx.cycle_graph(size)))
    for cols in (1, 2, 3, 5):
        for periodic in (False, True):
            grid = nx.grid_2d_graph(size, cols, periodic=periodic)
            flat = nx.relabel_nodes(grid, {(i, j): i * cols + j for i in range(size) for j in range(cols)})
            pairs.append((kinds.Grid(rows=size, cols=cols, periodic=periodic), flat))
    for source, wanted in pairs:
        assert source.draw(generator(0)) == as_graph(wanted), source


def alike(found: np.ndarray, wanted: np.ndarray) -> float:
    """The p-value of two samples of degrees being of one distribution; values from 12 on are one class."""
    counts = np.array([np.bincount(np.minimum(d, 12), minlength=13) for d in (found, wanted)])
    return float(chi2_contingency(counts[:, counts.sum(axis=0) > 20]).pvalue)


def degrees_of(nodes: int, edges: np.ndarray) -> np.ndarray:
    return Graph.from_edges(nodes, edges).degrees  # refuses loops and duplicates


@pytest.mark.parametrize("m", [1, 2, 5])
def test_large_barabasi_albert_has_the_degrees_of_networkxs(m: int) -> None:
    edges = attached_edges(20_000, m, generator(m))
    assert len(edges) == (20_000 - m) * m
    newer, older = edges.max(axis=1), edges.min(axis=1)
    assert (np.bincount(newer, minlength=20_000)[m + 1 :] == m).all()  # every new node brings m edges
    found = degrees_of(20_000, edges)
    wanted = as_graph(nx.barabasi_albert_graph(20_000, m, seed=5)).degrees
    assert alike(found - m, wanted - m) > 1e-3
    share = np.bincount(older, minlength=20_000)[: m + 1].sum() / len(edges)
    assert 0.001 < share < 0.2  # the first have many, but not most
    assert (attached_edges(20_000, m, generator(m)) == edges).all()


@pytest.mark.parametrize(("k", "p"), [(4, 0.0), (4, 0.3), (6, 1.0)])
def test_large_watts_strogatz_is_like_networkxs(k: int, p: float) -> None:
    nodes = 20_000
    edges = rewired_edges(nodes, k, p, generator(1))
    other = nx.watts_strogatz_graph(nodes, k, p, seed=2)
    found, wanted = degrees_of(nodes, edges), as_graph(other).degrees
    assert len(edges) == nodes * k // 2
    if p == 0:
        assert Graph.from_edges(nodes, edges) == as_graph(other)
        return
    assert alike(found, wanted) > 1e-3
    gaps = np.abs(edges[:, 0] - edges[:, 1])
    local = (np.minimum(gaps, nodes - gaps) <= k // 2).mean()
    assert local == pytest.approx(1 - p, abs=0.01)


@pytest.mark.parametrize(("nodes", "degree"), [(6, 2), (12, 5), (20_000, 3), (20_000, 8)])
def test_large_random_regular_has_equal_degrees(nodes: int, degree: int) -> None:
    for seed in range(20 if nodes < 100 else 1):
        edges = regular_edges(nodes, degree, generator(seed))
        assert (degrees_of(nodes, edges) == degree).all()
    if nodes > 100:
        gaps = np.abs(edges[:, 0] - edges[:, 1])
        assert np.minimum(gaps, nodes - gaps).mean() == pytest.approx(nodes / 4, rel=0.03)


@pytest.mark.parametrize(
    "source",
    [
        kinds.BarabasiAlbert(nodes=12_000, m=2),
        kinds.WattsStrogatz(nodes=12_000, k=4, p=0.2),
        kinds.RandomRegular(nodes=12_000, degree=3),
    ],
)
def test_large_ones_do_without_networkx(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdtrain.topology.kinds.networkx", None)
    assert source.draw(generator(3)) == source.draw(generator(3))
    assert source.draw(generator(3)) != source.draw(generator(4))
