"""Whole trainings on global matrices, on a static graph (SPEC §4, §6 A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.reference.model import (
    Array,
    Matrix,
    Model,
    check_shape,
    disagreement,
    mixing_matrix,
    mse,
    shift_matrix,
)
from fdtrain.reference.recursions import Recursion, clip_rows

LearningRate: TypeAlias = float | Callable[[int], float]  # of the mini-batch number 0, 1, ...


@dataclass(frozen=True)
class EpochResult:
    """mse_train: mean over the mini-batches, before each update; mse_test, disagreement: after the epoch."""

    mse_train: float
    mse_test: float
    disagreement: float


def _train(
    model: Model, S: Matrix, W: Matrix | None, recursion: Recursion, lr: LearningRate,
    data: tuple[Array, Array, Array, Array], theta: Array, order: NDArray[Any], batch: int,
    max_norm: float | None, on_epoch: Callable[[int, EpochResult], None] | None,
) -> tuple[Array, list[EpochResult]]:  # W None: centralized  # fmt: skip
    if batch < 1:
        raise InputError(f"a mini-batch needs at least 1 sample; found {batch}")
    x_train, y_train, x_test, y_test = data
    gradients = model.shared_pass if W is None else model.local_pass
    state = recursion.start(theta)
    results: list[EpochResult] = []
    for epoch, samples in enumerate(order):
        losses: list[float] = []
        for b in range(0, len(samples), batch):
            x, y = x_train[samples[b : b + batch]], y_train[samples[b : b + batch]]
            yhat, gradient = gradients(S, x, y, state.theta)
            if max_norm is not None:
                gradient = clip_rows(gradient, max_norm)
            state = recursion.advance(state, W, gradient, lr(state.t) if callable(lr) else lr)
            losses.append(mse(y, yhat))
        test = mse(y_test, model.forward(S, x_test, state.theta))
        results.append(EpochResult(float(np.mean(losses)), test, disagreement(np.atleast_2d(state.theta))))
        if on_epoch is not None:
            on_epoch(epoch, results[-1])
    return state.theta, results


def train_distributed(
    model: Model, shift: str, mixing: str, beta: float, recursion: Recursion, lr: LearningRate,
    adjacency: Matrix, x_train: Array, y_train: Array, x_test: Array, y_test: Array,
    theta: Array, order: NDArray[Any], batch: int, max_norm: float | None = None,
) -> tuple[Array, list[EpochResult]]:  # fmt: skip
    """The final theta [V, p] and one result per epoch.

    x_* [N, V, g_0], y_* [N, V, g_L], theta [V, p], order [epochs, N]. A mini-batch is `batch` consecutive
    entries of its epoch's order (the last may be shorter); local gradients are summed over its samples, then every
    node's is clipped to max_norm, then `recursion` takes them.
    """
    S, W = shift_matrix(adjacency, shift), mixing_matrix(adjacency, mixing, beta)
    check_shape("theta", theta.shape, (S.shape[0], model.num_parameters))
    data = (x_train, y_train, x_test, y_test)
    return _train(model, S, W, recursion, lr, data, theta, order, batch, max_norm, None)


def train_centralized(
    model: Model, shift: str, recursion: Recursion, lr: LearningRate,
    adjacency: Matrix, x_train: Array, y_train: Array, x_test: Array, y_test: Array,
    theta: Array, order: NDArray[Any], batch: int, max_norm: float | None = None,
    on_epoch: Callable[[int, EpochResult], None] | None = None,
) -> tuple[Array, list[EpochResult]]:  # fmt: skip
    """sgd or adam on the gradient of sum_b l(b), l = (1/|V|) sum_i l_i, for one theta [p].

    Arguments and result as in train_distributed, with theta [p]; `on_epoch(epoch, result)` with epoch = 0, 1, ...
    """
    S = shift_matrix(adjacency, shift)
    check_shape("theta", theta.shape, (model.num_parameters,))
    data = (x_train, y_train, x_test, y_test)
    return _train(model, S, None, recursion, lr, data, theta, order, batch, max_norm, on_epoch)
