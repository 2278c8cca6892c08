"""A schedule made executable: the arrays that it works on, and its rounds as lists of actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdtrain.layers.gcnn import Gcnn, LayerCaches, by_node, by_wave
from fdtrain.losses import Loss
from fdtrain.schedule import Field, Schedule
from fdtrain.wire import Layout, Payload, Wire

Array = NDArray[np.float64]
Action = Callable[[], None]


@dataclass(frozen=True)
class Sums:
    """The neighbours' sums of one topology, rows [seen, k] → [n, k]."""

    shift: Callable[[Array], Array]  # weights S_ij
    adjoint: Callable[[Array], Array]  # weights S_ji
    mixing: Callable[[Array], Array]  # weights W_ij


@dataclass(frozen=True, slots=True)
class Step:
    """A round, compiled: fill the rows, exchange them, use them."""

    produce: tuple[Action, ...]
    layout: Layout
    consume: tuple[Action, ...]


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
        self.steps = []
        for round_ in self.schedule.rounds:
            payload = Payload(self.phase, tuple((field.kind, field.width) for field in round_.fields))
            layout = wire.layout(payload)
            actions = [
                self._slice(field, rows, incoming)
                if field.kind == "slice"
                else self._features(field, rows, sums, theta)
                if field.kind == "features"
                else self._adjoint(field, rows, sums, theta)
                for field, rows in zip(round_.fields, layout.fields, strict=True)
            ]
            self.steps.append(Step(tuple(a[0] for a in actions), layout, tuple(a[1] for a in actions)))

    def _features(self, field: Field, rows: Array, sums: Sums, theta: Sequence[Array]) -> tuple[Action, Action]:
        caches, parameters = self.layers[field.layer - 1], theta[field.layer - 1]
        layer, cache = caches.layer, caches.waves[field.wave]
        shape = (self.n, cache.y.shape[1], layer.message_width)
        own = rows[: self.n].reshape(shape, copy=False)
        shift, loss = sums.shift, self.loss
        send = field.layer in self._backward
        label, z = self.label[field.wave, :, : shape[1]], self._z[:, : shape[1]]

        def produce() -> None:
            layer.forward_message(parameters, cache, own)

        def consume() -> None:
            layer.forward(parameters, cache, shift(rows).reshape(shape))

        def consume_last() -> None:
            layer.forward(parameters, cache, shift(rows).reshape(shape))
            loss.gradient(cache.y, label, z)
            layer.backward(parameters, cache, z, send=send)

        turns_back = self.schedule.trains and field.layer == len(self.layers)
        return produce, consume_last if turns_back else consume

    def _adjoint(self, field: Field, rows: Array, sums: Sums, theta: Sequence[Array]) -> tuple[Action, Action]:
        caches, parameters = self.layers[field.layer - 1], theta[field.layer - 1]
        layer, cache = caches.layer, caches.waves[field.wave]
        shape = (self.n, cache.y.shape[1], layer.message_width)
        own = rows[: self.n].reshape(shape, copy=False)
        adjoint = sums.adjoint

        def produce() -> None:
            layer.backward_message(cache, own)

        def consume_first() -> None:
            layer.absorb(parameters, cache, adjoint(rows).reshape(shape), onward=False)

        if field.layer == 1:
            return produce, consume_first
        below, below_parameters = self.layers[field.layer - 2], theta[field.layer - 2]
        below_layer, below_cache = below.layer, below.waves[field.wave]
        send = field.layer - 1 in self._backward

        def consume() -> None:
            z = layer.absorb(parameters, cache, adjoint(rows).reshape(shape), onward=True)
            below_layer.backward(below_parameters, below_cache, z, send=send)

        return produce, consume

    def _slice(self, field: Field, rows: Array, incoming: Array) -> tuple[Action, Action]:
        part = incoming[:, field.start : field.start + field.width]
        n = self.n

        def produce() -> None:
            np.copyto(rows[:n], part[:n])

        def consume() -> None:
            np.copyto(part[n:], rows[n:])

        return produce, consume
