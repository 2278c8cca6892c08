"""Where the communication graph comes from: its sources, graph files, and the service that draws E(t).

The only package that imports networkx, and only when a draw or a file needs it.
"""

from fdtrain.topology.base import MovingSource
from fdtrain.topology.files import named_networks, read_graph, resolve
from fdtrain.topology.service import TopologyService, describe, diameter
from fdtrain.topology.sources import Redraw, TopologyConfig
from fdtrain.topology.spectrum import spectral_gap

__all__ = [
    "MovingSource",
    "Redraw",
    "TopologyConfig",
    "TopologyService",
    "describe",
    "diameter",
    "named_networks",
    "read_graph",
    "resolve",
    "spectral_gap",
]
