"""Signals that ask a run to stop, and the vote by which all ranks stop after the same mini-batch."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from commands import environment, mpirun, needs_mpi

from fdtrain.errors import MessageTimeoutError
from fdtrain.stopping import exit_status
from fdtrain.transport.loopback import LoopbackHub

ASKED = """
import os, signal, sys, time
from fdtrain import stopping
stopping.install(second_ends=%s)
print(stopping.requested(), flush=True)
while not stopping.requested():
    time.sleep(0.01)
print(stopping.requested(), flush=True)
time.sleep(5 if len(sys.argv) > 1 else 0)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_noted_and_does_nothing_else(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ASKED % True], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(number)
        assert process.stdout.read() == f"{int(number)}\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT), (signal.SIGUSR1, 0)]
)
def test_a_second_one_ends_the_process_but_not_in_the_same_moment(
    number: signal.Signals, status: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", (ASKED % True).replace("5 if", "2 if"), "wait"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == f"{int(signal.SIGUSR1)}\n"
        process.send_signal(number)  # by way of the process group, say
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(number)
        assert process.wait(timeout=5) == status


def test_exit_statuses() -> None:
    assert [exit_status(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == [143, 143, 130]


def test_votes_of_threads() -> None:
    """All get the maximum of the call before, whoever is fast."""
    size, calls = 5, 200
    hub = LoopbackHub(size)
    given = [[(7 * call + rank) % 11 for rank in range(size)] for call in range(calls)]
    found: dict[int, list[int]] = {}

    def work(rank: int) -> None:
        control = hub.control(rank)
        found[rank] = [control.vote(given[call][rank]) for call in range(calls)]

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[rank] == [0, *map(max, given[:-1])] for rank in range(size))


def test_a_vote_does_not_wait_for_ever() -> None:
    control = LoopbackHub(2, deadline=0.1).control(0)
    assert control.vote(3) == 0
    with pytest.raises(MessageTimeoutError, match="vote"):
        control.vote(0)


VOTES = """
from mpi4py import MPI
from fdtrain.transport.mpi import MpiControl
world = MPI.COMM_WORLD
control = MpiControl(world.Dup(), 20)
size, rank = control.size, control.rank
given = [[(7 * call + rank) % 11 for rank in range(size)] for call in range(300)]
found = [control.vote(line[rank]) for line in given]
assert found == [0, *map(max, given[:-1])], found
assert control.settle() == max(given[-1])
assert control.bcast("all" if rank == 0 else None) == "all"
big = [bytes([r]) * 3_000_000 for r in range(size)]
assert control.scatter(big if rank == 0 else None) == big[rank]
back = control.gather(big[rank])
assert back == (big if rank == 0 else None)
print("voted", rank)
"""


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_control_plane_over_mpi(ranks: int) -> None:
    result = mpirun(ranks, ["-c", VOTES])
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split("\n")) == ["", *(f"voted {rank}" for rank in range(ranks))]


HANDLERS = """
import signal
import fdtrain
watched = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1]
before = [*map(signal.getsignal, watched)]
during = []
config = {
    "topology": {"kind": "ring", "nodes": 5},
    "model": {"sizes": [3, 1]},
    "task": {"train_samples": 4, "test_samples": 2},
    "training": {"epochs": 1, "batch": 2},
    "optimizer": {"kind": "d_sgd", "lr": 0.1},
}
fdtrain.run(config, on_epoch=lambda row: during.extend(map(signal.getsignal, watched)))
assert during == before
assert [*map(signal.getsignal, watched)] == before
"""


def test_the_python_api_installs_no_handlers() -> None:
    subprocess.run([sys.executable, "-c", HANDLERS], check=True, timeout=60, env=environment())
