"""A schedule as a timeline: what rides in which round, and how large the messages are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.figures.canvas import sheet
from fdtrain.rounds import TITLES, Field, Kind, Outline
from fdtrain.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

HEAD, TAIL = 16, 8  # rounds of a long schedule that are drawn
TINTS = ("#A6CEE9", "#F5C396", "#A8DCC8", "#EBC3DA", "#F3E9A0")  # of consecutive waves
GREYS: dict[Kind, str] = {
    "features": "#4D4D4D",
    "backward": "#969696",
    "slice": "#D0D0D0",
    "consensus": "#D0D0D0",
}


def draw_schedule(schedule: Schedule, path: Path) -> None:
    """Draw which message rides in which round, and how large the messages are.

    A column is a round. A box names the row that rides in it, and below it the wave in parentheses.
    Of a long schedule only the first and the last rounds are drawn.
    """
    rounds = schedule.rounds
    cut = len(rounds) - TAIL if len(rounds) > HEAD + TAIL + 2 else None
    shown = list(range(len(rounds))) if cut is None else [*range(HEAD), *range(cut, len(rounds))]
    at = {r: float(r if cut is None or r < HEAD else r - cut + HEAD + 2) for r in shown}
    kinds = [kind for kind in TITLES if schedule.numbers_of(kind)]
    column = 0.34 + 0.06 * max(0, len(str(schedule.travelling)) - 4)  # inches
    size = (max(6.0, 1.5 + column * (at[shown[-1]] + 1)), 2.7 + 0.62 * len(kinds))
    with sheet(path, size) as figure:
        figure.suptitle(_headline(schedule, int(size[0] * 13)), x=0.01, ha="left", fontsize=10)
        lanes, bars = figure.subplots(2, sharex=True, height_ratios=[0.62 * len(kinds), 1.3])
        _draw_lanes(lanes, schedule, kinds, at)
        _draw_sizes(bars, schedule, kinds, at)
        ticks = [r for r in shown if len(shown) <= 12 or r % 2 == 0 or (r == shown[-1] and cut is None)]
        bars.set(xticks=[at[r] for r in ticks], xlabel="round", xlim=(-0.7, at[shown[-1]] + 0.7))
        bars.set_xticklabels([str(r) for r in ticks], fontsize=8)
        if cut is not None:
            left_out = f"{cut - HEAD:,} rounds" + ("\nleft out" if len(kinds) == 1 else " left out")
            middle = (len(kinds) - 1) / 2
            lanes.text(
                HEAD + 0.5, middle, left_out, rotation=90, ha="center", va="center", fontsize=8, zorder=4
            )
            for axes in (lanes, bars):
                axes.axvspan(HEAD - 0.25, HEAD + 1.25, color="white", zorder=3, clip_on=False)
            bars.text(HEAD + 0.5, 0, "…", ha="center", va="bottom", zorder=4)


def _headline(schedule: Schedule, characters: int) -> str:
    batch = f"B = {schedule.batch:,}, w = {schedule.wave:,}"
    first = f"{schedule.scheme}, {schedule.outline.title.replace('-', '–')}, {batch}"
    second = (
        f"{len(schedule.rounds):,} rounds per mini-batch; message: {schedule.average_width:,.1f} numbers on "
        f"average, {schedule.peak_width:,} at most"
    )
    return textwrap.fill(first, characters) + "\n" + textwrap.fill(second, characters)


def _symbol(field: Field, outline: Outline) -> str:
    if field.kind == "slice":
        return f"{field.start}\n:{field.start + field.width}"
    if field.kind == "consensus":
        return f"{field.step}\n({field.wave})"
    hop = outline.hops[field.layer - 1]
    return f"${hop.sends if field.kind == 'features' else hop.returns}$\n({field.wave})"


def _draw_lanes(axes: Axes, schedule: Schedule, kinds: Sequence[Kind], at: dict[int, float]) -> None:
    from matplotlib.patches import Rectangle

    for r, x in at.items():
        for field in schedule.rounds[r].fields:
            y = kinds.index(field.kind)
            colour = "#EEEEEE" if field.kind == "slice" else TINTS[field.wave % len(TINTS)]
            axes.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, facecolor=colour, edgecolor="none"))
            axes.text(x, y, _symbol(field, schedule.outline), ha="center", va="center", fontsize=7)
    outline = schedule.outline
    keys = [
        {"slice": "slices of what is\nmixed (from:to)", "consensus": "consensus, step\n(wave)"}.get(
            kind, f"{TITLES[kind]}\n${outline.sends if kind == 'features' else outline.returns}$ (wave)"
        )
        for kind in kinds
    ]
    axes.set(ylim=(len(kinds) - 0.5, -0.5), yticks=range(len(kinds)), yticklabels=keys)
    axes.tick_params(bottom=False, left=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_sizes(axes: Axes, schedule: Schedule, kinds: Sequence[Kind], at: dict[int, float]) -> None:
    from matplotlib.ticker import MaxNLocator

    x, base = list(at.values()), np.zeros(len(at), dtype=np.int64)
    for kind in kinds:
        part = [sum(f.width for f in schedule.rounds[r].fields if f.kind == kind) for r in at]
        axes.bar(x, part, 0.92, bottom=base, color=GREYS[kind], label=TITLES[kind])
        base = base + part
    upright = len(at) <= 8 or max(len(f"{total:,}") for total in base) <= 5
    above: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    for place, total in zip(x, base, strict=True):
        axes.annotate(f"{total:,}", (place, total), fontsize=7, rotation=0 if upright else 90, **above)
    axes.set_ylim(0, max(schedule.peak_width, 1) * (1.2 if upright else 1.5))
    axes.set_ylabel("message size\n(numbers)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1, fontsize=8)
