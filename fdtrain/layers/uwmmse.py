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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain.programs import Layer, Part, SampleTape, outline_of
from fdtrain.rounds import Outline

Array = NDArray[np.float64]

NETS = "ab"
NAMES = (
    "1_w1",
    "1_w0",
    "1_b1",
    "1_b0",
    "2_w1",
    "2_w0",
    "2_b1",
    "2_b0",
)  # of a net's parameters, in their order


class Nets(NamedTuple):
    """The parameters of all 2K nets, a_1, b_1, a_2, …; F is the hidden size."""

    w1_1: Array  # [n, 2K, F]
    w0_1: Array
    b1_1: Array
    b0_1: Array
    w1_2: Array  # [n, 2K, F]
    w0_2: Array
    b1_2: Array  # [n, 2K, 1]
    b0_2: Array


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

    @property
    def stops(self) -> list[int]:
        """Where in a net's parameters each but the first of :class:`Nets` begins."""
        F = self.hidden
        return [F, 2 * F, 3 * F, 4 * F, 5 * F, 6 * F, 6 * F + 1]

    def views(self, theta: Array) -> dict[str, Array]:
        """Named views of `theta` [n, p]: ``k{1…K}_{a|b}_{1|2}_{w1|w0}`` [n, g_in, g_out], ``…_{b1|b0}`` [n, g_out]."""
        n, F = len(theta), self.hidden
        shapes = [(1, F), (1, F), (F,), (F,), (F, 1), (F, 1), (1,), (1,)]
        named = {}
        for number in range(2 * self.unfolded):
            for name, shape, part in zip(NAMES, shapes, self.arrange(theta), strict=True):
                key = f"k{number // 2 + 1}_{NETS[number % 2]}_{name}"
                named[key] = part[:, number].reshape(n, *shape, copy=False)
        return named

    def part_of(self, number: int) -> str:
        """The net that parameter `number` of θ belongs to."""
        net = number // (6 * self.hidden + 2)
        return f"net {NETS[net % 2]} of unfolded layer {net // 2 + 1}"

    def turn(self, theta: Nets, cache: Cache, z: Array) -> None:
        """From ∂ℓ/∂(H_ii² v_i², r_i) to ∂ℓ/∂v of the last layer, and to what goes back first."""
        cache.dr = z[..., 1].copy()
        cache.dv = 2.0 * z[..., 0] * cache.g * cache.v[-1]
        cache.da.fill(0.0)

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
    """The quantities of a wave, [n, w] each, of the nets [n, w, 2K, ·]; a list has one entry per unfolded layer."""

    def __init__(self, model: Uwmmse, n: int, w: int) -> None:
        K, F = model.unfolded, model.hidden
        self.input = np.zeros((n, w, model.inputs))
        self.output = np.zeros((n, w, model.outputs))
        self.h, self.g = np.zeros((n, w)), np.zeros((n, w))  # H_ii, H_ii²
        self.x1 = np.zeros((n, w, 2 * K, F))
        self.ab = np.zeros((n, w, 2 * K))
        self.slope = np.zeros((n, w, 2 * K))  # σ' of the second layers
        self.v = [np.full((n, w), np.sqrt(model.max_power))]  # v^0 … v^K
        self.floor: list[Array] = []  # σ² + r
        self.ratio: list[Array] = []  # w − 1 = H_ii² v² / (σ² + r)
        self.total: list[Array] = []  # σ² + r + H_ii² v²
        self.u: list[Array] = []
        self.omega: list[Array] = []
        self.others: list[Array] = []  # d without the own term
        self.d: list[Array] = []
        self.raw: list[Array] = []  # v before it is clipped
        self.da = np.zeros((n, w, 2 * K))  # ∂ℓ/∂(a, b)
        self.dv = self.dr = self.dd = np.zeros((n, w))
        self.q2 = np.zeros((n, w, 2 * K))  # ∂ℓ/∂h of the nets' layers
        self.q1 = np.zeros((n, w, 2 * K, F))
        self.c2, self.c1 = self.q2, self.q1  # their adjoint sums

    def begin(self) -> None:
        """Forget the last wave."""
        self.h = self.input[..., 0].copy()
        self.g = np.square(self.h)
        for kept in (self.floor, self.ratio, self.total, self.u, self.omega, self.others, self.d, self.raw):
            kept.clear()
        del self.v[1:]

    def measure(self, r: Array, noise: float) -> None:
        """From r to u and w of the next unfolded layer."""
        v = self.v[-1]
        own = self.g * np.square(v)
        floor = noise + r
        total = floor + own
        self.floor.append(floor)
        self.total.append(total)
        self.ratio.append(own / floor)
        self.u.append(self.h * v / total)

    def weigh(self) -> None:
        """ω of the latest layer."""
        k = len(self.omega)
        self.omega.append(self.ab[..., 2 * k] * (1.0 + self.ratio[k]) + self.ab[..., 2 * k + 1])


@dataclass(frozen=True)
class FirstNets:
    """Round 1: v² of the start, for r, beside the first layers of all nets, whose input is 1."""

    model: Uwmmse

    @property
    def parts(self) -> tuple[Part, ...]:
        width = 2 * self.model.unfolded * self.model.hidden
        return Part("gain", True, 1, 0), Part("channel", False, width, width)

    def send(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        cache.begin()
        out[0][...] = np.square(cache.v[0])[..., None]
        out[1][...] = theta.w1_1.reshape(len(theta.w1_1), 1, -1)

    def receive(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        cache.measure(totals[0][..., 0], self.model.noise)
        own = cache.h[..., None, None] * theta.w0_1[:, None]
        h = totals[1].reshape(cache.x1.shape) + own + (theta.b1_1 + theta.b0_1)[:, None]
        np.maximum(h, 0.0, out=cache.x1)

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][...] = cache.q1.reshape(out[0].shape)

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        cache.c1 = totals[0].reshape(cache.q1.shape)


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
        cache.weigh()

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][...] = cache.q2

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        cache.c2 = totals[0].copy()
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
        u, omega = cache.u[self.k], cache.omega[self.k]
        d = totals[0][..., 0] + cache.g * np.square(u) * omega
        raw = np.divide(
            cache.h * u * omega, d, out=np.zeros_like(d), where=d != 0
        )  # 0/0: the pair has no link
        cache.others.append(totals[0][..., 0].copy())
        cache.d.append(d)
        cache.raw.append(raw)
        cache.v.append(np.clip(raw, 0.0, np.sqrt(self.model.max_power)))

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = cache.dd

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        """The adjoint of u, w, ω and d of this unfolded layer, down to ∂ℓ/∂v and ∂ℓ/∂r of the one below."""
        k, h, g = self.k, cache.h, cache.g
        u, omega, d, v, total = cache.u[k], cache.omega[k], cache.d[k], cache.v[k], cache.total[k]
        numerator = h * self.quotient(cache)
        heard = totals[0][..., 0]
        share = np.divide(cache.others[k], d, out=np.zeros_like(d), where=d > 0)
        own = np.divide(g * np.square(u) * omega, d, out=np.zeros_like(d), where=d > 0)
        domega = np.square(u) * heard + u * numerator * share
        cache.da[..., 2 * k] = domega * (1.0 + cache.ratio[k])
        cache.da[..., 2 * k + 1] = domega
        if k == 0:
            np.multiply(cache.da, cache.slope, out=cache.q2)
            return
        du = 2.0 * u * omega * heard + omega * numerator * (share - own)
        dw = domega * cache.ab[..., 2 * k]
        dtotal = -du * u / total
        down = dtotal + dw / cache.floor[k]
        cache.dv = du * h / total + 2.0 * down * g * v
        cache.dr = dtotal - dw * cache.ratio[k] / cache.floor[k]

    def quotient(self, cache: Cache) -> Array:
        """∂ℓ/∂(numerator of v), [n, w]; 0 where v was clipped."""
        raw, d = cache.raw[self.k], cache.d[self.k]
        inside = (raw > 0) & (raw < np.sqrt(self.model.max_power))
        found: Array = np.divide(cache.dv, d, out=np.zeros_like(d), where=inside)
        return found


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
            cache.measure(totals[0][..., 0], self.model.noise)
            cache.weigh()

    def send_back(self, theta: Nets, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = cache.dr

    def receive_back(self, theta: Nets, cache: Cache, totals: Sequence[Array]) -> None:
        """∂ℓ/∂v is complete; on to ∂ℓ/∂d of the layer that computed v."""
        cache.dv = cache.dv + 2.0 * cache.v[self.k] * totals[0][..., 0]
        below = Beamformers(self.model, self.k - 1)
        cache.dd = -below.quotient(cache) * cache.raw[self.k - 1]
