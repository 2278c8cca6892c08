"""Which rank hosts which node, and what a rank exchanges with which peer in every round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.graph import Neighbourhood

Index = NDArray[np.int64]


def block(nodes: int, ranks: int) -> Index:
    """The owner [V] of every node: consecutive blocks whose sizes differ by at most one."""
    return np.arange(nodes) * ranks // nodes


@dataclass(frozen=True, eq=False)
class Peer:
    """What this rank exchanges with another one: each row goes once, however many neighbours wait for it there."""

    rank: int
    rows: Index  # our nodes (positions 0 … n−1) with a neighbour there, by ascending global number
    ghosts: slice  # where their rows are placed, in the same order on their side


@dataclass(frozen=True, eq=False)
class ExchangePlan:
    """The rows that a rank sees, its own n first, then its *ghosts*: its nodes' neighbours on other ranks.

    Ghosts lie by (rank, global number), so that each peer's message is received in place. Made once per topology, from
    the rank's own neighbourhood alone: both sides of a link derive the same order.
    """

    nodes: int  # n
    seen: int  # n + ghosts
    indptr: Index  # [n + 1] of the neighbourhood
    columns: Index  # [m] row of each neighbour among the seen rows
    own: Index  # [m] row of each edge's receiver, 0 … n−1
    peers: tuple[Peer, ...]
    out_degrees: Index  # [n] neighbours of each node, on whatever rank

    @classmethod
    def of(cls, hood: Neighbourhood, rank: int) -> ExchangePlan:
        """The plan of `rank`, which hosts the nodes of `hood`."""
        n = hood.num_nodes
        own = np.repeat(np.arange(n), hood.degrees)
        remote = np.flatnonzero(hood.owners != rank)
        ghosts, owners = _ghosts(hood.indices[remote], hood.owners[remote])
        known = np.concatenate([hood.ids, ghosts])
        row = np.empty(int(known.max(initial=-1)) + 1, dtype=np.int32 if len(known) < 2**31 else np.int64)
        row[known] = np.arange(len(known))  # of every global number that this rank sees
        columns = row[hood.indices].astype(np.int64)
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        stops = [*firsts[1:].tolist(), len(ghosts)][: len(firsts)]
        by_owner = remote[np.argsort(_short(hood.owners[remote]), kind="stable")]
        ends = np.searchsorted(hood.owners[by_owner], owners[firsts], side="right").tolist()
        peers, begin = list[Peer](), 0
        for first, stop, end in zip(firsts.tolist(), stops, ends, strict=True):
            waited_for = own[by_owner[begin:end]]  # ascending
            rows = waited_for[np.diff(waited_for, prepend=-1) > 0]
            peers.append(Peer(int(owners[first]), rows, slice(n + first, n + stop)))
            begin = end
        return cls(n, len(known), hood.indptr, columns, own, tuple(peers), hood.degrees)


def _ghosts(numbers: Index, owners: Index) -> tuple[Index, Index]:
    """The global numbers [m] of neighbours on other ranks, each once, by rank and number; and the rank of each."""
    owner = np.full(int(numbers.max(initial=-1)) + 1, -1, dtype=np.int32)
    owner[numbers] = owners
    ghosts = np.flatnonzero(owner >= 0)
    order = np.argsort(_short(owner[ghosts]), kind="stable")
    ghosts = ghosts[order]
    return ghosts, owner[ghosts].astype(np.int64)


def _short(ranks: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in 16 bits, where they fit: a stable sort of those takes linear time."""
    fits = not len(ranks) or int(ranks.max()) < 2**16
    return ranks.astype(np.uint16) if fits else ranks
