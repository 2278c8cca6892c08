"""What a model is: a message-passing program, a sequence of local functions and weighted sums over neighbours.

A forward pass is L rounds of messages, the *layers*. In each, a node sends rows of numbers to its neighbours, and is
handed weighted sums of what it heard; what comes before and after is local. The backward pass goes through the same
rounds from above, with the weights transposed: what goes back is ∂ℓ/∂(sum), and what it is summed up to is
∂ℓ/∂(message). A model knows no ranks, waves or neighbours; schedule, ledger and packing are the same for all of them.

Arrays hold the n nodes of a rank first, then the w samples of a wave, then numbers: ``[n, w, k]``. A node's
arithmetic has to be its own, whoever shares its rank: elementwise, or a product per node. Arrays that a function is
handed are used again after the call: what it wants to keep, it copies into its cache.

The order of calls, for each wave: ``cache.input`` is written; then, for layers 1 … L, ``send`` and ``receive``;
``Program.turn``; then, for layers L … 1 that have something to send back, ``send_back`` and ``receive_back``; and
``Tape.keep``. The next wave but one uses the same cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.layers.waves import by_node
from fdtrain.rounds import Hop, Outline

Array = NDArray[np.float64]
Weights = Literal["shift", "channel", "gain"]  # S_ij; H_ij with H_ii; H_ij² without H_ii²


class Part(NamedTuple):
    """A row of numbers in a layer's message, and the weights of the sum that a node makes of its neighbours' rows."""

    weights: Weights
    transposed: bool  # False: the sum is Σ_j w_ij m_j; True: Σ_j w_ji m_j
    forward: int  # numbers per sample
    backward: int  # as many, or 0 where nobody needs ∂ℓ/∂(message)


class Cache(Protocol):
    """What a program works on for one wave of w samples."""

    @property
    def input(self) -> Array:
        """x of the wave's samples [n, w, g_0]; written before the first layer."""

    @property
    def output(self) -> Array:
        """What the loss is computed from [n, w, g_L]; valid after the last layer."""


class Layer(Protocol):
    """A round of messages: the local functions around its sums, and their adjoints.

    Lists have one array per part of the message; on the way back, per part that has something to go back.
    """

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the message consists of."""

    def send(self, theta: Any, cache: Any, out: Sequence[Array]) -> None:
        """Write the forward message [n, w, forward]."""

    def receive(self, theta: Any, cache: Any, totals: Sequence[Array]) -> None:
        """Go on with the neighbours' sums [n, w, forward]."""

    def send_back(self, theta: Any, cache: Any, out: Sequence[Array]) -> None:
        """Write the backward message, ∂ℓ/∂(sum) [n, w, backward]."""

    def receive_back(self, theta: Any, cache: Any, totals: Sequence[Array]) -> None:
        """Go on down from the adjoint sums [n, w, backward], until the next backward message is ready.

        `totals` may be overwritten.
        """


class Tape(Protocol):
    """What the gradient needs of a whole mini-batch, and the caches of its waves. :class:`SampleTape` is one that suits
    any model."""

    def cache(self, parity: int, w: int) -> Any:
        """The arrays of a wave of w samples; the last wave may have fewer than the others. At most two waves are under
        way at a time: an even one, and an odd one."""

    def keep(self, wave: int, cache: Any) -> None:
        """Note what the gradient needs of a wave, whose backward pass is complete."""

    def gradient(self, out: Array, wave: int | None = None) -> None:
        """The local gradient, summed over the samples of the mini-batch or of one wave, into `out` [n, p]."""

    def by_sample(self, wave: int, out: Array) -> None:
        """The local gradient of every sample of a wave into `out` [n, w, p]."""


class Program(Protocol):
    """A model: its layers and its parameters, a flat row θ^i [p] per node."""

    @property
    def outline(self) -> Outline:
        """What the layers send, for the schedule."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Layers 1 … L."""

    @property
    def inputs(self) -> int:
        """g_0, numbers per node and sample that a node starts from."""

    @property
    def outputs(self) -> int:
        """g_L, numbers per node and sample that the loss is computed from."""

    @property
    def num_parameters(self) -> int:
        """p = |θ|."""

    def arrange(self, theta: Array) -> Any:
        """`theta` [n, p] as the layers want it: views, never copies."""

    def views(self, theta: Array) -> Mapping[str, Array]:
        """`theta` [n, p] by the names of its parts, weights [n, g_in, g_out] and biases [n, g]: views, never copies."""

    def part_of(self, number: int) -> str:
        """What parameter `number` of θ belongs to, in words that can stand before "has"."""

    def turn(self, theta: Any, cache: Any, z: Array) -> None:
        """Begin the backward pass from `z` [n, w, g_L] = ∂ℓ/∂(output)."""

    def tape(self, n: int, waves: Sequence[int], *, trains: bool) -> Tape:
        """A tape for n nodes and waves of so many samples."""


class SampleTape:
    """The local gradient of every sample, [B', n, w, p]."""

    def __init__(
        self,
        shape: tuple[int, int],
        waves: Sequence[int],
        make_cache: Callable[[int, int], Any],
        write: Callable[[Any, Array], None],
        *,
        trains: bool,
    ) -> None:
        """
        Args:
            shape: n, p.
            waves: samples of each wave.
            make_cache: from n and w to the arrays of a wave.
            write: from a wave's cache, its backward pass complete, to the gradients of its samples [n, w, p].
            trains: whether there is going to be a gradient.
        """
        self._shape, self._waves = shape, waves
        self._make_cache, self._write = make_cache, write
        self._gradients = np.zeros((len(waves) if trains else 0, shape[0], waves[0], shape[1]))
        self._caches: dict[tuple[int, int], Any] = {}

    def cache(self, parity: int, w: int) -> Any:
        if (parity, w) not in self._caches:
            self._caches[parity, w] = self._make_cache(self._shape[0], w)
        return self._caches[parity, w]

    def keep(self, wave: int, cache: Any) -> None:
        self._write(cache, self._of(wave))

    def gradient(self, out: Array, wave: int | None = None) -> None:
        part = slice(None) if wave is None else slice(wave, wave + 1)
        np.add.reduce(by_node(self._gradients[part], sum(self._waves[part])), axis=1, out=out)

    def by_sample(self, wave: int, out: Array) -> None:
        np.copyto(out, self._of(wave))

    def _of(self, wave: int) -> Array:
        return self._gradients[wave, :, : self._waves[wave]]


def outline_of(
    title: str,
    layers: Sequence[Layer],
    symbols: Sequence[tuple[str, str]],
    sends: str = "m^{l}",
    returns: str = "q^{l}",
) -> Outline:
    """The outline of a model with these layers; `symbols` of what each sends and returns, then those of any, in TeX."""
    hops = [
        Hop(sum(part.forward for part in layer.parts), sum(part.backward for part in layer.parts), *own)
        for layer, own in zip(layers, symbols, strict=True)
    ]
    return Outline(title, tuple(hops), sends, returns)


def check_outline(model: Program) -> None:
    """Refuse a model whose outline is not that of its layers.

    Raises:
        ValueError: naming the first layer at fault.
    """
    hops = model.outline.hops
    wanted = outline_of("", model.layers, [("", "")] * len(model.layers)).hops
    if len(hops) != len(wanted):
        raise ValueError(f"a model with {len(wanted)} layers, but {len(hops)} in its outline; use outline_of")
    for number, (hop, parts) in enumerate(zip(hops, wanted, strict=True), start=1):
        if (hop.forward, hop.backward) != (parts.forward, parts.backward):
            raise ValueError(
                f"layer {number}: its parts send {parts.forward} numbers and return {parts.backward}, its outline says "
                f"{hop.forward} and {hop.backward}; use outline_of"
            )


def offsets(parts: Sequence[Part], *, backward: bool) -> list[tuple[Part, slice]]:
    """The parts that have something to send, and where a sample's numbers of each lie in the message of one sample."""
    placed, start = [], 0
    for part in parts:
        width = part.backward if backward else part.forward
        if width:
            placed.append((part, slice(start, start + width)))
            start += width
    return placed
