"""The charts of a report as data for plotly.js, which draws them in the reader's browser.

A trace with ``meta.ink`` gets that colour of the page's theme; see page.js.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fdtrain.progress import PHASES
from fdtrain.report.compare import Group
from fdtrain.report.read import Run
from fdtrain.rounds import TITLES, Field
from fdtrain.schedule import Schedule

Figure = dict[str, Any]

MAX_ROUNDS, HEAD, TAIL = 1500, 1000, 100  # rounds of a schedule that are drawn
SHOWN_ROUNDS = 48  # at first
PAYLOADS = {str(kind): name for kind, name in TITLES.items()}
INKS = ("features", "backward", "slice", "consensus")


def schedule(plan: Schedule) -> Figure:
    """Numbers per round by kind, stacked; the middle of a very long schedule is left out."""
    rounds = list(enumerate(plan.rounds))
    if len(rounds) > MAX_ROUNDS:
        rounds = rounds[:HEAD] + rounds[-TAIL:]
    numbers = [number for number, _ in rounds]
    kinds = list(dict.fromkeys(field.kind for round_ in plan.rounds for field in round_.fields))
    traces = []
    for kind in sorted(kinds, key=lambda kind: INKS.index(kind) if kind in INKS else len(INKS)):
        fields = [[field for field in round_.fields if field.kind == kind] for _, round_ in rounds]
        traces.append(
            {
                "type": "bar",
                "name": PAYLOADS.get(kind, kind),
                "x": numbers,
                "y": [sum(field.width for field in mine) for mine in fields],
                "customdata": [", ".join(map(_riding, mine)) or "–" for mine in fields],
                "hovertemplate": "%{y:,} numbers: %{customdata}",
                "meta": {"ink": kind},
            }
        )
    last = len(plan.rounds) - 1
    window = [-0.5, min(last, SHOWN_ROUNDS - 1) + 0.5]
    axis: dict[str, Any] = {"title": {"text": "round of the mini-batch"}, "range": window, "hoverformat": ","}
    if last >= SHOWN_ROUNDS:
        axis["rangeslider"] = {"range": [-0.5, last + 0.5], "thickness": 0.16, "yaxis": {"rangemode": "auto"}}
    return {
        "data": traces,
        "layout": {
            "barmode": "stack",
            "bargap": 0.12,
            "hovermode": "x unified",
            "height": 380 if last >= SHOWN_ROUNDS else 320,
            "xaxis": axis,
            "yaxis": {"title": {"text": "numbers per message"}, "fixedrange": True},
        },
    }


def _riding(field: Field) -> str:
    if field.kind in ("features", "backward"):
        return f"layer {field.layer}, wave {field.wave}"
    if field.kind == "consensus":
        return f"step {field.step}, wave {field.wave}"
    return f"[{field.start}:{field.start + field.width}] of what travels"


def left_out(plan: Schedule) -> int:
    """Rounds in the middle that :func:`schedule` does not draw."""
    return len(plan.rounds) - HEAD - TAIL if len(plan.rounds) > MAX_ROUNDS else 0


def kinds_of(plan: Schedule) -> list[tuple[str, int, int, int]]:
    """(kind, rounds with it, numbers, bytes) per node, neighbour and mini-batch."""
    rows = []
    for kind in dict.fromkeys(field.kind for round_ in plan.rounds for field in round_.fields):
        rounds = sum(any(field.kind == kind for field in round_.fields) for round_ in plan.rounds)
        rows.append((PAYLOADS.get(kind, kind), rounds, plan.numbers_of(kind), plan.bytes_of(kind)))
    return rows


def ledger(runs: Sequence[Run], groups: Sequence[Group]) -> Figure | None:
    """Link bytes by kind: of one run in every phase, of several in training, means over seeds; None if none."""
    bars = _phases(runs[0]) if len(runs) == 1 else _trainings(runs, groups)
    bars = [bar for bar in bars if bar[2]]
    if not bars:
        return None
    labels = list(dict.fromkeys(label for label, *_ in bars))
    traces = []
    for kind in dict.fromkeys(kind for _, kind, *_ in bars):
        mine = [bar for bar in bars if bar[1] == kind]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": PAYLOADS.get(kind, kind),
                "x": [size for _, _, size, _ in mine],
                "y": [label for label, *_ in mine],
                "customdata": [[plain(label), messages, size] for label, _, size, messages in mine],
                "hovertemplate": "%{customdata[0]}<br>%{customdata[2]:,.0f} bytes in %{customdata[1]:,.0f} messages"
                "<extra>%{fullData.name}</extra>",
                "meta": {"ink": kind},
            }
        )
    return {
        "data": traces,
        "layout": {
            "barmode": "stack",
            "bargap": 0.3,
            "showlegend": len(runs) > 1,
            "height": (130 if len(runs) > 1 else 100) + 26 * len(labels),
            "xaxis": {"title": {"text": "bytes over links"}, "rangemode": "tozero"},
            "yaxis": {
                "type": "category",
                "categoryorder": "array",
                "categoryarray": labels[::-1],
                "fixedrange": True,
            },
        },
    }


def _phases(run: Run) -> list[tuple[str, str, float, float]]:
    """(label, kind, bytes, messages) of every kind in every phase."""
    lines = [line for line in run.ledger or () if line["field"] != "all" and line["phase"] != "physical"]
    return [
        (
            f"{PHASES.get(line['phase'], line['phase'])}: {PAYLOADS.get(line['field'], line['field'])}",
            line["field"],
            line["link_bytes"],
            line["link_messages"],
        )
        for line in lines
    ]


def _trainings(runs: Sequence[Run], groups: Sequence[Group]) -> list[tuple[str, str, float, float]]:
    """The same of the training of every group, a mean over its runs; what nodes decide and ask a critic is a kind."""
    bars = []
    for one in groups:
        books = [runs[r].ledger for r in one.members]
        lines = [
            {**line, "field": PHASES[line["phase"]]} if whole else line
            for book in books
            for line in book or ()
            for whole in [line["field"] == "all"]
            if (line["phase"] in PHASES if whole else line["phase"] == "train")
        ]
        known = sum(bool(book) for book in books)
        for kind in dict.fromkeys(line["field"] for line in lines):
            mine = [line for line in lines if line["field"] == kind]
            size = sum(line["link_bytes"] for line in mine) / known
            bars.append((one.label, kind, size, sum(line["link_messages"] for line in mine) / known))
    return bars


def plain(label: str) -> str:
    """`label` for a text of plotly, which takes some HTML for markup."""
    return label.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
