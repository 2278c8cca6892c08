"""Damaged input: data bundles, graph files, sweeps, weights and the directories of runs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import networkx as nx
import numpy as np
import yaml
from badness import Case, written
from badness_lines import BASE, LONG, RUN, YAML, Cases, Content


def archive(**arrays: Any) -> bytes:
    """An uncompressed ``.npz``."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def array_places(raw: bytes, names: tuple[str, ...] | None = None) -> list[range]:
    """Where the bytes of an archive's arrays are; each is under a checksum."""
    found = []
    with zipfile.ZipFile(io.BytesIO(raw)) as opened:
        for one in opened.infolist():
            start = one.header_offset + 30
            start += int.from_bytes(raw[one.header_offset + 26 : one.header_offset + 28], "little")
            start += int.from_bytes(raw[one.header_offset + 28 : one.header_offset + 30], "little")
            if names is None or one.filename.removesuffix(".npy") in names:
                found.append(range(start, start + one.compress_size))
    return found


def flipped(raw: bytes, place: int, bit: int) -> bytes:
    """With one bit changed."""
    return raw[:place] + bytes([raw[place] ^ (1 << bit)]) + raw[place + 1 :]


def cut(raw: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Cut short, at so many places from nothing left to one byte missing."""
    for length in sorted({len(raw) * k // count for k in range(count)} | {len(raw) - 1}):
        yield f"cut after {length}", raw[:length]


def broken_archive(
    raw: bytes, names: tuple[str, ...] | None, count: int, seed: int = 0
) -> Iterator[tuple[str, bytes]]:
    """An archive cut short, or with a bit changed in an array: a zip ends with its directory, and has checksums."""
    yield from cut(raw, count)
    rng = np.random.default_rng(seed)
    places = array_places(raw, names)
    for k in range(count):
        inside = places[k % len(places)]
        place, bit = inside.start + int(rng.integers(len(inside))), int(rng.integers(8))
        yield f"bit {bit} of byte {place}", flipped(raw, place, bit)
    yield "another file's beginning and its own end", b"\x89PNG" * 8 + raw[len(raw) // 2 :]
    yield "text", b"x y z\n"


def broken_arrays(arrays: Content, name: str) -> Iterator[tuple[str, Content]]:
    """An archive in which one array of floating-point numbers is another one, or none."""
    good = np.asarray(arrays[name])
    yield f"no {name}", {key: value for key, value in arrays.items() if key != name}
    wrong = {
        "objects": np.array([{"a": 1}, None], dtype=object),
        "text": np.full(good.shape, "x"),
        "complex": good + 1j,
        "times": np.zeros(good.shape, dtype="M8[s]"),
        "records": np.zeros(good.shape, dtype=[("a", "f8")]),
        "a number": np.float64(1.0),
        "another axis": good[None, None, None],
        "no axis": good.reshape(-1),
        "nothing": np.zeros((0,) * good.ndim),
    }
    if good.dtype.kind == "f":
        for what, number in (("NaN", np.nan), ("inf", np.inf), ("-inf", -np.inf)):
            poked = good.copy()
            poked.reshape(-1)[poked.size // 2] = number
            wrong[what] = poked
    for what, array in wrong.items():
        yield f"{name}: {what}", {**arrays, name: array}


V, N = 6, 5


def bundle_arrays() -> Content:
    """A data bundle that is right."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.normal(size=(N, V, 2)),
        "y_train": rng.normal(size=(N, V, 1)),
        "x_test": rng.normal(size=(2, V, 2)),
        "y_test": rng.normal(size=(2, V, 1)),
        "edges": np.array([(i, (i + 1) % V) for i in range(V)]),
        "theta0_1": rng.normal(size=(2, 1)),
        "theta1_1": rng.normal(size=(2, 1)),
        "order": np.stack([rng.permutation(N)] * 2),
    }


def channel_arrays() -> Content:
    """A bundle of channels that is right."""
    rng = np.random.default_rng(0)
    return {
        "H_train": rng.uniform(0.1, 1, size=(3, 2, 4, 4)),
        "H_test": rng.uniform(0.1, 1, size=(2, 2, 4, 4)),
    }


BUNDLED = {
    "topology": {"kind": "bundle"},
    "model": {"sizes": [2, 1]},
    "task": {"bundle": "d.npz"},
    "training": {"epochs": 2, "batch": 2},
}
ALLOCATED: Content = {
    "task": {"kind": "power_allocation", "bundle": "d.npz", "pairs": 4},
    "training": {"batch": 2, "wave": 2, "log_every": 1},
}


def bundle_cases() -> Cases:
    """Data bundles and bundles of channels."""
    made: list[tuple[str, Content, Content]] = [
        ("bundle", BUNDLED, bundle_arrays()),
        ("channel bundle", ALLOCATED, channel_arrays()),
    ]
    for category, config, arrays in made:
        files = {"c.yaml": written(config).encode()}
        for what, raw in broken_archive(archive(**arrays), None, 40):
            yield category, Case(what, RUN, {**files, "d.npz": raw}, ("d.npz",))
        for name in arrays:
            for what, content in broken_arrays(arrays, name):
                if what != "no order":  # the only array that may be left out
                    yield category, Case(what, RUN, {**files, "d.npz": archive(**content)}, ("d.npz",))
        yield (
            category,
            Case(
                "one more array", RUN, {**files, "d.npz": archive(**arrays, nosuch=np.ones(3))}, ("nosuch",)
            ),
        )
        yield category, Case("a single array", RUN, {**files, "d.npz": _npy(np.ones(3))}, ("d.npz",))
    order = bundle_arrays()["order"]
    edges = bundle_arrays()["edges"]
    other: dict[str, Any] = {
        "order": [order + 1, order - 1, order[:1], order[:, :3], order * 1.5, order * 10**12],
        "edges": [
            edges + 1,
            edges - 1,
            edges[:3],
            np.vstack([edges, edges[:1]]),
            np.vstack([edges, [[2, 2]]]),
            edges * 1.5,
            edges * 10**12,
            edges[:, :1],
            edges[:0],
        ],
    }
    for name, wrong in other.items():
        for k, array in enumerate(wrong):
            content = bundle_arrays() | {name: array}
            yield (
                "bundle",
                Case(f"{name} {k}", RUN, {"c.yaml": written(BUNDLED).encode(), "d.npz": archive(**content)}),
            )
    for k, place in enumerate([(0, 0, 1, 1), (2, 1, 3, 0)]):
        arrays = channel_arrays()
        arrays["H_train"][place] = -0.5
        files = {"c.yaml": written(ALLOCATED).encode(), "d.npz": archive(**arrays)}
        yield "channel bundle", Case(f"negative {k}", RUN, files, ("must be ≥ 0",))


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def graphml() -> bytes:
    """A GraphML file that is right."""
    stream = io.BytesIO()
    nx.write_graphml_xml(nx.cycle_graph(5), stream)
    return stream.getvalue().rstrip()


ADJACENCY = np.roll(np.eye(5), 1, axis=1) + np.roll(np.eye(5), -1, axis=1)
EDGE_LISTS: dict[str, bytes] = {
    "empty": b"",
    "comment": b"# nothing\n",
    "one label": b"0 1\n2\n",
    "four labels": b"0 1 2 3\n",
    "weight": b"0 1 heavy\n",
    "infinite": b"0 1 inf\n",
    "NaN": b"0 1 nan\n",
    "no weight": b"0 1 0\n",
    "self-loop": b"0 1\n1 1\n",
    "twice": b"0 1\n1 0\n",
    "UTF-8": b"0 1\n\xff 2\n",
    "UTF-16": "0 1\n".encode("utf-16"),
    "zeros": b"\x00" * 64,
    "binary": bytes(range(256)),
    "parts": b"0 1\n2 3\n",
    "commas": b"0,,1\n",
    "huge weight": b"0 1 1e999\n",
    "cut": b"0 1\n1 2\n2",
    "PNG": b"\x89PNG\r\n\x1a\n\x00",
    "JSON": b'{"edges": [[0, 1], [1, 2], [2, 0]]}\n',
    "1 MB line": b"0 " * 500_000 + b"\n",
}
GRAPHML: dict[str, bytes] = {
    "empty": b"",
    "open": b"<graphml>",
    "HTML": b"<html/>",
    "nothing in it": graphml().replace(b"<node", b"<nod").replace(b"<edge", b"<edg"),
    "an entity bomb": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (k + 1, b"&%c;" % k * 10) for k in range(97, 110))
    + b"]><graphml>&n;</graphml>",
    "an outside entity": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><graphml>&a;</graphml>',
    "UTF-8": graphml().replace(b'id="0"', b'id="\xff"'),
    "self-loop": graphml().replace(b'target="1"', b'target="0"', 1),
    "binary": bytes(range(256)),
    "text": b"0 1\n1 2\n",
}


def topology_cases() -> Cases:
    """Graph files of every format, for a run and for ``fdtrain topology``."""
    found: list[tuple[str, str, bytes]] = []
    found += [(f"edge list: {what}", "g.edges", raw) for what, raw in EDGE_LISTS.items()]
    found += [(f"GraphML: {what}", "g.graphml", raw) for what, raw in GRAPHML.items()]
    found += [(f"GraphML: {what}", "g.graphml", raw) for what, raw in cut(graphml(), 20)]
    found += [
        (f"npz: {what}", "g.npz", raw) for what, raw in broken_archive(archive(adjacency=ADJACENCY), None, 30)
    ]
    found += [
        (f"npz: {what}", "g.npz", archive(**arrays))
        for what, arrays in broken_arrays({"adjacency": ADJACENCY}, "adjacency")
    ]
    triplet: Content = {
        "format": "csr",
        "shape": [2, 2],
        "data": [1.0, 1.0],
        "indices": [1, 0],
        "indptr": [0, 1, 2],
    }
    wrong: list[Content] = [
        {"format": "lil"},
        {"format": 7},
        {"format": [["csr"]] * 2},
        {"shape": [2]},
        {"shape": [2, 3]},
        {"shape": [10**12] * 2},
        {"shape": [-1, -1]},
        {"shape": [0, 0]},
        {"data": [1.0]},
        {"data": [np.nan, 1.0]},
        {"data": ["x", "y"]},
        {"indices": [1, 9]},
        {"indices": [-7, 0]},
        {"indices": [0, 1]},
        {"indices": [10**9, 0]},
        {"indptr": [0, 99, 2]},
        {"indptr": [2, 1, 0]},
        {"indptr": []},
        {"indptr": [0, 1]},
        {"format": "coo", "row": [0], "col": [5], "data": [1.0]},
        {"format": "dia"},
        {"format": "bsr"},
    ]
    found += [(f"sparse: {change}", "g.npz", archive(**triplet | change)) for change in wrong]
    found += [("unknown suffix", "g.xyz", b"0 1\n1 2\n"), ("no suffix", "graph", b"0 1\n1 2\n")]
    for what, name, raw in found:
        config = {"topology": {"kind": "file", "path": name}, "model": {"sizes": [2, 1]}}
        files = {"c.yaml": written(config).encode(), name: raw}
        yield "topology file", Case(f"{what} to run", RUN, files, (name,) if "parts" not in what else ())
        if "parts" not in what:
            yield "topology file", Case(f"{what} to topology", ("topology", name), files)


SWEEP: Content = {
    "name": "s",
    "base": {"topology": {"kind": "ring", "nodes": 6}, "model": {"sizes": [2, 1]}},
    "axes": {"seed": [1, 2]},
}
SWEEPS: list[Content] = [
    {"name": None},
    {"name": 3},
    {"name": "a/b"},
    {"name": "x" * 101},
    {"nam": "s"},
    {"base": None},
    {"base": 3},
    {"base": [1]},
    {"base": "nowhere.yaml"},
    {"base": "nosuch"},
    {"base": ""},
    {"base": {}},
    {"base": "."},
    {"base": "s.yaml"},
    {"base": {"topology": 3, "model": {"sizes": [2, 1]}}},
    {"axes": None},
    {"axes": 3},
    {"axes": []},
    {"axes": {}},
    {"axes": {"seed": []}},
    {"axes": {"seed": {}}},
    {"axes": {"seed": 3}},
    {"axes": {"seed": None}},
    {"axes": {"sed": [1]}},
    {"axes": {"seed": [1, 1]}},
    {"axes": {"seed": [-1, -2]}},
    {"axes": {"seed": ["x"]}},
    {"axes": {"": [1]}},
    {"axes": {"training..epochs": [1]}},
    {"axes": {"training.": [1]}},
    {"axes": {"training.epohs": [1]}},
    {"axes": {"a": {"b": {"set": 3}}}},
    {"axes": {"a": {"b": {"sets": {}}}}},
    {"axes": {"a": {"b": {"set": {"sed": 1}}}}},
    {"axes": {"a": {"b": 3}}},
    {"axes": {"mse_train": {"b": {"set": {"seed": 1}}}}},
    {"axes": {"a b": {"b": {"set": {"seed": 1}}}}},
    {"axes": {"a": {"b\nc": {"set": {"seed": 1}}}}},
    {"axes": {"seed": [1], "a": {"b": {"set": {"seed": 2}}}}},
    {"axes": {"a": {"b": {"set": {"seed": 1}, "published": {"mse": 1}}}}},
    {"axes": {"a": {"b": {"set": {"seed": 1}, "published": {"mse_train": -1.0}}}}},
    {"axes": {"a": {"b": {"set": {"seed": 1}, "published": {"rate_train": 1.0}}}}},
    {"axes": {"seed": [*range(1000)], "training.epochs": [*range(1, 1001)]}},
    {"target": 3},
    {"target": {}},
    {"target": {"metric": "mse", "value": 1.0}},
    {"target": {"metric": "mse_train"}},
    {"target": {"metric": "mse_train", "value": float("nan")}},
    {"target": {"metric": "rate_train", "value": 1.0}},
    {"baseline": {}},
    {"baseline": 3},
    {"baseline": {"seed": 9}},
    {"baseline": {"sed": 1}},
    {"snapshots": 3},
    {"snapshots": [0]},
    {"snapshots": [1, 1]},
    {"snapshots": ["x"]},
    {"snapshots": [1.5]},
    {"figures": 3},
    {"figures": [3]},
    {"figures": [{}]},
    {"figures": {"kind": "curves"}},
    *(
        {"figures": [{"kind": "curves", "name": "f", "x": "epochs", "y": "mse_train"} | change]}
        for change in (
            {"kind": "pie"},
            {"name": "a/b"},
            {"name": ""},
            {"x": "time"},
            {"y": "mse"},
            {"y": "rate_train"},
            {"x": 3},
            {"colour": "seed"},
            {"where": {"sed": [1]}},
            {"where": {"seed": [9]}},
            {"where": 3},
            {"hue": 1},
        )
    ),
    {"figures": [{"kind": "curves", "name": "f", "x": "epochs", "y": "mse_train"}] * 2},
    {"figures": [{"kind": "scatter", "name": "f", "x": "nosuch", "y": "mse_train"}]},
    {"topology": {"kind": "ring"}},
    {"nosuch": 1},
]


def sweep_cases() -> Cases:
    """Sweep files with one thing wrong, run and planned."""
    for number, change in enumerate(SWEEPS):
        content = SWEEP | change
        options = (("--dry-run",), ("--out", "out"))[number % 2]
        yield (
            "sweep file",
            Case(
                f"{change}"[:200],
                ("sweep", "s.yaml", *options),
                {"s.yaml": written(content).encode()},
                ("s.yaml",),
            ),
        )
    for name in SWEEP:
        less = {key: value for key, value in SWEEP.items() if key != name}
        yield (
            "sweep file",
            Case(
                f"without {name}",
                ("sweep", "s.yaml", "--dry-run"),
                {"s.yaml": written(less).encode()},
                (name,),
            ),
        )
    yield (
        "sweep file",
        Case(
            "a configuration",
            ("sweep", "s.yaml"),
            {"s.yaml": written(BASE).encode()},
            ("give it to fdtrain run",),
        ),
    )
    yield (
        "sweep file",
        Case("a sweep to run", RUN, {"c.yaml": written(SWEEP).encode()}, ("give it to fdtrain sweep",)),
    )


def weight_cases(run: dict[str, bytes]) -> Cases:
    """Weight files of ``fdtrain schedule``, beside a run that is right; the graph is a ring of 5."""
    graph = {"g.edges": b"0 1\n1 2\n2 3\n3 4\n4 0\n"}
    good = np.linspace(0.1, 1.0, 5)
    table = b"node,weight\n" + b"".join(b"%d,%.3f\n" % (i, w) for i, w in enumerate(good))
    found: list[tuple[str, str, bytes]] = []
    lines = table.splitlines(keepends=True)
    found += [(f"CSV cut before line {k + 1}", "w.csv", b"".join(lines[:k])) for k in range(len(lines))]
    found += [
        (f"CSV without line {k + 1}", "w.csv", b"".join(lines[:k] + lines[k + 1 :]))
        for k in range(len(lines))
    ]
    found += [
        (f"CSV with line {k + 1} twice", "w.csv", b"".join(lines[: k + 1] + lines[k:]))
        for k in range(len(lines))
    ]
    found += [
        (f"CSV {word!r}", "w.csv", table.replace(b"0.100", word))
        for word in (
            b"",
            b"x",
            b"-1",
            b"nan",
            b"inf",
            b"-inf",
            b"1e999",
            b"1,2",
            b"\xff",
            b"\x00",
            b'"',
            b"0x1",
        )
    ]
    found += [
        (f"CSV {head!r}", "w.csv", table.replace(b"node,weight", head))
        for head in (b"", b"node", b"weight,node", b"node;weight", b"a,b", b"node,weight,x", b"\xff")
    ]
    found += [
        ("CSV of zeros", "w.csv", b"node,weight\n0,0\n1,0\n2,0\n3,0\n4,0\n"),
        ("CSV too much", "w.csv", table.replace(b"0.100", b"1e308").replace(b"1.000", b"1e308")),
    ]
    found += [
        ("CSV binary", "w.csv", bytes(range(256))),
        ("CSV UTF-16", "w.csv", table.decode().encode("utf-16")),
        ("CSV another node", "w.csv", table.replace(b"\n4,", b"\n7,")),
    ]
    found += [(f"npz {what}", "w.npz", raw) for what, raw in broken_archive(archive(weights=good), None, 15)]
    found += [(f"npy {what}", "w.npy", raw) for what, raw in cut(_npy(good), 10)]
    arrays = {
        "6": np.ones(6),
        "4": np.ones(4),
        "[2, 4]": np.ones((2, 4)),
        "[0, 5]": np.ones((0, 5)),
        "[1, 1, 5]": np.ones((1, 1, 5)),
        "scalar": np.float64(1),
        "zeros": np.zeros(5),
        "negative": -np.ones(5),
        "NaN": np.full(5, np.nan),
        "inf": np.full(5, np.inf),
        "text": np.full(5, "x"),
        "complex": np.ones(5) * 1j,
        "objects": np.array([None] * 5),
        "too much": np.full(5, 1e308),
        "one sample of zeros": np.diag([1.0, 0])[:, [0, 0, 0, 0, 0]],
    }
    for what, array in arrays.items():
        found += [(f"npy {what}", "w.npy", _npy(array)), (f"npz {what}", "w.npz", archive(weights=array))]
    found += [
        ("npz another name", "w.npz", archive(w=good)),
        ("npz nothing", "w.npz", archive()),
        ("suffix", "w.txt", table),
        ("no suffix", "w", table),
        ("CSV as npy", "w.npy", table),
        ("npy as CSV", "w.csv", _npy(good)),
    ]
    for what, name, raw in found:
        yield (
            "weight file",
            Case(
                what,
                ("schedule", "links", "g.edges", name, "--ranks", "1"),
                {**run, **graph, name: raw},
                (name,),
            ),
        )


def _configs(run: dict[str, bytes], folder: str, ignored: str) -> Iterator[tuple[str, bytes | None]]:
    """A run's configuration, damaged so that it is none."""
    file = f"{folder}/config.yaml"
    content = yaml.safe_load(run[file])
    flow = written(content).encode()
    yield "missing", None
    for what, raw in cut(flow, 12):
        yield what, raw
    for what in ("a list", "invalid UTF-8", "zeros", "tab", "zip", "unclosed mapping", "recursive root"):
        yield what, YAML[what]
    sections = {"topology", "model", "task", "training", "optimizer"} - {ignored}
    for section in sorted(sections):
        yield f"{section} is 3", written(content | {section: 3}).encode()
        yield (
            f"{section} has another key",
            written(content | {section: content[section] | {"nosuch": 1}}).encode(),
        )


def run_cases(run: dict[str, bytes], folder: str, arguments: tuple[str, ...], ignored: str = "") -> Cases:
    """A run's directory handed to a command that takes its parameters; it takes no notice of the section `ignored`."""
    category = f"run directory to {arguments[0]}"

    def case(what: str, name: str, raw: bytes | None, *says: str) -> tuple[str, Case]:
        files = {key: value for key, value in run.items() if key != f"{folder}/{name}"}
        if raw is not None:
            files[f"{folder}/{name}"] = raw
        return category, Case(f"{name}: {what}", arguments, files, says)

    for what, config in _configs(run, folder, ignored):
        yield case(what, "config.yaml", config, "config.yaml")
    raw = run[f"{folder}/theta.npz"]
    with np.load(io.BytesIO(raw)) as stored:
        theta = stored["theta"]
    yield case("missing", "theta.npz", None, "theta.npz")
    for what, broken in broken_archive(raw, ("theta",), 25):
        yield case(what, "theta.npz", broken, "theta.npz")
    for what, content in broken_arrays({"theta": theta}, "theta"):
        yield case(what, "theta.npz", archive(**content), "theta.npz")
    for what, array in {
        "float32": theta.astype("f4"),
        "integers": theta.astype(int),
        "a column less": theta[:, 1:],
        "a column more": np.hstack([theta, theta[:, :1]]),
        "no row": theta[:0],
    }.items():
        yield case(what, "theta.npz", archive(theta=array), "theta.npz")
    yield case("a single array", "theta.npz", _npy(theta), "theta.npz")


def report_cases(run: dict[str, bytes], folder: str) -> Cases:
    """A run's directory without what a page is on, and what is no such directory."""
    lines = run[f"{folder}/metrics.csv"].splitlines(keepends=True)
    metrics: dict[str, bytes | None] = {
        "missing": None,
        "empty": b"",
        "header alone": lines[0],
        "no header": lines[1],
        "header cut": lines[0][:5],
        "first line cut": lines[0] + lines[1][:3],
        "words": lines[0] + b"a,b,c\n",
        "binary": bytes(range(256)),
        "zeros": b"\x00" * 100,
        "UTF-16": b"".join(lines).decode().encode("utf-16"),
        "another table": b"a,b\n1,2\n",
        "invalid UTF-8": b"\xff" + b"".join(lines),
        "commas": b",,,\n,,,\n",
    }
    for what, raw in metrics.items():
        files = {key: value for key, value in run.items() if key != f"{folder}/metrics.csv"} | (
            {} if raw is None else {f"{folder}/metrics.csv": raw}
        )
        yield "run directory to report", Case(f"metrics.csv: {what}", ("report", folder), files, (folder,))
    files = {key: value for key, value in run.items() if key != f"{folder}/config.yaml"}
    yield "run directory to report", Case("config.yaml: missing", ("report", folder), files, ("config.yaml",))
    for table in (
        b"",
        b"\xff",
        b"a,b\n1,2\n",
        b"seed,status,directory\n",
        b"seed,status,directory\n1,complete,nowhere\n",
        b"status,directory\n\x00,\x00\n",
        b"status,directory\nx\n",
        bytes(range(256)),
    ):
        yield (
            "run directory to report",
            Case(f"table.csv: {table[:20]!r}", ("report", "sweep"), {"sweep/table.csv": table}, ("sweep",)),
        )
    for argument in ("nowhere", "f", "f/x", LONG, "empty"):
        yield (
            "run directory to report",
            Case(argument[:20], ("report", argument), {"f": b"x", "empty/x": b""}, ("report",)),
        )
    yield "run directory to report", Case("one of two", ("report", folder, "nowhere"), run, ("nowhere",))


def evaluate_cases(run: dict[str, bytes], arguments: tuple[str, ...]) -> Cases:
    """Overrides of ``fdtrain evaluate``, beside a run that is right."""
    overrides = [
        "task.carrier=",
        "task.carrier=x",
        "task.carrier=-1",
        "task.carrier=.nan",
        "task.area=0",
        "task.area=1e10",
        "task.fading=rice",
        "task.fading=",
        "task.nosuch=1",
        "task.pairs=3",
        "task.bundle=d.npz",
        "model.unfolded=2",
        "seed=1",
        "training.epochs=2",
        "training.batch=0",
        "training.wave=100",
        "training.batch=1.5",
        "training.wave=",
        "task=",
        "=",
        "x",
        "optimizer.lr=1",
        "topology.kind=ring",
        "channel.loss=0.5",
        "task.shadowing=51",
        "task.max_power=0",
        "task.noise_power=-1",
        "task.max_path_loss=0",
        "task..carrier=1",
    ]
    for override in overrides:
        yield "override of evaluate", Case(override, (*arguments, "--", override), run)


def sweep_directory_cases() -> Cases:
    """A sweep into a directory that is none of its own."""
    sweep = {"s.yaml": written(SWEEP).encode()}
    for what, record in {
        **YAML,
        "another sweep": b"name: other\npoints: []\n",
        "no points": b"name: s\n",
        "no name": b"points: []\n",
    }.items():
        if len(record) < 100_000:
            for options in ((), ("--dry-run",)):
                files = {**sweep, "out/sweep.yaml": record}
                yield (
                    "sweep directory",
                    Case(f"{what} {options}", ("sweep", "s.yaml", "--out", "out", *options), files),
                )
    yield (
        "sweep directory",
        Case("somebody's", ("sweep", "s.yaml", "--out", "out"), {**sweep, "out/thesis.txt": b"x"}),
    )
    yield (
        "sweep directory",
        Case("a run's", ("sweep", "s.yaml", "--out", "out"), {**sweep, "out/config.yaml": b"x"}),
    )
