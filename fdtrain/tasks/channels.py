"""Drawing wireless channels (SPEC §6 B): where terminals are, and the amplitudes H between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng

if TYPE_CHECKING:
    from fdtrain.tasks.power_allocation import Mobility, PowerAllocation

Array = NDArray[np.float64]

NEAREST = 1.0  # m; the path loss of shorter distances is the one here


class Terminals(NamedTuple):
    """Places in the square in metres, each [n, 2]."""

    transmitters: Array
    receivers: Array


class Drawing:
    """Channels by the recipe: mini-batch t has one draw of places and shadowing, and B draws of fading.

    H_ij = 10^(−(PL(d_ij) + S_ij)/20) · R_ij from transmitter i to receiver j, and 0 if that is less than
    10^(−max_path_loss/20). PL: :func:`path_loss`; S: shadowing, a property of the places; R: Rayleigh(1/√2).
    With `mobility` the terminals of the run are drawn once, and mini-batch t sees them t steps later.
    """

    def __init__(
        self, config: PowerAllocation, mobility: Mobility | None, batch: int, seed: int, purpose: str
    ) -> None:
        """`purpose` tells these draws from others with the same seed."""
        self._config, self._mobility, self._batch = config, mobility, batch
        self._seed, self._purpose = seed, purpose
        self._floor = 10.0 ** (-config.max_path_loss / 20)  # 0 where there is no limit

    def draw(self, t: int) -> Array:
        """H [B, n, n] of mini-batch t, whatever was drawn before."""
        config = self._config
        places = self.terminals(t)
        apart = places.transmitters[:, None] - places.receivers[None, :]
        distance = np.sqrt(apart[..., 0] ** 2 + apart[..., 1] ** 2)
        loss = path_loss(distance, config.carrier, config.path_loss_exponent) + self.shadowing(t)
        gain = np.exp(-math.log(10) / 20 * loss)  # 10^(−loss/20), [n, n]
        H = self._fading(t)
        H *= gain
        H[np.less(H, self._floor)] = 0.0
        H.flags.writeable = False  # it is served more than once
        return H

    def terminals(self, t: int) -> Terminals:
        """Where everybody is in mini-batch t."""
        config, mobility = self._config, self._mobility
        start = (
            self._draws("locations", t if mobility is None else 0).random((2, config.pairs, 2)) * config.area
        )
        if mobility is None:
            return Terminals(*start)
        angle = 2 * math.pi * self._draws("directions", 0).random((2, config.pairs))
        way = mobility.speed * t * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return Terminals(*reflected(start + way, config.area))

    def shadowing(self, t: int) -> Array:
        """S [n, n] in dB, N(0, shadowing²) clipped at so many standard deviations.

        Of moving terminals it changes with the way s they have made: between the independent draws S_k and S_k+1
        that belong to s = kD and (k+1)D, D the decorrelation distance, it is cos(φ) S_k + sin(φ) S_k+1 with
        φ = (s/D − k) π/2, whose variance is the same everywhere.
        """
        config, mobility = self._config, self._mobility
        if config.shadowing == 0:
            return np.zeros((config.pairs, config.pairs))
        if mobility is None:
            S = self._normal(t)
        else:
            part, k = math.modf(mobility.speed * t / mobility.decorrelation)
            phase = part * math.pi / 2
            S = math.cos(phase) * self._normal(int(k)) + math.sin(phase) * self._normal(int(k) + 1)
        return config.shadowing * np.clip(S, -config.shadowing_clip, config.shadowing_clip)

    def _normal(self, step: int) -> Array:
        pairs = self._config.pairs
        return self._draws("shadowing", step).standard_normal((pairs, pairs))

    def _fading(self, t: int) -> Array:
        """R [B, n, n]: R² of a Rayleigh(1/√2) is Exp(1), of mean 1."""
        shape = (self._batch, self._config.pairs, self._config.pairs)
        if self._config.fading == "none":
            return np.ones(shape)
        R2 = self._draws("fading", t).standard_exponential(shape)
        return np.sqrt(R2, out=R2)

    def _draws(self, of: str, step: int) -> np.random.Generator:
        return rng.generator(self._seed, f"{self._purpose}/{of}", step)


def path_loss(distance: Array, carrier: float, exponent: float) -> Array:
    """PL = 32.4 + 20 log10(f) + 10·exponent·log10(d) in dB, f in GHz and d in metres, at least :data:`NEAREST`."""
    d = np.maximum(distance, NEAREST)
    loss: Array = 32.4 + 20 * math.log10(carrier) + 10 * exponent * np.log10(d)
    return loss


def reflected(way: Array, side: float) -> Array:
    """Where a straight way ends up between walls at 0 and `side` that reflect it: periodic in 2·side, and even."""
    place: Array = side - np.abs(np.mod(way, 2 * side) - side)
    return place
