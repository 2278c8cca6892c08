"""Which rank hosts which node, and what a rank exchanges with which peer in every round."""

from __future__ import annotations

from dataclasses import dataclass

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
        remote = hood.owners != rank
        ghost_keys = np.unique(
            np.stack([hood.owners[remote], hood.indices[remote]]), axis=1
        )  # by rank, then number
        columns = np.empty(len(hood.indices), dtype=np.int64)
        columns[~remote] = np.searchsorted(hood.ids, hood.indices[~remote])
        order = np.argsort(ghost_keys[1], kind="stable")
        place = np.searchsorted(ghost_keys[1], hood.indices[remote], sorter=order)
        columns[remote] = n + order[place]
        peers = []
        for peer in np.unique(ghost_keys[0]):
            first, last = np.searchsorted(ghost_keys[0], [peer, peer + 1])
            rows = np.unique(own[hood.owners == peer])
            peers.append(Peer(int(peer), rows, slice(n + int(first), n + int(last))))
        seen = n + ghost_keys.shape[1]
        return cls(n, seen, hood.indptr, columns, own, tuple(peers), hood.degrees)
