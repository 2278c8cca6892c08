"""What later mini-batches depend on, of a rank's nodes or of all nodes: cut and joined by who hosts whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.states import Scalar, alike

Index = NDArray[np.int64]


class Kept(NamedTuple):
    """What is known of directed links, each kept by its receiver."""

    receivers: Index  # [k] global numbers
    senders: Index  # [k]
    rows: NDArray[Any]  # [k, …]


@dataclass
class Snapshot:
    """After a mini-batch; of n nodes, by ascending global number."""

    nodes: dict[str, NDArray[Any]] = field(default_factory=dict)  # [n, …]
    links: dict[str, Kept] = field(default_factory=dict)
    counters: dict[str, Scalar] = field(default_factory=dict)  # the same on every rank

    def as_dict(self) -> dict[str, Any]:
        """Numbers, texts and arrays in dictionaries."""
        links = {name: list(columns) for name, columns in self.links.items()}
        return {"nodes": self.nodes, "links": links, "counters": self.counters}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Snapshot:
        """What :meth:`as_dict` gave."""
        links = {name: Kept(*columns) for name, columns in content["links"].items()}
        return cls(content["nodes"], links, content["counters"])


def join(parts: Sequence[Snapshot], ids: Sequence[Index]) -> Snapshot:
    """The whole of what the ranks have; rank r has the nodes ``ids[r]``. Links are by (receiver, sender).

    Raises:
        InputError: ranks differ in something that is the same at all nodes.
    """
    first = parts[0]
    for rank, part in enumerate(parts):
        for name, value in first.counters.items():
            if not alike(value, part.counters[name]):
                raise InputError(
                    f"{name} is {value!r} on rank 0 and {part.counters[name]!r} on rank {rank}; what is not an array "
                    "with a row per node must be the same everywhere"
                )
    order = np.argsort(np.concatenate(ids), kind="stable")
    nodes = {name: np.concatenate([part.nodes[name] for part in parts])[order] for name in first.nodes}
    names = dict.fromkeys(name for part in parts for name in part.links)
    links = {name: _merged([part.links[name] for part in parts if name in part.links]) for name in names}
    return Snapshot(nodes, links, dict(first.counters))


def cut(whole: Snapshot, ids: Sequence[Index]) -> list[Snapshot]:
    """What every rank has of the whole."""
    return [
        Snapshot(
            {name: rows[own] for name, rows in whole.nodes.items()},
            {
                name: Kept(*(column[np.isin(links.receivers, own)] for column in links))
                for name, links in whole.links.items()
            },
            dict(whole.counters),
        )
        for own in ids
    ]


def _merged(parts: Sequence[Kept]) -> Kept:
    receivers, senders, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((senders, receivers))
    return Kept(receivers[order], senders[order], rows[order])
