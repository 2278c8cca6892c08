"""Schedules against SPEC §5: numbers from the table, slots by hand, and checks that catch what is wrong."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from fdtrain.errors import InputError
from fdtrain.schedule import (
    SCHEMES,
    Field,
    Round,
    Schedule,
    build,
    check,
    expected_numbers,
    expected_rounds,
    wave_sizes,
)

SIZES = (7, 5, 4, 3, 2)  # g_0 … g_4, all different
CASES = [
    pytest.param(depth, batch, wave, form, id=f"L{depth}-B{batch}-w{wave}-{form}")
    for depth, batch, form in product((1, 2, 3, 4), (1, 3, 100), ("receiver", "sender"))
    for wave in sorted({1, min(7, batch), batch})
]


def fwd(layer: int, wave: int, width: int) -> Field:
    return Field("features", width, layer, wave)


def bwd(layer: int, wave: int, width: int) -> Field:
    return Field("backward", width, layer, wave)


def part(start: int, width: int) -> Field:
    return Field("slice", width, start=start)


def table(scheme: str, g: tuple[int, ...], B: int, w: int, form: str, travelling: int) -> tuple[int, int]:
    """Rounds and numbers of a mini-batch, SPEC §5's table spelled out."""
    L, waves = len(g) - 1, -(-B // w)
    forward = sum(g[:L]) if form == "receiver" else sum(g[1:])
    if scheme == "inference":
        return L * waves, B * forward
    back_rounds = L - 1 if form == "receiver" else L
    backward = sum(g[1:L]) if form == "receiver" else sum(g[1:])
    return L * waves + back_rounds, B * (forward + backward) + travelling


@pytest.mark.parametrize("slices", ["even", "idle"])
@pytest.mark.parametrize(("depth", "batch", "wave", "form"), CASES)
def test_table(depth: int, batch: int, wave: int, form: Any, slices: Any) -> None:
    g = SIZES[: depth + 1]
    for scheme, travelling in product(SCHEMES, (0, 1, 2 * depth, 83, 1009)):
        schedule = build(
            scheme, sizes=g, batch=batch, wave=wave, form=form, travelling=travelling, slices=slices
        )
        rounds, numbers = table(scheme, g, batch, wave, form, travelling)
        assert len(schedule.rounds) == rounds == expected_rounds(scheme, depth, batch, wave, form)
        assert schedule.numbers == numbers == expected_numbers(scheme, g, batch, travelling, form)
        assert schedule.numbers == sum(sum(f.width for f in r.fields) for r in schedule.rounds)
        assert schedule.average_width == numbers / rounds
        assert schedule.peak_width == max(sum(f.width for f in r.fields) for r in schedule.rounds)
        assert schedule.depth == depth
        assert schedule.trains is (scheme != "inference")
        assert sum(schedule.waves) == batch
        assert set(schedule.waves[:-1]) <= {wave}
        assert 1 <= schedule.waves[-1] <= wave
        parts = {kind: schedule.numbers_of(kind) for kind in ("features", "backward", "slice")}
        assert sum(parts.values()) == numbers
        assert parts["slice"] == (travelling if schedule.trains else 0)
        check(schedule)


@pytest.mark.parametrize(("depth", "batch", "wave", "form"), CASES)
def test_slots(depth: int, batch: int, wave: int, form: Any) -> None:
    """Round bL + l has X^l(b) and, while l ≤ L − 2 (sender: L − 1), layer L − l's term of wave b − 1."""
    g = SIZES[: depth + 1]
    schedule = build("piggyback_do", sizes=g, batch=batch, wave=wave, form=form)
    waves, back = schedule.waves, depth - 1 if form == "receiver" else depth
    width = (lambda layer: g[layer - 1]) if form == "receiver" else (lambda layer: g[layer])
    for r, round_ in enumerate(schedule.rounds):
        b, l = divmod(r, depth)  # noqa: E741
        tail = b >= len(waves)
        if tail:  # the backward terms of the last wave, whatever their number
            b, l = len(waves), r - len(waves) * depth  # noqa: E741
        wanted = [] if tail else [fwd(l + 1, b, waves[b] * width(l + 1))]
        if b >= 1 and l < back:
            wanted.append(bwd(depth - l, b - 1, waves[b - 1] * width(depth - l)))
        assert round_.fields == tuple(wanted)
        assert round_.tail is tail
        assert round_.has_backward is (b >= 1 and l < back)
    inference = build("inference", sizes=g, batch=batch, wave=wave, form=form)
    assert [round_.fields for round_ in inference.rounds] == [
        (fwd(layer, b, w * width(layer)),) for b, w in enumerate(waves) for layer in range(1, depth + 1)
    ]


@pytest.mark.parametrize("slices", ["even", "idle"])
@pytest.mark.parametrize(("depth", "batch", "wave", "form"), CASES)
def test_slices_cover_what_travels_once(depth: int, batch: int, wave: int, form: Any, slices: Any) -> None:
    for travelling in (0, 1, 5, 83, 1009):
        schedule = build(
            "piggyback_do", sizes=SIZES[: depth + 1], batch=batch, wave=wave, form=form,
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
    schedule = build("piggyback_do", sizes=(4, 3, 2, 1), batch=5, wave=2, travelling=10, slices="idle")
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
    assert [round_.tail for round_ in schedule.rounds] == [False] * 9 + [True] * 2
    assert (schedule.numbers, schedule.peak_width) == (80, 12)
    assert schedule.average_width == 80 / 11


def test_sender_form_by_hand() -> None:
    """L = 2, B = 3, w = 1: a backward term rides in every round after the first wave."""
    even = build("piggyback_do", sizes=(4, 3, 2), batch=3, wave=1, form="sender", travelling=4, slices="even")
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
    idle = build("piggyback_do", sizes=(4, 3, 2), batch=3, form="sender", travelling=4)
    assert [[f for f in round_.fields if f.kind == "slice"] for round_ in idle.rounds] == [
        [part(0, 2)], [part(2, 2)], [], [], [], [], [], [],
    ]  # fmt: skip


def test_published_regression() -> None:
    """SPEC §6 A: L = 2, sizes 10-10-1, B = 100, |θ| = 220: 201 rounds, and 3220 numbers."""
    schedule = build("piggyback_do", sizes=(10, 10, 1), batch=100, wave=1, travelling=220)
    assert len(schedule.rounds) == 201
    assert schedule.numbers == 100 * (10 + 10 + 10) + 220
    assert schedule.peak_width == 20
    assert build("piggyback_do", sizes=(10, 10, 1), batch=100, wave=100, travelling=220).numbers == 3220


@pytest.mark.parametrize(("batch", "wave", "sizes"), [(5, 2, (2, 2, 1)), (6, 3, (3, 3)), (1, 1, (1,))])
def test_wave_sizes(batch: int, wave: int, sizes: tuple[int, ...]) -> None:
    assert wave_sizes(batch, wave) == sizes


def test_a_schedule_is_a_value() -> None:
    made = [build("piggyback_do", sizes=[3, 2, 1], batch=4, wave=2, travelling=16) for _ in range(2)]
    assert made[0] == made[1]
    assert hash(made[0]) == hash(made[1])
    assert made[0] != build("piggyback_do", sizes=[3, 2, 1], batch=4, wave=2, travelling=16, slices="even")


def plan(*rounds: tuple[Field, ...], travelling: int = 0, depth: int = 3) -> Schedule:
    sizes = (1,) * (depth + 1)
    return Schedule("piggyback_do", "receiver", sizes, 1, 1, travelling, tuple(map(Round, rounds)))


F1, F2, F3, B3, B2 = fwd(1, 0, 1), fwd(2, 0, 1), fwd(3, 0, 1), bwd(3, 0, 1), bwd(2, 0, 1)


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


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_no_round_of_a_good_schedule_can_be_taken_away(form: Any) -> None:
    """Whatever is left out, something later, a term, or a travelling number is missing."""
    good = build("piggyback_do", sizes=(4, 3, 2, 1), batch=3, form=form, travelling=83, slices="even")
    for r in range(len(good.rounds)):
        with pytest.raises(InputError):
            check(replace(good, rounds=good.rounds[:r] + good.rounds[r + 1 :]))


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("kind", ["features", "backward"])
def test_a_schedule_that_leaves_a_term_out_is_refused(form: Any, kind: str) -> None:
    good = build("piggyback_do", sizes=(3, 2, 1), batch=2, form=form)
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
    good = build(scheme, sizes=(4, 3, 2, 1), batch=5, wave=2, form=form, travelling=10)
    for r, round_ in enumerate(good.rounds):
        for k, field in enumerate(round_.fields):
            if field.kind != "slice":
                rest = replace(round_, fields=round_.fields[:k] + round_.fields[k + 1 :])
                with pytest.raises(InputError, match=field.kind):
                    check(replace(good, rounds=(*good.rounds[:r], rest, *good.rounds[r + 1 :])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheme": "gossip"}, "unknown 'gossip'; known: inference, piggyback_do"),
        ({"sizes": (3,)}, "at least two sizes"),
        ({"sizes": (3, 0, 1)}, "all of them ≥ 1"),
        ({"batch": 0, "wave": 0}, "1 ≤ wave ≤ batch"),
        ({"wave": 0}, "1 ≤ wave ≤ batch, found batch 4, wave 0"),
        ({"wave": 5}, "1 ≤ wave ≤ batch, found batch 4, wave 5"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"scheme": "piggyback_do", "sizes": (3, 2, 1), "batch": 4, "wave": 2}
    with pytest.raises(InputError, match=message):
        build(**(arguments | change))
