"""The tables of a report: cells with the text that is shown, the value that sorts, and the exact value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fdtrain.progress import duration, size
from fdtrain.report.charts import PAYLOADS
from fdtrain.report.compare import Group, flatten
from fdtrain.report.read import Run

NONE = "–"


@dataclass
class Cell:
    """One cell; `sort` is empty where the text sorts, `exact` where the text is all there is to say."""

    text: str
    sort: str = ""
    exact: str = ""
    tone: str = ""  # good, bad or warn


@dataclass
class Table:
    """A header and rows."""

    head: list[str]
    rows: list[list[Cell]]

    @property
    def classes(self) -> list[str]:
        """Of every column: ``number`` where it is set flush right."""
        return [
            "number" if any(cell.sort for cell in column) else "text"
            for column in zip(*self.rows, strict=True)
        ]


def measure(value: float | None) -> Cell:
    """A loss or the like."""
    if value is None:
        return Cell(NONE)
    return Cell(f"{value:.4g}", repr(value) if math.isfinite(value) else "Infinity", f"{value:.17g}",
                "" if math.isfinite(value) else "bad")  # fmt: skip


def count(value: float | None) -> Cell:
    """A whole number."""
    return Cell(NONE) if value is None else Cell(f"{value:,.0f}", f"{value:.0f}")


def amount(value: float | None) -> Cell:
    """Bytes."""
    return Cell(NONE) if value is None else Cell(size(value), f"{value:.0f}", f"{value:,.0f} bytes")


def status(run: Run) -> Cell:
    """Whether the run is all there."""
    text = run.status
    if text == "incomplete" and run.planned and run.epochs < run.planned:
        text += f", {run.epochs:,} of {run.planned:,} epochs"
    outcome = str(run.environment.get("outcome", text))
    tones = {"complete": "good", "diverged": "bad"}
    return Cell(text, exact=outcome, tone=tones.get(run.status, "warn"))


def headline(run: Run) -> dict[str, Cell]:
    """What a reader wants to know first, by the name it has in the page."""
    nodes = run.network[0].num_nodes if run.network else run.setting("topology.nodes")
    centralized = run.setting("training.mode") == "centralized"
    seconds = run.environment.get("wall_seconds", run.last("seconds"))
    mixing = run.setting("optimizer.mixing.kind")
    optimizer = str(run.setting("optimizer.kind") or NONE) + (f", {mixing}" if mixing else "")
    rate, schedule = run.setting("optimizer.lr"), run.setting("optimizer.schedule.kind")
    return {
        "status": status(run),
        "train MSE": measure(run.last("mse_train")),
        "test MSE": measure(run.last("mse_test")),
        "disagreement": Cell(NONE) if run.silent else measure(run.last("disagreement")),
        "epochs": count(run.epochs),
        "rounds": Cell(NONE) if run.silent else count(run.last("rounds")),
        "bytes over links": Cell(NONE) if run.silent else amount(run.last("bytes")),
        "time": _seconds(seconds),
        "optimizer": Cell(optimizer),
        "learning rate": _rate(rate, schedule),
        "scheme": Cell("centralized" if centralized else str(run.setting("training.scheme") or NONE)),
        "nodes": count(nodes if isinstance(nodes, int) else None),
        "ranks": count(_float(run.environment.get("ranks"))),
    }


def origin(runs: Sequence[Run]) -> str:
    """When and with what the runs were made, in a line."""
    times, versions, revisions = set(), set(), set()
    for run in runs:
        packages, revision = run.environment.get("packages"), str(run.environment.get("git_revision") or "")
        times.add(str(run.environment.get("finished", "")).replace("T", " "))
        versions.add(str(packages.get("fdtrain", "")) if isinstance(packages, dict) else "")
        revisions.add(revision[:10] + "-dirty" * revision.endswith("-dirty"))
    ends = sorted(times - {""})
    parts = ["finished " + " to ".join(dict.fromkeys((ends[0], ends[-1])))] if ends else []
    parts += [f"fdtrain {', '.join(found)}" for found in [sorted(versions - {""})] if found]
    parts += [f"git {', '.join(found)}" for found in [sorted(revisions - {""})] if found]
    return " · ".join(parts) or "when and with what this was made is not known"


def compare(runs: Sequence[Run], groups: Sequence[Group]) -> Table:
    """A row per run. What is the same for all is left to the configuration below."""
    lines = [headline(run) for run in runs]
    optional = ("optimizer", "learning rate", "scheme", "nodes", "ranks")
    names = [n for n in lines[0] if n not in optional or len({line[n].text for line in lines}) > 1]
    return Table(["run", *names], [[Cell(run.label), *(line[n] for n in names)]
                                   for run, line in zip(runs, lines, strict=True)])  # fmt: skip


def ledger(run: Run) -> Table:
    """Messages and bytes by phase and kind."""
    head = ["phase", "kind", "rounds", "radio broadcasts", "radio bytes", "link messages", "link bytes"]
    rows = []
    for line in run.ledger or ():
        physical = line["phase"] == "physical"
        kind = "all" if line["field"] == "all" else PAYLOADS.get(line["field"], line["field"])
        rounds = Cell(NONE) if physical else count(line["rounds"])
        radio = [Cell(NONE)] * 2 if physical else [count(line["radio_messages"]), amount(line["radio_bytes"])]
        link = [count(line["link_messages"]), amount(line["link_bytes"])]
        rows.append([Cell(line["phase"]), Cell("MPI sends" if physical else kind), rounds, *radio, *link])
    return Table(head, rows)


def verification(run: Run) -> Table | None:
    """The comparisons with the reference; None if none was made."""
    if not run.verification:
        return None
    rows = []
    for made in run.verification:
        passed = bool(made.get("passed"))
        rows.append([
            Cell(str(made.get("number", ""))), Cell(str(made.get("name", ""))),
            measure(_float(made.get("error"))), measure(_float(made.get("tolerance"))),
            Cell("pass" if passed else "FAIL", tone="good" if passed else "bad"),
        ])  # fmt: skip
    return Table(["no.", "comparison", "error", "allowed", "result"], rows)


def by_run(runs: Sequence[Run], columns: dict[str, list[str]]) -> Table:
    """A row per run, a column per key."""
    rows = [
        [Cell(run.label), *(_guess(values[k]) for values in columns.values())] for k, run in enumerate(runs)
    ]
    return Table(["run", *columns], rows)


def pairs(content: dict[str, Any]) -> Table:
    """A row per key."""
    return Table(["key", "value"], [[Cell(key), Cell(value)] for key, value in flatten(content).items()])


def _rate(rate: Any, schedule: Any) -> Cell:
    if not isinstance(rate, (int, float)):
        return Cell(NONE)
    return Cell(
        f"{rate:g}" + (f", {schedule}" if schedule not in (None, "constant") else ""), repr(float(rate))
    )


def _guess(text: str) -> Cell:
    value = _float(text)
    return Cell(text) if value is None or math.isnan(value) else Cell(text, repr(value))


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _seconds(value: Any) -> Cell:
    seconds = _float(value)
    if seconds is None or not math.isfinite(seconds):
        return Cell(NONE)
    return Cell(f"{seconds:.2g} s" if seconds < 10 else duration(seconds), repr(seconds), f"{seconds:,} s")
