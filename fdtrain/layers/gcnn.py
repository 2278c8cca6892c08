"""The graph convolutional neural network: a message-passing program (:mod:`fdtrain.programs`) of stacked convolutions.

What the gradient needs of a whole mini-batch is on a :class:`Tape`, and its products are made once, for all samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from fdtrain.layers.activations import activation
from fdtrain.layers.convolution import FORMS, Cache, Convolution, Form
from fdtrain.layers.waves import by_node
from fdtrain.precision import Arithmetic
from fdtrain.programs import Part
from fdtrain.rounds import Hop, Outline

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gcnn:
    """A stack of L graph convolutional layers: the architecture, without parameters.

    A node's parameters are one flat row θ^i [p]: Θ0_1, Θ1_1, …, Θ0_L, Θ1_L, each row-major [g_{l−1}, g_l].
    """

    sizes: tuple[int, ...]  # g_0 … g_L
    activations: tuple[str, ...]  # σ_1 … σ_L
    form: Form = "receiver"
    negative_slope: float = 0.01  # of leaky_relu
    arithmetic: Arithmetic = "float64"

    @property
    def depth(self) -> int:
        """L."""
        return len(self.activations)

    @property
    def inputs(self) -> int:
        """g_0."""
        return self.sizes[0]

    @property
    def outputs(self) -> int:
        """g_L."""
        return self.sizes[-1]

    @cached_property
    def outline(self) -> Outline:
        """What the layers send."""
        return gcnn_outline(self.sizes, self.form)

    @cached_property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The L graph convolutions."""
        make = FORMS[self.form]
        return tuple(
            make(g_in, g_out, activation(name, self.negative_slope))
            for g_in, g_out, name in zip(self.sizes, self.sizes[1:], self.activations, strict=False)
        )

    @cached_property
    def layers(self) -> tuple[StackedLayer, ...]:
        """The rounds of messages, one per convolution."""
        widths = [hop.backward for hop in self.outline.hops]
        return tuple(StackedLayer(self.convolutions, widths, number) for number in range(self.depth))

    @property
    def num_parameters(self) -> int:
        """p = |θ|, the length of a node's parameter row."""
        return sum(math.prod(layer.parameter_shape) for layer in self.convolutions)

    @cached_property
    def offsets(self) -> tuple[slice, ...]:
        """Where each layer's parameters lie in θ."""
        stops = list(accumulate(math.prod(layer.parameter_shape) for layer in self.convolutions))
        return tuple(slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False))

    def part_of(self, number: int) -> str:
        """The layer that parameter `number` of θ belongs to."""
        return f"layer {1 + next(k for k, part in enumerate(self.offsets) if number < part.stop)}"

    def arrange(self, theta: Array) -> list[Array]:
        """`theta` [n, p] as each layer wants it, [n, *parameter_shape]: views, never copies."""
        return [
            theta[:, part].reshape(len(theta), *layer.parameter_shape, copy=False)
            for layer, part in zip(self.convolutions, self.offsets, strict=True)
        ]

    def views(self, theta: Array) -> dict[str, Array]:
        """Named views of `theta` [n, p]: ``Theta0_l``, ``Theta1_l`` [n, g_{l−1}, g_l] for l = 1 … L."""
        named = {}
        for number, (layer, part) in enumerate(zip(self.convolutions, self.offsets, strict=True), start=1):
            both = theta[:, part].reshape(len(theta), 2, layer.g_in, layer.g_out, copy=False)
            named[f"Theta0_{number}"], named[f"Theta1_{number}"] = both[:, 0], both[:, 1]
        return named

    def turn(self, theta: Sequence[Array], cache: Stack, z: Array) -> None:
        """Begin the backward pass from `z` [n, w, g_L] = ∂ℓ/∂ŷ."""
        self.layers[-1].backward(theta, cache, z)

    def tape(self, n: int, waves: Sequence[int], *, trains: bool) -> Tape:
        """A tape for n nodes and waves of so many samples."""
        return Tape(self, n, waves, trains=trains)


def gcnn_outline(sizes: Sequence[int], form: Form) -> Outline:
    """What a GCNN sends: x^{l−1} forward and p^l back (receiver form, where z⁰ is not needed), or x^{l−1}Θ1 and q^l."""
    title = f"{form} form, sizes {'-'.join(map(str, sizes))}"
    if form == "receiver":
        hops = [Hop(g, g if k else 0, f"x^{{{k}}}", f"p^{{{k + 1}}}") for k, g in enumerate(sizes[:-1])]
        return Outline(title, tuple(hops), "x^{l}", "p^{l}")
    hops = [Hop(g, g, rf"x^{{{k}}}\Theta_1", f"q^{{{k + 1}}}") for k, g in enumerate(sizes[1:])]
    return Outline(title, tuple(hops), r"x^{l}\Theta_1", "q^{l}")


class StackedLayer:
    """A convolution in its stack, as a layer of a message-passing program."""

    def __init__(self, convolutions: Sequence[Convolution], widths: Sequence[int], number: int) -> None:
        """`widths` are those of the backward messages; `number` counts from 0."""
        self._own, self._number = convolutions[number], number
        self._sends_back = widths[number] > 0
        self._below = StackedLayer(convolutions, widths, number - 1) if number else None
        self.parts = (Part("shift", False, self._own.message_width, widths[number]),)

    def send(self, theta: Sequence[Array], cache: Stack, out: Sequence[Array]) -> None:
        self._own.forward_message(theta[self._number], cache[self._number], out[0])

    def receive(self, theta: Sequence[Array], cache: Stack, totals: Sequence[Array]) -> None:
        self._own.forward(theta[self._number], cache[self._number], totals[0])

    def backward(self, theta: Sequence[Array], cache: Stack, z: Array) -> None:
        """From `z` [n, w, g_l] = ∂ℓ/∂x^l to the backward message."""
        self._own.backward(theta[self._number], cache[self._number], z, send=self._sends_back)

    def send_back(self, theta: Sequence[Array], cache: Stack, out: Sequence[Array]) -> None:
        self._own.backward_message(cache[self._number], out[0])

    def receive_back(self, theta: Sequence[Array], cache: Stack, totals: Sequence[Array]) -> None:
        below, number = self._below, self._number
        z = self._own.absorb(theta[number], cache[number], totals[0], onward=below is not None)
        if below is not None:
            below.backward(theta, cache, z)


class Stack(list[Cache]):
    """The caches of a wave, one per convolution; each one's ``y`` is the next one's ``x``."""

    @property
    def input(self) -> Array:
        """x^0 [n, w, g_0]."""
        return self[0].x

    @property
    def output(self) -> Array:
        """ŷ [n, w, g_L]."""
        return self[-1].y


class Tape:
    """What the gradient needs of a whole mini-batch: every convolution's ``left`` and ``right`` of all waves
    [B', n, w, ·]. Where no more than two waves are under way, their caches are the tape.

    A rank of a large pure run goes through its memory between two context switches, and finds none of it in the
    processor's cache. So what a round touches has to be little: waves share two sets of arrays.
    """

    def __init__(self, model: Gcnn, n: int, waves: Sequence[int], *, trains: bool) -> None:
        self._model, self._n, self._waves = model, n, waves
        self._convolutions = convolutions = model.convolutions
        self._copies = len(waves) > 2 and trains
        kept = len(waves) if trains else min(len(waves), 2)
        shape, own = (kept, n, waves[0]), model.arithmetic
        self._lefts = [np.zeros((*shape, layer.left_width), own) for layer in convolutions]
        self._rights = [np.zeros((*shape, layer.right_width), own) for layer in convolutions]
        self._caches: dict[tuple[int, int], Stack] = {}

    def cache(self, parity: int, w: int) -> Stack:
        if (parity, w) not in self._caches:
            self._caches[parity, w] = self._make(parity, w)
        return self._caches[parity, w]

    def keep(self, wave: int, cache: Stack) -> None:
        if not self._copies:
            return
        for own, left, right in zip(cache, self._lefts, self._rights, strict=True):
            w = own.left.shape[1]
            left[wave, :, :w] = own.left
            right[wave, :, :w] = own.right

    def gradient(self, out: Array, wave: int | None = None) -> None:
        part = slice(None) if wave is None else slice(wave, wave + 1)
        samples = sum(self._waves[part])
        outs = self._model.arrange(out)
        for layer, left, right, gradient in zip(
            self._convolutions, self._lefts, self._rights, outs, strict=True
        ):
            layer.gradient(by_node(left[part], samples), by_node(right[part], samples), gradient)

    def by_sample(self, wave: int, out: Array) -> None:
        n, w, p = out.shape
        outs = self._model.arrange(out.reshape(n * w, p, copy=False))
        for layer, left, right, gradient in zip(
            self._convolutions, self._lefts, self._rights, outs, strict=True
        ):
            by_sample = gradient.reshape(n, w, *layer.parameter_shape, copy=False)
            layer.outer(left[wave, :, :w], right[wave, :, :w], by_sample)

    def _make(self, parity: int, w: int) -> Stack:
        stack = Stack()
        for layer, left, right in reversed(
            list(zip(self._convolutions, self._lefts, self._rights, strict=True))
        ):
            if self._copies:
                own_left, own_right = (
                    np.zeros((self._n, w, part.shape[-1]), part.dtype) for part in (left, right)
                )
            else:
                own_left, own_right = left[parity, :, :w], right[parity, :, :w]
            y = stack[0].x if stack else np.zeros((self._n, w, layer.g_out), left.dtype)
            stack.insert(0, Cache(layer, own_left, own_right, y))
        return stack
