"""Checkpoint files that are damaged, missing or swapped, and writing them where it fails: never a wrong load."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from commands import environment

from fdtrain import checkpoint, driver, resumption
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment, build
from fdtrain.rundir import RunDirectory
from fdtrain.snapshot import Kept, Snapshot, cut, join

CONFIG: dict[str, Any] = {
    "seed": 3,
    "topology": {"kind": "ring", "nodes": 5},
    "model": {"sizes": [3, 2, 1], "activation": "sigmoid"},
    "task": {"train_samples": 6, "test_samples": 2},
    "training": {"epochs": 3, "batch": 2, "log_every": 2},
    "optimizer": {"kind": "d_adam", "lr": 0.01},
    "checkpoint": {"every": 1, "keep": 99},
}
OLD, NEW = 4, 7  # mini-batches; 3 are an epoch
HEADER = len(checkpoint.MAGIC) + 4 + 8 + 32


class Runs:
    """A run with two checkpoints, and others whose files do not belong there."""

    def __init__(self, folder: Path) -> None:
        self.experiment: Experiment = build(from_mapping(CONFIG))
        self.whole, self.run = folder / "whole", folder / "run"
        driver.run(from_mapping(CONFIG), out=self.whole, verify=False)
        self.other = folder / "other"
        driver.run(from_mapping({**CONFIG, "seed": 4}), out=self.other, verify=False)
        self.bytes = {t: self.file(self.whole, t).read_bytes() for t in range(1, 10)}
        self.intact()

    def file(self, run: Path, t: int) -> Path:
        return run / "checkpoints" / checkpoint.file_name(t)

    @property
    def newest(self) -> Path:
        return self.file(self.run, NEW)

    def intact(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.whole, self.run, ignore=shutil.ignore_patterns("*.ckpt"))
        for t in (OLD, NEW):
            self.file(self.run, t).write_bytes(self.bytes[t])

    def restore(self) -> None:
        """Undo what was done to the checkpoints."""
        folder = self.run / "checkpoints"
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink()
        for t in (OLD, NEW):
            self.file(self.run, t).write_bytes(self.bytes[t])

    def found(self) -> tuple[int | None, list[str]]:
        """The mini-batch after which the run would go on, with just what was saved then, and the notes; none where it
        refuses to."""
        try:
            saved, notes = resumption.newest(RunDirectory(self.run), self.experiment)
        except InputError as error:
            if not re.search(
                r" (is damaged|does not fit) .*and there is no other; .*--overwrite$", str(error)
            ):
                raise
            return None, [str(error)]
        assert all("\n" not in note for note in notes)
        assert not list(self.run.glob("checkpoints/*.writing"))
        if saved is None:
            return None, notes
        assert checkpoint.encode(saved.content) == self.bytes[saved.done]
        return saved.done, notes


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def test_the_newest_is_found(runs: Runs) -> None:
    assert runs.found() == (NEW, [])


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes that are not `data`."""
    draws = np.random.default_rng(0)
    for length in [
        *range(HEADER + 2),
        *draws.integers(HEADER + 2, len(data) - 1, 60).tolist(),
        len(data) - 1,
    ]:
        yield f"cut short to {length}", data[:length]
    for extra in (b"\0", b"\n", data[:100], data):
        yield f"{len(extra)} bytes too many", data + extra
        yield f"{len(extra)} bytes before it", extra + data
    places = [*range(HEADER * 8), *draws.integers(HEADER * 8, len(data) * 8, 150).tolist()]
    for bit in places:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped)
    for byte in draws.integers(0, len(data), 60).tolist():
        changed = bytearray(data)
        changed[byte] = (changed[byte] + int(draws.integers(1, 256))) % 256
        yield f"byte {byte} changed", bytes(changed)
    for first, size in zip(draws.integers(0, len(data) - 600, 60).tolist(), [16, 64, 512] * 20, strict=True):
        zeroed = bytearray(data)
        zeroed[first : first + size] = bytes(size)
        if zeroed != data:
            yield f"{size} bytes zeroed from {first}", bytes(zeroed)
        moved = data[:first] + data[first + size :] + data[first : first + size]
        if moved != data:
            yield f"{size} bytes moved from {first}", moved


def forgeries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files with a right checksum of a wrong content."""
    draws = np.random.default_rng(1)
    archive = data[HEADER:]
    yield "garbage", signed(draws.bytes(500))
    yield "nothing", signed(b"")
    yield "half of it", signed(archive[: len(archive) // 2])
    yield "another version", signed(archive, version=2)
    content = checkpoint.decode(data)
    wrongs: list[Any] = [[], "text", None, {}, {"position": 3}, {"position": {"minibatch": NEW}}]
    for wrong in wrongs:
        yield f"content {wrong}", checkpoint.encode(wrong)
    for key in ("of", "position", "files", "host", "seconds"):
        yield f"no {key}", checkpoint.encode({name: value for name, value in content.items() if name != key})
    for minibatch in (0, -1, 10, NEW + 1, "7", None, 10**12):
        position = content["position"] | {"minibatch": minibatch}
        yield f"mini-batch {minibatch}", checkpoint.encode({**content, "position": position})


def signed(archive: bytes, version: int = checkpoint.VERSION) -> bytes:
    header = checkpoint._HEADER.pack(version, len(archive), b"")
    digest = hashlib.sha256(header + archive).digest()
    return checkpoint.MAGIC + checkpoint._HEADER.pack(version, len(archive), digest) + archive


def test_damaged_checkpoints_are_not_loaded(runs: Runs) -> None:
    cases = [*damages(runs.bytes[NEW]), *forgeries(runs.bytes[NEW])]
    assert len({content for _, content in cases}) >= 500
    for name, content in cases:
        assert content != runs.bytes[NEW]
        runs.newest.write_bytes(content)
        done, notes = runs.found()
        assert done == OLD, name
        (note,) = notes
        assert note.startswith(f"checkpoint {runs.newest} is damaged ("), name
        assert note.endswith(f"): going on from {checkpoint.file_name(OLD)}")
    runs.restore()


def test_if_all_are_damaged_nothing_is_lost(runs: Runs) -> None:
    before = (runs.run / "metrics.csv").read_bytes()
    for length in range(0, len(runs.bytes[OLD]), 997):
        for t in (OLD, NEW):
            runs.file(runs.run, t).write_bytes(runs.bytes[t][:length])
        done, notes = runs.found()
        assert done is None
        assert " (and 1 more), " in notes[0]
    assert (runs.run / "metrics.csv").read_bytes() == before
    runs.restore()


def link_to_nowhere(runs: Runs) -> None:
    runs.newest.unlink()
    runs.newest.symlink_to(runs.run / "nothing")


def folder_instead(runs: Runs) -> None:
    runs.newest.unlink()
    runs.newest.mkdir()


def renamed(source: int, target: int) -> Callable[[Runs], Any]:
    return lambda runs: runs.file(runs.run, target).write_bytes(runs.bytes[source])


def with_other_times(t: int) -> Callable[[Runs], Any]:
    """Of another run of the same configuration, of which only the times differ."""

    def put(runs: Runs) -> None:
        content = checkpoint.decode(runs.bytes[t])
        size, _ = content["files"]["timing.csv"]
        content["files"]["timing.csv"] = [size, hashlib.sha256(bytes(size)).hexdigest()]
        runs.newest.write_bytes(checkpoint.encode(content))

    return put


FILES: dict[str, tuple[Callable[[Runs], Any], int | None, str]] = {
    "missing": (lambda runs: runs.newest.unlink(), OLD, ""),
    "both missing": (lambda runs: shutil.rmtree(runs.newest.parent), None, ""),
    "empty": (lambda runs: runs.newest.write_bytes(b""), OLD, "is empty"),
    "a folder": (folder_instead, OLD, "Is a directory"),
    "a link to nowhere": (link_to_nowhere, OLD, "No such file"),
    "an older one": (renamed(OLD, NEW), OLD, "is that of mini-batch 4"),
    "a newer one": (renamed(8, NEW), OLD, "is that of mini-batch 8"),
    "named as if newer": (renamed(OLD, 9), NEW, "is that of mini-batch 4"),
    "beyond the end": (renamed(OLD, 10), NEW, "is that of mini-batch 4"),
    "of a run with other times": (
        with_other_times(NEW),
        OLD,
        "timing.csv does not begin with what was there",
    ),
    "of another mini-batch of that run": (with_other_times(5), OLD, "is that of mini-batch 5"),
    "unfinished": (
        lambda runs: (runs.newest.parent / "minibatch-000000008.ckpt.writing").write_bytes(b"x"),
        NEW,
        "",
    ),
    "other names": (lambda runs: (runs.newest.parent / "minibatch-8.ckpt").write_bytes(b"x"), NEW, ""),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_missing_or_swapped(runs: Runs, name: str) -> None:
    damage, wanted, note = FILES[name]
    damage(runs)
    done, notes = runs.found()
    runs.restore()
    assert done == wanted
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_one_of_another_configuration_is_refused(runs: Runs) -> None:
    shutil.copy(runs.file(runs.other, NEW), runs.newest)
    with pytest.raises(
        InputError, match=r"is of another configuration: seed was 4, found 3 in config.yaml"
    ) as said:
        runs.found()
    runs.restore()
    assert str(runs.newest) in str(said.value)


@pytest.mark.parametrize("name", ["metrics.csv", "minibatches.csv", "timing.csv"])
def test_results_that_were_changed(runs: Runs, name: str) -> None:
    """A checkpoint belongs to the lines that were there when it was written."""
    file = runs.run / name
    content = file.read_bytes()
    saved = {t: checkpoint.decode(runs.bytes[t])["files"][name][0] for t in (OLD, NEW)}
    assert saved[OLD] < saved[NEW] < len(content)
    for changed, wanted in (
        (content[: saved[NEW]], NEW),
        (content[: saved[NEW]] + b"half a line", NEW),
        (content[: saved[NEW] - 1], OLD),
        (content[: saved[OLD]] + b"0" + content[saved[OLD] + 1 :], OLD),
        (content[: saved[OLD] - 1], None),
        (b"0" + content[1:], None),
        (b"", None),
    ):
        file.write_bytes(changed)
        done, notes = runs.found()
        assert done == wanted, changed
        assert len(notes) == (wanted != NEW)
        assert all(f"{name} does not begin with" in note for note in notes)
    file.unlink()
    assert runs.found()[0] is None
    file.write_bytes(content)


def test_a_damaged_one_is_said_by_the_command(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(driver.Quiet, "note", lambda self, text: notes.append(text))
    monkeypatch.setattr(driver.Quiet, "resumed", lambda self, done: notes.append(f"from {done}"))
    (runs.run / "environment.json").unlink()
    runs.newest.write_bytes(runs.bytes[NEW][:-1])
    driver.resume(runs.run)
    assert notes[0].startswith(f"note: checkpoint {runs.newest} is damaged (has ")
    assert notes[1] == "from 4"
    assert runs.newest.read_bytes() != runs.bytes[NEW][:-1]  # this life has written it again
    for name in ("metrics.csv", "minibatches.csv", "theta.npz", "ledger.csv"):
        assert (runs.run / name).read_bytes() == (runs.whole / name).read_bytes()
    runs.intact()


# --- writing ---


class Killed(BaseException):
    """The process ends here: nobody cleans up."""


class Failing:
    """The calls by which a file is written; the one with number `at` fails, and a write after `some` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, some: int = 0) -> None:
        self.calls = list[str]()
        self._at, self._error, self._some = at, error, some
        for place, name in ((os, "fsync"), (os, "replace"), (Path, "read_bytes")):
            monkeypatch.setattr(place, name, self._instead(name, getattr(place, name)))
        opened = Path.open

        def open_(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if mode != "xb":
                return opened(path, mode, *rest, **named)
            self._step("open")
            stream = opened(path, mode, buffering=0)
            return Writer(stream, self)

        monkeypatch.setattr(Path, "open", open_)

    def _instead(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._step(name)
            return real(*arguments, **named)

        return call

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) - 1 == self._at:
            raise self._error

    def write(self, stream: IO[bytes], data: bytes) -> None:
        self.calls.append("write")
        fails = len(self.calls) - 1 == self._at
        stream.write(data[: self._some] if fails else data)
        if fails:
            raise self._error


class Writer:
    def __init__(self, stream: IO[bytes], failing: Failing) -> None:
        self._stream, self._failing = stream, failing
        self.flush, self.fileno = stream.flush, stream.fileno

    def write(self, data: bytes) -> None:
        self._failing.write(self._stream, data)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


STEPS = ["open", "write", "fsync", "read_bytes", "replace", "fsync"]
NO_SPACE = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


def test_what_fails_while_writing_leaves_what_there_was(runs: Runs, tmp_path: Path) -> None:
    """No space left, or killed, at each step, and after any number of bytes."""
    new, folder = checkpoint.decode(runs.bytes[8]), runs.run / "checkpoints"
    size = len(runs.bytes[8])
    errors: list[BaseException] = [OSError(number, os.strerror(number)) for number in NO_SPACE]
    cases = [(at, error, 0) for at in range(len(STEPS)) for error in (*errors, Killed())]
    cases += [
        (STEPS.index("write"), error, some)
        for error in (errors[0], Killed())
        for some in range(0, size + 1, size // 40)
    ]
    for at, error, some in cases:
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, at, error, some)
            with pytest.raises((OSError, Killed)) as raised:
                checkpoint.write(folder, 8, new, 99)
        assert raised.value is error
        assert failing.calls == STEPS[: at + 1]
        if isinstance(error, OSError):
            assert not [*folder.glob("*.writing")]
        there = at == len(STEPS) - 1  # it has its name, though maybe not yet on the disk
        assert [file.name for file in checkpoint.found_in(folder)] == [
            checkpoint.file_name(t) for t in ((8, NEW, OLD) if there else (NEW, OLD))
        ]
        assert runs.found() == (8 if there else NEW, [])
        runs.restore()
    assert len(cases) >= 100


def test_older_ones_are_removed_when_the_new_one_is_there(runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for t in range(1, 7):
        checkpoint.write(folder, t, t, 3)
        assert [checkpoint.read(file) for file in checkpoint.found_in(folder)] == [
            *range(t, max(0, t - 3), -1)
        ]
    checkpoint.write(folder, 2, 2, 3)  # of a run that began anew: what is newer is of its earlier life
    assert [checkpoint.read(file) for file in checkpoint.found_in(folder)] == [2]
    checkpoint.write(folder, 10**9 + 7, "late", 1)
    assert [checkpoint.read(file) for file in checkpoint.found_in(folder)] == ["late"]


@pytest.mark.parametrize("number", NO_SPACE[:2])
def test_a_run_goes_on_without_a_checkpoint(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, real, calls = list[str](), os.replace, list[str]()
    monkeypatch.setattr(driver.Quiet, "note", lambda self, text: notes.append(text))

    def replace(source: Path, target: Path) -> None:
        calls.append(target.name)
        if len(calls) in (3, 4, 5):
            raise OSError(number, os.strerror(number))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    driver.run(from_mapping(CONFIG), out=tmp_path / "run", verify=False)
    assert notes == [f"note: no checkpoint after mini-batch 3: {os.strerror(number)}"]
    assert [file.name for file in checkpoint.found_in(tmp_path / "run" / "checkpoints")] == [
        checkpoint.file_name(t) for t in (9, 8, 7, 6, 2, 1)
    ]


WRITES = """
import sys
from pathlib import Path
import numpy as np
from fdtrain import checkpoint

folder = Path(sys.argv[1])
for t in range(1, 10_000):
    checkpoint.write(folder, t, {"t": t, "rows": np.full(200_000, t)}, 2)
    print(t, flush=True)
"""


def test_a_process_that_is_killed_while_it_writes(tmp_path: Path) -> None:
    for life in range(6):
        folder = tmp_path / str(life)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITES, str(folder)], env=environment(), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3):
            last = int(process.stdout.readline())
        time.sleep(0.0021 * life)
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        last = max([last, *map(int, said.split())])
        contents = [checkpoint.read(file) for file in checkpoint.found_in(folder)]
        assert contents[0]["t"] in (last, last + 1)
        assert len(contents) in (2, 3)
        for content in contents:
            assert (content["rows"] == content["t"]).all()
        checkpoint.remove_unfinished(folder)
        assert not [*folder.glob("*.writing")]


# --- content ---


def test_content_is_read_as_it_was_written() -> None:
    content: dict[str, Any] = {
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "none": np.zeros((0, 4)),
        "scalars": [1, 2.5, None, True, "text", 10**30, float("inf"), np.int64(3), np.float64(-0.0)],
        "nan": {"#1": float("nan")},
        "strings": np.array(["a", "bc"]),
        "": {"": []},
    }
    found = checkpoint.decode(checkpoint.encode(content))
    assert checkpoint.encode(found) == checkpoint.encode(content)
    assert found["rows"].dtype == np.float32
    assert found["none"].shape == (0, 4)
    assert [type(value) for value in found["scalars"]] == [type(value) for value in content["scalars"]]
    assert np.isnan(found["nan"]["#1"])


@pytest.mark.parametrize("content", [{1: 2}, {"#": 1}, np.array([None]), {"a": object()}, {1, 2}])
def test_what_is_no_content(content: Any) -> None:
    with pytest.raises(TypeError):
        checkpoint.encode(content)


def test_snapshots_are_cut_and_joined_by_who_hosts_whom() -> None:
    draws = np.random.default_rng(0)
    n = 9
    pairs = np.array([(i, j) for i in range(n) for j in range(n) if draws.random() < 0.4], dtype=np.int64)
    links = {
        "held": Kept(pairs[:, 0], pairs[:, 1], draws.normal(size=(len(pairs), 3))),
        "bad": Kept(pairs[::2, 0], pairs[::2, 1], draws.random(len(pairs[::2])) < 0.5),
        "none": Kept(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))),
    }
    nodes = {"theta": draws.normal(size=(n, 4)), "flags": draws.random(n) < 0.5}
    whole = Snapshot(nodes, links, {"t": 3, "rate": float("nan"), "name": None})
    wanted = checkpoint.encode(whole.as_dict())
    for owners in ([0] * n, [0, 0, 0, 1, 1, 1, 2, 2, 2], [2, 0, 1, 0, 2, 1, 0, 1, 2], [*range(n)]):
        ids = [np.flatnonzero(np.array(owners) == rank) for rank in range(max(owners) + 1)]
        parts = cut(whole, ids)
        for own, part in zip(ids, parts, strict=True):
            assert set(part.links["held"].receivers) <= set(own)
            assert len(part.nodes["theta"]) == len(own)
        assert checkpoint.encode(join(parts, ids).as_dict()) == wanted
    assert checkpoint.encode(Snapshot.from_dict(checkpoint.decode(wanted)).as_dict()) == wanted
    parts[1].counters["t"] = 4
    with pytest.raises(InputError, match=r"^t is 3 on rank 0 and 4 on rank 1; "):
        join(parts, ids)
