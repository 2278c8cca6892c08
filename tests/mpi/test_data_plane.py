"""Under mpirun: what travels on the data communicator, and that it is right; on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fdtrain import reference
from fdtrain.config import from_mapping
from fdtrain.errors import InputError, MessageTimeoutError
from fdtrain.experiment import Experiment, build, run_job
from fdtrain.service import Outcome
from fdtrain.team import Team, in_threads
from fdtrain.training import follow

pytestmark = pytest.mark.mpi


class RecordingComm:
    """A communicator that allows nothing but nonblocking messages to others that are named, and notes them."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.sent: list[tuple[int, int]] = []  # destination, bytes
        self.kept: list[int] = []  # destinations of what is made once, to be sent again and again

    def Get_rank(self) -> int:  # noqa: N802 - as mpi4py calls it
        return int(self._comm.Get_rank())

    def Get_size(self) -> int:  # noqa: N802 - as mpi4py calls it
        return int(self._comm.Get_size())

    def Isend(self, buffer: NDArray[np.float64], dest: int, tag: int) -> Any:  # noqa: N802 - as mpi4py calls it
        self.sent.append((dest, buffer.nbytes))
        return self._comm.Isend(buffer, dest, tag)

    def Irecv(self, buffer: NDArray[np.float64], source: int, tag: int) -> Any:  # noqa: N802 - as mpi4py calls it
        assert source >= 0
        assert tag >= 0  # neither ANY_SOURCE nor ANY_TAG
        return self._comm.Irecv(buffer, source, tag)

    def Send_init(self, buffer: NDArray[np.float64], dest: int, tag: int) -> Any:  # noqa: N802 - as mpi4py calls it
        self.kept.append(dest)
        return self._comm.Send_init(buffer, dest, tag)

    def Recv_init(self, buffer: NDArray[np.float64], source: int, tag: int) -> Any:  # noqa: N802 - as mpi4py calls it
        assert source >= 0
        assert tag >= 0
        return self._comm.Recv_init(buffer, source, tag)

    def Create_dist_graph_adjacent(  # noqa: N802 - as mpi4py calls it
        self, sources: list[int], destinations: list[int], reorder: bool
    ) -> Any:
        assert sources == destinations
        assert not reorder
        self.kept += destinations
        return self._comm.Create_dist_graph_adjacent(sources, destinations, reorder=reorder)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"training used {name} on the data communicator")


def make_team() -> tuple[Team, RecordingComm]:
    from mpi4py import MPI

    from fdtrain.transport.mpi import MpiControl, MpiTransport

    comm = RecordingComm(MPI.COMM_WORLD.Dup())
    control = MpiControl(MPI.COMM_WORLD.Dup())
    transport = MpiTransport(comm, deadline=30.0)  # type: ignore[arg-type]
    transport.meet = control.meet
    return Team(transport, control), comm


def experiment(**changes: Any) -> Experiment:
    content: dict[str, Any] = {
        "seed": 11,
        "topology": {"kind": "watts_strogatz", "nodes": 12, "k": 4, "p": 0.3},
        "model": {"sizes": [4, 3, 2]},
        "task": {"train_samples": 9, "test_samples": 2},
        "training": {"epochs": 2, "batch": 4},
        "optimizer": {"kind": "d_sgd", "lr": 1e-2},
    }
    content.update(changes)
    return build(from_mapping(content))


def train_on(team: Team, made: Experiment) -> Outcome | None:
    if team.rank > 0:
        follow(team)
        return None
    host = made.host(team.size)
    host.kinds = ("theta", "gradient")
    run_job(made.job, team, host)
    team.dismiss()
    return host.outcome


def is_refused(team: Team, made: Experiment) -> bool:
    """Whether the MPI library does not have what the configuration asks for, and all ranks say so."""
    kind = made.job.transport
    if team.size == 1 or kind != "neighbourhood" or kind in team.transport.usable():
        return False
    with pytest.raises(
        InputError, match=rf"execution\.transport: {kind} does not work with this MPI library"
    ):
        train_on(team, made)
    return True


REDRAWN = {"kind": "erdos_renyi", "nodes": 12, "p": 0.3, "redraw": {"every": 1}}


KINDS = ("point_to_point", "persistent", "neighbourhood")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("topology", ["static", "redrawn"])
def test_only_neighbour_messages_and_no_collective_of_all(form: str, topology: str, kind: str) -> None:
    """What ranks exchange while they train: with those that host a neighbour, and with nobody else."""
    changes: dict[str, Any] = {"model": {"sizes": [4, 3, 2], "form": form}, "execution": {"transport": kind}}
    if topology == "redrawn":
        changes["topology"] = REDRAWN
    made = experiment(**changes)
    team, comm = make_team()
    if is_refused(team, made):
        return
    allowed: list[set[int]] = []
    from fdtrain.engine import Engine

    rewire = Engine.rewire
    marks: list[tuple[int, int]] = []

    def noting(engine: Engine, hood: Any, programme: Any) -> None:
        marks.append((len(comm.sent), len(comm.kept)))
        allowed.append({int(owner) for owner in hood.owners} - {team.rank})
        rewire(engine, hood, programme)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "rewire", noting)
        outcome = train_on(team, made)
    assert len(marks) == (1 if topology == "static" else 6)
    ends = [*marks[1:], (len(comm.sent), len(comm.kept))]
    for peers, first, last in zip(allowed, marks, ends, strict=True):
        sent_to = {peer for peer, _ in comm.sent[first[0] : last[0]]}
        kept_for = {*comm.kept[first[1] : last[1]]} - {
            team.rank
        }  # a word to itself is how a rank tries the MPI
        assert sent_to | kept_for == peers  # to every rank that hosts a neighbour, and to nobody else
        assert kept_for == (set() if kind == "point_to_point" else peers)
    taught, trained = comm.sent[: marks[0][0]], comm.sent[marks[0][0] :]  # no ledger has a teacher's labels
    assert {peer for peer, _ in taught} == (allowed[0] if topology == "static" else set())
    assert {*comm.kept[: marks[0][1]]} <= {team.rank}
    everything = team.control.gather((len(trained), sum(size for _, size in trained)))
    alone = in_threads(team.size, lambda team: train_on(team, experiment(**changes)))
    if outcome is not None and everything is not None:
        ledger = outcome.ledger
        assert ledger.physical_messages == alone.ledger.physical_messages
        assert ledger.physical_bytes == alone.ledger.physical_bytes
        if kind == "point_to_point":
            assert ledger.physical_messages == sum(count for count, _ in everything)
            assert ledger.physical_bytes == sum(size for _, size in everything)


@pytest.mark.parametrize("kernel", ["numba", "numpy"])
@pytest.mark.parametrize("kind", ["auto", *KINDS])
@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize("wave", [1, 3])
def test_same_bits_as_in_one_process(redrawn: bool, wave: int, kind: str, kernel: str) -> None:
    changes: dict[str, Any] = {
        "training": {"epochs": 2, "batch": 4, "wave": wave},
        "execution": {"transport": kind, "kernel": kernel},
    }
    if redrawn:
        changes["topology"] = REDRAWN
    made = experiment(**changes)
    team, _ = make_team()
    if is_refused(team, made):
        return
    outcome = train_on(team, made)
    if outcome is not None:
        alone = in_threads(1, lambda team: train_on(team, experiment(**changes)))
        assert outcome.theta.tobytes() == alone.theta.tobytes()
        assert outcome.rows == alone.rows


def test_a_missing_message_of_a_compiled_round_is_named() -> None:
    """A rank that leaves out a round is told of, whatever the kind of the transport."""
    team, _ = make_team()
    if team.size == 1:
        return
    made = experiment(execution={"transport": "persistent"})
    planes: Any = team
    planes.transport.deadline, planes.control.deadline = 1.0, 5.0
    from fdtrain.compiled import CompiledPass

    run = CompiledPass.run

    def leaving_out(self: CompiledPass, transport: Any) -> None:
        if self.phase == "test" or transport.rank != team.size - 1:
            run(self, transport)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledPass, "run", leaving_out)
        if team.rank == 0:
            host = made.host(team.size)
            with pytest.raises(MessageTimeoutError, match=r"rank\(s\) \[.*\]") as caught:
                run_job(made.job, team, host)
            assert any("features of layer 1" in note for note in caught.value.__notes__)
        else:
            with pytest.raises(MessageTimeoutError):
                follow(team)


def test_gradients_over_messages_with_asymmetric_weights(tmp_path: Any) -> None:
    rng = np.random.default_rng(3)
    A = np.where(rng.random((12, 12)) < 0.3, rng.random((12, 12)), 0.0)
    np.fill_diagonal(A, 0)
    A += np.roll(np.eye(12), 1, axis=1) * 0.5
    team, _ = make_team()
    path = team.control.bcast(str(tmp_path / "A.npz"))
    if team.rank == 0:
        np.savez(path, adjacency=A)
    team.control.bcast(None)
    made = experiment(
        topology={"kind": "file", "path": path},
        model={"sizes": [4, 3, 2], "shift": "adjacency", "init": {"per_node": True}},
        training={"epochs": 1, "batch": 9, "wave": 2},
    )
    outcome = train_on(team, made)
    if outcome is not None:
        job = made.job
        model = reference.Model(job.model.sizes, job.model.activations, job.model.form)
        samples, _ = made.data.dataset(made.topology.graph(0))
        order = made.data.order(0)
        wanted = model.local_gradients(
            reference.shift_matrix(A, "adjacency"), samples.x[order], samples.y[order], made.theta
        )
        error = np.linalg.norm(outcome.gradient - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
        assert error.max() <= 1e-12
        assert np.ptp(made.theta, axis=0).min() > 0  # a different θ on every node


def test_all_ranks_raise_what_rank_0_could_not_make() -> None:
    team, _ = make_team()

    def fail() -> Any:
        raise InputError("no graph")

    with pytest.raises(InputError, match="no graph"):
        team.share(fail)


def test_a_missing_message_names_round_and_rank() -> None:
    team, _ = make_team()
    team.transport.deadline = 0.5  # type: ignore[attr-defined]
    buffer = np.zeros(3)
    if team.size == 1:
        team.transport.post([(0, buffer)], [(0, np.zeros(3))])
        team.transport.complete()  # to itself: arrives
        return
    silent = (team.rank + 1) % team.size
    team.transport.post([], [(silent, buffer)])
    with pytest.raises(MessageTimeoutError, match=rf"from rank\(s\) \[{silent}\] in round 0"):
        team.transport.complete()
    team.control.gather(None)
