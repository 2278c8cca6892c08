"""The types of numbers in messages, and in arithmetic: how long they are, and how coarse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Number = Literal["float64", "float32", "float16", "bfloat16"]
Arithmetic = Literal["float64", "float32"]


class Type(NamedTuple):
    """A type of binary floating-point numbers."""

    bytes: int
    bits: int  # of the significand, the leading one included

    @property
    def roundoff(self) -> float:
        """u, the largest relative error of a number that is rounded to the nearest, in the range of normal numbers."""
        return 2.0**-self.bits


TYPES: dict[Number, Type] = {
    "float64": Type(8, 53),
    "float32": Type(4, 24),
    "float16": Type(2, 11),
    "bfloat16": Type(2, 8),
}


@dataclass(frozen=True)
class Precision:
    """The types in which the messages of training and of tests carry their numbers, and that of arithmetic.

    Whatever is no field of a schedule, such as degrees, travels as float64.
    """

    features: Number = "float64"
    backward: Number = "float64"
    parameters: Number = "float64"  # slices, and rounds of consensus
    arithmetic: Arithmetic = "float64"

    def of(self, kind: str) -> Number:
        """The type of fields of this kind (:data:`fdtrain.rounds.Kind`, or another)."""
        match kind:
            case "features":
                return self.features
            case "backward":
                return self.backward
            case "slice" | "consensus":
                return self.parameters
        return "float64"

    def bytes(self, kind: str) -> int:
        """Bytes of a number in a field of this kind."""
        return TYPES[self.of(kind)].bytes

    def size(self, fields: Iterable[tuple[str, int]]) -> int:
        """Bytes of fields that are given as (kind, numbers)."""
        return sum(numbers * self.bytes(kind) for kind, numbers in fields)

    @property
    def messages(self) -> dict[str, Number]:
        """The types that messages are rounded to, by what they carry; empty if all are those of arithmetic."""
        types: dict[str, Number] = {
            "features": self.features,
            "backward": self.backward,
            "parameters": self.parameters,
        }
        return {name: type_ for name, type_ in types.items() if type_ != self.arithmetic}

    @property
    def unrounded(self) -> Precision:
        """The same arithmetic, with messages that are not rounded."""
        own = self.arithmetic
        return Precision(own, own, own, own)

    def in_words(self) -> str:
        """The types that messages are rounded to, and that of arithmetic if it is another than float64."""
        types = self.messages
        if self.arithmetic == "float64" and len(types) == 3 and len({*types.values()}) == 1:
            return f"{self.features} messages"
        words = [f"{type_} {name}" for name, type_ in types.items()]
        return ", ".join(words if self.arithmetic == "float64" else [*words, f"{self.arithmetic} arithmetic"])

    @property
    def remedy(self) -> str:
        """What else may help where numbers grow too large, to be appended."""
        if "float16" not in self.messages.values():
            return ""
        return "; or it is precision: float16 holds nothing beyond 65,504, use bfloat16 or float32"

    @property
    def roundoff(self) -> float:
        """The largest u of all that is sent, and of arithmetic."""
        return max(TYPES[type_].roundoff for type_ in (*self.messages.values(), self.arithmetic))


FULL = Precision()
