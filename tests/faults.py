"""Processes that fail on purpose: faults are brought in from outside, and fdtrain knows nothing of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commands import environment

from fdtrain import launcher
from fdtrain.leftovers import parent as parent_of

MARKER = "TEST_FAILURES_MARKER"

# Python imports it at its start, where PYTHONPATH has its folder. TEST_FAULT is "WHO HOW AT FILE": a rank's number, or
# "launcher"; what happens; in the how-manieth mini-batch, or event; and where the time of it is written.
SITECUSTOMIZE = """
import importlib.machinery, os, signal, sys, time

def fail(how, file):
    with open(file, "w") as stream:
        stream.write(repr(time.time()))
    if how == "raise":
        raise RuntimeError("the node caught fire")
    if how == "early exit":
        sys.exit(0)
    if how == "exit 3":
        sys.exit(3)
    if how == "leave":
        os._exit(0)
    if how == "hang":
        while True:
            time.sleep(0.05)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)

def after(function, me):
    calls = 0
    def wrapped(*arguments, **named):
        nonlocal calls
        result = function(*arguments, **named)
        who, how, at, file = os.environ["TEST_FAULT"].split("|")
        if me(arguments) == who:
            calls += 1
            if calls == int(at):
                fail(how, file)
        return result
    return wrapped

def patch_engine(module):
    engine = module.Engine
    engine.minibatch = after(engine.minibatch, lambda arguments: str(arguments[0].transport.rank))

def patch_jobs(module):
    module.replay = after(module.replay, lambda arguments: "launcher")

PATCHES = {"fdtrain.engine": patch_engine, "fdtrain.jobs": patch_jobs}

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            PATCHES[name](module)
        spec.loader.exec_module = exec_module
        return spec

if os.environ.get("TEST_FAULT"):
    sys.meta_path.insert(0, Finder)
"""

CONFIG = """
name: failures
topology: {kind: ring, nodes: 8}
model: {sizes: [4, 1]}
task: {train_samples: 50, test_samples: 2}
training: {epochs: 100000, batch: 10}
optimizer: {kind: d_sgd, lr: 1e-3}
"""


@dataclass
class Ended:
    """How a run with a fault ended."""

    status: int
    errors: str
    out: Path
    seconds: float = 0.0  # from the fault to the end of the command
    gone: float = 0.0  # to the end of all its processes
    left: list[str] = field(default_factory=list)  # processes that are there 20 s later
    mapped: set[Path] = field(default_factory=set)  # shared memory while it ran
    files: list[Path] = field(default_factory=list)  # of these, what is still there

    @property
    def lines(self) -> list[str]:
        """The lines that say what was wrong."""
        lines = [line.strip(" \0") for line in self.errors.splitlines()]  # mpirun puts something before some
        return [line for line in lines if line.startswith("error: ")]


def marked(marker: str) -> dict[int, str]:
    """The processes that have `marker` in their environments, and their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if marker.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
            except OSError:
                continue
    return {pid: line for pid, line in found.items() if line}


def parent(pid: int) -> int:
    """The parent of a process; 0 where there is no such process."""
    try:
        return parent_of(pid)
    except OSError:
        return 0


def shared_memory(pids: Sequence[int]) -> set[Path]:
    """What processes have mapped of /dev/shm."""
    found = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except OSError:
            continue
        found |= {Path(line[line.find("/dev/shm/") :]) for line in lines if "/dev/shm/" in line}
    return {path for path in found if not path.name.endswith("(deleted)")}


class Watched:
    """``fdtrain`` as a process of its own, with all that belongs to it."""

    def __init__(self, folder: Path, command: Sequence[str], out: Path, **extra: str) -> None:
        """Start `command` in `folder`; `out` is the run's directory."""
        self.file, self.out, self.marker = folder / "when", out, uuid.uuid4().hex
        self.errors = folder / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, env=environment({MARKER: self.marker, **extra}), cwd=folder,
                stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            )  # fmt: skip
        self._mapped: set[Path] = set()

    def epochs(self) -> int:
        """How many have been written."""
        metrics = self.out / "metrics.csv"
        return max(0, len(metrics.read_text().splitlines()) - 1) if metrics.is_file() else 0

    def victims(self) -> dict[str, int]:
        """The processes of the job that there are, by what they are: launcher, mpirun, server, rank 0, rank 1 …"""
        there = marked(self.marker)
        found = {"launcher": self.process.pid} if self.process.poll() is None else {}
        servers = {pid for pid, line in there.items() if "fdtrain.forkserver" in line}
        for pid, line in there.items():
            if pid in servers:
                continue
            if Path(line.split()[0]).name in ("mpirun", "mpiexec", "prterun"):
                found["mpirun"] = pid
        for pid in servers:
            if parent(pid) not in servers:
                found["server"] = pid
        ranks = sorted(pid for pid in servers if parent(pid) == found.get("server"))
        return found | {f"rank {number}": pid for number, pid in enumerate(ranks)}

    def trains(self, seconds: float = 60.0) -> None:
        """Wait until epochs have been written."""
        end = time.monotonic() + seconds
        while self.epochs() < 3:
            assert time.monotonic() < end, self.errors.read_text()
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.05)
        self._mapped |= shared_memory([*marked(self.marker)])

    def noted(self) -> None:
        """Something is done to it from outside now."""
        self.file.write_text(repr(time.time()))

    def end(self, seconds: float = 60.0) -> Ended:
        """Wait for the end of the command and of all its processes; and kill what remains."""
        stop, ended, gone = time.monotonic() + seconds, 0.0, 0.0
        while not gone and time.monotonic() < stop:
            there = marked(self.marker)
            self._mapped |= shared_memory([*there])
            if not ended and self.process.poll() is not None:
                ended, stop = time.time(), time.monotonic() + 20
            if ended and not there:
                gone = time.time()
            time.sleep(0.03)
        left = [*marked(self.marker).values()]
        for pid in marked(self.marker):
            os.kill(pid, 9)
        status = self.process.wait(timeout=10)
        when = float(self.file.read_text()) if self.file.is_file() else time.time()
        files = [path for path in self._mapped if path.exists()]
        files += [path.parent for path in self._mapped if path.parent.name != "shm" and path.parent.exists()]
        return Ended(
            status, self.errors.read_text(), self.out, ended - when, gone - when, left, self._mapped, files
        )


class FaultyRun(Watched):
    """A run on 4 ranks that goes wrong: by a fault inside, or by what is done to it from outside."""

    def __init__(
        self, folder: Path, fault: str = "", *, outside: bool = False, deadline: float = 4.0
    ) -> None:
        """`fault`: WHO|HOW|AT; `outside`: under ``mpirun``, and not by it."""
        folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        (folder / "config.yaml").write_text(CONFIG)
        extra = {
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "TEST_FAULT": f"{fault}|{folder / 'when'}" if fault else "",
            "FDTRAIN_DEADLINE": str(deadline),
        }
        out = folder / "run"
        command = [sys.executable, "-m", "fdtrain", "run", str(folder / "config.yaml"), "--out", str(out)]
        command += ["--no-verify", "--no-figures"]
        if outside:
            command = [launcher.find_mpirun(), "-n", "4", *command]
            extra |= {**launcher.DEFAULTS, "OMPI_MCA_mpi_yield_when_idle": "1"}
        else:
            command += ["--ranks", "4"]
        super().__init__(folder, command, out, **extra)
