"""Sweeps of link scheduling: the utility ratio along mini-batches, beside what is published and other methods."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from pictures import drawn as drawn
from pictures import png_size
from rated import rated_run
from rich.console import Console

from fdtrain import resources
from fdtrain.config import load
from fdtrain.driver import run
from fdtrain.errors import InputError
from fdtrain.figures import draw_run
from fdtrain.measure import RATIO
from fdtrain.progress import size
from fdtrain.report import read_runs
from fdtrain.report.charts import ledger
from fdtrain.report.compare import group
from fdtrain.report.curves import curves
from fdtrain.report.plans import plans
from fdtrain.report.tables import ledger as ledger_table
from fdtrain.report.tables import results
from fdtrain.rundir import RunDirectory
from fdtrain.summary import summarize
from fdtrain.sweep import display, minibatches, pictures, plan
from fdtrain.sweep.table import Results, labelled
from fdtrain.tasks.link_scheduling import LinkScheduling

ROOT = Path(__file__).parent.parent
PUBLISHED = {"centralized": 1.063, "distributed": 1.042}
SEEDS, GRAPHS, EPOCHS = (4, 5, 6), 3, 2
TINY = [
    f"training.epochs={EPOCHS}",
    f"task.graphs={GRAPHS}",
    "task.test_graphs=3",
    "topology.nodes=15",
    "topology.mean_degree=[2,5]",
]
pytestmark = pytest.mark.skipif(not (ROOT / "configs").is_dir(), reason="needs a source checkout")
Sweep = tuple[Path, plan.Sweep, pl.DataFrame]


def paper(*overrides: str) -> plan.Sweep:
    return plan.load(resources.find_sweep("paper/fig2c"), overrides)


def done_in(folder: Path, sweep: plan.Sweep) -> Sweep:
    for point in sweep.points:
        assert point.config is not None, point.error
        run(point.config, out=folder / point.directory, verify=False)
    return folder, sweep, Results(sweep, folder).frame()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return done_in(tmp_path_factory.mktemp("fig2c"), paper(*TINY))


def runs_of(sweep: Sweep, **labels: Any) -> list[RunDirectory]:
    folder, _, frame = sweep
    return [RunDirectory(folder / row["directory"]) for row in frame.filter(**labels).iter_rows(named=True)]


def printed(content: Any) -> list[str]:
    console = Console(width=130, file=io.StringIO(), force_terminal=False)
    console.print(content)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def texts(figure: Any) -> list[str]:
    return [text.get_text().replace("\xa0", " ") for text in figure.legends[0].get_texts()]


def test_the_papers_sweep() -> None:
    sweep = paper()
    assert not sweep.notes
    assert sweep.config.axes["seed"].keys() == {str(seed) for seed in SEEDS}
    assert sweep.config.measure is RATIO
    assert (sweep.config.baselines, sweep.config.tested) == ((), ("degree_greedy_test",))
    for point in sweep.points:
        assert point.config is not None
        assert isinstance(point.config.task, LinkScheduling)
        assert point.config.task.graphs * point.config.training.epochs == 5500
        published = PUBLISHED.get(point.labels["approach"])
        assert point.published == ({} if published is None else {"published_test": published})
    assert {point.labels["approach"] for point in sweep.points} >= PUBLISHED.keys()
    assert paper("task.optimum_within=1").config.tested == ("degree_greedy_test", "optimum_test")


def test_the_table_has_the_ratios_and_what_others_reach(done: Sweep) -> None:
    folder, sweep, frame = done
    assert frame["status"].to_list() == ["complete"] * len(sweep.points)
    others = set()
    for row in frame.iter_rows(named=True):
        directory = RunDirectory(folder / row["directory"])
        last = directory.read_metrics()[-1]
        assert (row["ratio_train"], row["ratio_test"], row["epochs"]) == (last.train, last.test, EPOCHS)
        assert directory.read_test_baselines() == {"degree_greedy": row["degree_greedy_test"]}
        assert row["published_test"] == PUBLISHED.get(row["approach"])
        others.add(row["degree_greedy_test"])
    assert len(others) == 1  # the same graphs, whatever the seed
    groups = minibatches.by_data(sweep.config, labelled(frame, sweep.config))
    assert [(labels, len(rows)) for labels, rows in groups] == [({}, 1)]


def test_the_summary_has_a_line_of_the_other_method(done: Sweep) -> None:
    folder, sweep, frame = done
    console = Console(width=130, file=io.StringIO(), force_terminal=False)
    display.conclude(sweep, Results(sweep, folder), frame, folder, [], 0, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    heading = lines[1]
    (line,) = [line for line in lines if line.startswith("degree greedy ")]
    value = f"{frame['degree_greedy_test'][0]:.4g}"
    assert line.split() == ["degree", "greedy", "1", value]
    assert line.index(value) + len(value) == heading.index("ratio test") + len("ratio test")
    assert "other methods: on the same test samples" in "\n".join(lines)
    mean = float(frame.filter(approach="centralized")["ratio_test"].mean())  # type: ignore[arg-type]
    assert any(f"1.063 ({100 * mean / 1.063:.1f} %)" in line for line in lines)


def test_the_figures_of_the_paper(done: Sweep, drawn: list[Any]) -> None:
    folder, sweep, frame = done
    written = pictures.draw(sweep, labelled(frame, sweep.config), folder)
    assert {"ratio.png", "ratio_train.png", "bytes.png"} <= {file.name for file in written}
    for file in written:
        png_size(file)
    figure, train, cost = (
        drawn[[file.name for file in written].index(f"{name}.png")]
        for name in ("ratio", "ratio_train", "bytes")
    )
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_yscale()) == ("test utility ratio", "linear")
    assert figure.axes[-1].get_xlabel() == "mini-batch"
    assert axes.get_ylim()[0] > 0.4
    colours = {}
    for approach, published in PUBLISHED.items():
        tests = [[row.test for row in one.read_metrics()] for one in runs_of(done, approach=approach)]
        mean = np.mean(tests, axis=0)
        (line,) = [line for line in axes.lines if np.allclose(line.get_ydata(), mean, rtol=1e-13, atol=0)]
        np.testing.assert_array_equal(line.get_xdata(), [GRAPHS, 2 * GRAPHS])
        assert any(
            np.isclose(band.get_paths()[0].vertices[:, 1].max(), np.max(tests), rtol=1e-12)
            for band in axes.collections
        )
        (level,) = [line for line in axes.lines if list(line.get_ydata()) == [published] * 2]
        assert level.get_color() == line.get_color()
        assert level.get_linestyle() != "-"
        colours[line.get_color()] = approach
        assert any(f"{approach} (published {published})" in text for text in texts(figure))
    assert len(colours) == 2
    greedy = frame["degree_greedy_test"][0]
    assert sum(list(line.get_ydata()) == [greedy] * 2 for line in axes.lines) == 1
    assert any(text.endswith("degree greedy") for text in texts(figure))
    assert figure.legends[0].get_title().get_text() == "last value, series"
    assert "as published" in figure.get_supxlabel()

    assert train.axes[0].get_ylabel() == "training utility ratio"
    assert not any("published" in text or "greedy" in text for text in texts(train))
    assert train.legends[0].get_title().get_text() == "average, series"
    lengths = {len(line.get_xdata()) for line in train.axes[0].lines}
    assert lengths == {GRAPHS * EPOCHS}
    assert cost.axes[0].get_ylabel() == "test utility ratio at the end"


def test_what_deciding_and_the_critic_cost_is_told(done: Sweep) -> None:
    one, *_ = runs_of(done, approach="distributed")
    spent = {line["phase"]: line for line in one.read_ledger() if line["field"] == "all"}
    lines = {line.split()[0]: line.split() for line in printed(summarize(one)) if line.strip()}
    for name, phase in (("decisions", "decide"), ("critic", "control")):
        messages, sent, rounds = (spent[phase][key] for key in ("link_messages", "link_bytes", "rounds"))
        said = f"{name} {messages:,} messages, {size(sent)} in {rounds:,} rounds"
        assert lines[name] == said.split()
    assert lines["degree"][-1] == f"{one.read_test_baselines()['degree_greedy']:.3f}"
    central, *_ = runs_of(done, approach="centralized")
    assert "decisions" not in " ".join(printed(summarize(central)))


def test_the_pictures_of_a_run(done: Sweep, drawn: list[Any]) -> None:
    one, *_ = runs_of(done, approach="distributed")
    names = [file.name for file in draw_run(one)]
    assert names == [
        "ratio_rounds.png",
        "ratio_bytes.png",
        "disagreement.png",
        "minibatches.png",
        "network.png",
    ]
    greedy = one.read_test_baselines()["degree_greedy"]
    for figure in (*drawn[:2], drawn[3]):
        axes = figure.axes[0]
        assert (axes.get_ylabel(), axes.get_yscale()) == ("utility ratio", "linear")
        assert axes.get_ylim()[0] > 0.3
        (level,) = [line for line in axes.lines if line.get_label().startswith("degree greedy, test")]
        assert list(level.get_ydata()) == [greedy] * 2
    assert not any("greedy" in str(line.get_label()) for line in drawn[2].axes[0].lines)
    (network,) = drawn[4].axes  # nodes of the last graph are others than those of held-out ones
    assert network.get_title(loc="left").endswith(f"; no test {RATIO.of_node} of the node")


def test_a_single_epoch_of_ratios_is_not_drawn_from_zero(tmp_path: Path, drawn: list[Any]) -> None:
    short = [*TINY, "training.epochs=1", "training.log_every=0", "training.mode=centralized"]
    centralized = [*short, "optimizer={kind: adam, lr: 5.0e-5}"]
    run(load(resources.find_config("paper/link_scheduling"), centralized), out=tmp_path / "run", verify=False)
    draw_run(RunDirectory(tmp_path / "run"))
    assert drawn[0].axes[0].get_ylim()[0] > 0.3


def test_the_report_of_the_sweep(done: Sweep) -> None:
    folder, _, frame = done
    read, _ = read_runs([folder / row["directory"] for row in frame.iter_rows(named=True)])
    told = curves(read, group(read))
    greedy = frame["degree_greedy_test"][0]
    for one in told["runs"]:
        assert one["tested"] == [{"label": f"degree greedy, test {greedy:.4g}", "y": greedy}]
    assert {
        "key": "ratio_test",
        "label": "test utility ratio",
        "axis": "test utility ratio",
        "linear": True,
    } in told["y"]

    (own,) = [
        run for run in read if run.path == folder / frame.filter(approach="distributed")["directory"][0]
    ]
    bars = ledger([own], group([own]))
    assert bars is not None
    labels = bars["layout"]["yaxis"]["categoryarray"]
    assert {"decisions: states", "decisions: weights", "critic: reports", "critic: sensitivities"} <= {
        *labels
    }
    assert {"decisions", "critic"} <= {row[0].text for row in ledger_table(own).rows}
    together = ledger(read, group(read))
    assert together is not None
    named = {trace["name"]: trace["x"][0] for trace in together["data"]}
    for name, phase in (("decisions", "decide"), ("critic", "control")):
        alike = [
            line["link_bytes"]
            for run in read[len(SEEDS) : 2 * len(SEEDS)]  # distributed
            for line in run.ledger or ()
            if (line["phase"], line["field"]) == (phase, "all")
        ]
        assert named[name] == pytest.approx(np.mean(alike))


def test_an_optimum_that_took_too_long_is_unknown(tmp_path: Path, drawn: list[Any]) -> None:
    short = [*TINY, "task.test_samples=2", "task.optimum_within=1e-6", "training.batch=4", "training.wave=4"]
    sweep = paper(*short)
    chosen = [point for point in sweep.points if point.labels["approach"] == "distributed"]
    folder, sweep, frame = done_in(tmp_path, replace(sweep, points=chosen))
    assert all(np.isnan(one.read_test_baselines()["optimum"]) for one in runs_of((folder, sweep, frame)))
    assert frame["optimum_test"].null_count() == len(chosen)
    groups = minibatches.by_data(sweep.config, frame)
    assert [len(rows) for _, rows in groups] == [1]
    assert minibatches.levels(sweep.config, frame).keys() == {"degree greedy"}
    one = RunDirectory(folder / chosen[0].directory)
    (line,) = [line for line in printed(summarize(one)) if line.startswith("optimum")]
    assert line.split(maxsplit=1)[1].strip() == "(not known of all test samples)"
    (read,), _ = read_runs([one.path])
    shown = results(read)
    assert shown is not None
    assert [cell.text for cell in shown.rows[-1]] == ["optimum", "–", "–"]
    draw_run(one)
    assert not any("optimum" in str(line.get_label()) for line in drawn[0].axes[0].lines)


def test_critics_differ_in_their_schedules(tmp_path: Path) -> None:
    content = {
        "name": "critics",
        "base": "paper/link_scheduling",
        "axes": {"task.critic.kind": ["central", "neighbours"]},
    }
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    short = [*TINY, "task.test_samples=2", "training.batch=4", "training.wave=4", "training.epochs=1"]
    folder, sweep, _ = done_in(tmp_path, plan.load(file, short))
    read, _ = read_runs([folder / point.directory for point in sweep.points])
    found, missing = plans(read)
    assert not missing
    assert [len(one.runs) for one in found] == [1, 1]


def made(folder: Path, y: str, *overrides: str) -> plan.Sweep:
    """A sweep of another task along mini-batches."""
    content = {
        "name": "rates",
        "base": {
            "task": {"kind": "power_allocation", "pairs": 4, "minibatches": 100},
            "training": {"epochs": 4},
        },
        "axes": {"approach": {"a": {"published": {"rate_test": 21.0}}, "b": {}}, "seed": [1, 2]},
        "figures": [{"kind": "curves", "name": "one", "x": "minibatches", "y": y}],
    }
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return plan.load(file, overrides)


@pytest.mark.parametrize("y", ["rate_test", "disagreement"])
def test_what_is_known_after_epochs_is_drawn_where_they_end(tmp_path: Path, drawn: list[Any], y: str) -> None:
    sweep = made(tmp_path, y)
    for k, point in enumerate(sweep.points):
        one = rated_run(tmp_path / point.directory, epochs=4, minibatches=400, top=20.0 + k)
        if k == len(sweep.points) - 1:
            (one.path / "minibatches.csv").unlink()
    frame = labelled(Results(sweep, tmp_path).frame(), sweep.config)
    pictures.draw(sweep, frame, tmp_path)
    first, second, *others = drawn[0].axes[0].lines
    for line, chosen in ((first, sweep.points[:2]), (second, sweep.points[2:3])):
        read = [RunDirectory(tmp_path / point.directory).read_metrics() for point in chosen]
        np.testing.assert_array_equal(line.get_xdata(), [100, 200, 300, 400])
        values = np.mean([[row.columns()[y] for row in rows] for rows in read], axis=0)
        np.testing.assert_allclose(line.get_ydata(), values, rtol=1e-15)
    assert [list(line.get_ydata()) for line in others] == ([[21.0, 21.0]] if y == "rate_test" else [])
    note = drawn[0].get_supxlabel()
    assert "no minibatches.csv: b" in note
    assert "running means" not in note


@pytest.mark.parametrize(
    ("y", "overrides", "expected"),
    [
        (
            "ratio_test",
            [],
            "the task is measured by its sum rate, found 'ratio_test'; use rate_train or rate_test",
        ),
        ("bytes", [], "'bytes' is no y of curves; known: rate_train, rate_test, disagreement"),
        (
            "rate_test",
            ["training.log_every=0"],
            "the run a, seed 1 has no minibatches.csv; set training.log_every",
        ),
    ],
)
def test_what_has_no_place_along_minibatches(
    tmp_path: Path, y: str, overrides: list[str], expected: str
) -> None:
    with pytest.raises(InputError, match=r"figures\.0\.[xy]: ") as refused:
        made(tmp_path, y, *overrides)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_published_ratio_belongs_to_ratios(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    axes = {"a": {"b": {"published": {"rate_test": 1.0}}}}
    file.write_text(
        yaml.safe_dump({"name": "c", "base": "paper/link_scheduling", "axes": axes}), encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"measured by its utility ratio, found 'rate_test'"):
        plan.load(file)
