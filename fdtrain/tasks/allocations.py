"""Ways to allocate power that learn nothing, to compare with: WMMSE, full and random power (SPEC §6 B).

H [B, n, n] are amplitudes from transmitter i to receiver j, v [B, n] amplitudes that are sent: powers are H² and v².
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BASELINES = ("wmmse_4", "wmmse_100", "full_power", "random_power")


def baselines(H: Array, noise: float, max_power: float, draws: np.random.Generator) -> dict[str, float]:
    """Sum rates of them all, means over the batch; random power takes its bits from `draws`."""
    with np.errstate(all="ignore"):  # gains that overflow give NaN, and are told as such
        truncated = wmmse(H, noise, max_power, 4)
        allocations = (
            truncated,
            wmmse(H, noise, max_power, 96, start=truncated),
            full_power(H, max_power),
            random_power(H, max_power, draws),
        )
        rates = [float(sum_rate(H, v, noise).mean()) for v in allocations]
    return dict(zip(BASELINES, rates, strict=True))


def sum_rate(H: Array, v: Array, noise: float) -> Array:
    """Σ_i log2(1 + H_ii² v_i² / (σ² + Σ_{j≠i} H_ji² v_j²)) of every sample, [B]."""
    own, cross = _powers(H)
    p = v * v
    rates: Array = np.log1p(own * p / (noise + _received(cross, p))).sum(axis=1) / math.log(2)
    return rates


def full_power(H: Array, max_power: float) -> Array:
    """Everybody sends with Pmax: v = √Pmax."""
    return np.full(H.shape[:2], math.sqrt(max_power))


def random_power(H: Array, max_power: float, draws: np.random.Generator) -> Array:
    """Everybody's power, not the amplitude, is uniform: v² ~ U(0, Pmax), of every pair and sample for itself."""
    return np.sqrt(max_power * draws.random(H.shape[:2]))


def wmmse(H: Array, noise: float, max_power: float, iterations: int, start: Array | None = None) -> Array:
    """v [B, n] after so many iterations of weighted MMSE (Shi et al., IEEE Trans. Signal Process. 59, 2011).

    One iteration, from v = √Pmax or from `start`, with T_i = σ² + Σ_j H_ji² v_j² (j = i included):
    u_i = H_ii v_i / T_i,  w_i = 1/(1 − u_i H_ii v_i),  v_i = clip(H_ii u_i w_i / Σ_j H_ij² u_j² w_j, 0, √Pmax).

    1 − u_i H_ii v_i cancels where i is heard well. It is N_i/T_i, where N_i is T_i without the pair's own power
    s_i = H_ii² v_i², so that w_i = T_i/N_i, H_ii u_i w_i = H_ii² v_i/N_i, and u_i² w_i = s_i/(T_i N_i).
    0/0 counts as 0: a pair without its own link sends nothing.
    """
    own, cross = _powers(H)
    v = full_power(H, max_power) if start is None else start
    limit = math.sqrt(max_power)
    with np.errstate(under="ignore"):  # who is switched off gets ever smaller
        for _ in range(iterations):
            p = v * v
            N = noise + _received(cross, p)
            s = own * p
            u2w = s / ((N + s) * N)
            harm = own * u2w + _caused(cross, u2w)
            v = np.divide(own * v / N, harm, out=np.zeros_like(v), where=harm > 0)
            np.minimum(v, limit, out=v)
    return v


def _powers(H: Array) -> tuple[Array, Array]:
    """Power gains: of the own links H_ii² [B, n]; and of the others H_ij² [B, n, n], with 0 for j = i."""
    cross = H * H
    i = np.arange(H.shape[1])
    own = cross[:, i, i]
    cross[:, i, i] = 0.0
    return own, cross


def _received(cross: Array, p: Array) -> Array:
    """Σ_{j≠i} H_ji² p_j."""
    total: Array = np.matmul(p[:, None, :], cross)[:, 0]
    return total


def _caused(cross: Array, p: Array) -> Array:
    """Σ_{j≠i} H_ij² p_j."""
    total: Array = np.matmul(cross, p[:, :, None])[:, :, 0]
    return total
