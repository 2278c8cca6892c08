"""The local greedy solver over messages against sequential greedy choice and the oracle, on many small graphs.

Run as a script, under mpirun, it makes the same comparisons over real MPI.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from commands import mpirun, needs_mpi
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.ledger import Ledger
from fdtrain.local_greedy import LocalGreedy
from fdtrain.partition import ExchangePlan, block
from fdtrain.team import Team, in_threads

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Generator = np.random.Generator


class Instance(NamedTuple):
    """A graph, and the weights [V, w] of samples that share their messages."""

    graph: Graph
    weights: Array


class Found(NamedTuple):
    """What one rank has to say of an instance."""

    ids: NDArray[np.int64]
    chosen: Flags  # [n, w]
    ledger: Ledger

    @property
    def rounds(self) -> int:
        """Those of states in which the rank took part."""
        (rounds,) = self.ledger.talks["decide", "states"]
        return rounds


# --- instances ---


def sparse(V: int, rng: Generator) -> Graph:
    upper = np.argwhere(np.triu(rng.random((V, V)) < rng.uniform(0, 0.5), 1))
    return Graph.from_edges(V, upper.reshape(-1, 2))


def path(V: int, rng: Generator) -> Graph:
    return Graph.from_edges(V, np.stack([np.arange(V - 1), np.arange(1, V)], axis=1))


def complete(V: int, rng: Generator) -> Graph:
    return Graph.from_edges(V, np.argwhere(np.triu(np.ones((V, V)), 1)).reshape(-1, 2))


def star(V: int, rng: Generator) -> Graph:
    others = np.delete(np.arange(V), hub := int(rng.integers(V)))
    return Graph.from_edges(V, np.stack([np.full(V - 1, hub), others], axis=1))


def islands(V: int, rng: Generator) -> Graph:
    """A path beside vertices without a neighbour."""
    long = max(1, V // 2)
    return Graph.from_edges(V, path(long, rng).edges())


GRAPHS: list[Callable[[int, Generator], Graph]] = [sparse, sparse, path, complete, star, islands]
WEIGHTS: list[Callable[[tuple[int, int], Generator], Array]] = [
    lambda shape, rng: rng.normal(size=shape),  # some of them negative
    lambda shape, rng: rng.integers(0, 3, shape).astype(float),  # ties, and 0
    lambda shape, rng: rng.integers(-1, 2, shape) * 0.5,
    lambda shape, rng: np.zeros(shape) * rng.choice([-1.0, 1.0], shape),  # 0 and −0
    lambda shape, rng: np.cumsum(rng.random(shape), axis=0),  # grow along a path
    lambda shape, rng: -np.cumsum(rng.random(shape), axis=0),
    lambda shape, rng: np.full(shape, -2.0),
]


def instances(count: int, seed: int = 0) -> list[Instance]:
    rng, made = np.random.default_rng(seed), []
    for number in range(count):
        V, w = int(rng.integers(1, 13)), int(rng.integers(1, 4))
        graph = GRAPHS[number % len(GRAPHS)](V, rng)
        made.append(Instance(graph, WEIGHTS[number % len(WEIGHTS)]((V, w), rng)))
    return made


# --- solving ---


def solve(team: Team, given: Sequence[Instance]) -> list[Found]:
    """This rank's part of all instances, one after another: nobody waits between them for ranks that are not ready."""
    found = []
    for graph, weights in given:
        hood = neighbourhoods(graph, block(graph.num_nodes, team.size), team.size)[team.rank]
        plan, ledger = ExchangePlan.of(hood, team.rank), Ledger()
        chosen = LocalGreedy(hood, plan, team.transport, ledger).solve(weights[hood.ids], "decide")
        found.append(Found(hood.ids, chosen, ledger))
    return found


def solved(given: Sequence[Instance], ranks: int) -> Iterator[tuple[Instance, Flags, Ledger]]:
    """Every instance with the set [V, w] and the ledger of all ranks."""

    def work(team: Team) -> list[list[Found]] | None:
        return team.control.gather(solve(team, given))

    for instance, *parts in zip(given, *in_threads(ranks, work), strict=True):
        yield instance, *together(instance, parts)


def together(instance: Instance, parts: Sequence[Found]) -> tuple[Flags, Ledger]:
    chosen = np.zeros(instance.weights.shape, dtype=bool)
    for part in parts:
        chosen[part.ids] = part.chosen
    return chosen, Ledger.merged([part.ledger for part in parts])


# --- what is wanted ---


def by_sorting(graph: Graph, weights: Array) -> Flags:
    """One vertex after another, the heaviest first, of equal ones the lowest number."""
    chosen = np.zeros(weights.shape, dtype=bool)
    for sample, values in enumerate(weights.T):
        for vertex in sorted(range(len(values)), key=lambda v: (-values[v], v)):
            chosen[vertex, sample] = not chosen[graph.neighbours(vertex), sample].any()
    return chosen


def check(instance: Instance, chosen: Flags, ledger: Ledger) -> None:
    graph, weights = instance
    A, w = graph.adjacency(), weights.shape[1]
    np.testing.assert_array_equal(chosen, by_sorting(graph, weights))
    np.testing.assert_array_equal(chosen, reference.greedy(A, weights.T).T)
    i, j = graph.edges().T
    assert not (chosen[i] & chosen[j]).any(), "not independent"
    covered = chosen | (np.asarray(A @ chosen.astype(float)) > 0)
    assert covered.all(), "not maximal"
    rounds, radio, link = reference.greedy_rounds(A, weights.T)
    wanted = Counter(
        rounds=rounds, radio_messages=radio, radio_bytes=8 * w * radio, link_messages=link, link_bytes=8 * w * link
    )  # fmt: skip
    assert Counter(vars(ledger.total["decide"])) == wanted
    told, states = (vars(ledger.fields["decide", kind]) for kind in ("weights", "states"))
    assert told["rounds"] == 1
    assert told["link_messages"] == 2 * graph.num_edges
    assert Counter(told) + Counter(states) == +wanted
    assert {phase for phase, count in ledger.total.items() if count.rounds} == {"decide"}


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_thousand_graphs(ranks: int) -> None:
    for found in solved(instances(1000), ranks):
        check(*found)


def test_one_rank_per_vertex() -> None:
    """And ranks without a vertex, where there are fewer vertices."""
    for found in solved(instances(200, seed=1), 12):
        check(*found)


def test_the_instances_are_what_they_have_to_be() -> None:
    given = instances(1000)
    assert {len(weights) for _, weights in given} == set(range(1, 13))
    assert {weights.shape[1] for _, weights in given} == {1, 2, 3}
    assert sum((graph.degrees == 0).any() and graph.num_edges > 0 for graph, _ in given) > 100
    ties = [any(len({*sample}) < len(sample) for sample in weights.T) for _, weights in given]
    assert sum(ties) > 300
    assert sum((weights < 0).any() for _, weights in given) > 300
    assert sum((weights == 0).any() for _, weights in given) > 200
    rounds = [reference.greedy_rounds(graph.adjacency(), weights.T).rounds for graph, weights in given]
    assert {1, 2, 3, 4, 5, 6, 7, 8} <= {*rounds}


@pytest.mark.parametrize("ranks", [1, 2, 3, 40])
def test_a_path_along_which_weights_grow_takes_as_many_rounds_as_it_has_vertices(ranks: int) -> None:
    V = 40
    instance = Instance(path(V, np.random.default_rng()), np.arange(1.0, V + 1)[:, None])
    ((_, chosen, ledger),) = solved([instance], ranks)
    check(instance, chosen, ledger)
    assert ledger.total["decide"].rounds == V
    np.testing.assert_array_equal(np.flatnonzero(chosen[::-1]), np.arange(0, V, 2))


def test_a_sample_more_changes_no_other() -> None:
    rng = np.random.default_rng(3)
    for graph, weights in instances(60, seed=4):
        wide = np.concatenate([weights, rng.normal(size=(len(weights), 2))], axis=1)
        ((_, chosen, _),) = solved([Instance(graph, wide)], 2)
        np.testing.assert_array_equal(chosen[:, : weights.shape[1]], by_sorting(graph, weights))


def test_a_rank_speaks_for_as_long_as_it_has_something_to_tell() -> None:
    """A long path on ranks 0 and 1, and a triangle on ranks 2 and 3: these are done much earlier, and go on."""
    V = 24
    edges = [*path(12, np.random.default_rng()).edges(), [13, 22], [13, 23], [22, 23]]
    weights = np.concatenate([np.arange(1.0, 13), np.arange(12.0)])[:, None]
    given = [Instance(Graph.from_edges(V, edges), weights)] * 5

    def work(team: Team) -> list[list[Found]] | None:
        return team.control.gather(solve(team, given))

    parts = in_threads(4, work)
    assert [[found.rounds for found in part] for part in parts] == [[11] * 5, [6] * 5, [2] * 5, [2] * 5]
    for instance, *found in zip(given, *parts, strict=True):
        check(instance, *together(instance, found))


def test_it_ends_where_weights_are_not_finite() -> None:
    """Training that diverges is told at the end of the mini-batch; until then nobody waits in vain."""
    rng = np.random.default_rng(0)
    given = [
        Instance(graph, np.where(rng.random(weights.shape) < 0.5, rng.choice([np.nan, np.inf, -np.inf]), weights))
        for graph, weights in instances(100, seed=5)
    ]  # fmt: skip
    with np.errstate(all="raise"):
        for ranks in (1, 3):
            assert len(list(solved(given, ranks))) == 100


@needs_mpi
@pytest.mark.parametrize("ranks", [3])
def test_over_mpi(ranks: int) -> None:
    result = mpirun(ranks, ["-m", "mpi4py", __file__], timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "300 instances agree" in result.stdout


def main() -> None:
    """One rank's part of the comparisons over MPI."""
    from mpi4py import MPI

    from fdtrain.transport.mpi import MpiControl, MpiTransport

    team = Team(MpiTransport(MPI.COMM_WORLD.Dup(), deadline=20.0), MpiControl(MPI.COMM_WORLD.Dup()))
    given = instances(300, seed=2)
    given.append(Instance(path(40, np.random.default_rng()), np.arange(40.0)[:, None]))
    everything = team.control.gather(solve(team, given))
    if everything is not None:
        for instance, *parts in zip(given, *everything, strict=True):
            check(instance, *together(instance, parts))
        print(f"{len(given) - 1} instances agree")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
