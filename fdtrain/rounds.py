"""What a node sends: the rounds of a mini-batch, and the payloads that ride in them.

B samples are cut into B' = ⌈B/w⌉ *waves* of w samples that share their messages (w = 1 is the paper's online setting).
Sizes count numbers per node and message; a number is a float64 of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["receiver", "sender"]
Kind = Literal["features", "backward", "slice", "consensus"]
TITLES: dict[Kind, str] = {
    "features": "features",
    "backward": "backward terms",
    "slice": "slices",
    "consensus": "consensus",
}
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
