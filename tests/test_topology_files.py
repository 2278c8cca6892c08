"""Graph files: every format, every message, and no damaged file that gets through with a traceback."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology import named_networks, read_graph, resolve

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writer(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return writer


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def scipy_archive(matrix: Any) -> bytes:
    buffer = io.BytesIO()
    sparse.save_npz(buffer, matrix)
    return buffer.getvalue()


def graphml(graph: Any) -> bytes:
    buffer = io.BytesIO()
    nx.write_graphml_xml(graph, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".edges", ".edgelist", ".txt", ".csv", ".EDGES"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_edge_list(write: Write, suffix: str, newline: str) -> None:
    lines = ["\ufeff# a comment", "", "0,1", "1, 2, 0.5  # heavy", "  3,0 , -1e-3", ""]
    graph = read_graph(write("g" + suffix, newline.join(lines)))
    assert graph == Graph.from_edges(4, [(0, 1), (1, 2), (0, 3)], [1, 0.5, -1e-3])
    assert graph.labels is None


def test_edge_list_by_whitespace(write: Write) -> None:
    graph = read_graph(write("g.txt", "0 1\n1\t2 0.5\n0   3 , 4\n"))
    assert graph == Graph.from_edges(4, [(0, 1), (1, 2), (0, 3)], [1, 0.5, 4])


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("2 1\n1 0\n", None),
        ("3 1\n1 2\n", ("1", "2", "3")),
        ("10 9\n9 -1\n", ("-1", "9", "10")),
        ("b a\na c\n", ("b", "a", "c")),
        ("1 0\n0 x\n", ("1", "0", "x")),
        ("01 1\n1 0\n", ("01", "1", "0")),  # 01 is a name, not another 1
        (f"{'9' * 5000} 1\n", ("9" * 5000, "1")),
    ],
)
def test_numbering(write: Write, text: str, labels: tuple[str, ...] | None) -> None:
    graph = read_graph(write("g.edges", text))
    assert graph.labels == labels
    names = labels or tuple(str(i) for i in range(graph.num_nodes))
    expected = {frozenset(line.split()) for line in text.splitlines()}
    assert {frozenset((names[i], names[j])) for i, j in graph.edges()} == expected


def test_csv_quotes_and_header(write: Write) -> None:
    graph = read_graph(write("g.csv", '# cities\nSource,Target,Weight\n"New York, NY",San Diego,2\n'))
    assert graph.labels == ("New York, NY", "San Diego")
    assert graph.weights.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("g.edges", "0 1\n0\n", "line 2: expected two labels and an optional weight, found '0'"),
        ("g.edges", "0 1 2 3\n", "line 1: expected two labels"),
        ("g.edges", "0,,1\n", "line 1: expected two labels"),
        ("g.edges", "0 1\x00\n", "line 1: expected two labels"),
        ("g.edges", "0 1 heavy\n", "line 1: the weight must be a number, found 'heavy'"),
        ("g.edges", "\n0 1 inf\n", "line 2: the weight must be finite and not 0, found inf"),
        ("g.edges", "0 1 nan\n", "line 1: the weight must be finite and not 0, found nan"),
        ("g.edges", "0 1 0.0\n", "line 1: the weight must be finite and not 0, found 0.0"),
        ("g.edges", "0 1\n# no\n1 1\n", "line 3: 1 – 1 is a self-loop; remove it"),
        ("g.edges", "0 1\n1 2\n1 0\n", "line 3: 1 – 0 is on line 1 already; keep one"),
        ("g.edges", b"0 1\n\xff 2\n", "line 2: not UTF-8 text"),
        ("g.edges", "# nothing\n", "the graph is empty"),
        ("g.edges", "", "the graph is empty"),
        ("g.csv", 'a,"b\n', "line 1: not comma-separated values"),
        ("g.csv", "a b\n", "line 1: expected two labels"),
        ("g.graphml", "<graphml>", "damaged GraphML"),
        ("g.graphml", "<html/>", "damaged GraphML"),
        ("g.graphml", graphml(nx.Graph()), "the graph is empty"),
        ("g.graphml", graphml(nx.empty_graph(3)), "the graph is empty"),
        ("g.graphml", graphml(nx.Graph([(1, 1)])), "edge 1 – 1 is a self-loop"),
        ("g.graphml", graphml(nx.MultiGraph([(1, 2), (2, 1)])), "is listed more than once"),
        ("g.graphml", graphml(nx.MultiDiGraph([(1, 2), (1, 2)])), "edge 1 – 2 is listed more than once"),
        (
            "g.graphml",
            graphml(nx.Graph([(1, 2, {"weight": "x"})])),
            "edge 1 – 2: the weight must be a number",
        ),
        (
            "g.graphml",
            graphml(nx.DiGraph([(1, 2, {"weight": 0.0})])),
            "edge 1 – 2: the weight must be finite",
        ),
        ("g.npz", b"PK\x03\x04 not really", "is damaged or no .npz file"),
        ("g.npz", b"", "is damaged or no .npz file"),
        ("g.npz", archive(), "needs SciPy's save_npz format or an array named adjacency, found nothing"),
        ("g.npz", archive(A=np.eye(2)), "an array named adjacency, found A"),
        (
            "g.npz",
            archive(adjacency=np.array([[0, None]])),
            "'adjacency' holds pickled objects; save plain numeric arrays",
        ),
        ("g.npz", archive(adjacency=np.ones((2, 3))), "must be a square matrix, found shape (2, 3)"),
        ("g.npz", archive(adjacency=np.ones(4)), "must be a square matrix, found shape (4,)"),
        ("g.npz", archive(adjacency=np.ones((0, 0))), "must have 1 to 10000000 nodes, found 0"),
        ("g.npz", archive(adjacency=np.ones((2, 2)) * 1j), "must hold real numbers, found complex128"),
        ("g.npz", archive(adjacency=np.array([["a"]])), "must hold real numbers"),
        ("g.npz", archive(adjacency=np.eye(2)), "node 0 has a self-loop"),
        ("g.npz", archive(adjacency=np.array([[0, np.inf], [1, 0]])), "must be finite"),
        ("g.npz", archive(adjacency=np.zeros((2, 2))), "the graph is empty"),
        ("g.npz", scipy_archive(sparse.csr_array((2, 3))), "must be a square matrix, found shape (2, 3)"),
        ("g.npz", archive(format="csr", shape=[10**12] * 2), "square with 1 to 10000000 nodes"),
        ("g.npz", archive(format="lil", shape=[2, 2]), "sparse format 'lil' is unknown"),
        (
            "g.npz",
            archive(format="csr", shape=[2, 2], data=[1.0], indices=[10**9], indptr=[0, 1, 1]),
            "damaged .npz",
        ),
        (
            "g.npz",
            archive(format="csr", shape=[2, 2], data=[1.0], indices=[-7], indptr=[0, 1, 1]),
            "damaged .npz",
        ),
        (
            "g.npz",
            archive(format="csr", shape=[2, 2], data=[1.0], indices=[1], indptr=[0, 99, 1]),
            "damaged .npz",
        ),
        ("g.npz", archive(format="coo", shape=[2, 2], data=[1.0], row=[0], col=[5]), "damaged .npz"),
        ("g.npz", archive(format="coo", shape=[2, 2], data=[1.0]), "damaged .npz"),
        ("g.gml", "", "unknown suffix '.gml'; use one of .edges, "),
    ],
)
def test_refuses(write: Write, name: str, text: str | bytes, words: str) -> None:
    path = write(name, text)
    with pytest.raises(InputError) as caught:
        read_graph(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.edges: cannot be read: No such file"):
        read_graph(tmp_path / "no.edges")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_graph(tmp_path / "folder.npz")
    with pytest.raises(InputError, match="cannot be read: not a valid path"):
        read_graph("nul\x00.edges")


def test_graphml(write: Write) -> None:
    undirected = nx.Graph([("b", "a", {"weight": 2.5}), ("a", "c")])
    graph = read_graph(write("g.graphml", graphml(undirected)))
    assert graph.labels == ("b", "a", "c")
    assert graph == Graph.from_edges(3, [(0, 1), (1, 2)], [2.5, 1])
    assert read_graph(write("n.graphml", graphml(nx.path_graph(4)))).labels is None


def test_directed_graphml_weighs_what_the_target_hears(write: Write) -> None:
    directed = nx.DiGraph([(0, 1, {"weight": 2.0}), (1, 0, {"weight": 3.0}), (1, 2, {"weight": 4.0})])
    A = read_graph(write("g.graphml", graphml(directed))).adjacency().toarray()
    np.testing.assert_array_equal(A, [[0, 3, 0], [2, 0, 0], [0, 4, 0]])
    graph = read_graph(write("g.graphml", graphml(directed)))
    assert graph.num_edges == 2
    assert graph.neighbours(2).tolist() == [1]


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("container", ["array", "matrix"])
def test_scipy_npz(write: Write, form: str, container: str) -> None:
    A = np.array([[0, 1.5, 0, 0], [2, 0, 0, -1], [0, 0, 0, 3], [0, -1, 3, 0]])
    matrix = getattr(sparse, f"{form}_{container}")(A)
    graph = read_graph(write("g.npz", scipy_archive(matrix)))
    np.testing.assert_array_equal(graph.adjacency().toarray(), A)
    assert graph == Graph.from_adjacency(A)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.float16, np.float64, ">f4"])
def test_dense_npz(write: Write, dtype: Any) -> None:
    A = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=dtype)
    assert read_graph(write("g.npz", archive(adjacency=A))) == Graph.from_edges(3, [(0, 1), (1, 2)])


def damaged(raw: bytes, seed: int, count: int) -> list[bytes]:
    rng = np.random.Generator(np.random.Philox(seed))
    cuts = [raw[: int(k)] for k in rng.integers(0, len(raw), count)]
    for _ in range(count):
        noisy = np.frombuffer(raw, dtype=np.uint8).copy()
        where = rng.integers(0, len(raw), int(rng.integers(1, 9)))
        noisy[where] = rng.integers(0, 256, len(where))
        cuts.append(noisy.tobytes())
    return [*cuts, rng.bytes(200), raw + raw, raw[::-1]]


def graph_or_message(path: Path) -> tuple[Graph | None, str]:
    try:
        return read_graph(path), ""
    except InputError as error:
        return None, str(error)


PLAIN = sparse.csr_array(np.array([[0, 1, 2], [1, 0, 0], [2, 0, 0]]))


def stored(matrix: Any) -> bytes:
    buffer = io.BytesIO()
    sparse.save_npz(buffer, matrix, compressed=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "raw"),
    [
        (".edges", b"0 1 1.0\n1 2 0.5\n# three\n2 3\n"),
        (".csv", b'source,target\n"a b",c,1.0\nc,d\n'),
        (".graphml", graphml(nx.path_graph(4, create_using=nx.DiGraph))),
        (".npz", scipy_archive(PLAIN)),
        (".npz", stored(PLAIN)),
        (".npz", stored(PLAIN.tocoo())),
        (".npz", archive(adjacency=PLAIN.toarray())),
    ],
)
def test_damaged_files_are_input_errors_or_graphs(write: Write, suffix: str, raw: bytes) -> None:
    read_graph(write("whole" + suffix, raw))
    for number, content in enumerate(damaged(raw, seed=11, count=100)):
        path = write(f"g{number}{suffix}", content)
        graph, message = graph_or_message(path)
        if graph is None:
            assert message.startswith(str(path))
            assert "\n" not in message
        else:
            assert graph.num_edges > 0
            assert np.isfinite(graph.weights).all()


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, work = tmp_path / "config", tmp_path / "work"
    for folder in (config, work):
        folder.mkdir()
        (folder / "both.edges").write_text("0 1\n")
    (work / "mine.edges").write_text("0 1\n")
    (work / "abilene").mkdir()  # a folder is not a file
    monkeypatch.chdir(work)
    assert resolve("both.edges", config) == config / "both.edges"
    assert resolve("both.edges") == work / "both.edges"
    assert resolve("mine.edges", config) == work / "mine.edges"
    assert resolve(work / "mine.edges", config) == work / "mine.edges"
    assert resolve("../work/mine.edges", config).samefile(work / "mine.edges")
    assert resolve("abilene", config) == resolve("abilene.edges", config) == named_networks()["abilene"]
    (config / "abilene.edges").write_text("0 1\n")
    assert resolve("abilene.edges", config) == config / "abilene.edges"
    for missing in ("nope", "sub/abilene", str(tmp_path / "abilene"), "x" * 5000, "nul\x00"):
        with pytest.raises(InputError, match=r"no such file.*abilene, .*sioux_falls") as caught:
            resolve(missing, config)
        assert "\n" not in str(caught.value)
