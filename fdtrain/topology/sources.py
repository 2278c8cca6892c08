"""All kinds of topology: those of a task, the conflict graph of a network, and the choice among all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, field_serializer, field_validator, model_validator

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology.base import RANDOM_KINDS, DrawnSource, Redraw, Source, UnusableDrawError
from fdtrain.topology.conflicts import Interference, conflict_graph
from fdtrain.topology.contacts import Contacts
from fdtrain.topology.kinds import (
    BarabasiAlbert,
    Complete,
    ErdosRenyi,
    FileSource,
    Grid,
    Network,
    NetworkConfig,
    PathGraph,
    RandomGeometric,
    RandomRegular,
    Ring,
    Star,
    WattsStrogatz,
)
from fdtrain.topology.moving import GaussMarkov, RandomDirection, RandomWaypoint
from fdtrain.topology.switching import MarkovEdges, OnePeerExponential, RandomMatching

__all__ = [
    "RANDOM_KINDS",
    "BarabasiAlbert",
    "BundleSource",
    "ChannelSource",
    "Complete",
    "ConflictSource",
    "Contacts",
    "ErdosRenyi",
    "FileSource",
    "GaussMarkov",
    "Grid",
    "MarkovEdges",
    "NetworkConfig",
    "OnePeerExponential",
    "PathGraph",
    "RandomDirection",
    "RandomGeometric",
    "RandomMatching",
    "RandomRegular",
    "RandomWaypoint",
    "Redraw",
    "Ring",
    "Source",
    "Star",
    "TopologyConfig",
    "UnusableDrawError",
    "WattsStrogatz",
]


class BundleSource(DrawnSource):
    """The edges come with the task's data bundle, and the task hands them over."""

    kind: Literal["bundle"] = "bundle"

    def draw(self, rng: np.random.Generator) -> Graph:
        raise InputError("topology: kind bundle needs a task with a data bundle; set task.bundle")


class ChannelSource(DrawnSource):
    """The links that the task's channels make, anew in every mini-batch."""

    kind: Literal["channels"] = "channels"

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = sorted(self.model_fields_set - {"kind"})
        changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
        if changed:
            raise ValueError(f"{changed[0]}: has no meaning for channels, which the task draws; remove it")
        return self

    def draw(self, rng: np.random.Generator) -> Graph:
        raise InputError("topology: kind channels needs a task with channels: task.kind power_allocation")


class ConflictSource(DrawnSource):
    """The links of a network, joined where they cannot be used at the same time."""

    kind: Literal["conflict"] = "conflict"
    network: NetworkConfig = Field(
        description="The network whose links are the nodes: a topology of another kind, without seed, connected, "
        "max_draws and redraw, which stand beside it."
    )
    interference: Interference = Field(
        default="one_hop",
        description="Links that conflict: those that share an end; two_hop: also those that an edge joins.",
    )
    links: int | None = Field(
        default=None,
        description="Schedule so many of the network's links, chosen at random with every draw; left out: all.",
        ge=2,
    )

    @field_validator("network")
    @classmethod
    def _is_drawn_by_this_source(cls, network: Network) -> Network:
        given = sorted(network.model_fields_set & Source.model_fields.keys() - {"kind"})
        if given:
            raise ValueError(f"{given[0]}: has no meaning here; put it beside network")
        return network

    @field_serializer("network", mode="wrap")
    def _without_what_is_refused(
        self, network: Network, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return {
            key: value
            for key, value in serialize(network).items()
            if key == "kind" or key not in Source.model_fields
        }

    @property
    def drawn_kind(self) -> str:
        """The network's: its conflict graph is a function of it."""
        return self.network.kind

    @property
    def is_random(self) -> bool:
        return self.links is not None or super().is_random

    @model_validator(mode="after")
    def _has_as_many_links_after_a_redraw(self) -> Self:
        if self.redraw is not None and self.links is None:
            raise ValueError(
                "redraw: another network may have another number of links, and every link is a node that trains; "
                "set links, how many of them are to be scheduled"
            )
        return self

    def resolved(self, base: Path | None) -> Self:
        """The same source with the path of a network from a file made absolute."""
        return self.model_copy(update={"network": self.network.resolved(base)})

    def draw(self, rng: np.random.Generator) -> Graph:
        graph = conflict_graph(self.network.draw(rng), self.interference)
        if self.links is not None:
            if self.links > graph.num_nodes:
                raise UnusableDrawError(
                    f"topology.links: {self.links}, but the network has only {graph.num_nodes}; give it more edges, or "
                    "lower links"
                )
            graph = graph.induced(np.sort(rng.choice(graph.num_nodes, self.links, replace=False)))
        if graph.num_edges == 0:
            raise UnusableDrawError(
                f"topology: conflict: no two of {graph.num_nodes} links conflict; give network more edges"
            )
        return graph


Moving = Union[  # noqa: UP007 - one kind per line
    RandomWaypoint,
    GaussMarkov,
    RandomDirection,
    MarkovEdges,
    RandomMatching,
    OnePeerExponential,
    Contacts,
]
TopologyConfig = Annotated[
    Union[Network, BundleSource, ChannelSource, ConflictSource, Moving],  # noqa: UP007
    Field(discriminator="kind"),
]
