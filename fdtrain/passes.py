"""A schedule made executable: the arrays that it works on, and its rounds as lists of actions.

A rank of a large pure run goes through its memory between two context switches, and finds none of it in the
processor's cache. So what a round touches has to be little: waves share two sets of arrays (with piggybacking two of
them are under way at a time), and rounds of the same kind share their actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.aggregate import WeightedSum
from fdtrain.layers.gcnn import Cache, Gcnn, Layer, Tape, by_node, by_wave
from fdtrain.losses import Loss
from fdtrain.rounds import Field, Round
from fdtrain.schedule import Schedule
from fdtrain.transport.base import Transport
from fdtrain.wire import Layout, Payload, Wire

Array = NDArray[np.float64]
Action = Callable[[int], None]


class Sums(NamedTuple):
    """The neighbours' sums of one topology."""

    shift: WeightedSum  # weights S_ij
    adjoint: WeightedSum  # weights S_ji
    mixing: WeightedSum  # weights W_ij


class Program(NamedTuple):
    """What rounds with the same kinds of fields do: fill the rows, exchange them, sum them up, use the sums.

    An action is called with its field's argument: the wave, or a slice's first number.
    """

    produce: tuple[Action, ...]
    layout: Layout
    sums: tuple[tuple[Array, Callable[[], None]], ...]  # where a sum goes, and what adds it there
    consume: tuple[Action, ...]


class Step(NamedTuple):
    """A round, compiled."""

    program: Program
    arguments: tuple[int, ...]  # of the fields


class Pass:
    """One schedule on the n nodes of a rank. Its arrays are made once; :meth:`bind` connects them to a topology.

    ``mixed`` [n, travelling] is what the optimizer mixes, after the last round: summed over the waves, where each has a
    consensus of its own.
    """

    def __init__(self, model: Gcnn, loss: Loss, phase: str, schedule: Schedule, n: int) -> None:
        self.phase, self.schedule, self.loss, self.n = phase, schedule, loss, n
        self.steps: list[Step] = []
        waves = schedule.waves
        self.input = np.zeros((len(waves), n, waves[0], model.sizes[0]))  # x^0
        self.output = np.zeros((len(waves), n, waves[0], model.sizes[-1]))  # ŷ
        self.label = np.zeros_like(self.output)
        self.mixed = np.zeros((n, schedule.travelling if schedule.trains else 0))
        self._current = self.mixed  # what the last step of consensus gave
        self._z = np.zeros((n, waves[0], model.sizes[-1]))
        self.tapes = [Tape(layer, n, waves) for layer in model.layers]
        self._taped_at_once = len(waves) <= 2  # then the caches are the tape
        self._caches: dict[tuple[int, int], list[Cache]] = {}  # by the wave's parity and samples; one a layer
        self._backward = {
            field.layer for r in schedule.rounds for field in r.fields if field.kind == "backward"
        }

    def load(self, x: Array, y: Array) -> None:
        """Take the samples x [n, B, g_0] with labels y [n, B, g_L].

        Raises:
            ValueError: arrays of another shape.
        """
        if x.shape[:2] != (self.n, self.schedule.batch) or y.shape[:2] != x.shape[:2]:
            raise ValueError(
                f"samples {x.shape}, {y.shape}: need {self.n} nodes and {self.schedule.batch} samples"
            )
        by_wave(x, self.input)
        by_wave(y, self.label)

    def per_node_loss(self) -> Array:
        """Σ over the samples of ℓ_i, [n]."""
        batch = self.schedule.batch
        return self.loss.per_node(by_node(self.output, batch), by_node(self.label, batch))

    def gradient(self, out: Sequence[Array], wave: int | None = None) -> None:
        """The local gradient, summed over the samples (of one wave), into one array per layer."""
        for tape, part in zip(self.tapes, out, strict=True):
            if wave is None:
                tape.gradient(part)
            else:
                tape.gradient_of(wave, self.schedule.waves[wave], part)

    def bind(
        self, wire: Wire, sums: Sums, theta: Sequence[Array], outgoing: Callable[[Pass, int | None], Array]
    ) -> None:
        """Compile the rounds.

        Args:
            wire: the exchange on this topology.
            sums: its weighted sums.
            theta: the parameters as each layer wants them; read anew in every mini-batch.
            outgoing: gives the rows to be mixed [n, travelling], of a wave where each has a consensus of its own.
        """
        self._outgoing, self._mixing = partial(outgoing, self), sums.mixing
        along = self.schedule.exchange == "along"
        self._incoming = np.zeros((wire.plan.seen, self.schedule.travelling if along else 0))
        programs: dict[tuple[tuple[str, int, int, int], ...], Program] = {}
        self.steps = []
        for round_ in self.schedule.rounds:
            key = tuple(self._role(field) for field in round_.fields)
            if key not in programs:
                programs[key] = self._compile(round_, wire, sums, theta)
            arguments = tuple(field.start if field.kind == "slice" else field.wave for field in round_.fields)
            self.steps.append(Step(programs[key], arguments))

    def run(self, transport: Transport) -> None:
        """Go through the rounds."""
        if self.schedule.exchange == "along":
            self._incoming[: self.n] = self._outgoing(None)
        self.mixed.fill(0.0)
        for (produce, layout, sums, consume), arguments in self.steps:
            for action, argument in zip(produce, arguments, strict=True):
                action(argument)
            layout.exchange(transport)
            for total, add in sums:
                total.fill(0.0)
                add()
            for action, argument in zip(consume, arguments, strict=True):
                action(argument)
        if self.schedule.exchange == "along":
            np.copyto(self.mixed, self._mixing(self._incoming))

    def _role(self, field: Field) -> tuple[str, int, int, int]:
        """What fields have in common that share their actions."""
        if field.kind == "consensus":
            first, last = field.step == 1, field.step == self.schedule.consensus
            return field.kind, 2 * first + last, 0, field.width
        return field.kind, field.layer, field.wave % 2, field.width

    def _compile(self, round_: Round, wire: Wire, sums: Sums, theta: Sequence[Array]) -> Program:
        layout = wire.layout(Payload(self.phase, tuple((field.kind, field.width) for field in round_.fields)))
        kinds = {field.kind for field in round_.fields}
        forward = backward = np.zeros((self.n, layout.rows.shape[1]))
        adding = []
        if "features" in kinds:
            adding.append((forward, sums.shift.into(layout.rows, forward)))
        if "backward" in kinds and not ("features" in kinds and sums.adjoint.same_as(sums.shift)):
            backward = np.zeros_like(forward)
            adding.append((backward, sums.adjoint.into(layout.rows, backward)))
        if "consensus" in kinds:
            adding.append((forward, sums.mixing.into(layout.rows, forward)))
        actions = []
        columns = zip(
            round_.fields, layout.fields, layout.split(forward), layout.split(backward), strict=True
        )
        for field, rows, forward_total, backward_total in columns:
            if field.kind == "slice":
                actions.append(self._slice(field, rows))
            elif field.kind == "consensus":
                actions.append(self._consensus(field, rows, forward_total))
            elif field.kind == "features":
                actions.append(self._features(field, rows, forward_total, theta))
            else:
                actions.append(self._adjoint(field, rows, backward_total, theta))
        return Program(tuple(a for a, _ in actions), layout, tuple(adding), tuple(a for _, a in actions))

    def _features(
        self, field: Field, rows: Array, total: Array, theta: Sequence[Array]
    ) -> tuple[Action, Action]:
        layer, cache, parameters = self._layer(field, field.layer, theta)
        own, received, w = self._messages(rows, layer), self._messages(total, layer), cache.x.shape[1]
        inputs, outputs, labels = self.input[:, :, :w], self.output[:, :, :w], self.label[:, :, :w]
        left, _ = self._tape(field.layer, w)
        loss, z, backward = self.loss, self._z[:, :w], self._backward_pass(field, field.layer, theta)

        def produce(wave: int) -> None:
            layer.forward_message(parameters, cache, own)

        def produce_first(wave: int) -> None:
            cache.x[...] = inputs[wave]
            layer.forward_message(parameters, cache, own)

        def consume(wave: int) -> None:
            layer.forward(parameters, cache, received)
            if left is not None:
                left[wave] = cache.left

        def consume_last(wave: int) -> None:
            consume(wave)
            outputs[wave] = cache.y

        def turn_back(wave: int) -> None:
            consume_last(wave)
            loss.gradient(cache.y, labels[wave], z)
            backward(wave, z)

        last = turn_back if self.schedule.trains else consume_last
        at_the_top = field.layer == len(self.tapes)
        return produce_first if field.layer == 1 else produce, last if at_the_top else consume

    def _adjoint(
        self, field: Field, rows: Array, total: Array, theta: Sequence[Array]
    ) -> tuple[Action, Action]:
        layer, cache, parameters = self._layer(field, field.layer, theta)
        own, received, w = self._messages(rows, layer), self._messages(total, layer), cache.x.shape[1]
        onward = field.layer > 1
        right = self._tape(field.layer, w)[1] if layer.keeps_adjoint else None
        below = self._backward_pass(field, field.layer - 1, theta) if onward else None

        def produce(wave: int) -> None:
            layer.backward_message(cache, own)

        def consume(wave: int) -> None:
            z = layer.absorb(parameters, cache, received, onward=onward)
            if right is not None:
                right[wave] = cache.right
            if below is not None:
                below(wave, z)

        return produce, consume

    def _backward_pass(
        self, field: Field, number: int, theta: Sequence[Array]
    ) -> Callable[[int, Array], None]:
        """What layer `number` does with z, for the waves of `field`'s kind."""
        layer, cache, parameters = self._layer(field, number, theta)
        send, w = number in self._backward, cache.x.shape[1]
        right = None if layer.keeps_adjoint else self._tape(number, w)[1]

        def backward(wave: int, z: Array) -> None:
            layer.backward(parameters, cache, z, send=send)
            if right is not None:
                right[wave] = cache.right

        return backward

    def _consensus(self, field: Field, rows: Array, total: Array) -> tuple[Action, Action]:
        own, mixed, last = rows[: self.n], self.mixed, field.step == self.schedule.consensus
        per_wave = self.schedule.exchange == "after_wave"

        def produce(wave: int) -> None:
            own[...] = self._current

        def produce_first(wave: int) -> None:
            own[...] = self._outgoing(wave if per_wave else None)

        def consume(wave: int) -> None:
            self._current = total

        def consume_last(wave: int) -> None:
            np.add(mixed, total, mixed)

        return produce_first if field.step == 1 else produce, consume_last if last else consume

    def _slice(self, field: Field, rows: Array) -> tuple[Action, Action]:
        n, width = self.n, field.width
        own, others = rows[:n], rows[n:]
        own_incoming, others_incoming = self._incoming[:n], self._incoming[n:]

        def produce(start: int) -> None:
            own[...] = own_incoming[:, start : start + width]

        def consume(start: int) -> None:
            others_incoming[:, start : start + width] = others

        return produce, consume

    def _layer(self, field: Field, number: int, theta: Sequence[Array]) -> tuple[Layer, Cache, Array]:
        """Layer `number`, its cache for the waves of `field`'s kind, and its parameters."""
        w, parity = self.schedule.waves[field.wave], field.wave % 2
        if (parity, w) not in self._caches:
            self._caches[parity, w] = self._make_caches(parity, w)
        return self.tapes[number - 1].layer, self._caches[parity, w][number - 1], theta[number - 1]

    def _tape(self, number: int, w: int) -> tuple[Array | None, Array | None]:
        """Where layer `number` keeps ``left`` and ``right`` of waves of w samples, if it has to copy them."""
        if self._taped_at_once or not self.schedule.trains:
            return None, None
        tape = self.tapes[number - 1]
        return tape.left[:, :, :w], tape.right[:, :, :w]

    def _make_caches(self, parity: int, w: int) -> list[Cache]:
        caches: list[Cache] = []
        for tape in reversed(self.tapes):
            if self._taped_at_once:
                left, right = tape.left[parity, :, :w], tape.right[parity, :, :w]
            else:
                left, right = (np.zeros((self.n, w, part.shape[-1])) for part in (tape.left, tape.right))
            y = caches[0].x if caches else np.zeros((self.n, w, self.output.shape[-1]))
            caches.insert(0, Cache(tape.layer, left, right, y))
        return caches

    def _messages(self, rows: Array, layer: Layer) -> Array:
        """The own nodes' part of a field's `rows`, [n, w, message_width]."""
        w = rows.shape[1] // layer.message_width
        return rows[: self.n].reshape(self.n, w, layer.message_width, copy=False)
