"""Sweeps of a task that is measured by a rate: table, summary, what is published, pictures. Nothing is trained."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pictures import drawn as drawn
from rated import rated_run
from rich.console import Console

from fdtrain import cli, measure
from fdtrain.errors import InputError
from fdtrain.measure import MSE, RATE
from fdtrain.rundir import RunDirectory
from fdtrain.service import EpochRow
from fdtrain.sweep import display, pictures, plan
from fdtrain.sweep.schema import Target
from fdtrain.sweep.table import Results, summarize

CONTENT: dict[str, Any] = {
    "name": "rates",
    "base": {
        "topology": {"kind": "ring", "nodes": 6},
        "model": {"sizes": [3, 1]},
        "task": {"train_samples": 12, "test_samples": 3},
        "training": {"epochs": 4, "batch": 6},
        "optimizer": {"kind": "d_sgd", "lr": 1e-3},
    },
    "axes": {
        "approach": {
            "slow": {"set": {}, "published": {"rate_train": 16.0, "rate_test": 20.0}},
            "fast": {"set": {"optimizer.lr": 2e-3}},
        },
        "seed": [1, 2],
    },
    "target": {"metric": "rate_train", "value": 14.5},
    "baseline": {"approach": "slow"},
    "snapshots": [2],
    "figures": [
        {"kind": "curves", "name": "rate", "x": "epochs", "y": "rate_test"},
        {
            "kind": "scatter",
            "name": "scatter",
            "x": "rate_train_at_2",
            "y": "rate_test",
            "colour": "approach",
        },
    ],
}
TOPS = {("slow", "1"): 15.0, ("slow", "2"): 16.0, ("fast", "1"): 17.0, ("fast", "2"): 200.0}


@pytest.fixture
def rated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure._OF_TASKS, "node_regression", RATE)


def load(folder: Path, **change: Any) -> plan.Sweep:
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, **change}, sort_keys=False), encoding="utf-8")
    return plan.load(file)


def made(folder: Path) -> tuple[plan.Sweep, pl.DataFrame]:
    """A sweep whose runs are complete, and its table."""
    sweep = load(folder)
    for point in sweep.points:
        top = TOPS[point.labels["approach"], point.labels["seed"]]
        rated_run(folder / point.directory, epochs=4, top=top)
    return sweep, Results(sweep, folder).frame()


@pytest.mark.usefixtures("rated")
def test_the_table_has_the_columns_of_the_measure(tmp_path: Path) -> None:
    sweep, frame = made(tmp_path)
    assert sweep.config.measure is RATE
    assert not [name for name in frame.columns if "mse" in name]
    for row, top in zip(frame.iter_rows(named=True), TOPS.values(), strict=True):
        assert row["status"] == "complete"
        assert (row["rate_train"], row["rate_test"]) == (top - 0.5, top)
        assert (row["rate_train_at_2"], row["rate_test_at_2"]) == (top - 1, top - 0.25)
        epochs = [number for number in range(1, 5) if top - 2 / number >= 14.5]  # it rises to the target
        assert row["epochs_to_target"] == (epochs[0] if epochs else None)
    assert frame["published_train"].to_list() == [16.0, 16.0, None, None]
    assert frame["excess_test"].to_list() == [0.0, 0.0, 2.0, 184.0]
    assert frame["epochs_to_target"].to_list() == [4, 2, 1, 1]
    columns = {*frame.columns, *summarize(frame, sweep.config).columns} - {*sweep.config.axes}
    assert columns <= sweep.config.reserved


@pytest.mark.usefixtures("rated")
def test_a_run_with_another_measure_is_run_again(tmp_path: Path) -> None:
    sweep, _ = made(tmp_path)
    run = RunDirectory(tmp_path / sweep.points[0].directory)
    (run.path / "metrics.csv").unlink()
    (run.path / "timing.csv").unlink()
    run.append_epoch(EpochRow(1, 1.0, 1.0, 0.0, 0, 0, 0), 1.0)
    (damaged,) = Results(sweep, tmp_path).damaged()
    assert damaged[1] == "its files cannot be read: metrics.csv has the column mse_train, not rate_train"


@pytest.mark.usefixtures("rated")
def test_the_summary_and_the_pictures_of_rates(tmp_path: Path, drawn: list[Any]) -> None:
    sweep, frame = made(tmp_path)
    console = Console(width=150, file=io.StringIO(), force_terminal=False)
    display.conclude(sweep, Results(sweep, tmp_path), frame, Path("out"), [], 0, console)
    headings, slow, _ = console.file.getvalue().splitlines()[1:4]  # type: ignore[attr-defined]
    assert "rate train" in headings
    assert "rate test" in headings
    assert "16 (93.8 %)" in slow  # of the published
    written = pictures.draw(sweep, frame.with_columns(pl.col("seed").cast(pl.String)), tmp_path)
    assert [path.name for path in written] == ["rate.png", "scatter.png"]
    assert drawn[0].axes[0].get_ylabel() == "test sum rate (bit/s/Hz)"
    assert drawn[1].axes[0].get_xlabel() == "training sum rate after epoch 2 (bit/s/Hz)"
    assert drawn[1].axes[0].get_ylabel() == "test sum rate at the end (bit/s/Hz)"
    for axes in (drawn[0].axes[0], drawn[1].axes[0]):
        assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"target": {"metric": "RIGHT_test", "value": 1.0}}, "target.metric: "),
    ({"axes": {"a": {"b": {"published": {"RIGHT_test": 1.0}}}}, "baseline": None}, "axes.a.b.published: "),
    ({"figures": [{"kind": "curves", "name": "a", "x": "epochs", "y": "RIGHT_train"}]}, "figures.0.y: "),
    ({"figures": [{"kind": "scatter", "name": "a", "x": "RIGHT_test", "y": "nodes"}]}, "figures.0.x: "),
    ({"figures": [{"kind": "scatter", "name": "a", "x": "nodes", "y": "RIGHT_test_at_2"}]}, "figures.0.y: "),
]


@pytest.mark.parametrize("own", [MSE, RATE])
@pytest.mark.parametrize(("change", "where"), WRONG)
def test_columns_of_another_measure_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    own: measure.Measure,
    change: dict[str, Any],
    where: str,
) -> None:
    monkeypatch.setitem(measure._OF_TASKS, "node_regression", own)
    other = RATE if own is MSE else MSE
    plainly: dict[str, Any] = {
        "target": None,
        "figures": None,
        "axes": {"approach": {"slow": {}}, "seed": [1]},
    }

    def told(right: measure.Measure) -> str:
        text = yaml.safe_dump({**CONTENT, **plainly, **change}, sort_keys=False).replace("RIGHT", right.name)
        content = {key: value for key, value in yaml.safe_load(text).items() if value is not None}
        file = tmp_path / "s.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        status = cli.main(["sweep", str(file), "--dry-run", "--out", str(tmp_path / "out")])
        said = capsys.readouterr().err
        assert status == (2 if said else 0), said
        return said.removeprefix(f"error: {file}: ")

    assert told(own) == ""
    said = told(other)
    assert said.startswith(f"{where}the task is measured by its {own.title}, found '{other.name}_")
    assert said.endswith(f"; use {own.train} or {own.test}\n")
    assert said.count("\n") == 1


def test_one_sweep_has_one_measure(tmp_path: Path) -> None:
    class Point:
        def __init__(self, kind: str) -> None:
            self.config = type("C", (), {"task": type("T", (), {"kind": kind})})

    points: Any = [Point("node_regression"), Point("power_allocation")]
    assert plan._measure(points[:1]) is MSE
    with pytest.raises(
        ValueError, match="some runs are measured by their MSE, others by their sum rate; make a sweep"
    ):
        plan._measure(points)


def test_every_measure_can_be_a_target_and_published() -> None:
    for one in measure.MEASURES.values():
        for column in one.columns:
            assert Target.model_validate({"metric": column, "value": 1.0}).metric == column
            sweep = {"axes": {"a": {"b": {"published": {column: 1.0}}}}, "name": "a", "base": "b"}
            assert plan.SweepConfig.model_validate(sweep).measured_by(one).measure is one


def test_published_rates_need_a_sweep_of_rates(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"target\.metric: the task is measured by its MSE, found 'rate_train'"
    ):
        load(tmp_path)
