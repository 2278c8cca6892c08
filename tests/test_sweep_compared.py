"""Sweeps of disturbances: labels in other axes' values, comparison with the baseline, recovery, lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from fdtrain import cli
from fdtrain.rundir import RunDirectory
from fdtrain.sweep import pictures, plan
from fdtrain.sweep.compared import epochs_to_recover
from fdtrain.sweep.schema import Recovery
from fdtrain.sweep.table import labelled

CONTENT: dict[str, Any] = {
    "name": "lossy",
    "base": {
        "topology": {"kind": "ring", "nodes": 8},
        "model": {"sizes": [10, 4, 1], "init": {"kind": "normal", "per_node": True}},
        "task": {"train_samples": 6, "test_samples": 3},
        "training": {"epochs": 12, "batch": 6, "wave": 6},
        "optimizer": {"kind": "d_sgd", "lr": 1e-3},
    },
    "axes": {
        "policy": {
            name: {"set": {"channel.parameters": {"missing": name, "loss": "$rate"}}}
            for name in ("keep_own", "push_sum")
        },
        "partition": {
            "0": {},
            "4": {"set": {"channel.partitions": [{"start": 0, "stop": 4, "fraction": 0.5}]}},
        },
        "rate": {0: {}, 0.5: {}},
        "seed": [1, 2],
    },
    "baseline": {"partition": "0"},
    "recovery": {"metric": "disagreement", "since": 4, "within": 1.4},
    "figures": [
        {
            "kind": "lines",
            "name": "rates",
            "x": "rate",
            "y": "mse_test",
            "xlabel": "loss",
            "colour": "policy",
        },
        {"kind": "lines", "name": "recovery", "x": "partition", "y": "epochs_to_recover"},
    ],
}


def changed(**change: Any) -> dict[str, Any]:
    return {key: value for key, value in {**CONTENT, **change}.items() if value is not None}


def written(folder: Path, content: dict[str, Any]) -> Path:
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lossy")
    arguments = ["sweep", str(written(folder, CONTENT)), "--out", str(folder / "out"), "--jobs", "2"]
    assert cli.main(arguments) == 0
    return folder


def test_the_label_of_another_axis_stands_where_it_is_named(tmp_path: Path) -> None:
    found = plan.load(written(tmp_path, CONTENT)).points
    rates = []
    for point in found:
        assert point.error is None
        assert point.config is not None
        assert point.config.channel is not None
        loss = point.config.channel.parameters.loss
        assert loss is not None
        rates.append(loss.rate)  # type: ignore[union-attr]
    assert rates == [float(point.labels["rate"]) for point in found]
    assert {type(point.overrides["channel.parameters"]["loss"]) for point in found} == {int, float}
    assert {row["name"] for row in CONTENT["figures"]} == {
        "rates",
        "recovery",
    }  # the content itself is as it was


def test_a_dollar_that_names_no_axis_by_itself_stays(tmp_path: Path) -> None:
    axes = {"a": {"b": {"set": {"task": {"bundle": "$HOME/data.npz"}}}}, "seed": [1]}
    point = plan.load(
        written(tmp_path, changed(axes=axes, baseline=None, recovery=None, figures=None))
    ).points[0]
    assert point.overrides["task"]["bundle"] == "$HOME/data.npz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"axes": {**CONTENT["axes"], "policy": {"a": {"set": {"channel.loss": "$rat"}}}}},
            "axes.policy.a.set: 'rat' is no other axis; did you mean 'rate'?",
        ),
        (
            {"axes": {**CONTENT["axes"], "policy": {"a": {"set": {"channel": {"loss": "$policy"}}}}}},
            "axes.policy.a.set: 'policy' is no other axis",
        ),
        ({"baseline": None}, "recovery: needs the runs to compare with; name them by baseline, axis: label"),
        ({"recovery": {"metric": "disagreement"}}, "recovery.since: is missing"),
        (
            {"recovery": {"metric": "disagreement", "since": 4, "within": 0.9}},
            "recovery.within: input should be greater than or equal to 1, found 0.9",
        ),
        ({"recovery": {"metric": "rate_test", "since": 4}}, "recovery.metric: the task is measured by its"),
        (
            {"figures": [{**CONTENT["figures"][0], "x": "policy"}]},
            "figures.0.x: 'policy' is no axis whose labels are numbers; known: partition, rate",
        ),
        ({"figures": [{**CONTENT["figures"][0], "y": "mse"}]}, "figures.0.y: 'mse' is no numeric column"),
        ({"figures": [{**CONTENT["figures"][0], "colour": "lr"}]}, "figures.0.colour: 'lr' is no axis"),
        (
            {
                "axes": {
                    "policy": CONTENT["axes"]["policy"],
                    "rate": {"low": {}},
                    "partition": {"0": {}, "x": {}},
                }
            },
            "figures.0.kind: lines need an axis whose labels are numbers; there is none",
        ),
        (
            {"axes": {**CONTENT["axes"], "lost_messages": {"b": {}}}},
            "axes.lost_messages: is a column of the table",
        ),
        (
            {"axes": {**CONTENT["axes"], "n_recovered": {"b": {}}}},
            "axes.n_recovered: is a column of the summary",
        ),
    ],
)
def test_bad_sweep_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    file = written(tmp_path, changed(**change))
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: ")
    assert message in line


@pytest.mark.parametrize(
    ("values", "baseline", "since", "wanted"),
    [
        ([1.0, 1, 1, 1], [1.0, 1, 1, 1], 2, 0),
        ([9.0, 9, 1, 1], [1.0, 1, 1, 1], 2, 1),  # the first epoch after
        ([9.0, 1, 1, 1], [1.0, 1, 1, 1], 2, 0),
        ([9.0, 9, 9, 1.1], [1.0, 1, 1, 1], 2, 2),
        ([9.0, 9, 1, 9, 1], [1.0, 1, 1, 1, 1], 2, 3),  # it has to stay
        ([9.0, 9, 1, 1, 9], [1.0, 1, 1, 1, 1], 2, None),
        ([9.0, 9, 9], [1.0, 2, 9], 2, 1),  # of the same epoch
        ([9.0, 9, 1, 9], [1.0, 1, 1], 2, 1),  # over the epochs that both have
        ([9.0, 1], [1.0, 1], 0, 2),  # from the beginning
        ([1.0, 1], [1.0, 1], 0, 0),
        ([1.0, 1], [1.0, 1], 3, None),
        ([], [], 0, None),
    ],
)
def test_epochs_to_recover(
    values: list[float], baseline: list[float], since: int, wanted: int | None
) -> None:
    recovery = Recovery(metric="disagreement", since=since, within=1.1)
    found = epochs_to_recover(recovery, values, baseline)
    assert found == wanted
    negated = [1 / value for value in values], [1 / value for value in baseline]
    assert epochs_to_recover(recovery, *negated, rises=True) == wanted


def test_runs_are_compared_with_the_baselines(done: Path) -> None:
    sweep = plan.load(done / "s.yaml")
    frame = pl.read_parquet(done / "out" / "table.parquet")
    assert frame.height == 16
    runs = {
        row["directory"]: RunDirectory(done / "out" / row["directory"]).read_metrics()
        for row in frame.to_dicts()
    }
    recovered = 0
    for row in frame.to_dicts():
        base = frame.filter(
            pl.col("policy") == row["policy"], pl.col("rate") == row["rate"], pl.col("seed") == row["seed"],
            pl.col("partition") == 0,
        ).to_dicts()[0]  # fmt: skip
        assert row["relative_test"] == row["mse_test"] / base["mse_test"]
        assert row["excess_train"] == row["mse_train"] - base["mse_train"]
        pairs = [
            one.disagreement <= 1.4 * other.disagreement
            for one, other in zip(runs[row["directory"]], runs[base["directory"]], strict=True)
        ]
        wanted = next((k for k in range(9) if all(pairs[3 + k :])), None)  # epoch 4 and those after it
        assert row["epochs_to_recover"] == wanted
        recovered += wanted is not None and wanted > 0
    assert recovered > 0
    assert set(frame.filter(pl.col("partition") == 0)["epochs_to_recover"]) == {0}
    summary = pl.read_csv(done / "out" / "summary.csv")
    known = frame.group_by(sweep.config.groups, maintain_order=True).agg(pl.col("epochs_to_recover").count())
    assert summary["n_recovered"].to_list() == known["epochs_to_recover"].to_list()


def test_lost_messages_are_those_of_the_ledger(done: Path) -> None:
    frame = pl.read_parquet(done / "out" / "table.parquet")
    for row in frame.iter_rows(named=True):
        lines = RunDirectory(done / "out" / row["directory"]).read_ledger()
        total = next(line for line in lines if (line["phase"], line["field"]) == ("train", "all"))
        assert (row["lost_messages"], row["late_messages"]) == (
            total["lost_messages"],
            total["late_messages"],
        )
        assert (row["lost_messages"] > 0) is (row["rate"] > 0 or row["partition"] > 0)


def test_lines_are_means_over_the_repetitions(done: Path) -> None:
    for name in ("rates", "recovery"):
        assert (done / "out" / "figures" / f"{name}.png").is_file()
    sweep = plan.load(done / "s.yaml")
    frame = pl.read_parquet(done / "out" / "table.parquet")
    lines, notes = pictures.lines(sweep, labelled(frame, sweep.config), sweep.config.figures[0])
    assert [line.label for line in lines] == [
        f"{policy}, partition {length}" for policy in ("keep_own", "push_sum") for length in (0, 4)
    ]
    assert [line.group for line in lines] == ["keep_own", "keep_own", "push_sum", "push_sum"]
    assert not notes
    own = frame.filter(pl.col("policy") == "keep_own", pl.col("partition") == 4)
    for k, rate in enumerate((0.0, 0.5)):
        values = own.filter(pl.col("rate") == rate)["mse_test"].to_numpy()
        assert lines[1].x[k] == rate
        assert lines[1].y[k] == pytest.approx(values.mean(), rel=1e-14)
        assert lines[1].spread[k] == pytest.approx(values.std(ddof=1), rel=1e-12)


def test_a_line_says_where_repetitions_have_no_value(done: Path) -> None:
    sweep = plan.load(done / "s.yaml")
    frame = labelled(pl.read_parquet(done / "out" / "table.parquet"), sweep.config)
    frame = frame.with_columns(epochs_to_recover=pl.when(pl.col("seed") == "1").then(None).otherwise(3))
    frame = frame.filter(pl.col("policy") == "push_sum", pl.col("rate") == "0")
    lines, notes = pictures.lines(sweep, frame, sweep.config.figures[1])
    assert [line.y.tolist() for line in lines] == [[3.0, 3.0]]
    assert notes == [
        "not all repetitions have a value: lossy, partition 0: 1 of 2; lossy, partition 4: 1 of 2"
    ]
    assert pictures.lines(sweep, frame.with_columns(epochs_to_recover=None), sweep.config.figures[1])[0] == []
