"""What a run says when it is done."""

from __future__ import annotations

import json
import math
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from fdtrain.minibatches import averages, title
from fdtrain.progress import PHASES, duration, size
from fdtrain.rundir import RunDirectory
from fdtrain.service import EpochRow
from fdtrain.topology.connectivity import summary as connectivity


def summarize(run: RunDirectory) -> RenderableType:
    """The result and the cost of a run, from its files."""
    rows, ledger = run.read_metrics(), run.read_ledger()
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    count = {(line["phase"], line["field"]): line for line in ledger}
    train, physical, last = count["train", "all"], count["physical", "mpi"], rows[-1]
    seconds = environment["wall_seconds"]
    results = _results(run, last)
    after = f"after {last.epoch} epoch{'s' * (last.epoch != 1)}"
    table = Table(
        title=None if results else "Result", title_justify="left", show_header=False, box=None, pad_edge=False
    )
    if results:
        results.title = f"Result {after}"
    else:
        reached = f"train {last.train:.5g}, test {last.test:.5g} {last.measure.unit}".rstrip()
        table.add_row(last.measure.name, f"{reached} {after}")
    if train["rounds"]:
        table.add_row("disagreement", f"{last.disagreement:.4g}")
        table.add_row(
            "rounds", f"{train['rounds']:,} of training, {count['test', 'all']['rounds']:,} of testing"
        )
        radio, link = train["radio_messages"], train["link_messages"]
        table.add_row("radio", f"{radio:,} broadcasts, {size(train['radio_bytes'])}")
        whole = _missing(train)
        of_part = ", or a part of them" if whole else ""
        table.add_row("links", f"{link:,} messages, {size(train['link_bytes'])}{whole}{of_part}")
        for phase, field in count:
            if phase == "train" and field != "all":
                spent = count[phase, field]
                table.add_row("", f"{field}: {size(spent['link_bytes'])}{_missing(spent)}")
        for phase, name in PHASES.items():
            if (phase, "all") in count:
                spent = count[phase, "all"]
                messages = f"{spent['link_messages']:,} messages, {size(spent['link_bytes'])}"
                table.add_row(name, f"{messages} in {spent['rounds']:,} rounds")
        table.add_row("physical", f"{physical['link_messages']:,} sends, {size(physical['link_bytes'])}")
    watched = run.read_connectivity()
    if watched:
        table.add_row("connectivity", connectivity(watched))
    table.add_row("time", f"{duration(seconds)} on {environment['ranks']} rank(s)")
    table.add_row("files", escape(str(run.path)))
    return Group(results, "", table) if results else table


def _missing(count: dict[str, Any]) -> str:
    """How many of the link messages were lost or late; nothing where all arrived."""
    parts = [
        f"{count[name] / count['link_messages']:.1%} {what}"
        for name, what in (("lost_messages", "lost"), ("late_messages", "late"))
        if count.get(name)
    ]
    return f"; {', '.join(parts)}" if parts else ""


def _results(run: RunDirectory, last: EpochRow) -> Table | None:
    """The run's measure beside what other methods reach on the same samples; None if it was compared with none."""
    means = averages(run.read_minibatches()) if run.has_minibatches() else {}
    tested = run.read_test_baselines()
    if not means and not tested:
        return None
    table = Table(title_justify="left", box=None, pad_edge=False, header_style="")
    table.add_column(last.measure.label)
    for side in ("train", "test"):
        table.add_column(side, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    sizes = [last.train, last.test, *(found.mean for found in means.values()), *tested.values()]
    largest = max((abs(value) for value in sizes if math.isfinite(value)), default=0.0)
    decimals = max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 0

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.{decimals}f}"

    table.add_row("this run", number(last.train), number(last.test))
    for name in dict.fromkeys([*means, *tested]):
        found, note = means.get(name), ""
        if found and not math.isclose(found.own, last.train, rel_tol=1e-9):
            note = f"(this run on the same {found.evaluated:,} mini-batches: {number(found.own)})"
        value = tested.get(name)
        if value is not None and math.isnan(value):
            value, note = None, "(not known of all test samples)"
        table.add_row(title(name), number(found and found.mean), number(value), note)
    return table
