"""UWMMSE power allocation (SPEC §6 B) on global matrices: forward, hand-written reverse pass, training.

Symbols: B samples (channels), n pairs, p parameters; H [B, n, n], H_ij from transmitter i to receiver j. Gains
span many decades, so "all but its own" is summed without the own term, here and in the reverse pass, never
subtracted: 1 - u_i H_ii v_i loses all its digits where receiver i hears little but its own transmitter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fdtrain.errors import InputError
from fdtrain.reference.model import ACTIVATIONS, Array, check_choice, check_shape
from fdtrain.reference.recursions import CENTRALIZED, Recursion, clip_rows

_SIGMA = ("relu", "sigmoid")  # of the two layers of a GCNN
_Parts = tuple[Array, Array, Array, Array]  # w1, w0 [..., g_in, g_out], b1, b0 [..., g_out]


# --- the GCNN: x_i <- sigma(sum_j H_ij (x_j w1^j) + b1^i + H_ii (x_i w0^i) + b0^i), h is sigma's argument ---


def _own(H: Array) -> Array:  # H_ii [B, n]
    return np.diagonal(H, axis1=1, axis2=2)


def _t(M: Array) -> Array:  # transposes the last two axes
    return M.swapaxes(-1, -2)


def _per_node(x: Array, w: Array) -> Array:  # x_i w^i: x [B, n, g], w [n, g, h]
    return np.asarray(np.einsum("big,igh->bih", x, w))


def _local(H: Array, x: Array, parts: _Parts) -> Array:
    """h [B, n, g_out] of x [B, n, g_in]; every part has a row per node."""
    w1, w0, b1, b0 = parts
    return H @ _per_node(x, w1) + b1 + _own(H)[..., None] * _per_node(x, w0) + b0


def _local_reverse(H: Array, x: Array, parts: _Parts, q: Array) -> tuple[_Parts, Array]:
    """From q = df/dh: df/d parts of every sample and node [B, n, ...], and df/dx; C = H^T q."""
    C, Q0 = _t(H) @ q, _own(H)[..., None] * q
    z = _per_node(C, _t(parts[0])) + _per_node(Q0, _t(parts[1]))
    return (x[..., None] * C[..., None, :], x[..., None] * Q0[..., None, :], q, q), z


def _joined(H: Array, x: Array) -> Array:  # U = [H x, diag(H) x, 1, 1], [B n, 2 g_in + 2]
    one = np.ones((*x.shape[:2], 2))
    return np.concatenate([H @ x, _own(H)[..., None] * x, one], axis=2).reshape(-1, 2 * x.shape[2] + 2)


def _stacked(parts: _Parts) -> Array:  # Theta = [w1; w0; b1; b0], [2 g_in + 2, g_out]
    return np.concatenate([parts[0], parts[1], parts[2][None], parts[3][None]])


def _shared(H: Array, x: Array, parts: _Parts) -> Array:
    """h as above with the same parts at all nodes: a dense layer, U Theta."""
    return (_joined(H, x) @ _stacked(parts)).reshape(*x.shape[:2], -1)


def _shared_reverse(H: Array, x: Array, parts: _Parts, q: Array) -> tuple[_Parts, Array]:
    """df/d parts, summed over samples and nodes (dTheta = U^T q), and df/dx, from dU = q Theta^T."""
    g, q = x.shape[2], q.reshape(-1, q.shape[2])
    dTheta = _joined(H, x).T @ q
    dU = (q @ _stacked(parts).T).reshape(*x.shape[:2], -1)
    z = _t(H) @ dU[..., :g] + _own(H)[..., None] * dU[..., g : 2 * g]
    return (dTheta[:g], dTheta[g : 2 * g], dTheta[-2], dTheta[-1]), z


# --- one unfolded layer on powers ---


class _Gains(NamedTuple):
    """H_ii [B, n] and H_ij^2 [B, n, n] with the diagonal set to 0."""

    own: Array
    cross: Array

    @staticmethod
    def of(H: Array) -> _Gains:
        check_shape("H", H.shape, (*H.shape[:1], *H.shape[-1:] * 2))
        return _Gains(_own(H), H**2 * (1.0 - np.eye(H.shape[-1])))

    def received(self, x: Array) -> Array:  # sum_{j != i} H_ji^2 x_j
        return (x[:, None, :] @ self.cross)[:, 0]

    def caused(self, x: Array) -> Array:  # sum_{j != i} H_ij^2 x_j
        return (self.cross @ x[..., None])[..., 0]


class _Step(NamedTuple):
    """What one layer keeps for its reverse pass; all [B, n]."""

    v: Array  # before the layer
    a: Array
    rest: Array  # sigma^2 + interference, without the own term
    total: Array
    u: Array
    w: Array
    omega: Array
    others: Array  # sum_{j != i} H_ij^2 u_j^2 omega_j
    denominator: Array
    quotient: Array  # the next v before the clip


def _step(gains: _Gains, noise: float, v: Array, a: Array, b: Array) -> _Step:
    signal = (gains.own * v) ** 2
    rest = noise + gains.received(v**2)
    total = rest + signal
    u, w = gains.own * v / total, total / rest
    omega = a * w + b
    others = gains.caused(u**2 * omega)
    denominator = others + (gains.own * u) ** 2 * omega
    quotient = np.divide(gains.own * u * omega, denominator, out=np.zeros_like(v), where=denominator > 0)
    return _Step(v, a, rest, total, u, w, omega, others, denominator, quotient)


def _step_reverse(gains: _Gains, s: _Step, top: float, dv: Array) -> tuple[Array, Array, Array]:
    """df/da, df/db, df/dv of a layer from df/d(its new v).

    With N = H_ii u_i omega_i, D = others + H_ii N u_i: dN/D - N dD/D^2, the own part of which is joined:
    d/d omega_i = H_ii u_i others / D^2, d/d u_i = H_ii omega_i (others - H_ii^2 u_i^2 omega_i) / D^2.
    """
    inside = (s.quotient > 0) & (s.quotient < top)
    inverse = np.divide(1.0, s.denominator, out=np.zeros_like(dv), where=inside)
    scaled = dv * inverse  # df/dN
    spread = gains.received(-scaled * s.quotient)  # sum_{j != i} H_ji^2 df/dD_j
    share, own_share = s.others * inverse, (gains.own * s.u) ** 2 * s.omega * inverse  # together 1
    domega = scaled * gains.own * s.u * share + s.u**2 * spread
    du = scaled * gains.own * s.omega * (share - own_share) + 2.0 * s.u * s.omega * spread
    # w_i = 1 + H_ii^2 v_i^2 / rest_i, u_i = H_ii v_i / (rest_i + H_ii^2 v_i^2)
    dw, signal = domega * s.a, (gains.own * s.v) ** 2
    drest = -dw * signal / s.rest**2 - du * s.u / s.total
    back = 2.0 * dw * gains.own**2 * s.v / s.rest + du * gains.own * (s.rest - signal) / s.total**2
    return domega * s.w, domega, back + 2.0 * s.v * gains.caused(drest)


def _rates(gains: _Gains, v: Array, noise: float) -> Array:
    return np.asarray(np.log1p((gains.own * v) ** 2 / (noise + gains.received(v**2))) / np.log(2.0))


def _rates_reverse(gains: _Gains, v: Array, noise: float) -> Array:
    """d sum_i rate_i / dv [B, n]."""
    rest, signal = noise + gains.received(v**2), (gains.own * v) ** 2
    drest = -signal / (rest * (rest + signal))
    return np.asarray(2.0 * v * (gains.own**2 / (rest + signal) + gains.caused(drest)) / np.log(2.0))


# --- the model ---

_Traces = tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]]  # x, h of both layers; of a, of b


class _Form(NamedTuple):
    forward: Callable[[Array, Array, _Parts], Array]
    reverse: Callable[[Array, Array, _Parts, Array], tuple[_Parts, Array]]


_LOCAL, _SHARED = _Form(_local, _local_reverse), _Form(_shared, _shared_reverse)


def _parts(views: dict[str, Array], name: str) -> _Parts:
    return views[f"{name}_w1"], views[f"{name}_w0"], views[f"{name}_b1"], views[f"{name}_b0"]


@dataclass(frozen=True)
class Uwmmse:
    """From v = sqrt(Pmax), K layers of u, w, omega = a w + b, v; a and b are GCNNs (sender form) on a constant 1."""

    noise: float  # sigma^2
    max_power: float  # Pmax
    layers: int = 4
    hidden: int = 5  # GCNNs of sizes 1-hidden-1

    def __post_init__(self) -> None:
        if not (self.noise > 0 and self.max_power > 0):
            raise InputError(f"noise and max_power need to be > 0; found {self.noise}, {self.max_power}")
        if min(self.layers, self.hidden) < 1:
            raise InputError(f"layers and hidden need to be >= 1; found {self.layers}, {self.hidden}")

    @property
    def num_parameters(self) -> int:
        """p, per node."""
        return self.layers * 2 * (4 * self.hidden + (2 * self.hidden + 2))

    def names(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of every part, in theta's order; each is stored row-major."""
        return [
            (f"k{k}_{net}_{layer}_{part}", (g, h) if part[0] == "w" else (h,))
            for k in range(1, self.layers + 1)
            for net in "ab"
            for layer, (g, h) in enumerate(pairwise((1, self.hidden, 1)), start=1)
            for part in ("w1", "w0", "b1", "b0")
        ]

    def split(self, theta: Array) -> dict[str, Array]:
        """Views [..., *shape] of theta [..., p]."""
        check_shape("theta's last axis", theta.shape[-1:], (self.num_parameters,))
        views, at = {}, 0
        for name, shape in self.names():
            size = int(np.prod(shape))
            views[name] = theta[..., at : at + size].reshape(*theta.shape[:-1], *shape)
            at += size
        return views

    def _gcnn(
        self, form: _Form, H: Array, views: dict[str, Array], net: str
    ) -> tuple[Array, list[tuple[Array, Array]]]:
        """Output [B, n] and (x, h) of both layers."""
        x, trace = np.ones((*H.shape[:2], 1)), []
        for layer, sigma in enumerate(_SIGMA, start=1):
            h = form.forward(H, x, _parts(views, f"{net}_{layer}"))
            trace.append((x, h))
            x = ACTIVATIONS[sigma][0](h, 0.0)
        return x[..., 0], trace

    def _layers(
        self, form: _Form, H: Array, theta: Array
    ) -> tuple[Array, list[tuple[_Step, _Traces]], _Gains]:
        gains, views, top = _Gains.of(H), self.split(theta), np.sqrt(self.max_power)
        v, kept = np.full(H.shape[:2], top), []
        for k in range(1, self.layers + 1):
            (a, of_a), (b, of_b) = (self._gcnn(form, H, views, f"k{k}_{net}") for net in "ab")
            step = _step(gains, self.noise, v, a, b)
            kept.append((step, (of_a, of_b)))
            v = np.clip(step.quotient, 0.0, top)
        return v, kept, gains

    def _pass(self, form: _Form, H: Array, theta: Array, gradient: Array, scale: float) -> Array:
        """Rates [B, n]; writes scale * d(sum of rates)/d theta into gradient."""
        v, kept, gains = self._layers(form, H, theta)
        views, into, top = self.split(theta), self.split(gradient), float(np.sqrt(self.max_power))
        dv = scale * _rates_reverse(gains, v, self.noise)
        for k, (step, traces) in reversed(list(enumerate(kept, start=1))):
            da, db, dv = _step_reverse(gains, step, top, dv)
            for net, dx, trace in zip("ab", (da, db), traces, strict=True):
                z = dx[..., None]
                for layer in (2, 1):
                    (x, h), name = trace[layer - 1], f"k{k}_{net}_{layer}"
                    q = z * ACTIVATIONS[_SIGMA[layer - 1]][1](h, 0.0)
                    parts, z = form.reverse(H, x, _parts(views, name), q)
                    for part, value in zip(_parts(into, name), parts, strict=True):
                        part[...] = value
        return _rates(gains, v, self.noise)

    def allocate(self, H: Array, theta: Array) -> Array:
        """v [B, n] of H [B, n, n]; theta [n, p], a row per node, or [p], the same at all nodes."""
        if theta.ndim == 1:
            return self._layers(_SHARED, H, theta)[0]
        check_shape("theta", theta.shape, (H.shape[-1], self.num_parameters))
        return self._layers(_LOCAL, H, theta)[0]

    def local_pass(self, H: Array, theta: Array) -> tuple[Array, Array]:
        """Rates [B, n] and local gradients [B, n, p]: n d/d theta^i of -(1/B) sum_j rate_j(b); theta [n, p]."""
        check_shape("theta", theta.shape, (H.shape[-1], self.num_parameters))
        gradient = np.empty((*H.shape[:2], self.num_parameters))
        return self._pass(_LOCAL, H, theta, gradient, -H.shape[-1] / len(H)), gradient

    def shared_pass(self, H: Array, theta: Array) -> tuple[Array, Array]:
        """Rates [B, n] and the gradient [p] of -(1/B) sum_b sum_i rate_i(b); theta [p]."""
        check_shape("theta", theta.shape, (self.num_parameters,))
        gradient = np.empty(self.num_parameters)
        return self._pass(_SHARED, H, theta, gradient, -1.0 / len(H)), gradient


def rates(H: Array, v: Array, noise: float) -> Array:
    """log2(1 + H_ii^2 v_i^2 / (sigma^2 + sum_{j != i} H_ji^2 v_j^2)) [B, n]; H [B, n, n], v [B, n]."""
    gains = _Gains.of(H)
    check_shape("v", v.shape, H.shape[:2])
    return _rates(gains, v, noise)


def wmmse(H: Array, noise: float, max_power: float, iterations: int) -> Array:
    """v [B, n] after so many iterations from sqrt(Pmax): the layers above with a = 1, b = 0."""
    gains, top = _Gains.of(H), np.sqrt(max_power)
    v = np.full(H.shape[:2], top)
    one, zero = np.ones_like(v), np.zeros_like(v)
    for _ in range(iterations):
        v = np.clip(_step(gains, noise, v, one, zero).quotient, 0.0, top)
    return v


def mutual_mixing(H: Array, kind: str = "metropolis", beta: float = 0.0) -> Array:
    """W [B, n, n] (§3) of every sample's graph: i ~ j when H_ij != 0 and H_ji != 0, i != j.

    metropolis (16): W_ij = 1 / (1 + max(d_i, d_j)), W_ii = 1 - sum_j W_ij; laplacian: I - beta (D - A).
    """
    check_choice("mixing", kind, "metropolis", "laplacian")
    check_shape("H", H.shape, (*H.shape[:1], *H.shape[-1:] * 2))
    eye = np.eye(H.shape[-1])
    A = ((H != 0) & (_t(H) != 0)) * (1.0 - eye)
    d = A.sum(axis=2)
    W = A / (1.0 + np.maximum(d[:, :, None], d[:, None, :])) if kind == "metropolis" else beta * A
    return np.asarray(W + eye * (1.0 - W.sum(axis=2))[..., None])


def _sum_rate(model: Uwmmse, H: Array, theta: Array) -> float:  # mean over draws and samples; H [M, B, n, n]
    return float(np.mean([rates(h, model.allocate(h, theta), model.noise).sum(axis=1).mean() for h in H]))


def train_uwmmse(
    model: Uwmmse,
    recursion: Recursion,
    lr: float,
    H_train: Array,
    H_test: Array,
    theta: Array,
    order: Array,
    *,
    centralized: bool,
    consensus: str = "per_sample",
    mixing: str = "metropolis",
    beta: float = 0.0,
    max_norm: float | None = None,
) -> tuple[Array, list[tuple[float, float]]]:
    """The last theta and (rate_train, rate_test) of every epoch.

    H_train [M, B, n, n] a mini-batch per row, H_test likewise; order [epochs, M]; theta [p] or, not centralized,
    [n, p]. rate_train: sum rate before each update, mean over samples and mini-batches; rate_test: after the epoch.
    consensus is of naive_* alone. per_sample: g^i = sum_b sum_j (W(b)^K)_ij g_j(b), then plain SGD or Adam at each
    node. Everything else mixes once per mini-batch, with the mean over b of W(b). max_norm clips the rows g_j(b)
    where samples are mixed, else the rows of sum_b g(b).
    """
    check_choice("consensus", consensus, "per_sample", "per_batch")
    check_shape(
        "theta", theta.shape, theta.shape[-1:] if centralized else (H_train.shape[-1], *theta.shape[-1:])
    )
    if centralized != (recursion.kind in CENTRALIZED):
        raise InputError(f"centralized = {centralized} does not fit the training approach {recursion.kind}")
    each_sample = recursion.kind.startswith("naive_") and consensus == "per_sample"
    # what is mixed here leaves the plain optimizer, row by row
    kind = recursion.kind.removeprefix("naive_") if each_sample else recursion.kind
    optimizer = replace(recursion, kind=kind)

    def clipped(gradient: Array) -> Array:
        return gradient if max_norm is None else clip_rows(gradient, max_norm)

    state, results = optimizer.start(theta), []
    for epoch in np.asarray(order):
        seen = []
        for m in epoch:
            W = None
            if centralized:
                rate, gradient = model.shared_pass(H_train[m], state.theta)
                gradient = clipped(gradient)
            elif each_sample:
                rate, samples = model.local_pass(H_train[m], state.theta)
                WK = np.linalg.matrix_power(
                    mutual_mixing(H_train[m], mixing, beta), recursion.consensus_rounds
                )
                gradient = (WK @ clipped(samples)).sum(axis=0)
            else:
                rate, samples = model.local_pass(H_train[m], state.theta)
                W = mutual_mixing(H_train[m], mixing, beta).mean(axis=0)
                gradient = clipped(samples.sum(axis=0))
            seen.append(rate.sum(axis=1).mean())
            state = optimizer.advance(state, W, gradient, lr)
        results.append((float(np.mean(seen)), _sum_rate(model, H_test, state.theta)))
    return state.theta, results
