"""What the launching process does when it is asked to stop, or when its job crashes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from commands import fdtrain, mpirun, needs_mpi, one_line_error, theta
from faults import CONFIG, SITECUSTOMIZE, FaultyRun, Watched

from fdtrain import leftovers

CHECKPOINTED = CONFIG.replace("epochs: 100000", "epochs: 30") + "checkpoint: {every: 20}\n"


def write(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(CHECKPOINTED)
    return path


@needs_mpi
@pytest.mark.parametrize("ranks", ["1", "3"])
def test_a_crash_is_restarted_from_the_checkpoint(tmp_path: Path, ranks: str) -> None:
    """Rank 0 is killed in its 70th mini-batch: of the first life, and of the second, which begins after 60."""
    config, wanted, out = write(tmp_path), tmp_path / "wanted", tmp_path / "run"
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    options = ["--ranks", ranks, "--no-verify", "--no-figures"]
    extra = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "TEST_FAULT": f"0|SIGKILL|70|{tmp_path / 'when'}",
    }
    restarted = fdtrain("run", str(config), *options, "--out", str(out), "--max-restarts", "2", extra=extra)
    assert restarted.returncode == 0, restarted.stderr
    first, second = restarted.stderr.splitlines()
    assert first.startswith("note: rank 0 was killed by SIGKILL")
    assert first.endswith("restart 1 of 2, from mini-batch 60")
    assert second.endswith("restart 2 of 2, from mini-batch 120")
    assert fdtrain("run", str(config), *options, "--out", str(wanted)).returncode == 0
    assert theta(out).tobytes() == theta(wanted).tobytes()
    assert (out / "metrics.csv").read_bytes() == (wanted / "metrics.csv").read_bytes()
    given_up = fdtrain(
        "run", str(config), *options, "--out", str(tmp_path / "3"), "--max-restarts", "1", extra=extra
    )
    assert given_up.returncode == 1
    assert [line.split(":")[0] for line in given_up.stderr.splitlines()] == ["note", "error"]


@needs_mpi
def test_what_is_no_crash_is_not_restarted(tmp_path: Path) -> None:
    config, options = write(tmp_path), ["--ranks", "2", "--max-restarts", "3", "--no-figures"]
    bad = fdtrain("run", str(config), "optimizer.lr=x", *options, "--out", str(tmp_path / "bad"))
    assert "optimizer.lr" in one_line_error(bad)
    diverging = ["model.activation=identity", "optimizer.lr=1e6"]
    failed = fdtrain("run", str(config), *diverging, *options, "--out", str(tmp_path / "failed"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: training diverged")
    assert failed.stderr.count("\n") == 1
    outside = mpirun(2, ["-m", "fdtrain", "run", str(config), *options[2:], "--out", str(tmp_path / "no")])
    assert "--max-restarts: this process was started by an MPI launcher" in outside.stderr


@needs_mpi
def test_ranks_that_do_not_stop_are_killed_after_the_grace_time(tmp_path: Path) -> None:
    """Rank 2 is stopped, so that there is no common mini-batch."""
    command = [sys.executable, "-m", "fdtrain", "run", str(write(tmp_path)), "training.epochs=100000"]
    out = tmp_path / "run"
    run = Watched(
        tmp_path, [*command, "--ranks", "3", "--out", str(out), "--no-figures"], out, FDTRAIN_GRACE="1"
    )
    run.trains()
    os.kill(run.victims()["rank 2"], signal.SIGSTOP)
    run.noted()
    run.process.send_signal(signal.SIGTERM)
    ended = run.end()
    assert ended.status == 143
    assert ended.errors == (
        "error: stopped by SIGTERM: the ranks did not end within 1 s (FDTRAIN_GRACE), and were killed\n"
    )
    assert 1 <= ended.seconds < 5
    assert (ended.left, ended.files) == ([], [])


@needs_mpi
def test_a_suspended_job_goes_on(tmp_path: Path) -> None:
    """Ctrl-Z for longer than the deadline: ranks are suspended with the launching process."""
    run = FaultyRun(tmp_path / "run", deadline=1.5)
    run.trains()
    run.process.send_signal(signal.SIGTSTP)
    time.sleep(1)
    there = run.victims()
    assert [leftovers.state(there[who]) for who in ("launcher", "rank 0", "rank 3")] == ["T"] * 3
    before = run.epochs()
    time.sleep(2.5)
    assert run.epochs() == before
    run.process.send_signal(signal.SIGCONT)
    end = time.monotonic() + 20
    while run.epochs() <= before + 5 and time.monotonic() < end:
        time.sleep(0.05)
    assert run.epochs() > before + 5, run.errors.read_text()
    run.noted()
    run.process.send_signal(signal.SIGINT)
    ended = run.end()
    assert ended.status == 130
    assert ended.errors.startswith("error: stopped by SIGINT after mini-batch")


def test_folders_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    mine = leftovers.make(tmp_path)
    again = leftovers.make(tmp_path)
    pid, start, namespace = mine.name.split("-")[1:]
    dead = tmp_path / f"fdtrain-{pid}-{int(start, 16) + 1:x}-{namespace}"  # another process had the number
    elsewhere = tmp_path / f"fdtrain-{pid}-1-{int(namespace, 16) ^ 1:x}"  # its number means nothing here
    other = tmp_path / "fdtrain-results"
    for folder in (dead, elsewhere, other):
        folder.mkdir()
        (folder / "file").write_text("x")
    leftovers.sweep(tmp_path, tmp_path / "missing")
    assert sorted(tmp_path.iterdir()) == sorted([mine, again, elsewhere, other])
