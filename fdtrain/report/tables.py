"""The tables of a report: what is known of runs, compared, summed up over repetitions, and taken apart."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fdtrain.minibatches import averages, title
from fdtrain.progress import PHASES, size
from fdtrain.report.cells import (
    NONE,
    Cell,
    Table,
    amount,
    as_float,
    count,
    guess,
    measure,
    rate_of,
    spread,
    time_taken,
)
from fdtrain.report.charts import PAYLOADS
from fdtrain.report.compare import Group, flatten
from fdtrain.report.read import Run, finite
from fdtrain.rundir import STOPPED

SETTINGS = ("optimizer", "learning rate", "scheme", "nodes")
COSTS = ("disagreement", "epochs", "rounds", "bytes over links", "time", "ranks")
MANY = 8  # values that are written one by one


def status(run: Run) -> Cell:
    """Whether the run is all there."""
    outcome = str(run.environment.get("outcome", run.status))
    tones = {"complete": "good", STOPPED: "good", "diverged": "bad"}
    return Cell(run.status, exact=outcome, tone=tones.get(run.status, "warn"))


def epochs(run: Run) -> Cell:
    """The finished epochs, and of how many, where there are fewer."""
    done = count(run.epochs)
    return (
        Cell(f"{done.text} of {run.planned:,}", done.sort)
        if run.planned and run.epochs < run.planned
        else done
    )


def results_of(runs: Sequence[Run]) -> list[str]:
    """How the results of `runs` are called: their measures, published ones beside them."""
    names = []
    for measured in dict.fromkeys(run.measure for run in runs):
        for side in ("train", "test"):
            names += [f"{side} {measured.title}", f"published {side} {measured.title}"]
    return names


def methods_of(runs: Sequence[Run]) -> list[str]:
    """How what other methods reach on the samples of `runs` is called."""
    return [name for run in runs for name in baselines(run)]


def baselines(run: Run) -> dict[str, Cell]:
    """What other methods reach on average of the run's mini-batches, and on the test samples.

    That belongs to the data: runs on the same have the same cells.
    """
    cells = {}
    for name, (mean, _, evaluated) in averages(run.minibatches).items():
        on = f" on {evaluated:,} mini-batches" if evaluated < len(run.minibatches) else ""
        cells[f"{title(name)} train"] = Cell(f"{mean:.4g}{on}", repr(mean), f"{mean:.17g}{on}")
    return cells | {
        f"{title(name)} test": measure(finite(value)) for name, value in run.test_baselines.items()
    }


def results(run: Run) -> Table | None:
    """The run beside other methods on the same samples; None if it was compared with none."""
    means = averages(run.minibatches)
    names = dict.fromkeys([*means, *run.test_baselines])
    if not names:
        return None
    train, test = trained(run), run.last(run.measure.test)
    beside = any(not math.isclose(found.own, train or 0.0, rel_tol=1e-9) for found in means.values())
    rows = [[Cell("this run"), measure(train), measure(test), *[Cell(NONE)] * beside]]
    for name in names:
        found = means.get(name)
        tested = finite(run.test_baselines.get(name))
        row = [Cell(title(name)), measure(found and found.mean), measure(tested)]
        if beside:
            row.append(measure(found and found.own))
            row[-1].text += f" on {found.evaluated:,} mini-batches" if found else ""
        rows.append(row)
    return Table([run.measure.label, "train", "test", *["this run on the same mini-batches"] * beside], rows)


def trained(run: Run) -> float | None:
    """The measure of the last epoch's training, or of what there is of the first one."""
    if run.epochs or not run.minibatches:
        return run.last(run.measure.train)
    return _mean([row.train for row in run.minibatches])


def published(run: Run, side: str, own: float | None) -> dict[str, Cell]:
    """The published value of a `side`, and the own one in percent of it; empty where none is known."""
    value = run.published.get(side)
    if value is None:
        return {}
    own = finite(own)
    beside = "" if own is None else f" ({100 * own / value:.1f} %)"
    return {f"published {side} {run.measure.title}": Cell(f"{value:.4g}{beside}", repr(value))}


def headline(run: Run) -> dict[str, Cell]:
    """What a reader wants to know first, by the name it has in the page."""
    nodes = run.network[0].num_nodes if run.network else run.setting("topology.nodes")
    centralized = run.setting("training.mode") == "centralized"
    seconds = run.environment.get("wall_seconds", run.last("seconds"))
    mixing = run.setting("optimizer.mixing.kind")
    optimizer = str(run.setting("optimizer.kind") or NONE) + (f", {mixing}" if mixing else "")
    rate, schedule = run.setting("optimizer.lr"), run.setting("optimizer.lr_schedule.kind")
    train, test = trained(run), run.last(run.measure.test)
    return {
        "status": status(run),
        f"train {run.measure.title}": measure(train),
        **published(run, "train", train),
        f"test {run.measure.title}": measure(test),
        **published(run, "test", test),
        "disagreement": Cell(NONE) if run.silent else measure(run.last("disagreement")),
        "epochs": epochs(run),
        "rounds": Cell(NONE) if run.silent else count(run.last("rounds")),
        "bytes over links": Cell(NONE) if run.silent else amount(run.last("bytes")),
        "time": time_taken(seconds),
        "optimizer": Cell(optimizer),
        "learning rate": rate_of(rate, schedule),
        "scheme": Cell("centralized" if centralized else str(run.setting("training.scheme") or NONE)),
        "nodes": count(nodes if isinstance(nodes, int) else None),
        "ranks": count(as_float(run.environment.get("ranks"))),
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


def compare(runs: Sequence[Run]) -> tuple[Table, str]:
    """A row per run, and in a line what is the same for all."""
    lines = [headline(run) | baselines(run) for run in runs]
    names = ("status", *results_of(runs), *SETTINGS, *COSTS, *methods_of(runs))
    table, same = _differing("run", lines, names, _always(runs))
    return _named(table, [run.label for run in runs]), same


def summary(runs: Sequence[Run], groups: Sequence[Group]) -> tuple[Table, str]:
    """A row per setting, mean ± standard deviation over its repetitions; and in a line what is the same for all."""
    lines = []
    for one in groups:
        members = [runs[r] for r in one.members if runs[r].status != "incomplete"]
        silent = all(run.silent for run in members)
        line = {"runs": count(len(members))}
        first = runs[one.members[0]]
        for side in ("train", "test"):
            values = [run.last(first.measure.column(side)) for run in members]
            line[f"{side} {first.measure.title}"] = spread(values)
            line |= published(first, side, _mean(values))
        line["disagreement"] = spread([] if silent else [run.last("disagreement") for run in members])
        for name in dict.fromkeys(name for run in members for name in baselines(run)):
            known = [found[name] for run in members if name in (found := baselines(run))]
            line[name] = spread([float(cell.sort) for cell in known])
        for name, column in (("epochs", "epoch"), ("rounds", "rounds"), ("bytes over links", "bytes")):
            values = [] if silent and name != "epochs" else [run.last(column) for run in members]
            line[name] = spread(values, size if column == "bytes" else "{:,.0f}".format)
        lines.append(line)
    names = ("runs", *results_of(runs), *COSTS, *methods_of(runs))
    table, same = _differing("setting", lines, names, _always(runs))
    return _named(table, [one.label for one in groups]), same


def _named(table: Table, labels: Sequence[str]) -> Table:
    return Table(table.head, [[Cell(label), *row] for label, row in zip(labels, table.rows, strict=True)])


def _always(runs: Sequence[Run]) -> set[str]:
    """What the tables show even where it is the same for all runs."""
    return {f"{side} {run.measure.title}" for run in runs for side in ("train", "test")}


def _differing(
    first: str, lines: Sequence[dict[str, Cell]], names: Sequence[str], always: Collection[str]
) -> tuple[Table, str]:
    """A table of the results and of what is not the same in all `lines`, and a text of what is."""
    kept, same = [], []
    for name in dict.fromkeys(names):
        cells = [line.get(name, Cell(NONE)) for line in lines]
        if name not in always and len({(cell.text, cell.exact) for cell in cells}) == 1:
            same.append(_said(name, cells[0].text))
        else:
            kept.append(name)
    rows = [[line.get(name, Cell(NONE)) for name in kept] for line in lines]
    return Table([first, *kept], rows), ", ".join(filter(None, same))


def _said(name: str, text: str) -> str:
    """A fact in a sentence."""
    if text == NONE:
        return ""
    if name in ("epochs", "rounds", "nodes", "ranks", "runs"):
        noun = name.removesuffix("s") if text == "1" else name
        return f"{text} {noun} each" if name == "runs" else f"{text} {noun}"
    if name == "bytes over links":
        return f"{text} over links"
    return text if name in ("status", "optimizer") else f"{name} {text}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    with np.errstate(all="ignore"):
        return float(np.mean(known)) if known else None


def ledger(run: Run) -> Table:
    """Messages and bytes by phase and kind."""
    lines = run.ledger or []
    head = ["phase", "kind", "rounds", "radio broadcasts", "radio bytes", "link messages", "link bytes"]
    missing = [name for name in ("lost", "late") if any(line.get(f"{name}_messages") for line in lines)]
    rows = []
    for line in lines:
        physical = line["phase"] == "physical"
        kind = "all" if line["field"] == "all" else PAYLOADS.get(line["field"], line["field"])
        rounds = Cell(NONE) if physical else count(line["rounds"])
        radio = [Cell(NONE)] * 2 if physical else [count(line["radio_messages"]), amount(line["radio_bytes"])]
        link = [count(line["link_messages"]), amount(line["link_bytes"])]
        phase = PHASES.get(line["phase"], line["phase"])
        gone = [Cell(NONE) if physical else count(line[f"{name}_messages"]) for name in missing]
        rows.append([Cell(phase), Cell("MPI sends" if physical else kind), rounds, *radio, *link, *gone])
    return Table([*head, *missing], rows)


def verification(run: Run) -> Table | None:
    """The comparisons with the reference; None if none was made."""
    if not run.verification:
        return None
    rows = []
    for made in run.verification:
        passed = bool(made.get("passed"))
        rows.append([
            Cell(str(made.get("number", ""))), Cell(str(made.get("name", ""))),
            measure(as_float(made.get("error"))), measure(as_float(made.get("tolerance"))),
            Cell("pass" if passed else "FAIL", tone="good" if passed else "bad"),
        ])  # fmt: skip
    return Table(["no.", "comparison", "error", "allowed", "result"], rows)


def by_group(groups: Sequence[Group], columns: dict[str, list[str]]) -> Table:
    """A row per group, a column per key; where its runs differ, the cell has the values of all."""
    rows = [
        [
            Cell(one.label),
            *(guess(_several([values[r] for r in one.members])) for values in columns.values()),
        ]
        for one in groups
    ]
    return Table(["setting" if any(len(one.members) > 1 for one in groups) else "run", *columns], rows)


def _several(values: Sequence[str]) -> str:
    found = list(dict.fromkeys(values))
    return ", ".join(found if len(found) <= MANY else [*found[: MANY - 1], "…", found[-1]])


def pairs(content: dict[str, Any]) -> Table:
    """A row per key."""
    return Table(["key", "value"], [[Cell(key), Cell(value)] for key, value in flatten(content).items()])
