"""What the ranks of a profiled run spent their time on, and a few rounds of its last mini-batch."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdtrain.figures.canvas import BLUE, GREEN, ORANGE, sheet, write_around
from fdtrain.profile.recorder import CATEGORIES
from fdtrain.profile.summary import FILE
from fdtrain.profile.trace import file_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "compute": BLUE,
    "pack": "#E69F00",
    "post": ORANGE,
    "wait": "#D9D9D9",
    "control": GREEN,
    "serve": "#CC79A7",
    "rewire": "#222222",
    "other": "#F4F0E6",
}
SHOWN = 12  # ranks
ROUNDS = 8

Event = dict[str, Any]


def draw_profile(folder: Path, path: Path) -> None:
    """Draw what is in the `folder` of a profile.

    Raises:
        OSError, ValueError: it is not there, or damaged.
    """
    with (folder / FILE).open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    count = min(SHOWN, len(lines))
    chosen = [lines[k * (len(lines) - 1) // max(count - 1, 1)] for k in range(count)]
    events = {int(line["rank"]): _events(file_of(folder, int(line["rank"]))) for line in chosen}
    with sheet(path, (8.0, 2.6 + 0.36 * count)) as figure:
        shares, rounds = figure.subplots(2, 1)
        _draw_shares(shares, chosen)
        name = _draw_rounds(rounds, events)
        for axes in (shares, rounds):
            axes.set_yticks(range(count), [line["rank"] for line in chosen])
            axes.set(ylim=(count - 0.4, -0.6), ylabel="rank")
            axes.tick_params(left=False)
        handles, labels = shares.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)
        left_out = f"{count} of {len(lines)} ranks are shown." if count < len(lines) else ""
        seconds = max(float(line["seconds"]) for line in lines)
        write_around(figure, f"What ranks did in {seconds:.3g} s; below, {name}", [left_out])


def _events(file: Path) -> list[Event]:
    loaded: list[Event] = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    return [event for event in loaded if event["ph"] == "X"]


def _draw_shares(axes: Axes, lines: list[dict[str, str]]) -> None:
    ends = [0.0] * len(lines)
    for category in CATEGORIES:
        parts = [100 * float(line[category]) / float(line["seconds"]) for line in lines]
        if max(parts) < 0.05:
            continue
        axes.barh(range(len(lines)), parts, 0.72, ends, color=COLOURS[category], label=category)
        ends = [end + part for end, part in zip(ends, parts, strict=True)]
    axes.set(xlim=(0, 100), xlabel="% of the time of the whole training")


def _draw_rounds(axes: Axes, events: dict[int, list[Event]]) -> str:
    """Draw those successive rounds of the last mini-batch that took the least time on the first rank; what they are.

    Where ranks share cores, most others show little but how long a rank had to wait for one.
    """
    first = next(iter(events.values()))
    rounds = [
        event for event in first if event["cat"] == "round" and {"numbers", "minibatch"} <= {*event["args"]}
    ]
    last = max((event["args"]["minibatch"] for event in rounds), default=1)
    rounds = [event for event in rounds if event["args"]["minibatch"] == last]
    windows = [
        (a["ts"], b["ts"] + b["dur"])
        for a, b in zip(rounds, rounds[min(ROUNDS, len(rounds)) - 1 :], strict=False)
    ]
    start, stop = min(windows, key=lambda window: window[1] - window[0], default=(0.0, 1.0))
    unit, size = ("ms", 1000.0) if stop - start > 10_000 else ("µs", 1.0)
    for row, own in enumerate(events.values()):
        for category, colour in COLOURS.items():
            spans = [
                ((event["ts"] - start) / size, event["dur"] / size)
                for event in own
                if event["cat"] == category and event["ts"] < stop and event["ts"] + event["dur"] > start
            ]
            axes.broken_barh(spans, (row - 0.36, 0.72), color=colour, linewidth=0)
        ends = [(e["ts"] + e["dur"] - start) / size for e in own if e["cat"] == "round"]
        inside = [end for end in ends if 0 < end < (stop - start) / size]
        axes.vlines(inside, row - 0.46, row + 0.46, "black", linewidth=0.6)
    axes.set(xlim=(0, (stop - start) / size), xlabel=f"{unit}; a line is the end of a round")
    return f"the quickest {min(ROUNDS, len(rounds))} rounds of mini-batch {last}"
