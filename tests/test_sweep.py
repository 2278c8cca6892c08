"""Sweeps: which runs there are, that they are run once and survive any end, and what is collected of them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from commands import environment, needs_mpi
from rich.console import Console

from fdtrain import cli
from fdtrain.config import load as load_config
from fdtrain.errors import InputError
from fdtrain.reference import mixing_matrix
from fdtrain.rundir import RunDirectory, is_complete
from fdtrain.sweep import display, pictures, plan
from fdtrain.sweep.labels import as_label
from fdtrain.sweep.runner import Running
from fdtrain.sweep.table import Results, failure_file, labelled, schema, summarize

BASE: dict[str, Any] = {
    "topology": {"kind": "barabasi_albert", "nodes": 8, "m": 2},
    "model": {"sizes": [10, 4, 1]},
    "task": {"train_samples": 12, "test_samples": 3},
    "training": {"epochs": 3, "batch": 6, "wave": 6},
    "optimizer": {"kind": "d_sgd", "lr": 1e-3},
}
SGD = {"training": {"mode": "centralized", "epochs": 3, "batch": 6}, "optimizer": {"kind": "sgd", "lr": 1e-3}}
CONTENT: dict[str, Any] = {
    "name": "small",
    "base": BASE,
    "axes": {
        "approach": {
            "SGD": {"set": SGD, "published": {"mse_train": 0.5, "mse_test": 0.25}},
            "D-SGD": {"set": {"optimizer.lr": 2e-3}},
        },
        "seed": [1, 2],
    },
    "target": {"metric": "mse_train", "value": 1.0},
    "baseline": {"approach": "SGD"},
    "snapshots": [2, 9],
    "figures": [
        {"kind": "curves", "name": "loss", "x": "rounds", "y": "mse_train"},
        {
            "kind": "scatter",
            "name": "early",
            "x": "spectral_gap",
            "y": "disagreement_at_2",
            "where": {"approach": ["D-SGD"]},
        },
        {"kind": "scatter", "name": "gap", "x": "spectral_gap", "y": "disagreement", "colour": "approach"},
    ],
}


def changed(**change: Any) -> dict[str, Any]:
    return {key: value for key, value in {**CONTENT, **change}.items() if value is not None}


def written(folder: Path, content: dict[str, Any]) -> Path:
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def points_of(folder: Path, *overrides: str, **change: Any) -> list[plan.Point]:
    return plan.load(written(folder, changed(**change)), overrides).points


# --- which runs there are


def test_points_are_the_product_with_the_last_axis_fastest(tmp_path: Path) -> None:
    found = points_of(tmp_path)
    assert [tuple(point.labels.values()) for point in found] == [
        ("SGD", "1"),
        ("SGD", "2"),
        ("D-SGD", "1"),
        ("D-SGD", "2"),
    ]
    assert [*found[0].labels] == ["approach", "seed"]
    assert found[3].overrides == {"optimizer.lr": 2e-3, "seed": 2}
    assert found[3].title == "D-SGD, seed 2"
    config = found[3].config
    assert config is not None
    assert (config.seed, config.optimizer.lr, config.training.epochs) == (2, 2e-3, 3)
    assert (found[0].published, found[3].published) == (
        {"published_train": 0.5, "published_test": 0.25},
        {},
    )


def test_overrides_change_the_base_and_axes_win(tmp_path: Path) -> None:
    found = points_of(tmp_path, "training.epochs=2", "optimizer.lr=7.0", "seed=9", "model.activation=tanh")
    configs = [point.config for point in found]
    assert [c.training.epochs for c in configs if c] == [3, 3, 2, 2]  # SGD sets the whole section
    assert [c.optimizer.lr for c in configs if c] == [1e-3, 1e-3, 2e-3, 2e-3]
    assert [c.seed for c in configs if c] == [1, 2, 1, 2]
    assert {c.model.activation for c in configs if c} == {"tanh"}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1e-3, "0.001"),
        (3, "3"),
        (True, "true"),
        ("tanh", "tanh"),
        ([10, 4, 1], "[10, 4, 1]"),
        ({"kind": "ring", "nodes": 5}, "{kind: ring, nodes: 5}"),
        (None, "null"),
    ],
)
def test_labels_are_text(value: Any, label: str) -> None:
    assert as_label(value) == label


def test_directories_are_readable_and_differ_when_the_configuration_does(tmp_path: Path) -> None:
    first = [point.directory for point in points_of(tmp_path)]
    assert [name.rpartition("-")[0] for name in first] == [
        "runs/SGD-seed1",
        "runs/SGD-seed2",
        "runs/D-SGD-seed1",
        "runs/D-SGD-seed2",
    ]
    assert first == [point.directory for point in points_of(tmp_path)]
    other = [point.directory for point in points_of(tmp_path, "model.activation=tanh")]
    assert not {*first} & {*other}
    axes = {"topology": [{"kind": "ring", "nodes": 5}], "model.activation": ["tanh"], "x/y z": {"ä ": {}}}
    with pytest.raises(InputError, match="x/y z"):
        points_of(tmp_path, axes=axes, baseline=None, figures=None)
    axes["y"] = axes.pop("x/y z")
    name = points_of(tmp_path, axes=axes, baseline=None, figures=None)[0].directory
    assert name.startswith("runs/topology_kind_ring_nodes_5-tanh-")


def test_a_base_is_found_beside_the_sweep_or_among_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "net.edges").write_text("0 1\n1 2\n2 0\n")
    base = {**BASE, "name": "own", "topology": {"kind": "file", "path": "net.edges"}}
    (tmp_path / "sub" / "own.yaml").write_text(yaml.safe_dump(base))
    for name in ("sub/own", "sub/own.yaml"):
        config = points_of(tmp_path, base=name)[2].config
        assert config is not None
        assert config.name == "own"
        assert config.topology.path == str(tmp_path / "sub" / "net.edges")  # type: ignore[union-attr]
    config = points_of(tmp_path, base="ci/smoke")[2].config
    assert config is not None
    assert config.name == "smoke"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axess": {}}, "axess: unknown key; did you mean 'axes'?"),
        ({"axes": None}, "axes: is missing"),
        ({"base": None}, "base: is missing; it must be given"),
        ({"name": None}, "name: is missing"),
        ({"name": "a/b"}, "name: string should match pattern"),
        ({"base": "nowhere"}, "base: nowhere: no such file, and no configuration that comes with fdtrain"),
        ({"base": "examples/sweep_mixing"}, "is a sweep; name a configuration"),
        ({"axes": {}}, "axes: is empty; give at least one axis"),
        ({"axes": []}, "axes: must be a section of keys, {key: value, …}, found []"),
        ({"axes": {"seed": []}}, "axes.seed: is empty; give it at least one value"),
        ({"axes": {"approach": {}}}, "axes.approach: is empty"),
        ({"axes": {"seed": 3}}, "axes.seed: must be a list of values or a mapping of labels, found 3"),
        ({"axes": {"seed": [1, 2, 1]}}, "axes.seed: the value 1 stands twice; keep one"),
        ({"axes": {"sed": [1]}}, "axes.sed: 'sed' is no key of a configuration; did you mean 'seed'?"),
        ({"axes": {"a": {"b": {"sett": {}}}}}, "axes.a.b.sett: unknown key; did you mean 'set'?"),
        ({"axes": {"a": {"b": {"set": {"optimiser.lr": 1}}}}}, "did you mean 'optimizer'?"),
        ({"axes": {"a": {"b": 3}}}, "axes.a.b: must be a section of keys, {key: value, …}, found 3"),
        ({"axes": {"nodes": {"b": {}}}}, "axes.nodes: is a column of the table; name the axis otherwise"),
        *(
            ({"axes": {name: {"b": {}}}, "snapshots": [1]}, f"axes.{name}: is a column of the table; name")
            for name in ("status", "rounds_to_target", "mse_train_at_1", "disagreement_at_1")
        ),
        *(
            ({"axes": {name: {"b": {}}}}, f"axes.{name}: is a column of the summary; name the axis otherwise")
            for name in ("n", "failed", "n_reached", "mse_train_mean", "mse_test_std", "edges_mean")
        ),
        ({"snapshots": [2, 3, 2]}, "snapshots: the epoch 2 stands twice; keep one"),
        ({"base": 3}, "base: must be a file name or a mapping, found 3"),
        ({"base": {3: 1}}, "base: input should be a valid string, found {3: 1} (and 1 more)"),
        ({"axes": {3: {"a": {}}}}, "axes.3: input should be a valid string, found 3"),
        ({"axes": {"a": {"str": 3}}}, "axes.a.str: must be a section of keys"),
        ({"target": {"metric": "mse_test", "value": float("nan")}}, "target.value: input should be a finite"),
        (
            {"axes": {"a": {"b": {"published": {"mse_test": float("inf")}}}}},
            "axes.a.b.published.mse_test: input should be a finite number, found inf",
        ),
        ({"axes": {"a": {"b\nc": {}}}}, "a label must be text on one line"),
        (
            {"axes": {"optimizer.lr": [1.0], "a": {"b": {"set": {"optimizer": {}}}}}},
            "axes.a.b.set.optimizer: would undo optimizer.lr, which axis 'optimizer.lr' has set",
        ),
        (
            {"axes": {"a": {"b": {"set": {"seed": 1}}}, "seed": [1]}},
            "would undo seed, which axis 'a' has set",
        ),
        (
            {"axes": {"optimizer.lrr": [1.0]}},
            "no combination of the axes is a valid configuration; the first",
        ),
        ({"baseline": {"aproach": "SGD"}}, "baseline.aproach: 'aproach' is no axis; did you mean 'approach'"),
        ({"baseline": {"approach": "GD"}}, "baseline.approach: 'GD' is no label; did you mean 'SGD'?"),
        ({"baseline": {}}, "baseline: is empty"),
        ({"target": {"metric": "mse", "value": 1.0}}, "target.metric: input should be 'mse_train', "),
        ({"target": {"metric": "mse_train", "value": "low"}}, "target.value: input should be a valid number"),
        (
            {"figures": [{"kind": "curves", "name": "a", "x": "nodes", "y": "mse_train"}]},
            "figures.0.x: 'nodes' is no x of curves; known: epochs, rounds, bytes, seconds, minibatches",
        ),
        (
            {"figures": [{"kind": "curves", "name": "a", "x": "epoch", "y": "mse_train"}]},
            "figures.0.x: 'epoch' is no x of curves; did you mean 'epochs'?",
        ),
        (
            {"figures": [{**CONTENT["figures"][0], "where": {"seed": [1, 3]}}]},
            "figures.0.where.seed: '3' is no label; known: 1, 2",
        ),
        (
            {"figures": [{"kind": "scatter", "name": "a", "x": "spectral_gab", "y": "mse_train"}]},
            "figures.0.x: 'spectral_gab' is no numeric column; did you mean 'spectral_gap'?",
        ),
        (
            {"figures": [{"kind": "scatter", "name": "a", "x": "nodes", "y": "mse_test", "colour": "lr"}]},
            "figures.0.colour: 'lr' is no axis",
        ),
        ({"figures": [{"kind": "pie"}]}, "figures.0.kind: input should be 'curves', 'scatter' or 'lines'"),
        ({"figures": [CONTENT["figures"][0]] * 2}, "figures.1.name: 'loss' is an earlier figure's"),
    ],
)
def test_bad_sweep_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    if "axes" in change and "baseline" not in change:
        change |= {"baseline": None, "figures": None}
    file = written(tmp_path, changed(**change))
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {file}: ")
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nowhere.yaml"],
            "no such file, and no sweep that comes with fdtrain; those are examples/sweep_mixing",
        ),
        (["quickstart"], "is a configuration, not a sweep; give it to fdtrain run"),
        (["s.yaml", "training.epohs=3"], "training.epohs: unknown key; did you mean 'epochs'?"),
        (["s.yaml", "training"], "override 'training': must look like section.key=value"),
        (["s.yaml", "--jobs", "0"], "--jobs"),
        (["s.yaml", "--ranks", "many"], "--ranks"),
        (["s.yaml", "--out", "s.yaml"], "is a file; name a directory"),
        (["s.yaml", "--out", "."], "holds 's.yaml', which is no sweep's; name another directory"),
        (["s.yaml", "--out", ".", "--dry-run"], "which is no sweep's"),
    ],
)
def test_bad_commands(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    axes = {"optimizer.lr": [1e-3]}
    written(tmp_path, changed(axes=axes, baseline=None, figures=None))
    assert cli.main(["sweep", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_a_sweep_is_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "examples/sweep_mixing"]) == 2
    assert "is a sweep, not a configuration; give it to fdtrain sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complete"),
    [
        ('{"outcome": "complete"}', True),
        ('{"outcome": "stopped early: no progress"}', True),
        ('{"outcome": "interrupted"}', False),
        ('{"outcome": 3}', False),
        ("{}", False),
        ("[]", False),
        ('{"outcome": "comp', False),
        (None, False),
    ],
)
def test_completeness_is_read_off_the_directory(tmp_path: Path, content: str | None, complete: bool) -> None:
    if content is not None:
        (tmp_path / "environment.json").write_text(content)
    assert is_complete(tmp_path) is complete


# --- a sweep that is run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep, run two at a time."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = ["sweep", str(written(folder, CONTENT)), "--out", str(folder / "out"), "--jobs", "2"]
    assert cli.main(arguments) == 0
    return folder / "out"


def frame_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "table.parquet")


def test_the_table_says_what_the_runs_say(done: Path) -> None:
    frame = frame_of(done)
    assert frame["approach"].to_list() == ["SGD", "SGD", "D-SGD", "D-SGD"]
    assert frame["seed"].to_list() == [1, 2, 1, 2]
    assert frame["status"].to_list() == ["complete"] * 4
    for row in frame.iter_rows(named=True):
        run = RunDirectory(done / row["directory"])
        epochs, config = run.read_metrics(), load_config(run.path / "config.yaml")
        assert config.seed == row["seed"]
        last = epochs[-1]
        for name in ("mse_train", "mse_test", "disagreement", "rounds", "messages", "bytes"):
            assert row[name] == last.columns()[name]
        assert row["seconds"] == run.read_timing()[-1]
        graph, _ = run.read_network()
        assert (row["nodes"], row["edges"]) == (8, graph.num_edges)
        assert row["mean_degree"] == 2 * graph.num_edges / 8
        reached = next((one.epoch for one in epochs if one.train <= 1.0), None)
        assert row["epochs_to_target"] == reached
        if row["approach"] == "SGD":
            assert (row["spectral_gap"], row["rounds"], row["published_test"]) == (None, 0, 0.25)
        else:
            values = np.linalg.eigvalsh(mixing_matrix(graph.adjacency(), "metropolis").toarray())
            assert row["spectral_gap"] == pytest.approx(1 - np.sort(np.abs(values))[-2])
            base = frame.filter(pl.col("approach") == "SGD", pl.col("seed") == row["seed"])
            assert row["excess_train"] == row["mse_train"] - base["mse_train"].item()
            assert row["published_test"] is None
    assert frame["error"].null_count() == 4


@pytest.mark.parametrize(
    ("labels", "kind", "values"),
    [
        ([1, 2], pl.Int64, [1, 2]),
        ([-3, 0], pl.Int64, [-3, 0]),
        ([1e-2, 1e-5], pl.Float64, [1e-2, 1e-5]),
        ([1, 2.5], pl.Float64, [1.0, 2.5]),
        ([2**64, 1], pl.Float64, [2.0**64, 1.0]),
        ([1, "1.0"], pl.String, ["1", "1.0"]),  # two labels remain two
        ([1, "tanh"], pl.String, ["1", "tanh"]),
        (["007", "nan"], pl.String, ["007", "nan"]),
        ([True, False], pl.String, ["true", "false"]),
        ([None, 1], pl.String, ["null", "1"]),
    ],
)
def test_an_axis_of_numbers_is_a_column_of_numbers(
    tmp_path: Path, labels: list[Any], kind: Any, values: list[Any]
) -> None:
    axes = {"optimizer.lr": [1e-3], "level": {label: {} for label in labels}}
    found = plan.load(written(tmp_path, changed(axes=axes, baseline=None, figures=None)))
    assert [point.labels["level"] for point in found.points] == [*map(as_label, labels)]
    frame = Results(found, tmp_path).frame()
    assert (frame.schema["level"], frame["level"].to_list()) == (kind, values)
    assert labelled(frame, found.config)["level"].to_list() == [*map(as_label, labels)]
    assert summarize(frame, found.config)["level"].to_list() == values
    assert ("level" in found.config.numeric_columns) is (kind != pl.String)


def test_csv_and_parquet_are_equal(done: Path) -> None:
    frame = frame_of(done)
    assert pl.read_csv(done / "table.csv", schema=dict(frame.schema)).equals(frame)


def test_the_summary_is_mean_and_deviation_over_the_seeds(done: Path) -> None:
    frame = frame_of(done)
    summary = pl.read_csv(done / "summary.csv")
    assert summary["approach"].to_list() == ["SGD", "D-SGD"]
    assert summary["n"].to_list() == [2, 2]
    assert summary["failed"].to_list() == [0, 0]
    assert summary["published_train"].to_list() == [0.5, None]
    for k, approach in enumerate(("SGD", "D-SGD")):
        for name in ("mse_train", "mse_test", "disagreement", "rounds", "excess_test"):
            values = frame.filter(pl.col("approach") == approach)[name].to_numpy()
            assert summary[f"{name}_mean"][k] == pytest.approx(values.mean(), rel=1e-14)
            assert summary[f"{name}_std"][k] == pytest.approx(np.std(values, ddof=1), rel=1e-12, abs=1e-18)
    assert "spectral_gap_mean" in summary.columns


def test_failed_runs_do_not_count_and_one_run_has_no_deviation(tmp_path: Path) -> None:
    sweep = plan.load(written(tmp_path, changed())).config
    rows = {"approach": ["SGD", "SGD"], "seed": [1, 2], "status": ["complete", "failed"]}
    frame = pl.DataFrame({**rows, **{name: [2.0, None] for name in sweep.measures}})
    line = summarize(frame, sweep).row(0, named=True)
    assert (line["n"], line["failed"], line["mse_test_mean"], line["mse_test_std"]) == (1, 1, 2.0, None)


def test_figures_and_record(done: Path) -> None:
    for name in ("loss", "gap"):
        assert (done / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    record = yaml.safe_load((done / "sweep.yaml").read_text())
    assert [point["directory"] for point in record["points"]] == frame_of(done)["directory"].to_list()
    assert record["points"][3]["labels"] == {"approach": "D-SGD", "seed": "2"}
    assert record["repetitions"] == ["seed"]


def test_snapshots_are_the_metrics_of_their_epochs(done: Path) -> None:
    frame = frame_of(done)
    for row in frame.iter_rows(named=True):
        second = RunDirectory(done / row["directory"]).read_metrics()[1]
        assert row["mse_train_at_2"] == second.train
        assert row["disagreement_at_2"] == second.disagreement
    assert frame["mse_test_at_9"].null_count() == len(frame)  # after the last epoch


def test_a_figure_may_leave_labels_out(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(
        "fdtrain.figures.draw_scatter", lambda file, points, *_: drawn.update({file.stem: points})
    )
    sweep = plan.load(written(tmp_path, CONTENT))
    (tmp_path / "runs").symlink_to(done / "runs")
    pictures.draw(sweep, frame_of(done), tmp_path)
    assert [point.label for point in drawn["early"]] == ["D-SGD"]
    early = frame_of(done).filter(pl.col("approach") == "D-SGD")["disagreement_at_2"]
    assert drawn["early"][0].y == pytest.approx(early.mean())


def test_labels_that_are_numbers_choose_and_place_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr(
        "fdtrain.figures.draw_scatter", lambda file, points, *_: drawn.update({file.stem: points})
    )
    figure = {"kind": "scatter", "x": "optimizer.lr", "y": "mse_train"}
    figures = [
        {**figure, "name": "all", "colour": "optimizer.lr"},
        {**figure, "name": "numbers", "where": {"optimizer.lr": [1e-2], "seed": [2]}},
        {**figure, "name": "texts", "where": {"optimizer.lr": ["0.01"]}},
    ]
    axes = {"optimizer.lr": [1e-3, 1e-2], "seed": [1, 2]}
    file = written(tmp_path, changed(axes=axes, baseline=None, figures=figures))
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 0
    assert [(point.x, point.group) for point in drawn["all"]] == [(1e-3, "0.001"), (1e-2, "0.01")]
    assert [(point.x, point.label) for point in drawn["texts"]] == [(1e-2, "lr 0.01")]
    (point,) = drawn["numbers"]
    row = frame_of(tmp_path / "out").row(
        by_predicate=(pl.col("optimizer.lr") > 5e-3) & (pl.col("seed") == 2), named=True
    )
    assert (point.x, point.y, point.spread) == (1e-2, row["mse_train"], (0.0, 0.0))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_summary_fits_and_keeps_mean_and_deviation_together(
    done: Path, tmp_path: Path, width: int
) -> None:
    sweep = plan.load(written(tmp_path, CONTENT))
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    display.conclude(sweep, Results(sweep, done), frame_of(done), Path("out"), [], 2, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    _, headings, sgd, dsgd, *note, files, others = shown.splitlines()
    assert "mse train" in headings
    assert "disagreement" not in headings or width == 120
    mean, deviation = (frame_of(done)["mse_train"][2:].mean(), frame_of(done)["mse_train"][2:].std())
    assert f" {mean:.4g} ± {deviation:.2g} " in dsgd + " "
    assert sgd.startswith("SGD ")
    assert "…" not in shown
    assert max(map(len, (headings, sgd, dsgd))) <= width
    assert " ".join(note).startswith("± standard deviation over 2 seeds")
    assert files == "files in out: table.csv, table.parquet, summary.csv"
    assert others == "2 directories of other settings in runs/ are left as they are"


def test_equal_reasons_are_told_once(tmp_path: Path) -> None:
    approach = {"bad": {"set": {"training.wave": 7}}, "good": {}, "far": {"set": {"optimizer.lr": 3e-3}}}
    content = changed(axes={"approach": approach, "seed": [1, 2]}, baseline=None, figures=None, target=None)
    found = plan.load(written(tmp_path, content))
    (tmp_path / "failures").mkdir()
    for point, epoch in zip(found.points[4:], (3, 12), strict=True):
        failure_file(tmp_path, point).write_text(
            f"training diverged: epoch {epoch}, layer 1\n\nall it said\n"
        )
    results = Results(found, tmp_path)
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    display.make_view(found, results, 4, console)
    display.conclude(found, results, results.frame(), tmp_path, [], 0, console)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert (
        f"2 combinations invalid in {found.source}: training: wave: must be at most batch = 6, found 7"
        == lines[1]
    )
    assert lines[-5:-1] == [
        lines[1],
        "  bad, seed 1; bad, seed 2",
        "2 runs failed: training diverged: epoch …, layer 1",
        "  far, seed 1; far, seed 2",
    ]
    console = Console(width=40, file=io.StringIO(), force_terminal=True, color_system=None)
    display.make_view(found, results, 4, console)
    first = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(first) == 2
    assert len(first[1].rstrip()) <= 40
    assert first[1].rstrip().endswith("…")


def test_what_belongs_to_other_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = changed(axes={"seed": [1]}, baseline=None, figures=None)
    out = tmp_path / "out"
    arguments = ["sweep", str(written(tmp_path, content)), "--out", str(out)]
    assert cli.main(arguments) == 0
    assert "other settings" not in capsys.readouterr().out
    (first,) = (out / "runs").iterdir()
    (out / "failures" / f"{first.name}.txt").write_text("was ended by SIGKILL\n")
    (out / "configs" / "own.yaml").write_text("kept: true\n")
    assert cli.main([*arguments, "model.activation=tanh"]) == 0
    assert "1 directory of other settings in runs/ is left as it is" in capsys.readouterr().out
    (second,) = {*(out / "runs").iterdir()} - {first}
    assert is_complete(first)
    assert {file.name for file in (out / "configs").iterdir()} == {"own.yaml", f"{second.name}.yaml"}
    assert not [*(out / "failures").iterdir()]


def test_other_data_in_the_same_file_is_another_run(tmp_path: Path) -> None:
    graph = tmp_path / "net.edges"
    content = changed(base={**BASE, "topology": {"kind": "file", "path": "net.edges"}})
    places = []
    for edges in ("0 1\n1 2\n", "0 1\n1 2\n2 0\n", "0 1\n1 2\n"):
        graph.write_text(edges, encoding="utf-8")
        places.append([point.directory for point in plan.load(written(tmp_path, content)).points])
    assert places[0] == places[2]
    assert not set(places[0]) & set(places[1])


def test_what_sends_nothing_goes_along_in_curves(done: Path, tmp_path: Path) -> None:
    sweep = plan.load(written(tmp_path, CONTENT))
    figure = sweep.config.figures[0]
    (silent, talking), note = pictures.series(sweep, frame_of(done), done, figure)
    assert (silent.label, silent.sends, talking.label, talking.sends) == ("SGD", False, "D-SGD", True)
    assert len(silent.runs) == len(talking.runs) == 2
    for x, y in silent.runs:
        np.testing.assert_array_equal(x, talking.runs[0][0])
        assert y.shape == x.shape
    assert note == "dashed: centralized, sends nothing; drawn at the rounds of D-SGD"
    points = pictures.scatter(sweep, frame_of(done), sweep.config.figures[2])
    assert [point.group for point in points] == ["D-SGD"]  # SGD has no gap
    assert points[0].spread[1] > 0


def test_what_is_complete_is_not_run_again(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in (done / "runs").rglob("*")}
    table = (done / "table.csv").read_bytes()
    assert cli.main(["sweep", str(done.parent / "s.yaml"), "--out", str(done), "--no-figures"]) == 0
    shown = capsys.readouterr().out
    assert "4 runs, 4 complete before, 0 to do" in shown
    assert "0.5 (" in shown  # published, with the ratio
    assert {file: file.stat().st_mtime_ns for file in (done / "runs").rglob("*")} == before
    assert (done / "table.csv").read_bytes() == table


def test_another_sweeps_directory_is_refused(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, changed(name="other"))
    assert cli.main(["sweep", str(file), "--out", str(done)]) == 2
    assert "holds the sweep 'small'; name another directory" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, CONTENT)
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("to run") == 4
    assert not (tmp_path / "out").exists()


def test_failures_do_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = {
        "approach": {
            "diverging": {
                "set": {"optimizer.lr": 1e6, "model.activation": "identity", "training.epochs": 60}
            },
            "invalid": {"set": {"training.wave": 7}},
            "nowhere": {"set": {"topology": {"kind": "erdos_renyi", "nodes": 9, "p": 0.0}}},
            "good": {},
        }
    }
    content = changed(axes=axes, baseline=None, figures=None)
    arguments = ["sweep", str(written(tmp_path, content)), "--out", str(tmp_path / "out"), "--jobs", "2"]
    assert cli.main(arguments) == 1
    frame = frame_of(tmp_path / "out")
    assert frame["status"].to_list() == ["failed", "failed", "failed", "complete"]
    reasons = frame["error"].to_list()
    assert reasons[0].startswith("training diverged: epoch ")
    assert "wave: must be at most batch = 6, found 7" in reasons[1]
    assert "no connected graph in 100 draws" in reasons[2]
    assert reasons[3] is None
    assert frame["mse_train"].null_count() == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 runs failed" not in shown  # for different reasons
    assert f"1 combination invalid in {tmp_path / 's.yaml'}: training: wave: must be" in shown
    for reason in reasons[:3]:
        assert reason.split(": ", 1)[1][:40] in shown
    kept = [*(tmp_path / "out" / "failures").iterdir()]
    assert len(kept) == 2  # those that were tried
    axes["approach"]["diverging"]["set"]["optimizer.lr"] = 1e-6
    del axes["approach"]["invalid"], axes["approach"]["nowhere"]
    written(tmp_path, content)
    assert cli.main(arguments) == 0
    assert frame_of(tmp_path / "out")["status"].to_list() == ["complete"] * 2


def test_a_run_that_is_killed_is_told(tmp_path: Path) -> None:
    point = points_of(tmp_path)[2]
    for name in ("runs", "configs", "failures"):
        (tmp_path / name).mkdir()
    running = Running(point, tmp_path, 1)
    os.killpg(running.process.pid, signal.SIGKILL)
    while running.read():
        pass
    assert running.finish() == "was ended by SIGKILL"
    failure = tmp_path / "failures" / f"{Path(point.directory).name}.txt"
    assert failure.read_text() == "was ended by SIGKILL\n"


def test_what_diverges_to_infinity_has_failed(tmp_path: Path) -> None:
    content = changed(axes={"optimizer.lr": [1e-3, 1e300]}, baseline=None, figures=None)
    assert cli.main(["sweep", str(written(tmp_path, content)), "--out", str(tmp_path / "out")]) == 1
    frame = frame_of(tmp_path / "out")
    assert frame["status"].to_list() == ["complete", "failed"]
    assert frame["error"][1].startswith("training diverged: epoch 1")
    assert frame["disagreement"].is_finite().to_list() == [True, None]


ONE = changed(axes={"seed": [1]}, baseline=None, figures=None)


def test_no_module_comes_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for name in ("yaml.py", "random.py", "fdtrain.py"):
        (here / name).write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(here)
    assert cli.main(["sweep", str(written(tmp_path, ONE)), "--out", str(tmp_path / "out")]) == 0
    assert frame_of(tmp_path / "out")["status"].to_list() == ["complete"]


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _change(file: Path) -> None:
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["indices"][0] = 99
    np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("network.npz", Path.unlink),
        ("network.npz", _cut),
        ("network.npz", _change),
        ("network.npz", lambda file: file.write_bytes(b"")),
        ("timing.csv", Path.unlink),
        ("timing.csv", lambda file: file.write_text("epoch,seconds\n1,0.5\n")),
        ("metrics.csv", lambda file: file.write_text("")),
        ("metrics.csv", lambda file: file.write_bytes(b"\xff\xfe")),
        ("metrics.csv", lambda file: file.write_text("epoch,mse_train\n1,2\n")),
        ("metrics.csv", lambda file: file.write_text("epoch\n1,2\n")),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # numpy leaves the file open
def test_a_complete_run_that_is_damaged_is_run_again(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Any
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    directory = frame_of(done)["directory"][2]
    damage(out / directory / name)
    arguments = ["sweep", str(done.parent / "s.yaml"), "--out", str(out), "--no-figures"]
    assert cli.main([*arguments, "--dry-run"]) == 0
    told = "D-SGD, seed 1 is run again: its files cannot be read: "
    shown = capsys.readouterr().out
    assert shown.startswith(told)
    assert f"(in {directory})" in shown.splitlines()[0]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count(told) == 1
    assert "4 runs, 3 complete before, 1 to do" in shown
    assert without_seconds(out) == without_seconds(done)


def test_a_damaged_run_is_a_failed_one(done: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copytree(done / "runs", tmp_path / "runs", dirs_exist_ok=True)
    sweep = plan.load(done.parent / "s.yaml")
    (tmp_path / sweep.points[0].directory / "network.npz").unlink()
    frame = Results(sweep, tmp_path).frame()
    assert frame["status"].to_list() == ["failed", "complete", "complete", "complete"]
    assert frame["error"][0] == "its files cannot be read: network.npz: No such file or directory"
    assert frame["excess_test"].null_count() == 2  # its own, and that of the run that is compared with it


def test_no_axis_is_called_as_a_column(tmp_path: Path) -> None:
    config = plan.load(written(tmp_path, CONTENT)).config
    frame = pl.DataFrame(schema=schema(config))
    columns = {*frame.columns, *summarize(frame, config).columns} - {*config.axes}
    assert columns <= config.reserved


def test_data_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.edges").write_text("0 1\n1 2\n")
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(given) or digest(*given))
    base = {**BASE, "topology": {"kind": "file", "path": "net.edges"}}
    assert len(points_of(tmp_path, base=base)) == 4
    assert len(hashed) == 1


def test_a_plugins_module_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = []
    for text in ("a", "bc"):
        Path("module").write_text(text)
        base = {**BASE, "optimizer": {"kind": "plugin", "lr": 1e-3, "target": "module:Class"}}
        places.append(points_of(tmp_path, base=base, axes={"seed": [1]}, baseline=None, figures=None))
    assert places[0][0].error is None
    assert places[0][0].directory == places[1][0].directory


def test_earlier_tables_are_kept_when_the_sweep_changes(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    table, record = (done / "table.csv").read_bytes(), (done / "sweep.yaml").read_bytes()
    arguments = ["sweep", str(done.parent / "s.yaml"), "--out", str(out), "--no-figures"]
    assert cli.main(arguments) == 0
    assert not (out / "earlier").exists()
    assert (out / "figures" / "loss.png").is_file()
    capsys.readouterr()
    assert cli.main([*arguments, "--dry-run", "model.activation=tanh"]) == 0
    assert not (out / "earlier").exists()
    assert cli.main([*arguments, "model.activation=tanh"]) == 0
    (kept,) = (out / "earlier").iterdir()
    shown = capsys.readouterr().out
    assert (
        shown.count(f"{out}: the sweep has changed; the tables and figures of before are kept in {kept}\n")
        == 1
    )
    names = {"table.csv", "table.parquet", "summary.csv", "sweep.yaml", "figures"}
    assert {file.name for file in kept.iterdir()} == names
    assert (kept / "table.csv").read_bytes() == table
    assert (kept / "sweep.yaml").read_bytes() == record
    found = yaml.safe_load((out / "sweep.yaml").read_text())
    assert found["overrides"] == ["model.activation=tanh"]
    assert (out / "table.csv").read_bytes() != table
    other = written(
        tmp_path, changed(axes={**CONTENT["axes"], "seed": [1]})
    )  # another file with the same name
    assert cli.main(["sweep", str(other), "--out", str(out), "--no-figures"]) == 0
    assert len([*(out / "earlier").iterdir()]) == 2
    assert frame_of(out)["status"].to_list() == ["complete"] * 2
    assert "4 runs, 4 complete before" not in capsys.readouterr().out
    assert cli.main(arguments) == 0  # back again: nothing is run
    assert "4 runs, 4 complete before, 0 to do" in capsys.readouterr().out
    assert (out / "table.csv").read_bytes() == table


def test_an_override_without_effect_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, CONTENT)
    given = ["seed=77", "optimizer.lr=2.0", "training.epochs=2", "model.activation=tanh"]
    assert cli.main(["sweep", str(file), *given, "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if "no effect" in line] == [
        "override seed=77 has no effect: the axis seed sets it",
        "override optimizer.lr=2.0 has no effect: the axis approach sets it",
    ]


def test_what_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["sweep", str(written(tmp_path, ONE)), "--out", str(out)]
    assert cli.main(arguments) == 0
    (out / "table.csv").unlink()
    (out / "table.csv").mkdir()
    capsys.readouterr()
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert told.err == f"error: --out {out}: cannot be written: Is a directory\n"
    assert not (out / ".table.csv.new").exists()


def test_a_full_disk_ends_the_runs_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"length": {"long": {"set": {"training.epochs": 10**6}}, "other": {}}}
    file, out = written(tmp_path, {**LONG, "axes": axes}), tmp_path / "out"
    full, write = Path(plan.load(file).points[1].directory).name, Path.write_text

    def write_text(path: Path, *given: Any, **named: Any) -> int:
        if path.name == f"{full}.yaml":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *given, **named)

    monkeypatch.setattr(Path, "write_text", write_text)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert cli.main(["sweep", str(file), "--out", str(out), "--jobs", "2"]) == 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert capsys.readouterr().err == f"error: --out {out}: cannot be written: No space left on device\n"
    assert not [pid for pid in processes_in(out) if pid != os.getpid()]


# --- a sweep that is stopped

LONG = changed(
    axes={"optimizer.lr": [1e-3, 2e-3, 3e-3], "seed": [1]},
    base={**BASE, "training": {"epochs": 100, "batch": 6, "wave": 6}},
    baseline=None,
    figures=None,
)


def start(file: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fdtrain", "sweep", str(file), "--out", str(out), "--no-figures", *more]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def processes_in(out: Path) -> list[int]:
    """The processes whose command line names `out`."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(out).encode() in file.read_bytes():
                found.append(int(file.parent.name))
        except OSError:
            pass
    return found


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def without_seconds(out: Path) -> str:
    header, *lines = (out / "table.csv").read_text().splitlines()
    column = header.split(",").index("seconds")
    return "\n".join(
        ",".join(w for k, w in enumerate(li.split(",")) if k != column) for li in [header, *lines]
    )


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Path]:
    """A sweep of three runs, the last of which takes very long."""
    axes = {
        "length": {
            "short": {},
            "shorter": {"set": {"training.epochs": 50}},
            "long": {"set": {"training.epochs": 10**6}},
        }
    }
    yield written(tmp_path, {**LONG, "axes": axes})
    assert not processes_in(tmp_path)


def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    file, out = written(tmp_path, LONG), tmp_path / "out"
    first = start(file, out, "--jobs", "1")
    second = tmp_path / "out" / "runs" / Path(plan.load(file).points[1].directory).name
    wait_for(lambda: (second / "metrics.csv").exists())
    first.kill()
    first.communicate()
    wait_for(lambda: not processes_in(out))
    states = [is_complete(out / point.directory) for point in plan.load(file).points]
    assert states[0]
    assert not all(states)
    kept = (out / plan.load(file).points[0].directory / "theta.npz").stat().st_mtime_ns
    again = start(file, out)
    shown, _ = again.communicate(timeout=60)
    assert again.returncode == 0, shown
    assert f"{states.count(True)} complete before" in shown
    assert (out / plan.load(file).points[0].directory / "theta.npz").stat().st_mtime_ns == kept
    straight = start(file, tmp_path / "straight", "--jobs", "2")
    straight.communicate(timeout=60)
    assert without_seconds(out) == without_seconds(tmp_path / "straight")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_that_is_stopped_leaves_no_process(
    slow: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    out = tmp_path / "out"
    running = start(slow, out, "--jobs", "3")
    wait_for(lambda: len([*out.glob("runs/*/metrics.csv")]) == 3)
    assert len(processes_in(out)) >= 2
    refused = start(slow, out)
    shown, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "another fdtrain sweep is at work there" in shown
    running.send_signal(number)
    shown, _ = running.communicate(timeout=60)
    assert running.returncode == status
    assert not processes_in(out)
    assert "Traceback" not in shown
    assert "of 3 runs are left; the same command goes on" in shown


@needs_mpi
def test_runs_on_several_ranks_have_the_same_results(done: Path, tmp_path: Path) -> None:
    process = start(done.parent / "s.yaml", tmp_path / "out", "--ranks", "2", "--jobs", "1")
    shown, _ = process.communicate(timeout=90)
    assert process.returncode == 0, shown
    assert without_seconds(tmp_path / "out") == without_seconds(done)
    path = tmp_path / "out" / frame_of(tmp_path / "out")["directory"][2]
    assert json.loads((path / "environment.json").read_text())["ranks"] == 2
