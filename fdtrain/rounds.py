"""What a node sends: the rounds of a mini-batch, and the payloads that ride in them.

B samples are cut into B' = ⌈B/w⌉ *waves* of w samples that share their messages (w = 1 is the paper's online setting).
Sizes count numbers per node and message; how long those are says :mod:`fdtrain.precision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fdtrain.precision import Precision

Kind = Literal["features", "backward", "slice", "consensus"]
TITLES: dict[Kind, str] = {
    "features": "features",
    "backward": "backward terms",
    "slice": "slices",
    "consensus": "consensus",
}
Term = tuple[Kind, int, int]  # kind, layer or step of consensus, wave


@dataclass(frozen=True)
class Field:
    """One kind of payload in a round: the same row of `width` numbers from a node to all of its neighbours."""

    kind: Kind
    width: int  # numbers per node
    layer: int = 0  # 1 … L, the round of messages of a forward pass; 0 for slices
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

    def size(self, precision: Precision) -> int:
        """Message size, bytes per node."""
        return precision.size((field.kind, field.width) for field in self.fields)

    @property
    def has_backward(self) -> bool:
        """Whether a backward term rides in this round."""
        return any(field.kind == "backward" for field in self.fields)


def wave_sizes(batch: int, wave: int) -> tuple[int, ...]:
    """Cut `batch` samples into waves of `wave`; the last takes what is left."""
    full, rest = divmod(batch, wave)
    return (wave,) * full + ((rest,) if rest else ())


def plain(symbol: str) -> str:
    """A TeX symbol as text: x0Θ1 for x^{0}\\Theta_1."""
    for tex, text in _PLAIN:
        symbol = symbol.replace(tex, text)
    return symbol


_PLAIN = ((r"\Theta_1", "Θ1"), (r"\omega", "ω"), ("^2", "²"), ("_1", "₁"), ("^{", ""), ("}", ""))


@dataclass(frozen=True)
class Hop:
    """One of the L rounds of messages of a forward pass, and its counterpart on the way back.

    Symbols are TeX, without dollar signs.
    """

    forward: int  # numbers per sample
    backward: int  # numbers per sample; 0: nothing goes back
    sends: str  # symbol of the forward message
    returns: str  # symbol of the backward message


@dataclass(frozen=True)
class Outline:
    """What a model sends, as far as a schedule has to know."""

    title: str  # the model in a few words
    hops: tuple[Hop, ...]  # layers 1 … L
    sends: str  # symbol of any forward message
    returns: str  # symbol of any backward message

    @property
    def depth(self) -> int:
        """L, rounds of a forward pass."""
        return len(self.hops)

    @property
    def returning(self) -> tuple[int, ...]:
        """The layers that send something back, from above: R of them."""
        return tuple(layer for layer in range(self.depth, 0, -1) if self.hops[layer - 1].backward)
