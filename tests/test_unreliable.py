"""Messages that do not arrive: what the nodes make of it does not depend on packing, and of no loss nothing at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import teams

import fdtrain
from fdtrain import training
from fdtrain.channel.late import Underway
from fdtrain.channel.spec import Geometric, Uniform
from fdtrain.channel.state import BESIDE, LinkStore
from fdtrain.config import from_mapping
from fdtrain.engine import Engine
from fdtrain.errors import InputError
from fdtrain.experiment import build
from fdtrain.snapshot import Kept
from fdtrain.verify import Verifier

BURSTS = {"kind": "gilbert_elliott", "to_bad": 0.1, "to_good": 0.4}
NEVER = {
    "rate": 0.0,
    "bursts that lose nothing": {**BURSTS, "loss_bad": 0.0},
    "links that are never bad": {**BURSTS, "to_bad": 0.0},
}
AT_ONCE = {
    "none": None,
    "fixed": 0,
    "uniform": {"kind": "uniform", "high": 0},
    "geometric": {"kind": "geometric", "mean": 0.0},
}
PUSH = {"parameters": {"missing": "push_sum"}}
HARSH = {
    "loss": 0.05,
    "features": {"loss": 0.1, "delay": {"kind": "geometric", "mean": 0.3}},
    "backward": {"loss": BURSTS, "delay": {"kind": "uniform", "high": 1}},
    "parameters": {"loss": 0.2, "delay": {"kind": "uniform", "high": 15}},
    "outages": [{"links": [[0, 1], [2, 0]], "start": 1, "stop": 3}],
    "partitions": [{"fraction": 0.5, "start": 6, "stop": 8}],
    "crashes": [{"nodes": [3, 7], "start": 2, "stop": 5}, {"nodes": [0], "start": 9}],
}
FEATURES = ("zero", "hold", "drop_edge")
PARAMETERS = ("keep_own", "hold", "push_sum")


def config(**changed: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "seed": 5,
        "topology": {"kind": "barabasi_albert", "nodes": 12, "m": 2, "seed": 3},
        "task": {"train_samples": 24, "test_samples": 4},
        "model": {"sizes": [10, 4, 1]},
        "training": {"epochs": 3, "batch": 8, "wave": 3},
        "optimizer": {"kind": "d_sgd", "lr": 1e-2},
    }
    for section, values in changed.items():
        content[section] = {**content.get(section, {}), **values} if isinstance(values, dict) else values
    return content


def policies(channel: dict[str, Any], features: str, parameters: str) -> dict[str, Any]:
    return {
        **channel,
        "features": {**channel.get("features", {}), "missing": features},
        "parameters": {**channel.get("parameters", {}), "missing": parameters},
    }


def theta(ranks: int = 1, **changed: Any) -> np.ndarray:
    return fdtrain.run(config(**changed), ranks=ranks, verify=False).theta


PLAIN: dict[str, np.ndarray] = {}


def plain(**changed: Any) -> np.ndarray:
    key = repr(changed)
    if key not in PLAIN:
        PLAIN[key] = theta(**changed)
    return PLAIN[key]


@pytest.mark.parametrize("loss", NEVER)
@pytest.mark.parametrize("delay", AT_ONCE)
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_without_a_loss_every_model_and_policy_gives_the_bits_of_the_plain_run(
    loss: str, delay: str, features: str, parameters: str
) -> None:
    field: dict[str, Any] = {"loss": 0.0 if loss == "rate" else NEVER[loss]}
    if AT_ONCE[delay] is not None:
        field["delay"] = AT_ONCE[delay]
    channel = {"loss": field["loss"], "features": field, "backward": field, "parameters": field}
    assert np.array_equal(theta(channel=policies(channel, features, parameters)), plain())


APPROACHES = [
    ("piggyback_do", "d_sgd", 1), ("piggyback_do", "d_adam", 1), ("piggyback_do", "d_amsgrad", 1),
    ("piggyback_do", "gradient_tracking", 1), ("piggyback", "d_sgd", 2), ("per_batch", "d_adam", 3),
    ("per_sample", "naive_sgd", 2), ("per_batch", "naive_adam", 1), ("piggyback", "naive_sgd", 1),
]  # fmt: skip
RULES = [(f, p) for f in FEATURES for p in PARAMETERS]


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize(("scheme", "kind", "rounds"), APPROACHES)
def test_no_loss_changes_no_bit_of_any_approach(scheme: str, kind: str, rounds: int, form: str) -> None:
    changed: dict[str, Any] = {
        "model": {"form": form},
        "training": {"scheme": scheme, "consensus_rounds": rounds},
        "optimizer": {"kind": kind},
        "topology": {"kind": "erdos_renyi", "nodes": 12, "p": 0.3, "m": None, "redraw": {"every": 2}},
    }
    changed["topology"] = {key: value for key, value in changed["topology"].items() if value is not None}
    content = config(**changed)
    content["topology"].pop("m")
    wanted = fdtrain.run(content, verify=False).theta
    last = "keep_own" if kind.startswith("naive") else "push_sum"
    for features, parameters in [("zero", "keep_own"), ("hold", "hold"), ("drop_edge", last)]:
        channel = policies({"loss": 0.0, "backward": {"loss": 0.0}}, features, parameters)
        assert np.array_equal(fdtrain.run({**content, "channel": channel}, verify=False).theta, wanted)


def check_lossy(content: dict[str, Any], minibatches: int, ranks: int = 1) -> None:
    """Every θ, from different ones, and every count, as the oracle has them by the same draws."""

    made = build(from_mapping(content))
    agreement, counts = teams.led(lambda team: Verifier(made, team).lossy(minibatches), ranks)
    assert agreement.error <= 1e-10, agreement
    assert counts.error == 0, counts


ALONE: dict[str, dict[str, Any]] = {
    "loss of messages": {"loss": 0.3},
    "bursts": {"loss": BURSTS, "parameters": {"loss": BURSTS}},
    "features": {"features": {"loss": 0.4}},
    "late features": {"features": {"delay": {"kind": "geometric", "mean": 2.0}}},
    "backward terms": {"backward": {"loss": 0.4, "delay": {"kind": "uniform", "high": 1}}},
    "parameters": {"parameters": {"loss": 0.4}},
    "late parameters": {"parameters": {"delay": {"kind": "uniform", "high": 20}}},
    "very late parameters": {"parameters": {"loss": 0.2, "delay": {"kind": "geometric", "mean": 25.0}}},
    "outages": {"outages": HARSH["outages"]},
    "partitions": {"partitions": HARSH["partitions"]},
    "crashes": {"crashes": HARSH["crashes"]},
    "everything": HARSH,
}


@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize("trouble", ALONE)
@pytest.mark.parametrize(("features", "parameters"), RULES)
def test_with_loss_every_parameter_is_the_oracles(
    features: str, parameters: str, trouble: str, redrawn: bool
) -> None:
    content = config(channel=policies(ALONE[trouble], features, parameters), training={"epochs": 4})
    if redrawn:
        content["topology"] = {"kind": "erdos_renyi", "nodes": 12, "p": 0.3, "redraw": {"every": 2}}
    check_lossy(content, minibatches=12)


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize(("scheme", "kind", "rounds"), APPROACHES)
def test_with_loss_every_approach_is_the_oracles(scheme: str, kind: str, rounds: int, form: str) -> None:
    naive = kind.startswith("naive")
    for features, parameters in [("hold", "keep_own"), ("drop_edge", "hold"), ("zero", "push_sum")]:
        content = config(
            channel=policies(HARSH, features, "hold" if naive and parameters == "push_sum" else parameters),
            model={"form": form, "sizes": [10, 4, 3, 1], "shift": "gcn"},
            training={"scheme": scheme, "consensus_rounds": rounds, "epochs": 4, "batch": 5, "wave": 2},
            optimizer={"kind": kind, "lr": 1e-3, "clip_norm": 1.0},
        )
        check_lossy(content, minibatches=12, ranks=2)


@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize("delay", [15, 60])
@pytest.mark.parametrize(("scheme", "rounds"), [("per_batch", 1), ("per_batch", 3), ("piggyback_do", 1)])
def test_what_a_node_misses_while_it_is_down_comes_with_what_was_sent_later(
    scheme: str, rounds: int, delay: int, redrawn: bool
) -> None:
    content = config(
        channel={
            "features": {"missing": "hold"},
            "parameters": {
                "loss": 0.2, "delay": {"kind": "uniform", "high": delay}, "missing": "push_sum"
            },
            "crashes": [{"nodes": [3, 7], "start": 2, "stop": 3}, {"nodes": [1, 5], "start": 4, "stop": 5}],
        },
        training={"scheme": scheme, "consensus_rounds": rounds},
    )  # fmt: skip
    if redrawn:
        content["topology"] |= {"redraw": {"every": 3}}
    for seed in range(3):
        check_lossy({**content, "seed": seed}, minibatches=9)


@pytest.mark.parametrize("slices", ["even", "idle"])
def test_with_loss_slices_of_any_kind_are_the_oracles(slices: str) -> None:
    for parameters in PARAMETERS:
        training = {"slices": slices, "wave": 1, "batch": 7, "epochs": 3}
        check_lossy(config(channel=policies(HARSH, "hold", parameters), training=training), minibatches=12)


@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize(("features", "parameters"), RULES)
def test_packing_changes_nothing_of_what_is_lost(features: str, parameters: str, redrawn: bool) -> None:
    content = config(channel=policies(HARSH, features, parameters), training={"epochs": 4})
    if redrawn:
        content["topology"] = {"kind": "erdos_renyi", "nodes": 12, "p": 0.3, "redraw": {"every": 2}}
    runs = [fdtrain.run(content, ranks=ranks, verify=False) for ranks in (1, 3, 12)]
    assert not np.array_equal(runs[0].theta, plain())
    for run in runs[1:]:
        assert np.array_equal(run.theta, runs[0].theta)
        assert [row.columns() for row in run.rows] == [row.columns() for row in runs[0].rows]
        assert run.ledger.total == runs[0].ledger.total
        assert run.ledger.fields == runs[0].ledger.fields
    train = runs[0].ledger.fields["train", "features"]
    assert 0 < train.late_messages < train.lost_messages < train.link_messages


@pytest.mark.parametrize(("scheme", "kind", "rounds"), APPROACHES)
def test_packing_changes_nothing_of_any_approach(scheme: str, kind: str, rounds: int) -> None:
    for parameters in ("keep_own", "hold") if kind.startswith("naive") else PARAMETERS:
        content = config(
            channel=policies(HARSH, "drop_edge", parameters),
            training={"scheme": scheme, "consensus_rounds": rounds},
            optimizer={"kind": kind},
        )
        one, four = (fdtrain.run(content, ranks=ranks, verify=False).theta for ranks in (1, 4))
        assert np.array_equal(one, four)


def captured(monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], ranks: int = 1) -> list[Engine]:
    """The engines of a run."""
    engines: list[Engine] = []
    make = training.make_engine

    def remember(*arguments: Any) -> Engine:
        engines.append(make(*arguments))
        return engines[-1]

    monkeypatch.setattr(training, "make_engine", remember)
    teams.run(build(from_mapping(content)), ranks)
    return engines


def masses(engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """Mass and weight of every number, on nodes and links together."""
    assert engine.links is not None
    weights = engine.links.weights
    assert weights is not None
    state = engine.snapshot().links
    sent = np.zeros((engine.n, weights.travelling))
    weights.send(engine.optimizer.outgoing(engine.state, engine.grad), sent)
    total = sent.sum(axis=0)
    shares = state[f"{BESIDE}the weights that it was sent with"]
    known = {(i, j): w for i, j, (w,) in zip(shares.receivers, shares.senders, shares.rows, strict=True)}
    for name, kept in state.items():
        if name in ("mass owed", "mass come late") or name.endswith("/mass"):
            start = int(name.split("/")[3]) if name.endswith("/mass") else 0
            for i, j, row in zip(kept.receivers, kept.senders, kept.rows, strict=True):
                if row.any():
                    total[start : start + len(row)] += known[i, j] * row
    mass, weight = weights.split(total[None])
    return mass[0], weight[0]


@pytest.mark.parametrize("scheme", ["piggyback_do", "per_batch"])
@pytest.mark.parametrize("redrawn", [False, True])
@pytest.mark.parametrize("trouble", ["loss", "everything"])
def test_push_sum_conserves_the_average(
    scheme: str, redrawn: bool, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 30 % of the parameters lost, over 240 mixings and a learning rate that changes nothing."""
    channel = {"parameters": {"loss": 0.3}}
    if trouble == "everything":
        channel = {**HARSH, "parameters": {"loss": 0.3, "delay": {"kind": "geometric", "mean": 4.0}}}
    content = config(
        channel=policies(channel, "zero", "push_sum"),
        training={"epochs": 80, "scheme": scheme, "wave": 8},
        optimizer={"lr": 1e-300},
        model={"init": {"kind": "uniform", "per_node": True}},
    )
    if redrawn:
        content["topology"] = {"kind": "erdos_renyi", "nodes": 12, "p": 0.3, "redraw": {"every": 3}}
    (engine,) = captured(monkeypatch, content)
    before = build(from_mapping(content)).theta
    mass, weight = masses(engine)
    wanted = before.sum(axis=0)
    assert np.abs(mass - wanted).max() <= 1e-12 * np.abs(wanted).max()
    assert np.abs(weight - 12).max() <= 1e-12 * 12
    assert engine.links is not None
    assert engine.links.weights is not None
    assert np.abs(engine.links.weights.values - 1.0).max() > 0.01
    if trouble == "loss" and not redrawn:  # and the nodes agree on it
        assert np.abs(engine.theta - before.mean(axis=0)).max() < 1e-3


def test_what_is_lost_is_counted() -> None:
    """All of one field, and nothing of the others."""
    run = fdtrain.run(config(channel={"backward": {"loss": 1.0}}), verify=False)
    fields = run.ledger.fields
    assert fields["train", "backward"].lost_messages == fields["train", "backward"].link_messages
    assert fields["train", "features"].lost_messages == fields["train", "slice"].lost_messages == 0
    assert run.ledger.total["train"].lost_messages == fields["train", "backward"].link_messages
    assert run.ledger.total["test"].lost_messages == run.ledger.total["setup"].lost_messages == 0


def test_the_rate_of_loss_is_that_of_the_model() -> None:
    stationary = 0.1 / 0.5
    for loss, rate in [(0.3, 0.3), (BURSTS, stationary)]:
        run = fdtrain.run(config(channel={"features": {"loss": loss}}, training={"epochs": 30}), verify=False)
        count = run.ledger.fields["train", "features"]
        assert abs(count.lost_messages / count.link_messages - rate) < 0.02


def test_a_node_that_is_down_does_not_train_and_comes_back_with_what_it_had() -> None:
    whole = [{"nodes": [3], "start": 0}]
    for kind in ("d_sgd", "d_adam", "gradient_tracking"):
        start = build(from_mapping(config())).theta
        end = theta(channel={"crashes": whole}, optimizer={"kind": kind})
        assert np.array_equal(end[3], start[3])
        assert (end[2] != start[2]).any()
    back = theta(channel={"crashes": [{"nodes": [3], "start": 0, "stop": 2}]})
    assert (back[3] != start[3]).any()


def test_the_parts_of_a_partition_do_not_hear_of_each_other() -> None:
    """What one part learns from does not matter to the other."""
    part = {
        "channel": {"partitions": [{"nodes": [0, 1, 2, 3, 4], "start": 0}], "features": {"missing": "zero"}}
    }
    one = theta(**part)
    crashed = theta(channel={**part["channel"], "crashes": [{"nodes": [9], "start": 4}]})
    assert np.array_equal(one[:5], crashed[:5])
    assert not np.array_equal(one[5:], crashed[5:])


def test_nodes_that_are_down_are_not_measured() -> None:
    """The mean over the others, each on its own: nobody hears anybody."""
    silence: dict[str, Any] = {"loss": 1.0, "features": {"missing": "zero"}}
    whole = fdtrain.run(config(channel=silence, training={"epochs": 1, "batch": 24}), verify=False)
    parts = [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11]]
    means = [
        fdtrain.run(
            config(channel={**silence, "crashes": [{"nodes": down}]}, training={"epochs": 1, "batch": 24}),
            verify=False,
        )
        .rows[0]
        .train
        for down in parts
    ]
    assert means[0] != means[1]
    assert np.isclose((7 * means[0] + 5 * means[1]) / 12, whole.rows[0].train, rtol=1e-12)


@pytest.mark.parametrize("model", [Uniform(2, 6), Geometric(3.0, 100)])
def test_delays_have_their_mean(model: Uniform | Geometric) -> None:
    u = (np.arange(100_000) + 0.5) / 100_000
    found = model.rounds_of(u)
    assert found.min() == (2 if isinstance(model, Uniform) else 0)
    assert abs(found.mean() - (4 if isinstance(model, Uniform) else 3)) < 0.01


def test_links_are_remembered_through_changes_and_snapshots() -> None:
    store = LinkStore()
    link = lambda *pairs: (np.array([i for i, _ in pairs]), np.array([j for _, j in pairs]))  # noqa: E731
    store.rewire(*link((0, 1), (0, 2), (1, 0)))
    held, owed = store.get("held", (1,), fill=-1.0), store.get("mass", (1,))
    held[:, 0], owed[:, 0] = [1, 2, 3], [10, 20, 30]
    store.rewire(*link((0, 2), (1, 0), (1, 2)))
    assert store.get("held", (1,)).ravel().tolist() == [2, 3, -1]
    assert store.get("mass", (1,)).ravel().tolist() == [20, 30, 0]
    kept = store.snapshot()
    assert kept["mass"].rows.ravel().tolist() == [20, 30, 0, 10]
    store.rewire(*link((0, 1), (1, 0)))
    assert store.get("held", (1,)).ravel().tolist() == [-1, 3]
    assert store.get("mass", (1,)).ravel().tolist() == [10, 30]
    other = LinkStore()
    other.rewire(*link((1, 0), (1, 2)))
    other.restore(kept)
    assert other.get("held", (1,), fill=-1.0).ravel().tolist() == [3, -1]
    assert other.get("mass", (1,)).ravel().tolist() == [30, 0]
    other.rewire(*link((0, 1), (0, 2)))
    assert other.get("mass", (1,)).ravel().tolist() == [10, 20]


def test_push_sum_is_refused_where_a_node_would_send_more_than_it_has() -> None:
    mixing = {"kind": "laplacian", "beta": 0.15}
    content = config(channel=PUSH, optimizer={"mixing": mixing}, topology={"kind": "complete", "nodes": 10})
    content["topology"].pop("m")
    with pytest.raises(InputError, match=r"push_sum needs W_ii above 0, and node 0 of degree 9 has -0\.35"):
        fdtrain.run(content)
    mixing["beta"] = 0.1
    fdtrain.run(content)


def test_what_changes_nothing_is_said() -> None:
    channel = {
        "outages": [{"links": [[0, 1], [10, 11]], "start": 9}],
        "crashes": [{"nodes": [3], "start": 8}],
        "partitions": [{"fraction": 0.5, "start": 20, "stop": 30}],
    }
    made = build(from_mapping(config(channel=channel)))
    assert made.job.channel is not None
    graph = made.topology.graph(0)
    assert [10, 11] not in graph.edges().tolist()
    assert made.job.channel.idle(9, graph) == [
        "channel.outages: one starts at mini-batch 9, of 9 (from 0)",
        "channel.partitions: one starts at mini-batch 20, of 9 (from 0)",
        "channel.outages: there is no link [10, 11]",
    ]
    assert made.job.channel.idle(31, None) == []


def test_links_without_mass_are_forgotten() -> None:
    """However often the network changes, what is kept does not grow."""
    store, draws = LinkStore(), np.random.default_rng(0)
    for _ in range(50):
        receivers, senders = np.unravel_index(np.sort(draws.choice(400, 30, replace=False)), (20, 20))
        store.rewire(receivers, senders)
        owed, beside = store.get("mass", (3,)), store.get(f"{BESIDE}weights", (1,))
        owed[:, 1], beside[:] = np.where(receivers == 4, 1.0, 0.0), 0.5
    kept = store.snapshot()
    mass, weights = kept["mass"], kept[f"{BESIDE}weights"]
    assert 2 < np.count_nonzero(mass.rows.any(axis=1)) <= 20
    assert len(mass.rows) == len(weights.rows) <= 30 + 20
    assert set(mass.receivers[30:]) == {4}


def test_what_is_under_way_arrives_in_the_order_of_sending() -> None:
    underway, store = Underway(), LinkStore()
    store.rewire(np.array([0, 0]), np.array([1, 2]))
    underway.send(3, np.array([4, 1]), "mass", 0, np.array([0, 1]), np.array([[1.0], [2.0]]))
    underway.send(5, np.array([2]), "mass", 0, np.array([0]), np.array([[3.0]]))
    kept: dict[str, Kept] = underway.snapshot(store)
    for queue in (underway, Underway()):
        queue.restore(kept, store)
        assert [parcel.rows.tolist() for parcel in queue.arrived(4)] == [[[2.0]]]
        assert not queue.arrived(6)
        assert [parcel.rows.tolist() for parcel in queue.arrived(7)] == [[[1.0]], [[3.0]]]
        assert not queue.arrived(99)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"channel": {"loss": 1.5}}, "channel.loss"),
        ({"channel": {"loss": {"kind": "gilbert_eliott"}}}, "gilbert_elliott"),
        ({"channel": {"features": {"missing": "push_sum"}}}, "missing"),
        ({"channel": {"parameters": {"delay": {"kind": "uniform", "low": 3, "high": 2}}}}, "low"),
        ({"channel": {"outages": [{"links": [[0, 12]]}]}}, "below 12"),
        ({"channel": {"crashes": [{"nodes": [12]}]}}, "below 12"),
        ({"channel": {"partitions": [{"start": 3}]}}, "neither"),
        ({"channel": {"crashes": [{"nodes": [*range(7)]}, {"nodes": [*range(7, 12)], "start": 4}]}}, "batch 4"),
        ({"channel": {"crashes": [{"nodes": [1], "start": 3, "stop": 3}]}}, "stop"),
        (
            {"channel": PUSH, "optimizer": {"kind": "naive_sgd"}, "training": {"scheme": "per_batch"}},
            "naive_sgd",
        ),
        (
            {"channel": PUSH, "training": {"scheme": "inference"}},
            "piggyback",
        ),
        ({"channel": {}, "training": {"mode": "centralized"}, "optimizer": {"kind": "sgd"}}, "centralized"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        build(from_mapping(config(**changed)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["piggyback_do", "per_batch"])
def test_push_sum_survives_a_silence_of_any_length(scheme: str) -> None:
    """The weight of a node that hears nobody shrinks by a factor in every mixing; 0/0 must not come of it."""
    alone = {"outages": [{"links": [[11, j] for j in range(11)], "start": 0, "stop": 1500}]}
    content = config(channel=policies(alone, "zero", "push_sum"), training={"scheme": scheme, "epochs": 600})
    content["training"]["wave"] = 8
    run = fdtrain.run(content, verify=False)
    disagreements = [row.disagreement for row in run.rows]
    assert np.isfinite(disagreements).all()
    assert disagreements[-1] < 0.5 * disagreements[499]


def test_a_snapshot_of_what_is_under_way_stays_as_it_was() -> None:
    """Ranks that are threads go on while rank 0 writes what they told it."""
    links, underway = LinkStore(), Underway()
    links.rewire(np.array([0, 1]), np.array([1, 0]))
    underway.send(0, np.array([2, 2]), "mass", 0, np.array([0, 1]), np.array([[3.0], [4.0]]))
    (kept,) = underway.snapshot(links).values()
    underway.scale("mass", np.array([[2.0], [2.0]]))
    underway.overtake("mass", 1, slice(0, 1), np.array([True, True]), np.zeros((2, 1)))
    assert kept.rows.tolist() == [[3.0], [4.0]]
