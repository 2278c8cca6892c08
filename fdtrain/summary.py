"""What a run says when it is done."""

from __future__ import annotations

import json

from rich.markup import escape
from rich.table import Table

from fdtrain.minibatches import averages, title
from fdtrain.progress import duration, size
from fdtrain.rundir import RunDirectory


def summarize(run: RunDirectory) -> Table:
    """The result and the cost of a run, from its files."""
    rows, ledger = run.read_metrics(), run.read_ledger()
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    count = {(line["phase"], line["field"]): line for line in ledger}
    train, physical, last = count["train", "all"], count["physical", "mpi"], rows[-1]
    seconds = environment["wall_seconds"]
    table = Table(title="Result", title_justify="left", show_header=False, box=None, pad_edge=False)
    reached = f"train {last.train:.5g}, test {last.test:.5g} {last.measure.unit}".rstrip()
    table.add_row(last.measure.name, f"{reached} after {last.epoch} epoch{'s' * (last.epoch != 1)}")
    if run.has_minibatches():
        for name, (mean, own, some) in averages(run.read_minibatches()).items():
            table.add_row(
                "", f"{title(name)} {mean:.5g} on {some:,} of its mini-batches, train {own:.5g} on these"
            )
    if train["rounds"]:
        table.add_row("disagreement", f"{last.disagreement:.4g}")
        table.add_row(
            "rounds", f"{train['rounds']:,} of training, {count['test', 'all']['rounds']:,} of testing"
        )
        radio, link = train["radio_messages"], train["link_messages"]
        table.add_row("radio", f"{radio:,} broadcasts, {size(train['radio_bytes'])}")
        table.add_row("links", f"{link:,} messages, {size(train['link_bytes'])}")
        for phase, field in count:
            if phase == "train" and field != "all":
                table.add_row("", f"{field}: {size(count[phase, field]['link_bytes'])}")
        table.add_row("physical", f"{physical['link_messages']:,} sends, {size(physical['link_bytes'])}")
    table.add_row("time", f"{duration(seconds)} on {environment['ranks']} rank(s)")
    table.add_row("files", escape(str(run.path)))
    return table
