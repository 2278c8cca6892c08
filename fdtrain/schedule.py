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
Kind = Literal["features", "backward", "slice"]

BYTES_PER_NUMBER = 8


@dataclass(frozen=True)
class Field:
    """One kind of payload in a round: the same row of `width` numbers from a node to all of its neighbours."""

    kind: Kind
    width: int  # numbers per node
    layer: int = 0  # 1 … L; 0 for slices
    wave: int = 0  # 0 … B'−1
    start: int = 0  # slices: first number of the travelling row


@dataclass(frozen=True)
class Round:
    """Everything that a node sends in one round of messages."""

    fields: tuple[Field, ...]
    tail: bool = False  # after the last forward round: nothing but backward terms

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
    travelling: int  # numbers per node that ride in slices, |θ| for D-SGD
    rounds: tuple[Round, ...]

    def __hash__(self) -> int:  # the rounds follow from the rest, but for how slices are spread
        return hash((self.scheme, self.form, self.sizes, self.batch, self.wave, self.travelling))

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
        return SCHEMES[self.scheme].trains

    def numbers_of(self, kind: Kind) -> int:
        """Numbers per node and mini-batch that ride as `kind`."""
        return sum(field.width for round_ in self.rounds for field in round_.fields if field.kind == kind)


@dataclass(frozen=True)
class Scheme:
    """A row of Table I: how forward and backward rounds are laid out, and the formula for their number."""

    lay_out: Callable[[Sequence[list[Round]], Sequence[list[Round]]], list[Round]]
    rounds: Callable[[int, int, int], int]  # (L, B', backward rounds per wave) → rounds
    trains: bool


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


def expected_rounds(scheme: str, depth: int, batch: int, wave: int, form: Form) -> int:
    """The closed formula of Table I (SPEC §5), for checks against a built schedule and against the wire."""
    return SCHEMES[scheme].rounds(depth, -(-batch // wave), backward_depth(depth, form))


def expected_numbers(scheme: str, sizes: Sequence[int], batch: int, travelling: int, form: Form) -> int:
    """Table I's message sizes summed over a mini-batch: numbers that a node sends to each neighbour."""
    depth = len(sizes) - 1
    forward = sum(forward_width(sizes, layer, form) for layer in range(1, depth + 1))
    if not SCHEMES[scheme].trains:
        return batch * forward
    first = depth - backward_depth(depth, form) + 1
    backward = sum(backward_width(sizes, layer, form) for layer in range(first, depth + 1))
    return batch * (forward + backward) + travelling


def build(
    scheme: str,
    *,
    sizes: Sequence[int],
    batch: int,
    wave: int = 1,
    form: Form = "receiver",
    travelling: int = 0,
    slices: Slices = "idle",
) -> Schedule:
    """The schedule of one mini-batch.

    Args:
        scheme: a key of :data:`SCHEMES`.
        sizes: layer sizes g_0 … g_L.
        batch: B, samples per mini-batch.
        wave: w, samples that share a round's messages.
        form: the layer's form, SPEC §2.
        travelling: numbers per node that the optimizer exchanges, cut into slices.
        slices: ``"even"`` spreads them over all rounds, ``"idle"`` over the rounds without a backward term.

    Raises:
        InputError: an unknown scheme, or a size, batch or wave below 1.
    """
    if scheme not in SCHEMES:
        raise InputError(f"scheme: unknown '{scheme}'; known: {', '.join(SCHEMES)}")
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(f"sizes: needs at least two sizes, all of them ≥ 1, found {list(sizes)}")
    if batch < 1 or not 1 <= wave <= batch:
        raise InputError(f"batch, wave: need 1 ≤ wave ≤ batch, found batch {batch}, wave {wave}")
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
            Round((Field("backward", samples * backward_width(sizes, layer, form), layer, b),), tail=True)
            for layer in range(depth, last, -1)
        ]
        for b, samples in enumerate(waves)
    ]
    rounds = SCHEMES[scheme].lay_out(forward, backward)
    if SCHEMES[scheme].trains:
        rounds = _with_slices(rounds, travelling, slices)
    schedule = Schedule(scheme, form, tuple(sizes), batch, wave, travelling, tuple(rounds))
    check(schedule)
    return schedule


def check(schedule: Schedule) -> None:
    """Prove that all terms ride, after what they need was delivered, and every travelling number exactly once.

    Raises:
        InputError: naming the round and the field at fault.
    """
    delivered: set[tuple[Kind, int, int]] = set()
    position = 0
    for number, round_ in enumerate(schedule.rounds):
        for field in round_.fields:
            needed: tuple[Kind, int, int] | None = None
            if field.kind == "features" and field.layer > 1:
                needed = ("features", field.layer - 1, field.wave)
            elif field.kind == "backward" and field.layer == schedule.depth:
                needed = ("features", field.layer, field.wave)
            elif field.kind == "backward":
                needed = ("backward", field.layer + 1, field.wave)
            elif field.kind == "slice":
                if field.start != position:
                    raise InputError(
                        f"schedule: round {number} sends slice {field.start}, expected {position}"
                    )
                position += field.width
            if needed is not None and needed not in delivered:
                raise InputError(f"schedule: round {number} sends {field} before {needed} was delivered")
        delivered |= {(field.kind, field.layer, field.wave) for field in round_.fields}
    missing = sorted(_terms(schedule) - delivered, key=lambda term: (term[2], term[0] == "backward", term[1]))
    if missing:
        kind, layer, wave = missing[0]
        raise InputError(f"schedule: no round sends {kind} of layer {layer}, wave {wave}")
    if schedule.trains and position != schedule.travelling:
        raise InputError(f"schedule: slices carry {position} of {schedule.travelling} numbers")


def _terms(schedule: Schedule) -> set[tuple[Kind, int, int]]:
    """(kind, layer, wave) of everything that a mini-batch has to send, but for slices."""
    depth, waves = schedule.depth, range(len(schedule.waves))
    terms: set[tuple[Kind, int, int]] = {
        ("features", layer, b) for layer in range(1, depth + 1) for b in waves
    }
    if schedule.trains:
        last = depth - backward_depth(depth, schedule.form)
        terms |= {("backward", layer, b) for layer in range(last + 1, depth + 1) for b in waves}
    return terms


def _inference(forward: Sequence[list[Round]], backward: Sequence[list[Round]]) -> list[Round]:
    return [round_ for wave in forward for round_ in wave]


def _piggyback(forward: Sequence[list[Round]], backward: Sequence[list[Round]]) -> list[Round]:
    rounds = list(forward[0])
    for ahead, behind in zip(forward[1:], backward[:-1], strict=True):
        rounds += [
            first if second is None else Round(first.fields + second.fields)
            for first, second in zip_longest(ahead, behind)
        ]
    return rounds + list(backward[-1])


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
    "inference": Scheme(_inference, lambda L, waves, back: L * waves, trains=False),
    "piggyback_do": Scheme(_piggyback, lambda L, waves, back: L * waves + back, trains=True),
}
