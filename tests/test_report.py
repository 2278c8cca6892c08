"""The HTML page: what is in it, that it needs no network, and, where there is a browser, that it works."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain, one_line_error
from rated import minibatch_rows, rated_run

import fdtrain as package
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import gcnn_outline
from fdtrain.minibatches import averages, running_mean, thinned
from fdtrain.report import default_file, read_runs, write_report
from fdtrain.report.cells import spread
from fdtrain.report.charts import MAX_ROUNDS, ledger, schedule
from fdtrain.report.compare import differing, group
from fdtrain.report.network import CELLS, draw, places
from fdtrain.report.page import embed
from fdtrain.report.plans import plans
from fdtrain.report.tables import compare, results, summary
from fdtrain.rundir import RunDirectory
from fdtrain.schedule import build
from fdtrain.service import Outcome

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs chromium on the path: apt-get install chromium"
)
HOSTILE = "</script><script>throw 1</script><img src=x onerror=alert(1)>&amp;"


@pytest.fixture(autouse=True)
def _strict_arithmetic() -> Iterator[None]:
    with np.errstate(all="raise"):
        yield


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "topology": {"kind": "barabasi_albert", "nodes": 12, "m": 2},
        "model": {"sizes": [10, 4, 1]},
        "task": {"train_samples": 60, "test_samples": 4},
        "training": {"epochs": 3, "batch": 30, "wave": 1},
        "optimizer": {"kind": "d_sgd", "lr": 1e-3, "mixing": {"kind": "metropolis"}},
        **changes,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distributed run ``one``, its repetition ``two`` with another seed, and a centralized one."""
    folder = tmp_path_factory.mktemp("runs")
    package.run(settings(), out=folder / "one")
    package.run(settings(seed=1), out=folder / "two")
    central = {"training": {"epochs": 3, "batch": 30, "mode": "centralized"}, "optimizer": {"kind": "sgd"}}
    package.run(settings(**central), out=folder / "central")
    return folder


def copy(run: Path, name: Path) -> Path:
    return Path(shutil.copytree(run, name))


def page(*runs: Path, out: Path) -> str:
    return write_report(runs, out).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Tags with their attributes, and the text in each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and data.strip():
            self.texts.append((self.tags[-1][0], data))


def data_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def columns(file: Path) -> dict[str, list[float]]:
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_the_curves_are_those_of_the_files(made: Path, tmp_path: Path) -> None:
    text = page(made / "one", made / "central", out=tmp_path / "a.html")
    runs = data_of(text)["curves"]["runs"]
    for run, name in zip(runs, ("one", "central"), strict=True):
        expected = columns(made / name / "metrics.csv") | {
            "seconds": columns(made / name / "timing.csv")["seconds"]
        }
        assert run["label"] == name
        assert run["columns"].keys() == expected.keys()
        for key, values in expected.items():
            np.testing.assert_allclose(run["columns"][key], values, rtol=1e-8, atol=0)
    assert [run["silent"] for run in runs] == [False, True]
    last = columns(made / "one" / "metrics.csv")["mse_test"][-1]
    assert f'title="{last:.17g}">{last:.4g}</td>' in text


def test_the_page_is_one_file_with_plotly_once(made: Path, tmp_path: Path) -> None:
    text = page(made / "one", made / "two", made / "central", out=tmp_path / "a.html")
    elements = Elements(text)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not {"link", "iframe", "img", "base"} & {tag for tag, _ in elements.tags}
    policy = next(a["content"] or "" for tag, a in elements.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"https?:", policy)
    style = "".join(text for tag, text in elements.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert text.count("* plotly.js v") == 1
    assert 4e6 < len(text.encode()) < 6e6


def test_hostile_names_are_text(made: Path, tmp_path: Path) -> None:
    run = copy(made / "one", tmp_path / "run")
    config = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(
        config.replace("name: experiment", f"name: '{HOSTILE}'"), encoding="utf-8"
    )
    (run / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE, "ranks": HOSTILE, "packages": HOSTILE,
                                                      "wall_seconds": HOSTILE}), encoding="utf-8")  # fmt: skip
    (run / "verify.json").write_text(json.dumps({"comparisons": [{"name": HOSTILE}]}), encoding="utf-8")
    graph, loss = RunDirectory(run).read_network()
    labels = tuple(f"{i}{HOSTILE}" for i in range(graph.num_nodes))
    RunDirectory(run).write_network(Graph(graph.indptr, graph.indices, graph.weights, labels), loss)
    (tmp_path / "sweep").mkdir()
    with (tmp_path / "sweep" / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([[HOSTILE, "status", "directory"], [HOSTILE, "complete", "../run"]])
    for source in (run, tmp_path / "sweep"):
        file = write_report([source, made / "two"], tmp_path / "a.html", HOSTILE)
        text = file.read_text(encoding="utf-8")
        assert "<script>throw" not in text
        assert "<img" not in text
        assert [tag for tag, _ in Elements(text).tags].count("script") == 3
        titles = [part for tag, part in Elements(text).texts if tag == "title"]
        assert titles == [HOSTILE]
        assert HOSTILE in data_of(text)["curves"]["runs"][0]["label"] or source == run
        assert "<img" not in json.dumps(data_of(text)["figures"]["network-0"])


def test_json_cannot_leave_its_element() -> None:
    content = {"</script>": "<!--<script>\u2028&'\""}
    text = str(embed(content))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == content


def test_runs_that_differ_in_the_seed_alone_are_one_group(made: Path) -> None:
    runs, _ = read_runs([made / name for name in ("one", "two", "central")])
    assert [one.members for one in group(runs)] == [[0, 1], [2]]
    assert differing([run.config for run in runs[:2]]) == {"seed": ["0", "1"]}


@pytest.mark.parametrize("figure", ["one", "both"])
def test_figures_are_valid_for_plotly(made: Path, tmp_path: Path, figure: str) -> None:
    from plotly.graph_objects import Figure

    figures = data_of(page(*[made / "one", made / "two"][: 1 + (figure == "both")], out=tmp_path / "a.html"))[
        "figures"
    ]
    assert {"bytes", "schedule-0", "network-0"} <= figures.keys()
    for content in figures.values():
        Figure(content)


def test_the_bars_of_the_ledger_are_its_bytes(made: Path) -> None:
    runs, _ = read_runs([made / "one", made / "two", made / "central"])
    alone, together = ledger(runs[:1], group(runs[:1])), ledger(runs, group(runs))
    assert alone is not None
    assert together is not None
    total = {line["phase"]: line["link_bytes"] for line in runs[0].ledger or () if line["field"] == "all"}
    assert sum(sum(trace["x"]) for trace in alone["data"]) == sum(
        total[p] for p in ("setup", "train", "test")
    )
    books = [line for run in runs[:2] for line in run.ledger or ()]
    trained = [line["link_bytes"] for line in books if (line["phase"], line["field"]) == ("train", "all")]
    assert sum(trace["x"][0] for trace in together["data"]) == sum(trained) / 2
    assert ledger(runs[2:], group(runs[2:])) is None


@pytest.mark.parametrize("scheme", ["inference", "piggyback_do"])
def test_a_schedule_is_drawn_round_by_round(scheme: str) -> None:
    plan = build(scheme, outline=gcnn_outline([5, 4, 2], "receiver"), batch=30, wave=1, travelling=99)
    bars = schedule(plan)["data"]
    assert [sum(heights) for heights in zip(*(bar["y"] for bar in bars), strict=True)] == [
        round_.width for round_ in plan.rounds
    ]
    long = build(scheme, outline=gcnn_outline([5, 4, 2], "receiver"), batch=MAX_ROUNDS, wave=1, travelling=99)
    assert len(schedule(long)["data"][0]["x"]) < MAX_ROUNDS < len(long.rounds)
    assert schedule(long)["data"][0]["x"][-1] == len(long.rounds) - 1


@pytest.mark.parametrize("loss", [np.linspace(0.1, 9, 60), np.full(60, np.nan), np.zeros(60), np.zeros(0)])
def test_networks_with_any_loss(loss: Any) -> None:
    from plotly.graph_objects import Figure

    graph = Graph.from_edges(60, [(i, i + 1) for i in range(59)])
    chart = draw(graph, loss, places(graph))
    Figure(chart)
    assert sum(len(trace["x"]) for trace in chart["data"] if trace["mode"] == "markers") == 60
    assert len(chart["data"][0]["x"]) == 3 * 59


def test_large_networks_lose_their_edges_and_then_their_nodes() -> None:
    for nodes, kinds in ((2500, ["markers"]), (6000, [None])):
        graph = Graph.from_edges(nodes, [(0, i) for i in range(1, nodes)])
        at = places(graph) if nodes > 5000 else np.random.default_rng(0).random((nodes, 2))
        chart = draw(graph, np.linspace(1, 2, nodes), at)
        assert [trace.get("mode") for trace in chart["data"]] == kinds
        assert len(json.dumps(chart)) < 600 * CELLS**2


def test_a_sweep_is_expanded_to_its_complete_runs(made: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    copy(made / "one", sweep / "runs" / "a")
    copy(made / "two", sweep / "runs" / "b")
    lines = [["optimizer.lr", "seed", "status", "mse_test", "error", "directory"],
             ["0.1", "0", "complete", "1", "", "runs/a"], ["0.1", "1", "complete", "1", "", "runs/b"],
             ["0.2", "0", "failed", "", "why", ""], ["0.3", "0", "missing", "", "", "runs/c"]]  # fmt: skip
    with (sweep / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)
    runs, notes = read_runs([sweep])
    assert [run.label for run in runs] == ["lr 0.1, seed 0", "lr 0.1, seed 1"]
    assert [one.label for one in group(runs)] == ["lr 0.1"]
    assert "2 of 4 runs" in notes[0]
    assert notes[0] in page(sweep, out=tmp_path / "a.html")


def test_a_sweep_with_repetitions_is_summed_up(made: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for name in ("one", "two", "central"):
        copy(made / name, sweep / name)
    half = copy(made / "two", sweep / "half")
    (half / "environment.json").write_text('{"outcome": "interrupted"}', encoding="utf-8")
    names = ["approach", "seed", "status", "published_train", "published_test", "directory"]
    lines = [["D-SGD", "0", "complete", "0.5", "", "one"], ["D-SGD", "1", "complete", "0.5", "", "two"],
             ["D-SGD", "1", "complete", "0.5", "", "half"], ["SGD", "0", "complete", "", "x", "central"]]  # fmt: skip
    with (sweep / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([names, *lines])
    runs, _ = read_runs([sweep])
    table, same = summary(runs, group(runs))
    last = [columns(made / name / "metrics.csv")["mse_train"][-1] for name in ("one", "two")]
    assert table.head == ["setting", "runs", "train MSE", "published train MSE", "test MSE", "disagreement",
                          "rounds", "bytes over links"]  # fmt: skip
    assert same == "3 epochs"
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[:2] == ["D-SGD", "2"]  # not the incomplete one
    assert first[2].split(" ± ") == [f"{np.mean(last):.{len(first[2].split(' ± ')[0]) - 2}f}",
                                     f"{np.std(last, ddof=1):.{len(first[2].split(' ± ')[0]) - 2}f}"]  # fmt: skip
    assert first[3] == f"0.5 ({100 * np.mean(last) / 0.5:.1f} %)"
    assert second[3] == second[5] == second[6] == "–"
    text = page(sweep, out=tmp_path / "a.html")
    assert text.index('id="settings"') < text.index("<details>") < text.index('id="runs"')
    assert "All settings: 3 epochs." in text
    assert 'id="settings"' not in page(made / "one", made / "central", out=tmp_path / "b.html")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0123456, 0.0119], "0.01212 ± 0.00032"),
        ([0.5], "0.5"),
        ([2.0, 2.0], "2"),
        ([None, None], "–"),
        ([1.0, None, 2.0], "1.50 ± 0.71"),
        ([1.0, np.nan, np.inf], "2 of 3 diverged"),
        ([1e-12, 2e-12], "1.5e-12 ± 7.1e-13"),
        ([1e150, -1e150], "0 ± 1.4e+150"),
        ([900.0, 1500.0], "1200 ± 424"),
    ],
)
def test_mean_and_standard_deviation(values: list[float | None], text: str) -> None:
    assert spread(values).text == text


def test_what_is_the_same_for_all_runs_is_no_column(made: Path) -> None:
    runs, _ = read_runs([made / "one", made / "two"])
    table, same = compare(runs)
    assert table.head[:3] == ["run", "train MSE", "test MSE"]
    assert not {"status", "optimizer", "epochs", "rounds"} & set(table.head)
    assert same.startswith(
        "complete, d_sgd, metropolis, learning rate 0.001, scheme piggyback_do, 12 nodes, "
    )
    assert "3 epochs, 366 rounds" in same
    runs, _ = read_runs([made / "one", made / "central"])
    table, _ = compare(runs)
    assert table.head[1:4] == ["train MSE", "test MSE", "optimizer"]  # which differs, beside the results


def test_a_run_that_stopped_early_says_so(made: Path, tmp_path: Path) -> None:
    run = copy(made / "one", tmp_path / "run")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace("epochs: 3", "epochs: 60"), encoding="utf-8")
    known = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    known["outcome"] = "stopped early after epoch 3: why"
    (run / "environment.json").write_text(json.dumps(known), encoding="utf-8")
    shown = page(run, out=tmp_path / "a.html")
    assert 'title="stopped early after epoch 3: why" class="tone good">stopped early</dd>' in shown
    assert "3 of 60</dd>" in shown


def test_a_plugin_is_not_executed_for_its_schedule(made: Path, tmp_path: Path) -> None:
    run = copy(made / "one", tmp_path / "run")
    text = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(text.replace("kind: d_sgd", "kind: plugin"), encoding="utf-8")
    known, missing = plans(read_runs([run])[0])
    assert (known, list(missing.values())) == ([], [["run"]])
    shown = page(run, out=tmp_path / "a.html")
    assert "one of the user&#39;s own, which a report does not execute." in shown
    assert "--allow-plugins" not in shown


def test_one_reason_for_many_runs_without_a_schedule_is_said_once(made: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run = copy(made / name, tmp_path / name)
        text = (run / "config.yaml").read_text(encoding="utf-8")
        (run / "config.yaml").write_text(text.replace("lr: 0.001", "lr: 0.001\n  old: 1"), encoding="utf-8")
    known, missing = plans(read_runs([tmp_path / "one", tmp_path / "two"])[0])
    assert (known, list(missing.values())) == ([], [["one", "two"]])
    assert (
        page(tmp_path / "one", tmp_path / "two", out=tmp_path / "a.html").count("cannot be built again") == 1
    )


def test_runs_are_named_by_their_configurations_where_that_tells_them_apart(
    made: Path, tmp_path: Path
) -> None:
    named = copy(made / "one", tmp_path / "named")
    text = (named / "config.yaml").read_text(encoding="utf-8")
    (named / "config.yaml").write_text(text.replace("name: experiment", "name: Euler"), encoding="utf-8")
    runs, _ = read_runs([named, made / "one", made / "two"])
    assert [run.label for run in runs] == ["Euler", "one", "two"]


@pytest.mark.parametrize(("nodes", "mode"), [(40, "markers+text"), (41, "markers")])
def test_labels_of_nodes_are_shown(nodes: int, mode: str) -> None:
    labels = tuple(f"city {i}" for i in range(nodes))
    plain = Graph.from_edges(nodes, [(0, i) for i in range(1, nodes)])
    graph = Graph(plain.indptr, plain.indices, plain.weights, labels)
    trace = draw(graph, np.arange(nodes, dtype=float), places(graph))["data"][-1]
    assert trace["mode"] == mode
    assert trace["text"] == (list(labels) if nodes <= 40 else [])
    assert trace["hovertext"][3] == "city 3 (node 3)"


@pytest.mark.parametrize(
    "gone", ["ledger.csv", "theta.npz", "verify.json", "timing.csv", "network.npz", "environment.json"]
)
def test_a_missing_file_is_said(made: Path, tmp_path: Path, gone: str) -> None:
    run = copy(made / "one", tmp_path / "run")
    (run / gone).unlink()
    text = page(run, out=tmp_path / "a.html")
    assert ("No comparison was made" if gone == "verify.json" else f"missing: {gone}") in text
    (run / gone).write_text("nonsense\x00", encoding="utf-8")
    said = "timing.csv has fewer lines" if gone == "timing.csv" else f"{gone} cannot be read"
    assert gone == "theta.npz" or said in page(
        run, out=tmp_path / "a.html"
    )  # of theta it matters that it is there


def test_what_is_left_of_a_run_is_shown(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("training: {epochs: 9}\ntopology: {kind: gone}\n", encoding="utf-8")
    (run / "metrics.csv").write_text("epoch,mse_train,mse_test\n1,.5,nan\n2,0.25,inf\n3,0.", encoding="utf-8")
    text = page(run, made / "one", out=tmp_path / "a.html")
    for said in (
        "diverged",
        "metrics.csv cannot be read from line 4 on",
        "unknown &#39;gone&#39;",
        "missing: ",
    ):
        assert said in text
    assert data_of(text)["curves"]["runs"][0]["columns"]["mse_test"] == [None, None]
    (run / "metrics.csv").write_text("epoch,mse_train\n1,.5\n2,0.25\n", encoding="utf-8")
    text = page(run, out=tmp_path / "a.html")
    assert "incomplete</dd>" in text
    assert "2 of 9</dd>" in text


def test_the_default_file() -> None:
    assert default_file([Path("a")]) == Path("a/report.html")
    assert default_file([Path("a"), Path("b")]) == Path("report.html")


def test_bad_input_is_one_line(made: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = copy(made / "one", tmp_path / "bare")
    (bare / "metrics.csv").write_text("epoch,mse_train\n", encoding="utf-8")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "table.csv").write_text("a,b\n", encoding="utf-8")
    cases = {
        tmp_path / "none": "no such directory",
        empty: "not the directory of a run",
        bare: "no finished epoch",
        tmp_path / "odd": "needs the columns",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            write_report([path], tmp_path / "a.html")
        assert "\n" not in str(caught.value)
    (tmp_path / "dir.html").mkdir()
    for out, message in (
        (empty / "no" / "a.html", "no directory|not there"),
        (tmp_path / "dir.html", "is a directory"),
    ):
        with pytest.raises(InputError, match=message):
            write_report([made / "one"], out)
    assert not (tmp_path / "a.html").exists()


def test_the_command(made: Path, tmp_path: Path) -> None:
    run = copy(made / "one", tmp_path / "run")
    result = fdtrain("report", str(run), "--title", "A & B")
    assert result.returncode == 0, result.stderr
    assert "<title>A &amp; B</title>" in (run / "report.html").read_text(encoding="utf-8")
    RunDirectory.create(run, "name: again\n", overwrite=True)  # the page is a part of the run
    assert not (run / "report.html").exists()
    assert "no finished epoch" in one_line_error(fdtrain("report", str(run)))


def test_plotly_and_jinja_are_imported_for_a_page_only() -> None:
    code = "import sys, fdtrain.cli, fdtrain.report; assert not {'plotly', 'jinja2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


# In a browser. A script that is added at the end of the page is the reader's hand.


def browse(text: str, folder: Path, fragment: str = "", hand: str = "") -> tuple[str, list[str]]:
    """The page's elements once its scripts have run, and what they wrote to the console."""
    assert BROWSER is not None
    file = folder / "shown.html"
    file.write_text(text.replace("</body>", f"<script>{hand}</script></body>"), encoding="utf-8")
    options = ("headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
               "disable-component-update disable-sync dump-dom enable-logging=stderr v=0 disable-dev-shm-usage "
               "virtual-time-budget=10000 window-size=1280,2000")  # fmt: skip
    command = [BROWSER, *(f"--{option}" for option in options.split())]
    command += [f"--user-data-dir={folder / 'profile'}", f"{file.as_uri()}{fragment}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return shown.stdout, [line for line in shown.stderr.splitlines() if "CONSOLE" in line]


def chart_of(dom: str) -> dict[str, str | None]:
    return next(attributes for _, attributes in Elements(dom).tags if attributes.get("id") == "curve")


@pytest.fixture(scope="module")
def text(made: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    bad = copy(made / "one", tmp_path_factory.mktemp("bad") / "diverged")
    rows = (bad / "metrics.csv").read_text(encoding="utf-8").splitlines()
    (bad / "metrics.csv").write_text("\n".join([*rows[:-1], "3,nan,nan,inf,9,9,9"]), encoding="utf-8")
    sweep = bad.parent / "sweep"
    copy(made / "one", sweep / "one")
    with (sweep / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["axis", "status", "directory"], [HOSTILE, "complete", "one"]])
    return page(sweep, made / "two", made / "central", bad, out=bad.parent / "a.html")


@needs_browser
def test_the_page_draws_its_charts_without_an_error(text: str, tmp_path: Path) -> None:
    dom, console = browse(text, tmp_path)
    assert console == []
    assert 'data-ready="yes"' in dom
    drawn = [a["data-figure"] for _, a in Elements(dom).tags if a.get("data-drawn")]
    assert drawn == ["schedule-0", "bytes", "network-0"]  # what is hidden is drawn when it is shown
    assert chart_of(dom)["data-x"] == "epochs"
    assert dom.count('class="main-svg"') >= 8
    assert "diverged in epoch 3" in dom
    assert "thin lines, and their mean" in dom
    assert "onerror" in dom  # as text
    assert not [
        tag for tag, a in Elements(dom).tags if "onerror" in a or (tag == "a" and "main-svg" in str(a))
    ]


@needs_browser
def test_an_error_of_the_page_is_seen_by_these_tests(text: str, tmp_path: Path) -> None:
    mutant = text.replace("drawFigures(false);\ndocument", "drawFigure(undefined);\ndocument")
    assert mutant != text
    dom, console = browse(mutant, tmp_path)
    assert any("TypeError" in line for line in console)
    assert 'data-ready="yes"' not in dom
    assert "A script of this page failed: " in dom


@needs_browser
def test_the_address_sets_the_selectors(text: str, tmp_path: Path) -> None:
    dom, console = browse(text, tmp_path, "#x=rounds&y=disagreement&scale=log&run=2&hide=0.3")
    assert console == []
    chart = chart_of(dom)
    assert [chart[f"data-{key}"] for key in ("x", "y", "scale", "traces")] == [
        "rounds",
        "disagreement",
        "log",
        "1",
    ]
    assert "Runs that send nothing have one set of parameters" in dom
    assert "nothing was sent" in dom


@needs_browser
def test_one_choice_of_a_run_and_settings_to_hide(made: Path, tmp_path: Path) -> None:
    text = page(made / "central", made / "one", made / "two", out=tmp_path / "a.html")
    assert [a["value"] for tag, a in Elements(text).tags if tag == "option" and "selected" in a] == ["1"]
    hand = """
    document.querySelector('#settings tr[data-group="1"] button').click();
    const select = document.querySelector('select[data-pick="run"]');
    select.value = "2"; select.dispatchEvent(new Event("change"));
    document.body.dataset.at = location.hash;
    const panels = [...document.querySelectorAll('[data-panel="run"]:not([hidden])')];
    document.body.dataset.seen = panels.map((panel) => panel.dataset.key);
    document.body.dataset.unit = document.querySelector('[data-figure="bytes"]').layout.xaxis.title.text;
    """
    dom, console = browse(text, tmp_path, "", hand)
    assert console == []
    assert 'run=2&amp;hide=1.2"' in dom
    assert 'data-seen="2,2,2,2"' in dom  # ledger, network, verification, configuration
    assert re.search(r'data-unit="bytes over links \([kM]B\)"', dom)
    assert dom.count('class="run off"') == 3  # the setting and its two runs


@needs_browser
def test_clicks_select_hide_and_sort(text: str, tmp_path: Path) -> None:
    hand = """
    for (const key of ["x", "bytes", "y", "mse_train", "scale", "log"])
      document.querySelector(`fieldset [data-key="${key}"]`)?.click();
    document.querySelector('#legend [data-group="0"]').click();
    document.querySelector('#runs tr[data-run="0"] button').click();
    document.querySelectorAll('#runs thead th').forEach((th) => th.textContent === "test MSE" && th.click());
    document.querySelector('[data-show="last"]').click();
    const select = document.querySelector('select[data-pick="run"]');
    select.value = "1"; select.dispatchEvent(new Event("change"));
    document.body.dataset.at = location.hash;
    const flat = document.getElementById("curve").data.filter((trace) => trace.x.length === 2 && trace.x[0] === 0);
    document.body.dataset.flat = JSON.stringify(flat.map((trace) => [trace.y, trace.line.dash]));
    """
    dom, console = browse(text, tmp_path, "", hand)
    assert console == []
    chart = chart_of(dom)
    assert [chart[f"data-{key}"] for key in ("x", "y", "scale")] == ["bytes", "mse_train", "log"]
    assert 'data-at="#x=bytes&amp;y=mse_train&amp;scale=log&amp;run=1&amp;hide=1.3"' in dom
    assert "a dashed horizontal line is their value after the last epoch" in dom
    central = data_of(text)["curves"]["runs"][2]["columns"]["mse_train"][-1]
    assert f'data-flat="[[[{central},{central}],&quot;dash&quot;]]"' in dom
    order = [a["data-run"] for tag, a in Elements(dom).tags if tag == "tr" and a.get("data-run")]
    table = {run["label"]: run["columns"]["mse_test"][-1] for run in data_of(text)["curves"]["runs"]}
    last = [value if value is not None else np.inf for value in table.values()]
    assert order == [str(k) for k in np.argsort(last, kind="stable")]
    drawn = [a["data-figure"] for _, a in Elements(dom).tags if a.get("data-drawn")]
    assert "network-1" in drawn
    assert 'data-rounds="13 to 60"' in dom


@needs_browser
@pytest.mark.parametrize(("same", "lines"), [(True, 1), (False, 0)])
def test_what_others_reach_on_the_test_samples_is_a_line(tmp_path: Path, same: bool, lines: int) -> None:
    runs = [rated_run(tmp_path / name, epochs=3) for name in ("one", "two")]
    for run, value in zip(runs, (18.5, 18.5 if same else 18.0), strict=True):
        run.write_baselines("gcnn", Outcome(run.read_metrics(), test_baselines={"degree_greedy": value}))
    text = page(*(run.path for run in runs), out=tmp_path / "a.html")
    hand = """
    const named = (y) => (document.querySelector(`fieldset [data-key="${y}"]`).click(),
      document.getElementById("curve").data.filter((trace) => trace.name === "degree greedy, test 18.5"));
    document.body.dataset.trained = named("rate_train").length;
    document.body.dataset.tested = JSON.stringify(named("rate_test").map((trace) => [trace.x, trace.y]));
    """
    dom, console = browse(text, tmp_path, "#x=epochs", hand)
    assert console == []
    assert 'data-trained="0"' in dom
    told = json.dumps([[[0, 3], [18.5, 18.5]]] * lines, separators=(",", ":"))
    assert f'data-tested="{told}"' in dom


def test_a_rate_is_called_so_and_has_its_unit(tmp_path: Path) -> None:
    run = rated_run(tmp_path / "run", epochs=2, minibatches=400)
    text = page(run.path, out=tmp_path / "a.html")
    assert not re.search(r"\bMSE\b", text.split('<script type="application/json"')[0])
    for fact in ("train sum rate", "test sum rate"):
        assert f"<dt>{fact}</dt>" in text
    told = data_of(text)
    assert {
        "key": "rate_test",
        "label": "test sum rate",
        "axis": "test sum rate (bit/s/Hz)",
        "linear": True,
    } in told["curves"]["y"]
    colours = told["figures"]["network-0"]["data"][-1]["marker"]
    assert colours["colorbar"]["title"]["text"] == "test rate (bit/s/Hz)"  # linear, although it spans much
    np.testing.assert_allclose(colours["color"], np.linspace(0.1, 9.0, 6), rtol=1e-5)


def test_a_run_stands_beside_other_methods(tmp_path: Path) -> None:
    run = rated_run(tmp_path / "run", minibatches=400)
    run.write_baselines("uwmmse", Outcome(run.read_metrics(), test_baselines={"wmmse_4": 19.25}))
    means = averages(run.read_minibatches())
    found, _ = read_runs([run.path])
    table = results(found[0])
    assert table
    assert table.head == ["sum rate (bit/s/Hz)", "train", "test", "this run on the same mini-batches"]
    own = {name: f"{means[name].own:.4g} on {means[name].evaluated} mini-batches" for name in means}
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["this run", "18", "20", "–"],
        ["WMMSE 4", f"{means['wmmse_4'].mean:.4g}", "19.25", own["wmmse_4"]],
        ["WMMSE 100", f"{means['wmmse_100'].mean:.4g}", "–", own["wmmse_100"]],
    ]
    text = page(run.path, out=tmp_path / "a.html")
    assert ">this run<" in text
    assert "(own " not in text
    for name in ("other", "third"):  # on the same data: told once, and not in columns
        same = rated_run(tmp_path / name, minibatches=400)
        same.write_baselines("uwmmse", Outcome(same.read_metrics(), test_baselines={"wmmse_4": 19.25}))
    found, _ = read_runs([run.path, tmp_path / "other", tmp_path / "third"])
    table, said = compare(found)
    assert not any("WMMSE" in name for name in table.head)
    assert f"WMMSE 4 train {means['wmmse_4'].mean:.4g}, WMMSE 100 train" in said
    assert f"WMMSE 100 train {means['wmmse_100'].mean:.4g} on 40 mini-batches, WMMSE 4 test 19.25" in said
    (run.path / "baselines.csv").write_text("method,test\nuwmmse,1\nwmmse_4,x\n", encoding="utf-8")
    found, _ = read_runs([run.path])
    assert found[0].test_baselines == {}
    assert any(note.startswith("baselines.csv cannot be read") for note in found[0].notes)


@needs_browser
def test_a_run_that_was_interrupted_in_its_first_epoch(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "name: test\ntraining: {epochs: 3}\n")
    with pytest.raises(InputError, match="has no finished epoch"):
        read_runs([run.path])
    rows = minibatch_rows(300)
    run.append_minibatches(rows)
    complete = rated_run(tmp_path / "complete", minibatches=400)
    text = page(run.path, out=tmp_path / "a.html")
    assert "no epoch is finished: this is what 300 mini-batches tell." in text
    assert f">{np.mean([row.train for row in rows]):.4g}</dd>" in text
    assert "0 of 3" in text
    pages = [(text, ""), (text, "#x=epochs"), (page(run.path, complete.path, out=tmp_path / "b.html"), "")]
    for content, hash_ in pages:
        dom, console = browse(content, tmp_path, hash_)
        assert console == []
        assert "<li>Not drawn" not in dom
        assert "<li>Centralized" not in dom


def test_minibatches_are_running_means(tmp_path: Path) -> None:
    run = rated_run(tmp_path / "run", epochs=2, minibatches=400)
    found = data_of(page(run.path, out=tmp_path / "a.html"))["curves"]
    assert [x["key"] for x in found["x"]][:2] == ["minibatches", "epochs"]
    told, rows = found["runs"][0]["minibatches"], run.read_minibatches()
    x, y = thinned(*running_mean(np.arange(1.0, 401.0), np.array([row.train for row in rows]), 80), 80)
    assert (told["column"], told["window"], told["of_epoch"]) == ("rate_train", 80, 200)
    np.testing.assert_array_equal(told["x"], x)
    np.testing.assert_allclose(told["y"], y, rtol=1e-8)
    assert [one["label"].split(",")[0] for one in told["baselines"]] == ["WMMSE 4", "WMMSE 100"]
    assert len(told["baselines"][1]["x"]) == 38  # of 40, as a mean begins when there is enough of it
    assert len(told["single"]["x"]) == 400
    (run.path / "environment.json").write_text('{"outcome": "interrupted"}', encoding="utf-8")
    other = rated_run(tmp_path / "other", minibatches=20_000)
    found = data_of(page(run.path, other.path, out=tmp_path / "b.html"))["curves"]["runs"]
    assert found[0]["minibatches"]["of_epoch"] is None
    assert "single" not in found[0]["minibatches"]
    assert len(found[1]["minibatches"]["x"]) <= 500
    assert found[1]["minibatches"]["x"][-1] == 20_000
    (run.path / "minibatches.csv").write_text("minibatch,rate_train\n1,x\n", encoding="utf-8")
    runs, _ = read_runs([run.path])
    assert runs[0].minibatches == []
    assert any(note.startswith("minibatches.csv cannot be read") for note in runs[0].notes)


def test_runs_of_two_measures_in_one_table(made: Path, tmp_path: Path) -> None:
    rated = rated_run(tmp_path / "rated", minibatches=30)
    runs, _ = read_runs([made / "one", rated.path])
    table, _ = compare(runs)
    for name in ("train MSE", "test MSE", "train sum rate", "test sum rate", "WMMSE 4 train"):
        cells = [row[table.head.index(name)].text for row in table.rows]
        assert (cells[0] == "–", cells[1] == "–") == (not name.endswith(" MSE"), name.endswith(" MSE"))
    again = rated_run(tmp_path / "again", minibatches=30, config={"name": "rated", "seed": 1})
    runs, _ = read_runs([rated.path, again.path])
    table, _ = summary(runs, group(runs))
    assert table.head == ["setting", "train sum rate", "test sum rate"]
    assert "WMMSE 4 train 17" in summary(runs, group(runs))[1]  # the same for all


@needs_browser
def test_the_page_draws_minibatches_with_what_others_reach(tmp_path: Path) -> None:
    one = rated_run(tmp_path / "one", minibatches=400)
    two = rated_run(tmp_path / "two", epochs=4, minibatches=400, config={"training": {"epochs": 4}})
    hand = """
    const kept = ({ x, y, name, showlegend }) => ({ x, y, name, showlegend });
    const told = document.createElement("pre");
    told.id = "told";
    told.textContent = JSON.stringify(document.getElementById("curve").data.map(kept));
    document.body.append(told);
    """

    def traces_of(dom: str) -> Any:
        found = re.search(r'<pre id="told">(.*?)</pre>', dom, re.DOTALL)
        assert found
        return json.loads(found[1])

    dom, console = browse(page(one.path, out=tmp_path / "a.html"), tmp_path, "", hand)
    assert console == []
    chart = chart_of(dom)
    assert [chart[f"data-{key}"] for key in ("x", "y", "scale")] == ["minibatches", "rate", "linear"]
    means = averages(one.read_minibatches())
    named = [trace["name"] for trace in traces_of(dom) if trace.get("showlegend") and trace.get("name")]
    said = [f"WMMSE {k}, average {means[f'wmmse_{k}'].mean:.4g}" for k in (4, 100)]
    assert named == ["test", "train", *said]
    text = page(one.path, two.path, out=tmp_path / "b.html")
    dom, console = browse(text, tmp_path)
    assert console == []
    chart = chart_of(dom)
    assert [chart[f"data-{key}"] for key in ("x", "y", "traces")] == ["minibatches", "rate_train", "2"]
    assert "What other methods reach on the same mini-batches is drawn where only one run is shown." in dom
    dom, console = browse(text, tmp_path, "#hide=0&y=rate", hand)
    assert console == []
    traces = traces_of(dom)
    tests = next(trace for trace in traces if trace["x"] == [100, 200, 300, 400])
    assert tests["y"] == pytest.approx([row.test for row in two.read_metrics()])
    assert [trace["name"] for trace in traces if str(trace.get("name", "")).startswith("WMMSE")]
