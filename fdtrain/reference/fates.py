"""What becomes of every message on every link: the oracle's side of unreliable channels, from the given draws.

A matrix over links has the receiver in its rows and the sender in its columns, as S_ij and W_ij have: [i, j] is j → i.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.reference.model import Array, check_choice
from fdtrain.rng import uniforms

Mask: TypeAlias = NDArray[np.bool_]
Rounds: TypeAlias = NDArray[np.int64]
FIELDS = ("features", "backward", "parameters")
POLICIES = {
    "features": ("zero", "hold", "drop_edge"),
    "backward": ("zero",),
    "parameters": ("keep_own", "hold", "push_sum"),
}


def _check_rates(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0.0 <= rate <= 1.0:
            raise InputError(f"{name} is a probability, from 0 to 1; found {rate}")


@dataclass(frozen=True)
class Independent:
    """Every message is lost with probability `rate`."""

    rate: float

    def __post_init__(self) -> None:
        _check_rates(rate=self.rate)


@dataclass(frozen=True)
class GilbertElliott:
    """Loss in bursts: a link is good or bad, and changes from round to round."""

    to_bad: float
    to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0

    def __post_init__(self) -> None:
        _check_rates(
            to_bad=self.to_bad, to_good=self.to_good, loss_good=self.loss_good, loss_bad=self.loss_bad
        )

    @property
    def stationary(self) -> float:
        """Share of rounds in which a link is bad; 0 of one that never changes."""
        moves = self.to_bad + self.to_good
        return self.to_bad / moves if moves else 0.0


Loss: TypeAlias = Independent | GilbertElliott


@dataclass(frozen=True)
class Fixed:
    """A delay of so many rounds."""

    rounds: int = 0

    def of(self, u: Array) -> Rounds:
        return np.full(u.shape, self.rounds, dtype=np.int64)


@dataclass(frozen=True)
class Uniform:
    """A delay of low, low + 1, ..., or high rounds."""

    low: int
    high: int

    def of(self, u: Array) -> Rounds:
        return np.asarray(self.low + np.floor(u * (self.high - self.low + 1)), dtype=np.int64)


@dataclass(frozen=True)
class Geometric:
    """A delay of so many rounds on average, and at most `max`."""

    mean: float
    max: int

    def of(self, u: Array) -> Rounds:
        if self.mean == 0:
            return np.zeros(u.shape, dtype=np.int64)
        rounds = np.floor(np.log(1.0 - u) / np.log(self.mean / (1.0 + self.mean)))
        return np.asarray(np.minimum(self.max, rounds), dtype=np.int64)


Delay: TypeAlias = Fixed | Uniform | Geometric


@dataclass(frozen=True)
class FieldChannel:
    """The channel of one field; `policy` is what the receiver does without it, None for the first of POLICIES."""

    loss: Loss | None = None
    delay: Delay | None = None
    policy: str | None = None


@dataclass(frozen=True)
class Interval:
    """Mini-batches start <= t < until; None: to the end."""

    start: int
    until: int | None

    def holds(self, t: int) -> bool:
        return self.start <= t and (self.until is None or t < self.until)


@dataclass(frozen=True)
class Outage:
    """No messages between nodes a and b, in either direction."""

    a: int
    b: int
    during: Interval


@dataclass(frozen=True)
class Partition:
    """No messages between these nodes and all others."""

    side: tuple[int, ...]
    during: Interval


@dataclass(frozen=True)
class Crash:
    """A node that sends, hears and learns nothing."""

    node: int
    during: Interval


@dataclass(frozen=True)
class Channel:
    """All that makes messages unreliable; `message` loses whole ones, with all fields that they carry."""

    seed: int
    message: Loss | None = None
    features: FieldChannel = field(default_factory=FieldChannel)
    backward: FieldChannel = field(default_factory=FieldChannel)
    parameters: FieldChannel = field(default_factory=FieldChannel)
    outages: tuple[Outage, ...] = ()
    partitions: tuple[Partition, ...] = ()
    crashes: tuple[Crash, ...] = ()

    def __post_init__(self) -> None:
        for name in FIELDS:
            check_choice(f"policy of {name}", self.policy(name), *POLICIES[name])

    def of(self, name: str) -> FieldChannel:
        """The channel of a field of FIELDS."""
        found: FieldChannel = getattr(self, name)
        return found

    def policy(self, name: str) -> str:
        """What a receiver does without a field of FIELDS."""
        return self.of(name).policy or POLICIES[name][0]


@dataclass(frozen=True)
class Fate:
    """Of one field sent in one round on all links [V, V]: whether it is lost, else by how many rounds it is late."""

    lost: Mask
    delay: Rounds


class Fates:
    """The links of a run, round by round. `up` [V]: the nodes that are not down in this mini-batch."""

    def __init__(self, channel: Channel, nodes: int) -> None:
        self._channel = channel
        self._receivers, self._senders = np.indices((nodes, nodes), dtype=np.int64)
        self.links = np.zeros((nodes, nodes), dtype=bool)
        self.up = np.ones(nodes, dtype=bool)
        self._down = self.links
        self._new = self.links
        models = {"message": channel.message} | {name: channel.of(name).loss for name in FIELDS}
        self._losses = {name: loss for name, loss in models.items() if loss is not None}
        self._bad = {name: np.zeros_like(self.links) for name in self._losses}
        self._lost: dict[str, Mask] = {}

    def begin(self, t: int, links: Mask) -> None:
        """Mini-batch t, whose links are `links` [V, V]; those that mini-batch t - 1 did not have start anew."""
        self._new, self.links = links & ~self.links, links
        self.up = np.ones(len(links), dtype=bool)
        for crash in self._channel.crashes:
            self.up[crash.node] &= not crash.during.holds(t)
        down = ~(self.up[:, None] & self.up[None, :])
        for outage in self._channel.outages:
            if outage.during.holds(t):
                down[outage.a, outage.b] = down[outage.b, outage.a] = True
        for partition in self._channel.partitions:
            if partition.during.holds(t):
                inside = np.isin(np.arange(len(links)), partition.side)
                down |= inside[:, None] != inside[None, :]
        self._down = down

    def advance(self, R: int) -> None:
        """Go on to round R: every chain moves, and every loss is drawn."""
        for name, loss in self._losses.items():
            if isinstance(loss, Independent):
                self._lost[name] = self._draw(name, "loss", R) < loss.rate
                continue
            u, bad = self._draw(name, "state", R), self._bad[name]
            moved = np.where(bad, u >= loss.to_good, u < loss.to_bad)
            bad = self._bad[name] = np.where(self._new, u < loss.stationary, moved) & self.links
            self._lost[name] = self._draw(name, "loss", R) < np.where(bad, loss.loss_bad, loss.loss_good)
        self._new = np.zeros_like(self.links)

    def of(self, name: str, R: int) -> Fate:
        """What becomes of a field of FIELDS that is sent in the round R that `advance` was called with last."""
        lost = self._down.copy()
        for cause in ("message", name):
            if cause in self._lost:
                lost |= self._lost[cause]
        delay = self._channel.of(name).delay or Fixed(0)
        return Fate(lost, delay.of(self._draw(name, "delay", R)))

    def bad(self, name: str) -> Mask:
        """The links [V, V] whose chain of "message", or of a field of FIELDS, is in its bad state."""
        return self._bad[name]

    def _draw(self, name: str, what: str, R: int) -> Array:
        purpose = f"channel/{name}/{what}"
        return uniforms(self._channel.seed, purpose, R, self._receivers, self._senders)
