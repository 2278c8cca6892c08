"""Graphs from files: edge lists, GraphML, adjacency matrices; and where a path is looked for."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.npz import Archive, brief
from fdtrain.resources import folder

EDGE_LISTS = (".edges", ".edgelist", ".txt", ".csv")
SUFFIXES = (*EDGE_LISTS, ".graphml", ".npz")
MAX_NODES = 10_000_000  # a damaged header must not ask for all the memory there is
HEADERS = ({"source", "target"}, {"from", "to"})  # of a .csv
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # "01" is a name: it must not become the node 1


def read_graph(path: str | Path) -> Graph:
    """The graph of a file; its suffix tells the format.

    - ``.edges``, ``.edgelist``, ``.txt``, ``.csv``: one edge per line, two labels and an optional weight,
      separated by whitespace or commas (in a ``.csv`` commas only, a header may come first); ``#`` comments.
    - ``.graphml``: an edge's weight is its attribute ``weight``, or 1. Directed: the target hears the source.
    - ``.npz``: an adjacency matrix, from SciPy's ``save_npz`` or an array ``adjacency``; i hears A_ij from j.

    Labels that are just 0 … V−1 are the node numbers. Other integers are sorted, other names numbered
    in the order of their first appearance, and both are kept in ``Graph.labels``.

    Raises:
        InputError: the file is missing, damaged, or no simple graph with finite weights.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(SUFFIXES)}")
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f"{path}: cannot be read: {reason}") from None
    reader = {".graphml": _read_graphml, ".npz": _read_npz}.get(suffix)
    try:
        graph = _read_edge_list(raw, commas_only=suffix == ".csv") if reader is None else reader(raw)
    except InputError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None  # one line, whatever it quotes
    if graph.num_edges == 0:
        raise InputError(f"{path}: the graph is empty; it needs at least 1 edge")
    return graph


def _read_edge_list(raw: bytes, commas_only: bool) -> Graph:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = raw[: error.start].count(b"\n") + 1
        raise InputError(f"line {where}: not UTF-8 text; save the edge list as plain text") from None
    found: dict[frozenset[str], int] = {}  # edge → line
    edges, weights = [], []
    first = True
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        fields = _fields(line.split("#", 1)[0], number, commas_only)
        header = first and commas_only and {f.lower() for f in fields[:2]} in HEADERS
        first = first and not fields
        if header or not fields:
            continue
        sender, receiver, weight = _edge(fields, number)
        earlier = found.setdefault(frozenset((sender, receiver)), number)
        if earlier != number:
            raise InputError(f"line {number}: {sender} – {receiver} is on line {earlier} already; keep one")
        edges.append((sender, receiver))
        weights.append(weight)
    if not edges:
        raise InputError("the graph is empty; it needs at least 1 edge")
    number_of, labels = numbering([label for edge in edges for label in edge])
    pairs = [(number_of[i], number_of[j]) for i, j in edges]
    return Graph.from_edges(len(number_of), pairs, weights, labels=labels)


def _fields(line: str, number: int, commas_only: bool) -> list[str]:
    if not line.strip():
        return []
    if not commas_only:
        return re.split(r"\s*,\s*|\s+", line.strip())
    try:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True, strict=True))]
    except (csv.Error, StopIteration) as error:
        raise InputError(f"line {number}: not comma-separated values: {error}") from None


def _edge(fields: list[str], number: int) -> tuple[str, str, float]:
    if len(fields) not in (2, 3) or not all(field and field.isprintable() for field in fields):
        shown = " ".join(fields)[:40]
        raise InputError(f"line {number}: expected two labels and an optional weight, found {shown!r}")
    sender, receiver = fields[:2]
    if sender == receiver:
        raise InputError(f"line {number}: {sender[:40]} – {sender[:40]} is a self-loop; remove it")
    return sender, receiver, _weight(fields[2] if len(fields) == 3 else 1.0, f"line {number}")


def _weight(value: Any, where: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: the weight must be a number, found {str(value)[:40]!r}") from None
    if not math.isfinite(weight) or weight == 0:
        raise InputError(f"{where}: the weight must be finite and not 0, found {str(value)[:40]}")
    return weight


def numbering(names: list[str]) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """The number of each label, and the labels in that order (None where they are the numbers)."""
    order = list(dict.fromkeys(names))
    if all(INTEGER.fullmatch(name) for name in order):
        order.sort(key=int)
        if order[0] == "0" and order[-1] == str(len(order) - 1):
            return {name: int(name) for name in order}, None
    return {name: number for number, name in enumerate(order)}, tuple(order)


def _read_graphml(raw: bytes) -> Graph:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about attributes that we do not read
            found = networkx().read_graphml(io.BytesIO(raw))
    except Exception as error:  # the reader raises whatever its parsers meet in a damaged file
        raise InputError(f"damaged GraphML: {brief(error)}") from None
    names = [str(name) for name in found.nodes]
    if not names:
        raise InputError("the graph is empty; it needs at least 1 edge")
    if found.is_multigraph():
        seen: set[tuple[str, str]] = set()
        for edge in found.edges():
            i, j = edge if found.is_directed() else sorted(edge)
            if (i, j) in seen:
                raise InputError(f"edge {i} – {j} is listed more than once; keep one")
            seen.add((i, j))
    number_of, labels = numbering(names)
    senders, receivers, weights = [], [], []
    for i, j, data in found.edges(data=True):
        if i == j:
            raise InputError(f"edge {i} – {i} is a self-loop; remove it")
        senders.append(number_of[str(i)])
        receivers.append(number_of[str(j)])
        weights.append(_weight(data.get("weight", 1.0), f"edge {i} – {j}"))
    if not found.is_directed():
        pairs = np.array([senders, receivers], dtype=np.int64).T
        return Graph.from_edges(len(names), pairs, weights, labels=labels)
    from scipy.sparse import csr_array

    shape = (len(names), len(names))
    return Graph.from_adjacency(csr_array((weights, (receivers, senders)), shape=shape), labels=labels)


def _read_npz(raw: bytes) -> Graph:
    try:
        adjacency = _adjacency(Archive(io.BytesIO(raw)))
    except InputError:
        raise
    except Exception as error:  # what SciPy meets in a matrix that is none
        raise InputError(f"damaged .npz: {brief(error)}") from None
    try:
        return Graph.from_adjacency(adjacency)
    except MemoryError:
        raise InputError("the adjacency matrix does not fit into memory") from None


def _adjacency(archive: Archive) -> Any:
    """The matrix in an open archive, dense or SciPy sparse, fit for :meth:`Graph.from_adjacency`."""
    if "format" in archive:
        matrix = _sparse(archive)
    elif "adjacency" in archive:
        matrix = archive["adjacency"]
    else:
        found = ", ".join(archive) or "nothing"
        raise InputError(f"needs SciPy's save_npz format or an array named adjacency, found {found}"[:200])
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"adjacency: must be a square matrix, found shape {tuple(map(int, matrix.shape))}")
    if matrix.dtype.kind not in "biuf":
        raise InputError(f"adjacency: must hold real numbers, found {matrix.dtype}")
    if not 1 <= matrix.shape[0] <= MAX_NODES:
        raise InputError(f"adjacency: must have 1 to {MAX_NODES} nodes, found {matrix.shape[0]}")
    return matrix


def _sparse(archive: Archive) -> Any:
    """What ``scipy.sparse.load_npz`` reads, but indices are checked before compiled code follows them."""
    from scipy import sparse

    kind = archive["format"].item()
    kind = kind.decode("ascii") if isinstance(kind, bytes) else str(kind)
    shape = tuple(int(length) for length in archive["shape"])
    if len(shape) != 2 or not 1 <= max(shape) <= MAX_NODES:
        raise InputError(f"adjacency: must be square with 1 to {MAX_NODES} nodes, found shape {shape}")
    if kind in ("csr", "csc", "bsr"):
        make: Any = getattr(sparse, f"{kind}_array")
        matrix = make((archive["data"], archive["indices"], archive["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
        return matrix.tocoo()
    if kind == "dia":
        return sparse.dia_array((archive["data"], archive["offsets"]), shape=shape).tocoo()
    if kind == "coo":
        pair = tuple(archive["coords"]) if "coords" in archive else (archive["row"], archive["col"])
        return sparse.coo_array((archive["data"], pair), shape=shape)
    raise InputError(f"sparse format {kind[:20]!r} is unknown; use csr, csc, coo, bsr or dia")


def networkx() -> Any:
    """The networkx module, loaded when it is first needed: its import takes longer than a small run."""
    return import_module("networkx")


def named_networks() -> dict[str, Path]:
    """The networks that come with fdtrain, by name."""
    shipped = folder("topologies")
    if not shipped.is_dir():
        return {}
    return {file.stem: file for file in sorted(shipped.iterdir()) if file.suffix in (".edges", *SUFFIXES[4:])}


def resolve(path: str | Path, base: Path | None = None) -> Path:
    """The file that `path` means: absolute, in `base` (the config's folder), in the working directory, named.

    Raises:
        InputError: there is no such file; the message lists the named networks.
    """
    path = Path(path)
    folders = [Path.cwd()] if base is None or path.is_absolute() else [base, Path.cwd()]
    for place in folders:
        if os.path.isfile(place / path):  # not Path.is_file, which raises on a name that is too long
            return (place / path).absolute()
    networks = named_networks()
    for name, file in networks.items():
        if str(path) in (name, file.name):
            return file
    looked = " or ".join(str(place) for place in dict.fromkeys(folders))
    where = "" if path.is_absolute() else f" in {looked}"
    names = ", ".join(networks) or "none installed"
    raise InputError(f"{path}: no such file{where}; give a path, or a named network: {names}")
