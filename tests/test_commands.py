"""What bad input gets: one line, exit status 2, and nothing half-written or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from commands import fdtrain, one_line_error

from fdtrain import cli
from fdtrain.jobs import repeated

LONG = "x" * 300

GRAPH = "topology={kind: file, path: graph.edges}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainig.epochs=2"], "trainig: unknown key; did you mean 'training'?"),
        (["training.epochs=many"], "training.epochs: input should be a valid integer, found 'many'"),
        (["model.sizes=[3, -2, 1]"], "model.sizes.1: input should be greater than or equal to 1, found -2"),
        (["optimizer.lr=-1"], "optimizer.lr: input should be greater than 0"),
        (["topology={kind: erdos_renyi, nodes: 9, p: 0.0}"], "no connected graph in 100 draws"),
        (["topology={kind: erdos_renyi, nodes: 1000000, p: 0.5}"], "small enough for 50,000,000 edges"),
        (
            ["topology={kind: random_matching, nodes: 9, connected: true}"],
            "topology: connected: random_matching moves, and may be disconnected at any time",
        ),
        ([GRAPH, "loop"], "self-loop"),
        ([GRAPH, "twice"], "is on line 1 already; keep one"),
        ([GRAPH, "parts"], "2 components"),
        ([GRAPH, "none"], "graph.edges"),
        (["--ranks", "1000"], "the network has only"),
        (["--ranks", "0"], "--ranks: must be a number ≥ 1, 'pure' or 'auto', found '0'"),
        (["topology={kind: bundle}"], "bundle takes the edges of task.bundle, which is not given"),
        (["task={bundle: nowhere.npz}"], "nowhere.npz: no such file"),
        ([f"task={{bundle: {LONG}}}"], "no such file"),
        (["--out", LONG], "cannot be written"),
        (["model.init={low: -1.0e308, high: 1.0e308}"], "less than 1e308 apart"),
    ],
)
def test_run_refuses(tmp_path: Path, arguments: list[str], message: str) -> None:
    edges = {"loop": "0 1\n1 1\n", "twice": "0 1\n1 0\n", "parts": "0 1\n2 3\n", "none": ""}
    graph = next((edges[word] for word in arguments if word in edges), "0 1\n")
    (tmp_path / "graph.edges").write_text(graph)
    arguments = [word for word in arguments if word not in edges]
    if "--out" not in arguments:
        arguments += ["--out", "run"]
    found = one_line_error(fdtrain("run", "ci/smoke", *arguments, cwd=tmp_path))
    assert message in found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.edges"]


def test_an_existing_run_is_kept_unless_overwritten(tmp_path: Path) -> None:
    first = fdtrain("run", "ci/smoke", "--ranks", "1", "--out", "run", "--no-figures", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    message = one_line_error(fdtrain("run", "ci/smoke", "--ranks", "1", "--out", "run", cwd=tmp_path))
    assert "already holds a run" in message
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before
    again = fdtrain(
        "run", "ci/smoke", "--ranks", "1", "--out", "run", "--overwrite", "--no-figures", cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("name", ["thesis.txt", "checkpoints/thesis.txt", "figures/mine.png"])
def test_overwrite_never_removes_what_no_run_wrote(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    message = one_line_error(
        fdtrain("run", "ci/smoke", "--ranks", "1", "--out", "run", "--overwrite", cwd=tmp_path)
    )
    assert "which is not a run's" in message
    assert mine.read_text() == "years of work"


def test_a_run_that_comes_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    sparse = "topology={kind: erdos_renyi, nodes: 8, p: 0.4, max_draws: 1, redraw: {every: 1}}"
    for seed in range(50):
        if fdtrain("config", "ci/smoke", sparse, f"seed={seed}").returncode == 0:
            break
    epochs = ["training.epochs=1", "training.batch=1", "training.wave=1"]
    arguments = [sparse, f"seed={seed}", *epochs, "--ranks", "1", "--out", "run"]
    message = one_line_error(fdtrain("run", "ci/smoke", *arguments, cwd=tmp_path))
    assert "no connected graph in 1 draw" in message
    assert not (tmp_path / "run").exists()


def test_verify_needs_a_place_for_its_result() -> None:
    assert "there is no directory /nowhere" in one_line_error(
        fdtrain("verify", "ci/smoke", "--out", "/nowhere/v.json")
    )


def test_a_diverging_centralized_run_keeps_its_results(tmp_path: Path) -> None:
    overrides = ["training.mode=centralized", "optimizer={kind: sgd, lr: 1e300}", "model.activation=identity"]
    result = fdtrain("run", "ci/smoke", *overrides, "--out", "run", cwd=tmp_path)
    assert result.returncode == 1
    assert "training diverged: epoch 1: layer " in result.stderr
    assert not np.isfinite(np.load(tmp_path / "run" / "theta.npz")["theta"]).all()
    assert (tmp_path / "run" / "environment.json").is_file()


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.sizes=[64, 64, 1]"],
        ["model.init={low: 3.0, high: 5.0}"],
        ["model.activation=tanh", "model.sizes=[64, 64, 1]"],
    ],
)
def test_saturated_activations_verify(tmp_path: Path, overrides: list[str]) -> None:
    result = fdtrain("verify", "ci/smoke", *overrides, "--ranks", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("given", "changed", "expected"),
    [
        (
            "run smoke a.b=1 c=2 --ranks 4 --no-verify --overwrite --figures",
            {"out": Path("runs/now")},
            "run --out runs/now --overwrite --no-verify --profile-minibatches 6 -- smoke a.b=1 c=2",
        ),
        ("run smoke --allow-plugins", {}, "run --verify --profile-minibatches 6 --allow-plugins -- smoke"),
        ("verify smoke", {}, "verify --minibatches 3 --out verify.json -- smoke"),
        ("cost", {}, "cost -- paper/table1"),
        ("cost x a=1 --waves 1,10 --out c.csv", {}, "cost --waves 1,10 --out c.csv -- x a=1"),
        ("bench start --ranks pure", {}, "bench --repeats 15 -- start quickstart"),
    ],
)
def test_rank_0_repeats_the_command(given: str, changed: dict[str, Any], expected: str) -> None:
    name, *rest = given.split()
    group: Any = typer.main.get_command(cli.app)
    context = group.commands[name].make_context(name, rest)
    assert repeated(context, **changed) == expected.split()
