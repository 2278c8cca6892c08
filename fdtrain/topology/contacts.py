"""A network of recorded contacts: in every mini-batch those who met in its window of time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.section import beside
from fdtrain.topology.base import MAX_NODES, MovingSource
from fdtrain.topology.files import numbering
from fdtrain.topology.traces import Trace, check_columns, read_trace

Index = NDArray[np.int64]

MAX_WINDOWS = 2**53


class Contacts(MovingSource):
    """Recorded contacts, such as those of SocioPatterns (Cattuto et al., PLoS ONE 5, 2010) or CRAWDAD.

    Step k is the window start + k seconds ≤ time < start + (k + 1) seconds. Nodes are linked if they met in it: a line
    with its time in it, or an interval start ≤ time < end that overlaps it; one of length 0 is a moment.
    """

    kind: Literal["contacts"] = "contacts"
    path: str = Field(
        description="A text file: lines time,i,j or start,end,i,j, relative to the config.", min_length=1
    )
    columns: list[str] | None = Field(
        default=None,
        description="The columns, of time, start, end, i, j and _ for others; left out: by the header or their number.",
    )
    seconds: float = Field(
        description="Length of a window, in the trace's unit of time.", gt=0, allow_inf_nan=False
    )
    start: float | None = Field(
        default=None, description="Time at which the first window begins; left out: the first of the trace.",
        allow_inf_nan=False,
    )  # fmt: skip
    after_end: Literal["repeat", "hold", "empty"] = Field(
        default="repeat",
        description="After the last window: from the first one again, or the last one for ever, or nobody meets.",
    )
    nodes: int | list[int | str] | None = Field(
        default=None,
        description="A number V: the trace's nodes are 0 … V − 1; or their names, in this order: contacts of others "
        "do not count. Left out: all nodes of the trace.",
    )

    @field_validator("columns")
    @classmethod
    def _are_known(cls, columns: list[str] | None) -> list[str] | None:
        problem = None if columns is None else check_columns(columns)
        if problem:
            raise ValueError(problem)
        return columns

    @field_validator("nodes", mode="before")
    @classmethod
    def _are_nodes(cls, nodes: Any) -> Any:
        if isinstance(nodes, list):
            names = [str(name) for name in nodes]
            plain = all(isinstance(name, (int, str)) and not isinstance(name, bool) for name in nodes)
            if not plain or not names or len(set(names)) < len(names):
                raise ValueError(f"must be different names, at least one, found {nodes!r:.60}")
        elif nodes is not None:
            number = isinstance(nodes, int) and not isinstance(nodes, bool)
            if not number or not 1 <= nodes <= MAX_NODES:
                raise ValueError(
                    f"must be a number from 1 to {MAX_NODES:,}, or a list of names, found {nodes!r:.60}"
                )
        return nodes

    def resolved(self, base: Path | None) -> Self:
        return self.model_copy(update={"path": beside(self.path, base)})

    def trajectory(self, seed: int, purpose: str) -> _Windows:
        return _Windows.of(self, read_trace(self.path, self.columns))


@dataclass(frozen=True)
class _Windows:
    """The trace cut into windows."""

    labels: tuple[str, ...] | None
    nodes: int
    pairs: Index  # [M, 2] who met
    first: Index  # [M] the first window of the contact
    last: Index  # [M]
    windows: int  # until the last contact
    after_end: str

    @classmethod
    def of(cls, source: Contacts, trace: Trace) -> _Windows:
        number_of, labels = _numbered(source, trace)
        kept = np.array([i in number_of and j in number_of for i, j in trace.names])
        start, end = trace.start[kept], trace.end[kept]
        names = [names for names, keep in zip(trace.names, kept, strict=True) if keep]
        pairs = np.array([(number_of[i], number_of[j]) for i, j in names], dtype=np.int64).reshape(-1, 2)
        origin = float(trace.start.min()) if source.start is None else source.start
        with np.errstate(over="ignore"):
            first, stop = (start - origin) / source.seconds, (end - origin) / source.seconds
        if len(first) and max(np.abs(first).max(), np.abs(stop).max()) >= MAX_WINDOWS:
            raise InputError(
                f"{source.path}: the trace is too long for windows of {source.seconds:g}; set seconds"
            )
        first = np.floor(first).astype(np.int64)
        last = np.maximum(first, np.ceil(stop).astype(np.int64) - 1)  # an end is not in its window
        here = last >= 0
        if not here.any():
            raise InputError(
                f"{source.path}: no contact of these nodes at or after {origin:g}; set start or nodes"
            )
        first, last = np.maximum(first[here], 0), last[here]
        return cls(labels, len(number_of), pairs[here], first, last, int(last.max()) + 1, source.after_end)

    def graph(self, step: int) -> Graph:
        """Who meets in window `step`."""
        if step >= self.windows:
            step = {"repeat": step % self.windows, "hold": self.windows - 1, "empty": step}[self.after_end]
        met = np.sort(self.pairs[(self.first <= step) & (step <= self.last)], axis=1)
        return Graph.from_edges(self.nodes, np.unique(met, axis=0), labels=self.labels)


def _numbered(source: Contacts, trace: Trace) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """The number of every node, and their names, where they are not the numbers."""
    if source.nodes is None:
        return numbering([name for names in trace.names for name in names])
    if isinstance(source.nodes, list):
        names = tuple(str(name) for name in source.nodes)
        return {name: number for number, name in enumerate(names)}, names
    number_of = {str(number): number for number in range(source.nodes)}
    for i, j in trace.names:
        for name in (i, j):
            if name not in number_of:
                raise InputError(
                    f"{source.path}: has a node '{name[:40]}', but nodes are 0 … {source.nodes - 1}; "
                    "set nodes to a list of names, or leave it out"
                )
    return number_of, None
