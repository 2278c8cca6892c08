"""Who hosts whom, and what each rank exchanges with which peer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtrain.aggregate import NeighbourSum
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.partition import ExchangePlan, block

fixed = settings(derandomize=True, deadline=None, max_examples=100)


@fixed
@given(st.integers(1, 40).flatmap(lambda nodes: st.tuples(st.just(nodes), st.integers(1, nodes))))
def test_blocks_are_consecutive_and_even(size: tuple[int, int]) -> None:
    nodes, ranks = size
    owner = block(nodes, ranks)
    counts = np.bincount(owner, minlength=ranks)
    assert len(owner) == nodes
    assert len(counts) == ranks
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1
    assert (np.diff(owner) >= 0).all()


def test_blocks_by_hand() -> None:
    assert block(5, 1).tolist() == [0] * 5
    assert block(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert block(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]


@st.composite
def placed_graphs(draw: st.DrawFn) -> tuple[Graph, np.ndarray, int]:
    nodes, ranks = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    A = np.triu(rng.random((nodes, nodes)) < draw(st.floats(0, 1)), 1)
    return Graph.from_adjacency(A + A.T), rng.integers(0, ranks, nodes), ranks


@fixed
@given(placed_graphs())
def test_every_row_arrives_where_a_neighbour_waits_and_nowhere_else(
    case: tuple[Graph, np.ndarray, int],
) -> None:
    graph, owner, ranks = case
    hoods = neighbourhoods(graph, owner, ranks)
    plans = [ExchangePlan.of(hood, rank) for rank, hood in enumerate(hoods)]
    seen = [np.full(plan.seen, -1) for plan in plans]  # the global number of the node in each row
    for rows, hood in zip(seen, hoods, strict=True):
        rows[: hood.num_nodes] = hood.ids
    for rank, plan in enumerate(plans):
        assert rank not in [peer.rank for peer in plan.peers]
        for peer in plan.peers:
            (back,) = [p for p in plans[peer.rank].peers if p.rank == rank]
            sent = hoods[rank].ids[peer.rows]
            linked = [i for i in hoods[rank].ids if (owner[graph.neighbours(i)] == peer.rank).any()]
            assert sent.tolist() == linked  # each once, ascending, and nobody else
            assert len(seen[peer.rank][back.ghosts]) == len(sent)
            assert (seen[peer.rank][back.ghosts] == -1).all()  # ghosts of two peers do not overlap
            seen[peer.rank][back.ghosts] = sent
    for rank, (plan, hood, rows) in enumerate(zip(plans, hoods, seen, strict=True)):
        assert (plan.nodes, plan.seen) == (hood.num_nodes, len(rows))
        assert (rows >= 0).all()
        assert len(np.unique(rows)) == len(rows)
        assert rows[plan.columns].tolist() == hood.indices.tolist()
        assert hood.ids[plan.own].tolist() == graph.rows[np.isin(graph.rows, hood.ids)].tolist()
        assert plan.indptr.tolist() == hood.indptr.tolist()
        assert plan.out_degrees.tolist() == graph.degrees[hood.ids].tolist()
        remote = {int(owner[j]) for i in hood.ids for j in graph.neighbours(i)} - {rank}
        assert [peer.rank for peer in plan.peers] == sorted(remote)


def test_one_node_per_rank_has_its_neighbours_as_peers() -> None:
    graph = Graph.from_edges(5, [[0, 4], [2, 4], [1, 2]])
    hoods = neighbourhoods(graph, np.arange(5), 5)
    peers = [[peer.rank for peer in ExchangePlan.of(hood, rank).peers] for rank, hood in enumerate(hoods)]
    assert peers == [[4], [2], [1, 4], [], [0, 2]]


def test_plan_by_hand() -> None:
    # rank 0 hosts 0, 3, 4; rank 1 hosts 1; rank 2 hosts 2, 5: ghosts lie by rank, then by number
    graph = Graph.from_edges(6, [[0, 5], [0, 2], [3, 2], [4, 1], [0, 3]])
    plan = ExchangePlan.of(neighbourhoods(graph, np.array([0, 1, 2, 0, 0, 2]), 3)[0], 0)
    assert plan.seen == 6  # rows: 0, 3, 4 | 1 | 2, 5
    assert [(peer.rank, peer.rows.tolist(), peer.ghosts) for peer in plan.peers] == [
        (1, [2], slice(3, 4)),
        (2, [0, 1], slice(4, 6)),
    ]
    assert plan.columns.tolist() == [4, 1, 5, 0, 4, 3]  # 0: 2, 3, 5; 3: 0, 2; 4: 1
    assert plan.own.tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("ranks", [1, 3])
def test_without_links_there_is_nobody_to_talk_to(ranks: int) -> None:
    for rank, hood in enumerate(neighbourhoods(Graph.from_edges(3, []), block(3, ranks), ranks)):
        plan = ExchangePlan.of(hood, rank)
        assert plan.peers == ()
        assert plan.seen == plan.nodes == 3 // ranks


@pytest.mark.parametrize("ranks", [1, 2, 7])
def test_plans_and_sums_are_those_of_sorts(ranks: int) -> None:
    rng = np.random.default_rng(ranks)
    A = np.triu(rng.random((400, 400)) < 0.02, 1)
    graph, owner = Graph.from_adjacency(A + A.T), rng.integers(0, ranks, 400)
    for rank, hood in enumerate(neighbourhoods(graph, owner, ranks)):
        plan, n = ExchangePlan.of(hood, rank), hood.num_nodes
        remote = hood.owners != rank
        ghosts = np.unique(np.stack([hood.owners[remote], hood.indices[remote]]), axis=1)
        numbers = np.concatenate([hood.ids, ghosts[1]])
        assert plan.seen == len(numbers)
        assert (numbers[plan.columns] == hood.indices).all()
        assert [peer.rank for peer in plan.peers] == np.unique(ghosts[0]).tolist()
        for peer in plan.peers:
            assert (ghosts[0, peer.ghosts.start - n : peer.ghosts.stop - n] == peer.rank).all()
            assert peer.ghosts.stop - peer.ghosts.start == (ghosts[0] == peer.rank).sum()
            assert (peer.rows == np.unique(plan.own[hood.owners == peer.rank])).all()
        order = np.lexsort(
            (np.concatenate([hood.indices, hood.ids]), np.concatenate([plan.own, np.arange(n)]))
        )
        edges, diagonal = rng.random(len(hood.indices)), rng.random(n)
        found = NeighbourSum(plan, hood.ids, hood.indices).weigh(edges, diagonal)._csr
        assert (found[0] == np.concatenate([[0], np.cumsum(hood.degrees + 1)])).all()
        assert (found[1] == np.concatenate([plan.columns, np.arange(n)])[order]).all()
        assert (found[2] == np.concatenate([edges, diagonal])[order]).all()
