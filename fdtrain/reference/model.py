"""Graph matrices, the GCNN with its gradients, and measures, on global matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, diags_array, eye_array

from fdtrain.errors import InputError
from fdtrain.reference.rounding import EXACT, Rounding, nearest

Array: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = "csr_array[Any] | csc_array[Any] | NDArray[Any]"


def _sigmoid(h: Array) -> Array:
    e = np.exp(-np.abs(h))  # never overflows
    return np.where(h >= 0, 1.0, e) / (1.0 + e)


def _sigmoid_slope(h: Array) -> Array:
    e = np.exp(-np.abs(h))  # sigma (1 - sigma), without the cancellation in 1 - sigma
    return e / (1.0 + e) ** 2


def _tanh_slope(h: Array) -> Array:
    return 4.0 * _sigmoid_slope(2.0 * h)  # tanh h = 2 sigmoid(2h) - 1; 1 - tanh^2 cancels


# name -> sigma(h, negative_slope), sigma'(h, negative_slope); at the kink h = 0 the slope is the left one
ACTIVATIONS: dict[str, tuple[Callable[[Array, float], Array], Callable[[Array, float], Array]]] = {
    "sigmoid": (lambda h, _: _sigmoid(h), lambda h, _: _sigmoid_slope(h)),
    "tanh": (lambda h, _: np.tanh(h), lambda h, _: _tanh_slope(h)),
    "relu": (lambda h, _: np.maximum(h, 0.0), lambda h, _: np.where(h > 0, 1.0, 0.0)),
    "leaky_relu": (lambda h, s: np.where(h > 0, h, s * h), lambda h, s: np.where(h > 0, 1.0, s)),
    "identity": (lambda h, _: h, lambda h, _: np.ones_like(h)),
}


def check_choice(what: str, found: str, *known: str) -> None:
    if found not in known:
        raise InputError(f"unknown {what} {found!r}; choose one of {', '.join(known)}")


def check_shape(what: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise InputError(f"{what} needs the shape {wanted}; found {found}")


def _adjacency(A: Matrix) -> csr_array[Any]:
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise InputError(f"an adjacency matrix is square, [V, V]; found shape {A.shape}")
    M: csr_array[Any] = csr_array(cast(Any, A), dtype=np.float64, copy=True)
    M.sum_duplicates()
    return M


def _row_sums(A: csr_array[Any]) -> Array:
    return np.asarray(A.sum(axis=1), dtype=np.float64)


def _normalized(A: csr_array[Any]) -> csr_array[Any]:
    """D^-1/2 A D^-1/2, D the row sums of A; where D_ii = 0 (the node hears nobody), D^-1/2 is 0."""
    d = _row_sums(A)
    if not (d >= 0).all():
        raise InputError(f"normalising needs finite row sums >= 0; found {d.min()}, use another shift")
    root = diags_array(np.divide(1.0, np.sqrt(d), out=np.zeros_like(d), where=d > 0))
    return csr_array(root @ A @ root)


def shift_matrix(A: Matrix, kind: str) -> csr_array[Any]:
    """Graph shift operator S [V, V] (§1) of A [V, V]; A_ij weighs what receiver i hears from sender j.

    adjacency: A; laplacian: D - A; normalized_adjacency: D^-1/2 A D^-1/2; normalized_laplacian: I minus that;
    gcn: normalized_adjacency of A + I. D is the diagonal of the row sums, also of an asymmetric A; where D_ii = 0,
    D_ii^-1/2 counts as 0, and the Laplacian's row is 0 too, as SciPy and networkx have it.
    """
    check_choice(
        "shift", kind, "adjacency", "laplacian", "normalized_laplacian", "normalized_adjacency", "gcn"
    )
    A = _adjacency(A)
    match kind:
        case "adjacency":
            return A
        case "laplacian":
            return csr_array(diags_array(_row_sums(A)) - A)
        case "gcn":
            return _normalized(csr_array(A + eye_array(A.shape[0])))
        case "normalized_adjacency":
            return _normalized(A)
    return csr_array(diags_array((_row_sums(A) != 0).astype(np.float64)) - _normalized(A))


def mixing_matrix(A: Matrix, kind: str, beta: float = 0.0) -> csr_array[Any]:
    """Mixing matrix W [V, V] (§3) on the unweighted pattern of A: i ~ j when A_ij or A_ji is not 0, i != j.

    metropolis (16): W_ij = 1 / (1 + max(d_i, d_j)), W_ii = 1 - sum_j W_ij; laplacian: I - beta (D - A).
    d_i = D_ii is the number of neighbours. Symmetric, rows sum to 1.
    """
    check_choice("mixing", kind, "metropolis", "laplacian")
    A = _adjacency(A)
    i, j = np.asarray((abs(A) + abs(A).T).nonzero())
    i, j = i[i != j], j[i != j]
    d = np.bincount(i, minlength=A.shape[0])
    w = 1.0 / (1.0 + np.maximum(d[i], d[j])) if kind == "metropolis" else np.full(i.size, float(beta))
    W: csr_array[Any] = csr_array((w, (i, j)), shape=A.shape)
    return csr_array(W + diags_array(1.0 - _row_sums(W)))


def _swap(x: NDArray[Any]) -> Array:  # [B, V, g] <-> [V, B, g]
    return np.ascontiguousarray(x.swapaxes(0, 1), dtype=np.float64)


def _apply(S: Matrix, X: Array) -> Array:  # (S X)_i = sum_j S_ij X_j, X [V, B, g]
    return np.asarray(S @ X.reshape(len(X), -1), dtype=np.float64).reshape(X.shape)


def _t(M: Array) -> Array:  # transposes the last two axes
    return M.swapaxes(-1, -2)


def _summed(factors: list[tuple[Array, Array]]) -> Array:  # [V, p]: a^T b of every node, summed over samples
    return np.concatenate([(_t(a) @ b).reshape(len(a), -1) for a, b in factors], axis=1)


@dataclass(frozen=True)
class Model:
    """GCNN without bias (§2): x_i^l = sigma_l(h_i^l), theta^i = the (Theta0, Theta1) of node i, all layers.

    receiver form (13b): h_i = x_i Theta0^i + (sum_j S_ij x_j) Theta1^i
    sender form (10):    h_i = x_i Theta0^i + sum_j S_ij (x_j Theta1^j)
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    form: str
    negative_slope: float = 0.01
    rounding: Rounding = EXACT

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise InputError(f"a model needs at least 2 sizes, all >= 1; found {self.sizes}")
        check_shape("activations", (len(self.activations),), (len(self.sizes) - 1,))
        check_choice("form", self.form, "receiver", "sender")
        for name in self.activations:
            check_choice("activation", name, *ACTIVATIONS)

    @property
    def num_parameters(self) -> int:
        """p = sum_l 2 g_{l-1} g_l."""
        return sum(2 * g * h for g, h in zip(self.sizes, self.sizes[1:], strict=False))

    def split(self, theta: Array) -> list[tuple[Array, Array]]:
        """theta [..., p] to (Theta0, Theta1) of each layer, both [..., g_{l-1}, g_l]; stored row-major."""
        check_shape("theta's last axis", theta.shape[-1:], (self.num_parameters,))
        parts, at = [], 0
        for g, h in zip(self.sizes, self.sizes[1:], strict=False):
            pair = theta[..., at : at + 2 * g * h].reshape(*theta.shape[:-1], 2, g, h)
            parts.append((pair[..., 0, :, :], pair[..., 1, :, :]))
            at += 2 * g * h
        return parts

    def _sigma(self, layer: int, h: Array) -> Array:
        return ACTIVATIONS[self.activations[layer]][0](h, self.negative_slope)

    def _slope(self, layer: int, h: Array) -> Array:
        return ACTIVATIONS[self.activations[layer]][1](h, self.negative_slope)

    def _heard(self, S: Matrix, X: Array) -> Array:
        return _apply(S, nearest(X, self.rounding.features))

    def _heard_back(self, S: Matrix, X: Array) -> Array:
        return _apply(S.T, nearest(X, self.rounding.backward))

    def _layers(self, S: Matrix, x: Array, theta: Array) -> tuple[list[tuple[Array, Array]], Array]:
        """Forward pass: (X, H) of every layer and the output, each [V, B, .]."""
        check_shape("x", x.shape, (len(x), S.shape[0], self.sizes[0]))
        if theta.ndim > 1:
            check_shape("theta", theta.shape, (S.shape[0], self.num_parameters))
        X, trace = _swap(x), []
        for layer, (Theta0, Theta1) in enumerate(self.split(theta)):
            if self.form == "receiver":
                H = X @ Theta0 + self._heard(S, X) @ Theta1
            else:
                H = X @ Theta0 + self._heard(S, X @ Theta1)
            trace.append((X, H))
            X = self._sigma(layer, H)
        return trace, X

    def forward(self, S: Matrix, x: Array, theta: Array) -> Array:
        """yhat [B, V, g_L] of x [B, V, g_0]; theta [V, p], a row per node, or [p], the same on all nodes."""
        return _swap(self._layers(S, x, theta)[1])

    def local_gradients(self, S: Matrix, x: Array, y: Array, theta: Array) -> Array:
        """[V, p]: sum_b sum_j d l_j(b) / d theta^i (8c), no 1/|V|; l_j = sum over outputs (y_j - yhat_j)^2.

        x [B, V, g_0], y [B, V, g_L], theta [V, p]. Backward (14), from Z = 2 (yhat - y), Q = Z * sigma'(H):
        receiver form: dTheta0 = X^T Q, dTheta1 = (S X)^T Q, Z <- Q Theta0^T + S^T (Q Theta1^T)
        sender form:   dTheta0 = X^T Q, dTheta1 = X^T C with C = S^T Q, Z <- Q Theta0^T + C Theta1^T
        """
        return self.local_pass(S, x, y, theta)[1]

    def local_pass(self, S: Matrix, x: Array, y: Array, theta: Array) -> tuple[Array, Array]:
        """yhat and local_gradients."""
        trace, output = self._layers(S, x, theta)
        check_shape("y", y.shape, (len(x), *output.shape[::2]))
        factors, _ = self._backward(S, trace, 2.0 * (output - _swap(y)), theta)
        return _swap(output), _summed(factors)

    def _backward(
        self, S: Matrix, trace: list[tuple[Array, Array]], Z: Array, theta: Array
    ) -> tuple[list[tuple[Array, Array]], Array]:
        """Z^0 [V, B, g_0], and a, b [V, B, .] of (dTheta0, dTheta1) of each layer: a sample's share is a^T b."""
        factors: list[tuple[Array, Array]] = []
        for layer, (Theta0, Theta1) in reversed(list(enumerate(self.split(theta)))):
            X, H = trace[layer]
            Q = Z * self._slope(layer, H)
            if self.form == "receiver":
                factors[:0] = [(X, Q), (self._heard(S, X), Q)]
                Z = Q @ _t(Theta0) + self._heard_back(S, Q @ _t(Theta1))
            else:
                C = self._heard_back(S, Q)
                factors[:0] = [(X, Q), (X, C)]
                Z = Q @ _t(Theta0) + C @ _t(Theta1)
        return factors, Z

    def _pulled(
        self, S: Matrix, x: Array, dz: Array, theta: Array
    ) -> tuple[list[tuple[Array, Array]], Array]:
        trace, output = self._layers(S, x, theta)
        check_shape("dz", dz.shape, (len(x), *output.shape[::2]))
        return self._backward(S, trace, _swap(dz), theta)

    def pullback(self, S: Matrix, x: Array, dz: Array, theta: Array) -> Array:
        """[B, V, p]: sum_j dz_j(b) . d z_j(b) / d theta^i of every sample, from dz [B, V, g_L] = d f / d z.

        (8c) for any f(z), z = forward(S, x, theta); theta [V, p]. With dz = 2 (z - y), its sum over the
        samples is local_gradients.
        """
        check_shape("theta", theta.shape, (S.shape[0], self.num_parameters))
        factors, _ = self._pulled(S, x, dz, theta)
        outer = [_swap(a)[..., :, None] * _swap(b)[..., None, :] for a, b in factors]  # [B, V, ., .]
        return np.concatenate([g.reshape(*g.shape[:2], -1) for g in outer], axis=2)

    def summed_pullback(self, S: Matrix, x: Array, dz: Array, theta: Array) -> Array:
        """[V, p]: pullback summed over the samples, without an array [B, V, p]."""
        check_shape("theta", theta.shape, (S.shape[0], self.num_parameters))
        factors, _ = self._pulled(S, x, dz, theta)
        return _summed(factors)

    def shared_pullback(self, S: Matrix, x: Array, dz: Array, theta: Array) -> Array:
        """[B, p]: (1/|V|) sum_j dz_j(b) . d z_j(b) / d theta with one theta [p] for all nodes, of every sample.

        It is the mean over the nodes of pullback at equal theta^i, as centralized_gradient is of local_gradients.
        """
        check_shape("theta", theta.shape, (self.num_parameters,))
        factors, _ = self._pulled(S, x, dz, theta)
        grads = [_t(_swap(a)) @ _swap(b) / S.shape[0] for a, b in factors]  # [B, g_{l-1}, g_l]
        return np.concatenate([g.reshape(len(g), -1) for g in grads], axis=1)

    def input_gradient(self, S: Matrix, x: Array, dz: Array, theta: Array) -> Array:
        """[B, V, g_0]: sum_j dz_j(b) . d z_j(b) / d x_i(b); theta [V, p] or [p], dz [B, V, g_L]."""
        return _swap(self._pulled(S, x, dz, theta)[1])

    def centralized_gradient(self, S: Matrix, x: Array, y: Array, theta: Array) -> Array:
        """[p]: gradient of sum_b (1/|V|) sum_i l_i with one theta [p] for all nodes; x, y as above.

        Both forms are then one model: with the rows (node, sample) stacked to X [V B, g], a layer is dense on
        the joined features U = [X, S X]: H = U [Theta0; Theta1], dTheta = U^T Q, dU = Q Theta^T.
        """
        return self.shared_pass(S, x, y, theta)[1]

    def shared_pass(self, S: Matrix, x: Array, y: Array, theta: Array) -> tuple[Array, Array]:
        """yhat and centralized_gradient. Nothing is sent, and so nothing rounded."""
        V, B = S.shape[0], len(x)
        check_shape("x", x.shape, (B, V, self.sizes[0]))
        check_shape("y", y.shape, (B, V, self.sizes[-1]))
        check_shape("theta", theta.shape, (self.num_parameters,))

        def stacked(M: Matrix, X: Array) -> Array:  # (M kron I_B) X
            return _apply(M, X.reshape(V, B, -1)).reshape(V * B, -1)

        Thetas = [np.concatenate(pair) for pair in self.split(theta)]  # [2 g_{l-1}, g_l] each
        X, trace = _swap(x).reshape(V * B, -1), []
        for layer, Theta in enumerate(Thetas):
            U = np.concatenate([X, stacked(S, X)], axis=1)
            H = U @ Theta
            trace.append((U, H))
            X = self._sigma(layer, H)
        dX = (X - _swap(y).reshape(V * B, -1)) * (2.0 / V)
        grads: list[Array] = []
        for layer in reversed(range(len(Thetas))):
            U, H = trace[layer]
            Q = dX * self._slope(layer, H)
            grads.insert(0, (U.T @ Q).ravel())
            direct, shifted = np.split(Q @ Thetas[layer].T, 2, axis=1)
            dX = direct + stacked(S.T, shifted)
        return _swap(X.reshape(V, B, -1)), np.concatenate(grads)


def mse(y: Array, yhat: Array) -> float:
    """Mean of (y - yhat)^2 over samples, nodes and outputs; both [B, V, g_L]."""
    check_shape("yhat", yhat.shape, y.shape)
    return float(np.mean((y - yhat) ** 2))


def disagreement(theta: Array) -> float:
    """Root mean square over the nodes of ||theta^i - mean_j theta^j||_2; theta [V, p]."""
    return float(np.sqrt(np.mean(np.sum((theta - theta.mean(axis=0)) ** 2, axis=1))))
