"""Sweeps along mini-batches: power allocation beside what other methods reach on the same samples."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from pictures import drawn as drawn
from pictures import png_size
from rated import minibatch_rows, rated_run
from rich.console import Console

from fdtrain import cli, resources
from fdtrain.driver import run
from fdtrain.minibatches import averages, running_mean
from fdtrain.rundir import RunDirectory
from fdtrain.sweep import display, minibatches, pictures, plan
from fdtrain.sweep.table import Results, labelled, summarize
from fdtrain.tasks.allocations import BASELINES

ROOT = Path(__file__).parent.parent
M, SEEDS = 12, (1, 2)
TESTED = tuple(f"{name}_test" for name in BASELINES)
CONTENT: dict[str, Any] = {
    "name": "tiny",
    "base": {
        "task": {
            "kind": "power_allocation",
            "pairs": 4,
            "minibatches": M,
            "test_minibatches": 2,
            "baselines_every": 1,
        },
        "model": {"kind": "uwmmse", "unfolded": 2, "hidden": 2},
        "training": {"epochs": 1, "batch": 4, "wave": 4, "scheme": "per_sample", "log_every": 5},
        "optimizer": {"kind": "naive_adam", "lr": 1e-2, "epsilon_form": "inside"},
    },
    "axes": {
        "approach": {
            "centralized": {
                "set": {"training.mode": "centralized", "optimizer": {"kind": "adam", "lr": 1e-2}},
                "published": {"rate_train": 8.0},
            },
            "distributed": {},
        },
        "seed": [*SEEDS],
    },
    "figures": [{"kind": "curves", "name": "rate", "x": "minibatches", "y": "rate_train"}],
}
DISTRIBUTED = {
    "axes": {"approach": {"distributed": {}, "other": {}}, "seed": [*SEEDS]}
}  # of runs that are made up


def load(
    folder: Path, change: dict[str, Any] | None = None, overrides: list[str] | None = None
) -> plan.Sweep:
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, **(change or {})}, sort_keys=False), encoding="utf-8")
    return plan.load(file, overrides or [])


def trained(sweep: plan.Sweep, folder: Path) -> pl.DataFrame:
    """The table of the sweep, after its runs."""
    for point in sweep.points:
        assert point.config is not None
        run(point.config, out=folder / point.directory, verify=False)
    return Results(sweep, folder).frame()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, plan.Sweep, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("tiny")
    sweep = load(folder)
    return folder, sweep, trained(sweep, folder)


def shown(sweep: plan.Sweep, frame: pl.DataFrame, folder: Path, width: int = 130) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    display.conclude(sweep, Results(sweep, folder), frame, folder, [], 0, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def told(folder: Path, frame: pl.DataFrame, **labels: Any) -> RunDirectory:
    (row,) = frame.filter(**labels).iter_rows(named=True)
    return RunDirectory(folder / row["directory"])


def test_the_table_has_the_averages_of_the_baselines(done: tuple[Path, plan.Sweep, pl.DataFrame]) -> None:
    folder, sweep, frame = done
    assert (sweep.config.baselines, sweep.config.tested) == (BASELINES, TESTED)
    for row in frame.iter_rows(named=True):
        rows = RunDirectory(folder / row["directory"]).read_minibatches()
        assert len(rows) == M
        assert row["rate_train"] == pytest.approx(np.mean([one.train for one in rows]), rel=1e-12)
        for name in BASELINES:
            assert row[name] == pytest.approx(np.mean([one.baselines[name] for one in rows]), rel=1e-12)
        tested = RunDirectory(folder / row["directory"]).read_test_baselines()
        assert {f"{name}_test": value for name, value in tested.items()} == {
            name: row[name] for name in TESTED
        }
    first, second = frame.partition_by("approach")
    columns = (*BASELINES, *TESTED)
    assert first.select(columns).equals(second.select(columns))  # the same channels
    summary = summarize(frame, sweep.config)
    assert summary["wmmse_4_mean"][0] == pytest.approx(first["wmmse_4"].mean())
    assert {*summary.columns, *frame.columns} - {"approach", "seed"} <= sweep.config.reserved


def test_baselines_are_shown_once_and_beside_what_is_published(
    done: tuple[Path, plan.Sweep, pl.DataFrame],
) -> None:
    folder, sweep, frame = done
    lines = shown(sweep, frame, folder)
    assert "published train" in lines[1]
    assert "published test" not in lines[1]  # of nobody
    mean = frame.filter(approach="centralized")["rate_train"].mean()
    assert f"8 ({100 * float(mean) / 8:.1f} %)" in lines[2]  # type: ignore[arg-type]
    assert [line.split("  ")[0] for line in lines[5:9]] == [
        "WMMSE 4",
        "WMMSE 100",
        "full power",
        "random power",
    ]
    both = [frame.filter(approach="distributed")[column] for column in ("wmmse_4", "wmmse_4_test")]
    means = [part for of in both for part in (f"{of.mean():.4g}", "±", f"{of.std():.2g}")]
    assert lines[5].split()[2:] == ["2", *means]
    assert lines[9].endswith("; other methods: averages over the same mini-batches")


def test_the_figure_has_runs_and_baselines(
    done: tuple[Path, plan.Sweep, pl.DataFrame], drawn: list[Any]
) -> None:
    folder, sweep, frame = done
    (file,) = pictures.draw(sweep, labelled(frame, sweep.config), folder)
    png_size(file)
    upper, lower = drawn[0].axes
    assert (upper.get_ylabel(), upper.get_yscale()) == ("training sum rate (bit/s/Hz)", "linear")
    assert (lower.get_xlabel(), lower.get_ylabel()) == ("mini-batch", "difference (bit/s/Hz)")
    *curves, published = upper.lines
    assert len(curves) == 2 + len(BASELINES)
    assert published.get_ydata()[0] == 8.0
    assert published.get_color() == curves[0].get_color()
    (legend,) = drawn[0].legends
    texts = [text.get_text().replace("\xa0", " ") for text in legend.get_texts()]
    assert legend.get_title().get_text() == "average, series"
    names = {text.split("  ")[1] for text in texts}
    assert names >= {"centralized (published 8)", "distributed", "WMMSE 4", "full power"}
    values = [float(text.split("  ")[0]) for text in texts]
    assert values == sorted(values, reverse=True)

    own, baseline = [], []
    for seed in SEEDS:
        rows = told(folder, frame, approach="distributed", seed=seed).read_minibatches()
        own.append([row.train for row in rows])
        baseline.append([row.baselines["wmmse_4"] for row in rows])
    mean = np.mean(own, axis=0)  # M is below what is smoothed
    assert any(np.allclose(line.get_ydata(), mean, rtol=1e-12, atol=0) for line in curves[:2])
    grey = [line for line in curves if line.get_linestyle() != "-"]
    assert len(grey) == len(BASELINES)
    np.testing.assert_allclose(grey[0].get_ydata(), np.mean(baseline, axis=0), rtol=1e-12)
    nearest = lower.get_title(loc="left")
    assert nearest == "minus WMMSE 4 on the same mini-batches"
    np.testing.assert_allclose(lower.lines[1].get_ydata(), mean - np.mean(baseline, axis=0), atol=1e-12)


def test_long_runs_are_smoothed_over_what_a_sparse_baseline_needs(tmp_path: Path, drawn: list[Any]) -> None:
    sweep = load(tmp_path, DISTRIBUTED)
    for point in sweep.points:
        rated_run(tmp_path / point.directory, epochs=1, minibatches=400)
    frame = Results(sweep, tmp_path).frame()
    rows = minibatch_rows(400)
    assert frame["wmmse_100"].to_list() == pytest.approx([averages(rows)["wmmse_100"].mean] * 4)
    assert frame["full_power"].to_list() == [None] * 4
    pictures.draw(sweep, labelled(frame, sweep.config), tmp_path)
    x, y = running_mean(np.arange(1.0, 401.0), np.array([row.train for row in rows]), 80)
    np.testing.assert_allclose(drawn[0].axes[0].lines[0].get_xdata(), x[(len(x) - 1) % 8 :: 8])
    np.testing.assert_allclose(drawn[0].axes[0].lines[0].get_ydata(), y[(len(x) - 1) % 8 :: 8], rtol=1e-12)
    assert len(drawn[0].axes[0].lines) == 2 + 2
    note = drawn[0].get_supxlabel().replace("\n", " ")
    assert "running means over 80 mini-batches" in note


def test_a_run_without_minibatches_is_named(tmp_path: Path, drawn: list[Any]) -> None:
    sweep = load(tmp_path, DISTRIBUTED)
    for point in sweep.points:
        made = rated_run(tmp_path / point.directory, minibatches=20)
        if point.labels["approach"] == "other":
            (made.path / "minibatches.csv").unlink()
    frame = Results(sweep, tmp_path).frame()
    assert frame["wmmse_4"].null_count() == 2
    pictures.draw(sweep, labelled(frame, sweep.config), tmp_path)
    assert drawn[0].get_supxlabel().splitlines()[-1] == "no minibatches.csv: other"
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert any("other (no value)" in text for text in texts)
    (made.path / "minibatches.csv").write_text("nonsense\n1\n", encoding="utf-8")
    assert [reason for _, reason in Results(sweep, tmp_path).damaged()] == [
        "its files cannot be read: minibatches.csv needs the columns minibatch and, for example, mse_train"
    ]


def test_an_axis_that_changes_the_data_has_baselines_of_its_own(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"approach": {"a": {}, "b": {}}, "task.pairs": [3, 4], "seed": [1, 2]}
    sweep = load(tmp_path, {"axes": axes})
    rows = [
        {**point.labels, "status": "complete", **dict.fromkeys(BASELINES, float(number))}
        for point in sweep.points
        for number in [int(point.labels["task.pairs"]) * 10 + int(point.labels["seed"])]
    ]
    groups = minibatches.by_data(sweep.config, pl.DataFrame(rows))
    assert [(labels, [row["wmmse_4"] for row in same]) for labels, same in groups] == [
        ({"task.pairs": "3"}, [31.0, 32.0]),
        ({"task.pairs": "4"}, [41.0, 42.0]),
    ]
    assert minibatches.called("wmmse_4", groups[0][0]) == "WMMSE 4, pairs 3"
    one = pl.DataFrame(rows[:1])
    assert [labels for labels, _ in minibatches.by_data(sweep.config, one)] == [{}]


def test_baselines_now_and_then_are_told_to_be_so(
    done: tuple[Path, plan.Sweep, pl.DataFrame], tmp_path: Path
) -> None:
    _, _, frame = done
    rarely = load(tmp_path, overrides=["task.baselines_every=5"])
    assert "averages over one in 5 of the mini-batches" in shown(rarely, frame, tmp_path)[9]


def test_without_groups_baselines_still_have_a_name(
    done: tuple[Path, plan.Sweep, pl.DataFrame], tmp_path: Path
) -> None:
    _, _, frame = done
    sweep = load(tmp_path, {"axes": {"seed": [*SEEDS]}})
    lines = shown(sweep, frame.filter(approach="distributed").drop("approach"), tmp_path)
    assert any(line.startswith("WMMSE 100 ") for line in lines)


@pytest.mark.parametrize(
    ("overrides", "baselines", "tested"),
    [([], BASELINES, TESTED), (["task.baselines_every=0"], (), ()), (["training.log_every=0"], (), TESTED)],
)
def test_columns_of_baselines_are_there_where_runs_tell_them(
    tmp_path: Path, overrides: list[str], baselines: tuple[str, ...], tested: tuple[str, ...]
) -> None:
    config = load(tmp_path, {"figures": []}, overrides).config
    assert (config.baselines, config.tested) == (baselines, tested)


def figure(**change: Any) -> dict[str, Any]:
    return {"figures": [{**CONTENT["figures"][0], **change}]}


WRONG: list[tuple[dict[str, Any], list[str], str]] = [
    (
        figure(y="rounds"),
        [],
        "figures.0.y: 'rounds' is no y of curves; known: rate_train, rate_test, disagreement",
    ),
    (figure(x="minibatch"), [], "figures.0.x: 'minibatch' is no x of curves; did you mean 'minibatches'?"),
    (
        figure(),
        ["training.log_every=0"],
        "figures.0.x: the run centralized, seed 1 has no minibatches.csv; set training.log_every in the base, "
        "e.g. 100",
    ),
    *(
        ({"axes": {name: {"a": {}}}}, [], f"axes.{name}: is a column of the table; name the axis otherwise")
        for name in ("wmmse_4", "wmmse_4_test", "optimum_test")
    ),
]


@pytest.mark.parametrize(("change", "overrides", "expected"), WRONG)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    overrides: list[str],
    expected: str,
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, **change}, sort_keys=False), encoding="utf-8")
    assert cli.main(["sweep", str(file), "--dry-run", "--out", str(tmp_path / "out"), *overrides]) == 2
    said = capsys.readouterr().err
    assert said == f"error: {file}: {expected}\n"


def test_only_the_runs_that_are_drawn_need_minibatches(tmp_path: Path) -> None:
    approaches = {"silent": {"set": {"training.log_every": 0}}, "told": {}}
    change = {"axes": {"approach": approaches}, **figure(where={"approach": ["told"]})}
    assert load(tmp_path, change).config.baselines == BASELINES


@pytest.mark.skipif(not (ROOT / "configs").is_dir(), reason="needs a source checkout")
@pytest.mark.parametrize("minibatches_", [500, 10_000])
def test_the_papers_sweep(minibatches_: int) -> None:
    sweep = plan.load(resources.find_sweep("paper/fig2b"), [f"task.minibatches={minibatches_}"])
    assert not sweep.notes  # the override has an effect
    assert len(sweep.points) == 4 * 5
    assert sweep.config.baselines == BASELINES
    published = {"centralized": {"published_train": 17.07}, "distributed": {"published_train": 17.47}}
    for point in sweep.points:
        assert point.config is not None
        task: Any = point.config.task
        assert (task.minibatches, task.baselines_every, task.test_minibatches) == (minibatches_, 1, 100)
        assert point.config.training.batch == 64
        assert point.published == published.get(point.labels["approach"], {})
