"""The schedule as text: exact figures, computed here from SPEC §5, and a table that fits the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from fdtrain.layers.gcnn import gcnn_outline
from fdtrain.schedule import build
from fdtrain.timeline import render


def text(schedule: Any, width: int = 80, **fields: Any) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render(schedule, **fields))
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert "\x1b" not in written
    return written


def lines(schedule: Any, **fields: Any) -> list[str]:
    return [" ".join(line.split()) for line in text(schedule, **fields).splitlines()]


SMALL = gcnn_outline([10, 10, 1], "receiver")
PAPER = build("piggyback_do", outline=SMALL, batch=100, travelling=220)
SENDER = build(
    "piggyback_do",
    outline=gcnn_outline([5, 8, 4, 2], "sender"),
    batch=6,
    wave=2,
    travelling=160,
    slices="even",
)
INFERENCE = build("inference", outline=SMALL, batch=20)


def test_the_paper_s_schedule_round_by_round() -> None:
    rows = lines(PAPER)
    assert rows[0] == "piggyback_do, receiver form, sizes 10-10-1, B = 100, w = 1 (100 waves)"
    assert rows[2] == "round features backward terms slices numbers bytes"
    assert rows[3:6] == [
        "0 x0 wave 0 [0:2] 12 96",
        "1 x1 wave 0 [2:4] 12 96",
        "2 x0 wave 1 p2 wave 0 20 160",
    ]
    assert rows[3 + 16] == "⋮ … 177 rounds left out"  # 16 before it, 8 after it
    assert rows[3 + 23 : 3 + 25] == ["199 x1 wave 99 [217:220] 13 104", "200 p2 wave 99 10 80"]


def test_the_paper_s_summary() -> None:
    # L B' + L − 1 rounds; features B (g_0 + g_1), backward B g_1, slices |θ|
    rows = lines(PAPER)
    assert "201 rounds per mini-batch (closed formula: 201)" in rows
    assert rows[-6:] == [
        "features 2,000 16,000",
        "backward terms 1,000 8,000",
        "slices 220 1,760",
        "mini-batch 3,220 25,760",
        "average message 16.02 128.16",
        "peak message 20 160",
    ]


def test_consensus_says_its_step_and_what_is_mixed() -> None:
    schedule = build("per_sample", outline=SMALL, batch=3, wave=2, travelling=220, consensus=2)
    rows = lines(schedule, travels=("g",))
    assert rows[2] == "round features backward terms consensus numbers bytes"
    assert rows[6:8] == ["3 step 1 wave 0 220 1,760", "4 step 2 wave 0 220 1,760"]
    assert "10 rounds per mini-batch (closed formula: 10)" in rows
    assert "consensus of g 880 7,040" in rows
    batch = build("piggyback", outline=SMALL, batch=3, travelling=440, consensus=1)
    rows = lines(batch, travels=("θ", "ũ"))
    assert "7 step 1 440 3,520" in rows
    assert "consensus of θ and ũ 440 3,520" in rows


def test_the_sender_form_with_even_slices_is_shown_whole() -> None:
    rows = lines(SENDER)
    body = rows[3:15]
    assert [row.split()[0] for row in body] == [str(r) for r in range(12)]
    assert body[0] == "0 x0Θ1 wave 0 [0:13] 29 232"  # 2 · 8 + 13
    assert body[3] == "3 x0Θ1 wave 1 q3 wave 0 [40:53] 33 264"  # 2 · 8 + 2 · 2 + 13
    assert body[11] == "11 q1 wave 2 [146:160] 30 240"  # 2 · 8 + 14
    assert not any("left out" in row for row in rows)
    assert "12 rounds per mini-batch (closed formula: 12)" in rows
    assert rows[-6:] == [
        "features 84 672",
        "backward terms 84 672",
        "slices 160 1,280",
        "mini-batch 328 2,624",
        "average message 27.33 218.67",
        "peak message 34 272",
    ]


def test_inference_has_features_only() -> None:
    rows = lines(INFERENCE, max_rounds=40)
    assert rows[2] == "round features numbers bytes"
    assert rows[3 + 39] == "39 x1 wave 19 10 80"
    assert "40 rounds per mini-batch (closed formula: 40)" in rows
    assert rows[-4:] == [
        "features 400 3,200",
        "mini-batch 400 3,200",
        "average message 10.00 80.00",
        "peak message 10 80",
    ]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 24, 39, 40, 1000])
def test_what_is_shown_and_what_is_left_out_add_up(limit: int) -> None:
    rows = lines(INFERENCE, max_rounds=limit)
    shown = [int(row.split()[0]) for row in rows if re.match(r"\d+ x", row)]
    assert len(shown) == min(limit, 40)
    left_out = [int(found[1]) for row in rows if (found := re.match(r"⋮ … (\d+) rounds? left out", row))]
    assert sum(left_out) == 40 - len(shown)
    assert len(left_out) == (len(shown) < 40)
    assert shown == sorted(shown)


def test_a_wrong_number_of_rounds_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdtrain.timeline.expected_rounds", lambda *args: 41)
    assert "40 rounds per mini-batch (closed formula: 41)" in lines(INFERENCE)


LARGE = build(
    "piggyback_do", outline=gcnn_outline([64, 128, 128, 128, 64, 2], "sender"), batch=20_000, wave=7,
    travelling=2_304_100, slices="even",
)  # fmt: skip


@pytest.mark.parametrize(
    "schedule", [PAPER, SENDER, INFERENCE, LARGE], ids=["paper", "sender", "inference", "large"]
)
@pytest.mark.parametrize("width", [80, 100])
def test_it_fits_the_terminal_and_cuts_no_number(schedule: Any, width: int) -> None:
    written = text(schedule, width)
    assert max(map(len, written.splitlines())) <= width
    shown = [line for line in written.splitlines() if re.match(r" *[\d,]+  ", line)]
    assert len(shown) == min(24, len(schedule.rounds))  # one line per round
    assert all("…" not in line for line in shown)
    for line in shown:
        number, numbers, size = (int(part.replace(",", "")) for part in (line.split()[0], *line.split()[-2:]))
        assert numbers == schedule.rounds[number].width
        assert size == 8 * numbers
