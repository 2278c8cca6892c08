"""Contact traces: who met whom and when, read from a text file."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError

COLUMNS = ("time", "start", "end", "i", "j", "_")
_ALIASES = {
    "time": ("time", "t", "timestamp"),
    "start": ("start", "begin", "start_time", "t_start", "tstart"),
    "end": ("end", "stop", "end_time", "t_end", "tend"),
    "i": ("i", "source", "from", "node1", "id1", "u", "a"),
    "j": ("j", "target", "to", "node2", "id2", "v", "b"),
}
_NAME_OF = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
_BY_WIDTH = {3: ("time", "i", "j"), 4: ("start", "end", "i", "j")}


class Trace(NamedTuple):
    """M contacts."""

    start: NDArray[np.float64]  # [M] seconds
    end: NDArray[np.float64]  # [M]; the same for a contact of a moment
    names: list[tuple[str, str]]  # [M] who met


def read_trace(path: str | Path, columns: Sequence[str] | None = None) -> Trace:
    """The contacts in a file, one per line, separated by commas or whitespace; ``#`` begins a comment.

    Args:
        path: the file.
        columns: what is in the columns: ``time``, or ``start`` and ``end``; ``i`` and ``j``; ``_`` for what does not
            matter, as do all columns after the last that is named. Left out: by the header, if there is one, else
            time, i, j for three columns, and start, end, i, j for four.

    Raises:
        InputError: naming file and line: it cannot be read, or is no trace.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save the trace as plain text") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f"{path}: cannot be read: {reason}") from None
    try:
        return _parse(text, columns)
    except InputError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None  # one line, whatever it quotes


def _parse(text: str, columns: Sequence[str] | None) -> Trace:
    start, end, names = [], [], []
    layout: dict[str, int] | None = None
    whole = columns is None  # whether a line has these columns and no others
    width = 0
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        fields = _fields(line.split("#", 1)[0], number)
        if not fields:
            continue
        if layout is None:
            header = _is_header(fields)
            layout = _layout(fields, columns, header=header, number=number)
            width = len(fields) if whole else max(layout.values()) + 1
            if header:
                continue
        if len(fields) != width if whole else len(fields) < width:
            raise InputError(f"line {number}: has {len(fields)} columns, needs {width}: {_shown(fields)}")
        first, last = _times(fields, layout, number)
        start.append(first)
        end.append(last)
        names.append(_ends(fields, layout, number))
    if not names:
        raise InputError("has no contact; it needs at least 1 line such as 'time,i,j' or 'start,end,i,j'")
    return Trace(np.array(start), np.array(end), names)


def _fields(line: str, number: int) -> list[str]:
    if not line.strip():
        return []
    if "," not in line:
        return line.split()
    try:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True, strict=True))]
    except (csv.Error, StopIteration) as error:
        raise InputError(f"line {number}: not comma-separated values: {error}") from None


def _is_header(fields: list[str]) -> bool:
    """Whether a line has names of columns: those of the times among them, which are no numbers."""
    known = {_NAME_OF.get(field.lower()) for field in fields}
    return bool(known & {"time", "start", "end"})


def _layout(fields: list[str], columns: Sequence[str] | None, *, header: bool, number: int) -> dict[str, int]:
    """Where each column stands."""
    if columns is not None:
        return {name: place for place, name in enumerate(columns) if name != "_"}
    if not header:
        if len(fields) not in _BY_WIDTH:
            raise InputError(
                f"line {number}: has {len(fields)} columns: {_shown(fields)}; 3 are time, i, j, 4 are start, end, i, "
                "j; others need columns, such as [time, i, j]"
            )
        return {name: place for place, name in enumerate(_BY_WIDTH[len(fields)])}
    layout: dict[str, int] = {}
    for place, field in enumerate(fields):
        name = _NAME_OF.get(field.lower())
        if name in layout:
            raise InputError(f"line {number}: the header has two columns for {name}; set columns")
        if name is not None:
            layout[name] = place
    problem = check_columns([*layout])
    if problem:
        raise InputError(f"line {number}: the header {problem}; set columns")
    return layout


def check_columns(columns: Sequence[str]) -> str | None:
    """What is wrong with a choice of columns, in words; None: nothing."""
    named = [name for name in columns if name != "_"]
    unknown = [name for name in named if name not in COLUMNS]
    if unknown:
        return f"has '{unknown[0]:.40}', known are {', '.join(COLUMNS)}"
    if len(set(named)) < len(named):
        return f"has a column twice: {', '.join(columns)}"
    if {*named} not in ({"time", "i", "j"}, {"start", "end", "i", "j"}):
        return f"must have time, i, j or start, end, i, j, found {', '.join(columns) or 'none'}"
    return None


def _times(fields: list[str], layout: dict[str, int], number: int) -> tuple[float, float]:
    found = []
    for name in ("time",) if "time" in layout else ("start", "end"):
        field = fields[layout[name]]
        try:
            value = float(field)
        except ValueError:
            raise InputError(
                f"line {number}: {name} must be a number of seconds, found {field[:40]!r}"
            ) from None
        if not math.isfinite(value):
            raise InputError(f"line {number}: {name} must be finite, found {field[:40]}")
        found.append(value)
    if found[0] > found[-1]:
        raise InputError(
            f"line {number}: the contact ends at {found[-1]:g}, before it starts at {found[0]:g}"
        )
    return found[0], found[-1]


def _ends(fields: list[str], layout: dict[str, int], number: int) -> tuple[str, str]:
    i, j = fields[layout["i"]], fields[layout["j"]]
    if not all(name and name.isprintable() for name in (i, j)):
        raise InputError(f"line {number}: needs the names of two nodes, found {_shown([i, j])}")
    if i == j:
        raise InputError(f"line {number}: {i[:40]} meets itself; remove the line")
    return i, j


def _shown(fields: list[str]) -> str:
    return repr(" ".join(fields)[:40])
