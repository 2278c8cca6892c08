"""Contact traces: what is read of a file, who is linked when, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moving import ADAPTER

from fdtrain import config
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology import TopologyService
from fdtrain.topology.traces import read_trace

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file


def graphs(path: Path, count: int, **fields: Any) -> list[Graph]:
    made = ADAPTER.validate_python({"kind": "contacts", "path": str(path), **fields})
    service = TopologyService(made, 0)
    return [service.graph(t) for t in range(count)]


def links(found: list[Graph]) -> list[list[list[int]]]:
    return [graph.edges().tolist() for graph in found]


TIMES = "0 a b\n20 a b\n20 b c\n60 c a\n190 a c\n"


@pytest.mark.parametrize(
    "text",
    [
        TIMES,
        TIMES.replace(" ", "\t"),
        TIMES.replace(" ", ","),
        TIMES.replace(" ", " , "),
        TIMES.replace("\n", "\r\n"),
        "\ufeff" + TIMES,
        "# a comment\n\n" + TIMES.replace("\n", "  # ok\n"),
        "t i j\n" + TIMES,
        "time,i,j\n" + TIMES.replace(" ", ","),
        "Timestamp,Source,Target\n" + TIMES.replace(" ", ","),
        "i,weight,j,time\n"
        + "".join(f"{i},9,{j},{t}\n" for t, i, j in (row.split() for row in TIMES.splitlines())),
        '"time","i","j"\n' + "".join(f'{t},"{i}","{j}"\n' for t, i, j in (r.split() for r in TIMES.splitlines())),
        "\n".join(reversed(TIMES.splitlines())) + "\n20 a b\n",
    ],
)  # fmt: skip
def test_rows_of_times_in_many_forms(write: Write, text: str) -> None:
    found = graphs(write(text), 5, seconds=60, nodes=["a", "b", "c"])
    assert links(found) == [[[0, 1], [1, 2]], [[0, 2]], [], [[0, 2]], [[0, 1], [1, 2]]]
    assert found[0].labels == ("a", "b", "c")
    assert (found[0].weights == 1).all()


def test_intervals_are_there_as_long_as_they_last(write: Write) -> None:
    """start ≤ time < end; one of no length is a moment."""
    text = "start,end,i,j\n0,10,0,1\n5,25,1,2\n20,20,0,2\n29.5,31,0,3\n"
    found = graphs(write(text), 4, seconds=10)
    assert links(found) == [[[0, 1], [1, 2]], [[1, 2]], [[0, 2], [0, 3], [1, 2]], [[0, 3]]]
    assert found[0].labels is None
    bare = text.split("\n", 1)[1]
    assert links(graphs(write(bare), 4, seconds=10)) == links(found)
    crawdad = "".join(
        f"{i} {j} {start} {end} 1 0\n" for start, end, i, j in (r.split(",") for r in bare.split())
    )
    columns = ["i", "j", "start", "end"]
    assert links(graphs(write(crawdad), 4, seconds=10, columns=columns)) == links(found)


def test_columns_of_sociopatterns(write: Write) -> None:
    """Times, two badges, and the classes of their bearers."""
    path = write(
        "1385982020\t454\t640\tMP\tMP\n1385982020\t1\t939\t2BIO3\t2BIO3\n1385982040\t454\t640\tMP\tMP\n"
    )
    found = graphs(path, 2, seconds=20, columns=["time", "i", "j", "_", "_"])
    assert found[0].labels == ("1", "454", "640", "939")
    assert links(found) == [[[0, 3], [1, 2]], [[1, 2]]]
    assert links(graphs(path, 2, seconds=20, columns=["time", "i", "j"])) == links(found)


@pytest.mark.parametrize(
    ("after_end", "later"),
    [("repeat", [0, 1, 2, 3] * 3), ("hold", [0, 1, 2, 3] + [3] * 8), ("empty", [0, 1, 2, 3] + [2] * 8)],
)
def test_after_the_end(write: Write, after_end: str, later: list[int]) -> None:
    found = graphs(write(TIMES), 12, seconds=60, after_end=after_end)
    assert links(found) == [links(found)[t] for t in later]  # window 2 is empty


def test_the_first_window_begins_where_it_is_told_to(write: Write) -> None:
    path = write(TIMES)
    assert links(graphs(path, 3, seconds=60, start=20)) == [[[0, 1], [0, 2], [1, 2]], [], [[0, 2]]]
    assert links(graphs(path, 2, seconds=60, start=-60)) == [[], [[0, 1], [1, 2]]]
    long = write("0 100 a b\n90 95 a c\n", "long.txt")
    assert links(graphs(long, 2, seconds=10, start=80)) == [[[0, 1]], [[0, 1], [0, 2]]]


def test_nodes_may_be_given(write: Write) -> None:
    path = write(TIMES)
    some = graphs(path, 4, seconds=60, nodes=["c", "a", "zoe"])
    assert links(some) == [[], [[0, 1]], [], [[0, 1]]]
    assert some[0].labels == ("c", "a", "zoe")
    numbers = write("0 0 3\n1 2 3\n", "numbers.txt")
    assert graphs(numbers, 1, seconds=5, nodes=6)[0].num_nodes == 6
    assert graphs(numbers, 1, seconds=5, nodes=[3, 0])[0].labels == ("3", "0")
    assert graphs(numbers, 1, seconds=5)[0].labels == ("0", "2", "3")


def test_numbers_need_not_begin_at_zero_nor_be_whole(write: Write) -> None:
    found = graphs(write("-7.5 a b\n1.5e3 b c\n"), 16, seconds=100.5)
    assert [t for t, graph in enumerate(found) if graph.num_edges] == [0, 15]


def test_a_window_is_what_the_definition_says(write: Write) -> None:
    draws = np.random.default_rng(5)
    start = draws.integers(0, 300, 200) / 2
    end = start + draws.integers(0, 40, 200) / 2
    ends = draws.integers(0, 9, (200, 2))
    ends[:, 1] += ends[:, 0] == ends[:, 1]
    path = write("".join(f"{s} {e} {i} {j}\n" for s, e, (i, j) in zip(start, end, ends, strict=True)))
    for t, graph in enumerate(graphs(path, 20, seconds=7, start=0, nodes=10)):
        lo, hi = 7 * t, 7 * (t + 1)
        there = (start < hi) & ((end > lo) & (start < end) | (start == end) & (start >= lo))
        wanted = {(int(min(pair)), int(max(pair))) for pair in ends[there]}
        assert {*map(tuple, graph.edges().tolist())} == wanted


BAD: list[tuple[str | bytes, str]] = [
    ("", "has no contact"),
    ("# nothing\n\n", "has no contact"),
    ("time,i,j\n", "has no contact"),
    (b"\xff\xfe0 a b", "not UTF-8 text"),
    (b"0 a \x80\n", "not UTF-8 text"),
    ("0 a\n", "line 1: has 2 columns: '0 a'; 3 are time, i, j"),
    ("7\n", "line 1: has 1 columns"),
    ("0 1 a b c\n", "line 1: has 5 columns"),
    ("0 a b\n1 a\n", "line 2: has 2 columns, needs 3"),
    ("0 a b\n1 a b c\n", "line 2: has 4 columns, needs 3"),
    ("0 1 a b\n2 a b\n", "line 2: has 3 columns, needs 4"),
    ("time,i,j\n0,a,b,c\n", "line 2: has 4 columns, needs 3"),
    ("x a b\n", "line 1: time must be a number of seconds, found 'x'"),
    ("0 a b\n1,5 a b\n", "line 2"),
    ("0 a b\n\n0x10 b c\n", "line 3: time must be a number of seconds, found '0x10'"),
    ("nan a b\n", "line 1: time must be finite, found nan"),
    ("inf a b\n", "line 1: time must be finite"),
    ("1e999 a b\n", "line 1: time must be finite"),
    ("0 -inf a b\n", "line 1: end must be finite"),
    ("0 x a b\n", "line 1: end must be a number of seconds, found 'x'"),
    ("5 4 a b\n", "line 1: the contact ends at 4, before it starts at 5"),
    ("0 a a\n", "line 1: a meets itself; remove the line"),
    ("0,a,\n", "line 1: needs the names of two nodes"),
    ("0,,b\n", "line 1: needs the names of two nodes"),
    (",a,b\n", "line 1: time must be a number of seconds, found ''"),
    ("0 a b\x00\n", "line 1: needs the names of two nodes"),
    ('0,"a,b\n', "line 1: not comma-separated values"),
    ("time,i\n0,a\n", "line 1: the header must have time, i, j or start, end, i, j, found time, i"),
    ("start,i,j\n0,a,b\n", "line 1: the header must have time, i, j or start, end, i, j, found start, i, j"),
    ("time,start,end,i,j\n", "line 1: the header must have"),
    ("time,t,i,j\n", "line 1: the header has two columns for time; set columns"),
    ("0 a b\ntime i j\n", "line 2: time must be a number of seconds, found 'time'"),
    ("0;a;b\n", "line 1: has 1 columns"),
    ("2013-11-18T10:00 a b\n", "line 1: time must be a number of seconds"),
    ("0 a b\n1e300 b c\n", "the trace is too long for windows of 60; set seconds"),
    ("-1e308 a b\n1e308 b c\n", "the trace is too long for windows of 60; set seconds"),
    ("0" * 5000 + "x a b\n", "line 1: time must be a number of seconds"),
    (b"\x1f\x8b\x08\x00\x00", "not UTF-8 text"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_trace_is_one_line_that_names_it(write: Write, text: str | bytes, words: str) -> None:
    path = write(text)
    with pytest.raises(InputError) as caught:
        graphs(path, 1, seconds=60)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert words in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250


def test_a_trace_that_was_cut_short_is_read_or_refused_in_one_line(write: Write) -> None:
    text = "start,end,i,j\n0,10,ada,ben\n5,25,ben,cleo\n"
    refused = {}
    for cut in range(len(text)):
        try:
            graphs(write(text[:cut]), 1, seconds=60)
        except InputError as error:
            refused[cut] = str(error)
    assert not any("\n" in message for message in refused.values())
    assert {*range(23)} <= {*refused}  # before "0,10,ada,b"
    assert not {24, 25, 26, 27, 38, 41} & {*refused}
    assert {29, 31, 36} <= {*refused}  # a second line with fewer columns


def test_a_damaged_trace_is_read_or_refused_in_one_line(write: Write) -> None:
    draws, outcomes = np.random.default_rng(8), {True: 0, False: 0}
    text = b"start,end,i,j\n0,10,ada,ben\n5,25,ben,cleo\n30,31.5,ada,cleo\n"
    for _ in range(500):
        damaged = bytearray(text)
        for at in draws.integers(0, len(text), draws.integers(1, 3)):
            damaged[at] = draws.choice([0, 10, 32, 34, 35, 44, 45, 57, 101, 255, draws.integers(256)])
        try:
            found = graphs(write(bytes(damaged)), 2, seconds=20)
        except InputError as error:
            outcomes[False] += "\n" not in str(error)
        else:
            outcomes[True] += found[0].num_nodes >= 2
    assert sum(outcomes.values()) == 500
    assert min(outcomes.values()) > 50


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none.csv", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"cannot be read: {words}"):
            graphs(path, 1, seconds=60)
    with pytest.raises(InputError, match="not a valid path"):
        read_trace("a\x00b")


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"seconds": 0}, "topology.seconds"),
    ({"seconds": None}, "topology.seconds"),
    ({"path": ""}, "topology.path"),
    ({"path": None}, "topology.path: is missing"),
    ({"columns": ["time", "i"]}, "topology.columns: must have time, i, j or start, end, i, j, found time, i"),
    ({"columns": []}, "topology.columns: must have"),
    ({"columns": ["time", "i", "k"]}, "topology.columns: has 'k', known are time, start, end, i, j, _"),
    ({"columns": ["time", "i", "j", "i"]}, "topology.columns: has a column twice"),
    ({"columns": ["start", "i", "j"]}, "topology.columns: must have"),
    ({"columns": "time,i,j"}, "topology.columns"),
    ({"after_end": "stop"}, "topology.after_end"),
    ({"nodes": 0}, "topology.nodes: must be a number from 1 to 10,000,000, or a list of names"),
    ({"nodes": []}, "topology.nodes: must be different names"),
    ({"nodes": ["a", "a"]}, "topology.nodes: must be different names"),
    ({"nodes": [1, "1"]}, "topology.nodes: must be different names"),
    ({"nodes": [1.5]}, "topology.nodes: must be different names"),
    ({"nodes": "a"}, "topology.nodes: must be a number"),
    ({"nodes": True}, "topology.nodes: must be a number"),
    ({"start": "now"}, "topology.start"),
    ({"start": float("inf")}, "topology.start"),
]


@pytest.mark.parametrize(("changes", "words"), BAD_SETTINGS)
def test_a_bad_configuration_is_one_line(write: Write, changes: dict[str, Any], words: str) -> None:
    fields = {"kind": "contacts", "path": str(write(TIMES)), "seconds": 60} | changes
    topology = {key: value for key, value in fields.items() if value is not None}
    with pytest.raises(InputError) as caught:
        config.from_mapping({"topology": topology, "model": {"sizes": [3, 1]}})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_that_do_not_fit_the_trace(write: Write) -> None:
    path = write(TIMES)
    for fields, words in (
        ({"nodes": 3}, "has a node 'a', but nodes are 0 … 2; set nodes to a list of names"),
        ({"nodes": ["x", "y"]}, "no contact of these nodes at or after 0; set start or nodes"),
        ({"start": 191}, "no contact of these nodes at or after 191"),
        ({"columns": ["i", "j", "time"]}, "line 1: time must be a number of seconds, found 'b'"),
        ({"columns": ["_", "_", "time", "i", "j"]}, "line 1: has 3 columns, needs 5"),
    ):
        with pytest.raises(InputError) as caught:
            graphs(path, 1, seconds=60, **fields)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    numbers = write("0 1 2\n", "numbers.txt")
    with pytest.raises(InputError, match="has a node '2', but nodes are 0 … 1"):
        graphs(numbers, 1, seconds=60, nodes=2)


def test_the_path_is_beside_the_configuration(write: Write, tmp_path: Path) -> None:
    write(TIMES)
    text = "topology: {kind: contacts, path: trace.csv, seconds: 60}\nmodel: {sizes: [3, 1]}\n"
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    loaded = config.load(tmp_path / "run.yaml")
    assert loaded.topology.path == str(tmp_path / "trace.csv")
