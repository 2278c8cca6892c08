"""The neighbours' sum: the same bits as the plain loop, and an adjoint for every exchange."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtrain.aggregate import NeighbourSum
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.partition import ExchangePlan, block
from fdtrain.team import Team, in_threads
from fdtrain.wire import Payload, Wire

fixed = settings(derandomize=True, deadline=None, max_examples=80)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-300, -1e-150, 1e150, -1e150, 1 / 3, -1e16, 1e16, 5e-324]


def random_graph(nodes: int, density: float, rng: np.random.Generator) -> Graph:
    A = np.where(rng.random((nodes, nodes)) < density, rng.normal(size=(nodes, nodes)), 0.0)
    np.fill_diagonal(A, 0.0)
    return Graph.from_adjacency(A)


def wide(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers whose sums round, cancel and vanish: a wide range of exponents, and special values."""
    numbers = rng.choice([-1.0, 1.0], shape) * np.exp2(rng.uniform(-60, 60, shape))
    return np.where(rng.random(shape) < 0.4, rng.choice(SPECIAL, shape), numbers)


def bits(array: np.ndarray) -> list[int]:
    return np.ascontiguousarray(array).view(np.int64).reshape(-1).tolist()


def alone(graph: Graph, node: int) -> tuple[NeighbourSum, np.ndarray]:
    """The sum of a node that is by itself on its rank, and the global numbers of the rows that it sees."""
    hood = neighbourhoods(graph, np.where(np.arange(graph.num_nodes) == node, 0, 1), 2)[0]
    plan = ExchangePlan.of(hood, 0)
    return NeighbourSum(plan, hood.ids, hood.indices), np.concatenate([hood.ids, hood.indices])


@fixed
@given(st.integers(0, 2**32), st.integers(2, 10), st.floats(0, 1), st.sampled_from([1, 2, 3, 8]))
def test_sums_have_the_bits_of_the_plain_loop(seed: int, nodes: int, density: float, width: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(nodes, density, rng)
    edges, diagonal = wide(rng, len(graph.indices)), wide(rng, nodes)
    field = wide(rng, nodes, 2 * width + 1)[:, 1::2]  # not contiguous, as a field within a message is
    (hood,) = neighbourhoods(graph, np.zeros(nodes, dtype=int), 1)
    together = NeighbourSum(ExchangePlan.of(hood, 0), hood.ids, hood.indices).weigh(edges, diagonal)(field)
    assert together.shape == (nodes, width)
    for i in range(nodes):
        row = slice(graph.indptr[i], graph.indptr[i + 1])
        weights = {int(j): w for j, w in zip(graph.indices[row], edges[row], strict=True)} | {i: diagonal[i]}
        plain = np.zeros(width)
        for j in sorted(weights):  # one after another, by global number, the node's own among them
            plain = plain + weights[j] * field[j]
        kernel, seen = alone(graph, i)
        single = kernel.weigh(edges[row], diagonal[i : i + 1])(field[seen])
        assert single.shape == (1, width)
        assert bits(single) == bits(plain)
        assert bits(together[i]) == bits(plain)


def test_a_sum_of_negative_zeros_is_positive_zero() -> None:
    graph = Graph.from_edges(2, [[0, 1]])
    kernel, _ = alone(graph, 0)
    rows = np.array([[-0.0], [-0.0]])
    assert bits(kernel.weigh(np.ones(1), np.ones(1))(rows)) == bits(np.zeros((1, 1)))
    (hood,) = neighbourhoods(graph, np.zeros(2, dtype=int), 1)
    both = NeighbourSum(ExchangePlan.of(hood, 0), hood.ids, hood.indices).weigh(np.ones(2), np.ones(2))
    assert bits(both(rows)) == bits(np.zeros((2, 1)))


def test_rows_are_not_written_to() -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(5, 1.0, rng)
    kernel, _ = alone(graph, 2)
    rows = rng.normal(size=(5, 3))
    before = rows.copy()
    first = kernel.weigh(rng.normal(size=4), np.ones(1))
    np.testing.assert_array_equal(first(rows), first(rows))
    np.testing.assert_array_equal(rows, before)


def exchanged(graph: Graph, rows: np.ndarray, ranks: int, owner: np.ndarray, *, adjoint: bool) -> np.ndarray:
    """(A + I/2) rows, or its adjoint, with the rows travelling between the ranks as messages."""
    hoods = neighbourhoods(graph, owner, ranks)

    def work(team: Team) -> np.ndarray | None:
        hood = hoods[team.rank]
        plan = ExchangePlan.of(hood, team.rank)
        wire = Wire(plan, rows.shape[1])
        layout = wire.layout(Payload("train", (("features", rows.shape[1]),)))
        layout.fields[0][: plan.nodes] = rows[hood.ids]
        layout.exchange(team.transport)
        weigh = NeighbourSum(plan, hood.ids, hood.indices).weigh
        weights = hood.reverse_weights if adjoint else hood.weights
        parts = team.control.gather(weigh(weights, np.full(plan.nodes, 0.5))(layout.fields[0]))
        if parts is None:
            return None
        total = np.empty_like(rows)
        for hood, part in zip(hoods, parts, strict=True):
            total[hood.ids] = part
        return total

    result: np.ndarray = in_threads(ranks, work)
    return result


def scattered(nodes: int, ranks: int) -> np.ndarray:
    return np.random.default_rng(nodes).permutation(block(nodes, ranks))


@pytest.mark.parametrize("owners", [block, scattered])
@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
@pytest.mark.parametrize("density", [0.15, 0.5, 1.0])
def test_every_exchange_has_an_adjoint(
    density: float, ranks: int, owners: Callable[[int, int], np.ndarray]
) -> None:
    rng = np.random.default_rng(int(100 * density) + ranks)
    graph = random_graph(9, density, rng)
    S = graph.adjacency().toarray() + np.eye(9) / 2
    assert not np.array_equal(S, S.T)
    u, v = rng.normal(size=(2, 9, 4))
    owner = owners(9, ranks)
    Su = exchanged(graph, u, ranks, owner, adjoint=False)
    Stv = exchanged(graph, v, ranks, owner, adjoint=True)
    assert abs(np.vdot(Su, v) - np.vdot(u, Stv)) <= 1e-13 * np.linalg.norm(Su) * np.linalg.norm(v)
    np.testing.assert_allclose(Su, S @ u, rtol=0, atol=1e-13)
    np.testing.assert_allclose(Stv, S.T @ v, rtol=0, atol=1e-13)


def test_sums_are_added_to_what_is_there_and_read_anew() -> None:
    rng = np.random.default_rng(1)
    graph = random_graph(6, 0.5, rng)
    (hood,) = neighbourhoods(graph, np.zeros(6, dtype=int), 1)
    weigh = NeighbourSum(ExchangePlan.of(hood, 0), hood.ids, hood.indices).weigh
    sums = weigh(hood.weights, np.ones(6))
    rows, out = rng.normal(size=(6, 3)), np.zeros((6, 3))
    add = sums.into(rows, out)
    for _ in range(2):
        out.fill(0.0)
        add()
        assert bits(out) == bits(sums(rows))
        rows[...] = rng.normal(size=(6, 3))
    before = out.copy()
    rows[...] = 0.0
    add()
    assert out.tolist() == before.tolist()
    assert sums.same_as(weigh(hood.weights.copy(), np.ones(6)))
    assert not sums.same_as(weigh(hood.reverse_weights, np.ones(6)))


@pytest.mark.parametrize(
    ("rows", "out"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2))),
        (np.zeros((4, 2)), np.zeros((5, 2))),
        (np.zeros((4, 2)), np.zeros((4, 3))),
        (np.zeros((4, 4))[:, ::2], np.zeros((4, 2))),
        (np.zeros((4, 2)), np.zeros((2, 4)).T),
    ],
)
def test_compiled_code_is_given_no_array_that_does_not_fit(rows: np.ndarray, out: np.ndarray) -> None:
    (hood,) = neighbourhoods(Graph.from_edges(4, [[0, 1]]), np.zeros(4, dtype=int), 1)
    sums = NeighbourSum(ExchangePlan.of(hood, 0), hood.ids, hood.indices).weigh(np.ones(2), np.ones(4))
    with pytest.raises(ValueError, match="need contiguous"):
        sums.into(rows, out)


def fresh(program: str) -> None:
    """Run `program` in an interpreter of its own."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


SUMS = """
import numpy as np
kernel = _load_sparsetools().csr_matvecs
out = np.zeros(4)
kernel(2, 2, 2, np.array([0, 1, 2]), np.array([1, 0]), np.array([2.0, 3.0]), np.arange(4.0), out)
assert out.tolist() == [4, 6, 0, 3], out
"""


@pytest.mark.parametrize(
    "imports",
    [
        "from fdtrain.aggregate import _load_sparsetools",
        "import scipy.sparse; from fdtrain.aggregate import _load_sparsetools",
        "from fdtrain.aggregate import _load_sparsetools; import scipy.sparse",
    ],
)
def test_the_kernel_loads_with_and_without_scipy_sparse(imports: str) -> None:
    multiply = "assert (scipy.sparse.eye_array(2).tocsr() @ np.ones((2, 2)) == 1).all()"
    fresh(f"{imports}\n{SUMS}{multiply if 'scipy.sparse' in imports else ''}")


def test_ranks_start_light() -> None:
    heavy = ("scipy.sparse", "networkx", "pydantic", "yaml", "rich", "matplotlib")
    fresh(
        f"import sys, fdtrain.engine\nloaded = sys.modules.keys() & set({heavy})\nassert not loaded, loaded"
    )
