"""Runs that go on from a checkpoint end with the bits of those that were never stopped."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment, fdtrain, mpirun, needs_mpi, one_line_error

import fdtrain as package
from fdtrain import checkpoint, driver, stopping
from fdtrain.cli import main
from fdtrain.config import from_mapping
from fdtrain.errors import DivergenceError, InputError, RunFailedError, StoppedError
from fdtrain.rundir import RunDirectory, is_complete
from fdtrain.service import EpochRow

Content = dict[str, Any]
RESULTS = (
    "config.yaml", "metrics.csv", "minibatches.csv", "baselines.csv", "theta.npz", "network.npz", "heldout.npz",
    "connectivity.csv",
    "verify.json",
)  # fmt: skip

REGRESSION: Content = {
    "seed": 3,
    "topology": {"kind": "barabasi_albert", "nodes": 7, "m": 2},
    "model": {"sizes": [5, 3, 1], "activation": "sigmoid"},
    "task": {"train_samples": 10, "test_samples": 3},
    "training": {"epochs": 3, "batch": 4, "wave": 3},
    "optimizer": {"kind": "d_sgd", "lr": 0.01},
}
ALLOCATION: Content = {
    "seed": 4,
    "task": {"kind": "power_allocation", "pairs": 6, "area": 400.0, "minibatches": 4, "test_minibatches": 2},
    "training": {"epochs": 2, "batch": 3, "log_every": 3},
}
SCHEDULING: Content = {
    "seed": 5,
    "topology": {"kind": "erdos_renyi", "nodes": 8, "mean_degree": [1.0, 4.0]},
    "model": {"sizes": [1, 4, 1], "activation": ["leaky_relu", "leaky_relu"]},
    "task": {
        "kind": "link_scheduling", "graphs": 3, "test_graphs": 2, "test_samples": 2,
        "critic": {"hidden": 4, "layers": 2, "samples": 4, "lr": 0.01},
    },
    "training": {"epochs": 2, "batch": 4, "wave": 3, "log_every": 2},
    "optimizer": {"kind": "naive_adam", "lr": 0.005},
}  # fmt: skip
STATIC = {"kind": "erdos_renyi", "nodes": 8, "mean_degree": 3.0, "redraw": None}
NAIVE_SGD = {"kind": "naive_sgd", "lr": 0.01}
NAIVE_ADAM = {"kind": "naive_adam", "lr": 0.01}
PER_BATCH = {"scheme": "per_batch", "consensus_rounds": 2}
CENTRALIZED = {"mode": "centralized"}


def changed(base: Content, **sections: Mapping[str, Any]) -> Content:
    """`base` with these settings; a section with a kind replaces the other one, but for a task's."""
    made = dict(base)
    for name, values in sections.items():
        made[name] = values if "kind" in values else {**made.get(name, {}), **values}
    return made


def unreliable(features: str, parameters: str) -> Content:
    """A channel that remembers what there is to remember."""
    bursts = {"kind": "gilbert_elliott", "to_bad": 0.2, "to_good": 0.4}
    return {
        "loss": bursts,
        "features": {"loss": bursts, "delay": {"kind": "geometric", "mean": 1.0}, "missing": features},
        "backward": {"loss": 0.2},
        "parameters": {"loss": bursts, "delay": {"kind": "uniform", "high": 12}, "missing": parameters},
        "crashes": [{"nodes": [2], "start": 1, "stop": 4}],
    }


CASES: dict[str, Content] = {
    "d_sgd": REGRESSION,
    "d_adam, clipped": changed(REGRESSION, optimizer={"kind": "d_adam", "lr": 0.01, "clip_norm": 0.5}),
    "d_amsgrad": changed(REGRESSION, optimizer={"kind": "d_amsgrad", "lr": 0.01}),
    "gradient_tracking": changed(REGRESSION, optimizer={"kind": "gradient_tracking", "lr": 0.01}),
    "naive_sgd": changed(REGRESSION, optimizer=NAIVE_SGD, training=PER_BATCH),
    "naive_adam": changed(REGRESSION, optimizer=NAIVE_ADAM, training=PER_BATCH),
    "naive_adam by sample": changed(
        REGRESSION, optimizer=NAIVE_ADAM | {"updates": "sample"}, training={"scheme": "per_sample"}
    ),
    "rates that fall": changed(
        REGRESSION, optimizer={"kind": "d_sgd", "lr": 0.01, "lr_schedule": {"kind": "cosine"}}
    ),
    "inference": changed(REGRESSION, training={"scheme": "inference"}),
    "redrawn": changed(REGRESSION, topology=REGRESSION["topology"] | {"redraw": {"every": 1}}),
    "redrawn now and then": changed(REGRESSION, topology=REGRESSION["topology"] | {"redraw": {"every": 2}}),
    "online": changed(REGRESSION, task={"online": True}),
    **{
        f"unreliable, {features}, {parameters}, {name}": changed(
            REGRESSION,
            channel=unreliable(features, parameters),
            topology=REGRESSION["topology"] | {"redraw": every},
            optimizer={"kind": kind, "lr": 0.01},
        )
        for features, parameters, name, every, kind in (
            ("hold", "hold", "static", None, "d_adam"),
            ("drop_edge", "push_sum", "static", None, "d_sgd"),
            ("drop_edge", "hold", "redrawn", {"every": 2}, "d_sgd"),
            ("hold", "push_sum", "redrawn", {"every": 2}, "gradient_tracking"),
            ("zero", "push_sum", "redrawn often", {"every": 1}, "d_sgd"),
        )
    },
    "moving and unreliable": changed(
        REGRESSION,
        topology={"kind": "random_waypoint", "nodes": 8, "area": [100.0, 100.0], "speed": [1.0, 5.0],
            "step": 5.0,
            "radio": {"kind": "unit_disk", "range": 45.0},},
        channel=unreliable("hold", "push_sum"),
    ),
    "log and early stop": changed(
        REGRESSION, training={"epochs": 9, "log_every": 2, "early_stop": {"patience": 2, "min_delta": 0.9}}
    ),
    "centralized sgd": changed(REGRESSION, training=CENTRALIZED, optimizer={"kind": "sgd", "lr": 0.01}),
    "centralized adam, logged": changed(
        REGRESSION, training=CENTRALIZED | {"log_every": 2}, optimizer={"kind": "adam", "lr": 0.01}
    ),
    "power allocation": ALLOCATION,
    "power allocation, other order": changed(ALLOCATION, task={"online": False}),
    "power allocation, mobile": changed(
        ALLOCATION, task={"mobility": {"speed": 30.0}, "baselines_every": 2}, training={"scheme": "per_batch"}
    ),
    "power allocation, centralized": changed(ALLOCATION, training=CENTRALIZED),
    "link scheduling": SCHEDULING,
    "link scheduling, static": changed(SCHEDULING, topology=STATIC),
    "link scheduling, by sample": changed(SCHEDULING, optimizer=NAIVE_ADAM | {"updates": "sample"}),
    "link scheduling, neighbours": changed(
        SCHEDULING, task={"critic": {"kind": "neighbours", "hidden": 3, "layers": 2}}
    ),
    "link scheduling, centralized": changed(
        SCHEDULING, training=CENTRALIZED, optimizer={"kind": "adam", "lr": 0.005}
    ),
}  # fmt: skip
# A task with a kind would replace what it changes.
for case in CASES.values():
    base = {"power_allocation": ALLOCATION, "link_scheduling": SCHEDULING}.get(case["task"].get("kind", ""))
    assert base is None or case["task"].keys() >= base["task"].keys()


def results(run: Path) -> dict[str, Any]:
    """What is to be the same: bytes of files, and the ledger without what was sent physically."""
    found: dict[str, Any] = {name: (run / name).read_bytes() for name in RESULTS if (run / name).exists()}
    with (run / "ledger.csv").open(newline="") as stream:
        found["ledger.csv"] = [row for row in csv.reader(stream) if row[0] != "physical"]
    return found


def stopped_after(t: int, whole: Path, made: Path) -> Path:
    """The run in `whole`, which kept every checkpoint, as if it had been killed when it had written that of t."""
    shutil.copytree(
        whole, made, ignore=shutil.ignore_patterns("*.ckpt", "theta.npz", "environment.json", "ledger.csv")
    )
    shutil.copy(whole / "checkpoints" / checkpoint.file_name(t), made / "checkpoints")
    return made


def minibatches(run: Path) -> list[int]:
    """After how many mini-batches there are checkpoints."""
    return sorted(
        checkpoint.read(file)["position"]["minibatch"] for file in checkpoint.found_in(run / "checkpoints")
    )


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_has_the_same_bits(name: str, tmp_path: Path) -> None:
    config = from_mapping(CASES[name])
    plain = driver.run(config, out=tmp_path / "plain")
    saving = from_mapping({**CASES[name], "checkpoint": {"every": 1, "keep": 1000}})
    first_ranks = 1 if config.training.mode == "centralized" else 2
    driver.run(saving, out=tmp_path / "whole", ranks=first_ranks)
    wanted = results(tmp_path / "whole")
    assert {**wanted, "config.yaml": b""} == {**results(tmp_path / "plain"), "config.yaml": b""}
    steps = minibatches(tmp_path / "whole")
    assert steps == [*range(1, len(steps) + 1)]
    per_epoch = len(steps) // len(plain.rows)
    chosen = sorted({1, per_epoch - 1, per_epoch, per_epoch + 1, len(steps) - 1, len(steps)} - {0})
    for t, ranks in zip(chosen, (3, 1, 2, 4, 1, 3), strict=False):
        run = stopped_after(t, tmp_path / "whole", tmp_path / f"after-{t}")
        again = package.resume(run, ranks=1 if first_ranks == 1 else ranks)
        assert results(run) == wanted, t
        assert [row.columns() for row in again.rows] == [row.columns() for row in plain.rows]
        assert is_complete(run)
        told = json.loads((run / "environment.json").read_text())
        assert [entry["after_minibatch"] for entry in told["resumptions"]] == [t]


def test_physical_sends_go_on_too(tmp_path: Path) -> None:
    driver.run(from_mapping({**REGRESSION, "checkpoint": {"every": 4}}), out=tmp_path / "whole", ranks=3)
    run = stopped_after(8, tmp_path / "whole", tmp_path / "run")
    driver.resume(run, ranks=3)
    assert (run / "ledger.csv").read_bytes() == (tmp_path / "whole" / "ledger.csv").read_bytes()


class Stops:
    """Asks rank 0 to stop in its mini-batch number `at`."""

    def __init__(self, at: int, number: int = signal.SIGTERM) -> None:
        self._at, self._number, self._asked = at, number, count(1)

    def __call__(self) -> int:
        return self._number if next(self._asked) >= self._at else 0


def test_stopped_again_and_again_on_other_numbers_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = from_mapping(changed(SCHEDULING, training={"epochs": 3}))
    driver.run(config, out=tmp_path / "whole")
    run, done = tmp_path / "run", list[int]()
    for ranks in (1, 4, 2, 8):
        monkeypatch.setattr(stopping, "requested", Stops(1))
        go = partial(driver.resume, run) if done else partial(driver.run, config, out=run, verify=False)
        with pytest.raises(
            StoppedError, match=r"^stopped by SIGTERM after mini-batch \d \(epoch \d\), "
        ) as stopped:
            go(ranks=ranks)
        assert stopped.value.signal == signal.SIGTERM
        assert str(stopped.value).endswith(f"; go on with: fdtrain run --resume {run}")
        done.append(minibatches(run)[-1])
    monkeypatch.setattr(stopping, "requested", lambda: 0)
    assert done == [2, 4, 6, 8]  # what is asked for in one mini-batch is heard in the next
    driver.resume(run, ranks=3)
    wanted, found = results(tmp_path / "whole"), results(run)
    assert wanted.pop("verify.json")
    assert found == wanted
    resumed = json.loads((run / "environment.json").read_text())["resumptions"]
    assert [(entry["after_minibatch"], entry["ranks"]) for entry in resumed] == [
        (2, 4),
        (4, 2),
        (6, 8),
        (8, 3),
    ]


def test_a_run_that_is_stopped_while_it_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "requested", lambda: signal.SIGINT)
    with pytest.raises(
        StoppedError, match=r"^stopped by SIGINT before the first mini-batch, no checkpoint; "
    ):
        driver.run(from_mapping(REGRESSION), out=tmp_path / "run")
    monkeypatch.undo()
    driver.run(from_mapping(REGRESSION), out=tmp_path / "whole")
    driver.resume(tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")


def test_without_a_directory_it_just_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "requested", Stops(3))
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM after mini-batch 4 \(epoch 2\)$"):
        driver.run(from_mapping({**REGRESSION, "checkpoint": {"every": 1}}), verify=False)


def test_a_run_that_crashed_in_an_epoch(tmp_path: Path) -> None:
    def crash(row: EpochRow) -> None:
        if row.epoch == 2:
            raise RuntimeError("crash")

    config = from_mapping({**REGRESSION, "checkpoint": {"every": 2, "keep": 2}})
    driver.run(config, out=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        driver.run(config, out=tmp_path / "run", on_epoch=crash)
    assert minibatches(tmp_path / "run") == [4, 6]
    driver.resume(tmp_path / "run")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert minibatches(tmp_path / "run") == [6, 8]


def test_what_diverged_is_not_kept(tmp_path: Path) -> None:
    diverging = changed(REGRESSION, model={"activation": "identity"}, optimizer={"kind": "d_sgd", "lr": 1e90})
    config = from_mapping({**diverging, "checkpoint": {"every": 1}})
    with pytest.raises(DivergenceError) as first:
        driver.run(config, out=tmp_path / "run", verify=False)
    assert len(minibatches(tmp_path / "run")) < 3
    with pytest.raises(DivergenceError) as again:
        driver.resume(tmp_path / "run", verify=False)
    assert str(again.value) == str(first.value)


# --- the command line ---


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run that was stopped after 5 of 9 mini-batches, beside `whole`."""
    driver.run(from_mapping({**REGRESSION, "checkpoint": {"every": 1, "keep": 9}}), out=tmp_path / "whole")
    run = stopped_after(5, tmp_path / "whole", tmp_path / "run")
    shutil.copy(tmp_path / "whole" / "checkpoints" / checkpoint.file_name(3), run / "checkpoints")
    return run


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["run", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line.removeprefix("error: ")


def test_the_command_goes_on(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--resume", str(saved), "--ranks", "1", "--no-figures"]) == 0
    assert "going on after mini-batch 5 (epoch 2)\n" in capsys.readouterr().out
    assert results(saved) == results(saved.parent / "whole")
    assert main(["run", "--resume", str(saved)]) == 0
    assert capsys.readouterr().out == f"{saved}: the run is complete\n"
    assert not (saved / "figures").exists()
    with pytest.raises(InputError, match="the run is complete"):
        driver.resume(saved)


def test_without_a_checkpoint_it_begins_anew(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(saved / "checkpoints")
    assert main(["run", "--resume", str(saved), "--ranks", "1", "--no-figures"]) == 0
    told = f"{saved}: there is no checkpoint to go on from: starting from the beginning"
    assert told in capsys.readouterr().out
    assert results(saved) == results(saved.parent / "whole")


def test_what_cannot_be_resumed(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(saved)
    assert refused(capsys) == "CONFIG: is missing; name a configuration, or a run to go on with: --resume DIR"
    for arguments, name in (
        (["quickstart"], "CONFIG: "),
        (["--out", "other"], "--out: "),
        (["--overwrite"], "--overwrite: "),
    ):
        assert refused(capsys, "--resume", run, *arguments).startswith(
            f"{name}has no meaning beside --resume"
        )
    (tmp_path / "empty").mkdir()
    for path, why in (("empty", "it holds no config.yaml"), ("none", "it is no directory")):
        assert refused(capsys, "--resume", str(tmp_path / path)).endswith(
            f"is not the directory of a run: {why}"
        )
    assert refused(capsys, "--resume", run, "--ranks", "8").endswith("use at most 7")
    assert minibatches(saved) == [3, 5]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("lr: 0.01", "lr: 0.02", "optimizer.lr was 0.01, found 0.02"),
        ("epochs: 3", "epochs: 1", "training.epochs was 3, found 1"),
        ("seed: 3", "seed: 4", "seed was 3, found 4"),
        ("kind: d_sgd", "kind: d_adam", "optimizer.kind was 'd_sgd', found 'd_adam'"),
    ],
)
def test_a_changed_configuration_is_refused(
    saved: Path, old: str, new: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = saved / "config.yaml"
    text = config.read_text()
    assert text.count(old) == 1
    config.write_text(text.replace(old, new))
    before = results_of_files(saved)
    assert key in refused(capsys, "--resume", str(saved), "--ranks", "1")
    assert results_of_files(saved) == before
    config.write_text(text.replace("keep: 9", "keep: 1"))  # how many are kept may change
    assert main(["run", "--resume", str(saved), "--ranks", "1", "--no-figures"]) == 0
    assert len(minibatches(saved)) == 1


def results_of_files(run: Path) -> dict[str, bytes]:
    return {str(file.relative_to(run)): file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_changed_data_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = np.random.default_rng(0)

    def write(scale: float) -> None:
        np.savez(
            tmp_path / "data.npz",
            x_train=scale * draws.random((10, 7, 5)), y_train=draws.random((10, 7, 1)),
            x_test=draws.random((3, 7, 5)), y_test=draws.random((3, 7, 1)),
        )  # fmt: skip

    write(1.0)
    given = {
        "task": {"kind": "node_regression", "bundle": str(tmp_path / "data.npz")},
        "checkpoint": {"every": 5},
    }
    driver.run(from_mapping({**REGRESSION, **given}), out=tmp_path / "whole")
    run = stopped_after(5, tmp_path / "whole", tmp_path / "run")
    content = (tmp_path / "data.npz").read_bytes()
    write(2.0)
    said = refused(capsys, "--resume", str(run), "--ranks", "1")
    assert f"is of other data: the content of task.bundle ({tmp_path / 'data.npz'}) has changed since" in said
    (tmp_path / "data.npz").write_bytes(content)
    driver.resume(run)
    assert results(run) == results(tmp_path / "whole")


def test_a_run_that_goes_on_is_left_alone(saved: Path) -> None:
    directory = RunDirectory(saved)
    with directory.locked():
        second = directory.locked(patience=0.2)
        with pytest.raises(InputError, match="another process is at work on this run"):
            second.__enter__()
    with directory.locked(patience=0.2):
        pass


PLUGIN = """
from dataclasses import dataclass
import numpy as np


class Momentum:
    travels, mixes_gradient = ("θ",), False

    def __init__(self, lr, keeps="rows"):
        self.lr, self.keeps = lr, keeps

    def init(self, theta):
        extra = {
            "rows": None, "draws": np.random.default_rng(0), "sum": 0.0, "late": None, "matrix": np.zeros((1, 4))
        }[self.keeps]
        return {"theta": theta.copy(), "velocity": np.zeros_like(theta), "t": 0, "extra": extra}

    def outgoing(self, state, grad):
        return state["theta"]

    def step(self, grad, mixed, state):
        velocity = 0.9 * state["velocity"] + grad
        extra = {"sum": float(grad.sum()), "late": velocity}.get(self.keeps, state["extra"])
        theta = mixed - self.lr(state["t"]) * velocity
        return {"theta": theta, "velocity": velocity, "t": state["t"] + 1, "extra": extra}

    def theta(self, state):
        return state["theta"]
"""


def plugin(folder: Path, keeps: str, every: int | None = 1) -> Content:
    (folder / "own.py").write_text(PLUGIN)
    target = {
        "kind": "plugin",
        "target": f"{folder / 'own.py'}:Momentum",
        "lr": 0.01,
        "parameters": {"keeps": keeps},
    }
    return {**REGRESSION, "optimizer": target, "checkpoint": {"every": every, "keep": 9}}


def test_an_optimizer_of_ones_own_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver.run(from_mapping(plugin(tmp_path, "rows")), out=tmp_path / "whole", allow_plugins=True)
    run = stopped_after(4, tmp_path / "whole", tmp_path / "run")
    assert "--allow-plugins" in refused(capsys, "--resume", str(run), "--ranks", "1")
    driver.resume(run, ranks=2, allow_plugins=True)
    assert results(run) == results(tmp_path / "whole")
    again = stopped_after(4, tmp_path / "whole", tmp_path / "again")
    (tmp_path / "own.py").write_text(PLUGIN.replace("0.9", "0.8"))
    assert "is of other data: the content of optimizer.target" in refused(
        capsys, "--resume", str(again), "--ranks", "1", "--allow-plugins"
    )


@pytest.mark.parametrize(
    ("keeps", "problem"),
    [
        ("draws", "state.extra is a Generator"),
        ("sum", "state.extra is a number that depends on the nodes"),
        ("late", "state.extra is a NoneType at first, and an array"),
        ("matrix", "state.extra is an array [1, 4] for 2 nodes"),
    ],
)
def test_a_state_that_cannot_be_saved(
    tmp_path: Path, keeps: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError) as said:
        driver.run(from_mapping(plugin(tmp_path, keeps)), allow_plugins=True)
    assert f"own.py:Momentum: checkpoint.every needs a state that can be saved: {problem}" in str(said.value)
    # Without checkpoints it may be what it likes; a run that is stopped says that there is none.
    notes = list[str]()
    monkeypatch.setattr(driver.Quiet, "note", lambda self, text: notes.append(text))
    monkeypatch.setattr(stopping, "requested", Stops(2))
    with pytest.raises(StoppedError):
        driver.run(
            from_mapping(plugin(tmp_path, keeps, every=None)),
            out=tmp_path / "run", ranks=2, allow_plugins=True, verify=False,
        )  # fmt: skip
    if keeps in ("draws", "sum", "matrix"):
        assert "no checkpoint after mini-batch" in notes[0]
        assert "state.extra" in notes[0]


# --- processes ---

LONG = {
    **REGRESSION,
    "training": {"epochs": 400, "batch": 4, "wave": 3},
    "checkpoint": {"every": 50, "keep": 99},
}


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fdtrain", "run", *arguments, "--no-figures"]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of a second or two, and its run beside it."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "long.yaml").write_text(json.dumps(LONG))
    driver.run(folder / "long.yaml", out=folder / "whole")
    return folder


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)]
)
def test_a_signal_stops_a_process(long: Path, tmp_path: Path, number: signal.Signals, status: int) -> None:
    run = tmp_path / "run"
    process = start(str(long / "long.yaml"), "--ranks", "1", "--out", str(run))
    wait_for((run / "metrics.csv").exists)
    process.send_signal(number)
    shown, said = process.communicate(timeout=30)
    assert process.returncode == status, said
    t = minibatches(run)[-1]
    file = run / "checkpoints" / checkpoint.file_name(t)
    assert said == (
        f"error: stopped by {number.name} after mini-batch {t:,} (epoch {(t - 1) // 3 + 1}), checkpoint {file}; "
        f"go on with: fdtrain run --resume {run}\n"
    )
    assert "Traceback" not in shown
    assert not is_complete(run)
    driver.resume(run, ranks=2)
    assert results(run) == results(long / "whole")


@needs_mpi
def test_a_signal_stops_all_ranks(long: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(str(long / "long.yaml"), "--ranks", "3", "--out", str(run))
    wait_for((run / "metrics.csv").exists)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said
    (line,) = said.splitlines()
    assert line.startswith("error: stopped by SIG")
    assert line.endswith(f"; go on with: fdtrain run --resume {run}")
    driver.resume(run, ranks=2)
    assert results(run) == results(long / "whole")


def test_a_killed_process_goes_on(long: Path, tmp_path: Path) -> None:
    run, last = tmp_path / "run", 0
    arguments = [str(long / "long.yaml"), "--out", str(run)]
    for _ in range(2):
        process = start(*arguments, "--ranks", "1")
        wait_for(partial(is_newer, run, last))
        process.kill()
        process.communicate()
        arguments, last = ["--resume", str(run)], newest(run)
    assert not is_complete(run)
    driver.resume(run)
    assert results(run) == results(long / "whole")


def is_newer(run: Path, t: int) -> bool:
    return newest(run) > t + 100


def newest(run: Path) -> int:
    files: Sequence[Path] = checkpoint.found_in(run / "checkpoints")
    return int(files[0].stem.rpartition("-")[2]) if files else 0


@needs_mpi
def test_under_mpi_on_other_numbers_of_ranks(long: Path, tmp_path: Path) -> None:
    """1 → 4 → 2 → pure: every life goes on from a checkpoint that the one before has written."""
    run, wanted = long / "whole", results(long / "whole")
    for life, (ranks, t) in enumerate([("4", 300), ("mpirun", 600), ("pure", 900)]):
        run = stopped_after(t, run, tmp_path / str(life))
        half = run / "checkpoints" / checkpoint.file_name(t + 50)
        half.write_bytes(run.joinpath("checkpoints", checkpoint.file_name(t)).read_bytes()[:1000])
        command = ["run", "--resume", str(run), "--no-figures"]
        launched = ranks == "mpirun"
        done = mpirun(2, ["-m", "fdtrain", *command]) if launched else fdtrain(*command, "--ranks", ranks)
        assert done.returncode == 0, done.stderr
        assert f"note: checkpoint {half} is damaged (has " in done.stdout
        assert f"going on after mini-batch {t} (epoch {t // 3})\n" in done.stdout
        assert results(run) == wanted
        counts = json.loads((run / "environment.json").read_text())
        assert counts["ranks"] == {"4": 4, "mpirun": 2, "pure": 7}[ranks]
    assert one_line_error(fdtrain("run", "--resume", str(tmp_path))).endswith("it holds no config.yaml")


@pytest.mark.parametrize("name", ["metrics.csv", "minibatches.csv", "timing.csv"])
@pytest.mark.parametrize("case", ["log and early stop", "centralized adam, logged"])
def test_a_run_that_finds_no_space_left_goes_on_when_there_is_some(
    case: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line was written; all ranks leave, and no later checkpoint is kept."""
    config = from_mapping({**CASES[case], "checkpoint": {"every": 1, "keep": 2}})
    ranks = 1 if config.training.mode == "centralized" else 2
    driver.run(config, out=tmp_path / "whole", ranks=ranks, verify=False)
    append, run = RunDirectory._append, tmp_path / "run"

    def full(directory: RunDirectory, file: str, *lines: Any) -> None:
        if file == name and (directory.path / file).exists():
            with (directory.path / file).open("a") as stream:
                stream.write("2,0.1")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(directory, file, *lines)

    monkeypatch.setattr(RunDirectory, "_append", full)
    with pytest.raises(
        RunFailedError, match=r"csv: cannot be written: No space left on device; make room, and go on"
    ):
        driver.run(config, out=run, ranks=ranks, verify=False)
    monkeypatch.undo()
    driver.resume(run, ranks=1)
    assert results(run) == results(tmp_path / "whole")


@pytest.mark.parametrize("case", ["log and early stop", "d_sgd"])
def test_results_that_find_no_space_left_are_no_success(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(directory: RunDirectory, theta: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunDirectory, "write_theta", full)
    with pytest.raises(RunFailedError, match="cannot be written: No space left"):
        driver.run(from_mapping(CASES[case]), out=tmp_path / "run", verify=False)
