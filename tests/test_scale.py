"""Scaling studies: points, what is measured on ranks, the fit, tables and figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import fdtrain, mpirun, needs_mpi, one_line_error
from pictures import png_size
from teams import led

from fdtrain import cli, resources
from fdtrain.config import Config, from_mapping
from fdtrain.config import load as load_config
from fdtrain.errors import CrashError, InputError, RunFailedError
from fdtrain.experiment import build
from fdtrain.graph import Graph
from fdtrain.placement import Share, shares
from fdtrain.progress import make_console
from fdtrain.scale import command, measured, pictures, points, study, table
from fdtrain.scale.fit import COEFFICIENTS, fit, predicted_seconds
from fdtrain.scale.machines import Computer, load_machine, write_machine
from fdtrain.scale.measured import Measured
from fdtrain.scale.points import network, plan
from fdtrain.scale.work import FEATURES, minibatch_of, shares_of
from fdtrain.team import Team

BASE: dict[str, Any] = {
    "topology": {"kind": "barabasi_albert", "nodes": 12, "m": 2},
    "model": {"sizes": [3, 4, 2]},
    "task": {"train_samples": 12, "test_samples": 2},
    "training": {"batch": 6, "wave": 2},
    "optimizer": {"kind": "d_sgd", "lr": 1e-3},
}
TRUE = Computer(
    name="true",
    per_round=3e-5,
    per_message=2e-5,
    per_byte=4e-9,
    per_visit=1e-6,
    per_flop=5e-9,
    per_gathered=2e-8,
)


def config(**sections: Any) -> Config:
    return from_mapping({**BASE, **sections})


def written(folder: Path, scaling: dict[str, Any], **base: Any) -> str:
    path = folder / "study.yaml"
    path.write_text(json.dumps({"name": "small", "base": {**BASE, **base}, "scaling": scaling}))
    return str(path)


def features(nodes: int, ranks: int, wave: int, degree: int, hidden: int) -> dict[str, float]:
    """Of a point of a study, of a graph and a plan that were made for it."""
    rng = np.random.default_rng(nodes * degree)
    pairs = np.array([(i, (i + k) % nodes) for i in range(nodes) for k in range(1, degree // 2 + 1)])
    graph = Graph.from_edges(nodes, rng.permutation(nodes)[pairs])
    made = config(model={"sizes": [3, hidden, 2]}, training={"batch": 6, "wave": wave})
    return minibatch_of(made).features(shares_of(made, graph, ranks))


SETTINGS = [
    (nodes, ranks, wave, degree, hidden)
    for nodes in (20, 90)
    for ranks in (1, 2, 5)
    for wave in (1, 6)
    for degree in (4, 8)
    for hidden in (4, 20)
]
FEATURES_OF_ALL = [features(*one) for one in SETTINGS]


def test_a_fit_recovers_the_figures_that_times_were_made_from() -> None:
    seconds = [predicted_seconds(TRUE, one) for one in FEATURES_OF_ALL]
    fitted = fit("found", FEATURES_OF_ALL, seconds, 5)
    for name in COEFFICIENTS.values():
        assert getattr(fitted.machine, name) == pytest.approx(getattr(TRUE, name), rel=1e-6), name
    assert fitted.machine.fit is not None
    assert fitted.machine.fit.max_error < 1e-9
    assert fitted.machine.fit.left_out_max < 1e-6
    assert fitted.predicted == pytest.approx(seconds)


def test_a_fit_of_noisy_times_tells_how_far_it_is_off() -> None:
    rng = np.random.default_rng(5)
    seconds = [predicted_seconds(TRUE, one) * rng.uniform(0.95, 1.05) for one in FEATURES_OF_ALL]
    fitted = fit("noisy", FEATURES_OF_ALL, seconds, 5)
    errors = np.abs(fitted.predicted / np.array(seconds) - 1)
    assert fitted.machine.fit is not None
    assert fitted.machine.fit.median_error == pytest.approx(np.median(errors))
    assert 0.005 < fitted.machine.fit.median_error < 0.05
    assert fitted.machine.fit.left_out_median >= fitted.machine.fit.median_error
    for name, deviation in fitted.machine.fit.deviations.items():
        assert abs(getattr(fitted.machine, name) - getattr(TRUE, name)) < 5 * deviation, name


def test_figures_are_never_negative() -> None:
    shorter = [1.0 / (1 + sum(one.values())) for one in FEATURES_OF_ALL]  # more work, less time
    machine = fit("odd", FEATURES_OF_ALL, shorter, 5).machine
    assert all(getattr(machine, name) >= 0 for name in COEFFICIENTS.values())


def test_one_rank_says_nothing_of_messages() -> None:
    alone = [one for one, setting in zip(FEATURES_OF_ALL, SETTINGS, strict=True) if setting[1] == 1]
    machine = fit("alone", alone, [predicted_seconds(TRUE, one) for one in alone], 1).machine
    assert machine.per_message is None
    assert machine.per_byte is None
    with pytest.raises(InputError, match="nothing is known of several ranks"):
        predicted_seconds(machine, FEATURES_OF_ALL[8])


def test_a_fit_needs_more_points_than_figures() -> None:
    with pytest.raises(InputError, match="a fit of 6 figures needs 7 points or more, found 6"):
        fit("few", FEATURES_OF_ALL[-6:], [1.0] * 6, 2)


def test_a_fitted_model_is_a_machine_to_predict_for(tmp_path: Path) -> None:
    seconds = [predicted_seconds(TRUE, one) for one in FEATURES_OF_ALL]
    machine = fit("kept", FEATURES_OF_ALL, seconds, 5).machine
    write_machine(tmp_path / "model.json", machine)
    assert load_machine(str(tmp_path / "model.json")) == machine


def test_features_by_hand() -> None:
    """A path of three nodes on two ranks; 3-4-2, B = 6 at wave 2, D-SGD: 7 rounds."""
    graph, made = Graph.from_edges(3, [(0, 1), (1, 2)]), config()
    batch = minibatch_of(made)
    found = batch.features(shares(graph, np.array([0, 0, 1]), 2))
    parameters = 2 * (3 * 4 + 4 * 2)
    numbers = 6 * (3 + 4) + 6 * 4 + parameters  # forward, back, slices
    flops = 6 * 4 * (2 * 3 * 4 + 3 * 4 * 2) + 2 * parameters
    assert found == {
        "rounds": 7,
        "messages": 7,
        "bytes": 8 * numbers,
        "visits": 2 * 7,
        "flops": 2 * flops,
        "gathered": 3 * numbers,
    }
    assert batch.schedule == build(made).job.schedule(6)


def given(busy: list[list[float]], seconds: list[list[float]], **other: Any) -> Measured:
    """A point of as many ranks as there are lists, with two timed mini-batches."""
    by_rank = [
        {"nodes": 5 + k, "links": 20 - 4 * k, "crossing": 6, "peers": 1, "sent": 4, "ghosts": 3}
        | {"messages": 7, "bytes": 100 * (k + 1), "seconds": own, "busy": work}
        | {"sending": [0.5, 0.5], "waiting": [1.0, 1.0]}
        for k, (work, own) in enumerate(zip(busy, seconds, strict=True))
    ]
    whole = {
        "nodes": 11,
        "edges": 18,
        "samples": 6,
        "features": dict.fromkeys(FEATURES, 7.0),
        "crowded": False,
    }
    return Measured(**{**whole, "by_rank": by_rank, **other})


def test_load_balance_by_hand() -> None:
    found = given([[2.0, 4.0], [6.0, 6.0]], [[8.0, 8.0], [7.0, 10.0]]).summary()
    assert found["imbalance"] == pytest.approx(6 / 4.5)  # medians 3 and 6
    assert found["imbalance_nodes"] == pytest.approx(6 / 5.5)
    assert found["imbalance_links"] == pytest.approx(20 / 18)
    assert found["waiting"] == pytest.approx(2 / 12)
    assert found["seconds"] == 9.0  # of 8 and 10
    shortest = given([[2.0, 4.0], [6.0, 6.0]], [[8.0, 8.0], [7.0, 10.0]]).summary("shortest")
    assert (shortest["seconds"], shortest["seconds_median"]) == (8.0, 9.0)
    assert shortest["node_samples_per_second"] == pytest.approx(11 * 6 / 8)
    assert (found["seconds_min"], found["seconds_max"]) == (8.0, 10.0)
    assert found["node_samples_per_second"] == pytest.approx(11 * 6 / 9)
    assert (found["messages"], found["bytes"], found["cut_edges"], found["ghosts"]) == (14, 300, 6, 6)


def test_visits_are_joined() -> None:
    first, second = given([[1.0, 1.0]], [[2.0, 2.0]]), given([[3.0, 3.0]], [[4.0, 4.0]])
    both = measured.joined([first, second])
    assert both.by_rank[0]["seconds"] == [2.0, 2.0, 4.0, 4.0]
    assert both.by_rank[0]["bytes"] == 100
    assert both.summary()["seconds"] == 3.0


@pytest.mark.parametrize(
    ("mode", "efficiency"), [("strong", [1.0, 0.625, 0.3125]), ("weak", [1.0, 1.25, 1.25])]
)
def test_efficiency_by_hand(mode: str, efficiency: list[float], tmp_path: Path) -> None:
    """Mini-batches of 10, 8 and 8 s on 1, 2 and 4 ranks."""
    scaling = {"ranks": [1, 2, 4], "nodes": [8], "mode": mode}
    made = plan(study.load(written(tmp_path, scaling)))
    times = [10.0, 8.0, 8.0]
    found = [
        given(
            [[1.0, 1.0]] * one.ranks,
            [[time, time]] * one.ranks,
            nodes=8 * (one.ranks if mode == "weak" else 1),
        )
        for one, time in zip(made, times, strict=True)
    ]
    frame = table.points_frame(made, found, mode)
    assert frame["efficiency"].to_list() == pytest.approx(efficiency)
    assert frame["nodes"].to_list() == ([8, 16, 32] if mode == "weak" else [8, 8, 8])


def test_all_combinations_are_points(tmp_path: Path) -> None:
    scaling = {"ranks": [1, 2], "nodes": [12, 20], "degree": [4], "hidden": [4, 8], "wave": [1, 6]}
    made = plan(study.load(written(tmp_path, scaling)))
    assert len(made) == 16
    assert [one.ranks for one in made[:4]] == [1, 2, 1, 2]
    last = made[-1]
    assert last.key == "r2-n20-d4-h8-w6"
    assert last.title == "ranks 2, nodes 20, degree 4, hidden 8, wave 6"
    assert last.config.model.sizes == (3, 8, 2)  # type: ignore[union-attr]
    assert (last.config.training.wave, last.config.training.epochs) == (6, 1)
    assert build(last.config).topology.graph(0).num_nodes == 20


def test_options_take_the_place_of_the_files_axes(tmp_path: Path) -> None:
    name = written(tmp_path, {"ranks": [1], "nodes": [12], "repeats": 9})
    loaded = study.load(name, ["training.batch=4"], {"nodes": "16, 24", "repeats": 2, "mode": None})
    assert loaded.study.scaling.nodes == (16, 24)
    assert (loaded.study.scaling.repeats, loaded.study.scaling.mode) == (2, "strong")
    assert loaded.config.training.batch == 4


NETWORKS: list[tuple[dict[str, Any], int, int | None, dict[str, Any]]] = [
    ({"kind": "barabasi_albert", "nodes": 9, "m": 3}, 20, 4, {"m": 2}),
    ({"kind": "erdos_renyi", "nodes": 11, "p": 0.5}, 21, None, {"mean_degree": 5.0}),
    ({"kind": "erdos_renyi", "nodes": 11, "mean_degree": 3}, 21, 6, {"mean_degree": 6}),
    ({"kind": "watts_strogatz", "nodes": 9, "k": 4, "p": 0.1}, 20, 6, {"k": 6}),
    ({"kind": "random_regular", "nodes": 8, "degree": 3}, 20, 4, {"degree": 4}),
    ({"kind": "random_geometric", "nodes": 25, "radius": 0.4}, 100, None, {"radius": 0.2}),
    ({"kind": "random_geometric", "nodes": 25, "radius": 0.4}, 100, 8, {"radius": math.sqrt(0.08 / math.pi)}),
    ({"kind": "ring", "nodes": 5}, 20, None, {}),
]


@pytest.mark.parametrize(("section", "nodes", "degree", "wanted"), NETWORKS)
def test_networks_of_other_sizes(
    section: dict[str, Any], nodes: int, degree: int | None, wanted: dict[str, Any]
) -> None:
    found = network(section, nodes, degree)
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    topology = {**found, "connected": False}
    assert build(config(topology=topology)).nodes == nodes


def test_grids_of_other_sizes() -> None:
    assert network({"kind": "grid", "rows": 2, "cols": 2}, 60, None) == {
        "kind": "grid",
        "rows": 6,
        "cols": 10,
    }


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"ranks": [16]}, {}, "more ranks than nodes; use at most 12"),
    ({"ranks": [1], "hidden": [4]}, {"model": {"sizes": [3, 2]}}, "no hidden layer"),
    ({"ranks": [1], "wave": [7]}, {}, "wave: must be at most batch = 6, found 7"),
    ({"ranks": [1], "degree": [3]}, {}, "even mean degrees"),
    (
        {"ranks": [1], "degree": [3]},
        {"topology": {"kind": "ring", "nodes": 9}},
        "of topology.kind ring is given",
    ),
    ({"ranks": [1], "nodes": [30]}, {"topology": {"kind": "file", "path": "geant"}}, "is of one size"),
    ({"mode": "weak"}, {"topology": {"kind": "file", "path": "geant"}}, "has none of its own"),
    ({"rank": [1]}, {}, "scaling.rank: unknown key; did you mean 'ranks'?"),
    ({"ranks": []}, {}, "scaling.ranks"),
    ({"ranks": [0]}, {}, "scaling.ranks.0"),
    ({"ranks": [2, 2]}, {}, "the value 2 stands twice"),
    ({"repeats": 0}, {}, "scaling.repeats"),
    ({"warmup": 0}, {}, "scaling.warmup"),
    ({"mode": "medium"}, {}, "scaling.mode"),
    ({"ranks": [1]}, {"channel": {"loss": 0.1}}, "channel: "),
    ({}, {"training": {"mode": "centralized", "batch": 6}, "optimizer": {"kind": "sgd"}}, "training.mode"),
    ({"nodes": [*range(12, 512)], "wave": [1, 2, 3]}, {}, "are more than 1,000"),
]


@pytest.mark.parametrize(("scaling", "base", "says"), BAD)
def test_bad_studies_are_refused_in_one_line(
    scaling: dict[str, Any],
    base: dict[str, Any],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = written(tmp_path, scaling, **base)
    assert cli.main(["scale", name, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert len(told.splitlines()) == 1
    assert says in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--repeats", "0"], "--repeats"),
        (["--ranks", "1,101"], "more ranks than nodes; use at most 100"),
        (["--nodes", "x"], "--nodes: must be numbers"),
        (["--degrees", "2"], "--degrees"),
        (["--measure", "m.json", "--nodes", "9"], "--nodes: has no meaning with --measure"),
        (["--measure", "m.csv"], "must end in .json"),
        (["--measure", "m.json", "--ranks", "1,2"], "must be one number"),
    ],
)
def test_a_bad_command_line_is_refused_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["scale", "quickstart", *arguments]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert says in told


def test_each_kind_of_file_goes_to_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = written(tmp_path, {"ranks": [1]})
    assert cli.main(["config", name]) == 2
    assert "give it to fdtrain scale" in capsys.readouterr().err
    sweep = str(resources.find_sweep("examples/sweep_mixing"))
    assert cli.main(["scale", sweep]) == 2
    assert "give it to fdtrain sweep" in capsys.readouterr().err


def test_another_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    assert cli.main(["scale", written(tmp_path, {"ranks": [1]}), "--out", str(tmp_path)]) == 2
    assert "which is no scaling study's" in capsys.readouterr().err


def test_a_dry_run_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        cli.main(
            ["scale", written(tmp_path, {"ranks": [1], "nodes": [12, 16]}), "--out", str(out), "--dry-run"]
        )
        == 0
    )
    files = sorted(file.name for file in (out / "points").iterdir())
    assert files == ["r1-n12.yaml", "r1-n16.yaml"]
    assert capsys.readouterr().out.count("missing: ") == 2


@pytest.mark.parametrize("partition", ["block", "metis"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_what_ranks_tell_is_what_was_planned(ranks: int, partition: str) -> None:
    short = {"precision": {"features": "float32"}} if partition == "metis" else {}
    made = config(execution={"partition": {"kind": partition}}, **short)

    def work(team: Team) -> Measured:
        return measured.take(made, team, warmup=1, repeats=3)

    found: Measured = led(work, ranks)
    experiment = build(made)
    graph, batch = experiment.topology.graph(0), minibatch_of(made)
    planned = shares_of(made, graph, ranks)
    assert found.features == batch.features(planned)
    assert (found.nodes, found.edges, found.samples, found.ranks) == (12, graph.num_edges, 6, ranks)
    for line, share in zip(found.by_rank, planned, strict=True):
        assert {name: line[name] for name in Share._fields} == share._asdict()
        assert line["messages"] == share.peers * len(batch.schedule.rounds)
        assert line["bytes"] == share.sent * sum(batch.row_bytes)
        assert len(line["seconds"]) == len(line["waiting"]) == 3
        assert all(value > 0 for name in ("seconds", "busy") for value in line[name])
        assert ranks == 1 or all(value > 0 for value in line["waiting"])


def frames(tmp_path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Those of a study whose times are the model's."""
    made = plan(
        study.load(
            written(tmp_path, {"ranks": [1, 2, 4], "nodes": [12, 40], "hidden": [4, 16], "wave": [1, 6]})
        )
    )
    found = []
    for one in made:
        graph = build(one.config).topology.graph(0)
        planned = shares_of(one.config, graph, one.ranks)
        counts = minibatch_of(one.config).features(planned)
        time = predicted_seconds(TRUE, counts)
        by_rank = [
            {**share._asdict(), "messages": share.peers, "bytes": share.sent, "seconds": [time]}
            | {"busy": [0.7 * time], "sending": [0.1 * time], "waiting": [0.2 * time]}
            for share in planned
        ]
        found.append(Measured(graph.num_nodes, graph.num_edges, 6, counts, False, by_rank))
    fitted = fit("true", [one.features for one in found], [one.seconds[0] for one in found], 4)
    frame = table.points_frame(made, found, "strong")
    return table.with_predictions(frame, fitted, range(len(found))), table.ranks_frame(made, found)


COLUMNS = [
    *("mode", "statistic", "ranks", "nodes", "degree", "hidden", "wave", "edges", "samples", "rounds"),
    *("seconds", "seconds_median", "seconds_min", "seconds_max", "node_samples_per_second"),
    *("imbalance", "imbalance_nodes", "imbalance_links", "waiting"),
    *("cut_edges", "ghosts", "messages", "bytes", "crowded"),
    *(f"model_{name}" for name in FEATURES),
    *("efficiency", "predicted", "left_out"),
]
RANK_COLUMNS = [
    *("ranks", "all_nodes", "degree", "hidden", "wave", "rank"),
    *(*Share._fields, "messages", "bytes", "seconds", "busy", "sending", "waiting"),
]


def test_tables_and_figures(tmp_path: Path) -> None:
    frame, ranks = frames(tmp_path)
    table.write_tables(tmp_path, frame, ranks)
    read = pl.read_csv(tmp_path / "scaling.csv")
    assert read.columns == COLUMNS
    assert len(read) == 24
    assert read["predicted"].to_list() == pytest.approx(read["seconds"].to_list())
    by_rank = pl.read_csv(tmp_path / "ranks.csv")
    assert by_rank.columns == RANK_COLUMNS
    assert len(by_rank) == 8 * (1 + 2 + 4)
    assert by_rank.filter(pl.col("ranks") == 4)["nodes"].sum() == 4 * (12 + 40)
    drawn = pictures.draw(frame, ranks, tmp_path)
    assert [file.stem for file in drawn] == ["time", "efficiency", "balance", "nodes", "predicted"]
    for file in drawn:
        assert png_size(file)[0] > 500


def test_crowded_points_are_not_fitted(tmp_path: Path) -> None:
    frame, _ = frames(tmp_path)
    alone = table.with_predictions(frame.drop("predicted", "left_out"), None, [])
    assert alone["predicted"].null_count() == len(alone)


def by_the_model(settings: Path, result: Path, ranks: int) -> None:
    """A point that takes as long as the model says."""
    made = load_config(settings)
    graph, batch = build(made).topology.graph(0), minibatch_of(made)
    planned = shares_of(made, graph, ranks)
    counts = batch.features(planned)
    time = predicted_seconds(TRUE, counts)
    by_rank = [
        {**share._asdict(), "messages": share.peers, "bytes": share.sent, "seconds": [time]}
        | {"busy": [0.7 * time], "sending": [0.1 * time], "waiting": [0.2 * time]}
        for share in planned
    ]
    found = Measured(graph.num_nodes, graph.num_edges, 6, counts, ranks == 5, by_rank)
    measured.write(result, found, command.identity(made.to_yaml(), ranks, 2, 5))


def test_a_study_is_fitted_and_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scaling = {"ranks": [1, 2, 5], "nodes": [12, 40], "hidden": [4, 16], "wave": [1, 6], "visits": 2}
    loaded, out = study.load(written(tmp_path, scaling)), tmp_path / "out"
    calls = []

    def measure(settings: Path, result: Path, ranks: int) -> None:
        calls.append(result.name)
        if len(calls) == 7:
            raise CrashError("rank 1 was killed")
        by_the_model(settings, result, ranks)

    assert command.run_study(loaded, out, make_console(), measure, figures=False) == 1
    told = capsys.readouterr().out
    assert "failed: rank 1 was killed" in told
    assert "errors over 16 points: median 0.0 %" in told  # those of 5 ranks are crowded
    assert "* ranks shared cores" in told
    assert load_machine(str(out / "model.json")).name == "small"
    assert len(calls) == 2 * 24
    assert command.run_study(loaded, out, make_console(), measure, figures=False) == 0
    assert calls[48:] == [calls[6]]  # what is missing, and nothing else
    frame = pl.read_csv(out / "scaling.csv")
    assert frame.filter(pl.col("crowded"))["predicted"].null_count() == 8
    again = study.load(written(tmp_path, scaling), ["training.batch=5", "training.wave=1"], {"wave": "1"})
    with pytest.raises(RunFailedError, match="no point could be measured"):
        command.run_study(again, out, make_console(), lambda *_: calls.append("another"), figures=False)
    assert calls.count("another") == 2 * 12  # of another configuration, nothing was there


@needs_mpi
def test_a_small_study_from_start_to_end(tmp_path: Path) -> None:
    name, out = written(tmp_path, {"ranks": [1, 2], "repeats": 2, "warmup": 1}), tmp_path / "out"
    result = fdtrain("scale", name, "--out", str(out))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("point ") == 2
    read = pl.read_csv(out / "scaling.csv")
    assert read["ranks"].to_list() == [1, 2]
    assert (read["seconds"] > 0).all()
    assert (read["bytes"] > 0).to_list() == [False, True]
    assert len(pl.read_csv(out / "ranks.csv")) == 1 + 2


@needs_mpi
def test_a_point_is_measured_on_ranks_that_were_started_outside(tmp_path: Path) -> None:
    out, name = tmp_path / "out", written(tmp_path, {"ranks": [2], "warmup": 1, "repeats": 1})
    assert fdtrain("scale", name, "--out", str(out), "--dry-run").returncode == 0
    command = ["-m", "fdtrain", "scale", str(out / "points" / "r2.yaml"), "--warmup", "1", "--repeats", "1"]
    result = mpirun(2, [*command, "--measure", str(out / "points" / "r2-1.json")])
    assert result.returncode == 0, result.stderr
    collected = fdtrain("scale", name, "--out", str(out), "--no-figures")
    assert collected.returncode == 0, collected.stderr
    assert "point 1" not in collected.stdout
    assert "no fit: " in collected.stdout
    assert pl.read_csv(out / "scaling.csv")["ranks"].to_list() == [2]


def test_more_ranks_than_nodes_are_told_in_one_line() -> None:
    one_line_error(fdtrain("scale", "quickstart", "--ranks", "1,101"))


def test_the_shipped_studies_can_be_planned() -> None:
    studies = [
        key for key, file in resources.known_configs().items() if resources.kind_of(file) == "scaling study"
    ]
    assert studies
    for name in studies:
        assert len(points.plan(study.load(name))) > 3
