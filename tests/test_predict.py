"""Predictions: radio networks by hand, computers by the model, and what is no machine."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdtrain import cli, resources
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.problems import make_topology
from fdtrain.scale import radio
from fdtrain.scale.fit import predicted_seconds
from fdtrain.scale.machines import Computer, Radio, load_machine
from fdtrain.scale.predict import predict
from fdtrain.scale.work import minibatch_of, shares_of
from fdtrain.schemes import SCHEMES

BASE: dict[str, Any] = {
    "model": {"sizes": [3, 4, 2]},
    "task": {"train_samples": 15, "test_samples": 2},
    "training": {"batch": 6, "wave": 2, "scheme": "inference"},
    "optimizer": {"kind": "d_sgd", "lr": 1e-3},
}
DEVICE = Radio(name="device", latency=0.01, bandwidth=8000.0, payload=100, header=5, flops=1e6)


def star(leaves: int) -> Graph:
    return Graph.from_edges(leaves + 1, [(0, k) for k in range(1, leaves + 1)])


def path(nodes: int) -> Graph:
    return Graph.from_edges(nodes, [(k, k + 1) for k in range(nodes - 1)])


@pytest.mark.parametrize(
    ("graph", "bound", "colours"),
    [
        (star(4), 5, 5),  # the leaves are two hops apart
        (path(2), 2, 2),
        (path(5), 3, 3),
        (Graph.from_edges(4, [(0, 1), (1, 2), (2, 3), (3, 0)]), 3, 4),  # a ring of four: all within two hops
        (Graph.from_edges(3, np.zeros((0, 2), dtype=int)), 0, 0),
    ],
)
def test_slots_by_hand(graph: Graph, bound: int, colours: int) -> None:
    assert radio.slots(graph, "bound") == bound
    assert radio.slots(graph, "colouring") == colours


def test_nodes_within_two_hops_have_slots_of_their_own() -> None:
    config = from_mapping({**BASE, "topology": {"kind": "barabasi_albert", "nodes": 300, "m": 3}})
    graph = make_topology(config).graph(0)
    colours = radio.colouring(graph)
    near = graph.adjacency() @ graph.adjacency() + graph.adjacency()
    near.setdiag(0)
    first, second = near.nonzero()
    assert (colours[first] != colours[second]).all()
    assert graph.degrees.max() + 1 <= colours.max() + 1 < 2 * graph.degrees.max()


def test_airtime_by_hand() -> None:
    """A byte is 1 ms on the air: 250 bytes are 3 packets of 10 ms, 5 ms of header each, and 250 ms."""
    assert radio.airtime(DEVICE, 250) == pytest.approx(3 * (0.01 + 0.005) + 0.25)
    assert radio.airtime(DEVICE, 0) == 0


def by_hand(slots: int, nodes: int, kind: str, max_degree: int) -> None:
    """Inference with 3-4-2, B = 6 at wave 2: three times a round with 2·3 numbers and one with 2·4."""
    config = from_mapping({**BASE, "topology": {"kind": kind, "nodes": nodes}})
    found = predict(config, DEVICE)
    line = next(one for one in found.lines if one.scheme == "inference")
    rounds = 3 * (0.015 + 0.048) + 3 * (0.015 + 0.064)
    arithmetic = (6 * (4 * 3 * 4 + 4 * 4 * 2) + 2 * max_degree * 6 * (3 + 4)) / 1e6
    assert found.slots == slots
    assert line.communication == pytest.approx(slots * rounds)
    assert line.arithmetic == pytest.approx(arithmetic)
    assert line.epoch == pytest.approx(3 * (slots * rounds + arithmetic))  # 15 samples in mini-batches of 6


def test_a_star_by_hand() -> None:
    by_hand(slots=6, nodes=6, kind="star", max_degree=5)


def test_a_path_by_hand() -> None:
    by_hand(slots=3, nodes=6, kind="path", max_degree=2)


def test_a_device_keeps_its_duty_cycle() -> None:
    rare = DEVICE.model_copy(update={"duty_cycle": 0.01})
    own = radio.airtime(DEVICE, 48)
    assert radio.communication_seconds(DEVICE, [48, 48], 3) == pytest.approx(6 * own)
    assert radio.communication_seconds(rare, [48, 48], 3) == pytest.approx(2 * own / 0.01)


def test_a_computer_by_the_model() -> None:
    machine = Computer(name="c", per_round=1e-3, per_message=1e-4, per_byte=1e-6, per_flop=1e-7, ranks=3)
    config = from_mapping({**BASE, "topology": {"kind": "ring", "nodes": 12}})
    found = predict(config, machine, [1, 3])
    assert [(line.ranks, line.scheme) for line in found.lines] == [
        (k, name) for k in (1, 3) for name in SCHEMES
    ]
    graph, batch = make_topology(config).graph(0), minibatch_of(config)
    for line in (found.lines[0], found.lines[len(SCHEMES)]):
        shares = shares_of(config, graph, line.ranks)
        assert line.seconds == pytest.approx(predicted_seconds(machine, batch.features(shares)))
    by_default = predict(config, machine)
    assert by_default.lines == found.lines[len(SCHEMES) :]


def test_every_scheme_costs_what_table_1_says() -> None:
    config = from_mapping({**BASE, "topology": {"kind": "ring", "nodes": 12}})
    found = {line.scheme: line.rounds for line in predict(config, DEVICE).lines}
    assert found == {"inference": 6, "per_sample": 12, "per_batch": 10, "piggyback": 8, "piggyback_do": 7}


def test_large_networks_are_predicted_in_seconds() -> None:
    topology = {"kind": "grid", "rows": 250, "cols": 400}
    found = predict(from_mapping({**BASE, "topology": topology}), DEVICE)
    assert found.nodes == 100_000
    assert found.slots is not None
    assert 5 <= found.slots <= 12


MACHINE = "machine: {kind: radio, name: x, latency: 0.1, bandwidth: 100, flops: 1"
BAD = [
    (f"{MACHINE}, latncy: 2}}", "machine: latncy: unknown key; did you mean 'latency'?"),
    (f"{MACHINE}, duty_cycle: 0}}", "machine: duty_cycle"),
    (f"{MACHINE}, header: -1}}", "machine: header"),
    (f"{MACHINE}, slots: many}}", "machine: slots"),
    ("machine: {kind: radio, name: x, bandwidth: 100, flops: 1}", "machine: latency: is missing"),
    ("machine: {kind: computer, name: x, per_round: -1, per_flop: 1}", "machine: per_round"),
    ("machine: {kind: computer, name: x, per_round: .nan, per_flop: 1}", "machine: per_round"),
    ("machine: {kind: computr, name: x}", "machine.kind: unknown 'computr'; did you mean 'computer'?"),
    ("machine: {name: x}", "machine.kind: unknown None"),
    ("machine: [1]", "must have the key 'machine' alone"),
    ("machin: {kind: radio}", "must have the key 'machine' alone"),
    ("- 1", "must be a mapping"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_what_is_no_machine_is_refused_in_one_line(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text, encoding="utf-8")
    assert cli.main(["predict", "quickstart", "--machine", str(file)]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert says in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["quickstart", "--machine", "nosuch"], "no machine that comes with fdtrain; those are"),
        (["quickstart", "--machine", "wifi", "--ranks", "2"], "is a radio network, one device per node"),
        (["quickstart", "--ranks", "101"], "the network has 100 nodes"),
        (["quickstart", "--ranks", "0"], "--ranks: must be numbers"),
        (["paper/power_allocation"], "task.kind: scaling is of node_regression"),
        (["quickstart", "--out", "t.txt"], "must end in .csv"),
    ],
)
def test_bad_predictions_are_refused_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", *arguments]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert says in told


def test_a_machine_that_was_measured_on_one_rank_predicts_for_one() -> None:
    machine = Computer(name="alone", per_round=1e-3, per_flop=1e-7)
    config = from_mapping({**BASE, "topology": {"kind": "ring", "nodes": 12}})
    assert predict(config, machine, [1]).lines
    with pytest.raises(InputError, match="has no per_message"):
        predict(config, machine, [2])


@pytest.mark.parametrize("name", ["laptop", "cluster", "wifi", "lora"])
def test_shipped_machines_predict(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resources.kind_of(resources.find_machine(name)) == "machine"
    assert load_machine(f"machines/{name}") == load_machine(name)
    out = tmp_path / "table.csv"
    assert cli.main(["predict", "quickstart", "--machine", name, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert all(scheme in told for scheme in SCHEMES)
    with out.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["scheme"] for line in lines] == list(SCHEMES)
    assert all(float(line["seconds"]) > 0 and line["nodes"] == "100" for line in lines)
