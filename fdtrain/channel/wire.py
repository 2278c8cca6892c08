"""The wrapper of the exchange: a row of its own for every link, which may be lost without anybody else's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fdtrain.channel.links import Links
from fdtrain.channel.spec import Array, Index
from fdtrain.partition import ExchangePlan
from fdtrain.rounds import Round
from fdtrain.transport.base import Transport
from fdtrain.wire import Layout, Payload, Wire


class LossyLayout(Layout):
    """A layout whose rows [n + m, width] are the own nodes' and, one of every link, what is heard on it."""

    def __init__(self, above: Wire, payload: Payload, below: Layout, senders: Index, links: Links) -> None:
        """A layout of the wire `above`; `below` exchanges its rows, in which `senders` [m] are those of the links."""
        super().__init__(above.plan, payload, above.store, above.outbox)
        self._below, self._senders, self._links = below, senders, links

    def exchange(self, transport: Transport, round_: Round | None = None) -> None:
        n, below = len(self._own), self._below
        lossy = round_ if self.payload.phase == "train" else None
        if lossy is not None:
            self._links.prepare(lossy, self.split(self._own))
        np.copyto(below.rows[:n], self._own)
        if lossy is not None:
            self._links.send(lossy, below.split(below.rows[:n]))
        below.exchange(transport, round_)
        below.rows.take(self._senders, 0, self.rows[n:], "clip")
        if lossy is not None:
            self._links.receive(lossy, self.fields)
        self.exchanges += 1


class LossyWire(Wire):
    """The layouts of one topology over unreliable links. Its plan has a row for every link."""

    def __init__(self, plan: ExchangePlan, max_width: int, links: Links) -> None:
        n, m = plan.nodes, len(plan.columns)
        super().__init__(replace(plan, seen=n + m, columns=n + np.arange(m), peers=()), max_width)
        self._below, self._senders, self._links = Wire(plan, max_width, numbered=True), plan.columns, links

    def layout(self, payload: Payload) -> Layout:
        if payload not in self.layouts:
            below = self._below.layout(payload)
            self.layouts[payload] = LossyLayout(self, payload, below, self._senders, self._links)
        return self.layouts[payload]

    def settle(self, rows: Array) -> None:
        self._links.settle(rows)
