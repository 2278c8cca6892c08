"""What a node mixes in the place of a neighbour's row that did not come.

Rows are those of the optimizer, with the weights of push-sum beside them; they travel in slices or whole.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.channel.features import Arriving
from fdtrain.channel.late import Parcel, Underway
from fdtrain.channel.spec import Array, Flags, Index, ParameterPolicy
from fdtrain.channel.state import BESIDE, LASTING, LinkStore
from fdtrain.rounds import Field


class Parameters(Protocol):
    """A policy for parameters."""

    def begin(self, silent: Flags) -> None:
        """A mini-batch begins, in which the senders of `silent` links [m] are down."""

    def receive(self, message: Arriving) -> None:
        """Put something in the place of what is missing."""

    def arrive(self, parcel: Parcel) -> None:
        """What was late has come."""

    def settle(self, rows: Array, own: Array, receivers: Index) -> None:
        """All slices were received: `rows` [m, travelling] of the neighbours, `own` [n, travelling]."""

    def weigh(self, mixing: Array) -> None:
        """Take the W_ij [m] of the links."""

    def fail(self, parcel: Parcel) -> None:
        """What was under way does not arrive: its links have vanished, or its receivers are down."""


class KeepOwn:
    """The node's own."""

    def begin(self, silent: Flags) -> None: ...

    def receive(self, message: Arriving) -> None:
        message.rows[message.missing] = message.own[message.receivers[message.missing]]

    def arrive(self, parcel: Parcel) -> None: ...

    def settle(self, rows: Array, own: Array, receivers: Index) -> None: ...

    def weigh(self, mixing: Array) -> None: ...

    def fail(self, parcel: Parcel) -> None: ...


class HoldRow:
    """What came last on the link, and the node's own where nothing has."""

    def __init__(self, links: LinkStore, underway: Underway, travelling: int) -> None:
        self._links, self._underway, self._travelling = links, underway, travelling
        self._gaps: Flags | None = None  # [m, travelling] what is missing of this mini-batch's slices

    def begin(self, silent: Flags) -> None:
        self._gaps = None

    def receive(self, message: Arriving) -> None:
        field, delays = message.field, message.fate.delays
        start, stop, what = field.start, field.start + field.width, _name(field)
        later = ~message.fate.lost & (delays > 0) if delays is not None else np.zeros_like(message.missing)
        if later.any():
            assert delays is not None
            places = np.flatnonzero(later)
            self._underway.send(
                message.round_number, delays[places], what, start, places, message.rows[places]
            )
        held, known = self._held(what, stop)
        now = ~message.fate.lost & ~later
        held[now, start:stop], known[now, start:stop] = message.rows[now], True
        if field.kind == "slice":
            if self._gaps is None:
                self._gaps = np.zeros((len(now), self._travelling), dtype=np.bool_)
            self._gaps[message.missing, start:stop] = True
        else:
            own = message.own[message.receivers]
            recalled = np.where(known[:, :stop], held[:, :stop], own)
            message.rows[message.missing] = recalled[message.missing]

    def arrive(self, parcel: Parcel) -> None:
        stop = parcel.start + parcel.rows.shape[1]
        held, known = self._held(parcel.what, stop)
        held[parcel.places, parcel.start : stop] = parcel.rows
        known[parcel.places, parcel.start : stop] = True

    def settle(self, rows: Array, own: Array, receivers: Index) -> None:
        if self._gaps is None:
            return
        held, known = self._held(_SLICES, self._travelling)
        recalled = np.where(known, held, own[receivers])
        np.copyto(rows, recalled, where=self._gaps)

    def weigh(self, mixing: Array) -> None: ...

    def fail(self, parcel: Parcel) -> None: ...

    def _held(self, what: str, width: int) -> tuple[Array, NDArray[Any]]:
        width = self._travelling if what == _SLICES else width
        held = self._links.get(what, (width,))
        return held, self._links.get(f"known {what}", (width,), dtype=np.bool_)


class Masses:
    """Push-sum: the mass of what is missing is not lost, but comes with a later message on the link.

    That is what running sums do (Hadjicostis, Vaidya and Domínguez-García, IEEE Trans. Autom. Control 61, 2016): a
    message that says how much was sent on the link in all makes up for all before it. What is kept here at the
    receiver is the difference, so that nothing grows. Masses are those that a node sends; they count W_ij times.
    """

    def __init__(self, links: LinkStore, underway: Underway, travelling: int) -> None:
        self._links, self._underway, self._travelling = links, underway, travelling
        self._silent: Flags = np.zeros(0, dtype=np.bool_)

    def begin(self, silent: Flags) -> None:
        self._silent = silent

    def receive(self, message: Arriving) -> None:
        field, rows, missing = message.field, message.rows, message.missing
        columns = slice(field.start, field.start + field.width)
        owed = self._owed[:, columns]
        late = np.flatnonzero(missing & ~message.fate.lost)
        if len(late):
            assert message.fate.delays is not None
            masses = rows[late] + owed[late]
            delays = message.fate.delays[late]
            self._underway.send(message.round_number, delays, _MASS, field.start, late, masses)
            owed[late] = 0.0
        lost = message.fate.lost & ~self._silent
        owed[lost] += rows[lost]
        heard = ~missing
        self._underway.overtake(_MASS, message.round_number, columns, heard, self._owed)
        _add(rows, np.where(heard[:, None], owed, 0.0))
        owed[heard] = 0.0
        rows[missing] = 0.0
        if field.kind == "consensus":
            self._collect(rows)

    def arrive(self, parcel: Parcel) -> None:
        columns, heard = parcel.columns, np.zeros(len(self._come), dtype=np.bool_)
        heard[parcel.places] = True
        self._underway.overtake(_MASS, parcel.sent, columns, heard, self._come)
        self._come[parcel.places, columns] += parcel.rows

    def settle(self, rows: Array, own: Array, receivers: Index) -> None:
        self._collect(rows)

    def weigh(self, mixing: Array) -> None:
        """Masses that wait were sent under other weights."""
        before = self._links.get(_SHARES, (1,), fill=np.nan)
        known = np.isfinite(before[:, 0])
        factors = np.ones_like(before)
        np.divide(before, mixing[:, None], out=factors, where=known[:, None] & (mixing != 0)[:, None])
        for array in (self._owed, self._come):
            array *= factors
        self._underway.scale(_MASS, factors)
        before[:, 0] = mixing

    def fail(self, parcel: Parcel) -> None:
        self._owed[parcel.places, parcel.columns] += self._underway.hand_on(parcel)

    def _collect(self, rows: Array) -> None:
        """Add what came late."""
        _add(rows, self._come)
        self._come[...] = 0.0

    @property
    def _owed(self) -> Array:
        """[m, travelling] what was sent on each link and did not come."""
        return self._links.get(_OWED, (self._travelling,))

    @property
    def _come(self) -> Array:
        """[m, travelling] what came late, and was not mixed yet."""
        return self._links.get(_LATE, (self._travelling,))


def make_parameters(
    policy: ParameterPolicy, links: LinkStore, underway: Underway, travelling: int
) -> Parameters:
    """The policy of that name, for rows of so many numbers."""
    match policy:
        case "keep_own":
            return KeepOwn()
        case "hold":
            return HoldRow(links, underway, travelling)
        case "push_sum":
            return Masses(links, underway, travelling)


_SLICES = "slices"
_MASS, _OWED, _LATE, _SHARES = (
    "mass",
    f"{LASTING} owed",
    f"{LASTING} come late",
    f"{BESIDE}the weights that it was sent with",
)


def _name(field: Field) -> str:
    return _SLICES if field.kind == "slice" else f"rows of step {field.step}"


def _add(rows: Array, masses: Array) -> None:
    """Add what is there; a sum with 0 could change the sign of a 0."""
    np.add(rows, masses, out=rows, where=masses != 0.0)
