"""Timelines: well-formed, complete, without gaps; and nothing else changes."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment, fdtrain, needs_mpi, one_line_error
from pictures import png_size

from fdtrain import config, launcher, resources
from fdtrain.driver import resume, run
from fdtrain.engine import Engine
from fdtrain.errors import InputError
from fdtrain.experiment import build
from fdtrain.figures.canvas import DPI
from fdtrain.profile import trace
from fdtrain.profile.clocks import Shift, align
from fdtrain.profile.recorder import CATEGORIES
from fdtrain.team import Team, in_threads
from fdtrain.wire import Layout

RANKS, KEPT = 3, 4
MOVING = ["topology={kind: random_geometric, nodes: 10, radius: 0.6, redraw: {every: 1}}"]
Event = dict[str, Any]


def settings(*overrides: str) -> config.Config:
    return config.load(resources.find_config("ci/smoke"), ["training.epochs=3", *overrides])


def read(path: Path) -> list[Event]:
    content = path.read_bytes()
    loaded = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    assert set(loaded) == {"displayTimeUnit", "traceEvents"}
    events: list[Event] = loaded["traceEvents"]
    return events


def spans(events: list[Event]) -> list[Event]:
    return [event for event in events if event["ph"] == "X"]


def summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def check_format(events: list[Event]) -> None:
    """The trace event format: metadata, and complete events in microseconds."""
    for event in events:
        assert {"name", "ph", "pid", "tid"} <= set(event)
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            continue
        assert event["ph"] == "X"
        assert event["ts"] >= 0
        assert event["dur"] >= 0
        assert event["cat"] in (*CATEGORIES, "round", "pass", "deal", "mini-batch")


def check_nesting(events: list[Event]) -> None:
    """On every thread an event ends before the next begins, or encloses it; what is counted encloses nothing."""
    for thread in {event["tid"] for event in events}:
        around: list[tuple[float, bool]] = []  # when it ends, whether it is counted
        own = [event for event in spans(events) if event["tid"] == thread]
        for event in sorted(own, key=lambda event: (event["ts"], -event["dur"])):
            start, stop = event["ts"], event["ts"] + event["dur"]
            while around and around[-1][0] <= start + 1e-4:
                around.pop()
            if around:
                assert stop <= around[-1][0] + 1e-4, event
                assert not around[-1][1], event
            around.append((stop, event["cat"] in CATEGORIES))


def check_shares(folder: Path, wall: float) -> None:
    """All that is counted adds up to the time there was."""
    for line in summary(folder):
        seconds = float(line["seconds"])
        assert sum(float(line[category]) for category in CATEGORIES) == pytest.approx(seconds, abs=1e-5)
        assert 0 < seconds <= wall


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run in threads, whose graph changes."""
    path = tmp_path_factory.mktemp("profile") / "run"
    started = time.monotonic()
    run(settings(*MOVING), ranks=RANKS, out=path, profile=KEPT, verify=False)
    check_shares(path / "profile", time.monotonic() - started)
    return path / "profile"


def test_the_files_are_in_the_trace_event_format(folder: Path) -> None:
    joined = read(folder / "trace.json")
    check_format(joined)
    assert [e for rank in range(RANKS) for e in read(trace.file_of(folder, rank))] == joined
    assert {event["args"]["name"] for event in joined if event["name"] == "thread_name"} == {
        f"rank {rank}" for rank in range(RANKS)
    }


def test_events_follow_or_enclose_one_another(folder: Path) -> None:
    check_nesting(read(folder / "trace.json"))


def test_the_first_and_the_last_minibatches_are_kept_with_all_their_rounds(folder: Path) -> None:
    job = build(settings(*MOVING)).job
    minibatches = job.minibatches * job.epochs
    assert minibatches > KEPT
    kept = {1, 2, minibatches - 1, minibatches}
    sizes = [len(chosen) for chosen in job.batches(np.arange(job.train_samples))]
    events = spans(read(folder / "trace.json"))
    for rank in range(RANKS):
        own = [event for event in events if event["tid"] == rank]
        assert {event["name"] for event in own if event["cat"] == "mini-batch"} == {
            "start",
            *(f"mini-batch {t}" for t in kept),
        }
        for t in kept:
            training = next(
                e for e in own if e["name"] == "train" and within(e, named(own, f"mini-batch {t}"))
            )
            rounds = [e for e in own if e["cat"] == "round" and within(e, training)]
            planned = job.schedule(sizes[(t - 1) % job.minibatches]).rounds
            assert [e["args"]["round"] for e in rounds] == [k + 1 for k in range(len(planned))]
            assert {e["args"]["minibatch"] for e in rounds} == {t}
            assert [e["args"]["numbers"] for e in rounds] == [round_.width for round_ in planned]


def named(events: list[Event], name: str) -> Event:
    return next(event for event in events if event["name"] == name)


def within(inner: Event, outer: Event) -> bool:
    return bool(
        outer["ts"] - 1e-4 <= inner["ts"] and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1e-4
    )


def test_topologies_and_tests_are_seen(folder: Path) -> None:
    events = spans(read(folder / "trace.json"))
    for rank in range(RANKS):
        names = {event["name"] for event in events if event["tid"] == rank}
        assert {"topology", "rewire", "train", "test", "vote", "gather", "wait", "post", "compute"} <= names
        assert ("serve" in names) == (rank == 0)


def test_bytes_are_those_of_the_ledger(tmp_path: Path) -> None:
    """All mini-batches are kept, and no teacher talks, so the rounds' bytes are all there are."""
    finished = run(settings("task.online=true"), ranks=2, out=tmp_path / "run", profile=10**6, verify=False)
    folder = tmp_path / "run" / "profile"
    rounds = [event for event in spans(read(folder / "trace.json")) if event["cat"] == "round"]
    assert sum(event["args"]["bytes"] for event in rounds) == finished.ledger.physical_bytes
    assert sum(event["args"]["peers"] for event in rounds) == finished.ledger.physical_messages
    assert sum(int(line["sent_bytes"]) for line in summary(folder)) == finished.ledger.physical_bytes


def test_a_profile_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    exchange, deal, minibatch = Layout.exchange, Team.deal, Engine.minibatch
    plain = run(settings(), ranks=2, verify=False)
    told = run(settings(), ranks=2, out=tmp_path / "run", profile=KEPT, verify=False)
    np.testing.assert_array_equal(plain.theta, told.theta)
    assert plain.ledger.as_dict() == told.ledger.as_dict()
    assert (Layout.exchange, Team.deal, Engine.minibatch) == (exchange, deal, minibatch)


def test_a_run_that_goes_on_has_the_profile_of_its_last_life(tmp_path: Path) -> None:
    run(settings("checkpoint.every=2"), ranks=3, out=tmp_path / "run", profile=KEPT, verify=False)
    (tmp_path / "run" / "environment.json").unlink()
    newest = sorted((tmp_path / "run" / "checkpoints").glob("*.ckpt"))[-1]
    done = int(newest.stem.rpartition("-")[2])
    assert done > 2
    resume(tmp_path / "run", ranks=2, profile=KEPT)
    folder = tmp_path / "run" / "profile"
    assert {file.name for file in folder.iterdir()} == {
        "rank-0.json", "rank-1.json", "trace.json", "summary.csv"
    }  # fmt: skip
    events = read(folder / "trace.json")
    check_nesting(events)
    seen = {event["args"].get("minibatch") for event in spans(events) if event["cat"] == "round"}
    assert min(t for t in seen if t is not None) == done + 1


def test_a_large_file_is_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "LARGE", 1000)
    run(settings(), ranks=2, out=tmp_path / "run", profile=1, verify=False)
    folder = tmp_path / "run" / "profile"
    assert not (folder / "trace.json").exists()
    joined = read(folder / "trace.json.gz")
    assert joined == [e for rank in range(2) for e in read(trace.file_of(folder, rank))]


def test_clocks_that_differ_are_aligned() -> None:
    """Ranks in threads, whose clocks are wrong by up to a minute."""
    wrong = [0, 60 * 10**9, -(10**9)]

    def work(team: Team) -> Any:
        def clock() -> int:
            return time.perf_counter_ns() + wrong[team.rank]

        return team.control.gather(align(team.control, clock, f"clock {team.rank}"))

    shifts: list[Shift] = in_threads(3, work)
    assert shifts[0] == Shift(0, 0)
    for shift, offset in zip(shifts, wrong, strict=True):
        assert abs(shift.offset - offset) <= shift.error
        assert shift.error < 10**9
    same: list[Shift] = in_threads(3, lambda team: team.control.gather(align(team.control, lambda: 7, "one")))
    assert same == [Shift(0, 0)] * 3


def test_without_a_directory_there_is_nowhere_to_write_it() -> None:
    with pytest.raises(InputError, match="profile: needs a directory"):
        run(settings(), profile=KEPT)


def test_a_centralized_run_has_no_ranks_to_show(tmp_path: Path) -> None:
    result = fdtrain(
        "run", "paper/node_regression_sgd", "--profile", "--out", str(tmp_path / "run"), "--ranks", "1"
    )
    assert "--profile: training.mode: centralized" in one_line_error(result)


@needs_mpi
@pytest.mark.parametrize("outside", [False, True])
def test_profiles_of_mpi_ranks(tmp_path: Path, outside: bool) -> None:
    command = ["run", "ci/smoke", "--profile", "--no-verify", "--out", str(tmp_path / "run")]
    before = [launcher.find_mpirun(), "--map-by", ":oversubscribe", "-n", "4"] if outside else []
    after = [] if outside else ["--ranks", "4"]
    started = time.monotonic()
    result = subprocess.run(
        [*before, sys.executable, "-P", "-m", "fdtrain", *command, *after],
        env=environment(launcher.rank_environment(4)), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "profile: parts of" in result.stdout
    assert png_size(tmp_path / "run" / "figures" / "profile.png")[0] == 8 * DPI
    folder = tmp_path / "run" / "profile"
    check_shares(folder, time.monotonic() - started)
    events = read(folder / "trace.json")
    check_format(events)
    check_nesting(events)
    assert {event["tid"] for event in spans(events)} == {0, 1, 2, 3}
    assert {line["clock_error"] for line in summary(folder)} == {"0.000000000"}


def test_a_run_that_fails_leaves_the_timelines_of_its_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error within a round: what was begun is closed, and written."""
    exchange, calls = Layout.exchange, 0

    def fail(layout: Layout, transport: Any, round_: Any = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise RuntimeError("the node caught fire")
        exchange(layout, transport, round_)

    monkeypatch.setattr(Layout, "exchange", fail)
    with pytest.raises(RuntimeError, match="caught fire"):
        run(settings(), ranks=2, out=tmp_path / "run", profile=KEPT, verify=False)
    assert Layout.exchange is fail
    folder = tmp_path / "run" / "profile"
    seen = 0
    for rank in range(2):
        events = read(trace.file_of(folder, rank))
        check_format(events)
        check_nesting(events)
        seen += sum(event["cat"] == "round" for event in spans(events))
    assert seen >= 20
    assert not (folder / "summary.csv").exists()
