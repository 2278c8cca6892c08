"""A schedule as a table for the terminal: what rides in each round, and what a mini-batch costs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fdtrain.formulas import expected_rounds
from fdtrain.rounds import TITLES, Kind, Outline, Round, plain
from fdtrain.schedule import Schedule

COLOURS: dict[Kind, str] = {
    "features": "cyan",
    "backward": "yellow",
    "slice": "green",
    "consensus": "magenta",
}


def render(
    schedule: Schedule, max_rounds: int = 24, travels: Sequence[str] = (), beside: Sequence[str] = ()
) -> RenderableType:
    """The rounds of one mini-batch, at most `max_rounds` of them, and a summary. Fits 80 columns.

    `travels` names what the optimizer mixes; `beside` says what is sent besides.

    Rounds, layers and waves are numbered as in SPEC §5: rounds and waves from 0, ``x0`` the input of layer 1.
    Of a long schedule the middle is left out, and a row says how many rounds that is.
    """
    head, tail = _cut(len(schedule.rounds), max_rounds)
    kinds = [kind for kind in TITLES if schedule.numbers_of(kind)]
    per_wave = schedule.exchange == "after_wave"
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column("round", justify="right", no_wrap=True)
    for kind in kinds:
        table.add_column(TITLES[kind], overflow="fold")
    table.add_column("numbers", justify="right", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for number, round_ in enumerate(schedule.rounds):
        if number < head or number >= len(schedule.rounds) - tail:
            cells = [_cell(round_, kind, schedule.outline, per_wave=per_wave) for kind in kinds]
            table.add_row(f"{number:,}", *cells, *_size(round_.width, round_.size(schedule.precision)))
        elif number == head:
            left_out = len(schedule.rounds) - head - tail
            note = f"… {left_out:,} round{'s' * (left_out != 1)} left out"
            table.add_row("⋮", Text(note, style="dim"), *[""] * (len(kinds) + 1))
    return Group(_title(schedule), Text(), table, Text(), _summary(schedule, kinds, travels, beside))


def _cut(total: int, limit: int) -> tuple[int, int]:
    """How many of `total` rounds to show at the beginning and at the end."""
    if total <= limit:
        return total, 0
    tail = max(limit, 0) // 3
    return max(limit, 0) - tail, tail


def _cell(round_: Round, kind: Kind, outline: Outline, *, per_wave: bool) -> Text:
    entries = []
    for field in round_.fields:
        if field.kind != kind:
            continue
        if kind == "slice":
            entries.append(f"[{field.start}:{field.start + field.width}]")
        elif kind == "consensus":
            entries.append(f"step {field.step}" + f" wave {field.wave}" * per_wave)
        else:
            hop = outline.hops[field.layer - 1]
            symbol = plain(hop.sends if kind == "features" else hop.returns)
            entries.append(f"{symbol} wave {field.wave}")
    return Text(", ".join(entries), style=COLOURS[kind])


def _title(schedule: Schedule) -> Text:
    return Text.assemble(
        (schedule.scheme, "bold"),
        f", {schedule.outline.title}, B = {schedule.batch:,}, w = {schedule.wave:,}",
        f" ({len(schedule.waves):,} wave{'s' * (len(schedule.waves) != 1)})",
    )


def _summary(
    schedule: Schedule, kinds: list[Kind], travels: Sequence[str], beside: Sequence[str]
) -> RenderableType:
    rounds = len(schedule.rounds)
    formula = expected_rounds(schedule)
    agreement = Text(f"closed formula: {formula:,}", style="" if formula == rounds else "bold red")
    costs = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    costs.add_column("per node and neighbour", no_wrap=True)
    costs.add_column("numbers", justify="right", no_wrap=True)
    costs.add_column("bytes", justify="right", no_wrap=True)
    for kind in kinds:
        what = f" of {' and '.join(travels)}" if kind in ("slice", "consensus") and travels else ""
        costs.add_row(TITLES[kind] + what, *_size(schedule.numbers_of(kind), schedule.bytes_of(kind)))
    costs.add_row("mini-batch", *_size(schedule.numbers, schedule.bytes), style="bold")
    costs.add_row("average message", *_size(schedule.average_width, schedule.bytes / rounds))
    costs.add_row("peak message", *_size(schedule.peak_width, schedule.peak_bytes))
    said = [Text.assemble(f"{rounds:,} rounds per mini-batch (", agreement, ")")]
    return Group(*said, *map(Text, beside), Text(), costs)


def _size(numbers: float, size: float) -> tuple[str, str]:
    """`numbers` and their bytes; an average has two decimals."""
    digits = ",.2f" if isinstance(numbers, float) else ",d"
    return f"{numbers:{digits}}", f"{size:{digits}}"
