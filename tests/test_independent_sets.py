"""Independent sets of large weight, against their definitions in plain loops and all subsets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.tasks.independent_sets import (
    is_independent,
    local_greedy,
    minimum_degree_greedy,
    optimum,
    utility,
)
from fdtrain.topology.sources import ErdosRenyi

Array = NDArray[np.float64]
METHODS = [local_greedy, minimum_degree_greedy, optimum]

fixed = settings(derandomize=True, deadline=None, max_examples=80)
few = settings(derandomize=True, deadline=None, max_examples=40)


@st.composite
def cases(draw: st.DrawFn, least: int = -3) -> tuple[Graph, Array]:
    """Graphs with isolated vertices, and weights [B, V] with ties and zeros."""
    nodes = draw(st.integers(1, 8))
    pairs = list(itertools.combinations(range(nodes), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    number = st.one_of(st.integers(least, 3).map(float), st.floats(least, 3, width=16).map(abs))
    weights = draw(st.lists(st.lists(number, min_size=nodes, max_size=nodes), min_size=1, max_size=10))
    return Graph.from_edges(nodes, edges), np.array(weights)


def random_graph(nodes: int, mean_degree: float, item: int = 0) -> Graph:
    config = ErdosRenyi(nodes=nodes, mean_degree=mean_degree, connected=False)
    return config.draw(rng.generator(7, "topology", item=item))


def plain_local_greedy(graph: Graph, w: Array) -> list[bool]:
    """Round by round, every vertex by itself: who beats all undecided neighbours joins, and they leave."""
    state = ["undecided"] * graph.num_nodes
    while "undecided" in state:
        before = list(state)
        for i in range(graph.num_nodes):
            rivals = [j for j in graph.neighbours(i) if before[j] == "undecided"]
            if before[i] == "undecided" and all(w[i] > w[j] or (w[i] == w[j] and i < j) for j in rivals):
                state[i] = "in"
        for i in range(graph.num_nodes):
            if state[i] == "in":
                for j in graph.neighbours(i):
                    assert state[j] != "in"
                    state[j] = "out"
    return [one == "in" for one in state]


def plain_greedy(graph: Graph, score: Callable[[int, set[int]], tuple[float, int]], w: Array) -> list[bool]:
    """One vertex after the other, the best by `score` of what remains; it leaves with its neighbours."""
    remaining, chosen = set(range(graph.num_nodes)), [False] * len(w)
    while remaining:
        best = max(remaining, key=lambda i: score(i, remaining))
        chosen[best] = True
        remaining -= {best, *map(int, graph.neighbours(best))}
    return chosen


def subsets(graph: Graph) -> NDArray[np.bool_]:
    """All independent sets, by trying every subset."""
    found = []
    edges = graph.edges().tolist()
    for chosen in itertools.product([False, True], repeat=graph.num_nodes):
        if not any(chosen[i] and chosen[j] for i, j in edges):
            found.append(chosen)
    return np.array(found)


@fixed
@given(case=cases())
def test_local_greedy_is_the_plain_loop_and_sequential_greedy(case: tuple[Graph, Array]) -> None:
    graph, weights = case
    chosen = local_greedy(graph, weights)
    assert (chosen.shape, chosen.dtype) == (weights.shape, np.dtype(bool))
    for w, found in zip(weights, chosen, strict=True):
        assert found.tolist() == plain_local_greedy(graph, w)
        assert found.tolist() == plain_greedy(graph, lambda i, _, w=w: (w[i], -i), w)  # type: ignore[misc]
    assert is_independent(graph, chosen)
    assert chosen[:, graph.degrees == 0].all()
    np.testing.assert_array_equal(
        local_greedy(graph, np.arctan(weights) - 5), chosen
    )  # only the order counts


def test_local_greedy_by_hand() -> None:
    path = Graph.from_edges(4, [(0, 1), (1, 2), (2, 3)])
    weights = [[1, 2, 3, 4], [1, 1, 1, 1], [0, 0, -0.0, 0], [-4, -1, -2, -3], [0, 1, 1, 0], [2, 1, 1, 3]]
    expected = ["0101", "1010", "1010", "0101", "0101", "1001"]
    chosen = local_greedy(path, weights)
    assert ["".join(str(int(one)) for one in row) for row in chosen] == expected
    assert local_greedy(Graph.from_edges(3, []), [[-1, 0, 1]]).all()
    assert local_greedy(Graph.from_edges(1, []), [[-1.0]]).tolist() == [[True]]


@pytest.mark.parametrize("batch", [0, 1, 7, 8, 9, 100])
def test_samples_do_not_know_of_each_other(batch: int) -> None:
    graph = random_graph(40, 6)
    weights = np.random.default_rng(batch).normal(size=(batch, 40)).round(1)
    chosen = local_greedy(graph, weights)
    greedy = minimum_degree_greedy(graph, abs(weights))
    assert chosen.shape == greedy.shape == (batch, 40)
    for k in range(batch):
        assert chosen[k].tolist() == plain_local_greedy(graph, weights[k])
        np.testing.assert_array_equal(
            greedy[k : k + 1], minimum_degree_greedy(graph, abs(weights[k : k + 1]))
        )


def test_weights_far_apart() -> None:
    graph = Graph.from_edges(3, [(0, 1), (1, 2)])
    for w in ([1e308, -1e308, 1e-320], [5e-324, 0.0, -5e-324], [1.0, np.nextafter(1, 2), 1.0]):
        assert local_greedy(graph, [w])[0].tolist() == plain_local_greedy(graph, np.array(w))


@fixed
@given(case=cases(least=0))
def test_minimum_degree_greedy_is_the_plain_loop_and_keeps_its_promise(case: tuple[Graph, Array]) -> None:
    graph, weights = case
    chosen = minimum_degree_greedy(graph, weights)
    assert (chosen.shape, chosen.dtype) == (weights.shape, np.dtype(bool))
    assert is_independent(graph, chosen)
    for w, found in zip(weights, chosen, strict=True):

        def score(i: int, remaining: set[int], w: Array = w) -> tuple[float, int]:
            return w[i] / (len(remaining & {*map(int, graph.neighbours(i))}) + 1), -i

        assert found.tolist() == plain_greedy(graph, score, w)
    promised = (weights / (graph.degrees + 1)).sum(axis=1)
    assert (utility(weights, chosen) >= promised - 1e-12).all()


def test_minimum_degree_greedy_by_hand() -> None:
    star = Graph.from_edges(4, [(0, 1), (0, 2), (0, 3)])
    weights = np.array([[1.9, 1, 1, 1], [4.5, 1, 1, 1], [2, 1, 1, 1]])  # 2 / 4 against 1 / 2 is a tie
    assert minimum_degree_greedy(star, weights).tolist() == [
        [False, True, True, True],
        [True, False, False, False],
        [True, False, False, False],
    ]
    assert local_greedy(star, weights)[:, 0].all()
    # 0 goes first and takes 1 with it, whose neighbour 2 then has degree 3 instead of 4 and beats 5.
    graph = Graph.from_edges(8, [(0, 1), (1, 2), (2, 3), (2, 4), (5, 6), (5, 7), (2, 5)])
    weights = np.array([[9.0, 0, 4, 0, 0, 3.5, 0, 0]])
    assert np.flatnonzero(minimum_degree_greedy(graph, weights)[0]).tolist() == [0, 2, 6, 7]


@few
@given(case=cases())
def test_optimum_is_the_best_of_all_subsets(case: tuple[Graph, Array]) -> None:
    graph, weights = case
    chosen = optimum(graph, weights)
    assert (chosen.shape, chosen.dtype) == (weights.shape, np.dtype(bool))
    assert is_independent(graph, chosen)
    best = (weights @ subsets(graph).T).max(axis=1)
    np.testing.assert_allclose(utility(weights, chosen), best, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e300])
def test_optimum_tells_close_weights_apart_at_any_scale(scale: float) -> None:
    """Against networkx, whose cliques of the complement have integer weights."""
    for item in range(3):
        graph = random_graph(60, 12, item)
        whole = 1_000_000 + np.random.default_rng(item).integers(0, 30, 60)
        others = nx.complement(nx.Graph(graph.edges().tolist()))
        nx.set_node_attributes(others, {i: int(whole[i]) for i in others}, "weight")
        assert len(others) == 60
        expected = nx.max_weight_clique(others)[1]
        assert int(whole @ optimum(graph, whole[None] * scale)[0]) == expected


def test_optimum_without_weights_or_edges() -> None:
    graph = Graph.from_edges(3, [(0, 1)])
    assert is_independent(graph, optimum(graph, np.zeros((2, 3))))
    assert optimum(Graph.from_edges(3, []), [[1, -1, 2]]).tolist() == [[True, False, True]]
    assert optimum(graph, [[-1, -2, -3]]).tolist() == [[False, False, False]]
    assert optimum(graph, np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_edges_do_not_count(method: Callable[[Graph, Any], NDArray[np.bool_]]) -> None:
    plain = random_graph(12, 3)
    strengths = np.random.default_rng(1).normal(size=len(plain.indices)).round()  # asymmetric, some are 0
    weighted = Graph(plain.indptr, plain.indices, strengths)
    weights = np.random.default_rng(2).random((20, 12))
    np.testing.assert_array_equal(method(weighted, weights), method(plain, weights))


def test_no_method_beats_the_optimum() -> None:
    graph = random_graph(30, 5)
    weights = np.random.default_rng(0).random((10, 30))
    best = utility(weights, optimum(graph, weights))
    for method in (local_greedy, minimum_degree_greedy):
        found = utility(weights, method(graph, weights))
        assert (found <= best + 1e-9).all()
        assert (found < best - 1e-3).any()


def test_the_time_limit_is_told() -> None:
    graph = random_graph(300, 25)
    weights = np.random.default_rng(0).random((1, 300))
    with pytest.raises(InputError) as caught:
        optimum(graph, weights, time_limit=0.05)
    assert str(caught.value) == (
        f"optimum: sample 0 on 300 vertices and {graph.num_edges} edges is not solved within 0.05 s; "
        "give it a longer time_limit, or a smaller or sparser graph"
    )


@fixed
@given(case=cases(), bits=st.integers(0, 2**80 - 1))
def test_utility_and_independence_by_definition(case: tuple[Graph, Array], bits: int) -> None:
    graph, weights = case
    chosen = np.array([bits >> k & 1 for k in range(weights.size)], dtype=bool).reshape(weights.shape)
    for w, some, total in zip(weights, chosen, utility(weights, chosen), strict=True):
        assert total == pytest.approx(sum(w[i] for i in range(len(w)) if some[i]), abs=1e-12)
    conflicts = [(i, j) for some in chosen for i, j in graph.edges() if some[i] and some[j]]
    assert is_independent(graph, chosen) == (not conflicts)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_none(method: Callable[[Graph, Any], NDArray[np.bool_]]) -> None:
    graph = Graph.from_edges(3, [(0, 1)])
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError) as caught:
            method(graph, [[1, 2, 3], [1, bad, 3]])
        assert str(caught.value) == f"weights: must be finite, found {bad} at vertex 1 of sample 1"
    for shape in ((3,), (2, 4), (3, 2), (1, 2, 3)):
        with pytest.raises(InputError) as caught:
            method(graph, np.ones(shape))
        assert str(caught.value) == f"weights: must have the shape [B, 3], found {list(shape)}"


def test_minimum_degree_greedy_refuses_negative_weights() -> None:
    with pytest.raises(InputError) as caught:
        minimum_degree_greedy(Graph.from_edges(3, [(0, 1)]), [[0.0, 1, 2], [1, 2, -0.5]])
    assert str(caught.value) == (
        "weights: must be at least 0, found -0.5 at vertex 2 of sample 1; "
        "GWMIN is for weights that are not negative"
    )
