"""The local greedy solver for independent sets of large weight: a message-passing program of nodes that decide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fdtrain.graph import Neighbourhood
from fdtrain.ledger import Ledger
from fdtrain.partition import ExchangePlan
from fdtrain.transport.base import Transport
from fdtrain.wire import Payload, Wire

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

UNDECIDED, IN, OUT = 0.0, 1.0, 2.0
_ROUNDS = 2**20  # set aside for one solution: at most |V| + 1 are needed


class LocalGreedy:
    """On one topology, for samples that share their messages (SPEC §6 C; Joo and Shroff, IEEE Trans. Netw. 2009).

    In the first round every node tells its weight. Then, in every round, a node that is undecided joins if it beats all
    neighbours that are not known to be decided, or leaves if one of them is known to have joined; ties go to the lower
    number. What it has become it tells over the links that are *live*: as long as both ends have told nothing but
    "undecided". Both ends know that, so the rounds end without anybody asking whether they may: a node is silent when
    all its links are dead, and a rank when all its nodes are. The result is that of greedy choice by weight over the
    whole graph: a maximal independent set.
    """

    def __init__(self, hood: Neighbourhood, plan: ExchangePlan, transport: Transport, ledger: Ledger) -> None:
        self._plan, self._transport, self._ledger = plan, transport, ledger
        self._wires: dict[int, Wire] = {}  # by w; the rows of the round before may still be wanted
        self._n, self._own, self._columns = hood.num_nodes, plan.own, plan.columns
        self._yields = (hood.indices < hood.ids[plan.own])[:, None]  # [m, 1] to a neighbour of equal weight
        self._linked = np.flatnonzero(hood.degrees)
        self._starts = plan.indptr[:-1][self._linked]
        self._peer = np.full(len(plan.columns), -1)  # [m] the place of the neighbour's rank among the peers
        for place, peer in enumerate(plan.peers):
            ghosts = (plan.columns >= peer.ghosts.start) & (plan.columns < peer.ghosts.stop)
            self._peer[ghosts] = place

    def solve(self, weights: Array, phase: str) -> Flags:
        """Which nodes join, [n, w], by `weights` [n, w], finite, of any sign; rounds count under `phase`."""
        n, w = weights.shape
        own, columns, transport = self._own, self._columns, self._transport
        if w not in self._wires:
            self._wires[w] = Wire(self._plan, w)
        layout = self._wires[w].layout(Payload(phase, (("decisions", w),)))
        layout.rows[:n] = weights
        layout.exchange(transport)
        self._ledger.record(phase, {"weights": w}, 1, len(self._linked), len(own))
        told = layout.rows.copy()
        mine, theirs = told[own], told[columns]
        beaten = (theirs > mine) | (self._yields & (theirs == mine))
        told, state = np.full(told.shape, UNDECIDED), np.full((n, w), UNDECIDED)
        live, sent, first = np.ones((len(own), w), dtype=np.bool_), list[tuple[int, int]](), transport.rounds
        while True:
            known = told[columns]
            leaves = self._any(known == IN)
            waits = self._any(beaten & (known == UNDECIDED))
            state[(state == UNDECIDED) & leaves] = OUT
            state[(state == UNDECIDED) & ~waits] = IN
            carrying = live.any(axis=1)
            if not carrying.any():
                break
            peers = [place for place in np.unique(self._peer[carrying]).tolist() if place >= 0]
            layout.rows[:n] = state
            layout.exchange_with(peers, transport)
            told[:n] = state
            for place in peers:
                ghosts = self._plan.peers[place].ghosts
                told[ghosts] = layout.rows[ghosts]
            sent.append((len(np.unique(own[carrying])), int(carrying.sum())))
            live &= (told[own] == UNDECIDED) & (told[columns] == UNDECIDED)
        transport.rounds = first + _ROUNDS  # others may have more to say to each other
        self._ledger.record_talk(phase, "states", w, sent)
        chosen: Flags = state == IN
        return chosen

    def _any(self, flags: Flags) -> Flags:
        """Whether any of a node's links has the flag, from [m, w] to [n, w]."""
        found = np.zeros((self._n, flags.shape[1]), dtype=np.bool_)
        if len(self._linked):
            found[self._linked] = np.logical_or.reduceat(flags, self._starts, axis=0)
        return found
