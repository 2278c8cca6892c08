"""The graph convolution, seen from its nodes, in both forms, forward next to backward (SPEC §2).

Global form, S the graph shift and Θ equal on all nodes:  X^l = σ(X^{l−1}Θ0 + S X^{l−1}Θ1).

Arrays hold the n nodes of a rank first, then the w samples of a wave, then the features: ``x [n, w, g]``. For every
wave,

    forward_message → (neighbours' sum, weights S_ij) → forward
    backward → backward_message → (sum, weights S_ji) → absorb

and, once per mini-batch, ``gradient``. What the backward pass needs is kept in a :class:`Cache`: the paper's
"information reuse".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.layers.activations import Activation

Array = NDArray[np.float64]


class Cache:
    """What a layer works on for one wave of w samples.

    ``left [n, w, k_in]`` and ``right [n, w, k_out]`` are what the gradient is the product of: x (and, in the receiver
    form, a) on the left, q (and, in the sender form, c) on the right. ``y [n, w, g_out]`` is the layer's output: the
    ``x`` of the next layer's cache. ``h [n, w, g_out]`` is h on the way forward, and then holds σ'(h).
    """

    __slots__ = ("a", "c", "h", "left", "outgoing", "p", "q", "right", "x", "y", "z", "z_own")

    def __init__(self, layer: Convolution, left: Array, right: Array, y: Array) -> None:
        n, w, _ = left.shape
        self.left, self.right, self.y = left, right, y
        self.x, self.a = left[..., : layer.g_in], left[..., layer.g_in :]
        self.q, self.c = right[..., : layer.g_out], right[..., layer.g_out :]
        self.h = np.zeros((n, w, layer.g_out), left.dtype)
        self.z = np.zeros((n, w, layer.adjoint_width), left.dtype)
        self.z_own, self.p = self.z[..., : layer.g_in], self.z[..., layer.g_in :]
        self.outgoing = np.zeros((n, w, layer.message_width), left.dtype)


class Convolution(Protocol):
    """One graph convolution from g_in to g_out features.

    `theta` is [n, *parameter_shape]: every node's Θ0 followed by its Θ1, both row-major, in the shape that suits
    the form; the same for the gradient.
    """

    @property
    def g_in(self) -> int:
        """Features of the input."""

    @property
    def g_out(self) -> int:
        """Features of the output."""

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape in which a node's parameters are handed over; its size is |Θ0| + |Θ1| = 2 g_in g_out."""

    @property
    def left_width(self) -> int:
        """Numbers per sample on the gradient's left side; the first g_in are x."""

    @property
    def right_width(self) -> int:
        """Numbers per sample on the gradient's right side; the first g_out are q."""

    @property
    def adjoint_width(self) -> int:
        """Numbers per sample of the backward pass's scratch."""

    @property
    def message_width(self) -> int:
        """Numbers per sample of a message, the same forward and backward."""

    @property
    def keeps_adjoint(self) -> bool:
        """Whether the gradient needs what ``absorb`` is given."""

    def forward_message(self, theta: Array, cache: Cache, out: Array) -> None:
        """Write the forward message [n, w, message_width] to `out`."""

    def forward(self, theta: Array, cache: Cache, total: Array) -> None:
        """From `total` [n, w, message_width], the neighbours' sum, compute cache.y = σ(h)."""

    def backward(self, theta: Array, cache: Cache, z: Array, *, send: bool) -> None:
        """From `z` [n, w, g_out] = ∂ℓ/∂x^l compute q; prepare the backward message if it is going to be sent."""

    def backward_message(self, cache: Cache, out: Array) -> None:
        """Write the backward message [n, w, message_width] to `out`."""

    def absorb(self, theta: Array, cache: Cache, total: Array, *, onward: bool) -> Array:
        """From `total`, the adjoint neighbours' sum, return z of the layer below [n, w, g_in] (if `onward`).

        `total` may be overwritten.
        """

    def gradient(self, left: Array, right: Array, out: Array) -> None:
        """Sum the local gradient over samples: `left` [n, B, ·], `right` [n, B, ·] → `out` [n, *parameter_shape]."""

    def outer(self, left: Array, right: Array, out: Array) -> None:
        """The local gradient of every sample: `left` [n, w, ·], `right` [n, w, ·] → `out` [n, w, *parameter_shape]."""


@dataclass(frozen=True)
class ReceiverLayer:
    """Receiver form, paper (13b) and (14): node i weighs what it hears with its own parameters.

    Forward, message x_j:       a_i = Σ_j S_ij x_j,   h_i = x_i Θ0^i + a_i Θ1^i
    Backward, message p_i:      q_i = z_i ⊙ σ'(h_i),  p_i = q_i (Θ1^i)ᵀ,  z_i^{below} = q_i (Θ0^i)ᵀ + Σ_j S_ji p_j
    Gradient:                   ∂Θ0 = x_iᵀ q_i,  ∂Θ1 = a_iᵀ q_i

    x and a lie side by side (``left = [x | a]``), and Θ0 over Θ1, so that each line is one product per node.
    """

    g_in: int
    g_out: int
    activation: Activation

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return (2 * self.g_in, self.g_out)

    @property
    def left_width(self) -> int:
        return 2 * self.g_in

    @property
    def right_width(self) -> int:
        return self.g_out

    @property
    def adjoint_width(self) -> int:
        return 2 * self.g_in

    @property
    def message_width(self) -> int:
        return self.g_in

    @property
    def keeps_adjoint(self) -> bool:
        return False

    def forward_message(self, theta: Array, cache: Cache, out: Array) -> None:
        np.copyto(out, cache.x)

    def forward(self, theta: Array, cache: Cache, total: Array) -> None:
        np.copyto(cache.a, total)
        np.matmul(cache.left, theta, cache.h)
        self.activation.apply(cache.h, cache.y)

    def backward(self, theta: Array, cache: Cache, z: Array, *, send: bool) -> None:
        np.multiply(z, cache.h, cache.q)
        if send:
            np.matmul(cache.right, theta.swapaxes(1, 2), cache.z)

    def backward_message(self, cache: Cache, out: Array) -> None:
        np.copyto(out, cache.p)

    def absorb(self, theta: Array, cache: Cache, total: Array, *, onward: bool) -> Array:
        return np.add(cache.z_own, total, total)

    def gradient(self, left: Array, right: Array, out: Array) -> None:
        np.matmul(left.swapaxes(1, 2), right, out)

    def outer(self, left: Array, right: Array, out: Array) -> None:
        np.multiply(left[..., :, None], right[..., None, :], out)


@dataclass(frozen=True)
class SenderLayer:
    """Sender form, paper (10) as printed: node j weighs what it sends with its own parameters.

    Forward, message x_j Θ1^j:  h_i = x_i Θ0^i + Σ_j S_ij (x_j Θ1^j)
    Backward, message q_i:      q_i = z_i ⊙ σ'(h_i),  c_i = Σ_j S_ji q_j,  z_i^{below} = q_i (Θ0^i)ᵀ + c_i (Θ1^i)ᵀ
    Gradient:                   ∂Θ0 = x_iᵀ q_i,  ∂Θ1 = x_iᵀ c_i

    q and c lie side by side: ``right = [q | c]``.
    """

    g_in: int
    g_out: int
    activation: Activation

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        return (2, self.g_in, self.g_out)

    @property
    def left_width(self) -> int:
        return self.g_in

    @property
    def right_width(self) -> int:
        return 2 * self.g_out

    @property
    def adjoint_width(self) -> int:
        return self.g_in

    @property
    def message_width(self) -> int:
        return self.g_out

    @property
    def keeps_adjoint(self) -> bool:
        return True

    def forward_message(self, theta: Array, cache: Cache, out: Array) -> None:
        np.matmul(cache.left, theta[:, 1], cache.outgoing)
        np.copyto(out, cache.outgoing)

    def forward(self, theta: Array, cache: Cache, total: Array) -> None:
        np.matmul(cache.left, theta[:, 0], cache.h)
        np.add(cache.h, total, cache.h)
        self.activation.apply(cache.h, cache.y)

    def backward(self, theta: Array, cache: Cache, z: Array, *, send: bool) -> None:
        np.multiply(z, cache.h, cache.q)

    def backward_message(self, cache: Cache, out: Array) -> None:
        np.copyto(out, cache.q)

    def absorb(self, theta: Array, cache: Cache, total: Array, *, onward: bool) -> Array:
        np.copyto(cache.c, total)
        if onward:
            np.matmul(cache.q, theta[:, 0].swapaxes(1, 2), cache.z)
            np.add(cache.z, np.matmul(total, theta[:, 1].swapaxes(1, 2)), cache.z)
        return cache.z

    def gradient(self, left: Array, right: Array, out: Array) -> None:
        transposed = left.swapaxes(1, 2)
        np.matmul(transposed, right[..., : self.g_out], out[:, 0])
        np.matmul(transposed, right[..., self.g_out :], out[:, 1])

    def outer(self, left: Array, right: Array, out: Array) -> None:
        np.multiply(left[..., :, None], right[..., None, : self.g_out], out[:, :, 0])
        np.multiply(left[..., :, None], right[..., None, self.g_out :], out[:, :, 1])


Form = Literal["receiver", "sender"]
FORMS: dict[str, Callable[[int, int, Activation], Convolution]] = {
    "receiver": ReceiverLayer,
    "sender": SenderLayer,
}
