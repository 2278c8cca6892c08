"""What a verification allows, and says, where messages are rounded to narrower types of numbers."""

from __future__ import annotations

from dataclasses import dataclass

from fdtrain.job import Job
from fdtrain.precision import FULL, TYPES

SOME = 10  # u that a row may be off: by its own rounding, and its neighbours'
MANY = 1000  # u that sums of u may be off where terms of both signs cancel
PASSES = ("features", "backward")  # the messages that gradients depend on


@dataclass(frozen=True)
class Accuracy:
    """Of a job, and of the oracle that rounds the same messages.

    They sum in different orders, and a number in the middle between two of a narrow type is rounded to the one or to
    the other by its last bits. Of float32 that happens once in 10⁹ times, of shorter types hardly ever; but push-sum's
    weights are sums of few fractions, and often in the middle. The oracle computes in float64, whatever the nodes do.
    """

    job: Job

    @property
    def rounds(self) -> bool:
        """Whether anything is rounded."""
        return self.job.precision != FULL

    @property
    def types(self) -> str:
        """What messages are rounded to, in words."""
        return self.job.precision.in_words()

    @property
    def alike(self) -> str:
        """A note on comparisons with an oracle that rounds."""
        return ", rounded alike" if self.job.precision.messages else ""

    @property
    def unrounded(self) -> str:
        """A note on comparisons that are made without rounding."""
        return f", {self.job.precision.arithmetic} messages" if self.rounds else ""

    @property
    def roundoff(self) -> float:
        """u, the largest of all messages."""
        return self.job.precision.roundoff

    def tolerance(self, least: float, *kinds: str) -> float:
        """What nodes and oracle may differ by, relatively, by messages of these kinds, or all; `least` if they are
        exact."""
        precision = self.job.precision
        types = precision.messages
        if precision.arithmetic != "float64":
            return max(self.unrounded_tolerance(least), SOME * precision.roundoff if types else 0.0)
        often = any(types.get(kind) == "float32" for kind in kinds or types)
        return max(least, 4 * TYPES["float32"].roundoff) if often else least

    def unrounded_tolerance(self, least: float) -> float:
        """The same where messages are not rounded."""
        number = self.job.precision.arithmetic
        return least if number == "float64" else max(least, MANY * TYPES[number].roundoff)

    def lossy_tolerance(self, least: float) -> float:
        """The same over unreliable channels."""
        number, channel = self.job.precision.messages.get("parameters"), self.job.channel
        halves = number is not None and channel is not None and channel.parameter_policy == "push_sum"
        return max(self.tolerance(least), SOME * self.roundoff) if halves else self.tolerance(least)
