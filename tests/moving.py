"""A configuration of every kind of moving topology, and how tests make one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fdtrain.topology import TopologyConfig, TopologyService

ADAPTER: TypeAdapter[Any] = TypeAdapter(TopologyConfig)
DISK = {"kind": "unit_disk", "range": 150.0}
SHADOWED = {
    "kind": "log_distance", "exponent": 3.0, "sensitivity": -105.0, "shadowing": 6.0, "coherence": 25.0
}  # fmt: skip
TRACE = Path(__file__).parent.parent / "configs" / "examples" / "contacts.csv"

CASES: dict[str, dict[str, Any]] = {
    "random_waypoint": {"nodes": 20, "area": [500, 300], "speed": [1, 9], "pause": [0, 20], "step": 5, "radio": DISK},
    "random_direction": {
        "nodes": 20, "area": 400, "speed": [2, 5], "travel": [10, 60], "pause": 3, "radio": SHADOWED
    },
    "gauss_markov": {"nodes": 20, "area": [600, 200], "mean_speed": 4, "std": 2, "step": 2, "radio": DISK},
    "markov_edges": {"nodes": 20, "p": 0.02, "q": 0.2},
    "random_matching": {"nodes": 21},
    "one_peer_exponential": {"nodes": 16},
    "contacts": {"path": str(TRACE), "seconds": 60},
}  # fmt: skip
# More settings of the same kinds.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "waypoints with shadowing that stays": (
        "random_waypoint",
        {"radio": {"kind": "log_distance", "shadowing": 4, "sensitivity": -100}},
    ),
    "path loss without shadowing": (
        "gauss_markov",
        {"radio": {"kind": "log_distance", "exponent": 2, "sensitivity": -85}},
    ),
    "edges of a named network": ("markov_edges", {"nodes": None, "base": {"kind": "file", "path": "geant"}, "p": 0.9}),
    "matchings of a random network": (
        "random_matching",
        {"nodes": None, "base": {"kind": "barabasi_albert", "nodes": 20, "m": 2}},
    ),
    "one peer, no power of two": ("one_peer_exponential", {"nodes": 13}),
    "contacts, held": ("contacts", {"after_end": "hold"}),
    "contacts of some, then nobody": ("contacts", {"after_end": "empty", "nodes": ["ada", "ben", "eva", "zoe"]}),
}  # fmt: skip


def source(kind: str, **changes: Any) -> Any:
    """The kind's configuration in the table, with changes; one that is None leaves a key out."""
    fields = CASES[kind] | changes
    return ADAPTER.validate_python({"kind": kind, **{k: v for k, v in fields.items() if v is not None}})


def service(kind: str, seed: int = 1, **changes: Any) -> TopologyService:
    """The service of :func:`source`."""
    return TopologyService(source(kind, **changes), seed)


ALL = {**{kind: (kind, {}) for kind in CASES}, **VARIANTS}
