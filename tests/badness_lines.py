"""Bad input besides the configuration's keys: contradictions, YAML that is none, the command line."""

from __future__ import annotations

import inspect
import pickle
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer.models
from badness import Case, minimal, written, wrong_values

from fdtrain.cli import COMMANDS
from fdtrain.section import kinds_in, models_in
from fdtrain.topology.sources import Source, TopologyConfig

Content = dict[str, Any]
Cases = Iterator[tuple[str, Case]]

BASE: Content = {"topology": {"kind": "ring", "nodes": 6}, "model": {"sizes": [2, 1]}}
LONG = "x" * 300
RUN = ("run", "c.yaml", "--ranks", "1", "--out", "out")
CHECKS = [("config", "c.yaml"), RUN, ("verify", "c.yaml"), ("plan", "c.yaml")]

# What fits the schema and contradicts itself: dotted keys and values on top of BASE, and what the message says.
LINKS: Content = {
    "task.kind": "link_scheduling",
    "model.sizes": [1, 4, 4, 1],
    "training.batch": 2,
    "training.wave": 1,
}
CHANNELS: Content = {"task.kind": "power_allocation", "topology": None, "model": None}
CENTRAL: Content = {"training.mode": "centralized", "optimizer": {"kind": "sgd"}}
PUSH_SUM: Content = {"channel.parameters.missing": "push_sum"}
CONTRADICTIONS: list[tuple[Content, str]] = [
    ({"training.batch": 10, "training.wave": 11}, "wave: must be at most batch = 10, found 11"),
    ({"training.batch": 5, "training.wave": 100}, "wave: must be at most batch"),
    ({"task.train_samples": 99}, "training.batch: must be at most task.train_samples = 99, found 100"),
    *(
        ({"training.scheme": scheme, "training.consensus_rounds": 2}, "consensus_rounds:")
        for scheme in ("inference", "piggyback_do")
    ),
    *(
        ({"training.scheme": scheme, "training.slices": "even"}, "slices:")
        for scheme in ("inference", "per_sample", "per_batch", "piggyback")
    ),
    *(
        (
            {"optimizer.kind": kind, "training.scheme": "piggyback_do"},
            "training.scheme: piggyback_do sends what is mixed",
        )
        for kind in ("naive_sgd", "naive_adam")
    ),
    *(
        (
            {"optimizer.kind": kind, "training.scheme": "per_sample"},
            "training.scheme: per_sample has consensus on",
        )
        for kind in ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking")
    ),
    *(
        (
            {"optimizer.kind": kind, "optimizer.updates": "sample", "training.scheme": scheme},
            "training.scheme:",
        )
        for kind in ("naive_sgd", "naive_adam")
        for scheme in ("per_batch", "piggyback", "piggyback_do")
    ),
    *(
        ({"optimizer.kind": kind}, "optimizer.kind: training.mode distributed needs")
        for kind in ("sgd", "adam")
    ),
    *(
        (
            {"training.mode": "centralized", "optimizer.kind": kind},
            "optimizer.kind: training.mode centralized needs",
        )
        for kind in ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking", "naive_sgd", "naive_adam")
    ),
    (CENTRAL | {"model.init.per_node": True}, "model.init.per_node: a centralized model"),
    (CENTRAL | {"training.scheme": "inference"}, "training.scheme: inference sends messages"),
    (CENTRAL | {"channel.loss": 0.5}, "channel: training.mode centralized sends no messages"),
    ({"topology": {"kind": "bundle"}}, "topology.kind: bundle takes the edges of task.bundle"),
    ({"topology": {"kind": "channels"}}, "topology.kind:"),
    ({"topology": {"kind": "file", "path": "nowhere.edges"}}, "nowhere.edges: no such file"),
    ({"topology": {"kind": "file", "path": LONG}}, "no such file"),
    ({"task.bundle": "nowhere.npz"}, "nowhere.npz: no such file"),
    ({"task.bundle": LONG}, "no such file"),
    ({"task.bundle": "."}, "no such file"),
    ({"task.bundle": "d.npz", "task.noise": 0.5}, "task: noise: has no meaning beside a bundle"),
    ({"task.bundle": "d.npz", "task.online": True}, "task: online: has no meaning beside a bundle"),
    ({"optimizer": {"kind": "plugin", "target": "nowhere:Class"}}, "allow it with --allow-plugins"),
    (
        {"model.sizes": [2, 3, 1], "model.activation": ["tanh"]},
        "activation: needs one name or 2 of them, found 1",
    ),
    ({"model.activation": []}, "activation: needs one name or 1 of them, found 0"),
    ({"model.init": {"low": 1.0, "high": 0.0}}, "low must be below high"),
    ({"model.init": {"low": -1e308, "high": 1e308}}, "less than 1e308 apart"),
    ({"model": {"kind": "uwmmse"}}, "model.kind: the task node_regression needs gcnn, found uwmmse"),
    ({"optimizer": {"kind": "d_sgd", "lr_schedule": {"kind": "cosine", "final": 1.0}}}, "must be at most lr"),
    ({"training.early_stop": {"patience": 1, "metric": "rate_train"}}, "training.early_stop.metric:"),
    ({"training.early_stop": {"patience": 1, "metric": "ratio_test"}}, "training.early_stop.metric:"),
    # topologies
    *(
        ({"topology": {"kind": kind, **own, "redraw": {"every": 1}}}, "is the same at every draw")
        for kind, own in (
            ("ring", {"nodes": 6}),
            ("star", {"nodes": 6}),
            ("path", {"nodes": 6}),
            ("complete", {"nodes": 6}),
            ("grid", {"rows": 2, "cols": 3}),
            ("file", {"path": "abilene"}),
        )
    ),
    (
        {"topology": {"kind": "barabasi_albert", "nodes": 5, "m": 5}},
        "m: must be less than nodes = 5, found 5",
    ),
    ({"topology": {"kind": "erdos_renyi", "nodes": 5}}, "give exactly one of the two, found neither"),
    ({"topology": {"kind": "erdos_renyi", "nodes": 5, "p": 0.5, "mean_degree": 2}}, "of the two, found both"),
    ({"topology": {"kind": "erdos_renyi", "nodes": 5, "mean_degree": 5}}, "mean_degree: must be at most"),
    ({"topology": {"kind": "erdos_renyi", "nodes": 5, "mean_degree": [3, 2]}}, "a range [low, high]"),
    ({"topology": {"kind": "erdos_renyi", "nodes": 10**6, "p": 0.5}}, "small enough for 50,000,000 edges"),
    ({"topology": {"kind": "erdos_renyi", "nodes": 9, "p": 0.0}}, "no connected graph in 100 draws"),
    ({"topology": {"kind": "watts_strogatz", "nodes": 5, "k": 6, "p": 0.1}}, "k: must be at most nodes"),
    ({"topology": {"kind": "watts_strogatz", "nodes": 5, "k": 3, "p": 0.1}}, "k: must be even"),
    ({"topology": {"kind": "random_regular", "nodes": 5, "degree": 5}}, "degree: must be less than nodes"),
    ({"topology": {"kind": "random_regular", "nodes": 5, "degree": 3}}, "nodes · degree must be even"),
    ({"topology": {"kind": "grid", "rows": 10**5, "cols": 10**5}}, "rows · cols: must be at most"),
    ({"topology": {"kind": "conflict", "network": {"kind": "path", "nodes": 2}}}, "topology"),
    (
        {"topology": {"kind": "conflict", "network": {"kind": "ring", "nodes": 5, "seed": 1}}},
        "put it beside network",
    ),
    ({"topology": {"kind": "conflict", "network": {"kind": "ring", "nodes": 5}, "links": 6}}, "topology"),
    # other tasks
    (CHANNELS | {"topology": {"kind": "ring", "nodes": 5}}, "topology.kind: the network of power_allocation"),
    (
        CHANNELS | {"model": {"kind": "gcnn", "sizes": [1, 1]}},
        "model.kind: the task power_allocation needs uwmmse",
    ),
    (
        CHANNELS | {"task.online": False, "task.mobility.speed": 1.0},
        "online: false has no meaning beside mobility",
    ),
    (CHANNELS | {"task.bundle": "h.npz", "task.area": 5.0}, "area: has no meaning beside a bundle"),
    (CHANNELS | {"task.bundle": "h.npz"}, "h.npz: no such file"),
    (CHANNELS | {"channel.loss": 0.5}, "channel"),
    (LINKS | {"channel.loss": 0.5}, "channel"),
    (LINKS | {"model": {"kind": "uwmmse"}}, "model.kind: the task link_scheduling needs gcnn"),
    # channels
    (
        PUSH_SUM | {"optimizer.kind": "naive_sgd", "training.scheme": "per_batch"},
        "channel.parameters.missing: push_sum",
    ),
    (
        PUSH_SUM | {"optimizer.kind": "naive_adam", "training.scheme": "piggyback"},
        "channel.parameters.missing: push_sum",
    ),
    (
        PUSH_SUM | {"optimizer.kind": "naive_sgd", "training.scheme": "per_sample"},
        "channel.parameters.missing: push_sum",
    ),
    (PUSH_SUM | {"training.scheme": "inference"}, "channel.parameters.missing: push_sum"),
    *(
        (
            {f"channel.{part}.delay": {"kind": "uniform", "low": 3, "high": 2}},
            "low: must be at most high = 2, found 3",
        )
        for part in ("features", "backward", "parameters")
    ),
    *(
        (
            {f"channel.{kind}": [{**what, "start": start, "stop": stop}]},
            f"stop: must be more than start = {start}",
        )
        for kind, what in (
            ("outages", {"links": [[0, 1]]}),
            ("partitions", {"nodes": [0]}),
            ("crashes", {"nodes": [0]}),
        )
        for start, stop in ((3, 3), (3, 2), (0, 0))
    ),
    *(
        ({"channel.outages": [{"links": [pair]}]}, f"found [{pair[0]}, {pair[1]}]")
        for pair in ([0, 6], [6, 0], [2, 2], [0, 10**12], [7, 8])
    ),
    *(
        (
            {f"channel.{kind}": [{"nodes": [0, node]}]},
            f"channel.{kind}.nodes: must be below 6, the number of nodes",
        )
        for kind in ("partitions", "crashes")
        for node in (6, 7, 10**15)
    ),
    ({"channel.partitions": [{}]}, "nodes, fraction: give exactly one of the two, found neither"),
    (
        {"channel.partitions": [{"nodes": [0], "fraction": 0.5}]},
        "nodes, fraction: give exactly one of the two, found both",
    ),
    *(
        ({f"channel.{kind}": {"nodes": [0]}}, f"channel.{kind}")
        for kind in ("outages", "partitions", "crashes")
    ),
    *(
        ({"channel.outages": [{"links": links}]}, "channel.outages.0.links")
        for links in ([[0]], [[0, 1, 2]], [0, 1], [])
    ),
    *(
        ({"channel.loss": loss}, "channel.loss")
        for loss in (-0.1, 1.1, 2, float("nan"), float("inf"), "30%", True)
    ),
    *(
        ({"channel.features.delay": delay}, "channel.features.delay")
        for delay in (-1, 10**7, 0.5, "two", True)
    ),
]


def _set(content: Content, key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for part in outer:
        content = content.setdefault(part, {})
    content[last] = value


def contradiction_cases() -> Cases:
    """Each by a file, and by overrides of a file that is right."""
    for number, (change, message) in enumerate(CONTRADICTIONS):
        content: Content = {key: dict(value) for key, value in BASE.items()}
        removed = [key for key, value in change.items() if value is None]
        given = {key: value for key, value in change.items() if value is not None}
        for key in removed:
            del content[key]
        right = {"c.yaml": written(content).encode()}
        for key, value in given.items():
            _set(content, key, value)
        command = CHECKS[number % len(CHECKS)]
        yield "contradiction", Case(f"{change}", command, {"c.yaml": written(content).encode()}, (message,))
        overrides = tuple(f"{key}={written(value)}" for key, value in given.items())
        arguments = (*RUN[:2], *overrides, *RUN[2:])
        yield "contradiction by overrides", Case(f"{overrides}", arguments, right, (message,))


YAML: dict[str, bytes] = {
    "empty": b"",
    "white": b" \n\n",
    "comment": b"# nothing\n",
    "null": b"null\n",
    "a list": b"- 1\n- 2\n",
    "a word": b"just words\n",
    "a number": b"7\n",
    "a date": b"2026-01-01\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "tab": b"topology:\n\tkind: ring\n",
    "unclosed list": b"seed: [1\n",
    "unclosed mapping": b"model: {sizes: [2, 1]\n",
    "unclosed text": b'name: "abc\n',
    "closed twice": b"seed: 1]\n",
    "indented": b"a: 1\n  b: 2\n",
    "colons": b"a: b: c\n",
    "undefined alias": b"seed: *nothing\n",
    "recursive list": b"a: &a [*a]\n",
    "recursive mapping": b"a: &a {b: *a}\n",
    "recursive root": b"&r {topology: *r, model: *r}\n",
    "a merge of no mapping": b"<<: 3\n",
    "a merge of itself": b"a: &a\n  <<: *a\n",
    "python object": b"seed: !!python/object/apply:os.getcwd []\n",
    "unknown tag": b"seed: !secret 3\n",
    "tag of an integer": b"seed: !!int x\n",
    "tag of a float": b"seed: !!float x\n",
    "tag of a bool": b"seed: !!bool x\n",
    "tag of a time": b"seed: !!timestamp x\n",
    "broken binary": b"seed: !!binary a\n",
    "list as a key": b"? [a]\n: 1\n",
    "mapping as a key": b"? {a: 1}\n: 1\n",
    "impossible date": b"seed: 2026-13-45\n",
    "impossible time": b"seed: 2026-01-01 99:99:99\n",
    "invalid UTF-8": b"name: \xff\xfe\xfa\n",
    "cut UTF-8": "name: é".encode()[:-1],
    "UTF-16": "a: 1\n".encode("utf-16"),
    "UTF-32": "a: 1\n".encode("utf-32"),
    "zeros": b"\x00" * 100,
    "control characters": b"name: \x01\x02\n",
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(range(256)),
    "gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 50,
    "zip": b"PK\x03\x04" + b"\x14\x00" * 40,
    "pickle": pickle.dumps({"seed": 1}),
    "JSON cut short": b'{"topology": {"kind": "ring", "nodes": 6}, "model": {"si',
    "HTML": b"<!DOCTYPE html><html></html>\n",
    "deep list": b"a: " + b"[" * 5000 + b"]" * 5000,
    "deep mapping": b"{a: " * 3000 + b"1" + b"}" * 3000,
    "deep and open": b"[" * 20000,
    "deep blocks": b"".join(b" " * k + b"a:\n" for k in range(1500)),
    "deep sequence": b"- " * 3000 + b"1\n",
    "many digits": b"seed: " + b"9" * 5000 + b"\n",
    "octal": b"seed: 0o9\n",
    "sexagesimal": b"seed: 1:99:99\n",
    "laughs": b"a: &a [x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c, *%c, *%c]\n" % (k + 1, k + 1, k, k, k, k) for k in range(97, 121)),
    "10 MB of a": b"name: " + b"a" * 10_000_000 + b"\n",
    "10 MB of binary": bytes(range(128, 256)) * 80_000,
    "10 MB of a comment": b"# " + b"a" * 10_000_000 + b"\n",
    "directive": b"%YAML 9.9\n---\na: 1\n",
    "broken directive": b"%YAML x\n---\na: 1\n",
    "anchor twice": b"a: &x 1\nb: &x\n",
    "quoted line": b"'topology\n\n",
}


def yaml_cases() -> Cases:
    """As a configuration, as a sweep, and what of it a value can be as an override's."""
    for name, text in YAML.items():
        yield "YAML", Case(f"{name} to run", RUN, {"c.yaml": text})
        if len(text) < 100_000 and not name.startswith("deep"):
            yield "YAML", Case(f"{name} to sweep", ("sweep", "c.yaml", "--out", "out"), {"c.yaml": text})
            yield "YAML", Case(f"{name} to topology", ("topology", "c.yaml"), {"c.yaml": text})


OVERRIDES = [
    "",
    "=",
    "==",
    "a",
    "a=b",
    "=5",
    ".=5",
    "training",
    "training.",
    "training.=5",
    ".training=5",
    "training..epochs=1",
    "training.epochs",
    "training.epochs=",
    "training.epochs==5",
    "training.epochs=[",
    "training.epochs={",
    "training.epochs=five",
    "training.epochs=1.5",
    "training.epochs=-1",
    "training.epochs=1e3",
    "training.epochs=true",
    "training.epochs=null",
    "training.epochs=5 6",
    "training.epochs= ",
    "training.epochs='5'",
    "training.epochs=0x",
    "training.epochs=1,2",
    "training.epochs.x=1",
    "Training.epochs=5",
    "training.Epochs=5",
    "training/epochs=5",
    "training:epochs=5",
    "training.epochs:5",
    " training.epochs=5",
    "training .epochs=5",
    "trainng.epochs=5",
    "training.epohs=5",
    "training=5",
    "training=[]",
    "training=",
    "model=",
    "model.sizes=",
    "model.sizes=[]",
    "model.sizes=3,2",
    "model.sizes.0=3",
    "model.sizes=[3, x]",
    "model.sizes=[[3, 1]]",
    "seed=",
    "seed=-1",
    "seed=9223372036854775808",
    "seed=1.0",
    "seed=x",
    "seed=*a",
    "seed=&a",
    "seed=!x 1",
    "seed=\t",
    "seed=%",
    "seed=@",
    "seed=`",
    "seed=\x00",
    "seed=\x1b[31m",
    "seed.x=1",
    "name=a b",
    "name=",
    "name=1",
    "name=../x",
    "name=.",
    "name=/",
    "name=null",
    "topology=",
    "topology=ring",
    "topology.kind=",
    "topology.kind=rng",
    "topology.kind.x=1",
    "topology.nodes=",
    "topology.nodes=many",
    "optimizer.lr=",
    "optimizer.lr=fast",
    "optimizer.lr=-.inf",
    "optimizer.lr=.nan",
    "optimizer.lr=0",
    "optimizer.mixing=metropolis",
    "optimizer.mixing.kind=x",
    "optimizer=adam",
    "channel=",
    "channel=yes",
    "channel.loss=x",
    "channel.los=0.1",
    "channel.features.missing=push_sum",
    "channel.parameters.missing=zero",
    "channel.backward.missing=hold",
    "axes.seed=1",
    "5=5",
    "null=1",
    "\u2028=1",
    "é=1",
    f"{LONG}=1",
    f"seed={LONG}",
    f"{'a.' * 2000}a=1",
    f"seed={'[' * 3000}",
    "--=1",
    "seed=1\nseed=2: 3",
    "training.early_stop=1",
]


def override_cases() -> Cases:
    """Overrides of a configuration that is right."""
    harmless = {"channel=", "training.early_stop=", "training.epochs= "}
    for number, override in enumerate(OVERRIDES):
        if override not in harmless:
            command, *rest = CHECKS[number % len(CHECKS)]
            yield (
                "override",
                Case(override[:60], (command, *rest, "--", override), {"c.yaml": written(BASE).encode()}),
            )


# What is given with a command so that it is whole, but for what is tried.
WHOLE: dict[str, tuple[str, ...]] = {
    "run": ("c.yaml", "--ranks", "1"),
    "verify": ("c.yaml",),
    "plan": ("c.yaml",),
    "sweep": ("s.yaml",),
    "cost": ("c.yaml",),
    "topology": ("ring", "nodes=6"),
    "config": ("c.yaml",),
    "bench": ("rounds", "c.yaml"),
    "report": (".",),
    "evaluate": (".", "--pairs", "5"),
    "schedule": (".", "abilene", "w.csv"),
    "scale": ("c.yaml",),
    "predict": ("c.yaml",),
}
RANKS = [
    "0",
    "-1",
    "x",
    "1e3",
    "",
    " ",
    "1.5",
    "+2",
    "2x",
    "0x2",
    "٣",
    "²",
    "pure ",
    "Pure",
    "autos",
    "1,2",
    "1000",
    "999999999",
    "9" * 30,
    "nan",
    "inf",
]
WHOLE_NUMBERS = ["x", "1e3", "1.5", "", "0x10", "one", "1,2", "nan", "--"]
LISTS = ["", "0", "x", "-1", "1,,2", ",", "1,x", "1.5", "1e3", "1;2", "9" * 30, "1,-2", "²"]
FILES = {"c.yaml": written(BASE).encode(), "s.yaml": b"name: s\nbase: c.yaml\naxes: {seed: [1]}\n"} | {
    f"d{suffix}/x": b"" for suffix in (".csv", ".png", ".json", ".html")
}


def _options(command: str) -> Iterator[tuple[str, Any, Any]]:
    """(parameter, plain type, what typer is told) of a command's options."""
    function = COMMANDS[command]
    hints = typing.get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        plain, *rest = typing.get_args(hints[name]) or (hints[name],)
        told = next((one for one in rest if isinstance(one, typer.models.OptionInfo)), None)
        if told is not None:
            yield name, plain, told


def _bad_values(command: str, name: str, plain: Any, told: Any) -> list[str]:
    """What an option of that name and type cannot be."""
    some = {part for part in typing.get_args(plain) if part is not type(None)} or {plain}
    if typing.get_origin(plain) is Literal:
        return ["nosuch", "", "MEAN", "0"]
    if command in ("scale", "predict") and name in ("ranks", "nodes", "degree", "hidden", "wave"):
        return [*LISTS, "7,101" if name == "ranks" else "1,1"]
    if name == "ranks" and str in some:
        return RANKS
    if int in some:
        below = [str(told.min - 1), str(-(10**30))] if told.min is not None else []
        above = [str(told.max + 1), str(10**30)] if told.max is not None else []
        return [*WHOLE_NUMBERS, *below, *above]
    if float in some:
        return ["x", "", "0", "-1", "nan", "inf", "1e7", "1,5"]
    if Path in some and (command not in ("run", "sweep", "scale") or name == "measure"):
        stems = ("nowhere/out", "c.yaml/out", LONG, "d")
        suffixed = [f"{stem}{suffix}" for suffix in (".csv", ".png", ".json", ".html") for stem in stems]
        return ["", "out", "out.nosuch", "/proc/nowhere/o.csv", *suffixed]
    if Path in some:
        return ["c.yaml", "c.yaml/out", LONG, "/proc/nowhere/out", f"a/{LONG}"]
    if name == "layers":
        return [*LISTS, "201", "1,999999"]
    if str in some and name in ("batches", "waves", "consensus", "pairs"):
        return LISTS
    return []


def option_cases() -> Cases:
    """Every option of every command with values that it cannot have; unknown ones; arguments missing or too many."""
    for command, whole in WHOLE.items():
        for name, plain, told in _options(command):
            option = next(
                (one for one in told.param_decls or () if one.startswith("--")), f"--{name.replace('_', '-')}"
            )
            option = option.split("/")[0]
            for value in _bad_values(command, name, plain, told):
                yield (
                    "option",
                    Case(f"{command} {option} {value[:40]!r}", (command, *whole, f"{option}={value}"), FILES),
                )
            wrong = f"{option}z"
            yield "unknown option", Case(f"{command} {wrong}", (command, *whole, wrong), FILES, (wrong,))
            if bool not in (typing.get_args(plain) or (plain,)):
                yield (
                    "option without value",
                    Case(f"{command} {option}", (command, *whole, option), FILES, (option,)),
                )
            else:
                yield "option", Case(f"{command} {option}=7", (command, *whole, f"{option}=7"), FILES)
        for extra in ("--nosuch", "-q", "--nosuch=1", "-9", "---"):
            yield "unknown option", Case(f"{command} {extra}", (command, *whole, extra), FILES)
        if command not in ("config", "cost", "scale"):
            yield "missing argument", Case(command, (command,), FILES)
        for place in range(len(whole)):
            for value in ("", "nowhere", "nowhere.yaml", "/", LONG, "\x00", "d.csv", "é\u2028"):
                if whole[place] in ("c.yaml", "s.yaml", ".", "w.csv", "abilene", "ring", "rounds") and (
                    command,
                    value,
                ) != ("report", ""):
                    arguments = (command, *whole[:place], value, *whole[place + 1 :])
                    yield "argument", Case(f"{command}: {value[:20]!r} for {whole[place]}", arguments, FILES)
    for name in ("nosuch", "runn", "", "Run", "RUN", "--nosuch", "-x", "c.yaml"):
        yield "unknown command", Case(f"command {name!r}", (name,), FILES)


def kind_cases() -> Cases:
    """``fdtrain topology KIND key=value`` with the keys of every kind."""
    for kind in kinds_in(TopologyConfig):
        (model,) = (one for one in models_in(TopologyConfig) if one.model_fields["kind"].default == kind)
        own = {name: value for name, value in minimal(model).items() if name != "kind"}
        given = {name: f"{name}={written(value)}" for name, value in own.items()}
        if kind in ("bundle", "channels"):  # whose networks come with a task
            yield "topology by kind", Case(kind, ("topology", kind), {})
            continue
        for name in model.model_fields:
            for what, value in list(wrong_values(model, name))[:: 3 if name in Source.model_fields else 1]:
                if name != "kind":
                    parameters = {**given, name: f"{name}={written(value)}"}
                    yield (
                        "topology by kind",
                        Case(f"{kind}: {name} is {what}", ("topology", kind, *parameters.values())),
                    )
            if name in own:
                less = [text for key, text in given.items() if key != name]
                yield (
                    "topology by kind",
                    Case(f"{kind} without {name}", ("topology", kind, *less), {}, (name,)),
                )
        for extra in ("nosuch=1", "nodes", "=1", "kind=rng", "redraw.nosuch=1"):
            yield "topology by kind", Case(f"{kind} {extra}", ("topology", kind, *given.values(), extra))


OWN = b"""class Own:
    travels = ('theta',)
    mixes_gradient = False
    def __init__(self, lr): pass
"""
PLUGINS: dict[str, bytes] = {
    "empty": b"",
    "not Python": b"class Own(:\n",
    "binary": bytes(range(256)),
    "invalid UTF-8": b"# \xff\nclass Own: pass\n",
    "another name": b"class Other: pass\n",
    "no class": b"Own = 3\n",
    "missing import": b"import nosuchmodule\n",
    "raises": b"raise RuntimeError('two\\nlines')\n",
    "exits": b"import sys\nsys.exit(0)\n",
    "divides by zero": b"x = 1 / 0\n",
    "never ends its stack": b"def f(): f()\nf()\n",
    "takes nothing": b"class Own: pass\n",
    "raises when made": b"class Own:\n    def __init__(self, lr): raise ValueError('no')\n",
    "exits when made": b"class Own:\n    def __init__(self, lr): raise SystemExit(3)\n",
    "has no parts": b"class Own:\n    def __init__(self, lr): pass\n",
    "travels as text": OWN.replace(b"('theta',)", b"'theta'")
    + b"    init = outgoing = step = theta = lambda self, *a: a[0]\n",
    "another shape": OWN
    + b"    init = theta = lambda self, x: x\n"
    + b"    outgoing = lambda self, s, g: g[0]\n    step = lambda self, g, m, s: s\n",
    "returns nothing": OWN + b"    init = outgoing = step = theta = lambda self, *a: None\n",
}


def plugin_cases() -> Cases:
    """Optimizers of the user's that are none."""
    for what, code in PLUGINS.items():
        config = BASE | {"optimizer": {"kind": "plugin", "target": "own.py:Own"}}
        files = {"c.yaml": written(config).encode(), "own.py": code}
        yield "plugin", Case(what, (*RUN, "--allow-plugins"), files)
        yield "plugin", Case(f"{what}, not allowed", RUN, files, ("--allow-plugins",))
    for target in (
        "own.py",
        "own.py:",
        ":Own",
        "nowhere.py:Own",
        "nosuch:Own",
        "json:nosuch",
        "json:decoder",
        "..:x",
        "own.py:a.b",
        "os:system",
    ):
        config = BASE | {"optimizer": {"kind": "plugin", "target": target}}
        files = {"c.yaml": written(config).encode(), "own.py": b"x = 1\n"}
        yield "plugin", Case(target, (*RUN, "--allow-plugins"), files)
