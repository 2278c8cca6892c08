"""What communication cost: logical messages and bytes per field and phase, physical sends apart (SPEC §5).

A *link* message is one row over one directed edge; a *radio* broadcast is one row from a node to all of its neighbours
at once, which costs the same however many there are. Physical sends are what the transport did: packed ranks coalesce
rows and keep messages between their own nodes to themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fdtrain.rounds import BYTES_PER_NUMBER

PHASES = ("setup", "train", "test")


@dataclass
class Count:
    """Counts of one phase, or of one field of it. Bytes are payload."""

    rounds: int = 0
    radio_messages: int = 0
    radio_bytes: int = 0
    link_messages: int = 0
    link_bytes: int = 0

    def __iadd__(self, other: Count) -> Count:
        self.rounds = max(self.rounds, other.rounds)  # ranks go through the same rounds
        self.radio_messages += other.radio_messages
        self.radio_bytes += other.radio_bytes
        self.link_messages += other.link_messages
        self.link_bytes += other.link_bytes
        return self


@dataclass
class Ledger:
    """One rank's counts, or with :meth:`merged` those of all ranks.

    ``total[phase]`` counts whole messages; ``fields[phase, kind]`` what rode in them, where ``rounds`` is the number
    of rounds in which the field rode.
    """

    total: dict[str, Count] = field(default_factory=lambda: {phase: Count() for phase in PHASES})
    fields: dict[tuple[str, str], Count] = field(default_factory=dict)
    physical_messages: int = 0
    physical_bytes: int = 0

    def record(self, phase: str, widths: Mapping[str, int], rounds: int, broadcasts: int, links: int) -> None:
        """Add rounds that went over the wire.

        Args:
            phase: one of :data:`PHASES`.
            widths: numbers per row of each field.
            rounds: how many rounds.
            broadcasts: nodes of this rank that have a neighbour.
            links: directed edges that leave this rank's nodes.
        """
        if rounds == 0:
            return
        counts = [(self.fields.setdefault((phase, kind), Count()), width) for kind, width in widths.items()]
        for count, width in [(self.total[phase], sum(widths.values())), *counts]:
            size = rounds * width * BYTES_PER_NUMBER
            count.rounds += rounds
            count.radio_messages += rounds * broadcasts
            count.radio_bytes += size * broadcasts
            count.link_messages += rounds * links
            count.link_bytes += size * links

    @classmethod
    def merged(cls, parts: Iterable[Ledger]) -> Ledger:
        """The sum over ranks."""
        whole = cls()
        for part in parts:
            for phase, count in part.total.items():
                whole.total[phase] += count
            for key, count in part.fields.items():
                slot = whole.fields.setdefault(key, Count())
                slot += count
            whole.physical_messages += part.physical_messages
            whole.physical_bytes += part.physical_bytes
        return whole
