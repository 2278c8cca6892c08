"""Forward and backward pass of one wave of a GCNN, layer by layer, with messages missing on some links.

Arrays are node-major, [V, w, g]; over links, [V, V, ·], the receiver is first.
"""

from __future__ import annotations

import numpy as np

from fdtrain.errors import InputError
from fdtrain.reference.fates import Mask
from fdtrain.reference.model import Array, Model, _apply, _summed, _swap, _t
from fdtrain.reference.rounding import nearest


def renormalized(S: Array, heard: Mask) -> Array:
    """S~ [V, V] of drop_edge: what i did not hear leaves its sum, and the weights of the rest grow by rho_i."""
    diagonal = np.diag(np.diag(S))
    off = S - diagonal
    everybody, some = np.abs(off).sum(axis=1), np.abs(off * heard).sum(axis=1)
    rho = np.divide(everybody, some, out=np.ones_like(some), where=some > 0)
    return np.asarray(rho[:, None] * off * heard + diagonal)


class HeldRows:
    """hold: of every layer, the row of features that arrived last on each link, [V, V, samples, g]; 0 before that."""

    def __init__(self) -> None:
        self._rows: dict[int, Array] = {}

    def of(self, layer: int, like: Array) -> Array:
        """The rows, as far as the samples of the message `like` [V, w, g] go."""
        nodes, w, g = like.shape
        held = self._rows.get(layer, np.zeros((nodes, nodes, 0, g)))
        if held.shape[2] < w:
            held = np.concatenate([held, np.zeros((nodes, nodes, w - held.shape[2], g))], axis=2)
        self._rows[layer] = held
        return held[:, :, :w]

    def keep(self, layer: int, where: Mask, message: Array) -> None:
        """Take a `message` [V, w, g] that arrived on the links `where` [V, V]."""
        held = self.of(layer, message)
        held[...] = np.where(where[:, :, None, None], message, held)

    def forget(self, gone: Mask) -> None:
        """Hold nothing on the links `gone` [V, V] any more."""
        for held in self._rows.values():
            held[gone] = 0.0


class Wave:
    """The passes of one wave: x [w, V, g_0], y [w, V, g_L], S [V, V], theta [V, p].

    `output` [w, V, g_L] is there after the last layer, `gradients` after the last message that goes back.
    """

    output: Array

    def __init__(self, model: Model, S: Array, x: Array, y: Array, theta: Array) -> None:
        self._model, self._S, self._y = model, S, _swap(y)
        self._Theta = dict(enumerate(model.split(theta), start=1))
        self._X: dict[int, Array] = {1: _swap(x)}  # layer l's x^(l-1)
        self._H: dict[int, Array] = {}
        self._Q: dict[int, Array] = {}
        self._used: dict[int, Array] = {}  # S or S~ of each layer
        self._summed: dict[int, Array] = {}  # receiver form: sum_j S_ij x_j; sender form: sum_j S_ji q_j

    def features(self, layer: int) -> Array:
        """What every node sends forward."""
        X = self._X[layer]
        sent = X if self._model.form == "receiver" else X @ self._Theta[layer][1]
        return nearest(sent, self._model.rounding.features)

    def receive(self, layer: int, message: Array, heard: Mask, policy: str, held: HeldRows) -> None:
        """Forward through a layer; `heard` [V, V] are the messages in time."""
        here = heard | np.eye(len(heard), dtype=bool)
        self._used[layer] = renormalized(self._S, heard) if policy == "drop_edge" else self._S
        gathered = _apply(self._used[layer] * here, message)
        if policy == "hold":
            gathered += np.einsum("ij,ijwg->iwg", self._S * ~here, held.of(layer, message))
        Theta0, Theta1 = self._Theta[layer]
        if self._model.form == "receiver":
            self._summed[layer] = gathered
            gathered = gathered @ Theta1
        self._H[layer] = self._X[layer] @ Theta0 + gathered
        output = self._model._sigma(layer - 1, self._H[layer])
        if layer < len(self._Theta):
            self._X[layer + 1] = output
        else:
            self.output = _swap(output)
            self._descend(layer, 2.0 * (output - self._y))

    def backward(self, layer: int) -> Array:
        """What every node sends back, but for the factor rho_i of drop_edge, which S~ has in it."""
        Q = self._Q[layer]
        sent = Q @ _t(self._Theta[layer][1]) if self._model.form == "receiver" else Q
        return nearest(sent, self._model.rounding.backward)

    def receive_back(self, layer: int, message: Array, heard: Mask) -> None:
        """Backward through a layer; `heard` [V, V] are the messages in time."""
        here = heard | np.eye(len(heard), dtype=bool)
        gathered = _apply(self._used[layer].T * here, message)
        Theta0, Theta1 = self._Theta[layer]
        if self._model.form == "sender":
            self._summed[layer] = gathered
            gathered = gathered @ _t(Theta1)
        if layer > 1:
            self._descend(layer - 1, self._Q[layer] @ _t(Theta0) + gathered)

    def gradients(self) -> Array:
        """Every node's, summed over the samples, [V, p]."""
        factors = []
        for layer in self._Theta:
            if layer not in self._Q or layer not in self._summed:
                raise InputError(
                    f"no gradient of layer {layer}: some message of layer {layer} or above it was not sent"
                )
            X, Q, gathered = self._X[layer], self._Q[layer], self._summed[layer]
            factors += [(X, Q), (gathered, Q) if self._model.form == "receiver" else (X, gathered)]
        return _summed(factors)

    def _descend(self, layer: int, Z: Array) -> None:
        self._Q[layer] = Z * self._model._slope(layer - 1, self._H[layer])
