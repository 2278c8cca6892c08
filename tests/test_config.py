"""The configuration: what is accepted means what it says, and what is not is named in one line."""

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from fdtrain.config import Config, from_mapping, load, topology_from
from fdtrain.errors import InputError
from fdtrain.resources import kind_of
from fdtrain.schema import keys
from fdtrain.topology.sources import TopologyConfig

ROOT = Path(__file__).resolve().parent.parent
BASE = "topology: {kind: ring, nodes: 5}\nmodel: {sizes: [2, 1]}\n"


def mapping(**change: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"topology": {"kind": "ring", "nodes": 5}, "model": {"sizes": [2, 1]}}
    for key, value in change.items():
        merge = key in content and isinstance(value, dict) and "kind" not in value
        content[key] = content[key] | value if merge else value
    return content


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message.isprintable()  # so it is one line
    return message


def test_what_is_needed_is_little_and_the_rest_has_the_published_defaults() -> None:
    config = from_mapping(mapping())
    assert config.model.activations == ("sigmoid",)
    assert (config.model.shift, config.model.form) == ("normalized_laplacian", "receiver")
    assert (config.training.batch, config.training.wave, config.training.scheme) == (100, 1, "piggyback_do")
    assert (config.training.consensus_rounds, config.training.early_stop) == (1, None)
    assert config.optimizer.model_dump() == {
        "kind": "d_sgd",
        "lr": 1e-3,
        "lr_schedule": {"kind": "constant"},
        "clip_norm": None,
        "mixing": {"kind": "metropolis"},
    }


@pytest.mark.parametrize("kind", ["d_adam", "d_amsgrad", "naive_adam", "adam"])
def test_moments_have_the_published_defaults(kind: str) -> None:
    training = {"mode": "centralized"} if kind == "adam" else {"scheme": "per_batch"}
    optimizer = from_mapping(mapping(optimizer={"kind": kind}, training=training)).optimizer
    given = optimizer.model_dump(include={"lr", "beta1", "beta2", "epsilon", "epsilon_form"})
    form = {"epsilon_form": "outside"} if kind in ("naive_adam", "adam") else {}
    assert given == {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8} | form


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E2", 100.0),
        ("+1e3", 1000.0),
        ("1.5e-3", 1.5e-3),
        ("1e+2", 100.0),
        (".5", 0.5),
        ("2", 2.0),
    ],
)
def test_numbers_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    config = load(written(tmp_path, BASE + f"optimizer: {{kind: d_sgd, lr: {text}}}\n"))
    assert config.optimizer.lr == value
    assert type(config.optimizer.lr) is float
    assert (
        load(written(tmp_path, BASE), ["optimizer.kind=d_sgd", f"optimizer.lr={text}"]).optimizer.lr == value
    )


@pytest.mark.parametrize("text", ["e3", "1e", "1e-3x", "0x1e-3", "1-3"])
def test_words_are_no_numbers(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, BASE + f"optimizer: {{kind: d_sgd, lr: {text}}}\n")
    assert f"optimizer.lr: input should be a valid number, found '{text}'" in (message_of(load, path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 1\n", "line 4: not valid YAML: key 'seed' stands twice"),
        ("training: {epochs: 1, epochs: 2}\n", "line 3: not valid YAML: key 'epochs' stands twice"),
        ('"a\\nb": 1\n"a\\nb": 1\n', "key 'a b' stands twice"),
        ("seed: [1\n", "not valid YAML: expected ',' or ']'"),
        ("seed: *nothing\n", "line 3: not valid YAML: found undefined alias"),
        ("\tseed: 1\n", "line 3: not valid YAML"),
        ("? [a]\n: 1\n", "not valid YAML: unhashable"),
        (
            "seed: !!python/object/apply:os.getcwd []\n",
            "line 3: not valid YAML: could not determine a constructor",
        ),
        ("a: &a [*a]\n", "not valid YAML: found unconstructable recursive node"),
        ("---\nseed: 1\n", "line 3: not valid YAML: but found another document"),
        ("name: no\n", "name: input should be a valid string, found False"),
        ("seed: 2026-01-01\n", "seed: input should be a valid integer, found datetime.date"),
        ("training:\n", "training: must be a section of keys, {key: value, …}, found None"),
        ("7: 1\n", "7: keys should be strings, found 7"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, BASE + text)
    found = message_of(load, path)
    assert found.startswith(str(path))
    assert message in found


def test_files_that_are_refused(tmp_path: Path) -> None:
    assert message_of(load, tmp_path / "none.yaml").endswith(
        "none.yaml: cannot be read: No such file or directory"
    )
    assert "cannot be read: Is a directory" in message_of(load, tmp_path)
    for text in ("", "- 1\n", "just words\n"):
        assert "must be a mapping of keys to values, found" in message_of(load, written(tmp_path, text))
    (tmp_path / "c.yaml").write_bytes(b"name: \xff\n")
    assert "cannot be read" in message_of(load, tmp_path / "c.yaml")
    assert "not valid YAML" in message_of(load, written(tmp_path, "\x00"))


LAPLACIAN = {"kind": "laplacian", "beta": 0.1}
D_SGD = {"kind": "d_sgd"}
OPTIMIZERS = (
    "d_sgd", "d_adam", "d_amsgrad", "gradient_tracking", "naive_sgd", "naive_adam", "plugin", "sgd", "adam",
)  # fmt: skip
ERDOS = {"kind": "erdos_renyi", "nodes": 5}
REFUSED: list[tuple[dict[str, Any], str]] = [
    # unknown keys: the nearest, or all
    ({"topolgy": {}}, "config: topolgy: unknown key; did you mean 'topology'?"),
    ({"training": {"epohs": 3}}, "training.epohs: unknown key; did you mean 'epochs'?"),
    ({"model": {"init": {"lwo": 0}}}, "model.init.lwo: unknown key; did you mean 'low'?"),
    (
        {"topology": {"kind": "ring", "nodse": 5}},
        "topology.nodse: unknown key of ring; did you mean 'nodes'? (and 1 more)",
    ),
    (
        {"topology": {"kind": "ring", "nodes": 5, "m": 2}},
        "topology.m: unknown key of ring; known: connected, kind, max_draws",
    ),
    ({"optimizer": {"kind": "d_sgd", "lrr": 1}}, "optimizer.lrr: unknown key of d_sgd; did you mean 'lr'?"),
    (
        {"optimizer": {"kind": "d_sgd", "mixing": LAPLACIAN | {"betta": 1}}},
        "mixing.betta: unknown key of laplacian; did you mean",
    ),
    ({"task": {"sample": 3}}, "task.sample: unknown key of node_regression; did you mean 'test_samples'?"),
    ({"model": {"initt": {}}}, "config: model.initt: unknown key of gcnn; did you mean 'init'?"),
    ({"a\nb": 1}, "config: a b: unknown key; known: channel, checkpoint, execution, model, name, "),
    # kinds
    (
        {"topology": {"kind": "rng", "nodes": 5}},
        "topology.kind: unknown 'rng', must be one of 'barabasi_albert', ",
    ),
    ({"topology": {"kind": "rng", "nodes": 5}}, "did you mean 'ring'?"),
    ({"topology": {"nodes": 5} | {"kind": None}}, "topology.kind: unknown 'None', must be one of"),
    ({"optimizer": {"kind": "dsgd"}}, "optimizer.kind: unknown 'dsgd', must be one of 'd_sgd', 'd_adam', "),
    ({"optimizer": {"kind": "dsgd"}}, "'sgd', 'adam'; did you mean 'd_sgd'?"),
    ({"optimizer": {"kind": "adma"}}, "did you mean 'adam'?"),
    (
        {"optimizer": {"lr": 1}},
        f"optimizer: needs a 'kind', one of {', '.join(OPTIMIZERS)}; found {{'lr': 1}}",
    ),
    (
        {"optimizer": D_SGD | {"lr_schedule": {"every": 3}}},
        "schedule: needs a 'kind', one of constant, exponential, ",
    ),
    (
        {"optimizer": D_SGD | {"lr_schedule": {"kind": "cosin"}}},
        "unknown 'cosin', must be one of 'constant', ",
    ),
    (
        {"optimizer": {"kind": "d_sgd", "mixing": {"beta": 1}}},
        "mixing: needs a 'kind', one of metropolis, laplacian",
    ),
    ({"model": {"kind": "gcn"}}, "unknown 'gcn', must be one of 'gcnn', 'uwmmse'; did you mean 'gcnn'?"),
    (
        {"task": {"kind": "other"}},
        "task.kind: unknown 'other', must be one of 'node_regression', 'power_allocation'",
    ),
    # types
    ({"topology": 3}, "topology: must be a section of keys, {key: value, …}, found 3"),
    ({"model": [1]}, "model: must be a section of keys, {key: value, …}, found [1]"),
    ({"model": {"sizes": 2}}, "model.sizes: input should be a list, found 2"),
    ({"model": {"sizes": [2.5, 1]}}, "model.sizes.0: input should be a valid integer"),
    ({"model": {"activation": 3}}, "config: model.activation: input should be 'sigmoid', 'tanh'"),
    ({"model": {"activation": "tan"}}, "config: model.activation: input should be 'sigmoid', 'tanh'"),
    ({"model": {"activation": ["tan"]}}, "model.activation"),
    ({"model": {"shift": "gcnn"}}, "model.shift: input should be 'adjacency'"),
    ({"model": {"form": "x"}}, "model.form: input should be 'receiver' or 'sender', found 'x'"),
    ({"training": {"epochs": "many"}}, "training.epochs: input should be a valid integer"),
    ({"training": {"epochs": 2.5}}, "training.epochs: input should be a valid integer"),
    ({"task": {"online": "perhaps"}}, "task.online: input should be a valid boolean"),
    ({"name": 3}, "name: input should be a valid string, found 3"),
    ({"name": "a/b"}, "name: string should match pattern"),
    ({"name": ".."}, "name: string should match pattern"),
    ({"name": "a\n"}, "name: string should match pattern"),
    (
        {"optimizer": {"kind": "d_sgd", "lr": float("inf")}},
        "optimizer.lr: input should be a finite number, found inf",
    ),
    ({"optimizer": {"kind": "d_sgd", "lr": float("nan")}}, "optimizer.lr: input should be "),
    ({"task": {"noise": float("nan")}}, "task.noise: input should be "),
    # sizes
    (
        {"topology": {"kind": "ring", "nodes": -5}},
        "topology.nodes: input should be greater than or equal to 3",
    ),
    ({"model": {"sizes": [2]}}, "model.sizes: tuple should have at least 2 items"),
    ({"model": {"sizes": [2, 0]}}, "model.sizes.1: input should be greater than or equal to 1, found 0"),
    ({"model": {"sizes": [-2, 1]}}, "model.sizes.0: input should be greater than or equal to 1, found -2"),
    ({"model": {"negative_slope": -0.1}}, "model.negative_slope: input should be greater than or equal to 0"),
    ({"training": {"epochs": 0}}, "training.epochs: input should be greater than or equal to 1, found 0"),
    ({"training": {"batch": -1}}, "training.batch: input should be greater than or equal to 1, found -1"),
    ({"training": {"wave": 0}}, "training.wave: input should be greater than or equal to 1, found 0"),
    ({"task": {"train_samples": 0}}, "task.train_samples: input should be greater than or equal to 1"),
    ({"task": {"test_samples": -3}}, "task.test_samples: input should be greater than or equal to 1"),
    ({"task": {"noise": -0.1}}, "task.noise: input should be greater than or equal to 0"),
    ({"optimizer": {"kind": "d_sgd", "lr": 0}}, "optimizer.lr: input should be greater than 0, found 0"),
    (
        {"optimizer": {"kind": "d_sgd", "mixing": LAPLACIAN | {"beta": -1}}},
        "mixing.beta: input should be greater",
    ),
    ({"optimizer": D_SGD | {"clip_norm": 0}}, "optimizer.clip_norm: input should be greater than 0, found 0"),
    ({"optimizer": {"kind": "d_adam", "beta1": 1}}, "optimizer.beta1: input should be less than 1, found 1"),
    (
        {"optimizer": {"kind": "d_adam", "beta2": -0.1}},
        "optimizer.beta2: input should be greater than or equal to 0",
    ),
    (
        {"optimizer": {"kind": "d_amsgrad", "epsilon": 0}},
        "optimizer.epsilon: input should be greater than 0, found 0",
    ),
    (
        {"optimizer": {"kind": "naive_adam", "epsilon_form": "middle"}, "training": {"scheme": "per_batch"}},
        "optimizer.epsilon_form: input should be 'inside' or 'outside', found 'middle'",
    ),
    (
        {"optimizer": D_SGD | {"lr_schedule": {"kind": "exponential", "decay": 1.5}}},
        "lr_schedule.decay: input should be less than or equal to 1, found 1.5",
    ),
    (
        {"optimizer": D_SGD | {"lr_schedule": {"kind": "exponential"}}},
        "lr_schedule.decay: is missing; it must be given",
    ),
    (
        {"optimizer": D_SGD | {"lr_schedule": {"kind": "step"}}},
        "lr_schedule.every: is missing; it must be given",
    ),
    (
        {"optimizer": D_SGD | {"lr_schedule": {"kind": "step", "every": 0}}},
        "lr_schedule.every: input should be greater than or equal to 1, found 0",
    ),
    ({"optimizer": {"kind": "plugin"}}, "optimizer.target: is missing; it must be given"),
    ({"training": {"early_stop": {}}}, "training.early_stop.patience: is missing; it must be given"),
    (
        {"training": {"early_stop": {"patience": 0}}},
        "early_stop.patience: input should be greater than or equal to 1",
    ),
    (
        {"training": {"early_stop": {"patience": 1, "metric": "mse"}}},
        "early_stop.metric: input should be 'train', 'test', 'mse_train', 'mse_test', ",
    ),
    (
        {"training": {"early_stop": {"patience": 1, "min_delta": 1}}},
        "early_stop.min_delta: input should be less than 1",
    ),
    (
        {"training": {"scheme": "gossip"}},
        "training.scheme: input should be 'inference', 'per_sample', 'per_batch', ",
    ),
    ({"model": {"init": {"std": 0}}}, "model.init.std: input should be greater than 0"),
    ({"seed": -1}, "seed: input should be greater than or equal to 0"),
    ({"seed": 2**63}, "seed: input should be less than 9223372036854775808"),
    # what is missing
    (
        {"optimizer": {"kind": "d_sgd", "mixing": {"kind": "laplacian"}}},
        "optimizer.mixing.beta: is missing; it must",
    ),
    ({"topology": {"kind": "ring"}}, "topology.nodes: is missing; it must be given"),
    # what does not fit together
    ({"training": {"batch": 10, "wave": 11}}, "wave: must be at most batch = 10, found 11"),
    ({"model": {"activation": ["tanh", "tanh"]}}, "activation: needs one name or 1 of them, found 2"),
    ({"model": {"init": {"low": 1, "high": 1}}}, "low, high: low must be below high, found 1.0 and 1.0"),
    (
        {"training": {"mode": "centralized"}},
        "optimizer.kind: training.mode centralized needs sgd or adam, found d_sgd",
    ),
    *(
        (
            {"optimizer": {"kind": kind}},
            f"optimizer.kind: training.mode distributed needs one that sends messages, such as d_sgd, found {kind}",
        )
        for kind in ("sgd", "adam")
    ),
    (
        {"training": {"mode": "centralized", "scheme": "inference"}, "optimizer": {"kind": "sgd"}},
        "training.scheme: inference sends messages; it needs training.mode: distributed",
    ),
    (
        {"topology": {"kind": "bundle"}},
        "topology.kind: bundle takes the edges of task.bundle, which is not given",
    ),
    ({"task": {"train_samples": 50}}, "training.batch: must be at most task.train_samples = 50, found 100"),
    ({"task": {"bundle": "d.npz", "noise": 0.5}}, "task: noise: has no meaning beside a bundle"),
    ({"task": {"bundle": ""}}, "task.bundle: string should have at least 1 character"),
    (
        {"topology": {"kind": "ring", "nodes": 5, "redraw": {"every": 1}}},
        "kind ring is the same at every draw",
    ),
    ({"topology": ERDOS}, "p, mean_degree: give exactly one of the two, found neither"),
    (
        {"topology": ERDOS | {"p": 0.5, "mean_degree": 2}},
        "p, mean_degree: give exactly one of the two, found both",
    ),
    ({"topology": ERDOS | {"mean_degree": 5}}, "mean_degree: must be at most nodes − 1 = 4, found 5.0"),
    ({"topology": ERDOS | {"p": 1.5}}, "topology.p: input should be less than or equal to 1, found 1.5"),
    (
        {"topology": ERDOS | {"p": 0.5, "redraw": {"every": 0}}},
        "topology.redraw.every: input should be greater",
    ),
    (
        {"topology": {"kind": "barabasi_albert", "nodes": 5, "m": 5}},
        "m: must be less than nodes = 5, found 5",
    ),
    ({"topology": {"kind": "watts_strogatz", "nodes": 5, "k": 3, "p": 0}}, "k: must be even"),
    (
        {"topology": {"kind": "watts_strogatz", "nodes": 5, "k": 6, "p": 0}},
        "k: must be at most nodes = 5, found 6",
    ),
    (
        {"topology": {"kind": "random_regular", "nodes": 5, "degree": 5}},
        "degree: must be less than nodes = 5",
    ),
    (
        {"topology": {"kind": "random_regular", "nodes": 5, "degree": 3}},
        "nodes · degree must be even, found 5 · 3",
    ),
    (
        {"topology": {"kind": "grid", "rows": 10**5, "cols": 10**5}},
        "rows · cols: must be at most 10000000, found 1",
    ),
    ({"topology": {"kind": "file", "path": "nowhere.edges"}}, "nowhere.edges: no such file"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refused(change: dict[str, Any], message: str) -> None:
    assert message in message_of(from_mapping, mapping(**change))


def test_sections_that_must_be_given() -> None:
    assert message_of(from_mapping, {}).startswith("config: topology: is missing; it must be given")
    assert message_of(from_mapping, {"topology": {"kind": "ring", "nodes": 5}}).startswith(
        "config: model: is missing"
    )


def test_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, BASE)
    config = load(
        path,
        ["training.epochs=5", "model.sizes=[4, 3, 2]", "name=other", "model.init={low: -1, high: 1}",
         "seed=1", "seed=2", "model.activation=[tanh, relu]", "topology.kind=path",
         "model.init.per_node=true"],
    )  # fmt: skip
    assert config == from_mapping(
        {
            "name": "other",
            "seed": 2,
            "topology": {"kind": "path", "nodes": 5},
            "model": {
                "sizes": [4, 3, 2],
                "activation": ["tanh", "relu"],
                "init": {"low": -1, "high": 1, "per_node": True},
            },
            "training": {"epochs": 5},
        }
    )
    assert path.read_text() == BASE


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "override 'training.epochs': must look like section.key=value"),
        ("=5", "override '=5': must look like section.key=value"),
        ("training..epochs=5", "override 'training..epochs=5': must look like"),
        (".seed=5", "override '.seed=5': must look like"),
        ("model.sizes.first=3", "override 'model.sizes.first=3': 'sizes' is not a section"),
        ("training.epochs=[", "override 'training.epochs=[' line 1: not valid YAML"),
        ("training.epohs=5", "training.epohs: unknown key; did you mean 'epochs'?"),
        ("training.epochs=", "training.epochs: input should be a valid integer, found None"),
        ("trainning.epochs=5", "trainning: unknown key; did you mean 'training'?"),
    ],
)
def test_overrides_that_are_refused(tmp_path: Path, override: str, message: str) -> None:
    assert message in message_of(load, written(tmp_path, BASE), [override])


def test_topology_from_the_command_line() -> None:
    source = topology_from("erdos_renyi", ["nodes=20", "mean_degree=3"])
    assert (source.kind, source.seed, source.connected) == ("erdos_renyi", None, True)
    assert "kind: unknown 'erdos'" in message_of(topology_from, "erdos", [])
    assert message_of(topology_from, "ring", ["node=5"]).startswith(
        "node: unknown key of ring; did you mean 'nodes'?"
    )
    assert "must look like" in message_of(topology_from, "ring", ["5"])


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "net.edges").write_text("0 1\n1 2\n")
    text = "topology: {kind: file, path: net.edges}\nmodel: {sizes: [2, 1]}\ntask: {bundle: data.npz}\n"
    path = written(folder, text)
    monkeypatch.chdir(tmp_path)
    config = load(path.relative_to(tmp_path))
    assert config.topology.path == str(folder / "net.edges")  # type: ignore[union-attr]
    assert config.task.bundle == str(folder / "data.npz")
    monkeypatch.chdir("/")
    assert load(written(tmp_path, config.to_yaml())) == config
    assert (
        load(written(tmp_path, BASE.replace("ring, nodes: 5", "file, path: abilene"))).topology.path
        == "abilene"
    )  # type: ignore[union-attr]


ROUND_TRIPS: list[dict[str, Any]] = [
    {},
    {"name": "1e3", "seed": 2**63 - 1},
    {
        "model": {
            "activation": ["leaky_relu"],
            "negative_slope": 0.1 + 0.2,
            "init": {"kind": "normal", "std": 1e-300},
        }
    },
    {"optimizer": {"kind": "d_sgd", "lr": 1e-5, "mixing": {"kind": "laplacian", "beta": 1 / 3}}},
    {"optimizer": {"kind": "sgd", "lr": 1e22}, "training": {"mode": "centralized", "epochs": 10**6}},
    {"topology": ERDOS | {"p": 1e-7, "redraw": {"every": 3}, "seed": 2**64 - 1, "connected": False}},
    {"topology": {"kind": "bundle"}, "task": {"bundle": "/d: x#.npz"}},
    {
        "optimizer": {
            "kind": "d_adam",
            "beta1": 0,
            "lr_schedule": {"kind": "cosine", "final": 1e-9, "epochs": 3},
        }
    },
    {"optimizer": {"kind": "d_amsgrad", "epsilon": 1e-300, "lr_schedule": {"kind": "step", "every": 2}}},
    {
        "optimizer": {"kind": "naive_adam", "epsilon_form": "inside", "clip_norm": 1 / 3},
        "training": {"scheme": "per_sample", "consensus_rounds": 4, "early_stop": {"patience": 2}},
    },
    {
        "optimizer": {
            "kind": "plugin",
            "target": "/a b/c.py:D",
            "parameters": {"beta": 0.1, "x": ["1e3", None]},
        }
    },
]


@pytest.mark.parametrize("change", ROUND_TRIPS)
def test_what_is_written_reads_back_equal(tmp_path: Path, change: dict[str, Any]) -> None:
    config = from_mapping(mapping(**change))
    assert load(written(tmp_path, config.to_yaml())) == config


CONFIGURATIONS = [
    path for path in sorted((ROOT / "configs").rglob("*.yaml")) if kind_of(path) == "configuration"
]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_shipped_configurations_load(tmp_path: Path, path: Path) -> None:
    config = load(path)
    assert load(written(tmp_path, config.to_yaml())) == config


def test_there_is_a_shipped_configuration() -> None:
    assert (ROOT / "configs" / "quickstart.yaml").is_file()


def models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models(argument)]


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        found |= {
            prefix + name,
            *(key for inner in models(field.annotation) for key in fields(inner, f"{prefix}{name}.")),
        }
    return found


def test_the_schema_has_every_key_and_says_what_it_means() -> None:
    rows = list(keys(Config))
    assert {row[0] for row in rows} == fields(Config)
    assert {"topology.redraw.every", "optimizer.mixing.beta", "model.init.std", "task.bundle"} <= {
        r[0] for r in rows
    }
    for key, kind, _, meaning in rows:
        assert meaning.strip(), key
        assert kind.strip(), key
    kinds = {row[1].strip("'") for row in rows if row[0] == "topology.kind"}
    assert kinds == {model.model_fields["kind"].default for model in models(TopologyConfig)}
    shown = {row[0]: row[1:3] for row in rows}
    optimizers = [row[1].strip("'") for row in rows if row[0] == "optimizer.kind"]
    assert optimizers == list(OPTIMIZERS)
    assert shown["training.epochs"] == ("integer ≥ 1", "100")
    assert shown["model.sizes"][1] == "required"
