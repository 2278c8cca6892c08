"""Bundles of channels (SPEC §8): what they give is served, and what is wrong with them is said in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fdtrain.errors import InputError
from fdtrain.tasks.channel_data import ChannelBundle, ChannelService
from fdtrain.tasks.power_allocation import PowerAllocation

M, B, N, TESTS, TEST_BATCH, EPOCHS = 6, 4, 5, 3, 2, 7
NAMES = [("k1_a_1_w1", (1, 5)), ("k1_a_1_w0", (1, 5)), ("k1_a_1_b1", (5,)), ("k1_a_1_b0", (5,))]


def contents() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "H_train": rng.uniform(0.1, 1, size=(M, B, N, N)),
        "H_test": rng.uniform(0.1, 1, size=(TESTS, TEST_BATCH, N, N)),
        "order": np.stack([rng.permutation(M) for _ in range(EPOCHS)]),
    } | {name: rng.normal(size=shape) for name, shape in NAMES}


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def read(path: Path, batch: int = B, seed: int = 0, **settings: Any) -> ChannelBundle:
    return ChannelBundle(PowerAllocation(bundle=str(path), **settings), batch, seed)


def with_(**arrays: Any) -> dict[str, Any]:
    return contents() | arrays


def without(*names: str) -> dict[str, Any]:
    return {name: array for name, array in contents().items() if name not in names}


def poked(name: str, place: tuple[int, ...], value: float) -> dict[str, Any]:
    arrays = contents()
    arrays[name][place] = value
    return arrays


C = contents()


def test_what_a_bundle_gives_is_served(tmp_path: Path) -> None:
    bundle = read(save(tmp_path / "data.npz", contents()))
    data: ChannelService = bundle
    counts = data.pairs, data.batch, data.minibatches, data.test_minibatches, data.test_batch
    assert (*counts, data.train_samples, data.streamed) == (N, B, M, TESTS, TEST_BATCH, M * B, True)
    for epoch in range(EPOCHS):
        order = data.order(epoch)
        assert order.dtype == np.int64
        np.testing.assert_array_equal(order[::B] // B, C["order"][epoch])
        np.testing.assert_array_equal(order.reshape(M, B) - order[::B, None], np.tile(np.arange(B), (M, 1)))
    for t in np.random.default_rng(1).permutation(M * EPOCHS):
        H = data.channels(int(t))
        np.testing.assert_array_equal(H, C["H_train"][C["order"].ravel()[t]])
        assert not H.flags.writeable
    for k in range(TESTS):
        np.testing.assert_array_equal(data.test_channels(k), C["H_test"][k])
    theta = data.theta(NAMES)
    np.testing.assert_array_equal(theta, np.concatenate([C[name].reshape(-1) for name, _ in NAMES]))
    np.testing.assert_array_equal(data.theta(NAMES[::-1])[:5], C["k1_a_1_b0"])  # type: ignore[index]


def test_what_is_optional_may_be_left_out(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", {"H_train": C["H_train"], "H_test": C["H_test"][0]})
    data, other = read(path), read(path, seed=1)
    assert data.theta(NAMES) is None
    assert (data.test_minibatches, data.test_batch) == (1, TEST_BATCH)
    np.testing.assert_array_equal(data.test_channels(0), C["H_test"][0])
    orders = [data.order(e)[::B] // B for e in range(3)]
    assert all(sorted(order) == list(range(M)) for order in orders)
    assert len({tuple(order) for order in [*orders, other.order(0)[::B] // B]}) == 4
    np.testing.assert_array_equal(data.channels(M + 2), C["H_train"][orders[1][2]])
    data.check_epochs(10**6)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "<u1"])
def test_any_real_numbers_will_do(tmp_path: Path, dtype: str) -> None:
    H = np.asfortranarray(np.ceil(10 * C["H_train"]).astype(dtype))
    served = read(save(tmp_path / "data.npz", with_(H_train=H))).channels(0)
    assert served.dtype == np.float64
    assert served.flags.c_contiguous
    np.testing.assert_array_equal(served, H[C["order"][0, 0]])


def test_an_order_may_draw_with_replacement(tmp_path: Path) -> None:
    data = read(save(tmp_path / "data.npz", with_(order=np.full((1, M), 2))))
    assert data.order(0).tolist() == [8, 9, 10, 11] * M
    np.testing.assert_array_equal(data.channels(5), C["H_train"][2])


def test_outages_may_be_allowed(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", poked("H_train", (2, 3, 4, 4), 0.0))
    assert read(path, allow_outages=True).channels(int(np.flatnonzero(C["order"][0] == 2)[0]))[3, 4, 4] == 0
    read(save(path, poked("H_train", (2, 3, 4, 3), 0.0)))  # no link to another pair is no outage


ADVICE = r"save the amplitudes \|H\| of n transmitters \(rows\) to as many receivers"
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no H_train": (without("H_train"), "H_train", r"is missing; it must have the shape \[M, B, n, n\]"),
    "no H_test": (without("H_test"), "H_test", r"is missing; it must have the shape \[M', B', 5, 5\]"),
    "not square": (
        with_(H_train=C["H_train"][..., :4]),
        "H_train",
        rf"shape \[M, B, n, n\], found \[6, 4, 5, 4\]; {ADVICE}",
    ),
    "no batches": (with_(H_train=C["H_train"][0]), "H_train", r"\[M, B, n, n\], found \[4, 5, 5\]"),
    "no mini-batch": (with_(H_train=C["H_train"][:0]), "H_train", r"found \[0, 4, 5, 5\]"),
    "no pair": (with_(H_train=C["H_train"][..., :0, :0]), "H_train", r"found \[6, 4, 0, 0\]"),
    "test not square": (with_(H_test=C["H_test"][..., :4, :]), "H_test", r"found \[3, 2, 4, 5\]"),
    "test of other pairs": (
        with_(H_test=C["H_test"][..., :4, :4]),
        "H_test",
        r"shape \[M', B', 5, 5\], found \[3, 2, 4, 4\]; .*H_train has n = 5",
    ),
    "flat test of other pairs": (
        with_(H_test=C["H_test"][0, :, :4, :4]),
        "H_test",
        r"shape \[T, 5, 5\], found \[2, 4, 4\]; .*H_train has n = 5",
    ),
    "test of two dimensions": (
        with_(H_test=C["H_test"][0, 0]),
        "H_test",
        r"\[M', B', 5, 5\], found \[5, 5\]",
    ),
    "nan": (poked("H_train", (2, 1, 0, 4), np.nan), "H_train", r"finite, found nan at \[2, 1, 0, 4\]; save"),
    "inf": (poked("H_test", (0, 1, 3, 4), np.inf), "H_test", r"must be finite, found inf at \[0, 1, 3, 4\]"),
    "negative": (
        poked("H_train", (5, 3, 0, 1), -0.25),
        "H_train",
        rf"must be ≥ 0, found -0.25 at \[5, 3, 0, 1\]; {ADVICE}",
    ),
    "negative test": (poked("H_test", (1, 0, 2, 2), -1.0), "H_test", r"≥ 0, found -1.0 at \[1, 0, 2, 2\]"),
    "complex": (with_(H_train=C["H_train"] + 0j), "H_train", rf"numbers, found complex128; {ADVICE}"),
    "text": (with_(H_test=C["H_test"].astype(str)), "H_test", "must be numbers, found <U"),
    "outage": (
        poked("H_train", (2, 3, 4, 4), 0.0),
        "H_train",
        r"H_ii = 0 in sample \[2, 3\] for i = 4, a pair without its own link; set task.allow_outages: true, or",
    ),
    "outage in the test": (poked("H_test", (2, 1, 0, 0), 0.0), "H_test", r"in sample \[2, 1\] for i = 0"),
    "outage in a flat test": (
        with_(H_test=poked("H_test", (0, 1, 3, 3), 0.0)["H_test"][0]),
        "H_test",
        r"in sample \[1\] for i = 3",
    ),
    "order too high": (poked("order", (2, 3), M), "order", r"epoch 2 has index 6, must be 0 … 5"),
    "order negative": (poked("order", (6, 0), -1), "order", r"epoch 6 has index -1, must be 0 … 5"),
    "order of other mini-batches": (
        with_(order=C["order"][:, :4]),
        "order",
        r"integers of shape \[epochs, M\] with M = 6, found int64 \[7, 4\]",
    ),
    "order of floats": (with_(order=C["order"] * 1.0), "order", "integers of shape .*, found float64"),
    "order of one epoch, flat": (with_(order=C["order"][0]), "order", r"found int64 \[6\]"),
    "partial theta": (without("k1_a_1_b1"), "k1_a_1_b1", r"is missing; it must have the shape \[5\]"),
    "theta transposed": (
        with_(k1_a_1_w0=C["k1_a_1_w0"].T),
        "k1_a_1_w0",
        r"must have the shape \[1, 5\], found \[5, 1\]",
    ),
    "theta not finite": (
        poked("k1_a_1_b0", (3,), np.nan),
        "k1_a_1_b0",
        r"must be finite, found nan at \[3\]",
    ),
    "theta of more layers": (
        with_(k5_a_1_w1=np.ones((1, 5))),
        "k5_a_1_w1",
        "is not an array of this model; known: H_train, H_test, order, k1_a_1_w1 … k",
    ),
    "unknown array": (with_(noise=np.ones(3)), "noise", "is not an array of this model"),
    "objects": (with_(H_test=np.array([None, 1])), "H_test", "pickled objects; save plain numeric arrays"),
}


def refused(path: Path, key: str, message: str, batch: int = B, **settings: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(path, batch, **settings).theta(NAMES)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert not key or f"'{key}'" in text


@pytest.mark.parametrize("case", BAD)
def test_a_bad_array_is_named(tmp_path: Path, case: str) -> None:
    arrays, key, message = BAD[case]
    refused(save(tmp_path / "data.npz", arrays), key, message)


def test_a_bundle_and_its_surroundings_must_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", contents())
    refused(path, "H_train", r"training.batch: 32, but .* mini-batches of 4; set training.batch: 4", batch=32)
    refused(path, "H_train", r"task.pairs: 6, but .* has n = 5 pairs; remove task.pairs", pairs=6)
    assert read(path, pairs=5).pairs == 5
    assert read(path, pairs=25).pairs == 5  # the default, which a run's resolved configuration spells out
    read(path).check_epochs(EPOCHS)
    with pytest.raises(InputError, match=r"training.epochs: 8, but .*data.npz has the order of 7 epochs"):
        read(path).check_epochs(EPOCHS + 1)


def test_files_that_are_none(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.npz", "", "no such file")
    refused(tmp_path, "", "no such file")
    whole = save(tmp_path / "data.npz", contents()).read_bytes()
    cut = tmp_path / "cut.npz"
    for keep in (0, 100, len(whole) // 2):
        cut.write_bytes(whole[:keep])
        refused(cut, "", "damaged or no .npz file")
    flipped = bytearray(whole)
    flipped[whole.index(b"H_test.npy") + 300] ^= 16
    cut.write_bytes(flipped)
    refused(cut, "H_test", "'H_test' is damaged")


def test_paths_are_beside_the_configuration(tmp_path: Path) -> None:
    save(tmp_path / "data.npz", contents())
    task = PowerAllocation(bundle="data.npz").resolved(tmp_path)
    assert task.bundle == str(tmp_path / "data.npz")
    assert ChannelBundle(task, B, 0).pairs == N
    plain = PowerAllocation()
    assert plain.resolved(tmp_path) is plain
