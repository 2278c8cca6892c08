"""A schedule made executable: the arrays that it works on, and its rounds as lists of actions.

Rounds of the same kind share their actions, and waves their arrays: a rank of a large pure run finds nothing in the
processor's cache after a context switch, so what a round touches has to be little.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import WeightedSum
from fdtrain.layers.gcnn import Gcnn
from fdtrain.layers.waves import by_node, by_wave
from fdtrain.losses import Objective, SquaredError
from fdtrain.networks import Network, ShiftNetwork, Sums
from fdtrain.precision import Arithmetic
from fdtrain.programs import Program, check_outline, offsets
from fdtrain.rounds import Field, Round
from fdtrain.schedule import Schedule
from fdtrain.transport.base import Transport
from fdtrain.turns import LocalLoss, Turn
from fdtrain.wire import Layout, Payload, Wire

Array = NDArray[np.float64]
Action = Callable[[int], None]


class Rows(NamedTuple):
    """Samples of a rank's own nodes."""

    x: Array  # [n, N, g_0]
    y: Array  # [n, N, g_L]
    channels: Array | None = (
        None  # [2, m, N], H_ij and H_ji of every edge, where samples have links of their own
    )
    order: NDArray[np.int64] | None = (
        None  # [B], the samples that are used, in this order; None: all as they are
    )


class Compiled(NamedTuple):
    """What rounds with the same kinds of fields do: fill the rows, exchange them, sum them up, use the sums.

    An action is called with its field's argument: the wave, or a slice's first number.
    """

    produce: tuple[Action, ...]
    layout: Layout
    sums: tuple[tuple[Array, Callable[[], None]], ...]  # where a sum goes, and what adds it there
    consume: tuple[Action, ...]


class Step(NamedTuple):
    """A round, compiled."""

    compiled: Compiled
    arguments: tuple[int, ...]  # of the fields
    round: Round


class _Totals:
    """Sums of whole rows with the same weights, made at most once a round."""

    def __init__(self, layout: Layout, n: int) -> None:
        self._layout, self._n = layout, n
        self._made: dict[int, list[Array]] = {}  # by the sum's identity: the columns of each field
        self.adding: list[tuple[Array, Callable[[], None]]] = []

    def of(self, weighted: WeightedSum, field: int) -> Array:
        """Where the sums of this field's columns will be, [n, width]."""
        if id(weighted) not in self._made:
            rows = self._layout.rows
            total = np.zeros((self._n, rows.shape[1]), rows.dtype)
            self.adding.append((total, weighted.into(rows, total)))
            self._made[id(weighted)] = self._layout.split(total)
        return self._made[id(weighted)][field]


class Pass:
    """One schedule on the n nodes of a rank. Its arrays are made once; :meth:`bind` connects them to a topology.

    This one is for any program; :mod:`fdtrain.compiled` has a faster one for some.
    """

    def __init__(
        self,
        model: Program,
        loss: Objective,
        turn: Turn,
        phase: str,
        schedule: Schedule,
        n: int,
        arithmetic: Arithmetic = "float64",
    ) -> None:
        check_outline(model)
        self.phase, self.schedule, self.loss, self.n = phase, schedule, loss, n
        self.model, self.turn = model, turn
        self.steps: list[Step] = []
        self.place = 0  # of the round that is under way
        waves, own = schedule.waves, arithmetic
        self.input = np.zeros((len(waves), n, waves[0], model.inputs), own)  # x^0
        self.output = np.zeros((len(waves), n, waves[0], turn.width(model.outputs)), own)  # what is measured
        self.label: Array | None = None
        along = schedule.exchange == "along"
        self._mixed = np.zeros((n, schedule.travelling if schedule.trains and not along else 0), own)
        self._current: Array = self._mixed  # what the last step of consensus gave
        self._z = np.zeros((n, waves[0], model.outputs), own)
        self.tape = model.tape(n, waves, trains=schedule.trains)

    def load(self, samples: Rows) -> None:
        """Take the samples of a mini-batch.

        Raises:
            ValueError: arrays of another shape.
        """
        x, y, batch = samples.x, samples.y, self.schedule.batch
        if samples.order is not None:
            x, y = x[:, samples.order], y[:, samples.order]
        if x.shape[:2] != (self.n, batch) or y.shape[:2] != x.shape[:2]:
            raise ValueError(f"samples {x.shape}, {y.shape}: need {self.n} nodes and {batch} samples")
        by_wave(x, self.input)
        if self.label is None:
            self.label = np.zeros((*self.input.shape[:3], y.shape[2]), self.input.dtype)
        by_wave(y, self.label)
        self._sums.load(samples.channels, x[..., 0])

    def per_node_loss(self) -> Array:
        """Σ over the samples of ℓ_i, [n]."""
        assert self.label is not None
        batch = self.schedule.batch
        return self.loss.per_node(by_node(self.output, batch), by_node(self.label, batch))

    def bind(
        self,
        wire: Wire,
        sums: Sums,
        theta: Array,
        grad: Array,
        outgoing: Callable[[Any, int | None, Array], None],
        take: Callable[[Array], None] | None = None,
    ) -> None:
        """Compile the rounds.

        Args:
            wire: the exchange on this topology.
            sums: its weighted sums.
            theta: the parameters [n, p]; read anew in every mini-batch.
            grad: where the gradient is wanted [n, p]; :meth:`gradient` writes it there.
            outgoing: writes the rows to be mixed [n, travelling], of a wave where each has a consensus of its own, and
                then of every sample [n, w, travelling], where those are mixed apart.
            take: called with the mixed rows of every wave's samples [n, w, travelling], which are then not added up.
        """
        self._outgoing, self._sums, self._theta = partial(outgoing, self), sums, self.model.arrange(theta)
        self._wire = wire
        self._take = take or self._add_up
        along = self.schedule.exchange == "along"
        self._incoming = np.zeros(
            (wire.plan.seen, self.schedule.travelling if along else 0), self._mixed.dtype
        )
        compiled: dict[tuple[tuple[str, int, int, int], ...], Compiled] = {}
        self.steps = []
        for round_ in self.schedule.rounds:
            key = tuple(self._role(field) for field in round_.fields)
            if key not in compiled:
                compiled[key] = self._compile(round_, wire)
            arguments = tuple(field.start if field.kind == "slice" else field.wave for field in round_.fields)
            self.steps.append(Step(compiled[key], arguments, round_))

    def unbind(self) -> None:
        """Give back what belongs to the topology of before; :meth:`bind` comes next."""
        for name in ("_wire", "_sums"):
            self.__dict__.pop(name, None)
        self.steps, self._incoming = [], self._mixed[:0]

    def run(self, transport: Transport) -> None:
        """Go through the rounds."""
        if self.schedule.exchange == "along":
            self._outgoing(None, self._incoming[: self.n])
        self._mixed.fill(0.0)
        for place, ((produce, layout, sums, consume), arguments, round_) in enumerate(self.steps):
            self.place = place
            for action, argument in zip(produce, arguments, strict=True):
                action(argument)
            layout.exchange(transport, round_)
            for total, add in sums:
                total.fill(0.0)
                add()
            for action, argument in zip(consume, arguments, strict=True):
                action(argument)
        if self.schedule.exchange == "along":
            self._wire.settle(self._incoming)

    def gradient(self, out: Array, wave: int | None = None) -> None:
        """The local gradient, summed over the mini-batch or one of its waves, to `out` [n, p]."""
        self.tape.gradient(out, wave)

    def mixed(self, first: int, stop: int) -> Array:
        """Of the nodes `first` … `stop` − 1 what the optimizer mixes, after the last round, [stop − first, travelling]:
        summed over the waves, where each has a consensus of its own, and over their samples, where those have and are
        not taken one by one."""
        if self.schedule.exchange == "along":
            return self._sums.mixing.of(self._incoming, first, stop)
        return self._mixed[first:stop]

    def where(self) -> str:
        """The round that is under way, in words."""
        return in_words(self.schedule, self.phase, self.place)

    def finished(self) -> Array:
        """What the nodes made of the samples, [n, B, ·]: outputs, or decisions."""
        return by_node(self.output, self.schedule.batch)

    def exchange(self, transport: Transport) -> None:
        """The messages of all rounds, without arithmetic."""
        for step in self.steps:
            step.compiled.layout.exchange(transport)

    def _role(self, field: Field) -> tuple[str, int, int, int]:
        """What fields have in common that share their actions."""
        if field.kind == "consensus":
            first, last = field.step == 1, field.step == self.schedule.consensus
            return field.kind, 2 * first + last, 0, field.width
        return field.kind, field.layer, field.wave % 2, field.width

    def _compile(self, round_: Round, wire: Wire) -> Compiled:
        layout = wire.layout(Payload(self.phase, tuple((field.kind, field.width) for field in round_.fields)))
        totals = _Totals(layout, self.n)
        make = {
            "features": self._features,
            "backward": self._adjoint,
            "consensus": self._consensus,
            "slice": self._slice,
        }
        actions = [make[field.kind](k, field, layout, totals) for k, field in enumerate(round_.fields)]
        return Compiled(
            tuple(a for a, _ in actions), layout, tuple(totals.adding), tuple(a for _, a in actions)
        )

    def _features(self, k: int, field: Field, layout: Layout, totals: _Totals) -> tuple[Action, Action]:
        layer, theta, tape = self.model.layers[field.layer - 1], self._theta, self.tape
        cache, w = self._cache(field)
        own, received, gather = self._messages(k, field, layout, totals)
        inputs, outputs = self.input[:, :, :w], self.output[:, :, :w]
        model, turn, z, batch, phase = self.model, self.turn, self._z[:, :w], self.schedule.batch, self.phase
        nothing_returns = not self.schedule.outline.returning

        def produce(wave: int) -> None:
            layer.send(theta, cache, own)

        def produce_first(wave: int) -> None:
            cache.input[...] = inputs[wave]
            layer.send(theta, cache, own)

        def consume(wave: int) -> None:
            for add in gather:
                add(wave)
            layer.receive(theta, cache, received)

        def consume_last(wave: int) -> None:
            consume(wave)
            assert self.label is not None
            outputs[wave] = turn.finish(cache.output, self.label[wave, :, :w], phase)

        def turn_back(wave: int) -> None:
            consume_last(wave)
            assert self.label is not None
            turn.back(cache.output, self.label[wave, :, :w], outputs[wave], batch, z)
            model.turn(theta, cache, z)
            if nothing_returns:
                tape.keep(wave, cache)

        last = turn_back if self.schedule.trains else consume_last
        at_the_top = field.layer == self.schedule.depth
        return produce_first if field.layer == 1 else produce, last if at_the_top else consume

    def _adjoint(self, k: int, field: Field, layout: Layout, totals: _Totals) -> tuple[Action, Action]:
        layer, theta, tape = self.model.layers[field.layer - 1], self._theta, self.tape
        cache, _ = self._cache(field)
        own, received, gather = self._messages(k, field, layout, totals)
        complete = field.layer == self.schedule.outline.returning[-1]

        def produce(wave: int) -> None:
            layer.send_back(theta, cache, own)

        def consume(wave: int) -> None:
            for add in gather:
                add(wave)
            layer.receive_back(theta, cache, received)
            if complete:
                tape.keep(wave, cache)

        return produce, consume

    def _consensus(self, k: int, field: Field, layout: Layout, totals: _Totals) -> tuple[Action, Action]:
        if self.schedule.mixes_samples:
            return self._consensus_of_samples(k, field, layout, totals)
        own, total = layout.fields[k][: self.n], totals.of(self._sums.mixing, k)
        mixed, last = self._mixed, field.step == self.schedule.consensus
        per_wave = self.schedule.exchange == "after_wave"

        def produce(wave: int) -> None:
            own[...] = self._current

        def produce_first(wave: int) -> None:
            self._outgoing(wave if per_wave else None, own)

        def consume(wave: int) -> None:
            self._current = total

        def consume_last(wave: int) -> None:
            np.add(mixed, total, mixed)

        return produce_first if field.step == 1 else produce, consume_last if last else consume

    def _consensus_of_samples(
        self, k: int, field: Field, layout: Layout, totals: _Totals
    ) -> tuple[Action, Action]:
        n, rows = self.n, layout.fields[k]
        w, width = self.schedule.waves[field.wave], self.schedule.travelling
        own = rows[:n].reshape(n, w, width, copy=False)
        gather, last = list[Action](), field.step == self.schedule.consensus
        if self._sums.own_graphs:
            by_sample: Array = np.empty((w, n, width))
            pattern, weights = self._sums.per_sample_mixing(w)
            gather.append(pattern.into(rows, by_sample, weights))
            total = by_sample.swapaxes(0, 1)
        else:
            total = totals.of(self._sums.mixing, k).reshape(n, w, width, copy=False)

        def produce(wave: int) -> None:
            own[...] = self._current

        def produce_first(wave: int) -> None:
            self._outgoing(wave, own)

        def consume(wave: int) -> None:
            for add in gather:
                add(wave)
            self._current = total

        def consume_last(wave: int) -> None:
            for add in gather:
                add(wave)
            self._take(total)

        return produce_first if field.step == 1 else produce, consume_last if last else consume

    def _add_up(self, total: Array) -> None:
        for sample in range(total.shape[1]):
            np.add(self._mixed, total[:, sample], self._mixed)

    def _slice(self, k: int, field: Field, layout: Layout, totals: _Totals) -> tuple[Action, Action]:
        n, width, rows = self.n, field.width, layout.fields[k]
        own, others = rows[:n], rows[n:]
        own_incoming, others_incoming = self._incoming[:n], self._incoming[n:]

        def produce(start: int) -> None:
            own[...] = own_incoming[:, start : start + width]

        def consume(start: int) -> None:
            others_incoming[:, start : start + width] = others

        return produce, consume

    def _cache(self, field: Field) -> tuple[Any, int]:
        """The cache of the waves of `field`'s kind, and their samples."""
        w = self.schedule.waves[field.wave]
        return self.tape.cache(field.wave % 2, w), w

    def _messages(
        self, k: int, field: Field, layout: Layout, totals: _Totals
    ) -> tuple[list[Array], list[Array], list[Action]]:
        """Of every part of a layer's message: the own nodes' rows [n, w, ·], where their neighbours' sums will be, and
        what puts them there, if it is not the round's."""
        rows, w, n = layout.fields[k], self.schedule.waves[field.wave], self.n
        backward = field.kind == "backward"
        own, received, gather = [], [], []
        for part, place in offsets(self.model.layers[field.layer - 1].parts, backward=backward):
            columns, width = slice(w * place.start, w * place.stop), place.stop - place.start
            transposed = part.transposed != backward
            own.append(rows[:n, columns].reshape(n, w, width, copy=False))
            shared = self._sums.shared(part.weights, transposed)
            if shared is not None:
                total = totals.of(shared, k)[:, columns].reshape(n, w, width, copy=False)
            else:
                pattern, weights = self._sums.per_sample(part.weights, transposed, w)
                total = np.empty((n, w, width))
                gather.append(pattern.into(rows[:, columns], total, weights))
            received.append(total)
        return own, received, gather


def in_words(schedule: Schedule, phase: str, place: int) -> str:
    """A round of a schedule."""
    words = ", ".join(_field_in_words(field) for field in schedule.rounds[place].fields)
    test = " of the test" if phase == "test" else ""
    return f"round {place + 1} of {len(schedule.rounds)}{test} ({words})"


def _field_in_words(field: Field) -> str:
    match field.kind:
        case "slice":
            return f"parameters {field.start} to {field.start + field.width - 1}"
        case "consensus":
            return f"parameters, consensus {field.step}"
    return f"{field.kind} of layer {field.layer}, wave {field.wave + 1}"


def compiles(model: Program, loss: Objective, turn: Turn, network: Network, *, by_sample: bool) -> bool:
    """Whether :class:`fdtrain.compiled.CompiledPass` can do what :class:`Pass` does."""
    return (
        isinstance(model, Gcnn)
        and isinstance(loss, SquaredError)
        and isinstance(turn, LocalLoss)
        and isinstance(network, ShiftNetwork)
        and not by_sample
    )
