"""Table I: formula, plan and wire agree in every row, and the table says so when they do not."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fdtrain import cli, cost
from fdtrain.config import from_mapping
from fdtrain.experiment import build
from fdtrain.schedule import SCHEMES
from fdtrain.team import Team, in_threads
from fdtrain.training import follow

NODES, EDGES = 6, 7
BASE = from_mapping(
    {
        "topology": {"kind": "grid", "rows": 2, "cols": 3},
        "model": {"sizes": [5, 4, 2]},
        "task": {"train_samples": 4},
        "training": {"batch": 4},
    }
)
SIZES = {1: (5, 2), 2: (5, 4, 2), 3: (5, 4, 4, 2), 4: (5, 4, 4, 4, 2)}


def measured(cases: list[cost.Case], ranks: int = 1, base: Any = BASE) -> list[cost.Line]:
    def work(team: Team) -> list[cost.Line] | None:
        if team.rank > 0:
            follow(team)
            return None
        lines = [cost.measure(base, case, team) for case in cases]
        team.dismiss()
        return lines

    lines: list[cost.Line] = in_threads(ranks, work)
    return lines


def table_1(case: cost.Case, form: str) -> tuple[int, int]:
    """SPEC §5's row spelled out: rounds, and numbers from a node to a neighbour."""
    g, L, K = SIZES[case.layers], case.layers, case.consensus
    waves, p = -(-case.batch // case.wave), 2 * sum(a * b for a, b in pairwise(g))
    back = L - 1 if form == "receiver" else L
    forward = sum(g[:L]) if form == "receiver" else sum(g[1:])
    backward = sum(g[1:L]) if form == "receiver" else sum(g[1:])
    samples = case.batch * (forward + backward)
    return {
        "inference": (L * waves, case.batch * forward),
        "per_sample": (waves * (L + back) + waves * K, samples + waves * K * p),
        "per_batch": (waves * (L + back) + K, samples + K * p),
        "piggyback": (L * waves + back + K, samples + K * p),
        "piggyback_do": (L * waves + back, samples + p),
    }[case.scheme]


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_table_1(form: str) -> None:
    """L in 1 … 4, B in 1, 10, 100, K in 1, 3; the published wave of 1, and larger ones."""
    base = BASE.model_copy(update={"model": BASE.model.model_copy(update={"form": form})})
    cases = [
        *cost.cases((1, 2, 3, 4), (1, 10, 100), (1,), (1, 3)),
        *cost.cases((2, 3), (10,), (3, 10), (1, 3)),
    ]
    assert len(cases) == 4 * 3 * (2 + 3 * 2) + 2 * 2 * (2 + 3 * 2)
    for case, line in zip(cases, measured(cases, base=base), strict=True):
        rounds, numbers = table_1(case, form)
        assert line.rounds == (rounds, rounds, rounds), case
        assert line.numbers == (numbers, numbers, numbers), case
        assert line.agrees


def test_one_rank_per_node_counts_real_messages() -> None:
    cases = list(cost.cases((2,), (5,), (1, 2), (1, 2)))
    for case, line in zip(cases, measured(cases, ranks=NODES), strict=True):
        test_rounds = case.layers
        assert line.on_wire
        assert line.counted.messages == 2 * EDGES * (line.rounds.measured + test_rounds + 1)
        assert line.physical == line.counted
        assert line.agrees
        assert not replace(line, physical=line.physical._replace(messages=line.counted.messages - 1)).agrees
        assert not replace(line, physical=line.physical._replace(bytes=line.counted.bytes - 8)).agrees


def test_the_table_is_on_the_configuration_s_own_model_optimizer_and_slices() -> None:
    """As ``plan`` has them: different hidden sizes, θ and ũ, slices in all rounds."""
    given = BASE.model_dump(mode="json", exclude_none=True) | {"optimizer": {"kind": "d_amsgrad"}}
    given["model"] |= {"sizes": [5, 7, 3, 2]}
    given["training"] |= {"slices": "even"}
    base = from_mapping(given)
    lines = {line.case.scheme: line for line in measured([*cost.cases((3,), (4,), (1,), (2,))], base=base)}
    p = 2 * (5 * 7 + 7 * 3 + 3 * 2)
    samples = 4 * (5 + 7 + 3 + 7 + 3)
    assert {scheme: line.mixes for scheme, line in lines.items()} == {
        "inference": "–", "per_sample": "g", "per_batch": "θ, ũ", "piggyback": "θ, ũ", "piggyback_do": "θ, ũ",
    }  # fmt: skip
    assert lines["per_sample"].numbers.measured == samples + 4 * 2 * p
    assert lines["per_batch"].numbers.measured == samples + 2 * 2 * p
    assert lines["piggyback_do"].numbers.measured == samples + 2 * p
    schedule = build(base).job.schedule(4)
    assert (lines["piggyback_do"].rounds.planned, lines["piggyback_do"].peak) == (
        len(schedule.rounds),
        schedule.peak_width,
    )
    assert all(line.agrees for line in lines.values())


def test_a_difference_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["topology={kind: ring, nodes: 5}", "model.sizes=[3, 2, 1]"]
    file = tmp_path / "table.csv"
    arguments = ["cost", "--batches", "3,4", "--ranks", "1", "--out", str(file), "paper/table1", *overrides]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count("equal") == 2 * len(SCHEMES)
    assert "DIFFER" not in shown
    with file.open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert {line["agrees"] for line in lines} == {"True"}
    assert [line["batch"] for line in lines] == ["3"] * 5 + ["4"] * 5
    monkeypatch.setattr(cost, "expected_numbers", lambda schedule: schedule.numbers + (schedule.batch == 4))
    assert cli.main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.out.count("DIFFER") == shown.out.count("equal") == len(SCHEMES)
    assert shown.err.startswith("error: cost: formula, plan and wire differ for Case(scheme='inference'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "0"], "--layers: must be numbers from 1"),
        (["--consensus", "0"], "--consensus: must be numbers from 1"),
        (["--batches", "3,x"], "found '3,x'"),
        (["--batches", "2", "--waves", "3"], "no wave is at most a batch"),
        (["--layers", "²"], "found '²'"),
        (["--out", "nowhere/table.csv"], "there is no directory nowhere"),
        (["--out", "table.txt"], "--out table.txt: must end in .csv"),
        (["--layers", "100000"], "--layers: must be at most 200, found 100000"),
        (["paper/node_regression_sgd"], "needs synthetic data"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cost", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
