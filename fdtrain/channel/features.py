"""What a node sums in the place of a neighbour's features, or backward term, that did not come."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from fdtrain.aggregate import edge_sums
from fdtrain.channel.fates import Fate
from fdtrain.channel.late import Parcel, Underway
from fdtrain.channel.spec import Array, FeaturePolicy, Flags, Index
from fdtrain.channel.state import LinkStore
from fdtrain.rounds import Field


class Arriving(NamedTuple):
    """A field of the messages of a round, as they arrive on m links."""

    field: Field
    round_number: int  # R
    fate: Fate
    missing: Flags  # [m]
    rows: Array  # [m, width], to be changed in place
    own: Array  # [n, width] the rows of the receiving nodes themselves
    receivers: Index  # [m] 0 … n − 1

    def late(self) -> Index:
        """The links on which it comes, but late."""
        return np.flatnonzero(self.missing & ~self.fate.lost)


class Features(Protocol):
    """A policy for features."""

    def receive(self, message: Arriving) -> None:
        """Put something in the place of what is missing."""

    def arrive(self, parcel: Parcel) -> None:
        """What was late has come."""


class Zero:
    """Nothing."""

    def receive(self, message: Arriving) -> None:
        message.rows[message.missing] = 0.0

    def arrive(self, parcel: Parcel) -> None: ...


class Hold:
    """What came last on the link for the same layer."""

    def __init__(self, links: LinkStore, underway: Underway) -> None:
        self._links, self._underway = links, underway

    def receive(self, message: Arriving) -> None:
        rows, missing, what = message.rows, message.missing, _name(message.field)
        width = rows.shape[1]
        held = self._links.get(what, (width,))[:, :width]
        late = message.late()
        if len(late):
            assert message.fate.delays is not None
            delays = message.fate.delays[late]
            self._underway.send(message.round_number, delays, what, 0, late, rows[late])
        np.copyto(held, rows, where=~missing[:, None])
        rows[missing] = held[missing]

    def arrive(self, parcel: Parcel) -> None:
        width = parcel.rows.shape[1]
        self._links.get(parcel.what, (width,))[parcel.places, :width] = parcel.rows


class DropEdge:
    """The link leaves the sum and its adjoint, and the weights of the others are renormalised:
    ρ_i = Σ_{k∈N(i)} |S_ik| / Σ_{k heard} |S_ik|.

    Two waves are under way at a time, so what is noted of a wave is kept until the next but one.
    """

    def __init__(self) -> None:
        self._factors: dict[tuple[int, int], Array] = {}  # ρ [n] by layer, and whether the wave is odd
        self._unheard: dict[tuple[int, int], Flags] = {}  # [m] who did not hear this rank's nodes
        self._sizes = np.zeros(0)  # |S_ij| [m]
        self._indptr = np.zeros(1, dtype=np.int64)

    def weigh(self, sizes: Array, indptr: Index) -> None:
        """Take the |S_ij| [m] of the links, sorted by receiver: `indptr` [n + 1]."""
        self._sizes, self._indptr = sizes, indptr

    def receive(self, message: Arriving) -> None:
        missing = message.missing
        factors = np.ones(len(message.own))
        if missing.any():
            heard = self._sums(np.where(missing, 0.0, self._sizes))
            np.divide(self._sums(self._sizes), heard, out=factors, where=heard > 0)
        message.rows[...] *= factors[message.receivers, None]
        message.rows[missing] = 0.0
        self._factors[_place(message.field)] = factors

    def arrive(self, parcel: Parcel) -> None: ...

    def note(self, field: Field, unheard: Flags) -> None:
        """Who [m] of the neighbours did not hear this rank's nodes."""
        self._unheard[_place(field)] = unheard

    def send_back(self, field: Field, own: Array) -> None:
        """Scale the backward terms [n, width] that are to be sent."""
        own *= self._factors[_place(field)][:, None]

    def unheard(self, field: Field) -> Flags:
        """Which backward terms [m] are of no use, since their senders did not hear."""
        return self._unheard[_place(field)]

    def _sums(self, values: Array) -> Array:
        """Σ over the links of every node, [n]."""
        return edge_sums(self._indptr, values[:, None])[:, 0]


def make_features(policy: FeaturePolicy, links: LinkStore, underway: Underway) -> Features:
    """The policy of that name."""
    match policy:
        case "zero":
            return Zero()
        case "hold":
            return Hold(links, underway)
        case "drop_edge":
            return DropEdge()


def _name(field: Field) -> str:
    return f"features of layer {field.layer}"


def _place(field: Field) -> tuple[int, int]:
    return field.layer, field.wave % 2
