"""How connected a changing network is over time: who was alone, and how long one has to wait until a path was there."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.graph import Graph


@dataclass(frozen=True)
class Connectivity:
    """One graph of a sequence, and those before it; a line of ``connectivity.csv``."""

    minibatch: int  # from 1, the first one on this graph
    nodes: int
    edges: int
    components: int
    isolated: int  # nodes without a neighbour
    largest: float  # share of the nodes in the largest component
    window: int  # graphs
    needed: (
        int | None
    )  # graphs, this one the last, whose union is connected, at least; None: not even all so far
    window_connected: (
        bool | None
    )  # whether the union of the last `window` is; None: there were not so many yet


class Watch:
    """Looks at graphs one after another, and keeps of them no more than it has to.

    An edge is as old as the number of graphs since it was last there. The union of the last b graphs is connected if a
    spanning tree has no edge older than b; the tree with the youngest edges shows the least b. Edges that are not in
    it need not be remembered: all get older together.
    """

    def __init__(self, window: int) -> None:
        self._window, self.seen = window, 0
        self._edges: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)  # of the forest
        self._last: NDArray[np.int64] = np.empty(
            0, dtype=np.int64
        )  # number of the graph in which each was last

    @property
    def state(self) -> dict[str, Any]:
        """How many graphs were seen, and what is remembered of them: numbers and arrays."""
        return {"seen": self.seen, "edges": self._edges, "last": self._last}

    @state.setter
    def state(self, saved: Mapping[str, Any]) -> None:
        self.seen, self._edges, self._last = saved["seen"], saved["edges"], saved["last"]

    def see(self, minibatch: int, graph: Graph) -> Connectivity:
        """The next graph, which serves from `minibatch` (from 0) on."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

        nodes, pattern = graph.num_nodes, graph.adjacency()
        pattern.data = np.ones(len(graph.indices))
        count, member = connected_components(pattern, directed=False)
        now = graph.edges()
        edges = np.concatenate([now, self._edges])
        last = np.concatenate([np.full(len(now), self.seen), self._last])
        _, first = np.unique(edges[:, 0] * nodes + edges[:, 1], return_index=True)
        edges, ages = edges[first], self.seen + 1 - last[first]
        tree = minimum_spanning_tree(
            csr_array((ages, (edges[:, 0], edges[:, 1])), shape=(nodes, nodes))
        ).tocoo()
        self._edges = np.sort(np.stack([tree.row, tree.col], axis=1), axis=1).astype(np.int64)
        ages = tree.data.astype(np.int64)
        self._last = self.seen + 1 - ages
        self.seen += 1
        needed = int(ages.max(initial=1)) if len(ages) == nodes - 1 else None
        full = self.seen >= self._window
        return Connectivity(
            minibatch + 1,
            nodes,
            graph.num_edges,
            int(count),
            int((graph.degrees == 0).sum()),
            float(np.bincount(member).max() / nodes),
            self._window,
            needed,
            (needed is not None and needed <= self._window) if full else None,
        )


class Recorder:
    """Hands a line to `write` for every graph of a run, once."""

    def __init__(self, every: int, window: int, write: Callable[[Connectivity], None]) -> None:
        """A new graph comes `every` so many mini-batches."""
        self._every, self._write = every, write
        self._watch = Watch(window)

    def see(self, t: int, graph: Graph) -> None:
        """The graph of mini-batch t (from 0), one after another; one that was seen before is passed over."""
        if t // self._every == self._watch.seen:
            self._write(self._watch.see(t, graph))

    @property
    def state(self) -> dict[str, Any]:
        """What is known of the graphs so far: numbers and arrays."""
        return self._watch.state

    @state.setter
    def state(self, saved: Mapping[str, Any]) -> None:
        self._watch.state = saved


def smallest_window(rows: Sequence[Connectivity]) -> int | None:
    """The smallest b such that the unions of all b graphs one after another are connected; None: of no b.

    `rows` are those of a sequence from its start. The sequence is then b-connected (Nedić & Ozdaglar 2009), as far as
    it goes.
    """
    b = 1
    for end, row in enumerate(rows, start=1):
        # The first b − 1 graphs end no window: as long as they are fewer than what is needed, b grows beyond them.
        if row.needed is None or row.needed > b:
            b = end + 1 if row.needed is None else row.needed
    return b if b <= len(rows) else None


def summary(rows: Sequence[Connectivity]) -> str:
    """What the rows, at least one, say in a line."""
    window = rows[0].window
    connected = np.mean([row.components == 1 for row in rows])
    ends = [row.window_connected for row in rows if row.window_connected is not None]
    if not ends:
        windows = f"no window of {window} was complete"
    elif all(ends):
        windows = f"every window of {window} was"
    else:
        windows = f"{100 * float(np.mean(ends)):.3g} % of the windows of {window}"
    alone = np.mean([row.isolated for row in rows])
    return (
        f"{100 * float(connected):.3g} % of graphs connected, {windows}; {alone:.3g} nodes alone on average"
    )


def cells(row: Connectivity) -> dict[str, Any]:
    """The columns of ``connectivity.csv``; what is not known is an empty cell."""
    return {name: int(value) if isinstance(value, bool) else value for name, value in asdict(row).items()}


def read(file: Path) -> list[Connectivity]:
    """The lines of a ``connectivity.csv``.

    Raises:
        OSError, ValueError, LookupError: it is not there or damaged.
    """
    with file.open(newline="", encoding="utf-8") as stream:
        return [_row(line) for line in csv.DictReader(stream)]


def _row(line: dict[str, str]) -> Connectivity:
    needed, connected = line["needed"], line["window_connected"]
    return Connectivity(
        minibatch=int(line["minibatch"]),
        nodes=int(line["nodes"]),
        edges=int(line["edges"]),
        components=int(line["components"]),
        isolated=int(line["isolated"]),
        largest=float(line["largest"]),
        window=int(line["window"]),
        needed=int(needed) if needed else None,
        window_connected=bool(int(connected)) if connected else None,
    )
