"""Data bundles (SPEC §8): what they give is used, and what is wrong with them is said in one line."""

import gc
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teams import run

from fdtrain import reference
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment, build
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.tasks.bundle import RegressionBundle, read_arrays

SIZES, ACTIVATIONS = (3, 4, 2), ("tanh", "sigmoid")
MODEL = Gcnn(SIZES, ACTIVATIONS)
V, N, TEST, EPOCHS = 6, 7, 4, 50
EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [0, 5], [0, 3]])
THETAS = ("theta0_1", "theta1_1", "theta0_2", "theta1_2")


def contents() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = ((3, 4), (3, 4), (4, 2), (4, 2))
    return {
        "x_train": rng.normal(size=(N, V, 3)),
        "y_train": rng.normal(size=(N, V, 2)),
        "x_test": rng.normal(size=(TEST, V, 3)),
        "y_test": rng.normal(size=(TEST, V, 2)),
        "edges": EDGES,
        "order": np.stack([rng.permutation(N) for _ in range(EPOCHS)]),
    } | {name: rng.normal(size=shape) for name, shape in zip(THETAS, shapes, strict=True)}


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def experiment(path: Path, **change: Any) -> Experiment:
    content: dict[str, Any] = {
        "seed": 3,
        "topology": {"kind": "bundle"},
        "model": {"sizes": SIZES, "activation": ACTIVATIONS},
        "task": {"bundle": str(path)},
        "training": {"epochs": EPOCHS, "batch": 3},
        "optimizer": {"kind": "d_sgd", "lr": 0.003, "mixing": {"kind": "laplacian", "beta": 0.01}},
    }
    for section, values in change.items():
        content[section] = values if section == "topology" else content[section] | values
    return build(from_mapping(content))


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("wave", [1, 3])
def test_given_order_and_parameters_train_as_the_oracle_does(tmp_path: Path, wave: int, form: str) -> None:
    arrays = contents()
    made = experiment(save(tmp_path / "data.npz", arrays), training={"wave": wave}, model={"form": form})
    flat = np.concatenate([arrays[name].reshape(-1) for name in THETAS])
    np.testing.assert_array_equal(made.theta, np.tile(flat, (V, 1)))
    outcome = run(made, 2).outcome
    A = np.zeros((V, V))
    A[EDGES[:, 0], EDGES[:, 1]] = A[EDGES[:, 1], EDGES[:, 0]] = 1
    theta, results = reference.train_distributed(
        reference.Model(SIZES, ACTIVATIONS, form), "normalized_laplacian", "laplacian", 0.01,
        reference.Recursion("d_sgd"), 0.003, A,
        arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"],
        np.tile(flat, (V, 1)), arrays["order"], 3,
    )  # fmt: skip
    assert np.linalg.norm(outcome.theta - theta) <= 1e-12 * np.linalg.norm(theta)
    assert len(outcome.rows) == EPOCHS
    for row, result in zip(outcome.rows, results, strict=True):
        assert row.train == pytest.approx(result.mse_train, rel=1e-12)
        assert row.test == pytest.approx(result.mse_test, rel=1e-12)
        assert row.disagreement == pytest.approx(result.disagreement, rel=1e-12)


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "<u1"])
def test_any_real_numbers_will_do(tmp_path: Path, dtype: str) -> None:
    arrays = contents()
    arrays["x_train"] = np.asfortranarray(np.abs(10 * arrays["x_train"]).astype(dtype))
    bundle = RegressionBundle(save(tmp_path / "data.npz", arrays), MODEL, 0)
    x = bundle.dataset(Graph.from_edges(V, EDGES))[0].x
    assert x.dtype == np.float64
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, arrays["x_train"])


def test_what_is_optional_may_be_left_out(tmp_path: Path) -> None:
    arrays = {name: array for name, array in contents().items() if name.startswith(("x_", "y_"))}
    path = save(tmp_path / "data.npz", arrays)
    made = experiment(path, topology={"kind": "ring", "nodes": V}, training={"epochs": 3})
    bundle = RegressionBundle(path, MODEL, 3)
    assert bundle.theta() is None
    orders = [bundle.order(epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    np.testing.assert_array_equal(made.data.order(1), orders[1])
    assert tuple(RegressionBundle(path, MODEL, 4).order(0)) != tuple(orders[0])
    assert ((made.theta >= 0) & (made.theta < 1)).all()
    with pytest.raises(InputError, match=r"data.npz: 'edges' is missing"):
        bundle.graph()
    with pytest.raises(InputError, match=r"data.npz: 'edges' is missing"):
        experiment(path)


def test_a_bundles_edges_are_used_where_the_topology_says_so(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", contents())
    assert experiment(path).topology.graph(0) == Graph.from_edges(V, EDGES)
    other = experiment(path, topology={"kind": "complete", "nodes": V})
    assert other.topology.graph(0).num_edges == V * (V - 1) // 2


def with_(**arrays: Any) -> dict[str, Any]:
    return contents() | arrays


def without(*names: str) -> dict[str, Any]:
    return {name: array for name, array in contents().items() if name not in names}


def poked(name: str, place: tuple[int, ...], value: float) -> dict[str, Any]:
    arrays = contents()
    arrays[name][place] = value
    return arrays


C = contents()
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no x_train": (without("x_train"), "x_train", r"is missing; it must have the shape \[any, any, 3\]"),
    "no y_train": (without("y_train"), "y_train", r"is missing; it must have the shape \[7, 6, 2\]"),
    "no x_test": (without("x_test"), "x_test", r"is missing; it must have the shape \[any, 6, 3\]"),
    "no y_test": (without("y_test"), "y_test", r"is missing; it must have the shape \[4, 6, 2\]"),
    "wrong features": (
        with_(x_train=C["x_train"][..., :2]),
        "x_train",
        r"shape \[any, any, 3\], found \[7, 6, 2\]",
    ),
    "wrong rank": (with_(x_train=C["x_train"][0]), "x_train", r"shape \[any, any, 3\], found \[6, 3\]"),
    "fewer labels": (with_(y_train=C["y_train"][:6]), "y_train", r"shape \[7, 6, 2\], found \[6, 6, 2\]"),
    "labels of fewer nodes": (with_(y_test=C["y_test"][:, :5]), "y_test", r"\[4, 6, 2\], found \[4, 5, 2\]"),
    "test on other nodes": (with_(x_test=C["x_test"][:, :5]), "x_test", r"\[any, 6, 3\], found \[4, 5, 3\]"),
    "labels too wide": (with_(y_train=C["x_train"]), "y_train", r"\[7, 6, 2\], found \[7, 6, 3\]"),
    "no samples": (with_(x_train=C["x_train"][:0]), "x_train", r"found \[0, 6, 3\]"),
    "no nodes": (with_(x_train=C["x_train"][:, :0]), "x_train", r"found \[7, 0, 3\]"),
    "no test samples": (with_(x_test=C["x_test"][:0]), "x_test", r"found \[0, 6, 3\]"),
    "nan": (poked("x_train", (2, 5, 1), np.nan), "x_train", r"must be finite, found nan at \[2, 5, 1\]"),
    "inf": (poked("y_test", (3, 0, 0), -np.inf), "y_test", r"must be finite, found -inf at \[3, 0, 0\]"),
    "complex": (with_(x_train=C["x_train"] + 0j), "x_train", "must be numbers, found complex128"),
    "text": (with_(y_train=C["y_train"].astype(str)), "y_train", "must be numbers, found <U"),
    "boolean": (with_(x_test=C["x_test"] > 0), "x_test", "must be numbers, found bool"),
    "records": (with_(x_test=np.zeros(3, "i4,f8")), "x_test", "must be numbers, found"),
    "partial theta": (without("theta1_2"), "theta1_2", r"is missing; it must have the shape \[4, 2\]"),
    "partial theta, first": (without("theta0_1"), "theta0_1", r"is missing; it must have the shape \[3, 4\]"),
    "theta transposed": (with_(theta1_1=C["theta1_1"].T), "theta1_1", r"\[3, 4\], found \[4, 3\]"),
    "theta not finite": (
        poked("theta0_2", (1, 1), np.nan),
        "theta0_2",
        r"must be finite, found nan at \[1, 1\]",
    ),
    "theta of a deeper model": (with_(theta0_3=np.ones((2, 2))), "theta0_3", "is not an array of this task"),
    "unknown array": (with_(weights=np.ones(3)), "weights", "is not an array of this task; known: .*x_train"),
    "order too high": (poked("order", (2, 3), 7), "order", r"epoch 2 has index 7, must be 0 … 6"),
    "order negative": (poked("order", (49, 0), -1), "order", r"epoch 49 has index -1, must be 0 … 6"),
    "order of floats": (
        with_(order=C["order"] * 1.0),
        "order",
        r"integers of shape \[epochs, N\] with N = 7, found float",
    ),
    "too large for float64": (
        with_(y_train=np.full((N, V, 2), np.longdouble("1e400"))),
        "y_train",
        r"must be finite, found inf at \[0, 0, 0\]",
    ),
    "name of two lines": (with_(**{"a\nb": np.ones(1)}), "a\\nb", "is not an array of this task"),
    "order of booleans": (with_(order=C["order"] > 2), "order", "must be integers of shape .*, found bool"),
    "order too short": (with_(order=C["order"][:, :6]), "order", r"N = 7, found int64 \[50, 6\]"),
    "order of one epoch, flat": (with_(order=C["order"][0]), "order", r"found int64 \[7\]"),
    "order of no epoch": (with_(order=C["order"][:0]), "order", r"found int64 \[0, 7\]"),
    "edges out of range": (with_(edges=EDGES + 1), "edges", r"edge \(5, 6\) names a node outside 0 … 5"),
    "edges negative": (with_(edges=EDGES - 1), "edges", r"edge \(-1, 0\) names a node outside"),
    "self-loop": (with_(edges=[*EDGES, [4, 4]]), "edges", r"edge \(4, 4\) is a self-loop"),
    "double edge": (with_(edges=[*EDGES, [1, 0]]), "edges", r"edge \(0, 1\) is listed more than once"),
    "edges of floats": (
        with_(edges=EDGES * 1.0),
        "edges",
        r"must be integers of shape \[M, 2\], found float64 \[7, 2\]",
    ),
    "edges transposed": (with_(edges=EDGES.T), "edges", r"shape \[M, 2\], found int64 \[2, 7\]"),
    "edges flat": (with_(edges=EDGES.reshape(-1)), "edges", r"shape \[M, 2\], found int64 \[14\]"),
}


def refused(path: Path, key: str, message: str, **change: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        experiment(path, **change)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert f"'{key}'" in text if key else True


@pytest.mark.parametrize("case", BAD)
def test_a_bad_array_is_named(tmp_path: Path, case: str) -> None:
    arrays, key, message = BAD[case]
    refused(save(tmp_path / "data.npz", arrays), key, message)


def test_the_good_bundle_is_good(tmp_path: Path) -> None:
    experiment(save(tmp_path / "data.npz", contents()))


def test_an_order_may_draw_with_replacement(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", with_(order=np.zeros((EPOCHS, N), dtype=int)))
    assert RegressionBundle(path, MODEL, 0).order(1).tolist() == [0] * N


def test_epochs_beyond_the_orders_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", contents())
    refused(path, "order", r"training.epochs: 51, but .*the order of 50 epochs", training={"epochs": 51})
    experiment(path, training={"epochs": 1})


def test_a_bundle_and_its_surroundings_must_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", contents())
    refused(
        path, "", "topology: has 5 nodes, but the samples of .* have 6", topology={"kind": "ring", "nodes": 5}
    )
    with pytest.raises(InputError, match=r"training.batch: 8, but there are only 7 training samples"):
        experiment(path, training={"batch": 8})
    islands = save(tmp_path / "islands.npz", with_(edges=EDGES[:3]))
    with pytest.raises(InputError, match="no connected graph"):
        experiment(islands)
    alone = experiment(islands, topology={"kind": "bundle", "connected": False})
    assert alone.topology.graph(0).degrees[4] == 0


class Boom:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["x_train", "extra"])
def test_pickled_objects_are_never_loaded(tmp_path: Path, name: str) -> None:
    trap = tmp_path / "trap"
    path = save(tmp_path / "data.npz", with_(**{name: np.array([Boom(trap)], dtype=object)}))
    refused(path, name, "pickled objects; save plain numeric arrays")
    fields = np.zeros(2, dtype=[("a", "f8"), ("b", object)])
    refused(save(path, with_(**{name: fields})), name, "pickled objects; save plain numeric arrays")
    assert not trap.exists()


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.npz", "", "no such file")
    refused(tmp_path, "", "bundle")  # a folder


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1000, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, keep: float) -> None:
    whole = save(tmp_path / "data.npz", contents()).read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    refused(path, "", "damaged or no .npz file")
    gc.collect()  # a file left open is a warning, and warnings are errors


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    whole = bytearray(save(tmp_path / "data.npz", contents()).read_bytes())
    start = whole.index(b"x_test.npy") + 200
    whole[start] ^= 16
    path = tmp_path / "flipped.npz"
    path.write_bytes(whole)
    refused(path, "x_test", "'x_test' is damaged")


def test_text_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_text("x_train: 1 2 3\n")
    refused(path, "", "is damaged or no .npz file")
    path.write_bytes(pickle.dumps(contents()))
    refused(path, "", "is damaged or no .npz file")
    with pytest.raises(InputError) as caught:
        read_arrays(path)
    assert "pickle" not in str(caught.value)


def test_a_single_array_is_no_bundle(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", contents()["x_train"])
    refused(tmp_path / "data.npy", "", "must be an .npz archive, found a single array")


def zipped(path: Path, member: str, content: bytes) -> Path:
    save(path, without(member.removesuffix(".npy")))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, content)
    return path


def npy(header: str) -> bytes:
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
        npy("{'descr': 'what', 'fortran_order': False, 'shape': (6,)}"),
        npy("{'descr'"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (600,)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999,)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (6,)}" + " " * 20_000),
        b"not an array",
        b"",
    ],
    ids=[
        "negative",
        "no type",
        "half a header",
        "too short",
        "huge",
        "overflow",
        "long header",
        "text",
        "empty",
    ],
)
def test_damaged_members_are_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"data.npz.* 'x_test'") as caught:
        experiment(zipped(tmp_path / "data.npz", "x_test.npy", content))
    assert "\n" not in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_reading_gives_all_arrays(tmp_path: Path) -> None:
    arrays = read_arrays(save(tmp_path / "data.npz", contents()))
    assert arrays.keys() == contents().keys()
    for name, array in contents().items():
        np.testing.assert_array_equal(arrays[name], array)
