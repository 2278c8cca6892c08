"""What communication cost: logical messages and bytes per field and phase, physical sends apart (SPEC §5).

A *link* message is one row over one directed edge; a *radio* broadcast is one row from a node to all of its neighbours
at once, which costs the same however many there are. Physical sends are what the transport did: packed ranks coalesce
rows and keep messages between their own nodes to themselves.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fdtrain.precision import FULL, Precision

PHASES = ("setup", "train", "test")  # of every ledger; link scheduling adds "decide" and "control"


@dataclass
class Count:
    """Counts of one phase, or of one field of it. Bytes are payload."""

    rounds: int = 0
    radio_messages: int = 0
    radio_bytes: int = 0
    link_messages: int = 0
    link_bytes: int = 0
    lost_messages: int = 0  # of the link messages: those that did not arrive, or not all of them
    late_messages: int = 0  # those that arrived, or a part of them, when it was too late

    def add(self, broadcasts: int, links: int, size: int) -> None:
        """Add rows of `size` bytes, so many to all neighbours at once, which are so many over links."""
        self.radio_messages += broadcasts
        self.radio_bytes += broadcasts * size
        self.link_messages += links
        self.link_bytes += links * size

    def __iadd__(self, other: Count) -> Count:
        self.rounds = max(self.rounds, other.rounds)  # ranks go through the same rounds
        self.radio_messages += other.radio_messages
        self.radio_bytes += other.radio_bytes
        self.link_messages += other.link_messages
        self.link_bytes += other.link_bytes
        self.lost_messages += other.lost_messages
        self.late_messages += other.late_messages
        return self


@dataclass
class Ledger:
    """One rank's counts, or with :meth:`merged` those of all ranks.

    ``total[phase]`` counts whole messages; ``fields[phase, kind]`` what rode in them, where ``rounds`` is the number
    of rounds in which the field rode.
    """

    total: dict[str, Count] = field(default_factory=lambda: {phase: Count() for phase in PHASES})
    fields: dict[tuple[str, str], Count] = field(default_factory=dict)
    talks: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # rounds of each; see record_talk
    physical_messages: int = 0
    physical_bytes: int = 0

    def record(
        self,
        phase: str,
        widths: Mapping[str, int],
        rounds: int,
        broadcasts: int,
        links: int,
        precision: Precision = FULL,
    ) -> None:
        """Add rounds that went over the wire.

        Args:
            phase: one of :data:`PHASES`, or another.
            widths: numbers per row of each field.
            rounds: how many rounds.
            broadcasts: nodes of this rank that have a neighbour.
            links: directed edges that leave this rank's nodes.
            precision: the types of the numbers.
        """
        if rounds == 0:
            return
        for count, size in self._counts(phase, widths, precision):
            count.rounds += rounds
            count.add(rounds * broadcasts, rounds * links, size)

    def record_missing(self, phase: str, lost: Counter[str], late: Counter[str]) -> None:
        """Add link messages that were lost or late, by kind of field and, as ``all``, whole messages; clear both."""
        for counts, name in ((lost, "lost_messages"), (late, "late_messages")):
            for kind, number in counts.items():
                count = self.total[phase] if kind == "all" else self.fields[phase, kind]
                setattr(count, name, getattr(count, name) + number)
            counts.clear()

    def record_talk(self, phase: str, kind: str, width: int, sent: Sequence[tuple[int, int]]) -> None:
        """Add rounds that go on for as long as a rank has something to tell; `sent` are (broadcasts, links) of each.

        How many rounds they take in all is known when the ranks' ledgers are merged: as many as the longest.
        """
        self.talks.setdefault((phase, kind), []).append(len(sent))
        for count, size in self._counts(phase, {kind: width}, FULL):
            for broadcasts, links in sent:
                count.add(broadcasts, links, size)

    def _counts(self, phase: str, widths: Mapping[str, int], precision: Precision) -> list[tuple[Count, int]]:
        """What is added to, the whole messages' count and those of their fields, with the bytes in a row of each."""
        fields = [
            (self.fields.setdefault((phase, kind), Count()), precision.size([(kind, width)]))
            for kind, width in widths.items()
        ]
        return [(self.total.setdefault(phase, Count()), precision.size(widths.items())), *fields]

    def replace(self, other: Ledger) -> None:
        """Take the counts of `other`, in which talks are over."""
        for part in fields(self):
            setattr(self, part.name, copy.deepcopy(getattr(other, part.name)))
        self.talks.clear()

    def as_dict(self) -> dict[str, Any]:
        """All counts but those of talks, as numbers and texts."""
        return {
            "total": {phase: asdict(count) for phase, count in self.total.items()},
            "fields": [[phase, kind, asdict(count)] for (phase, kind), count in self.fields.items()],
            "numbers": {part.name: getattr(self, part.name) for part in fields(self)[3:]},
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Ledger:
        """What :meth:`as_dict` gave."""
        total = {phase: Count(**count) for phase, count in content["total"].items()}
        kinds = {(phase, kind): Count(**count) for phase, kind, count in content["fields"]}
        return cls(total, kinds, **content["numbers"])

    @classmethod
    def merged(cls, parts: Sequence[Ledger]) -> Ledger:
        """The sum over ranks."""
        whole = cls()
        for part in parts:
            for phase, count in part.total.items():
                total = whole.total.setdefault(phase, Count())
                total += count
            for key, count in part.fields.items():
                slot = whole.fields.setdefault(key, Count())
                slot += count
            whole.physical_messages += part.physical_messages
            whole.physical_bytes += part.physical_bytes
        for phase, kind in sorted({key for part in parts for key in part.talks}):
            talks = [part.talks[phase, kind] for part in parts]
            whole.talks[phase, kind] = [max(lengths) for lengths in zip(*talks, strict=True)]
            rounds = sum(whole.talks[phase, kind])
            whole.fields[phase, kind].rounds += rounds
            whole.total[phase].rounds += rounds
        return whole
