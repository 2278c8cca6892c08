"""Schedules against SPEC §5: numbers from the table, slots by hand, and checks that catch what is wrong."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from fdtrain.errors import InputError
from fdtrain.formulas import expected_numbers, expected_rounds
from fdtrain.layers.gcnn import gcnn_outline
from fdtrain.rounds import Field, Round, wave_sizes
from fdtrain.schedule import Schedule, build, check
from fdtrain.schemes import SCHEMES

SIZES = (7, 5, 4, 3, 2)  # g_0 … g_4, all different
SMALL = gcnn_outline((3, 2, 1), "receiver")
PUBLISHED = gcnn_outline((10, 10, 1), "receiver")
CASES = [
    pytest.param(depth, batch, wave, form, id=f"L{depth}-B{batch}-w{wave}-{form}")
    for depth, batch, form in product((1, 2, 3, 4), (1, 3, 10, 100), ("receiver", "sender"))
    for wave in sorted({1, min(3, batch), min(7, batch), batch})
]


def fwd(layer: int, wave: int, width: int) -> Field:
    return Field("features", width, layer, wave)


def bwd(layer: int, wave: int, width: int) -> Field:
    return Field("backward", width, layer, wave)


def part(start: int, width: int) -> Field:
    return Field("slice", width, start=start)


def mix(step: int, wave: int, width: int) -> Field:
    return Field("consensus", width, wave=wave, step=step)


def table(
    scheme: str, g: tuple[int, ...], B: int, w: int, form: str, travelling: int, K: int
) -> tuple[int, int]:
    """Rounds and numbers of a mini-batch, SPEC §5's table spelled out."""
    L, B_ = len(g) - 1, -(-B // w)
    x, y = (2 * L - 1, L - 1) if form == "receiver" else (2 * L, L)
    rounds = {
        "inference": L * B_,
        "per_sample": B_ * x + B_ * K,
        "per_batch": B_ * x + K,
        "piggyback": L * B_ + y + K,
        "piggyback_do": L * B_ + y,
    }
    exchanges = {"inference": 0, "per_sample": B_ * K, "per_batch": K, "piggyback": K, "piggyback_do": 1}
    forward = sum(g[:L]) if form == "receiver" else sum(g[1:])
    backward = sum(g[1:L]) if form == "receiver" else sum(g[1:])
    backward *= scheme != "inference"
    return rounds[scheme], B * (forward + backward) + travelling * exchanges[scheme]


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize(("depth", "batch", "wave", "form"), CASES)
def test_table(depth: int, batch: int, wave: int, form: Any, K: int) -> None:
    g = SIZES[: depth + 1]
    sixths: Any = [
        ("even", 0),
        ("idle", 0),
        ("even", 83),
        ("idle", 2 * depth),
        ("even", 1009),
        ("idle", 1009),
    ]
    for scheme in SCHEMES:
        for slices, travelling in sixths if scheme == "piggyback_do" else [("idle", 0), ("idle", 83)]:
            schedule = build(
                scheme, outline=gcnn_outline(g, form), batch=batch, wave=wave, travelling=travelling, slices=slices,
                consensus=K,
            )  # fmt: skip
            rounds, numbers = table(scheme, g, batch, wave, form, travelling, K)
            assert len(schedule.rounds) == rounds == expected_rounds(schedule)
            assert schedule.numbers == numbers == expected_numbers(schedule)
            assert schedule.numbers == sum(sum(f.width for f in r.fields) for r in schedule.rounds)
            assert schedule.average_width == numbers / rounds
            assert schedule.peak_width == max(sum(f.width for f in r.fields) for r in schedule.rounds)
            assert schedule.depth == depth
            assert schedule.trains is (scheme != "inference")
            assert schedule.exchange == EXCHANGES[scheme]
            assert schedule.consensus == (K if schedule.exchange.startswith("after") else 0)
            assert sum(schedule.waves) == batch
            assert set(schedule.waves[:-1]) <= {wave}
            assert 1 <= schedule.waves[-1] <= wave
            parts = {kind: schedule.numbers_of(kind) for kind in KINDS}
            assert sum(parts.values()) == numbers
            assert parts["features"] == table("inference", g, batch, wave, form, 0, K)[1]
            assert parts["slice"] == (travelling if scheme == "piggyback_do" else 0)
            assert parts["consensus"] == numbers - parts["features"] - parts["backward"] - parts["slice"]
            check(schedule)


KINDS: tuple[Any, ...] = ("features", "backward", "slice", "consensus")
EXCHANGES = {
    "inference": "never",
    "per_sample": "after_wave",
    "per_batch": "after_batch",
    "piggyback": "after_batch",
    "piggyback_do": "along",
}


def test_the_table_has_every_scheme() -> None:
    assert set(SCHEMES) == set(EXCHANGES)


@pytest.mark.parametrize(("depth", "batch", "wave", "form"), CASES)
def test_slots(depth: int, batch: int, wave: int, form: Any) -> None:
    """Round bL + l has X^l(b) and, while l ≤ L − 2 (sender: L − 1), layer L − l's term of wave b − 1."""
    g = SIZES[: depth + 1]
    schedule = build("piggyback_do", outline=gcnn_outline(g, form), batch=batch, wave=wave)
    waves, back = schedule.waves, depth - 1 if form == "receiver" else depth
    width = (lambda layer: g[layer - 1]) if form == "receiver" else (lambda layer: g[layer])
    slots = []
    for r in range(len(schedule.rounds)):
        b, l = divmod(r, depth)  # noqa: E741
        tail = b >= len(waves)
        if tail:  # the backward terms of the last wave, whatever their number
            b, l = len(waves), r - len(waves) * depth  # noqa: E741
        wanted = [] if tail else [fwd(l + 1, b, waves[b] * width(l + 1))]
        if b >= 1 and l < back:
            wanted.append(bwd(depth - l, b - 1, waves[b - 1] * width(depth - l)))
        slots.append(tuple(wanted))
    assert [round_.fields for round_ in schedule.rounds] == slots
    assert [round_.has_backward for round_ in schedule.rounds] == [
        any(f.kind == "backward" for f in fields) for fields in slots
    ]

    forward = [[(fwd(k, b, w * width(k)),) for k in range(1, depth + 1)] for b, w in enumerate(waves)]
    backward = [
        [(bwd(depth - k, b, w * width(depth - k)),) for k in range(back)] for b, w in enumerate(waves)
    ]
    consensus = [[(mix(k, b, 83),) for k in (1, 2, 3)] for b in range(len(waves))]
    every = range(len(waves))
    wanted_slots = {
        "inference": [slot for b in every for slot in forward[b]],
        "per_sample": [slot for b in every for slot in forward[b] + backward[b] + consensus[b]],
        "per_batch": [slot for b in every for slot in forward[b] + backward[b]] + consensus[-1],
        "piggyback": slots + consensus[-1],
    }
    for scheme, fields in wanted_slots.items():
        found = build(
            scheme, outline=gcnn_outline(g, form), batch=batch, wave=wave, travelling=83, consensus=3
        )
        assert [round_.fields for round_ in found.rounds] == fields, scheme


@pytest.mark.parametrize("slices", ["even", "idle"])
@pytest.mark.parametrize(("depth", "batch", "wave", "form"), CASES)
def test_slices_cover_what_travels_once(depth: int, batch: int, wave: int, form: Any, slices: Any) -> None:
    for travelling in (0, 1, 5, 83, 1009):
        schedule = build(
            "piggyback_do", outline=gcnn_outline(SIZES[: depth + 1], form), batch=batch, wave=wave,
            travelling=travelling, slices=slices,
        )  # fmt: skip
        position, widths = 0, []
        for round_ in schedule.rounds:
            riding = [f for f in round_.fields if f.kind == "slice"]
            assert len(riding) <= 1
            for f in riding:
                assert f.start == position
                assert f.width >= 1
                position += f.width
            free = slices == "even" or not any(f.kind == "backward" for f in round_.fields)
            if free:
                widths.append(riding[0].width if riding else 0)
            else:
                assert not riding
        assert position == travelling
        assert max(widths) - min(widths) <= 1  # spread evenly over all rounds that may carry one


def test_receiver_form_by_hand() -> None:
    """L = 3, B = 5, w = 2: waves of 2, 2, 1 samples; 10 numbers ride where no backward term does."""
    schedule = build(
        "piggyback_do",
        outline=gcnn_outline((4, 3, 2, 1), "receiver"),
        batch=5,
        wave=2,
        travelling=10,
        slices="idle",
    )
    assert schedule.waves == (2, 2, 1)
    assert [round_.fields for round_ in schedule.rounds] == [
        (fwd(1, 0, 8), part(0, 2)),
        (fwd(2, 0, 6), part(2, 2)),
        (fwd(3, 0, 4), part(4, 2)),
        (fwd(1, 1, 8), bwd(3, 0, 4)),
        (fwd(2, 1, 6), bwd(2, 0, 6)),
        (fwd(3, 1, 4), part(6, 2)),
        (fwd(1, 2, 4), bwd(3, 1, 4)),
        (fwd(2, 2, 3), bwd(2, 1, 6)),
        (fwd(3, 2, 2), part(8, 2)),
        (bwd(3, 2, 2),),
        (bwd(2, 2, 3),),
    ]
    assert (schedule.numbers, schedule.peak_width) == (80, 12)
    assert schedule.average_width == 80 / 11


def test_consensus_in_the_receiver_form_by_hand() -> None:
    """L = 3, B = 3, w = 2: waves of 2 and 1 samples; 5 numbers are mixed K = 2 times."""
    outline = gcnn_outline((4, 3, 2, 1), "receiver")
    arguments: Any = {"outline": outline, "batch": 3, "wave": 2, "travelling": 5, "consensus": 2}
    first = [(fwd(1, 0, 8),), (fwd(2, 0, 6),), (fwd(3, 0, 4),), (bwd(3, 0, 4),), (bwd(2, 0, 6),)]
    second = [(fwd(1, 1, 4),), (fwd(2, 1, 3),), (fwd(3, 1, 2),), (bwd(3, 1, 2),), (bwd(2, 1, 3),)]
    end = [(mix(1, 1, 5),), (mix(2, 1, 5),)]
    per_sample = build("per_sample", **arguments)
    assert [r.fields for r in per_sample.rounds] == [*first, (mix(1, 0, 5),), (mix(2, 0, 5),), *second, *end]
    assert (per_sample.numbers, per_sample.peak_width, per_sample.consensus) == (42 + 20, 8, 2)
    per_batch = build("per_batch", **arguments)
    assert [r.fields for r in per_batch.rounds] == [*first, *second, *end]
    assert (per_batch.numbers, per_batch.peak_width, per_batch.consensus) == (42 + 10, 8, 2)
    piggyback = build("piggyback", **arguments)
    assert [r.fields for r in piggyback.rounds] == [
        (fwd(1, 0, 8),),
        (fwd(2, 0, 6),),
        (fwd(3, 0, 4),),
        (fwd(1, 1, 4), bwd(3, 0, 4)),
        (fwd(2, 1, 3), bwd(2, 0, 6)),
        (fwd(3, 1, 2),),
        (bwd(3, 1, 2),),
        (bwd(2, 1, 3),),
        *end,
    ]
    assert (piggyback.numbers, piggyback.peak_width, piggyback.consensus) == (42 + 10, 9, 2)


def test_consensus_in_the_sender_form_by_hand() -> None:
    """L = 2, B = 2, w = 1, K = 1: all layers have a backward term; the peak is the message of consensus."""
    arguments: Any = {"outline": gcnn_outline((4, 3, 2), "sender"), "batch": 2, "travelling": 9}
    first = [(fwd(1, 0, 3),), (fwd(2, 0, 2),), (bwd(2, 0, 2),), (bwd(1, 0, 3),)]
    second = [(fwd(1, 1, 3),), (fwd(2, 1, 2),), (bwd(2, 1, 2),), (bwd(1, 1, 3),)]
    per_sample, per_batch, piggyback = (
        build(scheme, **arguments) for scheme in ("per_sample", "per_batch", "piggyback")
    )
    assert [r.fields for r in per_sample.rounds] == [*first, (mix(1, 0, 9),), *second, (mix(1, 1, 9),)]
    assert [r.fields for r in per_batch.rounds] == [*first, *second, (mix(1, 1, 9),)]
    assert [r.fields for r in piggyback.rounds] == [
        *first[:2],
        (fwd(1, 1, 3), bwd(2, 0, 2)),
        (fwd(2, 1, 2), bwd(1, 0, 3)),
        *second[2:],
        (mix(1, 1, 9),),
    ]
    assert [schedule.peak_width for schedule in (per_sample, per_batch, piggyback)] == [9, 9, 9]


def test_one_layer_in_the_receiver_form_has_no_backward_rounds() -> None:
    """L = 1: the gradient is complete after the forward round of the last wave."""
    arguments: Any = {"outline": gcnn_outline((4, 3), "receiver"), "batch": 2, "travelling": 9}
    found = {scheme: build(scheme, **arguments) for scheme in SCHEMES}
    assert [r.fields for r in found["piggyback"].rounds] == [
        (fwd(1, 0, 4),),
        (fwd(1, 1, 4),),
        (mix(1, 1, 9),),
    ]
    assert [r.fields for r in found["per_sample"].rounds] == [
        (fwd(1, 0, 4),), (mix(1, 0, 9),), (fwd(1, 1, 4),), (mix(1, 1, 9),),
    ]  # fmt: skip
    assert found["per_batch"].rounds == found["piggyback"].rounds


def test_sender_form_by_hand() -> None:
    """L = 2, B = 3, w = 1: a backward term rides in every round after the first wave."""
    even = build(
        "piggyback_do",
        outline=gcnn_outline((4, 3, 2), "sender"),
        batch=3,
        wave=1,
        travelling=4,
        slices="even",
    )
    assert [round_.fields for round_ in even.rounds] == [
        (fwd(1, 0, 3),),
        (fwd(2, 0, 2), part(0, 1)),
        (fwd(1, 1, 3), bwd(2, 0, 2)),
        (fwd(2, 1, 2), bwd(1, 0, 3), part(1, 1)),
        (fwd(1, 2, 3), bwd(2, 1, 2)),
        (fwd(2, 2, 2), bwd(1, 1, 3), part(2, 1)),
        (bwd(2, 2, 2),),
        (bwd(1, 2, 3), part(3, 1)),
    ]
    idle = build("piggyback_do", outline=gcnn_outline((4, 3, 2), "sender"), batch=3, travelling=4)
    assert [[f for f in round_.fields if f.kind == "slice"] for round_ in idle.rounds] == [
        [part(0, 2)], [part(2, 2)], [], [], [], [], [], [],
    ]  # fmt: skip


def test_published_regression() -> None:
    """SPEC §6 A: L = 2, sizes 10-10-1, B = 100, |θ| = 220: 201 rounds, and 3220 numbers."""
    schedule = build("piggyback_do", outline=PUBLISHED, batch=100, wave=1, travelling=220)
    assert len(schedule.rounds) == 201
    assert schedule.numbers == 100 * (10 + 10 + 10) + 220
    assert schedule.peak_width == 20
    assert build("piggyback_do", outline=PUBLISHED, batch=100, wave=100, travelling=220).numbers == 3220
    naive = build("per_sample", outline=PUBLISHED, batch=100, travelling=220)
    assert (len(naive.rounds), naive.numbers, naive.peak_width) == (400, 100 * (30 + 220), 220)
    reuse = build("per_batch", outline=PUBLISHED, batch=100, travelling=220)
    assert (len(reuse.rounds), reuse.numbers, reuse.peak_width) == (301, 3220, 220)
    piggyback = build("piggyback", outline=PUBLISHED, batch=100, travelling=220)
    assert (len(piggyback.rounds), piggyback.numbers, piggyback.peak_width) == (202, 3220, 220)


@pytest.mark.parametrize(("batch", "wave", "sizes"), [(5, 2, (2, 2, 1)), (6, 3, (3, 3)), (1, 1, (1,))])
def test_wave_sizes(batch: int, wave: int, sizes: tuple[int, ...]) -> None:
    assert wave_sizes(batch, wave) == sizes


def test_a_schedule_is_a_value() -> None:
    made = [build("piggyback_do", outline=SMALL, batch=4, wave=2, travelling=16) for _ in range(2)]
    assert made[0] == made[1]
    assert hash(made[0]) == hash(made[1])
    assert made[0] != build("piggyback_do", outline=SMALL, batch=4, wave=2, travelling=16, slices="even")
    one, two = (build("per_batch", outline=SMALL, batch=4, travelling=16, consensus=K) for K in (1, 2))
    assert one != two
    assert hash(one) != hash(two)
    assert build("piggyback", outline=SMALL, batch=4, travelling=16) != one


def plan(
    *rounds: tuple[Field, ...],
    travelling: int = 0,
    scheme: str = "piggyback_do",
    batch: int = 1,
    consensus: int = 0,
) -> Schedule:
    """L = 3 in the receiver form, one sample in a wave."""
    return Schedule(
        scheme=scheme, outline=gcnn_outline((1, 1, 1, 1), "receiver"), batch=batch, wave=1,
        travelling=travelling, consensus=consensus, by_sample=False, rounds=tuple(map(Round, rounds)),
    )  # fmt: skip


def batch_of_one(*rounds: tuple[Field, ...], consensus: int = 1) -> Schedule:
    return plan(*rounds, travelling=4, scheme="per_batch", consensus=consensus)


def batch_of_two(scheme: str, *rounds: tuple[Field, ...], consensus: int = 1) -> Schedule:
    return plan(*rounds, travelling=4, scheme=scheme, batch=2, consensus=consensus)


F1, F2, F3, B3, B2 = fwd(1, 0, 1), fwd(2, 0, 1), fwd(3, 0, 1), bwd(3, 0, 1), bwd(2, 0, 1)
C1, C2 = mix(1, 0, 4), mix(2, 0, 4)
WAVES = [[(replace(field, wave=b),) for field in (F1, F2, F3, B3, B2)] for b in (0, 1)]  # of per_batch, B = 2
MIXES = [[(mix(k, b, 4),) for k in (1, 2)] for b in (0, 1)]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (plan((F2,), (F1,), (F3,), (B3,), (B2,)), "round 0 sends .*'features', width=1, layer=2"),
        (plan((F1,), (F3,), (F2,), (B3,), (B2,)), "round 1 sends .*'features', width=1, layer=3"),
        (plan((F1, F2), (F3,), (B3,), (B2,)), "round 0 sends .*layer=2"),  # in the same round is too late
        (plan((F1,), (F2,), (F3, B3), (B2,)), "round 2 sends .*'backward', width=1, layer=3"),
        (plan((F1,), (F2,), (B3,), (F3,), (B2,)), "round 2 sends .*'backward', width=1, layer=3"),
        (plan((F1,), (F2,), (F3,), (B2,), (B3,)), "round 3 sends .*'backward', width=1, layer=2"),
        (plan((F1,), (F2,), (F3,), (B3, B2)), "round 3 sends .*'backward', width=1, layer=2"),
        (plan((F1,), (F2,), (F3,), (bwd(3, 1, 1),)), "round 3 sends .*wave=1.* before .* 1\\) was delivered"),
        (plan((F1,), (fwd(2, 1, 1),)), "round 1 sends .*layer=2, wave=1"),
        (
            plan((F1, part(0, 2)), (F2, part(3, 1)), (F3,), (B3,), (B2,), travelling=4),
            "round 1 sends slice 3, expected 2",
        ),
        (
            plan((F1, part(0, 2)), (F2, part(1, 3)), (F3,), (B3,), (B2,), travelling=4),
            "round 1 sends slice 1, expected 2",
        ),
        (
            plan((F1, part(0, 2)), (F2, part(0, 2)), (F3,), (B3,), (B2,), travelling=4),
            "round 1 sends slice 0, expected 2",
        ),
        (
            plan((F1, part(1, 3)), (F2,), (F3,), (B3,), (B2,), travelling=4),
            "round 0 sends slice 1, expected 0",
        ),
        (
            plan((F1, part(0, 2)), (F2, part(2, 1)), (F3,), (B3,), (B2,), travelling=4),
            "slices carry 3 of 4 numbers",
        ),
        (plan((F1, part(0, 5)), (F2,), (F3,), (B3,), (B2,), travelling=4), "slices carry 5 of 4 numbers"),
        (plan((F1,), (F2,), (F3,), (B3,), (B2,), travelling=1), "slices carry 0 of 1 numbers"),
    ],
)
def test_a_bad_schedule_is_refused(schedule: Schedule, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(schedule)


def test_the_plans_of_the_next_test_are_good_before_they_are_damaged() -> None:
    check(batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,)))
    check(batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), (C2,), consensus=2))
    check(batch_of_two("per_batch", *WAVES[0], *WAVES[1], MIXES[1][0]))
    check(batch_of_two("per_sample", *WAVES[0], MIXES[0][0], *WAVES[1], MIXES[1][0]))
    check(batch_of_two("per_sample", *WAVES[0], *WAVES[1], MIXES[0][0], MIXES[1][0]))  # later is not wrong
    check(batch_of_two("per_sample", *WAVES[0], *MIXES[0], *WAVES[1], *MIXES[1], consensus=2))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        # before the gradient is complete
        (
            batch_of_one((C1,), (F1,), (F2,), (F3,), (B3,), (B2,)),
            "round 0 sends .*'consensus'.* was delivered",
        ),
        (batch_of_one((F1,), (F2,), (F3,), (C1,), (B3,), (B2,)), "before .'backward', 2, 0. was delivered"),
        (batch_of_one((F1,), (F2,), (F3,), (B3,), (C1,), (B2,)), "before .'backward', 2, 0. was delivered"),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2, C1)),
            "round 4 .* before .'backward', 2, 0. was delivered",
        ),
        (
            batch_of_two("per_batch", *WAVES[0], *WAVES[1][:4], MIXES[1][0], *WAVES[1][4:]),
            "round 9 .* before .'backward', 2, 1. was delivered",
        ),
        (
            batch_of_two("per_batch", *WAVES[1], *WAVES[0][:4], MIXES[1][0], *WAVES[0][4:]),
            "round 9 .* before .'backward', 2, 0. was delivered",  # an earlier wave's
        ),
        (
            batch_of_two("piggyback", *WAVES[0], MIXES[1][0], *WAVES[1]),
            "round 5 .* before .'features', 1, 1. was delivered",
        ),
        (
            batch_of_two("per_sample", *WAVES[0], MIXES[0][0], MIXES[1][0], *WAVES[1]),
            "round 6 .* before .'features', 1, 1. was delivered",
        ),
        # steps
        (batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,)), "no round sends consensus of step 1, wave 0"),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), consensus=2),
            "no round sends consensus of step 2, wave 0",
        ),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C2,), consensus=2),
            "round 5 .* before .'consensus', 1, 0. was delivered",
        ),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C2,), (C1,), consensus=2),
            "round 5 .* before .'consensus', 1, 0. was delivered",
        ),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1, C2), consensus=2),
            "round 5 .* before .'consensus', 1, 0. was delivered",
        ),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), (mix(3, 0, 4),), consensus=3),
            "round 6 .* before .'consensus', 2, 0. was delivered",
        ),
        # waves
        (batch_of_two("per_sample", *WAVES[0], *WAVES[1], MIXES[1][0]), "consensus of step 1, wave 0"),
        (
            batch_of_two("per_sample", *WAVES[0], MIXES[0][0], *WAVES[1]),
            "consensus of step 1, wave 1",
        ),
        (batch_of_two("per_batch", *WAVES[0], *WAVES[1], MIXES[0][0]), "consensus"),  # of the wrong wave
        (
            batch_of_two(
                "per_sample",
                *WAVES[0],
                MIXES[0][0],
                MIXES[1][1],
                *WAVES[1],
                MIXES[1][0],
                MIXES[0][1],
                consensus=2,
            ),
            "round 6 .* before .'consensus', 1, 1. was delivered",
        ),
        # widths
        (batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (mix(1, 0, 3),)), "round 5 mixes 3 of 4 numbers"),
        (batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (mix(1, 0, 8),)), "round 5 mixes 8 of 4 numbers"),
        (batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (mix(1, 0, 0),)), "round 5 mixes 0 of 4 numbers"),
        (
            batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), (mix(2, 0, 5),), consensus=2),
            "round 6 mixes 5 of 4 numbers",
        ),
    ],
)
def test_a_bad_consensus_is_refused(schedule: Schedule, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(schedule)


@pytest.mark.parametrize(
    "schedule",
    [
        batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), (C1,)),
        batch_of_one((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), (C2,)),
        batch_of_two("per_batch", *WAVES[0], MIXES[0][0], *WAVES[1], MIXES[1][0]),
        plan((F1,), (F2,), (F3,), (B3,), (B2,), (C1,), travelling=4, scheme="inference"),
        plan((F1, part(0, 4)), (F2,), (F3,), (B3,), (B2,), (C1,), travelling=4),
        batch_of_one((F1, part(0, 4)), (F2,), (F3,), (B3,), (B2,), (C1,)),
        plan((F1,), (F2,), (F3,), (F3,), (B3,), (B2,)),
        plan((F1,), (F2,), (F3,), (B3,), (B2,), (B2,)),
        plan((F1,), (F2,), (F3,), (B3,), scheme="inference"),
    ],
    ids=[
        "a step twice", "a step too many", "a wave's where only the batch has one", "consensus of inference",
        "consensus beside slices", "slices beside consensus", "features twice", "backward twice",
        "backward in inference",
    ],
)  # fmt: skip
def test_what_nobody_needs_is_refused(schedule: Schedule) -> None:
    """Each of these would be mixed twice, or paid for nothing."""
    with pytest.raises(InputError):
        check(schedule)


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_round_of_a_good_schedule_can_be_taken_away(scheme: str, form: Any) -> None:
    """Whatever is left out, something later, a term, or a travelling number is missing."""
    good = build(
        scheme, outline=gcnn_outline((4, 3, 2, 1), form), batch=3, travelling=83, slices="even", consensus=3
    )
    for r in range(len(good.rounds)):
        with pytest.raises(InputError):
            check(replace(good, rounds=good.rounds[:r] + good.rounds[r + 1 :]))


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize(
    "scheme", [scheme for scheme in SCHEMES if scheme not in ("inference", "piggyback_do")]
)
def test_no_round_of_consensus_can_come_earlier(scheme: str, form: Any) -> None:
    """Each needs the round before it: the last backward term of its waves, or the step before."""
    good = build(scheme, outline=gcnn_outline((4, 3, 2), form), batch=5, wave=2, travelling=7, consensus=3)
    rounds = list(good.rounds)
    at = [r for r, round_ in enumerate(rounds) if round_.fields[0].kind == "consensus"]
    assert len(at) == (9 if scheme == "per_sample" else 3)
    for r in at:
        earlier = [*rounds[: r - 1], rounds[r], rounds[r - 1], *rounds[r + 1 :]]
        with pytest.raises(InputError, match=f"round {r - 1} sends .*'consensus'.* before .* was delivered"):
            check(replace(good, rounds=tuple(earlier)))
        wide = Round((replace(rounds[r].fields[0], width=8),))
        with pytest.raises(InputError, match=f"round {r} mixes 8 of 7 numbers"):
            check(replace(good, rounds=(*rounds[:r], wide, *rounds[r + 1 :])))


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("kind", ["features", "backward"])
def test_a_schedule_that_leaves_a_term_out_is_refused(form: Any, kind: str) -> None:
    good = build("piggyback_do", outline=gcnn_outline((3, 2, 1), form), batch=2)
    last = max(r for r, round_ in enumerate(good.rounds) for f in round_.fields if f.kind == kind)
    kept = tuple(f for f in good.rounds[last].fields if f.kind != kind)
    rounds = (*good.rounds[:last], Round(kept), *good.rounds[last + 1 :])
    message = {
        "features": "before .* was delivered",
        "backward": "no round sends backward of layer ., wave 1",
    }
    with pytest.raises(InputError, match=message[kind]):
        check(replace(good, rounds=rounds))


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_term_is_needed(scheme: str, form: Any) -> None:
    good = build(
        scheme, outline=gcnn_outline((4, 3, 2, 1), form), batch=5, wave=2, travelling=10, consensus=2
    )
    for r, round_ in enumerate(good.rounds):
        for k, field in enumerate(round_.fields):
            if field.kind != "slice":
                rest = replace(round_, fields=round_.fields[:k] + round_.fields[k + 1 :])
                with pytest.raises(InputError, match=field.kind):
                    check(replace(good, rounds=(*good.rounds[:r], rest, *good.rounds[r + 1 :])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "gossip"}, f"unknown 'gossip'; known: {', '.join(EXCHANGES)}"),
        ({"batch": 0, "wave": 0}, "1 ≤ wave ≤ batch"),
        ({"wave": 0}, "1 ≤ wave ≤ batch, found batch 4, wave 0"),
        ({"wave": 5}, "1 ≤ wave ≤ batch, found batch 4, wave 5"),
        ({"consensus": 0}, "consensus rounds: must be at least 1, found 0"),
        ({"consensus": -1, "scheme": "per_batch"}, "consensus rounds: must be at least 1, found -1"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"scheme": "piggyback_do", "outline": SMALL, "batch": 4, "wave": 2}
    with pytest.raises(InputError, match=message):
        build(**(arguments | change))
