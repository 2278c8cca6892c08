"""What goes over the wire: the layout of rounds, neighbours' rows and nobody else's, and how it fails."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fdtrain.config import from_mapping
from fdtrain.errors import InputError, MessageTimeoutError
from fdtrain.experiment import build, run_job
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.partition import ExchangePlan, block
from fdtrain.schedule import build as build_schedule
from fdtrain.team import Team, in_threads
from fdtrain.training import follow
from fdtrain.transport.base import Message, Transport
from fdtrain.transport.loopback import LoopbackHub
from fdtrain.wire import Payload, Wire

STAR = Graph.from_edges(5, [[0, 1], [0, 2], [0, 3], [0, 4]])


def plans(graph: Graph, ranks: int) -> list[ExchangePlan]:
    hoods = neighbourhoods(graph, block(graph.num_nodes, ranks), ranks)
    return [ExchangePlan.of(hood, rank) for rank, hood in enumerate(hoods)]


def test_fields_lie_side_by_side() -> None:
    (plan,) = plans(STAR, 1)
    wire = Wire(plan, 6)
    layout = wire.layout(Payload("train", (("features", 3), ("backward", 2), ("slice", 1))))
    assert [rows.shape for rows in layout.fields] == [(5, 3), (5, 2), (5, 1)]
    for number, rows in enumerate(layout.fields):
        rows[...] = number
    assert [np.unique(rows).tolist() for rows in layout.fields] == [[0], [1], [2]]


def test_a_layout_is_made_once_per_payload() -> None:
    (plan,) = plans(STAR, 1)
    wire = Wire(plan, 5)
    first = wire.layout(Payload("train", (("features", 3),)))
    assert wire.layout(Payload("train", (("features", 3),))) is first
    others = [("test", (("features", 3),)), ("train", (("features", 2),)), ("train", (("backward", 3),))]
    assert all(wire.layout(Payload(*other)) is not first for other in others)
    assert len(wire.layouts) == 4


def test_a_row_goes_once_to_each_peer_and_the_ghosts_lie_in_place() -> None:
    graph = Graph.from_edges(6, [[0, 2], [0, 3], [1, 4], [1, 2], [3, 5], [0, 1]])
    made = plans(graph, 3)  # ranks host 0 1 | 2 3 | 4 5

    def work(team: Team) -> Any:
        wire = Wire(made[team.rank], 4)
        found = []
        for time, width in enumerate((4, 1, 3)):
            layout = wire.layout(Payload("train", (("features", width),)))
            ids = 2 * team.rank + np.arange(2)
            layout.fields[0][:2] = (100 * time + 10 * ids)[:, None] + np.arange(width)
            layout.exchange(team.transport)
            found.append(layout.fields[0].copy())
            assert layout.exchanges == 1
        sizes = [(peer, buffer.shape) for peer, buffer in layout.sends]
        return team.control.gather((found, sizes, team.transport.sends, team.transport.sent_bytes))

    parts = in_threads(3, work)
    seen = [[0, 1, 2, 3, 4], [2, 3, 0, 1, 5], [4, 5, 1, 3]]
    for (found, _, _, _), ids in zip(parts, seen, strict=True):
        for time, rows in enumerate(found):
            wanted = (100 * time + 10 * np.array(ids))[:, None] + np.arange(rows.shape[1])
            np.testing.assert_array_equal(rows, wanted)
    assert [sizes for _, sizes, _, _ in parts] == [
        [(1, (2, 3)), (2, (1, 3))],
        [(0, (2, 3)), (2, (1, 3))],
        [(0, (1, 3)), (1, (1, 3))],
    ]
    assert [(sends, sent_bytes) for _, _, sends, sent_bytes in parts] == [(6, 192), (6, 192), (6, 128)]


@dataclass
class Recording:
    """A transport that remembers every round's messages, as they were when they were posted."""

    inner: Transport
    log: list[list[tuple[int, np.ndarray]]] = field(default_factory=list)

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        self.log.append([(peer, buffer.copy()) for peer, buffer in sends])
        self.inner.post(sends, receives)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


NETWORKS = {
    "redrawn every time": {"connected": False, "redraw": {"every": 1}},
    "redrawn every second time": {"connected": False, "redraw": {"every": 2}},
    "static": {},
}


def settings(topology: dict[str, Any], form: str) -> dict[str, Any]:
    return {
        "topology": {"kind": "erdos_renyi", "nodes": 9, "mean_degree": 2.5, "seed": 5} | topology,
        "model": {
            "sizes": [3, 4, 2],
            "activation": "tanh",
            "shift": "laplacian",
            "form": form,
            "init": {"per_node": True, "low": -1},
        },
        "task": {"train_samples": 8, "test_samples": 3},
        "training": {"epochs": 2, "batch": 3, "wave": 2, "slices": "even"},
        "optimizer": {"kind": "d_sgd", "lr": 0.01},
    }


def recorded(content: dict[str, Any], ranks: int) -> tuple[list[Any], list[Graph], list[int]]:
    """Every rank's messages, the graph of every round, and the width of every round."""
    experiment = build(from_mapping(content))
    job, host = experiment.job, experiment.host(ranks)

    def work(team: Team) -> Any:
        team.transport = log = Recording(team.transport)
        if team.rank == 0:
            run_job(job, team, host)
            team.dismiss()
        else:
            follow(team)
        return team.control.gather(log.log)

    logs = in_threads(ranks, work)
    graphs, widths, t = [], [], 0
    if not job.streamed:  # before that, a teacher of the labels
        sizes = job.train_samples, job.test_samples
        schedules = [build_schedule("inference", outline=job.model.outline, batch=n, wave=n) for n in sizes]
        widths = [2, *(round_.width for schedule in schedules for round_ in schedule.rounds)]
        graphs = [experiment.topology.graph(0)] * len(widths)
    for _ in range(job.epochs):
        for size in [3, 3, 2]:
            rounds = ([2] if job.rewires_at(t) else []) + [r.width for r in job.schedule(size).rounds]
            graphs += [experiment.topology.graph(t)] * len(rounds)
            widths += rounds
            t += 1
        graphs += [experiment.topology.graph(t - 1)] * len(job.test_schedule.rounds)
        widths += [r.width for r in job.test_schedule.rounds]
    return logs, graphs, widths


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("network", NETWORKS)
def test_only_neighbours_rows_travel_and_only_to_their_hosts(network: str, form: str) -> None:
    """In a run with one node per rank every message is one node's row to one neighbour of the moment.

    In a packed run, each is made of exactly these rows (the same bits, by ascending number) of the nodes
    with a neighbour on the peer.
    """
    content = settings(NETWORKS[network], form)
    logs, graphs, widths = recorded(content, 9)
    rows: list[dict[int, np.ndarray]] = []  # round → node → the row that it sends
    for number, (graph, width) in enumerate(zip(graphs, widths, strict=True)):
        sent = {}
        for node, log in enumerate(logs):
            assert [peer for peer, _ in log[number]] == graph.neighbours(node).tolist()
            for _, buffer in log[number]:
                assert buffer.shape == (1, width)
                np.testing.assert_array_equal(buffer, log[number][0][1])  # a broadcast: all hear the same
                sent[node] = buffer
        rows.append(sent)
    assert all(len(log) == len(graphs) for log in logs)
    distinct = [np.unique(np.concatenate(list(sent.values())), axis=0) for sent in rows]
    assert sum(map(len, distinct)) > 0.9 * sum(map(len, rows))  # so that a wrong row would show
    for ranks in (2, 4):
        logs, _, _ = recorded(content, ranks)
        owner = block(9, ranks)
        for number, graph in enumerate(graphs):
            for rank, log in enumerate(logs):
                nodes = {
                    peer: [
                        i for i in np.flatnonzero(owner == rank) if (owner[graph.neighbours(i)] == peer).any()
                    ]
                    for peer in range(ranks)
                    if peer != rank
                }
                assert [peer for peer, _ in log[number]] == [peer for peer in nodes if nodes[peer]]
                for peer, buffer in log[number]:
                    wanted = np.concatenate([rows[number][i] for i in nodes[peer]])
                    assert buffer.tobytes() == wanted.tobytes()


def test_alone_nothing_is_sent() -> None:
    logs, _, _ = recorded(settings({}, "receiver"), 1)
    assert not any(logs[0])


def test_mismatched_sizes_are_an_error() -> None:
    def work(team: Team) -> None:
        peer = 1 - team.rank
        team.transport.post([(peer, np.zeros(3 + team.rank))], [(peer, np.zeros(3))])
        team.transport.complete()

    with pytest.raises(
        RuntimeError, match=r"rank 0 expected 3 numbers of round 0 from rank 1, received 4 of round 0"
    ):
        in_threads(2, work)


def test_messages_of_another_round_are_an_error() -> None:
    def work(team: Team) -> None:
        if team.rank == 1:
            team.transport.post([], [])  # a round that the other one does not have
            team.transport.complete()
        peer = 1 - team.rank
        team.transport.post([(peer, np.zeros(3))], [(peer, np.zeros(3))])
        team.transport.complete()

    with pytest.raises(RuntimeError, match=r"3 numbers of round \d from rank \d, received 3 of round \d"):
        in_threads(2, work)


def test_a_message_is_copied_when_it_is_posted() -> None:
    def work(team: Team) -> Any:
        peer, mine, theirs = 1 - team.rank, np.full(2, team.rank + 1.0), np.zeros(2)
        team.transport.post([(peer, mine)], [(peer, theirs)])
        mine[:] = -1
        team.transport.complete()
        return team.control.gather(theirs.tolist())

    assert in_threads(2, work) == [[2, 2], [1, 1]]


class BrokenRankError(Exception):
    pass


@pytest.mark.parametrize("culprit", [0, 1, 2])
@pytest.mark.parametrize("plane", ["data", "control"])
def test_a_rank_that_raises_ends_the_team_with_its_error(plane: str, culprit: int) -> None:
    def work(team: Team) -> Any:
        if team.rank == culprit:
            raise BrokenRankError(f"rank {culprit}")
        others = [peer for peer in range(3) if peer != team.rank]
        if plane == "control":
            return team.control.bcast(team.control.gather(1))
        team.transport.post([], [(peer, np.zeros(1)) for peer in others])
        return team.transport.complete()

    with pytest.raises(BrokenRankError, match=f"rank {culprit}"):
        in_threads(3, work)


def test_a_message_that_does_not_come_is_an_error() -> None:
    transport = LoopbackHub(2, deadline=0.3).transport(0)
    transport.post([], [(1, np.zeros(1))])
    with pytest.raises(MessageTimeoutError, match=r"no message for \('data', 1, 0\): late"):
        transport.complete()


def test_the_control_plane() -> None:
    def work(team: Team) -> Any:
        heard = [team.control.bcast("all" if team.rank == 0 else None)]
        heard.append(team.control.scatter(["a", "b", "c"] if team.rank == 0 else None))
        heard.append(team.share(lambda: "made on rank 0"))
        heard.append(team.deal(lambda: [10, 11, 12]))
        return team.control.gather(heard)

    assert in_threads(3, work) == [
        ["all", letter, "made on rank 0", 10 + k] for k, letter in enumerate("abc")
    ]
    assert in_threads(1, lambda team: team.control.gather(team.share(lambda: 1))) == [1]


def test_what_rank_0_cannot_make_is_an_error_on_all_ranks() -> None:
    raised = []

    def work(team: Team) -> None:
        def fail() -> Any:
            raise InputError("no such thing")

        try:
            team.share(fail)
        except InputError as error:
            raised.append((team.rank, str(error)))
        assert team.share(lambda: "and they go on together") == "and they go on together"

    in_threads(3, work)
    assert sorted(raised) == [(rank, "no such thing") for rank in range(3)]
