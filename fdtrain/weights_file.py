"""The weights of a conflict graph's vertices, from a file of the user's."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.npz import Archive, brief

Array = NDArray[np.float64]

LARGEST = 1e300  # total weight of a sample


def name_of(graph: Graph, vertex: int) -> str:
    """A vertex's label, or its number where there are none."""
    return graph.labels[vertex] if graph.labels else str(vertex)


def read_weights(file: Path, graph: Graph) -> Array:
    """The weights of the vertices in a ``.csv``, ``.npy`` or ``.npz`` file, [B, V].

    Raises:
        InputError: the file cannot be read, or it has not one weight ≥ 0 for every vertex, and one > 0 in every sample.
    """
    readers = {".csv": _read_csv, ".npy": _read_array, ".npz": _read_array}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InputError(
            f"{file}: unknown suffix {file.suffix!r}; weights are in a {', '.join(readers)} file"
        )
    if os.path.exists(file) and not os.path.isfile(file) and not os.path.isdir(file):
        raise InputError(f"{file}: is a pipe or a device; give a file")  # reading might never end
    try:
        raw = file.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f"{file}: cannot be read: {reason}") from None
    try:
        weights = reader(raw, graph)
        _check(weights, graph)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return weights


def _read_csv(raw: bytes, graph: Graph) -> Array:
    try:
        rows = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"is no CSV file of UTF-8 text ({brief(error)})") from None
    lines = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(rows, start=1)
        if any(cell.strip() for cell in row)
    ]
    header = lines[0][1] if lines else []
    if [cell.lower() for cell in header] != ["node", "weight"]:
        raise InputError(f"must begin with the line node,weight, found {','.join(header)!r:.60}")
    for number, cells in lines:
        if len(cells) != 2:
            raise InputError(f"line {number}: must be a node and its weight, found {','.join(cells)!r:.60}")
    number_of = _vertices(graph, [cells[0] for _, cells in lines[1:]])
    weights, line_of = np.zeros((1, graph.num_nodes)), dict[int, int]()
    for number, (name, value) in lines[1:]:
        if name not in number_of:
            links = "; if it is a link, add --interference" if "-" in name or "–" in name else ""
            raise InputError(f"line {number}: there is no vertex {name!r:.60}; {_known(graph)}{links}")
        vertex = number_of[name]
        if vertex in line_of:
            raise InputError(
                f"line {number}: node {name!r:.60} is on line {line_of[vertex]} already; keep one"
            )
        line_of[vertex] = number
        try:
            weights[0, vertex] = float(value)
        except ValueError:
            raise InputError(f"line {number}: the weight must be a number, found {value!r:.60}") from None
    missing = [vertex for vertex in range(graph.num_nodes) if vertex not in line_of]
    if missing:
        raise InputError(
            f"has no weight of node {name_of(graph, missing[0])!r:.60}; {len(missing)} of {graph.num_nodes} are "
            "missing, give every vertex one"
        )
    return weights


def _vertices(graph: Graph, names: list[str]) -> dict[str, int]:
    """What the file's names mean: labels or numbers, whichever fits more of them. A link is called by its two ends in
    either order, with a dash or a hyphen between them."""
    numbers = {str(vertex): vertex for vertex in range(graph.num_nodes)}
    labels = {label: vertex for vertex, label in enumerate(graph.labels or ())}
    for label, vertex in list(labels.items()):
        first, dash, second = label.partition("–")
        for name in (f"{second}{dash}{first}", f"{first}-{second}", f"{second}-{first}") if dash else ():
            labels.setdefault(name, vertex)
    return max((labels, numbers), key=lambda known: sum(name in known for name in names))


def _known(graph: Graph) -> str:
    numbers = f"0 … {graph.num_nodes - 1}"
    if graph.labels is None:
        return f"they are {numbers}"
    return f"they are '{graph.labels[0]}' … '{graph.labels[-1]}', or all by number, {numbers}"


def _read_array(raw: bytes, graph: Graph) -> Array:
    stream = io.BytesIO(raw)
    if raw.startswith(np.lib.format.MAGIC_PREFIX):
        try:
            found = np.lib.format.read_array(stream, allow_pickle=False)
        except Exception as error:  # NumPy and the parser of its headers each have their own
            raise InputError(f"is damaged or holds no plain numbers ({brief(error)})") from None
    else:
        archive = Archive(stream)
        if "weights" not in archive:
            raise InputError(f"needs an array 'weights', found {', '.join(archive) or 'nothing':.60}")
        found = archive["weights"]
    if found.dtype.kind not in "biuf":
        raise InputError(f"weights must be real numbers, found {found.dtype}")
    nodes = graph.num_nodes
    if found.ndim not in (1, 2) or found.shape[-1] != nodes or found.size == 0:
        raise InputError(
            f"weights must be [{nodes}], one per vertex, or [B, {nodes}], B samples; found {list(found.shape)}"
        )
    with np.errstate(over="ignore"):  # what overflows is not finite, and reported as such
        return np.atleast_2d(found).astype(np.float64)


def _check(weights: Array, graph: Graph) -> None:
    def where(sample: int) -> str:
        return f" in sample {sample}" if len(weights) > 1 else ""

    bad = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        sample, vertex = bad[0]
        raise InputError(
            f"weights must be finite and at least 0, found {weights[sample, vertex]:g} at node "
            f"{name_of(graph, vertex)!r:.60}{where(sample)}"
        )
    with np.errstate(over="ignore"):
        totals = weights.sum(axis=1)
    for sample in map(int, np.flatnonzero((totals == 0) | (totals > LARGEST))):
        if totals[sample] == 0:
            raise InputError(f"all weights are 0{where(sample)}: there is nothing to gain; make one larger")
        raise InputError(f"the weights add up to more than {LARGEST:g}{where(sample)}; scale them down")
