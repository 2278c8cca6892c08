"""Timelines as files in the trace event format, which Perfetto and chrome://tracing show.

A line per event, so that the files of all ranks are joined by copying lines.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from fdtrain.profile.recorder import Recorder, Span
from fdtrain.rounds import Field, Round

LARGE = 32 * 2**20  # bytes of a joined file that is compressed
_OPENING, _CLOSING = '{"displayTimeUnit": "ms", "traceEvents": [\n', "\n]}\n"


class Place(NamedTuple):
    """Where a timeline is shown: a process for every host, a thread for every rank."""

    rank: int
    host: int  # from 0, in the order of the ranks
    name: str  # of the host


def file_of(folder: Path, rank: int) -> Path:
    """The file of one rank."""
    return folder / f"rank-{rank}.json"


def write(path: Path, recorder: Recorder, place: Place, origin: int) -> None:
    """Write what `recorder` has kept; times count from `origin`, in nanoseconds of the same clock.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8") as stream:
        stream.write(_OPENING)
        stream.write(",\n".join(_events(recorder, place, origin)))
        stream.write(_CLOSING)


def join(folder: Path, ranks: int) -> Path:
    """Join the files of all ranks into one, which is compressed where it would be large; return its path.

    Raises:
        OSError: a file cannot be read or written.
    """
    files = [file_of(folder, rank) for rank in range(ranks)]
    is_large = sum(file.stat().st_size for file in files) > LARGE
    path = folder / ("trace.json.gz" if is_large else "trace.json")
    with cast(
        "IO[str]",
        gzip.open(path, "wt", compresslevel=3, encoding="utf-8")
        if is_large
        else path.open("w", encoding="utf-8"),
    ) as stream:
        stream.write(_OPENING)
        for number, file in enumerate(files):
            if number:
                stream.write(",\n")
            stream.writelines(_lines(file))
        stream.write(_CLOSING)
    return path


def _lines(file: Path) -> Iterator[str]:
    """The events of a file, without what stands around them."""
    before = ""
    with file.open(encoding="utf-8") as stream:
        next(stream)
        for line in stream:
            if line == _CLOSING[1:]:
                before = before.rstrip("\n")
            yield before
            before = line


def _events(recorder: Recorder, place: Place, origin: int) -> Iterator[str]:
    where = {"pid": place.host, "tid": place.rank}
    for name, value in (("process_name", f"host {place.name}"), ("thread_name", f"rank {place.rank}")):
        yield json.dumps({"name": name, "ph": "M", **where, "args": {"name": value}})
    yield json.dumps({"name": "thread_sort_index", "ph": "M", **where, "args": {"sort_index": place.rank}})
    for group in recorder.groups:
        outermost_first = reversed(group.spans)  # of those that begin and end together
        for span in sorted(outermost_first, key=lambda span: (span.start, -span.stop)):
            yield _event(span, place, origin)


def _event(span: Span, place: Place, origin: int) -> str:
    head = f'{{"name": {json.dumps(span.name)}, "cat": "{span.category}", "ph": "X"'
    times = f'"ts": {_microseconds(span.start - origin)}, "dur": {_microseconds(span.stop - span.start)}'
    details = ""
    if span.details:
        details = f', "args": {json.dumps(_told(span.details))}'
    return f'{head}, {times}, "pid": {place.host}, "tid": {place.rank}{details}}}'


def _microseconds(nanoseconds: int) -> str:
    sign, size = "-" * (nanoseconds < 0), abs(nanoseconds)
    return f"{sign}{size // 1000}.{size % 1000:03}"


def _told(details: Mapping[str, Any]) -> dict[str, Any]:
    """The details of a span; mini-batches count from 1, as in all that is shown."""
    told = {key: value for key, value in details.items() if value is not None and key != "carries"}
    if "minibatch" in told:
        told["minibatch"] += 1
    carries = details.get("carries")
    if isinstance(carries, Round):
        told["fields"] = ", ".join(map(_field, carries.fields))
        told["numbers"] = carries.width
    elif carries is not None:
        told["fields"] = ", ".join(kind for kind, _ in cast("Sequence[tuple[str, int]]", carries.fields))
    return told


def _field(field: Field) -> str:
    match field.kind:
        case "slice":
            return f"slice {field.start}:{field.start + field.width}"
        case "consensus":
            return f"consensus {field.step}"
    return f"{field.kind} {field.layer}, wave {field.wave + 1}"
