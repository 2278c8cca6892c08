"""The closed formulas of the paper's Table I (SPEC §5): from a schedule's parameters, and not from its rounds."""

from __future__ import annotations

from fdtrain.rounds import backward_depth, backward_width, forward_width
from fdtrain.schedule import Schedule
from fdtrain.schemes import SCHEMES


def expected_rounds(schedule: Schedule) -> int:
    """Rounds of a mini-batch."""
    scheme, waves = SCHEMES[schedule.scheme], len(schedule.waves)
    back = backward_depth(schedule.depth, schedule.form)
    return scheme.rounds(schedule.depth, waves, back, schedule.consensus)


def expected_numbers(schedule: Schedule) -> int:
    """Table I's message sizes summed over a mini-batch: numbers that a node sends to each neighbour."""
    sizes, form, depth = schedule.sizes, schedule.form, schedule.depth
    forward = sum(forward_width(sizes, layer, form) for layer in range(1, depth + 1))
    if not schedule.trains:
        return schedule.batch * forward
    first = depth - backward_depth(depth, form) + 1
    backward = sum(backward_width(sizes, layer, form) for layer in range(first, depth + 1))
    exchanges = SCHEMES[schedule.scheme].exchanges(len(schedule.waves), schedule.consensus)
    return schedule.batch * (forward + backward) + schedule.travelling * exchanges
