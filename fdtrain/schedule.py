"""Which message rides in which round of a mini-batch.

A :class:`Schedule` is built, checked, costed and drawn without anything running; the engine only executes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fdtrain.errors import InputError
from fdtrain.precision import FULL, Precision
from fdtrain.rounds import Field, Kind, Outline, Round, Term, wave_sizes
from fdtrain.schemes import SCHEMES, Exchange, Slices, with_slices

MAX_ROUNDS = 2_000_000  # of a mini-batch


@dataclass(frozen=True)
class Schedule:
    """The rounds of one mini-batch under one scheme; see :func:`build`."""

    scheme: str
    outline: Outline
    batch: int  # B
    wave: int  # w
    travelling: int  # numbers per node that the optimizer mixes, |θ| for D-SGD
    consensus: int  # K, rounds of consensus; 0 where what is mixed rides along, or nothing is
    by_sample: bool  # whether a consensus mixes every sample's row apart
    rounds: tuple[Round, ...]
    precision: Precision = FULL

    def __hash__(self) -> int:  # the rounds follow from the rest, but for how slices are spread
        return hash((self.scheme, self.outline, self.batch, self.wave, self.travelling, self.consensus))

    @property
    def depth(self) -> int:
        """L, rounds of messages of a forward pass."""
        return self.outline.depth

    @property
    def waves(self) -> tuple[int, ...]:
        """The number of samples in each wave; only the last may be smaller than w."""
        return wave_sizes(self.batch, self.wave)

    @property
    def numbers(self) -> int:
        """Numbers that a node sends to each neighbour in the mini-batch."""
        return sum(round_.width for round_ in self.rounds)

    @property
    def average_width(self) -> float:
        """Average message size over the rounds, numbers."""
        return self.numbers / len(self.rounds)

    @property
    def peak_width(self) -> int:
        """Largest message, numbers."""
        return max(round_.width for round_ in self.rounds)

    @property
    def bytes(self) -> int:
        """Bytes that a node sends to each neighbour in the mini-batch."""
        return sum(round_.size(self.precision) for round_ in self.rounds)

    @property
    def peak_bytes(self) -> int:
        """Largest message, bytes."""
        return max(round_.size(self.precision) for round_ in self.rounds)

    @property
    def trains(self) -> bool:
        """Whether the schedule has a backward pass and an exchange of what the optimizer mixes."""
        return SCHEMES[self.scheme].exchange != "never"

    @property
    def exchange(self) -> Exchange:
        """When what the optimizer mixes travels."""
        return SCHEMES[self.scheme].exchange

    @property
    def mixes_samples(self) -> bool:
        """Whether every sample's row is mixed apart, in the consensus after its wave."""
        return self.by_sample and self.exchange == "after_wave"

    def numbers_of(self, kind: Kind) -> int:
        """Numbers per node and mini-batch that ride as `kind`."""
        return sum(field.width for round_ in self.rounds for field in round_.fields if field.kind == kind)

    def bytes_of(self, kind: Kind) -> int:
        """The same in bytes."""
        return self.numbers_of(kind) * self.precision.bytes(kind)


def build(
    scheme: str,
    *,
    outline: Outline,
    batch: int,
    wave: int = 1,
    travelling: int = 0,
    slices: Slices = "idle",
    consensus: int = 1,
    by_sample: bool = False,
    grain: int = 1,
    precision: Precision = FULL,
) -> Schedule:
    """The schedule of one mini-batch.

    Args:
        scheme: a key of :data:`SCHEMES`.
        outline: what the model sends.
        batch: B, samples per mini-batch.
        wave: w, samples that share a round's messages.
        travelling: numbers per node that the optimizer exchanges.
        slices: of ``piggyback_do``: ``"even"`` spreads them over all rounds, ``"idle"`` over the rounds without a
            backward term.
        consensus: K, rounds in which they are mixed, of the schemes that have such rounds.
        by_sample: whether ``per_sample`` mixes the rows of a wave's samples apart, and sends them all: where every
            sample has links of its own, or is an update of its own.
        grain: slices are cut at multiples of so many numbers.
        precision: the types of the numbers.

    Raises:
        InputError: an unknown scheme, or a batch, wave or number of consensus rounds below 1.
    """
    if scheme not in SCHEMES:
        raise InputError(f"scheme: unknown '{scheme}'; known: {', '.join(SCHEMES)}")
    if batch < 1 or not 1 <= wave <= batch:
        raise InputError(f"batch, wave: need 1 ≤ wave ≤ batch, found batch {batch}, wave {wave}")
    if consensus < 1:
        raise InputError(f"consensus rounds: must be at least 1, found {consensus}")
    planned = SCHEMES[scheme].rounds(outline.depth, -(-batch // wave), len(outline.returning), consensus)
    if planned > MAX_ROUNDS:
        raise InputError(
            f"schedule: {planned:,} rounds in a mini-batch, at most {MAX_ROUNDS:,}; use larger waves, smaller batches, "
            "or fewer layers or rounds of consensus"
        )
    waves, exchange = wave_sizes(batch, wave), SCHEMES[scheme].exchange
    forward = [
        [
            Round((Field("features", samples * hop.forward, layer, b),))
            for layer, hop in enumerate(outline.hops, start=1)
        ]
        for b, samples in enumerate(waves)
    ]
    backward = [
        [
            Round((Field("backward", samples * outline.hops[layer - 1].backward, layer, b),))
            for layer in outline.returning
        ]
        for b, samples in enumerate(waves)
    ]
    apart = by_sample and exchange == "after_wave"
    mixing = [
        [
            Round((Field("consensus", travelling * (samples if apart else 1), wave=b, step=k),))
            for k in range(1, consensus + 1)
        ]
        for b, samples in enumerate(waves)
    ]
    rounds = SCHEMES[scheme].lay_out(forward, backward, mixing)
    if exchange == "along":
        rounds = with_slices(rounds, travelling, slices, grain)
    steps = consensus if exchange in ("after_batch", "after_wave") else 0
    schedule = Schedule(scheme, outline, batch, wave, travelling, steps, by_sample, tuple(rounds), precision)
    check(schedule)
    return schedule


def check(schedule: Schedule) -> None:
    """Prove that all terms ride, after what they need was delivered, and every travelling number as often as it has to.

    Raises:
        InputError: naming the round and the field at fault.
    """
    terms, delivered = _terms(schedule), set[Term]()
    position = 0
    for number, round_ in enumerate(schedule.rounds):
        for field in round_.fields:
            if field.kind == "slice":
                if field.start != position:
                    raise InputError(
                        f"schedule: round {number} sends slice {field.start}, expected {position}"
                    )
                position += field.width
            if field.kind == "consensus":
                rows = schedule.waves[field.wave] if schedule.mixes_samples else 1
                if field.width != rows * schedule.travelling:
                    raise InputError(
                        f"schedule: round {number} mixes {field.width} of {rows * schedule.travelling} numbers"
                    )
            needed = _first(_needs(field, schedule.outline, terms) - delivered)
            if needed is not None:
                raise InputError(f"schedule: round {number} sends {field} before {needed} was delivered")
            if field.kind == "slice":
                superfluous = schedule.exchange != "along"
            else:
                superfluous = field.term not in terms or field.term in delivered
            if superfluous:
                raise InputError(
                    f"schedule: round {number} sends {field}, of which there is no need (any more)"
                )
        delivered |= {field.term for field in round_.fields}
    missing = _first(terms - delivered)
    if missing is not None:
        kind, layer, wave = missing
        what = "step" if kind == "consensus" else "layer"
        raise InputError(f"schedule: no round sends {kind} of {what} {layer}, wave {wave}")
    if schedule.exchange == "along" and position != schedule.travelling:
        raise InputError(f"schedule: slices carry {position} of {schedule.travelling} numbers")


def _terms(schedule: Schedule) -> set[Term]:
    """Everything that a mini-batch has to send, but for slices."""
    depth, waves = schedule.depth, range(len(schedule.waves))
    terms: set[Term] = {("features", layer, b) for layer in range(1, depth + 1) for b in waves}
    if schedule.trains:
        terms |= {("backward", layer, b) for layer in schedule.outline.returning for b in waves}
    mixed = waves if schedule.exchange == "after_wave" else waves[-1:]
    return terms | {("consensus", step, b) for step in range(1, schedule.consensus + 1) for b in mixed}


def _needs(field: Field, outline: Outline, terms: set[Term]) -> set[Term]:
    """What has to be delivered before `field` can be sent."""
    match field.kind:
        case "features" if field.layer > 1:
            return {("features", field.layer - 1, field.wave)}
        case "backward":
            above = [layer for layer in outline.returning if layer > field.layer]
            last: Term = (
                ("backward", above[-1], field.wave) if above else ("features", outline.depth, field.wave)
            )
            return {last}
        case "consensus" if field.step > 1:
            return {("consensus", field.step - 1, field.wave)}
        case "consensus":
            return {term for term in terms if term[0] != "consensus" and term[2] <= field.wave}
    return set()


def _first(terms: set[Term]) -> Term | None:
    return min(terms, key=lambda term: (term[2], term[0] == "backward", term[1]), default=None)
