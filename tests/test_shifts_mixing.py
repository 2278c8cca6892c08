"""Rows of S and of W, as the nodes compute them, against the oracle's matrices; and the adjoint's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtrain import reference
from fdtrain.errors import InputError
from fdtrain.graph import Graph, Neighbourhood, neighbourhoods
from fdtrain.layers.gcnn import gcnn_outline
from fdtrain.mixing import Laplacian, Metropolis, Mixing
from fdtrain.networks import ShiftNetwork
from fdtrain.partition import ExchangePlan, block
from fdtrain.schedule import build
from fdtrain.shifts import SHIFTS, check_shift, shift_row, strengths
from fdtrain.team import Team, in_threads
from fdtrain.wire import Payload, Wire

fixed = settings(derandomize=True, deadline=None, max_examples=60)


def connected(nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Positive directed weights, some links one-way, on a ring: every node hears somebody."""
    A = np.where(rng.random((nodes, nodes)) < 0.3, rng.uniform(0.1, 2.0, (nodes, nodes)), 0.0)
    ring = np.arange(nodes)
    A[ring, ring - 1] = rng.uniform(0.1, 2.0, nodes)
    np.fill_diagonal(A, 0.0)
    return A


def signed(nodes: int, density: float, rng: np.random.Generator) -> np.ndarray:
    A = np.where(rng.random((nodes, nodes)) < density, rng.normal(size=(nodes, nodes)), 0.0)
    np.fill_diagonal(A, 0.0)
    return A


def own_of(hood: Neighbourhood) -> np.ndarray:
    return np.repeat(np.arange(hood.num_nodes), hood.degrees)


def shift_matrices(graph: Graph, kind: str, ranks: int) -> tuple[np.ndarray, np.ndarray]:
    """S and Sᵀ, put together from the rows of the ranks' nodes."""
    S, St = np.zeros((2, graph.num_nodes, graph.num_nodes))
    hoods = neighbourhoods(graph, block(graph.num_nodes, ranks), ranks)
    strength = np.concatenate([strengths(hood) for hood in hoods])
    for hood in hoods:
        own, other = own_of(hood), strength[hood.indices]
        receivers = hood.ids[own]
        S[receivers, hood.indices], S[hood.ids, hood.ids] = shift_row(
            kind, strength[hood.ids], own, hood.weights, other
        )
        St[receivers, hood.indices], St[hood.ids, hood.ids] = shift_row(
            kind, strength[hood.ids], own, hood.reverse_weights, other
        )
    return S, St


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", SHIFTS)
def test_rows_are_the_oracles_and_the_adjoint_is_the_transpose(kind: str, seed: int, ranks: int) -> None:
    rng = np.random.default_rng(seed)
    A = connected(8, rng) if kind not in ("adjacency", "laplacian") else signed(8, 0.3, rng)
    graph = Graph.from_adjacency(A)
    S, St = shift_matrices(graph, kind, ranks)
    wanted = reference.shift_matrix(A, kind).toarray()
    assert not np.array_equal(wanted, wanted.T)
    np.testing.assert_allclose(S, wanted, rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(St, S.T)  # to the bit: one plan, mirrored
    u, v = rng.normal(size=(2, 8))
    assert abs(np.dot(S @ u, v) - np.dot(u, St @ v)) <= 1e-14 * np.linalg.norm(S) * np.linalg.norm(
        u
    ) * np.linalg.norm(v)


def test_path_by_hand() -> None:
    graph = Graph.from_edges(3, [[0, 1], [1, 2]])
    r = np.sqrt(0.5)
    for kind, wanted in {
        "adjacency": [[0, 1, 0], [1, 0, 1], [0, 1, 0]],
        "laplacian": [[1, -1, 0], [-1, 2, -1], [0, -1, 1]],
        "normalized_laplacian": [[1, -r, 0], [-r, 1, -r], [0, -r, 1]],
        "normalized_adjacency": [[0, r, 0], [r, 0, r], [0, r, 0]],
        "gcn": [[1 / 2, 6**-0.5, 0], [6**-0.5, 1 / 3, 6**-0.5], [0, 6**-0.5, 1 / 2]],
    }.items():
        np.testing.assert_allclose(shift_matrices(graph, kind, 2)[0], wanted, rtol=1e-15, atol=0)


def test_all_shifts_are_known() -> None:
    assert set(SHIFTS) == {"adjacency", "laplacian", "normalized_laplacian", "normalized_adjacency", "gcn"}


def test_strengths_do_not_depend_on_the_packing() -> None:
    A = signed(12, 0.6, np.random.default_rng(3)) * 1e8 + signed(12, 0.6, np.random.default_rng(4))
    np.fill_diagonal(A, 0.0)
    graph = Graph.from_adjacency(A)
    wanted = [sum((A[i, j] for j in graph.neighbours(i)), 0.0) for i in range(12)]
    for ranks in (1, 3, 12):
        hoods = neighbourhoods(graph, block(12, ranks), ranks)
        assert np.concatenate([strengths(hood) for hood in hoods]).tolist() == wanted


@pytest.mark.parametrize("kind", ["normalized_laplacian", "normalized_adjacency"])
def test_an_isolated_node_has_no_normalised_row(kind: str) -> None:
    with pytest.raises(InputError) as caught:
        check_shift(kind, np.array([2.0, 0.0, 0.0]), np.array([3, 7, 9]))
    assert str(caught.value) == (
        "model.shift: node 7 has weighted degree 0 (it hears nobody, or weights cancel), but "
        f"'{kind}' divides by the square root of the degree; use adjacency, laplacian or gcn, "
        "or a connected topology with positive weights"
    )


@pytest.mark.parametrize("kind", SHIFTS)
def test_negative_strengths_are_refused_where_roots_are_taken(kind: str) -> None:
    ids, strength = np.array([4, 5]), np.array([1.0, -1.0])
    if kind in ("adjacency", "laplacian"):
        check_shift(kind, strength, ids)
    else:
        with pytest.raises(InputError, match="node 5 has weighted degree -1, but") as caught:
            check_shift(kind, strength, ids)
        remedy = str(caught.value).partition(";")[2]
        assert "use adjacency or laplacian, or" in remedy  # gcn has no root of 1 − 1 either
        assert "gcn" not in remedy


@pytest.mark.parametrize("kind", ["adjacency", "laplacian", "gcn"])
def test_isolated_nodes_are_fine_without_a_root(kind: str) -> None:
    graph = Graph.from_edges(3, [[0, 2]])
    strength = np.array([1.0, 0.0, 1.0])
    check_shift(kind, strength, np.arange(3))
    S, _ = shift_matrices(graph, kind, 1)
    np.testing.assert_allclose(S, reference.shift_matrix(graph.adjacency(), kind).toarray(), rtol=1e-15)


def test_shift_rows_are_copies() -> None:
    weights = np.array([1.0, 2.0])
    edges, _ = shift_row("adjacency", np.array([3.0]), np.array([0, 0]), weights, np.ones(2))
    edges[:] = 0
    strength = np.array([3.0])
    _, diagonal = shift_row("laplacian", strength, np.array([0, 0]), weights, np.ones(2))
    diagonal[:] = 0
    assert weights.tolist() == [1, 2]
    assert strength.tolist() == [3]


SCHEDULE = build("inference", outline=gcnn_outline((1, 1), "receiver"), batch=1)


def mixing_matrix(graph: Graph, mixing: Mixing, ranks: int) -> np.ndarray:
    """W, as the ranks' nodes mix the rows of the identity matrix after their degrees have travelled."""
    nodes = graph.num_nodes
    hoods = neighbourhoods(graph, block(nodes, ranks), ranks)

    def work(team: Team) -> np.ndarray | None:
        hood = hoods[team.rank]
        wire = Wire(ExchangePlan.of(hood, team.rank), max(2, nodes))
        wiring = ShiftNetwork("adjacency").rewire(hood, wire, mixing, team.transport)
        layout = wire.layout(Payload("test", (("rows", nodes),)))
        layout.rows[: hood.num_nodes] = np.eye(nodes)[hood.ids]
        layout.exchange(team.transport)
        parts = team.control.gather((hood.ids, wiring.sums(SCHEDULE).mixing(layout.rows)))
        if parts is None:
            return None
        W = np.zeros((nodes, nodes))
        for ids, rows in parts:
            W[ids] = rows
        return W

    found: np.ndarray = in_threads(ranks, work)
    return found


@fixed
@given(st.integers(0, 2**32), st.integers(1, 10), st.floats(0, 1), st.sampled_from([1, 2, 4]))
def test_mixing_rows(seed: int, nodes: int, density: float, ranks: int) -> None:
    A = signed(nodes, density, np.random.default_rng(seed))  # weights do not count, the links do
    graph = Graph.from_adjacency(A)
    for mixing, kind, beta in ((Metropolis(), "metropolis", 0.0), (Laplacian(0.07), "laplacian", 0.07)):
        W = mixing_matrix(graph, mixing, min(ranks, nodes))
        np.testing.assert_allclose(
            W, reference.mixing_matrix(A, kind, beta).toarray(), rtol=1e-14, atol=1e-15
        )
        np.testing.assert_array_equal(W, W.T)
        np.testing.assert_allclose(W.sum(axis=0), 1.0, rtol=1e-14)
        np.testing.assert_allclose(W.sum(axis=1), 1.0, rtol=1e-14)
        linked = (A != 0) | (A.T != 0)
        np.testing.assert_array_equal((W != 0) & ~np.eye(nodes, dtype=bool), linked)
        np.testing.assert_array_equal(W, mixing_matrix(graph, mixing, 1))  # any packing, same bits
    metropolis = mixing_matrix(graph, Metropolis(), 1)
    assert (metropolis >= 0).all()
    assert (np.diag(metropolis) > 0).all()


def test_mixing_by_hand() -> None:
    graph = Graph.from_edges(4, [[0, 1], [0, 2], [0, 3], [1, 2]])
    t, q = 1 / 3, 1 / 4
    metropolis = [[q, q, q, q], [q, 1 - q - t, t, 0], [q, t, 1 - q - t, 0], [q, 0, 0, 1 - q]]
    np.testing.assert_allclose(mixing_matrix(graph, Metropolis(), 2), metropolis, rtol=1e-15)
    laplacian = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.8, 0.1, 0], [0.1, 0.1, 0.8, 0], [0.1, 0, 0, 0.9]]
    np.testing.assert_allclose(mixing_matrix(graph, Laplacian(0.1), 2), laplacian, rtol=1e-15)


def test_metropolis_averages_exactly_on_a_complete_graph() -> None:
    graph = Graph.from_adjacency(1 - np.eye(6))
    np.testing.assert_allclose(mixing_matrix(graph, Metropolis(), 3), 1 / 6, rtol=1e-15)
