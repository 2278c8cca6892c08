"""The loop: the only place where model, schedule, wire, transport, loss and optimizer meet.

An :class:`Engine` runs on every rank, for the rank's own nodes, and knows of the graph what they know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import NeighbourSum
from fdtrain.graph import Neighbourhood
from fdtrain.layers.gcnn import Gcnn
from fdtrain.ledger import Ledger
from fdtrain.losses import Loss
from fdtrain.mixing import Mixing
from fdtrain.optim.base import Optimizer
from fdtrain.partition import ExchangePlan
from fdtrain.passes import Pass, Sums
from fdtrain.schedule import Schedule
from fdtrain.shifts import check_shift, shift_row, strengths
from fdtrain.transport.base import Transport
from fdtrain.wire import Layout, Payload, Wire

Array = NDArray[np.float64]


class Engine:
    """One rank's nodes: their parameters, their neighbourhoods, and how they train."""

    def __init__(
        self,
        model: Gcnn,
        shift: str,
        loss: Loss,
        optimizer: Optimizer[Any],
        mixing: Mixing,
        transport: Transport,
        theta: Array,
    ) -> None:
        """`theta` [n, p] are the nodes' initial parameters; call :meth:`rewire` before anything else."""
        self.model, self.shift, self.loss = model, shift, loss
        self.optimizer, self.mixing, self.transport = optimizer, mixing, transport
        self.n = len(theta)
        self.theta = theta.copy()
        self.grad = np.zeros_like(self.theta)
        self.state = optimizer.init(theta)
        self.ledger = Ledger()
        self._sent_before = transport.sends, transport.sent_bytes
        self.wire: Wire | None = None
        self._theta_views = model.layer_views(self.theta)
        self._grad_views = model.layer_views(self.grad)
        self._passes: dict[tuple[str, Schedule], Pass] = {}

    def rewire(self, hood: Neighbourhood, programme: Sequence[tuple[str, Schedule]]) -> None:
        """Take a new topology, of which this rank knows `hood`; `programme` is what will run on it.

        A schedule runs in the phase ``"train"`` or ``"test"``, under which the ledger counts it.

        Raises:
            InputError: a node has no row of S (isolated, under a normalised shift).
        """
        self.settle()
        plan = ExchangePlan.of(hood, self.transport.rank)
        self.wire = Wire(plan, max(2, *(schedule.peak_width for _, schedule in programme)))
        sums = self._weigh(hood, self.wire)
        for key in programme:
            if key not in self._passes:
                self._passes[key] = Pass(self.model, self.loss, *key, self.n)
            self._passes[key].bind(self.wire, sums, self._theta_views, self._outgoing)

    def minibatch(self, schedule: Schedule, x: Array, y: Array) -> Array:
        """Train on the samples x [n, B, g_0], y [n, B, g_L]; return Σ_b ℓ_i before the update, [n].

        A schedule without a backward pass (scheme ``inference``) leaves the parameters as they are.
        """
        with np.errstate(all="ignore"):  # what is not finite is looked for in θ
            return self._train(schedule, x, y)

    def _train(self, schedule: Schedule, x: Array, y: Array) -> Array:
        pass_ = self._passes["train", schedule]
        if not schedule.trains:
            return self._run(pass_, x, y)
        loss = self._run(pass_, x, y)
        if not (self.optimizer.mixes_gradient and schedule.exchange == "after_batch"):  # then it was sent
            pass_.gradient(self._grad_views)
        self.state = self.optimizer.step(self.grad, pass_.mixed, self.state)
        np.copyto(self.theta, self.optimizer.theta(self.state))
        return loss

    def _outgoing(self, pass_: Pass, wave: int | None) -> Array:
        if self.optimizer.mixes_gradient:
            pass_.gradient(self._grad_views, wave)
        return self.optimizer.outgoing(self.state, self.grad)

    def infer(self, schedule: Schedule, x: Array, y: Array) -> Array:
        """Forward only, every node with its own θ^i; return Σ_b ℓ_i, [n]."""
        with np.errstate(all="ignore"):
            return self._run(self._passes["test", schedule], x, y)

    def layouts(self, schedule: Schedule) -> list[Layout]:
        """The rounds of a training `schedule` as they go over the wire."""
        return [step.program.layout for step in self._passes["train", schedule].steps]

    def settle(self) -> Ledger:
        """Enter the rounds that went over the wire since the last call into the ledger, and return it."""
        if self.wire is not None:
            degrees = self.wire.plan.out_degrees
            broadcasts, links = int((degrees > 0).sum()), int(degrees.sum())
            for (phase, fields), layout in self.wire.layouts.items():
                self.ledger.record(phase, dict(fields), layout.exchanges, broadcasts, links)
                layout.exchanges = 0
        messages, size = self._sent_before
        self.ledger.physical_messages = self.transport.sends - messages
        self.ledger.physical_bytes = self.transport.sent_bytes - size
        return self.ledger

    def _run(self, pass_: Pass, x: Array, y: Array) -> Array:
        pass_.load(x, y)
        pass_.run(self.transport)
        return pass_.per_node_loss()

    def _weigh(self, hood: Neighbourhood, wire: Wire) -> Sums:
        """One round in which degrees travel; after it every node has its rows of S, of Sᵀ and of W."""
        strength, degrees = strengths(hood), hood.degrees.astype(np.float64)
        check_shift(self.shift, strength, hood.ids)
        layout = wire.layout(Payload("setup", (("degrees", 2),)))
        (rows,) = layout.fields
        rows[: self.n] = np.stack([strength, degrees], axis=1)
        layout.exchange(self.transport)
        plan = wire.plan
        other_strength, other_degrees = rows[plan.columns].T
        forward, diagonal = shift_row(self.shift, strength, plan.own, hood.weights, other_strength)
        backward, _ = shift_row(self.shift, strength, plan.own, hood.reverse_weights, other_strength)
        sums = NeighbourSum(plan, hood.ids, hood.indices)
        return Sums(
            sums.weigh(forward, diagonal),
            sums.weigh(backward, diagonal),
            sums.weigh(*self.mixing.row(degrees, plan.own, other_degrees)),
        )
