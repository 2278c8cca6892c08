"""What a run shows: plain lines, the live display, and events between processes."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from fdtrain.progress import Display, Events, duration, replay, size
from fdtrain.service import EpochRow
from fdtrain.verify import Comparison

ROWS = [EpochRow(k, 0.5 / k, 0.4 / k, 0.1, 100 * k, 400 * k, 3200 * k) for k in range(1, 6)]
COMPARISONS = [Comparison(1, "gradients [of all]", 2e-15, 1e-12), Comparison(5, "rounds", 1.0, 0.0)]


def play(observer: Display | Events) -> None:
    observer.started("demo", 7, 2, len(ROWS))
    observer.verified(COMPARISONS)
    for row in ROWS:
        observer.epoch(row)
    observer.note("a note")
    observer.finished()


def shown(*, terminal: bool) -> str:
    stream = io.StringIO()
    play(Display(Console(file=stream, force_terminal=terminal, width=110, highlight=False)))
    return stream.getvalue()


def test_plain_lines() -> None:
    lines = shown(terminal=False).splitlines()
    assert lines[0] == "demo: 7 nodes on 2 ranks, 5 epochs"
    assert any("gradients [of all]" in line and line.rstrip().endswith("pass") for line in lines)
    assert any("rounds" in line and line.rstrip().endswith("FAIL") for line in lines)
    assert any(line.startswith("epoch 1/5  mse train 0.5 test 0.4  disagreement 0.1") for line in lines)
    assert any(line.startswith("epoch 5/5") and line.endswith("0 s left") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_live_display_ends_with_the_last_figures() -> None:
    text = shown(terminal=True)
    assert "5/5" in text
    assert "mse train 0.1 test 0.08" in text
    assert "a note" in text


def test_a_centralized_run_shows_no_rounds() -> None:
    stream = io.StringIO()
    display = Display(Console(file=stream, width=110))
    display.started("base", 7, 1, 1)
    display.epoch(EpochRow(1, 0.5, 0.4, 0.0, 0, 0, 0))
    assert "rounds/s" not in stream.getvalue()


def test_events_replayed_show_the_same() -> None:
    pipe = io.StringIO()
    play(Events(pipe))
    stream = io.StringIO()
    display = Display(Console(file=stream, width=110, highlight=False))
    for line in pipe.getvalue().splitlines():
        assert replay(line, display) is None
    without_speed = [line.split("  disagreement")[0] for line in stream.getvalue().splitlines()]
    assert without_speed == [line.split("  disagreement")[0] for line in shown(terminal=False).splitlines()]


@pytest.mark.parametrize("through_events", [False, True])
def test_what_a_resumed_run_did_before_is_not_in_its_speed(
    monkeypatch: pytest.MonkeyPatch, through_events: bool
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream, pipe = io.StringIO(), io.StringIO()
    display = Display(Console(file=stream, width=110, highlight=False))
    observer: Display | Events = Events(pipe) if through_events else display
    observer.started("demo", 7, 2, 5, 100)
    observer.resumed(400)
    for line in pipe.getvalue().splitlines():
        assert replay(line, display) is None
    now[0] = 10.0
    display.epoch(ROWS[3])
    display.epoch(ROWS[4])
    lines = stream.getvalue().splitlines()
    assert lines[1] == "going on after mini-batch 400 (epoch 4)"
    assert lines[2].endswith(" 0 rounds/s")  # all of this epoch was there
    assert lines[3].endswith(" 10 rounds/s  0 s left")


def test_an_error_event_is_returned_and_other_lines_are_ignored() -> None:
    pipe = io.StringIO()
    Events(pipe).error("no graph")
    display = Display(Console(file=io.StringIO()))
    assert replay(pipe.getvalue(), display) == "no graph"
    for line in ("", "hello", "[1, 2]", '{"a": 1}', "null", '{"event": "other"}'):
        assert replay(line, display) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (103_000_000, "103 MB"), (2e15, "2e+03 TB")],
)
def test_size(count: float, text: str) -> None:
    assert size(count) == text
