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

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.rows.shape[1])

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

    def take(self, chosen: Flags) -> list[Parcel]:
        """Take out what is under way on the `chosen` links [m], in the order in which it was sent."""
        found, kept = [], []
        for parcel in self._parcels:
            on = chosen[parcel.places]
            if on.any():
                found.append(parcel.at(on))
            if not on.all():
                kept.append(parcel.at(~on))
        self._parcels = kept
        return found

    def renumber(self, places: Index) -> None:
        """The links at the old places are now at the new `places` [m]."""
        self._parcels = [parcel._replace(places=places[parcel.places]) for parcel in self._parcels]

    def scale(self, what: str, factors: Array) -> None:
        """Multiply what is under way by a factor [m, 1] of its link."""
        for parcel in self._parcels:
            if parcel.what == what:
                parcel.rows[...] *= factors[parcel.places]

    def hand_on(self, failed: Parcel) -> Array:
        """What does not arrive goes into what was sent next on the same link of what is still under way; return the
        rows [k, width], 0 where they did."""
        rows = failed.rows.copy()
        for parcel in sorted(self._parcels, key=lambda parcel: parcel.sent):
            if parcel.what != failed.what or parcel.sent <= failed.sent:
                continue
            columns = _common(parcel, failed.columns)
            _, here, there = np.intersect1d(failed.places, parcel.places, return_indices=True)
            if columns is None or not len(here):
                continue
            mine = slice(columns.start - failed.start, columns.stop - failed.start)
            theirs = slice(columns.start - parcel.start, columns.stop - parcel.start)
            parcel.rows[there, theirs] += rows[here, mine]
            rows[here, mine] = 0.0
        return rows

    def overtake(self, what: str, sent: int, columns: slice, heard: Flags, out: Array) -> None:
        """A message that was sent later, in the round `sent`, and `heard` on links [m] makes up for what is under
        way of its `columns`: move that to `out` [m, travelling]."""
        for parcel in self._parcels:
            common = _common(parcel, columns)
            if parcel.what != what or parcel.sent >= sent or common is None:
                continue
            chosen = heard[parcel.places]
            within = slice(common.start - parcel.start, common.stop - parcel.start)
            out[parcel.places[chosen], common] += parcel.rows[chosen, within]
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


def _common(parcel: Parcel, columns: slice) -> slice | None:
    """The `columns` that the parcel has; None if there are none."""
    own = parcel.columns
    low, high = max(columns.start, own.start), min(columns.stop, own.stop)
    return slice(low, high) if low < high else None
