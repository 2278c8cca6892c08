"""The memory of a run: predicted by formula, measured, told in one line where there is too little."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teams import content, experiment, led

from fdtrain import cli, footprint, partition, scans, stopping, training, verify
from fdtrain.config import from_mapping
from fdtrain.driver import lead, run
from fdtrain.engine import Engine
from fdtrain.errors import InputError, StoppedError
from fdtrain.experiment import build
from fdtrain.footprint import Footprint, Item, Share, in_gib, shares_of, table_of, warning
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.observer import Quiet
from fdtrain.partition import ExchangePlan
from fdtrain.passes import Pass
from fdtrain.rundir import RunDirectory
from fdtrain.service import EpochRow, Host
from fdtrain.team import Team
from fdtrain.trials import Trials
from fdtrain.verify import Verifier


def items(found: Footprint) -> dict[str, tuple[int, ...]]:
    return {item.name: item.by_rank for item in found.items}


def test_what_can_be_counted_by_hand() -> None:
    made = experiment({"task": {"train_samples": 10, "test_samples": 3}, "model": {"sizes": [5, 4, 1]}})
    p = 2 * (5 * 4 + 4 * 1)
    found = items(footprint.footprint(made.job, [Share(6, 20, 2), Share(3, 10, 4)]))
    assert found["samples"] == (6 * 13 * 6 * 8, 3 * 13 * 6 * 8)
    assert found["parameters and gradient"] == (2 * 8 * p * 6, 2 * 8 * p * 3)
    assert found["graph of all nodes"] == (30 * 80, 0)
    assert "checkpoint" not in {name for name, *_ in table_of(made.footprint(2))}
    saving = items(footprint.footprint(replace(made.job, save_every=1), [Share(9, 30, 0)]))
    assert saving["checkpoint"][0] >= 9 * 3 * p * 8


def test_an_optimizer_with_more_rows_takes_more() -> None:
    share, sizes = [Share(100, 400, 0)], []
    for kind in ("d_sgd", "d_adam", "d_amsgrad"):
        made = experiment({"optimizer": {"kind": kind}})
        sizes.append(items(footprint.footprint(made.job, share))["optimizer"][0])
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("change", [{}, {"training": {"wave": 1}}, {"optimizer": {"kind": "d_adam"}}])
def test_memory_grows_with_nodes_and_no_faster(change: dict[str, Any]) -> None:
    job = experiment(change).job
    small, large = (footprint.footprint(job, [Share(n, 4 * n, n // 2)] * 2) for n in (1000, 100_000))
    fixed = sum(
        sum(sizes) for name, sizes in items(small).items() if name in ("processes", "rank 0's libraries")
    )
    updates = [sum(items(found)["an update"]) for found in (small, large)]  # in portions
    assert updates[1] < 5 * updates[0]
    assert large.total - fixed - updates[1] == pytest.approx(
        100 * (small.total - fixed - updates[0]), rel=1e-6
    )


def test_shares_are_those_of_the_plan() -> None:
    made = experiment(
        {"topology": {"kind": "erdos_renyi", "nodes": 2000, "mean_degree": 6.0, "connected": False}}
    )
    graph = made.topology.graph(0)
    owner = partition.block(2000, 3)
    for rank, (share, hood) in enumerate(
        zip(shares_of(graph, owner, 3), neighbourhoods(graph, owner, 3), strict=True)
    ):
        plan = ExchangePlan.of(hood, rank)
        assert (share.nodes, share.links) == (hood.num_nodes, len(hood.indices))
        assert share.ghosts == plan.seen - plan.nodes
        assert share.sent == sum(len(peer.rows) for peer in plan.peers)
    alone = shares_of(Graph.from_edges(3, [(0, 1)]), np.zeros(3, dtype=np.int64), 1)
    assert alone == [Share(3, 2, 0, 0)]


_MEASURED = """
import json, sys
from fdtrain.driver import run
run(json.loads(sys.argv[1]), ranks=1, verify=False, out=sys.argv[2])
"""


def test_the_formula_is_what_is_measured(tmp_path: Path) -> None:
    given = content(
        {
            "topology": {"kind": "ring", "nodes": 10_000},
            "model": {"sizes": [10, 10, 1]},
            "task": {"train_samples": 40, "test_samples": 4},
            "training": {"epochs": 1, "batch": 20, "wave": 20},
        }
    )
    for name in ("first", "run"):  # the first may have to compile, which takes memory of its own
        out = tmp_path / name
        subprocess.run(
            [sys.executable, "-c", _MEASURED, json.dumps(given), str(out)], check=True, timeout=300
        )
    told = json.loads((out / "environment.json").read_text())["peak_memory"]
    assert told["of_all"] == told["of_largest"] > 250 * 2**20
    assert told["predicted_of_all"] == pytest.approx(told["of_all"], rel=0.25)


def test_a_note_where_there_is_too_little() -> None:
    found = Footprint((Item("samples", (3 * 2**30, 2**30)), Item("waves", (2**20, 2**20))))
    assert (found.total, found.by_rank) == (2**32 + 2**21, (3 * 2**30 + 2**20, 2**30 + 2**20))
    assert warning(found, found.total) == ""
    text = warning(found, 2**31)
    assert text.startswith(
        "2 ranks may need 4.0 GiB of memory, most of it for samples (4.0 GiB), and 2.0 GiB are"
    )
    assert in_gib(5 * 2**20) == "5 MiB"
    assert table_of(found)[-1] == ("in all", "3.0 GiB", "4.0 GiB")


class Notes(Quiet):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def noted(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> list[str]:
    notes, made = Notes(), experiment(change)
    led(lambda team: lead(team, made, None, notes, verify=True), 2)
    return notes.texts


def test_runs_say_when_memory_may_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted(monkeypatch, {}) == []
    monkeypatch.setattr("fdtrain.driver.available_memory", lambda: 2**20)
    (text,) = noted(monkeypatch, {})
    assert text.startswith("note: 2 ranks may need ")
    assert text.isprintable()


def test_what_is_too_large_to_be_joined_is_saved_only_where_that_was_asked_for() -> None:
    job, share = experiment({}).job, [Share(1000, 4000, 0)]
    p = job.model.num_parameters
    assert footprint.why_unsaved(job, share, 2**40) == ""
    text = footprint.why_unsaved(job, share, 8 * 1000 * 3 * p)
    assert text.startswith("to join it takes ")
    assert footprint.why_unsaved(replace(job, save_every=2), share, 0) == ""


@pytest.mark.parametrize("every", [None, 3])
def test_a_stopped_run_says_why_there_is_no_checkpoint(
    every: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdtrain.driver.available_memory", lambda: 0)
    monkeypatch.setattr(stopping, "requested", lambda: 15)  # from the first mini-batch on
    made, notes = build(from_mapping(content({}) | {"checkpoint": {"every": every}})), Notes()
    directory = RunDirectory.create(tmp_path / "run", made.config.to_yaml())

    def work(team: Team) -> None:
        with pytest.raises(StoppedError, match="stopped by SIGTERM after mini-batch 2"):
            lead(team, made, directory, notes, verify=False)

    led(work, 2)
    told = [text for text in notes.texts if "no checkpoint" in text]
    assert bool(told) == (every is None)
    assert len(list(directory.checkpoints.glob("*.ckpt"))) == (every is not None)


def test_comparisons_that_need_too_much_are_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = experiment({})
    assert Verifier(made, None).left_out == ""  # type: ignore[arg-type]
    monkeypatch.setattr(verify, "_MOST_OF_A_RUN", 100)
    monkeypatch.setattr(Trials, "minibatches", None)  # nobody asks for global matrices
    found = led(lambda team: Verifier(made, team).quick(), 2)
    assert [comparison.number for comparison in found] == [5, 5, 5]
    assert all(comparison.passed for comparison in found)
    (text,) = noted(monkeypatch, {})
    assert text.startswith(
        "note: gradients are not compared with the centralized reference, since 9 nodes take about "
    )
    assert text.endswith("compare them on fewer, with fdtrain verify")


def test_a_full_verification_is_refused_where_memory_does_not_suffice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify, "available_memory", lambda: 2**10)
    with pytest.raises(
        InputError, match=r"verify: the centralized reference takes about .* on 9 nodes, and 0 MiB"
    ):
        led(lambda team: Verifier(experiment({}), team).full(), 1)


def test_plan_shows_the_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "quickstart", "--ranks", "4"]) == 0
    said = capsys.readouterr().out
    assert "memory on 4 ranks" in said
    assert "in all" in said


def test_gradients_and_parameters_are_handed_in_where_they_are_wanted() -> None:
    made = experiment({})
    for kinds in ((), ("theta",), ("gradient",), ("theta", "gradient")):
        host = made.host(3)
        host.kinds = kinds
        outcome = serve(made, host, 3)
        for kind in ("theta", "gradient"):
            found = getattr(outcome, kind)
            assert len(found) == (made.nodes if kind in kinds else 0), (kind, kinds)


def serve(made: Any, host: Host, ranks: int) -> Any:
    from fdtrain.experiment import run_job

    led(lambda team: run_job(made.job, team, host), ranks)
    return host.outcome


def test_what_large_runs_do_not_need_any_more_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def alive(kind: type) -> int:
        return sum(isinstance(thing, kind) for thing in gc.get_objects())

    def noted(own: Any, team: Team, host: Any) -> None:
        left.append((alive(Engine), alive(Pass)))
        handed_in(own, team, host)

    left, handed_in = list[tuple[int, int]](), training.hand_in
    monkeypatch.setattr(training, "hand_in", noted)
    gc.collect()
    before = alive(Engine), alive(Pass)
    gc.disable()
    try:
        for large, expected in ((2**40, 1), (0, 0)):
            monkeypatch.setattr(scans, "_LARGE", large)
            made = experiment({})
            serve(made, made.host(1), 1)
            assert left.pop()[0] - before[0] == expected
        assert alive(Pass) == before[1]
    finally:
        gc.enable()


def test_parameters_come_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    made = experiment({"model": {"init": {"per_node": True}}})
    wanted = serve(made, made.host(1), 1).theta
    monkeypatch.setattr("fdtrain.reports._PORTION", 3 * made.job.model.num_parameters)
    for ranks in (1, 2, 4):
        host, taken = made.host(ranks), []
        take = host.take
        monkeypatch.setattr(
            host, "take", lambda *args, take=take, taken=taken: (taken.append(args[1]), take(*args))
        )
        assert serve(made, host, ranks).theta.tobytes() == wanted.tobytes()
        assert len(taken) == {1: 3, 2: 5, 4: 3}[ranks]


def test_a_run_tells_what_memory_it_had_in_use(tmp_path: Path) -> None:
    run(content({}), out=tmp_path / "run", verify=False)
    peak = json.loads((tmp_path / "run" / "environment.json").read_text())["peak_memory"]
    assert 2**25 < peak["of_largest"] == peak["of_all"]


def test_a_run_that_lost_its_ranks_leaves_no_parameters_of_another_epoch(tmp_path: Path) -> None:
    def fail(row: EpochRow) -> None:
        if row.epoch == 2:
            raise RuntimeError("lost")

    theta = tmp_path / "run" / "theta.npz"
    with pytest.raises(RuntimeError, match="lost"):
        run(content({}), out=tmp_path / "run", verify=False, on_epoch=fail)
    assert (tmp_path / "run" / "ledger.csv").exists()
    assert not theta.exists()
