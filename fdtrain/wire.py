"""From the fields of a round to one buffer per peer, and back, with as little copying as possible.

The rows of all seen nodes lie in one array [seen, width], a node's fields side by side. Layers write their messages
into the first n rows; a peer's rows are received in place below; sums over neighbours read the array as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.arrays import zeros
from fdtrain.partition import ExchangePlan
from fdtrain.precision import FULL, Precision
from fdtrain.rounds import Round
from fdtrain.transport.base import Message, Transport

Array = NDArray[np.float64]


class Payload(NamedTuple):
    """What the rounds of a layout carry: a phase of the ledger, and (kind, numbers per node) of every field."""

    phase: str
    fields: tuple[tuple[str, int], ...]


class Layout:
    """How the fields of a round lie in the rows, and the buffers that carry them.

    ``rows`` [seen, width] are the messages of every seen node, the rank's own n first; ``fields[k]`` [seen, width_k]
    are the columns of field k. ``narrow`` are the fields whose rows are rounded when they are exchanged.
    """

    narrow: tuple[int, ...] = ()

    def __init__(
        self, plan: ExchangePlan, payload: Payload, store: Array, outbox: Outbox, number: int | None = None
    ) -> None:
        """Lay the rows out in `store`, and what is packed in the `outbox`; `number` is for the transport."""
        self.payload, self.number = payload, number
        self.exchanges = 0  # how often this layout went over the wire
        width = sum(width for _, width in payload.fields)
        self.rows = store[: plan.seen * width].reshape(plan.seen, width)
        self.fields = self.split(self.rows)
        self._own, self._rows = self.rows[: plan.nodes], outbox.rows
        self._outbox = outbox.store[: len(outbox.rows) * width].reshape(len(outbox.rows), width)
        buffers = [self._own if part is None else self._outbox[part] for part in outbox.parts]
        self.sends: list[Message] = [
            (peer.rank, buffer) for peer, buffer in zip(plan.peers, buffers, strict=True)
        ]
        self.receives: list[Message] = [(peer.rank, self.rows[peer.ghosts]) for peer in plan.peers]

    def split(self, rows: Array) -> list[Array]:
        """The columns of each field in `rows` [any, width]."""
        stops = accumulate(width for _, width in self.payload.fields)
        return [rows[:, a:b] for a, b in pairwise([0, *stops])]

    def exchange(self, transport: Transport, round_: Round | None = None) -> None:
        """Send the own rows to every peer that waits for them, and receive the ghosts'; in `round_` of a schedule."""
        self._pack()
        transport.post(self.sends, self.receives, self.number)
        transport.complete()
        self.exchanges += 1

    def exchange_with(self, peers: Sequence[int], transport: Transport) -> None:
        """The same with some of the peers, by their places in the plan; they have to expect it. Not counted."""
        self._pack()
        transport.post([self.sends[k] for k in peers], [self.receives[k] for k in peers])
        transport.complete()

    def _pack(self) -> None:
        if len(self._rows):
            self._own.take(self._rows, 0, self._outbox, "clip")


class Outbox:
    """Where rows of a rank's nodes are packed for its peers: once for all who wait for the same, and not at all for
    those who wait for every row."""

    def __init__(self, plan: ExchangePlan, max_width: int, dtype: Any = np.float64) -> None:
        """`max_width`: the largest message of all layouts, numbers of the `dtype` per node."""
        places: dict[bytes, slice | None] = {}
        packed: list[NDArray[np.int64]] = []
        self.parts: list[
            slice | None
        ] = []  # of every peer: its part of ``rows``; None: all own rows, unpacked
        size = 0
        for peer in plan.peers:
            key = peer.rows.tobytes()
            if key not in places and len(peer.rows) == plan.nodes:
                places[key] = None
            elif key not in places:
                places[key] = slice(size, size + len(peer.rows))
                packed.append(peer.rows)
                size += len(peer.rows)
            self.parts.append(places[key])
        self.rows = np.concatenate([*packed, np.zeros(0, dtype=np.int64)])
        self.store = zeros(size * max_width, dtype=dtype)


class Wire:
    """The layouts of one topology. They share their memory: a round is used up before the next one begins."""

    def __init__(
        self, plan: ExchangePlan, max_width: int, precision: Precision = FULL, *, numbered: bool = False
    ) -> None:
        """`max_width`: the largest message of all payloads to come, numbers per node; `precision`: their types.

        `numbered`: whether the layouts are the only ones of the transport that have numbers, and are made in the same
        order on all ranks.
        """
        self.plan, self.precision = plan, precision
        self.layouts: dict[Payload, Layout] = {}
        self.store = zeros(plan.seen * max_width, dtype=precision.arithmetic)
        self.outbox = Outbox(plan, max_width, precision.arithmetic)
        self._numbered = numbered

    def layout(self, payload: Payload) -> Layout:
        """The layout of a round with this payload."""
        if payload not in self.layouts:
            self.layouts[payload] = self._make(payload, len(self.layouts) if self._numbered else None)
        return self.layouts[payload]

    def _make(self, payload: Payload, number: int | None) -> Layout:
        return Layout(self.plan, payload, self.store, self.outbox, number)

    def settle(self, rows: Array) -> None:
        """The slices of a mini-batch are in `rows` [seen, travelling]: complete what did not come."""

    def give_back(self, mixed: Array, first: int = 0) -> None:
        """Add to the `mixed` rows of nodes from `first` [·, travelling], or of a wave's samples [·, w, travelling],
        what these nodes have kept since the last call: nothing here."""
