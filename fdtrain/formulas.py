"""The closed formulas of the paper's Table I (SPEC §5): from a schedule's parameters, and not from its rounds."""

from __future__ import annotations

from fdtrain.rounds import Kind
from fdtrain.schedule import Schedule
from fdtrain.schemes import SCHEMES


def expected_rounds(schedule: Schedule) -> int:
    """Rounds of a mini-batch."""
    scheme, waves = SCHEMES[schedule.scheme], len(schedule.waves)
    back = sum(hop.backward > 0 for hop in schedule.outline.hops)
    return scheme.rounds(schedule.depth, waves, back, schedule.consensus)


def expected_numbers(schedule: Schedule) -> int:
    """Table I's message sizes summed over a mini-batch: numbers that a node sends to each neighbour."""
    return sum(_numbers(schedule).values())


def expected_bytes(schedule: Schedule) -> int:
    """The same in bytes, every kind in the type of its precision."""
    return schedule.precision.size(_numbers(schedule).items())


def _numbers(schedule: Schedule) -> dict[Kind, int]:
    """Numbers that a node sends to each neighbour, by what they are; what is mixed counts as a slice."""
    forward = sum(hop.forward for hop in schedule.outline.hops)
    if not schedule.trains:
        return {"features": schedule.batch * forward}
    backward = sum(hop.backward for hop in schedule.outline.hops)
    rows = schedule.batch if schedule.mixes_samples else len(schedule.waves)
    exchanges = SCHEMES[schedule.scheme].exchanges(rows, schedule.consensus)
    return {
        "features": schedule.batch * forward,
        "backward": schedule.batch * backward,
        "slice": schedule.travelling * exchanges,
    }
