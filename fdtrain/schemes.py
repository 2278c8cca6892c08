"""The communication schemes of the paper's Table I as data: how each lays out the rounds of a mini-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

from fdtrain.rounds import Field, Round

Slices = Literal["even", "idle"]
Exchange = Literal["never", "along", "after_batch", "after_wave"]
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


def with_slices(rounds: list[Round], travelling: int, slices: Slices, grain: int = 1) -> list[Round]:
    """The rounds with `travelling` numbers spread over all of them, or over those without a backward term, cut at
    multiples of `grain`."""
    slots = [r for r, round_ in enumerate(rounds) if slices == "even" or not round_.has_backward]
    result, start = list(rounds), 0
    for k, r in enumerate(slots):
        stop = travelling // grain * (k + 1) // len(slots) * grain
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
