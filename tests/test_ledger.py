"""What was counted on the wire against SPEC §5's formulas and the graphs that were up, to the byte."""

from collections import Counter
from typing import Any

import pytest
from teams import run

from fdtrain.config import from_mapping
from fdtrain.experiment import Experiment, build
from fdtrain.ledger import PHASES, Count, Ledger

TOPOLOGIES: dict[str, dict[str, Any]] = {
    "static": {},
    "redrawn every mini-batch": {"connected": False, "redraw": {"every": 1}},
    "redrawn every second": {"connected": False, "redraw": {"every": 2}},
}
N, EPOCHS, BATCH, TEST = 10, 3, 4, 5
PARAMETERS = 2 * (6 * 5 + 5 * 3 + 3 * 2)
SIZES = (6, 5, 3, 2)
# An optimizer that fits each scheme, the rows of |θ| numbers that it mixes, and K.
OPTIMIZERS = {
    "inference": ("d_sgd", 1, 1),
    "per_sample": ("naive_sgd", 1, 2),
    "per_batch": ("d_amsgrad", 2, 1),
    "piggyback": ("gradient_tracking", 2, 3),
    "piggyback_do": ("d_sgd", 1, 1),
}


def experiment(
    topology: str, form: str, wave: int, slices: str = "idle", scheme: str = "piggyback_do"
) -> Experiment:
    content = {
        "topology": {"kind": "erdos_renyi", "nodes": 10, "mean_degree": 2.0, "seed": 2}
        | TOPOLOGIES[topology],
        "model": {"sizes": SIZES, "activation": "tanh", "shift": "laplacian", "form": form},
        "task": {"train_samples": N, "test_samples": TEST},
        "training": {"epochs": EPOCHS, "batch": BATCH, "wave": wave, "slices": slices, "scheme": scheme}
        | {"consensus_rounds": OPTIMIZERS[scheme][2]},
        "optimizer": {"kind": OPTIMIZERS[scheme][0], "lr": 1e-3},
    }
    return build(from_mapping(content))


def waves_of(samples: int, wave: int) -> list[int]:
    return [min(wave, samples - first) for first in range(0, samples, wave)]


def slots(form: str, samples: int, wave: int, scheme: str) -> list[dict[str, int]]:
    """Per round of a mini-batch, numbers of each kind but slices: SPEC §5's slots, spelled out."""
    _, rows, K = OPTIMIZERS[scheme]
    consensus = [{"consensus": rows * PARAMETERS} for _ in range(K)]
    L, w = len(SIZES) - 1, waves_of(samples, wave)
    receiver = form == "receiver"
    width = {layer: SIZES[layer - 1] if receiver else SIZES[layer] for layer in range(1, L + 1)}
    rounds = [{"features": size * width[layer]} for size in w for layer in range(1, L + 1)]
    back = L - 1 if receiver else L
    if scheme in ("per_sample", "per_batch"):
        rounds = []
        for size in w:
            rounds += [{"features": size * width[layer]} for layer in range(1, L + 1)]
            rounds += [{"backward": size * width[L - k]} for k in range(back)]
            rounds += consensus if scheme == "per_sample" else []
        rounds += consensus if scheme == "per_batch" else []
    elif scheme != "inference":
        rounds += [{} for _ in range(back)]
        for b, size in enumerate(w):
            for k in range(back):
                rounds[(b + 1) * L + k]["backward"] = size * width[L - k]
        rounds += consensus if scheme == "piggyback" else []
    return rounds


def with_slices(rounds: list[dict[str, int]], slices: str, travelling: int) -> list[dict[str, int]]:
    free = [r for r, round_ in enumerate(rounds) if slices == "even" or "backward" not in round_]
    for k, r in enumerate(free):
        width = travelling * (k + 1) // len(free) - travelling * k // len(free)
        if width:
            rounds[r]["slice"] = width
    return rounds


def expected(
    made: Experiment, form: str, wave: int, slices: str, scheme: str
) -> dict[tuple[str, str], Counter[str]]:
    """Counts by (phase, field) from formulas, the graphs' directed edges and their nodes that have one."""
    counts: dict[tuple[str, str], Counter[str]] = {}

    def add(phase: str, t: int, rounds: list[dict[str, int]]) -> None:
        graph = made.topology.graph(t)
        links, radios = 2 * graph.num_edges, int((graph.degrees > 0).sum())
        for round_ in rounds:
            for kind, width in [("all", sum(round_.values())), *round_.items()]:
                counts.setdefault((phase, kind), Counter()).update(
                    rounds=1,
                    link_messages=links,
                    link_bytes=8 * width * links,
                    radio_messages=radios,
                    radio_bytes=8 * width * radios,
                )

    t, every = 0, made.job.redraw_every
    for _ in range(EPOCHS):
        for size in (4, 4, 2):
            if t == 0 or (every and t % every == 0):
                add("setup", t, [{"degrees": 2}])
            rounds = slots(form, size, min(wave, size), scheme)
            if scheme == "piggyback_do":
                rounds = with_slices(rounds, slices, PARAMETERS)
            add("train", t, rounds)
            t += 1
        add("test", t - 1, slots(form, TEST, min(wave, TEST), "inference"))
    return counts


def measured(ledger: Ledger) -> dict[tuple[str, str], Counter[str]]:
    counts = {(phase, "all"): count for phase, count in ledger.total.items()} | ledger.fields
    return {key: Counter(vars(count)) for key, count in counts.items()}


@pytest.mark.parametrize("wave", [1, 3, 4])
@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_measured_is_expected(topology: str, form: str, wave: int) -> None:
    for slices, scheme, ranks in (
        ("idle", "piggyback_do", 3),
        ("even", "piggyback_do", 1),
        ("idle", "inference", 2),
        ("idle", "per_sample", 2),
        ("idle", "per_batch", 1),
        ("idle", "piggyback", 3),
    ):
        made = experiment(topology, form, wave, slices, scheme)
        ledger = run(made, ranks).outcome.ledger
        assert measured(ledger) == expected(made, form, wave, slices, scheme)


def test_fields_add_up_to_whole_messages() -> None:
    ledger = run(experiment("redrawn every second", "sender", 2), 4).outcome.ledger
    for phase in PHASES:
        fields = [count for (where, _), count in ledger.fields.items() if where == phase]
        total = ledger.total[phase]
        assert sum(count.link_bytes for count in fields) == total.link_bytes > 0
        assert sum(count.radio_bytes for count in fields) == total.radio_bytes > 0
        assert max(count.rounds for count in fields) <= total.rounds
        assert 0 < total.radio_messages < total.link_messages


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_one_node_per_rank_sends_what_the_links_carry(topology: str, form: str) -> None:
    ledger = run(experiment(topology, form, 3), 10).outcome.ledger
    assert ledger.physical_messages == sum(count.link_messages for count in ledger.total.values()) > 0
    assert ledger.physical_bytes == sum(count.link_bytes for count in ledger.total.values()) > 0


def test_packing_saves_messages_but_no_logical_ones() -> None:
    ledgers = [
        run(experiment("redrawn every mini-batch", "receiver", 2), ranks).outcome.ledger
        for ranks in (1, 2, 5, 10)
    ]
    assert all(measured(ledger) == measured(ledgers[0]) for ledger in ledgers)
    assert (ledgers[0].physical_messages, ledgers[0].physical_bytes) == (0, 0)
    messages = [ledger.physical_messages for ledger in ledgers]
    assert messages == sorted(set(messages))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_metrics_count_training_alone_and_add_up(topology: str) -> None:
    """SPEC §6 A: the rounds of the test phase are counted apart from training's."""
    made = experiment(topology, "receiver", 4)
    host = run(made, 2)
    L = len(SIZES) - 1
    per_epoch = sum(L * len(waves_of(size, 4)) + L - 1 for size in (4, 4, 2))
    assert [row.rounds for row in host.outcome.rows] == [per_epoch * (e + 1) for e in range(EPOCHS)]
    p = made.job.model.num_parameters
    links = [2 * made.topology.graph(t).num_edges for t in range(3 * EPOCHS)]
    numbers = [size * (6 + 5 + 3 + 5 + 3) + p for size in (4, 4, 2)]
    for e, row in enumerate(host.outcome.rows):
        done = range(3 * (e + 1))
        assert row.messages == sum(links[t] * (L + L - 1) for t in done)
        assert row.bytes == sum(8 * links[t] * numbers[t % 3] for t in done)
    total = host.outcome.ledger.total
    assert total["test"].rounds == EPOCHS * L * 2  # 5 test samples in waves of 4
    assert total["setup"].rounds == len([t for t in range(3 * EPOCHS) if made.job.rewires_at(t)])


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_updates_by_sample_cost_a_row_for_every_sample(form: str) -> None:
    """As many rounds of consensus as waves, times K, of w |θ| numbers."""
    for wave in (1, 3, 4):
        content = experiment("redrawn every second", form, wave, scheme="per_sample").config.model_dump()
        content["optimizer"]["updates"] = "sample"
        made = build(from_mapping(content))
        found = measured(run(made, 3).outcome.ledger)
        wanted = expected(made, form, wave, "idle", "per_sample")
        for t, size in enumerate((4, 4, 2) * EPOCHS):
            graph, more = made.topology.graph(t), 8 * 2 * PARAMETERS * (size - len(waves_of(size, wave)))
            for kind in ("all", "consensus"):
                wanted["train", kind]["link_bytes"] += more * 2 * graph.num_edges
                wanted["train", kind]["radio_bytes"] += more * int((graph.degrees > 0).sum())
        assert found == wanted


def test_talks_last_as_long_as_the_longest() -> None:
    """Ranks that fall silent early; each talk for itself, and beside rounds that all ranks have."""
    a, b = Ledger(), Ledger()
    for ledger in (a, b):
        ledger.record("decide", {"weights": 2}, rounds=3, broadcasts=2, links=4)
    a.record_talk("decide", "states", 2, [(2, 4), (1, 1), (1, 1)])
    b.record_talk("decide", "states", 2, [(2, 4)])
    a.record_talk("decide", "states", 1, [])
    b.record_talk("decide", "states", 1, [(2, 3), (2, 3)])
    a.record_talk("test", "states", 2, [])
    b.record_talk("test", "states", 2, [])
    whole = Ledger.merged([a, b])
    radio, link = (2 + 1 + 1 + 2, 2 + 2), (4 + 1 + 1 + 4, 3 + 3)
    states = Count(3 + 2, sum(radio), 8 * (2 * radio[0] + radio[1]), sum(link), 8 * (2 * link[0] + link[1]))
    assert whole.fields["decide", "states"] == states
    assert whole.fields["decide", "weights"] == Count(3, 12, 8 * 24, 24, 8 * 48)
    assert whole.total["decide"] == Count(
        8, 12 + states.radio_messages, 8 * 24 + states.radio_bytes,
        24 + states.link_messages, 8 * 48 + states.link_bytes,
    )  # fmt: skip
    assert whole.fields["test", "states"] == whole.total["test"] == Count()
    assert Ledger.merged([a]).fields["decide", "states"].rounds == 3
    assert a.fields["decide", "states"].rounds == 0  # merging leaves the parts alone


def test_record_and_merge() -> None:
    a, b = Ledger(), Ledger()
    a.record("train", {"features": 3, "slice": 1}, rounds=5, broadcasts=2, links=4)
    a.record("train", {"features": 2}, rounds=1, broadcasts=2, links=4)
    a.record("test", {"features": 9}, rounds=0, broadcasts=2, links=4)
    b.record("train", {"features": 3, "slice": 1}, rounds=5, broadcasts=1, links=1)
    b.record("train", {"features": 2}, rounds=1, broadcasts=1, links=1)
    a.physical_messages, a.physical_bytes, b.physical_messages, b.physical_bytes = 7, 70, 5, 50
    assert a.total["train"] == Count(6, 12, 8 * 44, 24, 8 * 88)
    assert set(a.fields) == {("train", "features"), ("train", "slice")}
    whole = Ledger.merged([a, b])
    assert whole.total["train"] == Count(6, 18, 8 * 66, 30, 8 * 110)
    assert whole.fields["train", "slice"] == Count(5, 15, 8 * 15, 25, 8 * 25)
    assert whole.fields["train", "features"] == Count(6, 18, 8 * 51, 30, 8 * 85)
    assert (whole.physical_messages, whole.physical_bytes) == (12, 120)
    assert whole.total["test"] == whole.total["setup"] == Count()
    assert a.total["train"] == Count(6, 12, 8 * 44, 24, 8 * 88)  # merging leaves the parts alone
