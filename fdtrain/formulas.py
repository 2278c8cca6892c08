"""The closed formulas of the paper's Table I (SPEC §5): from a schedule's parameters, and not from its rounds."""

from __future__ import annotations

from fdtrain.schedule import Schedule
from fdtrain.schemes import SCHEMES


def expected_rounds(schedule: Schedule) -> int:
    """Rounds of a mini-batch."""
    scheme, waves = SCHEMES[schedule.scheme], len(schedule.waves)
    back = sum(hop.backward > 0 for hop in schedule.outline.hops)
    return scheme.rounds(schedule.depth, waves, back, schedule.consensus)


def expected_numbers(schedule: Schedule) -> int:
    """Table I's message sizes summed over a mini-batch: numbers that a node sends to each neighbour."""
    forward = sum(hop.forward for hop in schedule.outline.hops)
    if not schedule.trains:
        return schedule.batch * forward
    backward = sum(hop.backward for hop in schedule.outline.hops)
    rows = schedule.batch if schedule.mixes_samples else len(schedule.waves)
    exchanges = SCHEMES[schedule.scheme].exchanges(rows, schedule.consensus)
    return schedule.batch * (forward + backward) + schedule.travelling * exchanges
