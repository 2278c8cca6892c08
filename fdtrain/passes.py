"""A schedule made executable: the arrays that it works on, and its rounds as lists of actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.layers.gcnn import Cache, Gcnn, LayerCaches, by_node, by_wave
from fdtrain.losses import Loss
from fdtrain.schedule import Field, Schedule
from fdtrain.transport.base import Transport
from fdtrain.wire import Layout, Payload, Wire

Array = NDArray[np.float64]
Action = Callable[[int], None]
Sum = Callable[[Array], Array]  # rows [seen, k] → [n, k]


class Sums(NamedTuple):
    """The neighbours' sums of one topology."""

    shift: Sum  # weights S_ij
    adjoint: Sum  # weights S_ji
    mixing: Sum  # weights W_ij


class Program(NamedTuple):
    """What rounds with the same kinds of fields do: fill the rows, exchange them, use them.

    An action is called with its field's argument: the wave, or a slice's first number.
    """

    produce: tuple[Action, ...]
    layout: Layout
    consume: tuple[Action, ...]


class Step(NamedTuple):
    """A round, compiled."""

    program: Program
    arguments: tuple[int, ...]  # of the fields


class Pass:
    """One schedule on the n nodes of a rank. Its arrays are made once; :meth:`bind` connects them to a topology."""

    def __init__(self, model: Gcnn, loss: Loss, phase: str, schedule: Schedule, n: int) -> None:
        self.phase, self.schedule, self.loss, self.n = phase, schedule, loss, n
        self.steps: list[Step] = []
        waves = schedule.waves
        self.output = np.zeros((len(waves), n, waves[0], model.sizes[-1]))  # ŷ
        self.label = np.zeros_like(self.output)
        self._z = np.zeros((n, waves[0], model.sizes[-1]))
        self.layers: list[LayerCaches] = []
        self._caches: dict[tuple[int, int], Cache] = {}  # by layer and wave size
        y = self.output
        for layer in reversed(model.layers):
            self.layers.insert(0, LayerCaches(layer, n, waves, y))
            y = self.layers[0].x
        self._backward = {field.layer for r in schedule.rounds for field in r.fields if field.kind == "backward"}

    def load(self, x: Array, y: Array) -> None:
        """Take the samples x [n, B, g_0] with labels y [n, B, g_L]."""
        by_wave(x, self.layers[0].x)
        by_wave(y, self.label)

    def per_node_loss(self) -> Array:
        """Σ over the samples of ℓ_i, [n]."""
        batch = self.schedule.batch
        return self.loss.per_node(by_node(self.output, batch), by_node(self.label, batch))

    def gradient(self, out: Sequence[Array]) -> None:
        """The local gradient, summed over the samples, into one array per layer."""
        for caches, part in zip(self.layers, out, strict=True):
            caches.gradient(part)

    def bind(self, wire: Wire, sums: Sums, theta: Sequence[Array], incoming: Array) -> None:
        """Compile the rounds.

        Args:
            wire: the exchange on this topology.
            sums: its weighted sums.
            theta: the parameters as each layer wants them; read anew in every mini-batch.
            incoming: [seen, travelling] where slices are collected; the first n rows are the ones that travel.
        """
        programs: dict[tuple[tuple[str, int, int], ...], Program] = {}
        self.steps = []
        for round_ in self.schedule.rounds:
            key = tuple((field.kind, field.layer, field.width) for field in round_.fields)
            if key not in programs:
                payload = Payload(self.phase, tuple((field.kind, field.width) for field in round_.fields))
                layout = wire.layout(payload)
                actions = [
                    self._slice(field, rows, incoming)
                    if field.kind == "slice"
                    else self._features(field, rows, sums.shift, theta)
                    if field.kind == "features"
                    else self._adjoint(field, rows, sums.adjoint, theta)
                    for field, rows in zip(round_.fields, layout.fields, strict=True)
                ]
                programs[key] = Program(tuple(a for a, _ in actions), layout, tuple(a for _, a in actions))
            arguments = tuple(field.start if field.kind == "slice" else field.wave for field in round_.fields)
            self.steps.append(Step(programs[key], arguments))

    def run(self, transport: Transport) -> None:
        """Go through the rounds."""
        for (produce, layout, consume), arguments in self.steps:
            for action, argument in zip(produce, arguments, strict=True):
                action(argument)
            layout.exchange(transport)
            for action, argument in zip(consume, arguments, strict=True):
                action(argument)

    def _features(self, field: Field, rows: Array, shift: Sum, theta: Sequence[Array]) -> tuple[Action, Action]:
        layer, parameters = self.layers[field.layer - 1].layer, theta[field.layer - 1]
        w = field.width // layer.message_width
        cache = self._cache(field.layer, w)
        own = rows[: self.n].reshape(self.n, w, layer.message_width, copy=False)
        loss, send = self.loss, field.layer in self._backward
        labels, z = self.label[:, :, :w], self._z[:, :w]

        def produce(wave: int) -> None:
            layer.forward_message(parameters, cache.at(wave), own)

        def consume(wave: int) -> None:
            layer.forward(parameters, cache.at(wave), shift(rows).reshape(own.shape))

        def consume_last(wave: int) -> None:
            layer.forward(parameters, cache.at(wave), shift(rows).reshape(own.shape))
            loss.gradient(cache.y, labels[wave], z)
            layer.backward(parameters, cache, z, send=send)

        turns_back = self.schedule.trains and field.layer == len(self.layers)
        return produce, consume_last if turns_back else consume

    def _adjoint(self, field: Field, rows: Array, adjoint: Sum, theta: Sequence[Array]) -> tuple[Action, Action]:
        layer, parameters = self.layers[field.layer - 1].layer, theta[field.layer - 1]
        w = field.width // layer.message_width
        cache = self._cache(field.layer, w)
        own = rows[: self.n].reshape(self.n, w, layer.message_width, copy=False)

        def produce(wave: int) -> None:
            layer.backward_message(cache.at(wave), own)

        def consume_first(wave: int) -> None:
            layer.absorb(parameters, cache.at(wave), adjoint(rows).reshape(own.shape), onward=False)

        if field.layer == 1:
            return produce, consume_first
        below, below_parameters = self.layers[field.layer - 2].layer, theta[field.layer - 2]
        below_cache = self._cache(field.layer - 1, w)
        send = field.layer - 1 in self._backward

        def consume(wave: int) -> None:
            z = layer.absorb(parameters, cache.at(wave), adjoint(rows).reshape(own.shape), onward=True)
            below.backward(below_parameters, below_cache.at(wave), z, send=send)

        return produce, consume

    def _slice(self, field: Field, rows: Array, incoming: Array) -> tuple[Action, Action]:
        n, width = self.n, field.width
        own, others = rows[:n], rows[n:]
        own_incoming, others_incoming = incoming[:n], incoming[n:]

        def produce(start: int) -> None:
            own[...] = own_incoming[:, start : start + width]

        def consume(start: int) -> None:
            others_incoming[:, start : start + width] = others

        return produce, consume

    def _cache(self, layer: int, w: int) -> Cache:
        if (layer, w) not in self._caches:
            self._caches[layer, w] = self.layers[layer - 1].cache(w)
        return self._caches[layer, w]
