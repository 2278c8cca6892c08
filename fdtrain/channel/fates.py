"""What becomes of the messages on the links of a rank: lost, late, or in time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.channel.spec import FIELDS, Array, Channel, FieldName, Flags, GilbertElliott, Index, Loss
from fdtrain.channel.state import LinkStore

_GOOD, _BAD = 1, 2  # 0: new


class Fate(NamedTuple):
    """Of one field of the messages of a round, on m links."""

    lost: Flags
    delays: Index | None  # rounds; None: none

    def missing(self, rounds_left: int) -> Flags:
        """Which do not arrive within so many rounds."""
        return self.lost if self.delays is None else self.lost | (self.delays > rounds_left)


class Fates:
    """Draws for every link, keyed by (seed, purpose, round, receiver, sender): they do not depend on who asks.

    Of the links to this rank's nodes or, where ``reverse``, of those back to their senders.
    """

    def __init__(self, channel: Channel, links: LinkStore, *, reverse: bool = False) -> None:
        self._channel, self._links, self._reverse = channel, links, reverse
        self._losses: dict[str, Loss] = {}
        for name, loss in [("message", channel.loss), *((name, channel.of(name).loss) for name in FIELDS)]:
            if loss is not None:
                self._losses[name] = loss
        self._round = -1
        self._cut: Flags = np.zeros(0, dtype=np.bool_)
        self._whole: Flags = self._cut  # messages that are lost whole

    def begin(self, t: int) -> None:
        """Mini-batch t begins."""
        self._cut = self._channel.cut(t, self._links.receivers, self._links.senders)

    def move(self, round_number: int) -> None:
        """Go on to the next round of training, R."""
        self._round = round_number
        for name, loss in self._losses.items():
            if isinstance(loss, GilbertElliott):
                self._move(loss, self._states(name), self._draw(name, "state"))
        self._whole = self._cut | self._drawn("message") if "message" in self._losses else self._cut

    def of(self, name: FieldName) -> Fate:
        """What becomes of a field in this round."""
        lost = self._whole | self._drawn(name) if name in self._losses else self._whole
        delay = self._channel.of(name).delay
        return Fate(lost, None if delay is None else delay.rounds_of(self._draw(name, "delay")))

    def _drawn(self, name: str) -> Flags:
        loss, u = self._losses[name], self._draw(name, "loss")
        if isinstance(loss, GilbertElliott):
            rates: Any = np.where(self._states(name) == _BAD, loss.loss_bad, loss.loss_good)
        else:
            rates = loss.rate
        lost: Flags = u < rates
        return lost

    def _move(self, loss: GilbertElliott, states: NDArray[Any], u: Array) -> None:
        new, bad = states == 0, states == _BAD
        leaves = u < np.where(bad, loss.to_good, loss.to_bad)
        states[...] = np.where(new, np.where(u < loss.bad, _BAD, _GOOD), np.where(bad != leaves, _BAD, _GOOD))

    def _states(self, name: str) -> NDArray[Any]:
        direction = "reverse " if self._reverse else ""
        return self._links.get(f"{direction}state of {name}", (), dtype=np.int8)

    def _draw(self, name: str, what: str) -> Array:
        ends = self._links.receivers, self._links.senders
        receivers, senders = ends[::-1] if self._reverse else ends
        return rng.uniforms(self._channel.seed, f"channel/{name}/{what}", self._round, receivers, senders)
