"""Graphs as sparse rows, and how they are cut into the ranks' neighbourhoods."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array

from fdtrain.errors import InputError
from fdtrain.graph import Graph, neighbourhoods

fixed = settings(derandomize=True, deadline=None, max_examples=60)


@st.composite
def adjacencies(draw: st.DrawFn) -> np.ndarray:
    """Directed weights of either sign, some links in one direction only, often nodes without any."""
    nodes = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    A = np.where(rng.random((nodes, nodes)) < draw(st.floats(0, 1)), rng.normal(size=(nodes, nodes)), 0.0)
    np.fill_diagonal(A, 0.0)
    return A


def test_by_hand() -> None:
    graph = Graph.from_edges(5, [[3, 1], [0, 3], [1, 0]], weights=[2.0, 5.0, 7.0])
    assert graph.indptr.tolist() == [0, 2, 4, 4, 6, 6]
    assert graph.indices.tolist() == [1, 3, 0, 3, 0, 1]
    assert graph.weights.tolist() == [7, 5, 7, 2, 5, 2]
    assert graph.reverse_weights.tolist() == [7, 5, 7, 2, 5, 2]
    assert graph.rows.tolist() == [0, 0, 1, 1, 3, 3]
    assert graph.degrees.tolist() == [2, 2, 0, 2, 0]
    assert graph.edges().tolist() == [[0, 1], [0, 3], [1, 3]]
    assert (graph.num_nodes, graph.num_edges, graph.components()) == (5, 3, 3)
    assert graph.neighbours(3).tolist() == [0, 1]
    assert graph.neighbours(2).tolist() == []


def test_one_way_link_by_hand() -> None:
    graph = Graph.from_adjacency([[0, 4, 0], [1, 0, 0], [9, 0, 0]])  # 2 hears 0, and 0 does not hear 2
    assert graph.indices.tolist() == [1, 2, 0, 0]
    assert graph.weights.tolist() == [4, 0, 1, 9]
    assert graph.reverse_weights.tolist() == [1, 9, 4, 0]
    assert graph.components() == 1  # the link is there, whatever it weighs in one direction


@fixed
@given(adjacencies(), st.sampled_from([np.array, csr_array, coo_array]))
def test_adjacency_goes_in_and_comes_out(A: np.ndarray, container: Any) -> None:
    graph = Graph.from_adjacency(container(A))
    np.testing.assert_array_equal(graph.adjacency().toarray(), A)
    pattern = (A != 0) | (A.T != 0)
    for i, row in enumerate(pattern):
        assert graph.neighbours(i).tolist() == np.flatnonzero(row).tolist()
    np.testing.assert_array_equal(graph.weights, A[graph.rows, graph.indices])
    np.testing.assert_array_equal(graph.reverse_weights, A[graph.indices, graph.rows])
    np.testing.assert_array_equal(graph.degrees, pattern.sum(axis=1))
    np.testing.assert_array_equal(graph.edges(), np.argwhere(np.triu(pattern)))
    assert graph.weights.dtype == np.float64
    assert graph.indices.dtype == graph.indptr.dtype == np.int64


@fixed
@given(adjacencies())
def test_edges_make_the_same_graph_in_any_order_and_direction(A: np.ndarray) -> None:
    graph = Graph.from_adjacency(np.triu(A) + np.triu(A).T)
    edges = graph.edges()
    weights = graph.adjacency().toarray()[edges[:, 0], edges[:, 1]]
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(edges))
    turned = np.where(rng.random((len(edges), 1)) < 0.5, edges[:, ::-1], edges)
    assert Graph.from_edges(len(A), turned[shuffled], weights[shuffled]) == graph


def test_duplicate_entries_are_added_and_what_cancels_is_no_link() -> None:
    given_ = coo_array(([1.0, 2.0, 5.0, -5.0], ([0, 0, 2, 2], [1, 1, 0, 0])), shape=(3, 3))
    graph = Graph.from_adjacency(given_)
    assert graph.adjacency().toarray().tolist() == [[0, 3, 0], [0, 0, 0], [0, 0, 0]]
    assert graph.edges().tolist() == [[0, 1]]
    assert given_.data.tolist() == [1, 2, 5, -5]  # what was given stays as it was


def test_equality_sees_weights_pattern_and_size() -> None:
    graph = Graph.from_edges(3, [[0, 1]])
    assert graph == Graph.from_edges(3, [[1, 0]])
    assert graph != Graph.from_edges(3, [[0, 1]], [2.0])
    assert graph != Graph.from_edges(3, [[0, 2]])
    assert graph != Graph.from_edges(4, [[0, 1]])
    assert graph != "graph"
    with pytest.raises(TypeError, match="unhashable"):
        hash(graph)


def test_smallest_graphs() -> None:
    alone = Graph.from_edges(1, [])
    assert (alone.num_nodes, alone.num_edges, alone.components()) == (1, 0, 1)
    assert alone.edges().shape == (0, 2)
    assert Graph.from_edges(3, np.zeros((0, 2), dtype=int)).components() == 3
    assert Graph.from_adjacency([[0.0]]) == alone


@pytest.mark.parametrize(
    ("nodes", "edges", "weights", "message"),
    [
        (3, [[0, 1], [1, 2]], [1j, 1.0], "weights: must hold real numbers, found complex128"),
        (3, [[0, 1], [1, 2]], ["1", "2"], "weights: must hold real numbers, found <U1"),
        (3, [[0, 1], [1, 2]], [[1.0], [2.0]], r"weights: must have the shape \[M\], found \[2, 1\]"),
        (3, [[0, 1], [1, 2]], [[1.0], [2.0, 3.0]], "weights: must be an array of numbers"),
        (3, [[0, 1]], [np.longdouble("1e400")], r"edge \(0, 1\) has weight inf"),
        (0, [], None, "at least 1 node, found 0"),
        (-1, [], None, "at least 1 node, found -1"),
        (3, [[0, 1], [1, 3]], None, r"edge \(1, 3\) names a node outside 0 … 2"),
        (3, [[0, 1], [-1, 2]], None, r"edge \(-1, 2\) names a node outside 0 … 2"),
        (3, [[0, 1], [2, 2]], None, r"edge \(2, 2\) is a self-loop"),
        (3, [[0, 1], [1, 2], [0, 1]], None, r"edge \(0, 1\) is listed more than once"),
        (3, [[0, 2], [1, 2], [2, 1]], None, r"edge \(1, 2\) is listed more than once"),
        (3, [[0, 1], [1, 2]], [1.0], "2 edges but 1 weights"),
        (3, [[0, 1], [1, 2]], [1.0, 0.0], r"edge \(1, 2\) has weight 0"),
        (3, [[0, 1], [1, 2]], [np.nan, 1.0], r"edge \(0, 1\) has weight nan"),
        (3, [[0, 1], [1, 2]], [1.0, -np.inf], r"edge \(1, 2\) has weight -inf"),
    ],
)
def test_edges_that_make_no_graph(nodes: int, edges: Any, weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Graph.from_edges(nodes, edges, weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.zeros((2, 3)), r"square matrix, found shape \(2, 3\)"),
        (np.zeros(4), r"square matrix, found shape \(4,\)"),
        ([[0, np.nan], [1, 0]], "every entry must be finite"),
        ([[0, 1], [np.inf, 0]], "every entry must be finite"),
        ([[0, 1], [1, 0.5]], "node 1 has a self-loop"),
        ([[0, 1j], [1, 0]], "must hold real numbers, found complex128"),
        (csr_array(np.array([[0, 1j], [1, 0]])), "must hold real numbers, found complex128"),
        ([[0, "a"], [1, 0]], "must hold real numbers, found <U"),
        ([[0, None], [1, 0]], "must hold real numbers, found object"),
        ([[0, 1], [1]], "must be an array of numbers"),
        (np.array([[0, np.longdouble("1e400")], [1, 0]]), "every entry must be finite"),
        (5.0, r"square matrix, found shape \(\)"),
    ],
)
def test_matrices_that_make_no_graph(A: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Graph.from_adjacency(A)
    assert "\n" not in str(caught.value)


def test_no_graph_without_nodes() -> None:
    with pytest.raises(InputError, match="at least 1 node"):
        Graph.from_adjacency(np.zeros((0, 0)))


@pytest.mark.parametrize(
    "edges",
    [
        [[0.7, 1.2]],
        [[np.nan, 1.0]],
        [[0, 1, 2], [3, 4, 5]],
        [0, 1],
        [[[0, 1]]],
        [[0, 1], [2]],
        [["0", "1"]],
        [[False, True]],
        [[0, 2**70]],
        np.zeros((0, 3), dtype=int),
    ],
)
def test_edges_are_pairs_of_whole_numbers(edges: Any) -> None:
    with pytest.raises(InputError, match="edges: must be ") as caught:
        Graph.from_edges(6, edges)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["i1", ">i4", "u8"])
def test_edges_of_any_integers(dtype: str) -> None:
    assert Graph.from_edges(3, np.array([[0, 1], [2, 1]], dtype=dtype)) == Graph.from_edges(
        3, [(0, 1), (1, 2)]
    )


@pytest.mark.parametrize(
    ("container", "dtype"),
    [(csr_array, dtype) for dtype in ("?", "i1", "u8", "f4", np.longdouble)]
    + [(np.array, dtype) for dtype in ("?", "i1", "u8", "f2", ">f4", ">f8", np.longdouble)],
)
def test_adjacency_of_any_real_numbers(container: Any, dtype: Any) -> None:
    A = container(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=dtype))
    assert A.dtype == dtype
    assert Graph.from_adjacency(A) == Graph.from_edges(3, [(0, 1), (1, 2)])


@pytest.mark.parametrize("labels", [("Bern",), ("Bern", "Genf", "Zug"), ()])
def test_every_node_has_a_label_or_none_has(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"labels: need one for each of 2 nodes, found {len(labels)}"):
        Graph.from_edges(2, [[0, 1]], labels=labels)
    with pytest.raises(InputError, match="labels: need one for each of 2 nodes"):
        Graph.from_adjacency([[0, 1], [1, 0]], labels=labels)


@fixed
@given(adjacencies(), st.data())
def test_neighbourhoods_are_the_graph_cut_into_rows(A: np.ndarray, data: st.DataObject) -> None:
    graph = Graph.from_adjacency(A)
    ranks = data.draw(st.integers(1, 5))
    owner = np.array(data.draw(st.lists(st.integers(0, ranks - 1), min_size=len(A), max_size=len(A))))
    cuts = neighbourhoods(graph, owner, ranks)
    assert len(cuts) == ranks
    assert sorted(np.concatenate([cut.ids for cut in cuts])) == list(range(len(A)))
    for rank, cut in enumerate(cuts):
        assert cut.ids.tolist() == np.flatnonzero(owner == rank).tolist()
        assert cut.num_nodes == len(cut.ids)
        np.testing.assert_array_equal(cut.degrees, graph.degrees[cut.ids])
        for k, i in enumerate(cut.ids):
            part = slice(cut.indptr[k], cut.indptr[k + 1])
            j = cut.indices[part]
            assert j.tolist() == graph.neighbours(i).tolist()
            assert cut.weights[part].tolist() == A[i, j].tolist()
            assert cut.reverse_weights[part].tolist() == A[j, i].tolist()
            assert cut.owners[part].tolist() == owner[j].tolist()


def random_edges(nodes: int, count: int, seed: int) -> np.ndarray:
    """About so many edges, in any order and direction."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, nodes, (count, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    _, first = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
    return pairs[rng.permutation(first)]


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_are_those_of_a_sort(weighted: bool) -> None:
    edges = random_edges(3000, 20_000, 1)
    values = np.random.default_rng(2).normal(size=len(edges)) if weighted else np.ones(len(edges))
    graph = Graph.from_edges(3000, edges, values if weighted else None)
    rows, cols = np.concatenate([edges, edges[:, ::-1]]).T
    order = np.lexsort((cols, rows))
    assert (graph.rows == rows[order]).all()
    assert (graph.indices == cols[order]).all()
    assert (graph.weights == np.tile(values, 2)[order]).all()
    one_way = csr_array((np.random.default_rng(3).normal(size=len(edges)), edges.T), shape=(3000, 3000))
    graph = Graph.from_adjacency(one_way)
    assert (graph.reverse_weights == graph.weights[np.lexsort((graph.rows, graph.indices))]).all()
    assert (graph.reverse_weights != graph.weights).any()


def test_the_first_of_two_edges_listed_twice_is_named() -> None:
    edges = np.concatenate([random_edges(3000, 20_000, 1), [[7, 7 + 1], [8, 7], [2500, 2400], [2400, 2500]]])
    with pytest.raises(InputError, match=r"graph: edge \(7, 8\) is listed more than once; keep one"):
        Graph.from_edges(3000, edges)
