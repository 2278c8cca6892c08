"""The loop: the only place where model, schedule, wire, transport, loss and optimizer meet.

An :class:`Engine` runs on every rank, for the rank's own nodes, and knows of the graph what they know.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain import states
from fdtrain.arrays import zeros
from fdtrain.channel.links import Links
from fdtrain.channel.wire import LossyWire
from fdtrain.errors import MessageTimeoutError
from fdtrain.graph import Neighbourhood
from fdtrain.layers.gcnn import Gcnn
from fdtrain.ledger import Ledger
from fdtrain.losses import Objective
from fdtrain.mixing import Mixing
from fdtrain.narrow import NarrowWire
from fdtrain.networks import Network
from fdtrain.optim.base import Optimizer, SampleOptimizer
from fdtrain.partition import ExchangePlan
from fdtrain.passes import Pass, Rows, compiles
from fdtrain.precision import FULL, Arithmetic, Precision
from fdtrain.programs import Program
from fdtrain.schedule import Schedule
from fdtrain.snapshot import Snapshot
from fdtrain.transport.base import Transport
from fdtrain.turns import LocalLoss, Turn
from fdtrain.wire import Wire

if TYPE_CHECKING:
    from fdtrain.compiled import CompiledPass

Array = NDArray[np.float64]
Kernel = Literal["auto", "numba", "numpy"]  # how passes are computed
_MINIBATCHES = "mini-batches"
PORTION = 4096  # nodes that are updated at once


class Engine:
    """One rank's nodes: their parameters, their neighbourhoods, and how they train."""

    def __init__(
        self,
        model: Program,
        network: Network,
        loss: Objective,
        optimizer: Optimizer[Any],
        mixing: Mixing,
        transport: Transport,
        theta: Array,
        turn: Turn | None = None,
        links: Links | None = None,
        kernel: Kernel = "auto",
        precision: Precision = FULL,
    ) -> None:
        """`theta` [n, p] are the nodes' initial parameters; call :meth:`rewire` before anything else.

        `turn` is where forward passes turn back; by default at the gradient of a :class:`Loss`.
        `links` are what messages of training may be lost on; by default they all arrive.
        `kernel` is ``"numpy"`` for passes that are not compiled.
        `precision` is that of messages, and of arithmetic.
        """
        self.model, self.network, self.loss = model, network, loss
        self.turn = turn or LocalLoss(loss)
        self.optimizer, self.mixing, self.transport = optimizer, mixing, transport
        self.links, self.kernel, self.precision = links, kernel, precision
        self.n = len(theta)
        self.t = 0  # mini-batches so far
        self.theta = theta.astype(precision.arithmetic, order="C")
        self.state = optimizer.init(self.theta.copy())
        large = self.n > PORTION and links is None and not optimizer.by_sample
        self._in_portions = large and states.has_rows(self.state, self.n)
        if self._in_portions:  # one θ for engine and optimizer, which is updated in place
            self.state = states.apart(self.state)
            self.theta = optimizer.theta(self.state)
        self.grad = zeros(*self.theta.shape, dtype=precision.arithmetic)
        self.ledger = Ledger()
        self._sent_before = transport.sends, transport.sent_bytes
        self.wire: Wire | None = None
        self.plan: ExchangePlan | None = None  # of the present topology
        self._passes: dict[tuple[str, Schedule], Pass | CompiledPass] = {}

    def rewire(self, hood: Neighbourhood, programme: Sequence[tuple[str, Schedule]]) -> None:
        """Take a new topology, of which this rank knows `hood`; `programme` is what will run on it.

        A schedule runs in the phase ``"train"`` or ``"test"``, under which the ledger counts it.

        Raises:
            InputError: a node has no row of S (isolated, under a normalised shift).
        """
        self.settle()
        self.transport.forget()
        self.wire = None  # before there is another
        for pass_ in self._passes.values():
            pass_.unbind()
        plan = self.plan = ExchangePlan.of(hood, self.transport.rank)
        widths = [max(schedule.peak_width, self.network.setup_width(schedule)) for _, schedule in programme]
        make = Wire if self.precision == FULL else NarrowWire
        self.wire = make(plan, max(widths), self.precision, numbered=True)
        if self.links is not None:
            self.links.rewire(hood, plan.own)
            self.wire = LossyWire(self.wire, max(widths), self.links)
        wiring = self.network.rewire(hood, self.wire, self.mixing, self.transport)
        if self.links is not None:
            sums = wiring.sums(programme[0][1])
            shift = sums.shared("shift", transposed=False)
            assert shift is not None
            whole = sums.mixing(np.ones((self.wire.plan.seen, 1)))[:, 0]
            self.links.weigh(plan.indptr, shift.edges, sums.mixing.edges, whole)
        self.turn.rewire(hood, plan, self.transport, self.ledger)
        take = self._step_by_sample if self.optimizer.by_sample else None
        for key in programme:
            if key not in self._passes:
                parts = self.model, self.network, self.loss, self.turn, self.optimizer
                own = self.precision.arithmetic
                self._passes[key] = make_pass(*parts, *key, self.n, self.kernel, own)
            pass_ = self._passes[key]
            pass_.bind(self.wire, wiring.sums(key[1]), self.theta, self.grad, self._outgoing, take)

    def minibatch(self, schedule: Schedule, samples: Rows) -> Array:
        """Train on the B samples; return Σ_b ℓ_i before the update, [n].

        A schedule without a backward pass (scheme ``inference``) leaves the parameters as they are.
        """
        with np.errstate(all="ignore"):  # what is not finite is looked for in θ
            return self._train(schedule, samples)

    def _train(self, schedule: Schedule, samples: Rows) -> Array:
        pass_, before = self._passes["train", schedule], self.state
        if self.links is not None:
            self.links.begin(self.t, schedule)
            if self.links.down.any():
                before = copy.deepcopy(before)  # an optimizer of a user's may write into it
        loss = self._run(pass_, samples)
        self.t += 1
        if not schedule.trains:
            return loss
        if not (self.optimizer.mixes_gradient and schedule.exchange == "after_batch"):  # then it was sent
            pass_.gradient(self.grad)
        if not self.optimizer.by_sample:
            self._step(pass_)
        if self.links is not None and self.links.down.any():
            self.state = states.select(before, self.state, self.links.down)
        theta = self.optimizer.theta(self.state)
        if theta is not self.theta:
            np.copyto(self.theta, theta)
        return loss

    def _step(self, pass_: Pass | CompiledPass) -> None:
        """Update; many nodes in portions, into the state that there is, so that no more memory is needed."""
        if not self._in_portions:
            mixed = self._incoming(pass_.mixed(0, self.n))
            self.state = self.optimizer.step(self.grad, mixed, self.state)
            return
        after = self.state
        for first in range(0, self.n, PORTION):
            stop = min(first + PORTION, self.n)
            part = states.rows(self.state, first, stop)
            mixed = self._given_back(pass_.mixed(first, stop), first)
            made = self.optimizer.step(self.grad[first:stop], mixed, part)
            after = states.put(self.state, made, first, stop)
        self.state = after

    def _outgoing(self, pass_: Pass | CompiledPass, wave: int | None, out: Array) -> None:
        if wave is not None and pass_.schedule.mixes_samples:
            self._outgoing_by_sample(pass_, wave, out)
            return
        if self.optimizer.mixes_gradient:
            pass_.gradient(self.grad, wave)
        rows = self.optimizer.outgoing(self.state, self.grad)
        if self.links is None or self.links.weights is None:
            out[...] = rows
        else:
            self.links.weights.send(rows, out)

    def _incoming(self, mixed: Array) -> Array:
        """The mixed rows, of what was mixed."""
        mixed = self._given_back(mixed)
        if self.links is None or self.links.weights is None:
            return mixed
        return self.links.weights.receive(mixed, self.links.down)

    def _outgoing_by_sample(self, pass_: Pass | CompiledPass, wave: int, out: Array) -> None:
        n, w, _ = out.shape
        gradients = out if len(self.optimizer.travels) == 1 else np.empty((n, w, self.theta.shape[1]))
        cast(Pass, pass_).tape.by_sample(wave, gradients)
        for sample in range(w):
            gradient = gradients[:, sample]
            rows = self.optimizer.outgoing(self.state, gradient)
            if rows is not gradient:  # often the gradient is what is sent
                out[:, sample] = rows

    def _step_by_sample(self, mixed: Array) -> None:
        mixed = self._given_back(mixed)
        self.state = cast(SampleOptimizer[Any], self.optimizer).steps(mixed, self.state)

    def _given_back(self, mixed: Array, first: int = 0) -> Array:
        """The mixed rows of the nodes from `first`, with what rounding took from their own."""
        assert self.wire is not None
        self.wire.give_back(mixed, first)
        return mixed

    def infer(self, schedule: Schedule, samples: Rows) -> Array:
        """Forward only, every node with its own θ^i; return Σ_b ℓ_i, [n]."""
        with np.errstate(all="ignore"):
            return self._run(self._passes["test", schedule], samples)

    def finished(self, schedule: Schedule) -> Array:
        """What the nodes made of the samples that were inferred last, [n, B, ·]: outputs, or decisions."""
        return self._passes["test", schedule].finished()

    def exchange(self, schedule: Schedule) -> None:
        """The messages of a training `schedule`, without arithmetic."""
        self._passes["train", schedule].exchange(self.transport)

    def settle(self) -> Ledger:
        """Enter the rounds that went over the wire since the last call into the ledger, and return it."""
        if self.wire is not None:
            degrees = self.wire.plan.out_degrees
            broadcasts, links = int((degrees > 0).sum()), int(degrees.sum())
            for (phase, fields), layout in self.wire.layouts.items():
                self.ledger.record(phase, dict(fields), layout.exchanges, broadcasts, links, self.precision)
                layout.exchanges = 0
        if self.links is not None:
            self.ledger.record_missing("train", self.links.lost, self.links.late)
        messages, size = self._sent_before
        self.ledger.physical_messages = self.transport.sends - messages
        self.ledger.physical_bytes = self.transport.sent_bytes - size
        return self.ledger

    def snapshot(self) -> Snapshot:
        """What later mini-batches depend on: copies."""
        state = states.flatten(self.state, self.n)
        nodes = {"theta": self.theta.copy(), "gradient": self.grad.copy(), **state.rows}
        found = Snapshot(nodes, {}, {_MINIBATCHES: self.t, **state.scalars})
        if self.links is not None:
            self.links.save(found)
        return found

    def restore(self, snapshot: Snapshot, ledger: Ledger | None) -> None:
        """Go on from a snapshot of this rank's nodes; call :meth:`rewire` before, with the topology of that time.

        What went over the wire since this engine was made is forgotten: `ledger` has the counts up to the snapshot, of
        all ranks on one of them, and None on the others.

        Raises:
            InputError: the optimizer has another state.
        """
        if self.links is not None:
            self.links.restore(snapshot)
        rows, counters = dict(snapshot.nodes), dict(snapshot.counters)
        self.t = int(cast(int, counters.pop(_MINIBATCHES)))
        np.copyto(self.theta, rows.pop("theta"))
        np.copyto(self.grad, rows.pop("gradient"))
        state = states.restored(self.state, states.Values(rows, counters))
        self.state = states.put(self.state, state, 0, self.n) if self._in_portions else state
        self.settle()
        self.ledger.replace(ledger or Ledger())
        self._sent_before = (
            self.transport.sends - self.ledger.physical_messages,
            self.transport.sent_bytes - self.ledger.physical_bytes,
        )

    def _run(self, pass_: Pass | CompiledPass, samples: Rows) -> Array:
        pass_.load(samples)
        try:
            pass_.run(self.transport)
        except MessageTimeoutError as late:
            late.add_note(pass_.where())
            raise
        return pass_.per_node_loss()


def make_pass(
    model: Program,
    network: Network,
    loss: Objective,
    turn: Turn,
    optimizer: Optimizer[Any],
    phase: str,
    schedule: Schedule,
    n: int,
    kernel: Kernel,
    arithmetic: Arithmetic = "float64",
) -> Pass | CompiledPass:
    """A pass for n nodes, compiled where it can be and the `kernel` does not say otherwise."""
    if kernel != "numpy" and compiles(model, loss, turn, network, by_sample=optimizer.by_sample):
        from fdtrain.compiled import CompiledPass

        return CompiledPass(cast(Gcnn, model), phase, schedule, n, arithmetic)
    return Pass(model, loss, turn, phase, schedule, n, arithmetic)
