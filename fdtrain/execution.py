"""How a run is executed: what changes its cost, and at most the last digits of its results."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fdtrain.engine import Kernel
from fdtrain.graph import Graph
from fdtrain.partitioners import PARTITIONERS
from fdtrain.section import Section

PartitionKind = Literal["block", "random", "metis", "spectral"]
assert set(get_args(PartitionKind)) == set(PARTITIONERS)


class Partition(Section):
    """Which rank hosts which node."""

    kind: PartitionKind = Field(
        default="block",
        description="block: consecutive numbers; random; metis, spectral: few links between ranks, in the network of "
        "the first mini-batch.",
    )
    seed: int | None = Field(
        default=None, description="Seed of its draws; default: the experiment's seed.", ge=0, lt=2**63
    )

    def owners(self, graph: Graph, ranks: int, seed: int) -> NDArray[np.int64]:
        """The rank [V] of every node; `seed` is the experiment's."""
        return PARTITIONERS[self.kind](graph, ranks, seed if self.seed is None else self.seed)


class Execution(Section):
    """What the cost of a run depends on; its results, at most in their last digits."""

    partition: Partition = Field(default=Partition(), description="Which rank hosts which node.")
    kernel: Kernel = Field(
        default="auto",
        description="numba: passes in compiled loops, of node regression; numpy: array by array; auto: numba where it "
        "can. The last digits differ.",
    )
    transport: Literal["auto", "point_to_point", "persistent", "neighbourhood"] = Field(
        default="auto",
        description="How MPI exchanges messages that come again and again; auto: as is fastest, which is tried at the "
        "start. Persistent requests or a persistent collective of neighbours let compiled loops go on from round to "
        "round by themselves.",
    )
