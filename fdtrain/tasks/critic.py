"""The central critic of link scheduling: a twin GCNN that learns what the local greedy solver does (SPEC §6 C;
Zhao, Swami and Segarra, "Graph-based deterministic policy gradient for repetitive combinatorial optimization problems",
ICLR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng, states
from fdtrain.graph import Graph
from fdtrain.optim.adam import Adam, AdamState
from fdtrain.optim.rates import Constant
from fdtrain.tasks.link_scheduling import Critic

Array = NDArray[np.float64]

_CHUNK = 10  # samples that are computed at once: their arrays stay in the processor's cache
_FLOOR = 1e-12  # under the variance


class CentralCritic:
    """X^l = σ(X^{l−1}Φ0 + S X^{l−1}Φ1) from X^0 to a softmax over (chosen, not), with one φ for all nodes and S the
    normalized Laplacian.

    X^0 = (X − mean)/(6 std) + 1/2 for X = [1, z], mean and standard deviation over both columns and all nodes of a
    sample: so it shows by how much z exceeds its own spread, on which the choice by z ⊙ u depends. The first output is
    to be u_i if i is chosen, and else 0, the second the rest to 1; the loss is the RMSE over samples, nodes and
    outputs, plus l2 Σ φ². The objective of those who ask is minus the mean over nodes of the first output.
    """

    def __init__(self, config: Critic, seed: int) -> None:
        self._config = config
        self._shapes = [(2 * g_in, g_out) for g_in, g_out in pairwise(config.sizes)]
        draws, parts = rng.generator(seed, "critic"), []
        for rows, cols in self._shapes:
            bound = np.sqrt(6.0 / (rows // 2 + cols))
            parts.append(draws.uniform(-bound, bound, (rows, cols)).reshape(-1))
        self._adam = Adam(Constant(config.lr))
        self._state: AdamState = self._adam.init(np.concatenate(parts)[None])
        self._seen: tuple[Graph, Array] | None = None

    @property
    def phi(self) -> Array:
        """φ [p]: Φ0_1, Φ1_1, Φ0_2, …, each row-major."""
        flat: Array = self._state.theta[0]
        return flat

    @property
    def state(self) -> dict[str, Any]:
        """What it has learned: φ and Adam's moments."""
        values = states.flatten(self._state, 1)
        return {"rows": values.rows, "scalars": values.scalars}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self._state = states.restored(self._state, states.Values(state["rows"], state["scalars"]))

    def sensitivity(self, graph: Graph, z: Array) -> Array:
        distinct, which = np.unique(z, axis=1, return_inverse=True)
        found: Array = self._sensitivity(self._shift(graph), distinct)[:, which]
        return found

    def _sensitivity(self, S: Array, z: Array) -> Array:
        found = np.empty_like(z)
        for start in range(0, z.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            walk = _Walk(self._layers(self.phi), S, z[:, part], self._config.negative_slope)
            chosen = walk.output[..., 0]
            slope = chosen * (1.0 - chosen)  # of −chosen by the logits: (−slope, slope)
            found[:, part] = walk.sensitivity(np.stack([-slope, slope], axis=2))
        return found

    def learn(self, graph: Graph, z: Array, utility: Array) -> None:
        z, utility = z[:, : self._config.samples], utility[:, : self._config.samples]
        S, total = self._shift(graph), 0.0
        gradient = np.zeros_like(self.phi)
        for start in range(0, z.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            walk = _Walk(self._layers(self.phi), S, z[:, part], self._config.negative_slope)
            error = walk.output - np.stack([utility[:, part], 1.0 - utility[:, part]], axis=2)
            total += float(np.square(error).sum())
            inner = (error * walk.output).sum(axis=2, keepdims=True)
            walk.gradient(walk.output * (error - inner), self._layers(gradient))
        count = 2.0 * z.size
        rmse = np.sqrt(total / count)
        gradient = gradient / (count * rmse) + 2.0 * self._config.l2 * self.phi
        self._state = self._adam.step(gradient[None], self._state)

    def _layers(self, flat: Array) -> list[Array]:
        """Φ0 over Φ1 of every layer, [2 g_{l−1}, g_l]: views of `flat` [p]."""
        found, start = [], 0
        for rows, cols in self._shapes:
            found.append(flat[start : start + rows * cols].reshape(rows, cols))
            start += rows * cols
        return found

    def _shift(self, graph: Graph) -> Array:
        """S [V, V], dense; a node without a neighbour has a row of zeros."""
        if self._seen is None or self._seen[0] is not graph:
            degrees = graph.degrees.astype(np.float64)
            scale = np.where(degrees > 0, 1.0 / np.sqrt(np.maximum(degrees, 1.0)), 0.0)
            S = np.diag((degrees > 0).astype(np.float64))
            S[graph.rows, graph.indices] = -scale[graph.rows] * scale[graph.indices]
            self._seen = graph, S
        return self._seen[1]


class _Walk:
    """Through the layers and back, for z [V, w]."""

    def __init__(self, layers: list[Array], S: Array, z: Array, negative_slope: float) -> None:
        self._layers, self._S = layers, S
        x = np.stack([np.ones_like(z), z], axis=2)
        deviation = x - x.mean(axis=(0, 2), keepdims=True)
        self._scale = np.sqrt(np.square(deviation).mean(axis=(0, 2), keepdims=True) + _FLOOR)
        self._standard = deviation / self._scale
        x = self._standard / 6.0 + 0.5
        self._inputs, self._slopes = list[Array](), list[Array]()
        for number, weights in enumerate(layers, start=1):
            both = np.concatenate([x, self._shifted(x)], axis=2)
            h = both @ weights
            self._inputs.append(both)
            if number < len(layers):
                slope = np.where(h > 0, 1.0, negative_slope)
                self._slopes.append(slope)
                x = h * slope
        e = np.exp(h - h.max(axis=2, keepdims=True))
        self.output = e / e.sum(axis=2, keepdims=True)  # [V, w, 2]

    def gradient(self, q: Array, out: list[Array]) -> None:
        """Add ∂f/∂φ to `out`, from q = ∂f/∂(logits) [V, w, 2]."""
        for number in range(len(self._layers) - 1, -1, -1):
            both = self._inputs[number]
            out[number] += both.reshape(-1, both.shape[2]).T @ q.reshape(-1, q.shape[2])
            if number:
                q = self._below(number, q)

    def sensitivity(self, q: Array) -> Array:
        """∂f/∂z [V, w], from q = ∂f/∂(logits) [V, w, 2]."""
        for number in range(len(self._layers) - 1, -1, -1):
            q = self._below(number, q)
        x = q / 6.0
        along = (x * self._standard).mean(axis=(0, 2), keepdims=True)
        found: Array = (x - x.mean(axis=(0, 2), keepdims=True) - self._standard * along) / self._scale
        return found[..., 1]

    def _below(self, number: int, q: Array) -> Array:
        """From ∂f/∂h of a layer to that of the one below it, or to ∂f/∂(input)."""
        back = q @ self._layers[number].T
        g_in = back.shape[2] // 2
        z = back[..., :g_in] + self._shifted(np.ascontiguousarray(back[..., g_in:]))  # S is symmetric
        below: Array = z * self._slopes[number - 1] if number else z
        return below

    def _shifted(self, x: Array) -> Array:
        V, w, g = x.shape
        shifted: Array = (self._S @ x.reshape(V, w * g)).reshape(V, w, g)
        return shifted
