"""The latency–bandwidth model of a mini-batch, fitted to measured points (docs/scaling.md has its terms)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from fdtrain.errors import InputError
from fdtrain.scale.machines import Computer, Fit
from fdtrain.scale.work import FEATURES

Array = NDArray[np.float64]

COEFFICIENTS = {name: f"per_{name.removesuffix('s')}" for name in FEATURES}
SYMBOLS = dict(zip(FEATURES, "δαβζγε", strict=True))


@dataclass(frozen=True)
class Fitted:
    """A fit, and how far it is from every point."""

    machine: Computer
    predicted: Array  # [N] seconds
    left_out: Array  # [N] seconds, each by the fit to all other points


def predicted_seconds(machine: Computer, features: Mapping[str, float]) -> float:
    """Seconds of a mini-batch.

    Raises:
        InputError: ranks exchange messages, and the machine's figures say nothing of them.
    """
    total = 0.0
    for name, count in features.items():
        factor = getattr(machine, COEFFICIENTS[name])
        if factor is None and count:
            raise InputError(
                f"machine {machine.name}: has no {COEFFICIENTS[name]}, so nothing is known of several ranks; predict "
                "for one, or fit it to a study with more"
            )
        total += (factor or 0.0) * count
    return total


def fit(name: str, features: Sequence[Mapping[str, float]], seconds: Sequence[float], ranks: int) -> Fitted:
    """The non-negative coefficients that minimise Σ (predicted / measured − 1)².

    Args:
        name: of the machine that they are the figures of.
        features: of every point, by :data:`fdtrain.scale.work.FEATURES`.
        seconds: measured, of every point.
        ranks: to predict for where nothing else is said.

    Raises:
        InputError: fewer points than unknown figures and one to check them.
    """
    X = np.array([[point[feature] for feature in FEATURES] for point in features]).reshape(-1, len(FEATURES))
    T = np.array(seconds)
    present = [*np.flatnonzero(X.any(axis=0))]
    if len(T) <= len(present):
        raise InputError(
            f"scale: a fit of {len(present)} figures needs {len(present) + 1} points or more, found {len(T)}; give the "
            "study more nodes, ranks or waves"
        )
    found = _solve(X, T)
    others = [np.delete(np.arange(len(T)), k) for k in range(len(T))]
    resampled = np.array([_solve(X[rest], T[rest]) for rest in others])
    left_out = np.einsum("ij,ij->i", X, resampled)
    n = len(T)
    deviation = np.sqrt((n - 1) / n * ((resampled - resampled.mean(axis=0)) ** 2).sum(axis=0))
    error, error_left_out = np.abs(X @ found / T - 1), np.abs(left_out / T - 1)
    values = {COEFFICIENTS[FEATURES[k]]: float(found[k]) for k in present}
    machine = Computer(
        name=name,
        ranks=ranks,
        per_round=values.get("per_round", 0.0),
        per_message=values.get("per_message"),
        per_byte=values.get("per_byte"),
        per_visit=values.get("per_visit", 0.0),
        per_flop=values.get("per_flop", 0.0),
        per_gathered=values.get("per_gathered", 0.0),
        fit=Fit(
            points=n,
            median_error=float(np.median(error)),
            max_error=float(error.max()),
            left_out_median=float(np.median(error_left_out)),
            left_out_max=float(error_left_out.max()),
            deviations={COEFFICIENTS[FEATURES[k]]: float(deviation[k]) for k in present},
        ),
    )
    return Fitted(machine, X @ found, left_out)


def _solve(X: Array, T: Array) -> Array:
    """Non-negative coefficients of X [N, M] by which X c is nearest to T in relative terms; 0 for empty columns."""
    A = X / T[:, None]
    scale = np.where(A.any(axis=0), np.linalg.norm(A, axis=0), 1.0)
    coefficients, _ = nnls(A / scale, np.ones(len(T)))
    return np.asarray(coefficients, dtype=np.float64) / scale
