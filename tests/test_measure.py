"""Runs that are measured by a rate: their files, early stop, figures, what is shown, and their mini-batches."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import drawn as drawn
from pictures import png_size
from pictures import strict_arithmetic as strict_arithmetic
from rated import epoch, minibatch_rows, rated_run
from rich.console import Console

from fdtrain import measure
from fdtrain.cli import main
from fdtrain.commands import train
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.figures import Series, draw_comparison, draw_run
from fdtrain.ledger import Ledger
from fdtrain.measure import MSE, RATE, RATIO, found_in
from fdtrain.minibatches import (
    MinibatchRow,
    averages,
    curves,
    difference,
    nearest,
    running_mean,
    shared_window,
    thinned,
    title,
    window,
)
from fdtrain.progress import Display, Events, replay
from fdtrain.rundir import COMPLETE, RunDirectory, write_json
from fdtrain.service import EpochRow, Outcome, Plateau
from fdtrain.summary import summarize
from fdtrain.sweep.runner import Progress

CONFIG: dict[str, Any] = {
    "topology": {"kind": "ring", "nodes": 6},
    "model": {"sizes": [3, 1]},
    "task": {"kind": "node_regression"},
}


def test_measures() -> None:
    assert (MSE.label, RATE.label) == ("MSE", "sum rate (bit/s/Hz)")
    assert (RATE.column("train"), RATE.column("disagreement")) == ("rate_train", "disagreement")
    assert found_in(["epoch", "rate_train", "rate_test"]) is RATE
    assert found_in(["epoch", "mse_test"]) is MSE
    assert (RATIO.label, RATIO.column("test")) == ("utility ratio", "ratio_test")
    assert found_in(["epoch", "ratio_train"]) is RATIO
    assert measure.measure_of("link_scheduling") is RATIO
    assert found_in(["epoch", "disagreement"]) is None
    assert {*measure.MEASURES} == {"mse", "rate", "ratio"}
    for one in (MSE, RATE, RATIO):
        assert measure.MEASURES[one.name] is one
        assert one.improves(1.0, one.worst)
        assert not one.improves(1.0, 1.0)
        assert not one.improves(math.nan, one.worst)
    assert MSE.improves(0.89, 1.0, 0.1)
    assert not MSE.improves(0.91, 1.0, 0.1)
    for one in (RATE, RATIO):
        assert one.improves(1.11, 1.0, 0.1)
        assert not one.improves(1.09, 1.0, 0.1)
    assert RATE.improves(-0.89, -1.0, 0.1)  # relative to the size
    assert not RATE.improves(-0.91, -1.0, 0.1)


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stop"),
    [
        ([1, 2, 3, 4], 1, 0.0, None),
        ([5, 5, 5], 2, 0.0, 3),
        ([5, 4, 6, 3, 7], 2, 0.0, None),
        ([5, 4, 6, 5, 4], 2, 0.0, 5),
        ([10, 10.9, 11.1], 1, 0.1, 2),
        ([10, 10.9, 11.1, 11.5], 2, 0.1, None),
        ([-5, -4, -3], 1, 0.1, None),
        ([math.nan, 3, 3], 1, 0.0, 1),
    ],
)
def test_a_plateau_of_a_rate_is_where_it_does_not_rise(
    values: list[float], patience: int, min_delta: float, stop: int | None
) -> None:
    for metric in ("train", "rate_train"):
        plateau = Plateau(metric, patience, min_delta)
        rows = [epoch(number, value, 0.0) for number, value in enumerate(values, start=1)]
        told = [(row.epoch, why) for row in rows if (why := plateau.reached(row)) is not None]
        assert (told[0][0] if told else None) == stop
        assert not told or "rate_train has not improved on" in told[0][1]


def stop_at(metric: str) -> str:
    training = {"batch": 10, "early_stop": {"metric": metric, "patience": 1}}
    found = from_mapping(CONFIG | {"training": training}).training.early_stop
    assert found is not None
    return found.metric


def test_an_early_stop_names_the_measure_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [stop_at(metric) for metric in ("train", "mse_test")] == ["train", "mse_test"]
    with pytest.raises(
        InputError, match="metric: the task node_regression is measured by its MSE, found 'rate_train'"
    ):
        stop_at("rate_train")
    monkeypatch.setitem(measure._OF_TASKS, "node_regression", RATE)
    assert [stop_at(metric) for metric in ("test", "rate_train")] == ["test", "rate_train"]
    with pytest.raises(InputError, match="found 'mse_train'; use rate_train or rate_test"):
        stop_at("mse_train")


def test_metrics_have_the_columns_of_the_measure(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "name: test\n")
    rows = [epoch(1, 1 / 3, 2 / 3), epoch(2, math.pi, math.nan)]
    for row in rows:
        run.append_epoch(row, 1.0)
    header = (run.path / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "epoch,rate_train,rate_test,disagreement,rounds,messages,bytes"
    first, second = run.read_metrics()
    assert first == rows[0]
    assert (second.train, second.measure) == (math.pi, RATE)


def test_minibatches_read_back_as_they_were_appended(tmp_path: Path) -> None:
    run, rows = RunDirectory.create(tmp_path / "run", "name: test\n"), minibatch_rows(25)
    file = run.path / "minibatches.csv"
    assert not run.has_minibatches()
    run.append_minibatches([])
    assert not run.has_minibatches()
    for start in range(0, 25, 7):
        run.append_minibatches(rows[start : start + 7])
        assert len(file.read_text(encoding="utf-8").splitlines()) == 1 + min(
            25, start + 7
        )  # nothing is held back
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "minibatch,rate_train,wmmse_4,wmmse_100"
    assert lines[1].endswith(",")  # not evaluated
    for found, row in zip(run.read_minibatches(), rows, strict=True):
        assert (found.minibatch, found.train, found.measure) == (row.minibatch, row.train, RATE)
        assert found.baselines == {
            name: value for name, value in row.baselines.items() if not math.isnan(value)
        }
    with file.open("a", encoding="utf-8") as stream:
        stream.write("26,17.")  # being written
    assert len(run.read_minibatches()) == 25
    run.discard()  # knows the file
    assert not run.path.exists()


def test_the_first_minibatches_settle_the_columns(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "name: test\n")
    run.append_minibatches([MinibatchRow(1, 1.0, {"a": 2.0}, RATE), MinibatchRow(2, 1.0, {"b": 3.0}, RATE)])
    run.append_minibatches([MinibatchRow(3, 1.0, {}, RATE)])
    assert (run.path / "minibatches.csv").read_text(encoding="utf-8").splitlines()[1:] == [
        "1,1,2,",
        "2,1,,3",
        "3,1,,",
    ]
    for late in (MinibatchRow(4, 1.0, {"c": 1.0}, RATE), MinibatchRow(4, 1.0, {}, MSE)):
        with pytest.raises(ValueError, match="name all baselines in the first rows"):
            run.append_minibatches([late])
    (run.path / "minibatches.csv").write_text("minibatch,other\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="needs the columns minibatch and"):
        run.read_minibatches()


@pytest.mark.parametrize(("every", "width"), [(1, 1), (1, 7), (3, 7), (40, 7)])
def test_running_means(every: int, width: int) -> None:
    x = np.arange(every, 201, every, dtype=np.float64)
    y = np.random.default_rng(0).normal(1e6, 1.0, len(x))
    at, means = running_mean(x, y, width)
    few = 1 if width == 1 else max(1, min(20, len(x) // 5))
    for where, mean in zip(at, means, strict=True):
        seen = y[x <= where]
        inside = max(int(np.sum((x > where - width) & (x <= where))), few)
        assert mean == pytest.approx(seen[-inside:].mean(), rel=1e-14)
    assert at[-1] == x[-1]
    y[len(y) // 2] = np.nan
    assert np.isnan(running_mean(x, y, width)[1]).any()
    assert running_mean(x[:0], y[:0], width)[0].size == 0


def test_baselines_are_averaged_where_they_were_evaluated() -> None:
    rows = minibatch_rows(50)
    drawn = curves(rows)
    assert [*drawn] == ["", "wmmse_4", "wmmse_100"]
    np.testing.assert_array_equal(drawn["wmmse_100"][0], [10, 20, 30, 40, 50])
    found = averages(rows)["wmmse_100"]
    assert found.mean == pytest.approx(drawn["wmmse_100"][1].mean())
    assert found.own == pytest.approx(np.mean([rows[t - 1].train for t in (10, 20, 30, 40, 50)]))
    assert found.evaluated == 5
    assert averages(rows[:5]).keys() == {"wmmse_4"}
    assert [window(length) for length in (1, 99, 100, 10_000)] == [1, 1, 20, 200]
    assert (title("wmmse_100"), title("full_power")) == ("WMMSE 100", "full power")


def test_runs_are_beside_the_nearest_baseline() -> None:
    rows = minibatch_rows(400)
    assert nearest([averages(rows)]) == "wmmse_100"
    assert nearest([averages(minibatch_rows(400, top=18.0)), {}]) == "wmmse_4"
    assert nearest([{}]) is None
    x, y = difference(curves(rows), "wmmse_100")
    np.testing.assert_array_equal(x, np.arange(10, 401, 10))
    np.testing.assert_allclose(
        y, 1.0 - 6 * np.exp(-5 * x / 400), atol=1e-12
    )  # what the mini-batches do is not in it


@pytest.mark.parametrize(
    ("count", "every", "width"), [(50, 10, 1), (400, 1, 20), (400, 10, 80), (10_000, 10, 200), (400, 399, 80)]
)
def test_everything_is_smoothed_over_the_same_mini_batches(count: int, every: int, width: int) -> None:
    """Over more of them where a baseline has few values, but not over most of the run."""
    drawn = curves(minibatch_rows(count, every=every))
    assert shared_window(drawn) == width
    for x, y in drawn.values():
        at, mean = running_mean(x, y, width)
        few, means = thinned(at, mean, width)
        assert (few[-1], means[-1]) == (at[-1], mean[-1])
        assert len(few) <= max(60, 10 * count / width)


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(item.get_text() for item in figure.findobj(Text) if item.get_visible())


def test_figures_of_a_rate_are_linear_and_have_its_unit(tmp_path: Path, drawn: list[Any]) -> None:
    run = RunDirectory.create(tmp_path / "run", "name: test\n")
    for number in range(1, 6):
        run.append_epoch(epoch(number, 3.0**number, 2.0**number), 0.0)  # over more than a decade
    run.write_network(rated_run(tmp_path / "other").read_network()[0], np.geomspace(0.01, 9.0, 6))
    written = draw_run(run)
    assert [path.name for path in written] == [
        "rate_rounds.png",
        "rate_bytes.png",
        "disagreement.png",
        "network.png",
    ]
    for figure in drawn[:2]:
        assert figure.axes[0].get_yscale() == "linear"
        assert figure.axes[0].get_ylabel() == "sum rate (bit/s/Hz)"
    assert "test rate of the node (bit/s/Hz)" in texts(drawn[3])
    assert drawn[3].axes[1].get_yscale() == "linear"
    silent = RunDirectory.create(tmp_path / "silent", "name: test\n")
    silent.append_epoch(epoch(1, 3.0, 2.0, sent=False), 0.0)
    assert [path.name for path in draw_run(silent)] == ["rate_epochs.png"]


@pytest.mark.parametrize(("epochs", "count"), [(1, 1), (1, 30), (1, 1000), (4, 400)])
def test_a_run_is_drawn_against_its_minibatches(
    tmp_path: Path, drawn: list[Any], epochs: int, count: int
) -> None:
    run = rated_run(tmp_path / "run", epochs=epochs, minibatches=count)
    *others, file, network = draw_run(run)
    assert len(others) == (0 if epochs == 1 else 3)  # of one epoch they would be points
    assert (file.name, network.name) == ("minibatches.png", "network.png")
    assert png_size(file) == (1200, 630 if count == 1 else 990)
    figure = drawn[-2]
    axes = figure.axes[0]
    assert figure.axes[-1].get_xlabel() == "mini-batch"
    assert axes.get_ylabel() == "sum rate (bit/s/Hz)"
    assert axes.get_yscale() == "linear"
    lines = {line.get_label(): line for line in axes.lines}
    told, means = curves(run.read_minibatches()), averages(run.read_minibatches())
    width = shared_window(told)
    for name, (x, y) in zip(["train", *(f"WMMSE {k}" for k in (4, 100))], told.values(), strict=False):
        line = next(line for label, line in lines.items() if label.startswith(name))
        at, mean = thinned(*running_mean(x, y, width), width)
        np.testing.assert_array_equal(line.get_xdata(), at)
        np.testing.assert_array_equal(line.get_ydata(), mean)
    if count > 1:
        name = nearest([means])
        assert name
        lower = figure.axes[1]
        assert lower.get_title(loc="left") == f"minus {title(name)} on the same mini-batches"
        at, mean = thinned(*running_mean(*difference(told, name), width), width)
        np.testing.assert_array_equal(lower.lines[0].get_ydata(), mean)
        assert lower.lines[0].get_color() == next(
            line.get_color() for label, line in lines.items() if label.startswith("train")
        )
        train = next(line for label, line in lines.items() if label.startswith("train"))
        beside = next(line for label, line in lines.items() if label.startswith("WMMSE"))
        assert (beside.get_zorder(), train.get_linewidth()) > (train.get_zorder(), beside.get_linewidth())
    ends = np.arange(1, epochs + 1) * count / epochs
    np.testing.assert_array_equal(lines["test"].get_xdata(), ends)
    np.testing.assert_array_equal(lines["test"].get_ydata(), [row.test for row in run.read_metrics()])
    assert ("running means over" in texts(figure)) == (count >= 100)
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys[:3] == [
        f"train, average {told[''][1].mean():.4g}",
        "test",
        f"WMMSE 4, average {means['wmmse_4'].mean:.4g}",
    ]
    assert keys[3:] == [
        f"WMMSE 100, average {found.mean:.4g}\n(train there: {found.own:.4g})"
        for found in [means.get("wmmse_100")]
        if found
    ]


def test_minibatches_of_a_run_that_diverged_or_was_interrupted(tmp_path: Path, drawn: list[Any]) -> None:
    run = rated_run(tmp_path / "run", epochs=2)
    (run.path / "environment.json").unlink()
    bad = [
        MinibatchRow(t, math.nan if t > 150 else 1e300 if t == 150 else 5.0, {}, RATE) for t in range(1, 201)
    ]
    run.append_minibatches(bad)
    draw_run(run)
    assert "diverged in mini-batch 150" in texts(drawn[3])
    assert "test" not in {
        line.get_label() for line in drawn[3].axes[0].lines
    }  # whose mini-batch is not known
    (run.path / "minibatches.csv").write_text("minibatch,mse_train\n1,nan\n2,inf\n", encoding="utf-8")
    draw_run(run)
    assert "no finite value" in texts(drawn[-2])


def test_an_error_is_logarithmic_against_minibatches(tmp_path: Path, drawn: list[Any]) -> None:
    run = RunDirectory.create(tmp_path / "run", "name: test\n")
    run.append_epoch(EpochRow(1, 0.5, 0.4, 0.0, 1, 1, 1), 0.0)
    run.append_minibatches([MinibatchRow(t, 0.97**t, {}, MSE) for t in range(1, 201)])
    draw_run(run)
    assert drawn[0].axes[0].get_yscale() == "log"
    assert drawn[0].axes[0].get_ylabel() == "MSE"


def test_of_rates_the_highest_are_enlarged(tmp_path: Path, drawn: list[Any]) -> None:
    x = np.arange(1.0, 101.0)
    ends = (1.0, 19.9, 20.0, 20.1)
    series = [Series(f"{end}", [(x, end - (end - 0.1) * np.exp(-x / 5))]) for end in ends]
    draw_comparison(tmp_path / "a.png", series, "epoch", "sum rate", rises=True)
    whole, near = drawn[0].axes
    assert whole.get_yscale() == "linear"  # over more than two decades
    low, high = near.get_ylim()
    assert 10 < low < 19.9
    assert 20.1 < high < 20.3


def test_what_a_summary_says_of_a_rate(tmp_path: Path) -> None:
    run = rated_run(tmp_path / "run", minibatches=20)
    assert "Result\nrate" in summarized(rated_run(tmp_path / "alone"))
    assert "train 18, test 20 bit/s/Hz after 1 epoch" in summarized(rated_run(tmp_path / "other"))
    run.write_baselines("uwmmse", Outcome(run.read_metrics(), test_baselines={"wmmse_4": 19.25}))
    lines = [line.split(maxsplit=5) for line in summarized(run).splitlines()]
    means = averages(run.read_minibatches())
    assert lines[:3] == [
        ["Result", "after", "1", "epoch"],
        ["sum", "rate", "(bit/s/Hz)", "train", "test"],
        ["this", "run", "18.00", "20.00"],
    ]
    assert lines[3][:4] == ["WMMSE", "4", f"{means['wmmse_4'].mean:.2f}", "19.25"]
    same = f"run on the same 2 mini-batches: {means['wmmse_100'].own:.2f})"
    assert lines[4] == ["WMMSE", "100", f"{means['wmmse_100'].mean:.2f}", "(this", *same.split(maxsplit=1)]
    assert (
        summarized(run).count("this run on the same") == 2
    )  # the rows are made up: their mean is no epoch's


def test_a_summary_does_not_tell_twice_what_is_over_the_same(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "name: test\n")
    run.append_minibatches([MinibatchRow(t, 9.0 + t, {"wmmse_4": 12.0}, RATE) for t in (1, 2, 3)])
    run.append_epoch(epoch(1, 11.0, 10.5), 0.0)
    run.write_ledger(Ledger())
    write_json(run.path / "environment.json", {"outcome": COMPLETE, "wall_seconds": 1.0, "ranks": 1})
    assert "this run on" not in summarized(run)


def summarized(run: RunDirectory) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(summarize(run))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_an_interrupted_run_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, finished = tmp_path / "run", list[int | None]()

    def interrupted(*_: Any, **__: Any) -> None:
        run = RunDirectory.create(path, "name: test\n", overwrite=True)
        if finished[-1] is not None:
            run.append_minibatches(minibatch_rows(1200))
        for number in range(finished[-1] or 0):
            run.append_epoch(epoch(number + 1, 1.0, 1.0), 0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "on_ranks", interrupted)
    rates = f"1,200 mini-batches in {path / 'minibatches.csv'}"
    said = {
        None: "interrupted\n",
        0: f"interrupted; {rates}\n",
        1: f"interrupted; 1 epoch in {path / 'metrics.csv'}; {rates}\n",
    }
    for epochs, text in said.items():
        finished.append(epochs)
        assert (
            main(["run", "paper/power_allocation", "--out", str(path), "--overwrite", "--ranks", "1"]) == 130
        )
        assert capsys.readouterr().err == text


def shown(*, terminal: bool, epochs: int, through_events: bool = False) -> str:
    stream = io.StringIO()
    display = Display(Console(file=stream, force_terminal=terminal, width=120, highlight=False))
    display._is_time = lambda: True  # type: ignore[method-assign]
    pipe = io.StringIO()
    observer: Display | Events = Events(pipe) if through_events else display
    observer.started("demo", 7, 2, epochs, 2000)
    rows = minibatch_rows(2000 * epochs)
    for number in range(1, epochs + 1):
        for start in range(2000 * (number - 1), 2000 * number, 400):
            observer.minibatches(rows[start : start + 400])
        observer.epoch(epoch(number, 17.0, 18.0))
    observer.finished()
    for line in pipe.getvalue().splitlines():
        assert replay(line, display) is None
    return stream.getvalue()


def test_progress_within_an_epoch() -> None:
    rows = minibatch_rows(2000)
    lines = shown(terminal=False, epochs=1).splitlines()
    mean = np.mean([row.train for row in rows[1100:1200]])
    assert lines[3].startswith(f"mini-batch 1,200 of 2,000, sum rate (last 100) {mean:.4g}  ")
    assert lines[3].endswith(" left")
    assert lines[6].startswith("epoch 1/1  rate train 17 test 18  disagreement")
    lines = shown(terminal=False, epochs=2).splitlines()
    assert lines[7].startswith("epoch 2/2, mini-batch 400 of 2,000, sum rate (last 100) ")
    text = shown(terminal=True, epochs=1)
    assert "mini-batch 2,000 of 2,000, sum rate (last 100)" in text or "rate train 17 test 18" in text
    assert "\x1b" in text


def test_events_of_minibatches_show_the_same() -> None:
    plain, sent = (shown(terminal=False, epochs=2, through_events=through) for through in (False, True))
    strip = [line.split("  ")[0] for line in plain.splitlines()]
    assert [line.split("  ")[0] for line in sent.splitlines()] == strip


def test_a_sweep_knows_how_far_an_epoch_is() -> None:
    progress = Progress()
    progress.started("demo", 7, 1, 2, 100)
    assert (progress.fraction, progress.position) == (0.0, "")
    rows = minibatch_rows(150)
    progress.minibatches(rows[:50])
    assert (progress.fraction, progress.position) == (0.25, "epoch 1/2, mini-batch 50 of 100")
    progress.minibatches(rows[50:100])
    progress.epoch(epoch(1, 1.0, 1.0))
    assert (progress.fraction, progress.position) == (0.5, "epoch 1/2")
    progress.minibatches(rows[100:])
    assert (progress.fraction, progress.position) == (0.75, "epoch 2/2, mini-batch 50 of 100")
