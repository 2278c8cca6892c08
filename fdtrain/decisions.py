"""A trained actor at work: the nodes of a conflict graph decide among themselves who is on. What every rank does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain.engine import Engine
from fdtrain.graph import Neighbourhood
from fdtrain.ledger import Ledger
from fdtrain.losses import Utility
from fdtrain.mixing import Metropolis
from fdtrain.networks import Network
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.rates import Constant
from fdtrain.passes import Rows
from fdtrain.programs import Program
from fdtrain.schedule import build
from fdtrain.team import Team
from fdtrain.turns import Deciding

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Actor:
    """The model that makes z, of B = `samples` samples which share their messages."""

    model: Program
    network: Network
    samples: int


class Part(NamedTuple):
    """What rank 0 hands to a rank: of its own nodes alone."""

    theta: Array  # [n, p]
    hood: Neighbourhood
    rows: Rows


class Decided(NamedTuple):
    """What a rank tells of its own nodes."""

    chosen: NDArray[np.bool_]  # [n, B]
    z: Array  # [n, B]
    ledger: Ledger


def decide(actor: Actor, team: Team, deal: Callable[[], Sequence[Part]] | None = None) -> list[Decided]:
    """An order: z from the actor's messages, then the local greedy solver's on z ⊙ u (SPEC §6 C), without noise.

    On rank 0, which has the parts to `deal`, what all ranks decided; elsewhere nothing.
    """
    part: Part = team.deal(cast(Callable[[], Sequence[Part]], deal))
    one_wave = actor.samples
    schedule = build("inference", outline=actor.model.outline, batch=actor.samples, wave=one_wave)
    turn, idle = Deciding(), DSGD(Constant(1.0))
    engine = Engine(
        actor.model, actor.network, Utility(), idle, Metropolis(), team.transport, part.theta, turn
    )
    engine.rewire(part.hood, [("test", schedule)])
    engine.infer(schedule, part.rows)
    chosen, z = np.moveaxis(engine.finished(schedule), 2, 0)
    return team.control.gather(Decided(chosen == 1, z.copy(), engine.settle())) or []
