"""Pictures: which files a run gets, that they are PNGs of the right size, and what is written on them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import drawn as drawn
from pictures import png_size
from pictures import strict_arithmetic as strict_arithmetic

from fdtrain.errors import InputError
from fdtrain.figures import curves, draw_run, draw_schedule, draw_topology, layout
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import gcnn_outline
from fdtrain.rundir import RunDirectory
from fdtrain.schedule import build
from fdtrain.service import EpochRow

CURVES, NETWORK = (900, 540), (1020, 840)  # pixels
SENT = ["loss_rounds.png", "loss_bytes.png", "disagreement.png", "network.png"]


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(item.get_text() for item in figure.findobj(Text) if item.get_visible())


def ring(nodes: int, **fields: Any) -> Graph:
    return Graph.from_edges(nodes, [(i, (i + 1) % nodes) for i in range(nodes)], **fields)


def decaying(epochs: int, sent: bool = True) -> list[EpochRow]:
    return [
        EpochRow(e, 0.5 * 0.8**e + 0.01, 0.6 * 0.8**e + 0.01, 0.1 / e if sent else 0.0,
                 201 * e if sent else 0, 400 * e if sent else 0, 1_500_000 * e if sent else 0)
        for e in range(1, epochs + 1)
    ]  # fmt: skip


def make_run(path: Path, rows: list[EpochRow], graph: Graph | None, node_loss: Any = None) -> RunDirectory:
    run = RunDirectory.create(path / "run", "name: test\n")
    for row in rows:
        run.append_epoch(row, 0.0)
    if graph is not None:
        loss = np.linspace(0.01, 0.02, graph.num_nodes) if node_loss is None else np.asarray(node_loss)
        run.write_network(graph, loss)
    return run


@pytest.mark.parametrize("epochs", [1, 20])
def test_a_run_gets_its_four_figures(tmp_path: Path, epochs: int) -> None:
    run = make_run(tmp_path, decaying(epochs), ring(12))
    written = draw_run(run)
    assert written == [run.figures / name for name in SENT]
    assert [png_size(path) for path in written] == [CURVES] * 3 + [NETWORK]
    assert sorted(path.name for path in run.figures.iterdir()) == sorted(SENT)


def test_curves_hold_the_metrics_against_cumulative_cost(tmp_path: Path, drawn: list[Any]) -> None:
    rows = decaying(20)
    draw_run(make_run(tmp_path, rows, None))
    by_rounds, by_bytes, disagreement = (figure.axes[0] for figure in drawn)
    for axes, x in ((by_rounds, [r.rounds for r in rows]), (by_bytes, [r.bytes / 1e6 for r in rows])):
        train, test = axes.lines
        assert (train.get_label(), test.get_label()) == ("train", "test")
        np.testing.assert_array_equal(train.get_xdata(), x)
        np.testing.assert_array_equal(train.get_ydata(), [r.train for r in rows])
        np.testing.assert_array_equal(test.get_ydata(), [r.test for r in rows])
        assert axes.get_yscale() == "log"
    assert "MB" in by_bytes.get_xlabel()
    np.testing.assert_array_equal(disagreement.lines[0].get_xdata(), np.arange(1, 21))
    np.testing.assert_array_equal(disagreement.lines[0].get_ydata(), [r.disagreement for r in rows])


@pytest.mark.parametrize(
    ("largest", "unit"),
    [(0, (1, "bytes")), (999, (1, "bytes")), (1000, (1e3, "kB")), (10**6 - 1, (1e3, "kB")),
     (10**6, (1e6, "MB")),
     (5 * 10**9, (1e9, "GB")), (10**21, (1e15, "PB"))],
)  # fmt: skip
def test_bytes_are_shown_in_decimal_units(largest: int, unit: tuple[float, str]) -> None:
    assert curves._bytes_unit(largest) == unit


def test_a_flat_loss_stays_on_a_linear_axis(tmp_path: Path, drawn: list[Any]) -> None:
    draw_run(make_run(tmp_path, [EpochRow(e, 0.5 + 0.01 * e, 0.5, 0.0, e, e, e) for e in (1, 2, 3)], None))
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["linear"] * 3


@pytest.mark.parametrize("epochs", [1, 40])
def test_a_centralized_run_is_drawn_against_epochs(tmp_path: Path, drawn: list[Any], epochs: int) -> None:
    written = draw_run(make_run(tmp_path, decaying(epochs, sent=False), ring(5), [0.02] * 5))
    assert [path.name for path in written] == ["loss_epochs.png", "network.png"]
    assert [png_size(path) for path in written] == [CURVES, NETWORK]
    np.testing.assert_array_equal(drawn[0].axes[0].lines[0].get_xdata(), np.arange(1, epochs + 1))


@pytest.mark.parametrize(("bad", "first"), [(math.nan, 1), (math.nan, 3), (math.inf, 3), (1e308, 3)])
def test_diverged_runs_are_drawn_up_to_where_they_were_finite(
    tmp_path: Path, drawn: list[Any], bad: float, first: int
) -> None:
    rows = [EpochRow(e, 10.0**e, 1.0, 1.0, e, e, e) for e in range(1, first)]
    rows += [EpochRow(e, bad, bad, bad, e, e, e) for e in range(first, 5)]
    written = draw_run(make_run(tmp_path, rows, ring(6), [bad, 0.1, 0.2, 0.3, 0.4, 0.5]))
    assert [png_size(path) for path in written] == [CURVES] * 3 + [NETWORK]
    assert f"diverged in epoch {first}" in texts(drawn[0])
    assert ("no finite value" in texts(drawn[0])) == (first == 1)
    np.testing.assert_array_equal(
        np.isfinite(drawn[0].axes[0].lines[0].get_ydata()), [e < first for e in range(1, 5)]
    )
    assert "6 nodes, 6 edges; 1 diverged (grey)" in texts(drawn[3])


@pytest.mark.parametrize("node_loss", [[math.nan] * 4, [], [0.0] * 4, [1e-300, 1e300, 1.0, 2.0]])
def test_any_node_loss_can_be_drawn(tmp_path: Path, node_loss: list[float]) -> None:
    written = draw_run(make_run(tmp_path, decaying(2), ring(4), np.array(node_loss)))
    assert png_size(written[-1]) == NETWORK


def test_a_run_without_an_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished epoch"):
        draw_run(RunDirectory.create(tmp_path / "run", "name: test\n"))


GRAPHS: dict[str, Graph] = {
    "one node": Graph.from_edges(1, []),
    "no edge": Graph.from_edges(3, []),
    "one edge": Graph.from_edges(2, [(0, 1)]),
    "path": Graph.from_edges(10, [(i, i + 1) for i in range(9)]),
    "star": Graph.from_edges(31, [(0, i) for i in range(1, 31)]),
    "complete": Graph.from_edges(12, [(i, j) for i in range(12) for j in range(i)]),
    "two rings": Graph.from_edges(8, [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)]),
    "long ring": ring(1001),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_shape_of_graph_is_laid_out_and_drawn(tmp_path: Path, name: str, drawn: list[Any]) -> None:
    graph, path = GRAPHS[name], tmp_path / "deep" / "er" / "topology.png"
    at = layout(graph)
    draw_topology(graph, path, name)
    assert png_size(path) == NETWORK
    assert f"{name}: {graph.num_nodes:,} node" in texts(drawn[0])
    assert at.shape == (graph.num_nodes, 2)
    assert np.isfinite(at).all()
    assert len(np.unique(at.round(6), axis=0)) == graph.num_nodes  # no two nodes in one place
    points = [c.get_offsets() for c in drawn[0].axes[0].collections[1:]]
    np.testing.assert_array_equal(np.sort(np.concatenate(points)[:, 0]), np.sort(at[:, 0]))  # the same again


def test_the_layout_shows_a_ring_as_a_circle_and_keeps_components_apart() -> None:
    at = layout(ring(40))
    radius = np.linalg.norm(at - at.mean(axis=0), axis=1)
    assert radius.std() < 0.02 * radius.mean()
    two = layout(GRAPHS["two rings"])
    low, high = two[:4], two[4:]
    apart = np.maximum(low.min(axis=0) - high.max(axis=0), high.min(axis=0) - low.max(axis=0))
    assert apart.max() > 0.5


def test_positions_of_the_source_are_used(tmp_path: Path, drawn: list[Any]) -> None:
    positions = np.random.default_rng(1).uniform(size=(5, 2))
    draw_topology(ring(5, positions=positions), tmp_path / "a.png", "positions")
    points = drawn[0].axes[0].collections[-1]
    np.testing.assert_array_equal(np.sort(points.get_offsets()[:, 0]), np.sort(positions[:, 0]))
    np.testing.assert_array_equal(points.get_array(), np.full(5, 2.0))


def test_labels_are_written_literally_up_to_forty_nodes(tmp_path: Path, drawn: list[Any]) -> None:
    names = ("$x^2", "Zürich", "東京", "a_b", "x" * 60)
    draw_topology(ring(5, labels=names), tmp_path / "a.png", "$\\frac")
    assert {"$x^2", "Zürich", "東京", "a_b", "x" * 23 + "…"} <= set(texts(drawn[0]).split("\n"))
    draw_topology(ring(41, labels=tuple(f"node{i}" for i in range(41))), tmp_path / "b.png", "many")
    assert "node" not in texts(drawn[1]).replace("41 nodes", "")


def test_labels_do_not_cover_each_other(tmp_path: Path, drawn: list[Any]) -> None:
    labels = tuple(f"Station {i}" for i in range(40))
    grid = [(5 * i + j, 5 * i + j + 1) for i in range(8) for j in range(4)]
    grid += [(5 * i + j, 5 * i + j + 5) for i in range(7) for j in range(5)]
    draw_topology(Graph.from_edges(40, grid, labels=labels), tmp_path / "a.png", "grid")
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].texts]
    assert len(boxes) == 40
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])


def test_above_five_thousand_nodes_the_picture_says_why_it_is_empty(tmp_path: Path, drawn: list[Any]) -> None:
    draw_topology(ring(5001), tmp_path / "a.png", "large")
    assert png_size(tmp_path / "a.png") == NETWORK
    assert "5,001 nodes, 5,001 edges:\nnot drawn" in texts(drawn[0])


PAPER = gcnn_outline([10, 10, 1], "receiver")
# scheme and fields; columns of 0.34 inches, lanes of 0.62 inches
SCHEDULES: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "paper": ("piggyback_do", {"outline": PAPER, "batch": 100, "travelling": 220}, (26, 3)),
    "sender": ("piggyback_do", {"outline": gcnn_outline([5, 8, 4, 2], "sender"), "batch": 6, "wave": 2,
                                "travelling": 160, "slices": "even"}, (12, 3)),
    "inference": ("inference", {"outline": PAPER, "batch": 20}, (26, 1)),
    "one round": ("inference", {"outline": gcnn_outline([3, 1], "receiver"), "batch": 1}, (1, 1)),
    "no backward": ("piggyback_do", {"outline": gcnn_outline([3, 1], "receiver"), "batch": 26,
                                     "travelling": 6}, (26, 2)),
    "fused": ("piggyback_do", {"outline": PAPER, "batch": 1000, "wave": 1000, "travelling": 220}, (3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_drawn(tmp_path: Path, name: str) -> None:
    scheme, fields, (columns, lanes) = SCHEDULES[name]
    draw_schedule(build(scheme, **fields), tmp_path / "a.png")
    width, height = png_size(tmp_path / "a.png")
    assert abs(width - 150 * max(6.0, 1.5 + 0.34 * columns)) <= 1
    assert abs(height - 150 * (2.7 + 0.62 * lanes)) <= 1


def test_a_schedule_shows_its_first_and_last_rounds_and_what_it_leaves_out(
    tmp_path: Path, drawn: list[Any]
) -> None:
    scheme, fields, _ = SCHEDULES["paper"]
    schedule = build(scheme, **fields)
    draw_schedule(schedule, tmp_path / "a.png")
    lanes, bars = drawn[0].axes
    shown = [*range(16), *range(193, 201)]
    assert [item.get_text() for item in bars.texts[:24]] == [str(schedule.rounds[r].width) for r in shown]
    assert len(lanes.patches) - 1 == sum(len(schedule.rounds[r].fields) for r in shown)  # one hides the gap
    written = texts(drawn[0])
    for part in ("177 rounds left out", "$x^{0}$\n(0)", "$p^{2}$\n(99)", "217\n:220"):
        assert part in written
    title = drawn[0].get_suptitle()
    for part in ("piggyback_do", "receiver form", "10–10–1", "B = 100", "w = 1", "201 rounds"):
        assert part in title
    assert "16.0 numbers on average, 20 at most" in " ".join(title.split())  # (100·30 + 220) / 201


def test_no_pyplot_no_display_and_nothing_is_imported_early(tmp_path: Path) -> None:
    code = (
        "import sys; import fdtrain.figures as f; from fdtrain.graph import Graph; from pathlib import Path\n"
        "assert not {'matplotlib', 'networkx'} & set(sys.modules)\n"
        f"f.draw_topology(Graph.from_edges(3, [(0, 1), (1, 2)]), Path({str(tmp_path / 'a.png')!r}), 'path')\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'networkx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
    first = (tmp_path / "a.png").read_bytes()
    draw_topology(Graph.from_edges(3, [(0, 1), (1, 2)]), tmp_path / "b.png", "path")
    assert (tmp_path / "b.png").read_bytes() == first  # the same picture, to the byte
