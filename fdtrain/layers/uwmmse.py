"""UWMMSE power allocation as a message-passing program (SPEC §6 B): the weighted-MMSE algorithm, unfolded and trained.

Chowdhury et al., "Unfolding WMMSE using graph neural networks for efficient power allocation", arXiv 2009.10812, in the
form of arXiv 2412.06105. Node i is a transmitter–receiver pair; H_ij is the channel's amplitude from transmitter i to
receiver j. With r_i = Σ_{j≠i} H_ji² v_j² what receiver i gets from the others, an unfolded layer k = 1 … K is, from
v = √Pmax,

    u_i = H_ii v_i / (σ² + r_i + H_ii² v_i²)
    w_i = 1/(1 − u_i H_ii v_i) = 1 + H_ii² v_i² / (σ² + r_i)        (where nothing cancels)
    ω_i = a_i w_i + b_i
    v_i = clip(H_ii u_i ω_i / d_i, 0, √Pmax),    d_i = Σ_{j≠i} H_ij² u_j² ω_j + H_ii² u_i² ω_i

and in the end receiver i measures r_i once more, and so its rate. a_i and b_i come from 2K small GCNNs, an a and a b
per layer, of sizes 1–F–1 in sender form, relu then sigmoid, on a constant-1 input:

    x ← σ(H (x w1) + β1 + diag(H) ⊙ (x w0) + β0)

They depend on nothing but H, so all of them share two rounds, the first of which carries v² for the first r as well:

    round 1                v²  for r                and all nets' first layers
    round 2                                         all nets' second layers
    rounds 3, 5, …, 2K+1   u²ω for d → v of layer k
    rounds 4, 6, …, 2K+2   v²  for r → u, w, ω of layer k + 1; in the last one the rate

On the way back every round carries ∂ℓ/∂(sum), with the weights transposed; ∂ℓ/∂r of layer 1 is not needed by anybody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.programs import Layer, Part, SampleTape, outline_of
from fdtrain.rounds import Outline

Array = NDArray[np.float64]

NETS = "ab"


class Nets(NamedTuple):
    """The parameters of all 2K nets, a_1, b_1, a_2, …, in the order in which a net has them; F is the hidden size."""

    w1_1: Array  # [n, 2K, F]
    w0_1: Array
    b1_1: Array
    b0_1: Array
    w1_2: Array  # [n, 2K, F]
    w0_2: Array
    b1_2: Array  # [n, 2K, 1]
    b0_2: Array


def shapes(hidden: int) -> list[tuple[int, ...]]:
    """The shape of each of :class:`Nets` in one net: weights [g_in, g_out], biases [g_out]."""
    F = hidden
    return [(1, F), (1, F), (F,), (F,), (F, 1), (F, 1), (1,), (1,)]


@dataclass(frozen=True)
class Uwmmse:
    """K unfolded layers of WMMSE: the architecture, without parameters."""

    noise: float  # σ², W
    max_power: float  # Pmax, W
    unfolded: int = 4  # K
    hidden: int = 5  # F

    inputs = 1  # x is H_ii
    outputs = 2  # ŷ is H_ii² v_i² and r_i

    @property
    def num_parameters(self) -> int:
        """p = 2K (6F + 2)."""
        return 2 * self.unfolded * (6 * self.hidden + 2)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The 2K + 2 rounds of messages."""
        K = self.unfolded
        rounds: list[Layer] = [FirstNets(self), SecondNets(self)]
        for k in range(K):
            rounds += [Beamformers(self, k), Interference(self, k + 1)]
        return tuple(rounds)

    @cached_property
    def outline(self) -> Outline:
        """What the layers send."""
        symbols = ["v^2, w_1", "xw_1", *[r"u^2\omega", "v^2"] * self.unfolded]
        return outline_of(
            f"UWMMSE, {self.unfolded} unfolded layers, GCNNs 1-{self.hidden}-1",
            self.layers,
            [(symbol, f"q^{{{number}}}") for number, symbol in enumerate(symbols, start=1)],
        )

    def arrange(self, theta: Array) -> Nets:
        """Views of `theta` [n, p] by what the layers make of them."""
        nets = theta.reshape(len(theta), 2 * self.unfolded, 6 * self.hidden + 2, copy=False)
        return Nets(*np.split(nets, self.stops, axis=2))

    @cached_property
    def stops(self) -> list[int]:
        """Where in a net's parameters each but the first of :class:`Nets` begins."""
        return list(accumulate(math.prod(shape) for shape in shapes(self.hidden)))[:-1]

    def views(self, theta: Array) -> dict[str, Array]:
        """Named views of `theta` [n, p]: ``k{1…K}_{a|b}_{1|2}_{w1|w0}`` [n, g_in, g_out], ``…_{b1|b0}`` [n, g_out]."""
        nets, named = self.arrange(theta), {}
        for number in range(2 * self.unfolded):
            for field, shape, part in zip(Nets._fields, shapes(self.hidden), nets, strict=True):
                what, layer = field.split("_")
                name = f"k{number // 2 + 1}_{NETS[number % 2]}_{layer}_{what}"
                named[name] = part[:, number].reshape(len(theta), *shape, copy=False)
        return named

    def part_of(self, number: int) -> str:
        """The net that parameter `number` of θ belongs to."""
        net = number // (6 * self.hidden + 2)
        return f"net {NETS[net % 2]} of unfolded layer {net // 2 + 1}"

    def turn(self, theta: Nets, cache: Cache, z: Array) -> None:
        """From ∂ℓ/∂(H_ii² v_i², r_i) to ∂ℓ/∂v of the last layer, and to what goes back first."""
        np.copyto(cache.dr, z[..., 1])
        np.multiply(2.0 * z[..., 0] * cache.g, cache.v[-1], out=cache.dv)

    def tape(self, n: int, waves: Sequence[int], *, trains: bool) -> SampleTape:
        """A tape for n nodes and waves of so many samples."""
        shape = n, self.num_parameters
        return SampleTape(shape, waves, partial(Cache, self), self.write_gradients, trains=trains)

    def write_gradients(self, cache: Cache, out: Array) -> None:
        """The local gradient of every sample of a wave, to `out` [n, w, p]."""
        nets = out.reshape(*out.shape[:2], 2 * self.unfolded, -1, copy=False)
        part = Nets(*np.split(nets, self.stops, axis=3))
        h1, h2 = cache.h[..., None, None], cache.h[..., None]
        part.w1_1[...] = cache.c1
        np.multiply(h1, cache.q1, out=part.w0_1)
        part.b1_1[...] = part.b0_1[...] = cache.q1
        np.multiply(cache.x1, cache.c2[..., None], out=part.w1_2)
        np.multiply(cache.x1, (h2 * cache.q2)[..., None], out=part.w0_2)
        part.b1_2[...] = part.b0_2[...] = cache.q2[..., None]


class Cache:
    """The quantities of a wave, [n, w] each; of all unfolded layers [K, n, w]; of the nets [n, w, 2K, ·]."""

    def __init__(self, model: Uwmmse, n: int, w: int) -> None:
        K, F = model.unfolded, model.hidden
        self.noise = model.noise
        self.input = np.zeros((n, w, model.inputs))
        self.output = np.zeros((n, w, model.outputs))
        self.h, self.g = np.zeros((2, n, w))  # H_ii, H_ii²
        self.x1 = np.zeros((n, w, 2 * K, F))
        self.ab, self.slope = np.zeros((2, n, w, 2 * K))  # a and b, and σ' of what they come from
        self.v = np.full((K + 1, n, w), np.sqrt(model.max_power))  # v^0 … v^K
        self.floor, self.total = np.zeros((2, K, n, w))  # σ² + r, and with H_ii² v²
        self.ratio = np.zeros((K, n, w))  # w − 1 = H_ii² v² / (σ² + r)
        self.u, self.omega = np.zeros((2, K, n, w))
        self.others, self.d = np.zeros((2, K, n, w))  # d without the own term, and with it
        self.raw = np.zeros((K, n, w))  # v before it is clipped
        # ∂ℓ/∂v, ∂ℓ/∂r, ∂ℓ/∂(numerator of v), ∂ℓ/∂d of the present layer
        self.dv, self.dr, self.dn, self.dd = np.zeros((4, n, w))
        self.da = np.zeros((n, w, 2 * K))  # ∂ℓ/∂(a, b)
        self.q2, self.c2 = np.zeros(
            (2, n, w, 2 * K)
        )  # ∂ℓ/∂h of the nets' second layers, and its adjoint sums
        self.q1, self.c1 = np.zeros((2, n, w, 2 * K, F))  # of their first layers

    def measure(self, k: int, r: Array) -> None:
        """From r to u and w of unfolded layer k (from 0)."""
        own = self.g * np.square(self.v[k])
        np.add(self.noise, r, out=self.floor[k])
        np.add(self.floor[k], own, out=self.total[k])
        np.divide(own, self.floor[k], out=self.ratio[k])
        np.divide(self.h * self.v[k], self.total[k], out=self.u[k])

    def weigh(self, k: int) -> None:
        """ω of unfolded layer k."""
        np.add(self.ab[..., 2 * k] * (1.0 + self.ratio[k]), self.ab[..., 2 * k + 1], out=self.omega[k])


@dataclass(frozen=True)
class FirstNets:
    """Round 1: v² of the start, for r, beside the first layers of all nets, whose input is 1."""

    model: Uwmmse

    @property
    def parts(self) -> tuple[Part, ...]:
        width = 2 * self.model.unfolded * self.model.hidden
        return Part("gain", True, 1, 0), Part("channel", False, width, width)

    def send(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        np.copyto(cache.h, cache.input[..., 0])
        np.square(cache.h, out=cache.g)
        out[0][...] = np.square(cache.v[0])[..., None]
        out[1][...] = theta.w1_1.reshape(len(theta.w1_1), 1, -1)

    def receive(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        cache.measure(0, totals[0][..., 0])
        own = cache.h[..., None, None] * theta.w0_1[:, None]
        h = totals[1].reshape(cache.x1.shape) + own + (theta.b1_1 + theta.b0_1)[:, None]
        np.maximum(h, 0.0, out=cache.x1)

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][...] = cache.q1.reshape(out[0].shape)

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        np.copyto(cache.c1, totals[0].reshape(cache.c1.shape))


@dataclass(frozen=True)
class SecondNets:
    """Round 2: the second layers of all nets; after it a, b, and ω of the first unfolded layer."""

    model: Uwmmse

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part("channel", False, 2 * self.model.unfolded, 2 * self.model.unfolded),)

    def send(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][...] = (cache.x1 * theta.w1_2[:, None]).sum(axis=3)

    def receive(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        own = cache.h[..., None] * (cache.x1 * theta.w0_2[:, None]).sum(axis=3)
        h = totals[0] + own + (theta.b1_2 + theta.b0_2)[:, None, :, 0]
        e = np.exp(-np.abs(h))
        np.divide(np.where(h >= 0, 1.0, e), 1.0 + e, out=cache.ab)
        np.divide(e, np.square(1.0 + e), out=cache.slope)
        cache.weigh(0)

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][...] = cache.q2

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        np.copyto(cache.c2, totals[0])
        own = (cache.h[..., None] * cache.q2)[..., None] * theta.w0_2[:, None]
        dx = cache.c2[..., None] * theta.w1_2[:, None] + own
        np.multiply(dx, cache.x1 > 0, out=cache.q1)


@dataclass(frozen=True)
class Beamformers:
    """Round 2k + 1: u²ω, for d; after it v of unfolded layer k (here from 0)."""

    model: Uwmmse
    k: int

    parts = (Part("gain", False, 1, 1),)

    def send(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = np.square(cache.u[self.k]) * cache.omega[self.k]

    def receive(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        k = self.k
        u, omega, d, raw = cache.u[k], cache.omega[k], cache.d[k], cache.raw[k]
        np.copyto(cache.others[k], totals[0][..., 0])
        np.add(cache.others[k], cache.g * np.square(u) * omega, out=d)
        raw.fill(0.0)  # where d = 0: the pair has no link
        np.divide(cache.h * u * omega, d, out=raw, where=d != 0)
        np.clip(raw, 0.0, np.sqrt(self.model.max_power), out=cache.v[k + 1])

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = cache.dd

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        """The adjoint of u, w, ω and d of this unfolded layer, down to ∂ℓ/∂v and ∂ℓ/∂r of the one below."""
        k, h, g = self.k, cache.h, cache.g
        u, omega, d, v, total = cache.u[k], cache.omega[k], cache.d[k], cache.v[k], cache.total[k]
        heard, numerator = totals[0][..., 0], h * cache.dn
        # Shares of the others and of the own term in d: u²·(heard + own) + u·numerator would cancel.
        others, own = np.zeros((2, *d.shape))
        np.divide(cache.others[k], d, out=others, where=d != 0)
        np.divide(g * np.square(u) * omega, d, out=own, where=d != 0)
        domega = np.square(u) * heard + u * numerator * others
        cache.da[..., 2 * k] = domega * (1.0 + cache.ratio[k])
        cache.da[..., 2 * k + 1] = domega
        if k == 0:
            np.multiply(cache.da, cache.slope, out=cache.q2)
            return
        du = 2.0 * u * omega * heard + omega * numerator * (others - own)
        dw = domega * cache.ab[..., 2 * k]
        dtotal = -du * u / total
        down = dtotal + dw / cache.floor[k]
        np.add(du * h / total, 2.0 * down * g * v, out=cache.dv)
        np.subtract(dtotal, dw * cache.ratio[k] / cache.floor[k], out=cache.dr)


@dataclass(frozen=True)
class Interference:
    """Round 2k + 2: v² of unfolded layer k, for r; after it u, w and ω of layer k + 1, or what the rate comes from."""

    model: Uwmmse
    k: int

    parts = (Part("gain", True, 1, 1),)

    def send(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = np.square(cache.v[self.k])

    def receive(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        if self.k == self.model.unfolded:
            cache.output[..., 0] = cache.g * np.square(cache.v[self.k])
            cache.output[..., 1] = totals[0][..., 0]
        else:
            cache.measure(self.k, totals[0][..., 0])
            cache.weigh(self.k)

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = cache.dr

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        """∂ℓ/∂v is complete; on to ∂ℓ/∂d of the layer that computed v."""
        np.add(cache.dv, 2.0 * cache.v[self.k] * totals[0][..., 0], out=cache.dv)
        raw, d = cache.raw[self.k - 1], cache.d[self.k - 1]
        inside = (raw > 0) & (raw < np.sqrt(self.model.max_power))  # elsewhere v was clipped
        cache.dn.fill(0.0)
        np.divide(cache.dv, d, out=cache.dn, where=inside)
        np.multiply(-cache.dn, raw, out=cache.dd)
