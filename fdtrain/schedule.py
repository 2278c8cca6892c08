"""Which message rides in which round: the communication schemes of the paper's Table I as data.

A :class:`Schedule` is built, checked, costed and drawn without anything running; the engine only executes it.
B samples are cut into B' = ⌈B/w⌉ *waves* of w samples that share their messages (w = 1 is the paper's online setting).
Sizes count numbers per node and message; a number is a float64 of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

from fdtrain.errors import InputError

Form = Literal["receiver", "sender"]
Slices = Literal["even", "idle"]
Exchange = Literal["never", "along", "after_batch", "after_wave"]
Kind = Literal["features", "backward", "slice", "consensus"]
Term = tuple[Kind, int, int]  # kind, layer or step of consensus, wave

BYTES_PER_NUMBER = 8


@dataclass(frozen=True)
class Field:
    """One kind of payload in a round: the same row of `width` numbers from a node to all of its neighbours."""

    kind: Kind
    width: int  # numbers per node
    layer: int = 0  # 1 … L; 0 for slices
    wave: int = 0  # 0 … B'−1; consensus: the last wave whose gradient it may carry
    start: int = 0  # slices: first number of the travelling row
    step: int = 0  # consensus: 1 … K

    @property
    def term(self) -> Term:
        """What is sent, whatever its width."""
        return self.kind, self.layer or self.step, self.wave


@dataclass(frozen=True)
class Round:
    """Everything that a node sends in one round of messages."""

    fields: tuple[Field, ...]

    @property
    def width(self) -> int:
        """Message size, numbers per node."""
        return sum(field.width for field in self.fields)

    @property
    def has_backward(self) -> bool:
        """Whether a backward term rides in this round."""
        return any(field.kind == "backward" for field in self.fields)


@dataclass(frozen=True)
class Schedule:
    """The rounds of one mini-batch under one scheme; see :func:`build`."""

    scheme: str
    form: Form
    sizes: tuple[int, ...]  # g_0 … g_L
    batch: int  # B
    wave: int  # w
    travelling: int  # numbers per node that the optimizer mixes, |θ| for D-SGD
    consensus: int  # K, rounds of consensus; 0 where what is mixed rides along, or nothing is
    rounds: tuple[Round, ...]

    def __hash__(self) -> int:  # the rounds follow from the rest, but for how slices are spread
        return hash(
            (self.scheme, self.form, self.sizes, self.batch, self.wave, self.travelling, self.consensus)
        )

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return len(self.sizes) - 1

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
    def trains(self) -> bool:
        """Whether the schedule has a backward pass and an exchange of what the optimizer mixes."""
        return SCHEMES[self.scheme].exchange != "never"

    @property
    def exchange(self) -> Exchange:
        """When what the optimizer mixes travels."""
        return SCHEMES[self.scheme].exchange

    def numbers_of(self, kind: Kind) -> int:
        """Numbers per node and mini-batch that ride as `kind`."""
        return sum(field.width for round_ in self.rounds for field in round_.fields if field.kind == kind)


Waves = Sequence[list[Round]]  # the rounds of each wave


@dataclass(frozen=True)
class Scheme:
    """A row of Table I: how the rounds of every wave are laid out, and the formula for their number."""

    lay_out: Callable[[Waves, Waves, Waves], list[Round]]  # (forward, backward, consensus) → rounds
    formula: str  # with R backward rounds per wave
    rounds: Callable[[int, int, int, int], int]  # (L, B', R, K) → rounds
    exchange: Exchange

    def exchanges(self, waves: int, consensus: int) -> int:
        """How often the row that the optimizer mixes goes over the wire in a mini-batch of B' waves."""
        often = {"never": 0, "along": 1, "after_batch": consensus, "after_wave": waves * consensus}
        return often[self.exchange]


def wave_sizes(batch: int, wave: int) -> tuple[int, ...]:
    """Cut `batch` samples into waves of `wave`; the last takes what is left."""
    full, rest = divmod(batch, wave)
    return (wave,) * full + ((rest,) if rest else ())


def backward_depth(depth: int, form: Form) -> int:
    """Backward rounds per wave: L − 1 in the receiver form (z⁰ is not needed), L in the sender form."""
    return depth - 1 if form == "receiver" else depth


def forward_width(sizes: Sequence[int], layer: int, form: Form) -> int:
    """Numbers per sample of layer l's forward message: x^{l−1} (receiver form) or x^{l−1}Θ1 (sender form)."""
    return sizes[layer - 1] if form == "receiver" else sizes[layer]


def backward_width(sizes: Sequence[int], layer: int, form: Form) -> int:
    """Numbers per sample of layer l's backward message: qΘ1ᵀ (receiver form) or q (sender form)."""
    return sizes[layer - 1] if form == "receiver" else sizes[layer]


def expected_rounds(schedule: Schedule) -> int:
    """The closed formula of Table I (SPEC §5), from the schedule's parameters and not from its rounds."""
    scheme, waves = SCHEMES[schedule.scheme], len(schedule.waves)
    back = backward_depth(schedule.depth, schedule.form)
    return scheme.rounds(schedule.depth, waves, back, schedule.consensus)


def expected_numbers(schedule: Schedule) -> int:
    """Table I's message sizes summed over a mini-batch: numbers that a node sends to each neighbour.

    From the schedule's parameters, and not from its rounds.
    """
    sizes, form, depth = schedule.sizes, schedule.form, schedule.depth
    forward = sum(forward_width(sizes, layer, form) for layer in range(1, depth + 1))
    if not schedule.trains:
        return schedule.batch * forward
    first = depth - backward_depth(depth, form) + 1
    backward = sum(backward_width(sizes, layer, form) for layer in range(first, depth + 1))
    exchanges = SCHEMES[schedule.scheme].exchanges(len(schedule.waves), schedule.consensus)
    return schedule.batch * (forward + backward) + schedule.travelling * exchanges


def build(
    scheme: str,
    *,
    sizes: Sequence[int],
    batch: int,
    wave: int = 1,
    form: Form = "receiver",
    travelling: int = 0,
    slices: Slices = "idle",
    consensus: int = 1,
) -> Schedule:
    """The schedule of one mini-batch.

    Args:
        scheme: a key of :data:`SCHEMES`.
        sizes: layer sizes g_0 … g_L.
        batch: B, samples per mini-batch.
        wave: w, samples that share a round's messages.
        form: the layer's form, SPEC §2.
        travelling: numbers per node that the optimizer exchanges.
        slices: of ``piggyback_do``: ``"even"`` spreads them over all rounds, ``"idle"`` over the rounds without a
            backward term.
        consensus: K, rounds in which they are mixed, of the schemes that have such rounds.

    Raises:
        InputError: an unknown scheme, or a size, batch, wave or number of consensus rounds below 1.
    """
    if scheme not in SCHEMES:
        raise InputError(f"scheme: unknown '{scheme}'; known: {', '.join(SCHEMES)}")
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(f"sizes: needs at least two sizes, all of them ≥ 1, found {list(sizes)}")
    if batch < 1 or not 1 <= wave <= batch:
        raise InputError(f"batch, wave: need 1 ≤ wave ≤ batch, found batch {batch}, wave {wave}")
    if consensus < 1:
        raise InputError(f"consensus rounds: must be at least 1, found {consensus}")
    depth, waves = len(sizes) - 1, wave_sizes(batch, wave)
    forward = [
        [
            Round((Field("features", samples * forward_width(sizes, layer, form), layer, b),))
            for layer in range(1, depth + 1)
        ]
        for b, samples in enumerate(waves)
    ]
    last = depth - backward_depth(depth, form)
    backward = [
        [
            Round((Field("backward", samples * backward_width(sizes, layer, form), layer, b),))
            for layer in range(depth, last, -1)
        ]
        for b, samples in enumerate(waves)
    ]
    mixing = [
        [Round((Field("consensus", travelling, wave=b, step=k),)) for k in range(1, consensus + 1)]
        for b in range(len(waves))
    ]
    rounds, exchange = SCHEMES[scheme].lay_out(forward, backward, mixing), SCHEMES[scheme].exchange
    if exchange == "along":
        rounds = _with_slices(rounds, travelling, slices)
    steps = consensus if exchange in ("after_batch", "after_wave") else 0
    schedule = Schedule(scheme, form, tuple(sizes), batch, wave, travelling, steps, tuple(rounds))
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
            if field.kind == "consensus" and field.width != schedule.travelling:
                raise InputError(
                    f"schedule: round {number} mixes {field.width} of {schedule.travelling} numbers"
                )
            needed = _first(_needs(field, schedule.depth, terms) - delivered)
            if needed is not None:
                raise InputError(f"schedule: round {number} sends {field} before {needed} was delivered")
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
        last = depth - backward_depth(depth, schedule.form)
        terms |= {("backward", layer, b) for layer in range(last + 1, depth + 1) for b in waves}
    mixed = waves if schedule.exchange == "after_wave" else waves[-1:]
    return terms | {("consensus", step, b) for step in range(1, schedule.consensus + 1) for b in mixed}


def _needs(field: Field, depth: int, terms: set[Term]) -> set[Term]:
    """What has to be delivered before `field` can be sent."""
    match field.kind:
        case "features" if field.layer > 1:
            return {("features", field.layer - 1, field.wave)}
        case "backward" if field.layer == depth:
            return {("features", depth, field.wave)}
        case "backward":
            return {("backward", field.layer + 1, field.wave)}
        case "consensus" if field.step > 1:
            return {("consensus", field.step - 1, field.wave)}
        case "consensus":
            return {term for term in terms if term[0] != "consensus" and term[2] <= field.wave}
    return set()


def _first(terms: set[Term]) -> Term | None:
    return min(terms, key=lambda term: (term[2], term[0] == "backward", term[1]), default=None)


def _inference(forward: Waves, backward: Waves, consensus: Waves) -> list[Round]:
    return [round_ for wave in forward for round_ in wave]


def _per_sample(forward: Waves, backward: Waves, consensus: Waves) -> list[Round]:
    waves = zip(forward, backward, consensus, strict=True)
    return [round_ for parts in waves for part in parts for round_ in part]


def _per_batch(forward: Waves, backward: Waves, consensus: Waves) -> list[Round]:
    waves = zip(forward, backward, strict=True)
    return [round_ for parts in waves for part in parts for round_ in part] + consensus[-1]


def _piggyback_do(forward: Waves, backward: Waves, consensus: Waves) -> list[Round]:
    rounds = list(forward[0])
    for ahead, behind in zip(forward[1:], backward[:-1], strict=True):
        rounds += [
            first if second is None else Round(first.fields + second.fields)
            for first, second in zip_longest(ahead, behind)
        ]
    return rounds + backward[-1]


def _piggyback(forward: Waves, backward: Waves, consensus: Waves) -> list[Round]:
    return _piggyback_do(forward, backward, consensus) + consensus[-1]


def _with_slices(rounds: list[Round], travelling: int, slices: Slices) -> list[Round]:
    slots = [r for r, round_ in enumerate(rounds) if slices == "even" or not round_.has_backward]
    result, start = list(rounds), 0
    for k, r in enumerate(slots):
        stop = travelling * (k + 1) // len(slots)
        if stop > start:
            fields = (*rounds[r].fields, Field("slice", stop - start, start=start))
            result[r] = replace(rounds[r], fields=fields)
        start = stop
    return result


SCHEMES: dict[str, Scheme] = {
    "inference": Scheme(_inference, "LB'", lambda L, waves, back, K: L * waves, "never"),
    "per_sample": Scheme(
        _per_sample, "B'(L+R) + B'K", lambda L, waves, back, K: waves * (L + back) + waves * K, "after_wave"
    ),
    "per_batch": Scheme(
        _per_batch, "B'(L+R) + K", lambda L, waves, back, K: waves * (L + back) + K, "after_batch"
    ),
    "piggyback": Scheme(
        _piggyback, "LB' + R + K", lambda L, waves, back, K: L * waves + back + K, "after_batch"
    ),
    "piggyback_do": Scheme(_piggyback_do, "LB' + R", lambda L, waves, back, K: L * waves + back, "along"),
}
