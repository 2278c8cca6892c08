"""The links of one rank's nodes: what arrives on them, round by round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np

from fdtrain.channel.fates import Fates
from fdtrain.channel.features import Arriving, DropEdge, make_features
from fdtrain.channel.late import UNDERWAY, Parcel, Underway
from fdtrain.channel.parameters import make_parameters
from fdtrain.channel.push_sum import Weights
from fdtrain.channel.spec import Array, Channel, FieldName, Flags, Index
from fdtrain.channel.state import LinkStore
from fdtrain.graph import Neighbourhood
from fdtrain.rounds import Field, Kind, Round
from fdtrain.schedule import Schedule
from fdtrain.snapshot import Snapshot

_ROUNDS, _WEIGHTS = "rounds of training", "weights of push-sum"
_FIELDS: dict[Kind, FieldName] = {
    "features": "features",
    "backward": "backward",
    "slice": "parameters",
    "consensus": "parameters",
}


class Links:
    """Applied at the receiving end, since what travels between ranks is shared by nodes of which some hear it."""

    def __init__(self, channel: Channel, nodes: int, rows: int, *, along: bool) -> None:
        """`nodes`: n of this rank; `rows`: numbers that the optimizer mixes, in slices `along` or whole."""
        self.channel = channel
        self.rounds = 0  # of training, R of the next one
        self.lost: Counter[str] = Counter()  # messages by kind of field; "all": with at least one field lost
        self.late: Counter[str] = Counter()
        self.weights = Weights(nodes, rows, along=along) if channel.parameter_policy == "push_sum" else None
        self.down: Flags = np.zeros(nodes, dtype=np.bool_)
        self._store, self._underway = LinkStore(), Underway()
        self._fates = Fates(channel, self._store)
        self._features = make_features(channel.feature_policy, self._store, self._underway)
        self._reverse = None
        if isinstance(self._features, DropEdge):
            self._reverse = Fates(channel, self._store, reverse=True)
        travelling = rows if self.weights is None else self.weights.travelling
        self._parameters = make_parameters(channel.parameter_policy, self._store, self._underway, travelling)
        self._ids: Index = np.zeros(0, dtype=np.int64)
        self._receivers: Index = self._ids
        self._last = 0

    def rewire(self, hood: Neighbourhood, receivers: Index) -> None:
        """Take a new topology; `receivers` [m] are the places of the links' own nodes, 0 … n − 1."""
        self._ids, self._receivers = hood.ids, receivers
        places = self._store.places_after(hood.ids[receivers], hood.indices)
        for parcel in self._underway.take(places < 0):
            self._fail(parcel)
        self._underway.renumber(places)
        self._store.rewire(hood.ids[receivers], hood.indices)

    def weigh(self, indptr: Index, shift: Array, mixing: Array, whole: Array) -> None:
        """Take the weights S_ij and W_ij [m] of the links, sorted by receiver: `indptr` [n + 1], and Σ_j W_ij [n]."""
        if isinstance(self._features, DropEdge):
            self._features.weigh(np.abs(shift), indptr)
        self._parameters.weigh(mixing)
        if self.weights is not None:
            self.weights.weigh(whole)

    def begin(self, t: int, schedule: Schedule) -> None:
        """Mini-batch t begins."""
        self._last = self.rounds + len(schedule.rounds) - 1
        self.down = self.channel.crashed(t, self._ids)
        for fates in (self._fates, self._reverse):
            if fates is not None:
                fates.begin(t)
        self._parameters.begin(self.channel.crashed(t, self._store.senders))

    def prepare(self, round_: Round, fields: Sequence[Array]) -> None:
        """Complete this rank's own rows of the next round, `fields` [n, width]."""
        if self.weights is not None:
            for field, own in zip(round_.fields, fields, strict=True):
                if field.kind == "consensus" and field.step > 1:
                    self.weights.send_again(own)

    def send(self, round_: Round, fields: Sequence[Array]) -> None:
        """Change what is sent of them, `fields` [n, width]."""
        if isinstance(self._features, DropEdge):
            for field, own in zip(round_.fields, fields, strict=True):
                if field.kind == "backward":
                    self._features.send_back(field, own)

    def receive(self, round_: Round, fields: Sequence[Array]) -> None:
        """What arrived, `fields` [n + m, width]: the nodes' own rows, then one of every link, becomes what is heard."""
        self._fates.move(self.rounds)
        if self._reverse is not None:
            self._reverse.move(self.rounds)
        for parcel in self._underway.arrived(self.rounds):
            deaf = self.down[self._receivers[parcel.places]]
            if deaf.any():
                self._fail(parcel.at(deaf))
            (self._features if _is_feature(parcel) else self._parameters).arrive(parcel.at(~deaf))
        lost = late = np.zeros(len(self._receivers), dtype=np.bool_)
        for field, rows in zip(round_.fields, fields, strict=True):
            fate = self._fates.of(_FIELDS[field.kind])
            missing = fate.missing(self._left(field))
            lost, late = lost | fate.lost, late | (missing & ~fate.lost)
            self.lost[field.kind] += int(fate.lost.sum())
            self.late[field.kind] += int((missing & ~fate.lost).sum())
            n = len(self._ids)
            self._take(Arriving(field, self.rounds, fate, missing, rows[n:], rows[:n], self._receivers))
        self.lost["all"] += int(lost.sum())
        self.late["all"] += int(late.sum())
        self.rounds += 1

    def _take(self, message: Arriving) -> None:
        match message.field.kind:
            case "features":
                self._features.receive(message)
                if self._reverse is not None and isinstance(self._features, DropEdge):
                    self._features.note(message.field, self._reverse.of("features").missing(0))
            case "backward":
                message.rows[message.missing] = 0.0
                if isinstance(self._features, DropEdge):
                    message.rows[self._features.unheard(message.field)] = 0.0
            case "slice" | "consensus":
                self._parameters.receive(message)

    def _fail(self, parcel: Parcel) -> None:
        if not _is_feature(parcel):
            self._parameters.fail(parcel)

    def _left(self, field: Field) -> int:
        """Rounds until the field is used."""
        return self._last - self.rounds if field.kind == "slice" else 0

    def settle(self, rows: Array) -> None:
        """All slices were received: `rows` [n + m, travelling]."""
        n = len(self._ids)
        self._parameters.settle(rows[n:], rows[:n], self._receivers)

    def save(self, snapshot: Snapshot) -> None:
        """Add what is remembered."""
        snapshot.links |= {**self._store.snapshot(), **self._underway.snapshot(self._store)}
        snapshot.counters[_ROUNDS] = self.rounds
        if self.weights is not None:
            snapshot.nodes[_WEIGHTS] = self.weights.values.copy()

    def restore(self, snapshot: Snapshot) -> None:
        """Take it back out of the snapshot."""
        underway = {name: kept for name, kept in snapshot.links.items() if name.startswith(UNDERWAY)}
        self._store.restore({name: kept for name, kept in snapshot.links.items() if name not in underway})
        self._underway.restore(underway, self._store)
        self.rounds = int(cast(int, snapshot.counters.pop(_ROUNDS)))
        if self.weights is not None:
            self.weights.values = snapshot.nodes.pop(_WEIGHTS).copy()


def _is_feature(parcel: Parcel) -> bool:
    return parcel.what.startswith("features")
