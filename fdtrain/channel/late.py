"""Messages under way."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fdtrain.channel.spec import Array, Flags, Index
from fdtrain.channel.state import LinkStore
from fdtrain.snapshot import Kept

UNDERWAY = "under way/"


class Parcel(NamedTuple):
    """What was sent in one round on some links, and takes the same time."""

    arrival: int  # round
    sent: int  # round
    what: str  # whose it is: a policy knows what it means
    start: int  # first number of the row
    places: Index  # [k] of the links
    rows: Array  # [k, width]

    def at(self, chosen: Flags) -> Parcel:
        """What of it is on some of its links [k]."""
        return self._replace(places=self.places[chosen], rows=self.rows[chosen])


class Underway:
    """Parcels of one rank, in the order of sending: sums have the same bits after a restart."""

    def __init__(self) -> None:
        self._parcels: list[Parcel] = []

    def send(self, sent: int, delays: Index, what: str, start: int, places: Index, rows: Array) -> None:
        """Send `rows` [k, width] on the links at `places` [k], to arrive after `delays` [k] rounds."""
        for delay in np.unique(delays).tolist():
            chosen = delays == delay
            self._parcels.append(Parcel(sent + delay, sent, what, start, places[chosen], rows[chosen]))

    def arrived(self, round_number: int) -> list[Parcel]:
        """Take out what has arrived by this round, in the order in which it was sent."""
        found = [parcel for parcel in self._parcels if parcel.arrival <= round_number]
        if found:
            self._parcels = [parcel for parcel in self._parcels if parcel.arrival > round_number]
        return sorted(found, key=lambda parcel: (parcel.arrival, parcel.sent, parcel.start))

    def rewire(self, places: Index) -> list[Parcel]:
        """The links at the old places are now at the new `places`, −1: gone; return what was under way on those."""
        lost, kept = [], []
        for parcel in self._parcels:
            new = places[parcel.places]
            gone = new < 0
            if gone.any():
                lost.append(parcel.at(gone))
            if not gone.all():
                kept.append(parcel._replace(places=new).at(~gone))
        self._parcels = kept
        return lost

    def scale(self, what: str, factors: Array) -> None:
        """Multiply what is under way by a factor [m, 1] of its link."""
        for parcel in self._parcels:
            if parcel.what == what:
                parcel.rows[...] *= factors[parcel.places]

    def overtake(self, what: str, sent: int, columns: slice, heard: Flags, out: Array) -> None:
        """A message that was sent later, in the round `sent`, and `heard` on links [m] makes up for what is under
        way of its `columns`: move that to `out` [m, travelling]."""
        for parcel in self._parcels:
            low, high = (
                max(columns.start, parcel.start),
                min(columns.stop, parcel.start + parcel.rows.shape[1]),
            )
            if parcel.what != what or parcel.sent >= sent or low >= high:
                continue
            chosen, within = heard[parcel.places], slice(low - parcel.start, high - parcel.start)
            out[parcel.places[chosen], low:high] += parcel.rows[chosen, within]
            parcel.rows[chosen, within] = 0.0

    def snapshot(self, links: LinkStore) -> dict[str, Kept]:
        """Everything, by names that :meth:`restore` reads."""
        found: dict[str, Kept] = {}
        for parcel in self._parcels:
            name = f"{UNDERWAY}{parcel.arrival}/{parcel.sent}/{parcel.start}/{parcel.what}"
            ends = links.receivers[parcel.places], links.senders[parcel.places]
            found[name] = Kept(*ends, parcel.rows.copy())
        return found

    def restore(self, kept: dict[str, Kept], links: LinkStore) -> None:
        """Take it back, for links that are there."""
        self._parcels = []
        for name, (receivers, senders, rows) in kept.items():
            if not len(rows):
                continue
            _, arrival, sent, start, what = name.split("/", 4)
            places = links.places(receivers, senders)
            self._parcels.append(Parcel(int(arrival), int(sent), what, int(start), places, rows.copy()))
        self._parcels.sort(key=lambda parcel: (parcel.sent, parcel.arrival, parcel.start))
