"""How to exchange messages that come again and again: as is fastest between these ranks, which is tried."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

import numpy as np

from fdtrain.errors import InputError
from fdtrain.partition import ExchangePlan, Peer
from fdtrain.team import Team
from fdtrain.transport.base import Kind
from fdtrain.wire import Payload, Wire

_ROUNDS = 20  # that are timed, after one that prepares
_REPEATS = 3


def choose(
    kind: Kind | Literal["auto"], plan: ExchangePlan, width: int, rounds: int | None, team: Team
) -> None:
    """Let the transport exchange in the way `kind`, or the one that is fastest for a `plan` and messages of `width`
    numbers per node; `rounds` are those until the topology changes, None: it stays. All ranks call.

    What is tried is not counted.

    Raises:
        InputError: the MPI library does not know the kind.
    """
    transport = team.transport
    if team.size == 1 or len(transport.kinds) == 1:
        return
    transport.forget()  # what an earlier job has made
    usable = transport.usable() if kind in ("auto", "neighbourhood") else transport.kinds
    if kind != "auto":
        if kind not in usable:
            raise InputError(
                f"execution.transport: {kind} does not work with this MPI library; use auto, or {' or '.join(usable)}"
            )
        transport.kind = kind
        return
    counts = transport.rounds, transport.sends, transport.sent_bytes
    seconds: dict[Kind, float] = {}
    for candidate in usable:
        transport.kind = candidate
        prepare, exchange = _time(plan, width, team)
        seconds[candidate] = exchange + (0.0 if rounds is None else prepare / rounds)
    now = transport.rounds, transport.sends, transport.sent_bytes
    transport.count(*(before - after for before, after in zip(counts, now, strict=True)))
    transport.kind = team.share(
        lambda: min(seconds, key=seconds.__getitem__), what="how to exchange messages"
    )


def _time(plan: ExchangePlan, width: int, team: Team) -> tuple[float, float]:
    """Seconds of this rank, to prepare an exchange and for one."""
    transport, wire = team.transport, Wire(_exchanged(plan), width, numbered=True)
    layout, spent = wire.layout(Payload("trial", (("trial", width),))), list[float]()
    team.control.meet()
    start = time.perf_counter()
    layout.exchange(transport)
    prepared = time.perf_counter()
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        for _ in range(_ROUNDS):
            layout.exchange(transport)
        spent.append((time.perf_counter() - begin) / _ROUNDS)
    team.control.meet()
    transport.forget()
    return prepared - start, float(np.median(spent))


def _exchanged(plan: ExchangePlan) -> ExchangePlan:
    """The plan of those rows alone that are sent or received."""
    sent = np.unique(np.concatenate([*(peer.rows for peer in plan.peers), np.zeros(0, np.int64)]))
    shift = len(sent) - plan.nodes
    peers = [
        Peer(
            peer.rank,
            np.searchsorted(sent, peer.rows),
            slice(peer.ghosts.start + shift, peer.ghosts.stop + shift),
        )
        for peer in plan.peers
    ]
    return replace(plan, nodes=len(sent), seen=plan.seen + shift, peers=tuple(peers))
