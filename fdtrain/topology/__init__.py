"""Where the communication graph comes from: its sources, graph files, and the service that draws E(t).

The only package that imports networkx, and only when a draw or a file needs it.
"""

from fdtrain.topology.files import named_networks, read_graph, resolve
from fdtrain.topology.service import TopologyService, describe
from fdtrain.topology.sources import Redraw, TopologyConfig

__all__ = [
    "Redraw",
    "TopologyConfig",
    "TopologyService",
    "describe",
    "named_networks",
    "read_graph",
    "resolve",
]
