"""From the fields of a round to one buffer per peer, and back, with as little copying as possible.

The rows of all seen nodes lie in one array [seen, width], a node's fields side by side. Layers write their messages
into the first n rows; a peer's rows are received in place below; sums over neighbours read the array as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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

    def __init__(self, plan: ExchangePlan, payload: Payload, store: Array) -> None:
        self.payload = payload
        self.exchanges = 0  # how often this layout went over the wire
        width = sum(width for _, width in payload.fields)
        self.rows = store[: plan.seen * width].reshape(plan.seen, width)
        self.fields = self.split(self.rows)
        self._own = self.rows[: plan.nodes]
        self._packed: list[tuple[NDArray[np.int64], Array]] = []
        buffers: dict[bytes, Array] = {}
        self.sends: list[Message] = []
        for peer in plan.peers:
            key = peer.rows.tobytes()
            if key not in buffers and len(peer.rows) == plan.nodes:
                buffers[key] = self._own
            elif key not in buffers:
                buffers[key] = np.empty((len(peer.rows), width), dtype=store.dtype)
                self._packed.append((peer.rows, buffers[key]))
            self.sends.append((peer.rank, buffers[key]))
        self.receives: list[Message] = [(peer.rank, self.rows[peer.ghosts]) for peer in plan.peers]

    def split(self, rows: Array) -> list[Array]:
        """The columns of each field in `rows` [any, width]."""
        stops = accumulate(width for _, width in self.payload.fields)
        return [rows[:, a:b] for a, b in pairwise([0, *stops])]

    def exchange(self, transport: Transport, round_: Round | None = None) -> None:
        """Send the own rows to every peer that waits for them, and receive the ghosts'; in `round_` of a schedule."""
        self._pack()
        transport.post(self.sends, self.receives)
        transport.complete()
        self.exchanges += 1

    def exchange_with(self, peers: Sequence[int], transport: Transport) -> None:
        """The same with some of the peers, by their places in the plan; they have to expect it. Not counted."""
        self._pack()
        transport.post([self.sends[k] for k in peers], [self.receives[k] for k in peers])
        transport.complete()

    def _pack(self) -> None:
        for rows, buffer in self._packed:
            self._own.take(rows, 0, buffer, "clip")


class Wire:
    """The layouts of one topology. They share their memory: a round is used up before the next one begins."""

    def __init__(self, plan: ExchangePlan, max_width: int, precision: Precision = FULL) -> None:
        """`max_width`: the largest message of all payloads to come, numbers per node; `precision`: their types."""
        self.plan, self.precision = plan, precision
        self.layouts: dict[Payload, Layout] = {}
        self._store: Array = np.zeros(plan.seen * max_width, precision.arithmetic)

    def layout(self, payload: Payload) -> Layout:
        """The layout of a round with this payload."""
        if payload not in self.layouts:
            self.layouts[payload] = Layout(self.plan, payload, self._store)
        return self.layouts[payload]

    def settle(self, rows: Array) -> None:
        """The slices of a mini-batch are in `rows` [seen, travelling]: complete what did not come."""

    def give_back(self, mixed: Array) -> None:
        """Add to the `mixed` rows [n, travelling], or of a wave's samples [n, w, travelling], what their own nodes have
        kept since the last call: nothing here."""
