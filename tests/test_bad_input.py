"""At least 1000 bad configurations and damaged inputs: one line and exit status 2 each; no hang, nothing left behind.

They are generated, the same ones every time, and each is bad by construction. They go through the command line's own
entry in this process, and a sample through processes, some of them with ranks.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import badness_files as files
import badness_lines as lines
import numpy as np
import pytest
import typer.main
from badness import Case, floats_that_take_nan, schema_cases, written
from commands import fdtrain, mpirun, needs_mpi, one_line_error

from fdtrain import cli
from fdtrain.config import Config

SECONDS = 3.0  # of the processor, that a case may take
PATIENCE = 60.0  # seconds until a case hangs, on a machine that has other things to do
LONGEST = 1000  # characters of a message
RUNS: dict[str, dict[str, Any]] = {
    "nodes": {
        **lines.BASE,
        "task": {"train_samples": 6, "test_samples": 2},
        "training": {"epochs": 2, "batch": 3},
    },
    "links": {
        "task": {"kind": "link_scheduling", "graphs": 2, "test_graphs": 1, "test_samples": 2},
        "topology": {"kind": "erdos_renyi", "nodes": 8, "mean_degree": 4.0},
        "model": {"sizes": [1, 4, 4, 1]},
        "training": {"epochs": 1, "batch": 4, "wave": 2},
        "optimizer": {"kind": "naive_adam", "lr": 0.02},
    },
    "power": {
        "task": {"kind": "power_allocation", "pairs": 5, "minibatches": 3, "test_minibatches": 1},
        "training": {"batch": 2, "wave": 2, "log_every": 1},
    },
}
SCHEDULE = ("schedule", "links", "g.edges", "w.csv", "--ranks", "1")
EVALUATE = ("evaluate", "power", "--pairs", "4", "--minibatches", "1", "--ranks", "1")
GRAPH = {
    "g.edges": b"0 1\n1 2\n2 3\n3 4\n4 0\n",
    "w.csv": b"node,weight\n0,1\n1,2\n2,3\n3,4\n4,5\n",
}


class HangsError(BaseException):
    """A case did not end; no handler of the product takes it."""


@pytest.fixture(scope="module", autouse=True)
def _command_line_made_once() -> Iterator[None]:
    """Typer makes the command line anew at every call, which takes longer than the calls here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of a finished run of every task, by their paths."""
    found = {}
    folder = tmp_path_factory.mktemp("runs")
    with contextlib.chdir(folder):
        for name, content in RUNS.items():
            (folder / "c.yaml").write_text(written(content))
            status, told, _ = call(
                ("run", "c.yaml", "--ranks", "1", "--out", name, "--no-figures", "--no-verify")
            )
            assert status == 0, told
            found[name] = {
                str(f.relative_to(folder)): f.read_bytes() for f in folder.glob(f"{name}/*") if f.is_file()
            }
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(arguments: Iterable[str]) -> tuple[Any, str, str]:
    """Exit status, or whatever else ended it, standard error and standard output of a command, in this process."""

    def hangs(*_: Any) -> None:
        raise HangsError(f"no end after {PATIENCE:g} s")

    output, errors = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status: Any = cli.run_command([*arguments], None)
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return status, errors.getvalue(), output.getvalue()


def put(content: dict[str, bytes]) -> None:
    for name, raw in content.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(raw)


def take_away(folder: Path) -> None:
    for one in folder.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


def present(folder: Path) -> dict[str, int]:
    """All files and directories, with their sizes."""
    return {str(one): one.stat().st_size if one.is_file() else 0 for one in folder.rglob("*")}


def is_one_line(errors: str) -> bool:
    told = errors.removesuffix("\n")
    return told.startswith("error: ") and told.isprintable() and len(told) <= LONGEST


def complaints(case: Case, folder: Path) -> list[str]:
    """What is wrong with how a bad case is refused."""
    put(case.files)
    before, started = present(folder), time.process_time()
    status, errors, output = call(case.arguments)
    found = []
    if status != 2:
        found.append(f"status {status}")
    if not is_one_line(errors):
        found.append("not one line")
    found += [f"does not say {words!r}" for words in case.says if words not in errors]
    if case.suggests and not any(f"did you mean '{key}'?" in errors for key in case.suggests[1]):
        found.append(f"does not name the nearest key to {case.suggests[0]!r}")
    if output:
        found.append(f"wrote {output[:100]!r}")
    if present(folder) != before:
        found.append(f"left {sorted(present(folder).items() ^ before.items())}")
    if time.process_time() - started > SECONDS:
        found.append(f"took {time.process_time() - started:.1f} s")
    take_away(folder)
    return [f"{case.name}: {'; '.join(found)}: {errors[:300]!r}"] if found else []


Runs = dict[str, dict[str, bytes]]
SOURCES: dict[str, Callable[[Runs], Iterable[tuple[str, Case]]]] = {
    "schema": lambda runs: schema_cases(Config, lines.BASE, lines.CHECKS),
    "contradictions": lambda runs: lines.contradiction_cases(),
    "YAML": lambda runs: lines.yaml_cases(),
    "overrides": lambda runs: lines.override_cases(),
    "options": lambda runs: lines.option_cases(),
    "kinds": lambda runs: lines.kind_cases(),
    "plugins": lambda runs: lines.plugin_cases(),
    "bundles": lambda runs: files.bundle_cases(),
    "graphs": lambda runs: files.topology_cases(),
    "sweeps": lambda runs: files.sweep_cases(),
    "weights": lambda runs: files.weight_cases(runs["links"]),
    "schedule": lambda runs: files.run_cases(runs["links"] | GRAPH, "links", SCHEDULE, "topology"),
    "evaluate": lambda runs: files.run_cases(runs["power"], "power", EVALUATE),
    "overrides of evaluate": lambda runs: files.evaluate_cases(runs["power"], EVALUATE),
    "directories of sweeps": lambda runs: files.sweep_directory_cases(),
    "report": lambda runs: files.report_cases(runs["nodes"], "nodes"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_bad_input_is_refused_in_one_line(source: str, here: Path, runs: Runs) -> None:
    tried = 0
    found = []
    for _, case in SOURCES[source](runs):
        tried += 1
        found += complaints(case, here)
    assert tried
    assert not found, f"{len(found)} of {tried}:\n" + "\n".join(found[:40])


def test_there_are_1000_cases_of_many_kinds(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    made = [(source, category, case) for source, make in SOURCES.items() for category, case in make(runs)]
    same = {(case.arguments, tuple(sorted(case.files.items()))) for _, _, case in made}
    counts = Counter(category for _, category, _ in made)
    with capsys.disabled():
        print(f"\n{len(same):,} different bad cases:", ", ".join(f"{name} {n}" for name, n in counts.items()))
    assert len(same) >= 1000
    assert len(counts) >= 20
    assert min(counts.values()) >= 5
    by_source = Counter(source for source, _, _ in made)
    assert min(by_source.values()) >= 20, by_source


def test_every_key_of_the_schema_is_tried() -> None:
    """A section that is added later is tried, too."""
    from fdtrain.schema import keys

    tried = [case.name for _, case in schema_cases(Config, lines.BASE, lines.CHECKS)]
    places = {"".join(c for c in name.partition(": ")[0]) for name in tried}
    plain = {
        ".".join(part.partition("[")[0] for part in place.split(".") if part not in ("", "0"))
        for place in places
    }
    missing = {key for key, *_ in keys(Config) if not key.endswith("kind")} - plain
    assert not missing


def test_no_number_of_the_configuration_may_be_nan() -> None:
    assert not floats_that_take_nan(Config, lines.BASE)


# Bits whose change may be harmless: then the result is that of the undamaged file.
EITHER = {
    "bundle": ("d.npz", {"c.yaml": written(files.BUNDLED).encode()}, (*lines.RUN, "--no-figures", "--no-verify")),
    "channels": ("d.npz", {"c.yaml": written(files.ALLOCATED).encode()}, (*lines.RUN, "--no-figures", "--no-verify")),
    "graph": ("g.npz", {}, ("topology", "g.npz")),
    "weights": ("w.npz", {}, ("schedule", "links", "g.edges", "w.npz", "--ranks", "1", "--out", "out.csv")),
    "parameters": ("links/theta.npz", {}, (*SCHEDULE, "--out", "out.csv")),
}  # fmt: skip


@pytest.mark.parametrize("what", EITHER)
def test_a_changed_bit_is_refused_or_harmless(what: str, here: Path, runs: Runs) -> None:
    name, beside, arguments = EITHER[what]
    links = runs["links"] | GRAPH if "links" in arguments else {}
    good = {
        "bundle": files.archive(**files.bundle_arrays()),
        "channels": files.archive(**files.channel_arrays()),
        "graph": files.archive(adjacency=files.ADJACENCY),
        "weights": files.archive(weights=np.linspace(0.1, 1, 5)),
    }.get(what) or runs["links"]["links/theta.npz"]

    def outcome(raw: bytes) -> tuple[Any, str, Any]:
        put({**beside, **links, name: raw})
        before = present(here)
        status, errors, output = call(arguments)
        if status == 2:
            assert present(here) == before
        results = [
            Path(file).read_bytes()
            for file in ("out/theta.npz", "out/metrics.csv", "out.csv")
            if os.path.exists(file)
        ]
        take_away(here)
        return status, errors, (results, output if what == "graph" else "")

    status, _, expected = outcome(good)
    assert status == 0
    assert expected[0] or expected[1]
    rng = np.random.default_rng(7)
    arrays = files.array_places(good)
    outside = [place for place in range(len(good)) if not any(place in inside for inside in arrays)]
    harmless = 0
    for place in rng.choice(outside, 40, replace=False):
        status, errors, found = outcome(files.flipped(good, int(place), int(rng.integers(8))))
        if status == 0:
            assert found == expected, place
            harmless += 1
        else:
            assert status == 2, (place, status)
            assert is_one_line(errors), (place, errors)
    assert 0 < harmless < 40


WORDS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"- ",
    b"\n",
    b" ",
    b"\t",
    b"&a",
    b"*a",
    b"!!",
    b"|",
    b"'",
    b"#",
    b"null",
    b".nan",
    b"1e9",
    b"\xff",
]
RIGHT = b"""topology: {kind: erdos_renyi, nodes: 9, mean_degree: [3, 5], redraw: {every: 2}}
model: {sizes: [3, 4, 1], activation: [tanh, relu], init: {kind: normal, std: 0.2}}
task: {train_samples: 8, test_samples: 3, noise: 0.2}
training: {epochs: 2, batch: 4, wave: 2, early_stop: {patience: 2}}
optimizer: {kind: d_adam, lr: 1e-2, lr_schedule: {kind: step, every: 2}, mixing: {kind: laplacian, beta: 0.1}}
channel:
  loss: 0.1
  features: {loss: {kind: gilbert_elliott, to_bad: 0.1, to_good: 0.4}, delay: 2, missing: drop_edge}
  parameters: {loss: 0.3, delay: {kind: geometric, mean: 1.5, max: 9}, missing: push_sum}
  outages: [{links: [[0, 1], [2, 3]], start: 1, stop: 3}]
  partitions: [{fraction: 0.5, stop: 4}]
  crashes: [{nodes: [1, 2], start: 2}]
"""


def test_a_changed_configuration_is_refused_or_another_one(here: Path) -> None:
    """Random changes of the text: what is still a configuration is printed, and reads back."""
    rng = np.random.default_rng(11)
    statuses = Counter[Any]()
    for _ in range(400):
        text = bytearray(RIGHT)
        for _ in range(rng.integers(1, 3)):
            place, kind = int(rng.integers(len(text))), rng.integers(4)
            if kind == 0:
                text[place] = int(rng.integers(256))
            elif kind == 1:
                del text[place : place + int(rng.integers(1, 8))]
            elif kind == 2:
                text[place:place] = WORDS[rng.integers(len(WORDS))]
            else:
                digits = [k for k, byte in enumerate(text) if byte in b"123456789"]
                text[digits[place % len(digits)]] = int(rng.choice([*b"123456789"]))
        put({"c.yaml": bytes(text)})
        status, errors, output = call(("config", "c.yaml"))
        if status == 0:
            put({"d.yaml": output.encode()})
            assert call(("config", "d.yaml")) == (0, "", output), text
        else:
            assert (status, is_one_line(errors)) == (2, True), (status, errors, text)
        statuses[status] += 1
    assert min(statuses[0], statuses[2]) > 20, statuses


DAMAGED = [b"", b"\xff\xfe", b"\x00" * 100, b"a,b\n1\n", b"[1, 2"]
OF_A_RUN = (
    "config.yaml",
    "timing.csv",
    "ledger.csv",
    "environment.json",
    "network.npz",
    "verify.json",
    "minibatches.csv",
)


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_report_tells_which_file_of_a_run_is_damaged(name: str, here: Path, runs: Runs) -> None:
    for number, raw in enumerate(DAMAGED[1:] if name in ("config.yaml", "timing.csv") else DAMAGED):
        put(runs["nodes"] | {f"nodes/{name}": raw})
        status, errors, _ = call(("report", "nodes"))
        assert status == 0, (number, status, errors)
        assert not errors
        assert name in (here / "nodes" / "report.html").read_text(encoding="utf-8")
        take_away(here)


def test_a_pipe_is_not_waited_for(here: Path, runs: Runs) -> None:
    put(runs["links"] | GRAPH)
    for name in ("c.yaml", "d.npz", "p.edges", "p.csv", "s.yaml"):
        os.mkfifo(name)
    put({"b.yaml": written(files.BUNDLED).encode()})
    for arguments in (
        ("run", "c.yaml"),
        ("run", "b.yaml", "--ranks", "1", "task.bundle=d.npz"),
        ("topology", "p.edges"),
        ("schedule", "links", "p.edges", "w.csv"),
        ("schedule", "links", "g.edges", "p.csv"),
        ("sweep", "s.yaml"),
        ("run", "b.yaml", "--out", "c.yaml"),
        ("report", "c.yaml"),
    ):
        status, errors, _ = call(arguments)
        assert (status, is_one_line(errors)) == (2, True), (arguments, status, errors)


HUGE = (10**9, 10**18, 2**63, 10**30, 10**300)
MEMORY = 4 << 30  # bytes


def test_huge_sizes_are_refused_or_planned_within_seconds(here: Path) -> None:
    """What has no upper limit of its own: it may be planned, or be too much in one line."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_AS, before)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
        for value in HUGE:
            for change in (
                {"model.sizes": [value, 1]},
                {"model.sizes": [2, value, value, 1]},
                {"training.batch": value, "task.train_samples": value},
                {"training.batch": value, "training.wave": value, "task.train_samples": value},
                {"training.epochs": value},
                {"task.test_samples": value},
                {"training.scheme": "per_batch", "training.consensus_rounds": value},
                {"channel.crashes": [{"nodes": [0], "start": value}]},
            ):
                overrides = [f"{key}={written(given)}" for key, given in change.items()]
                put({"c.yaml": written(lines.BASE).encode()})
                status, errors, output = call(("plan", "c.yaml", *overrides))
                assert (status == 0 and output) or (status == 2 and is_one_line(errors)), (
                    change,
                    status,
                    errors,
                )


def _sample(runs: Runs) -> list[Case]:
    """A case of every category, whichever its name's turn is."""
    chosen: dict[str, Case] = {}
    for make in SOURCES.values():
        kept = {}
        for category, case in make(runs):
            usable = "\x00" not in "".join(case.arguments) and sum(map(len, case.files.values())) < 1e6
            if usable and (category not in kept or hash_of(case.name) < hash_of(kept[category].name)):
                kept[category] = case
        chosen |= kept
    return [*chosen.values()]


def hash_of(text: str) -> int:
    """The same in every process."""
    from zlib import crc32

    return crc32(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("part", range(5))
def test_a_sample_of_them_as_processes(part: int, here: Path, runs: Runs) -> None:
    sample = _sample(runs)
    assert len(sample) >= 20
    for case in sample[part::5]:
        put(case.files)
        before = present(here)
        one_line_error(fdtrain(*case.arguments, cwd=here, timeout=60))
        assert present(here) == before, case.name
        take_away(here)


@needs_mpi
def test_a_sample_of_them_with_ranks(here: Path) -> None:
    ours = [case for _, case in files.bundle_cases() if case.arguments == lines.RUN]
    theirs = [case for category, case in lines.override_cases() if case.arguments[:2] == lines.RUN[:2]]
    for case in (*ours[::60], *theirs[::10]):
        put(case.files)
        arguments = ["2" if word == "1" else word for word in case.arguments]
        one_line_error(fdtrain(*arguments, cwd=here, timeout=60))
        assert not (here / "out").exists()
        take_away(here)


@needs_mpi
def test_some_of_them_under_mpirun(here: Path) -> None:
    ours = [case for _, case in files.bundle_cases() if case.arguments == lines.RUN]
    for case in ours[::120]:
        put(case.files)
        result = mpirun(2, ["-m", "fdtrain", "run", "c.yaml", "--out", "out"], cwd=here, timeout=60)
        assert result.returncode == 2, result.stderr
        assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 1
        assert "Traceback" not in result.stderr + result.stdout
        assert not (here / "out").exists()
        take_away(here)
