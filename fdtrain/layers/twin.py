"""Actor and critic as one message-passing program: nothing of link scheduling is centralized (beyond SPEC §6 C).

The actor, a GCNN, makes z of the constant 1. The critic, another one, sees [1, z + e], e the node's exploration noise,
and says by a softmax whether the node is going to be chosen: o = (o_0, o_1). Two things go back through its layers: the
error of what it said, which trains it, and the objective −o_0, which goes on through z and trains the actor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.layers.convolution import Cache, Convolution
from fdtrain.layers.gcnn import Gcnn, Stack
from fdtrain.layers.gcnn import Tape as GcnnTape
from fdtrain.programs import Layer, Part, outline_of
from fdtrain.rounds import Outline

Array = NDArray[np.float64]


class Theta(NamedTuple):
    """θ and φ as the layers want them."""

    actor: Sequence[Array]
    critic: Sequence[Array]


@dataclass(frozen=True)
class Twin:
    """A node's parameters are one flat row [θ^i | φ^i], the actor's and the critic's.

    The input is (1, e); the output (z, o_0, o_1), and ∂/∂(output) has the objective's by o_0, then the error's by o.
    """

    actor: Gcnn  # 1 to 1
    critic: Gcnn  # 2 to 2; its last activation is the identity, before the softmax
    l2: float = 0.0  # of l2 ‖φ^i‖², a part of the error of every sample
    inputs = 2
    outputs = 3

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The actor's rounds, then the critic's."""
        below = [_ActorLayer(self.actor, number) for number in range(self.actor.depth)]
        above = [_CriticLayer(self, number) for number in range(self.critic.depth)]
        return (*below, *above)

    @cached_property
    def outline(self) -> Outline:
        """What the layers send."""
        title = (
            f"actor and critic, sizes {_sizes(self.actor)} and {_sizes(self.critic)}, {self.actor.form} form"
        )
        actor = [(hop.sends, hop.returns) for hop in self.actor.outline.hops]
        critic = [(rf"c^{{{number}}}", rf"r^{{{number + 1}}}") for number in range(self.critic.depth)]
        return outline_of(title, self.layers, [*actor, *critic])

    @property
    def num_parameters(self) -> int:
        """|θ| + |φ|."""
        return self.actor.num_parameters + self.critic.num_parameters

    def part_of(self, number: int) -> str:
        """The layer that parameter `number` belongs to."""
        own = self.actor.num_parameters
        if number < own:
            return f"{self.actor.part_of(number)} of the actor"
        return f"{self.critic.part_of(number - own)} of the critic"

    def split(self, theta: Array) -> tuple[Array, Array]:
        """θ and φ of rows [..., p]: views."""
        own = self.actor.num_parameters
        return theta[..., :own], theta[..., own:]

    def arrange(self, theta: Array) -> Theta:
        """`theta` [n, p] as the layers want it: views, never copies."""
        actor, critic = self.split(theta)
        return Theta(self.actor.arrange(actor), self.critic.arrange(critic))

    def views(self, theta: Array) -> Mapping[str, Array]:
        """Named views of `theta` [n, p]: ``Theta0_l``, ``Theta1_l`` of the actor, ``Phi0_l``, ``Phi1_l`` of the
        critic."""
        actor, critic = self.split(theta)
        named = {name.replace("Theta", "Phi"): part for name, part in self.critic.views(critic).items()}
        return {**self.actor.views(actor), **named}

    def turn(self, theta: Theta, cache: TwinCache, z: Array) -> None:
        """Begin the backward passes from `z` [n, w, 3]."""
        cache.phi = theta.critic
        cache.objective[..., 0] = z[..., 0]
        cache.objective[..., 1] = 0.0
        top = self.layers[-1]
        assert isinstance(top, _CriticLayer)
        top.back_error(theta, cache, cache.through_softmax(z[..., 1:]))
        top.back_objective(theta, cache, cache.through_softmax(cache.objective))

    def tape(self, n: int, waves: Sequence[int], *, trains: bool) -> TwinTape:
        """A tape for n nodes and waves of so many samples."""
        return TwinTape(self, n, waves, trains=trains)


def _sizes(model: Gcnn) -> str:
    return "-".join(map(str, model.sizes))


class TwinCache:
    """The arrays of a wave. The two backward passes of the critic share its slopes."""

    def __init__(self, actor: Stack, critic: Stack, convolutions: Sequence[Convolution]) -> None:
        self.actor, self.critic = actor, critic
        self.phi: Sequence[Array] = ()
        self.input = np.zeros((*actor.input.shape[:2], 2))
        self.output = np.zeros((*actor.input.shape[:2], 3))
        self.objective = np.zeros_like(critic.output)
        self.errands = [
            _errand(layer, cache) for layer, cache in zip(convolutions, critic, strict=True)
        ]  # the objective's way back

    def through_softmax(self, z: Array) -> Array:
        """From ∂f/∂o to ∂f/∂(logits)."""
        o = self.output[..., 1:]
        inner = z[..., 0] * o[..., 0] + z[..., 1] * o[..., 1]
        found: Array = o * (z - inner[..., None])
        return found


def _errand(layer: Convolution, cache: Cache) -> Cache:
    made = Cache(layer, cache.left, np.zeros_like(cache.right, order="C"), cache.y)
    made.h = cache.h
    return made


class TwinTape:
    """The tapes of both."""

    def __init__(self, model: Twin, n: int, waves: Sequence[int], *, trains: bool) -> None:
        self._model = model
        self._tapes = model.actor.tape(n, waves, trains=trains), model.critic.tape(n, waves, trains=trains)
        self._waves = waves
        self._caches: dict[tuple[int, int], TwinCache] = {}

    def cache(self, parity: int, w: int) -> TwinCache:
        if (parity, w) not in self._caches:
            actor, critic = (tape.cache(parity, w) for tape in self._tapes)
            self._caches[parity, w] = TwinCache(actor, critic, self._model.critic.convolutions)
        return self._caches[parity, w]

    def keep(self, wave: int, cache: TwinCache) -> None:
        actor, critic = self._tapes
        actor.keep(wave, cache.actor)
        critic.keep(wave, cache.critic)
        self._phi = cache.phi

    def gradient(self, out: Array, wave: int | None = None) -> None:
        for tape, part in self._with(out):
            tape.gradient(part, wave)
        samples = sum(self._waves) if wave is None else self._waves[wave]
        for part, phi in zip(self._model.arrange(out).critic, self._phi, strict=True):
            part += 2.0 * self._model.l2 * samples * phi

    def by_sample(self, wave: int, out: Array) -> None:
        for tape, part in self._with(out):
            tape.by_sample(wave, part)
        for sample in range(out.shape[1]):
            for part, phi in zip(self._model.arrange(out[:, sample]).critic, self._phi, strict=True):
                part += 2.0 * self._model.l2 * phi

    def _with(self, out: Array) -> Iterator[tuple[GcnnTape, Array]]:
        return zip(self._tapes, self._model.split(out), strict=True)


class _ActorLayer:
    """A layer of the actor; the last one hands z on to the critic."""

    def __init__(self, actor: Gcnn, number: int) -> None:
        self._own = actor.layers[number]
        top = number == actor.depth - 1
        self._is_first, self._is_last = number == 0, top
        self.parts: tuple[Part, ...] = self._own.parts

    def send(self, theta: Theta, cache: TwinCache, out: Sequence[Array]) -> None:
        if self._is_first:
            cache.actor.input[...] = cache.input[..., :1]
        self._own.send(theta.actor, cache.actor, out)

    def receive(self, theta: Theta, cache: TwinCache, totals: Sequence[Array]) -> None:
        self._own.receive(theta.actor, cache.actor, totals)
        if self._is_last:
            z, x = cache.actor.output[..., 0], cache.critic.input
            cache.output[..., 0] = z
            x[..., 0] = 1.0
            np.add(z, cache.input[..., 1], x[..., 1])

    def send_back(self, theta: Theta, cache: TwinCache, out: Sequence[Array]) -> None:
        self._own.send_back(theta.actor, cache.actor, out)

    def receive_back(self, theta: Theta, cache: TwinCache, totals: Sequence[Array]) -> None:
        self._own.receive_back(theta.actor, cache.actor, totals)


class _CriticLayer:
    """A layer of the critic, through which two gradients go back: the error's, and the objective's."""

    def __init__(self, model: Twin, number: int) -> None:
        self._model, self._number = model, number
        self._own = model.critic.convolutions[number]
        width = self._own.message_width
        error = model.critic.outline.hops[number].backward
        self.parts = (Part("shift", False, width, error), Part("shift", False, 0, width))
        self._below = _CriticLayer(model, number - 1) if number else None

    def send(self, theta: Theta, cache: TwinCache, out: Sequence[Array]) -> None:
        self._own.forward_message(theta.critic[self._number], cache.critic[self._number], out[0])

    def receive(self, theta: Theta, cache: TwinCache, totals: Sequence[Array]) -> None:
        self._own.forward(theta.critic[self._number], cache.critic[self._number], totals[0])
        if self._number == self._model.critic.depth - 1:
            h = cache.critic.output
            e = np.exp(h - np.maximum(h[..., :1], h[..., 1:]))
            cache.output[..., 1:] = e / (e[..., :1] + e[..., 1:])

    def send_back(self, theta: Theta, cache: TwinCache, out: Sequence[Array]) -> None:
        if len(out) == 2:
            self._own.backward_message(cache.critic[self._number], out[0])
        self._own.backward_message(cache.errands[self._number], out[-1])

    def receive_back(self, theta: Theta, cache: TwinCache, totals: Sequence[Array]) -> None:
        number, below = self._number, self._below
        weights, onward = theta.critic[number], below is not None
        if len(totals) == 2:
            error = self._own.absorb(weights, cache.critic[number], totals[0], onward=onward)
            if below is not None:
                below.back_error(theta, cache, error)
        objective = self._own.absorb(weights, cache.errands[number], totals[-1], onward=True)
        if below is not None:
            below.back_objective(theta, cache, objective)
        else:
            self._model.actor.turn(theta.actor, cache.actor, objective[..., 1:])

    def back_error(self, theta: Theta, cache: TwinCache, z: Array) -> None:
        """From `z` [n, w, g_l] to the backward message."""
        self._back(theta, cache.critic[self._number], z, send=self.parts[0].backward > 0)

    def back_objective(self, theta: Theta, cache: TwinCache, z: Array) -> None:
        """The same for the objective."""
        self._back(theta, cache.errands[self._number], z, send=True)

    def _back(self, theta: Theta, cache: Any, z: Array, *, send: bool) -> None:
        self._own.backward(theta.critic[self._number], cache, z, send=send)
