"""Runs whose processes are killed at random, again and again: all have to end with the bits of one that is left alone.

CHAOS=n make chaos: n runs. CHAOS_SEED: other kills. Three runs are part of the tests (``test_chaos.py``).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from commands import fdtrain, theta
from faults import Watched

EPOCHS = 60
CONFIG = f"""
name: chaos
seed: 3
topology: {{kind: barabasi_albert, nodes: 12, m: 2, redraw: {{every: 4}}}}
model: {{sizes: [6, 4, 1]}}
task: {{train_samples: 60, test_samples: 4}}
training: {{epochs: {EPOCHS}, batch: 12}}
optimizer: {{kind: d_adam, lr: 1e-3}}
checkpoint: {{every: 7, keep: 3}}
"""
HOW = ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGSTOP")
WHO = ("rank 0", "rank 1", "rank 2", "mpirun", "server", "launcher")
MOST_KILLS = 3
PATIENCE = 120.0  # seconds for a life


@dataclass
class Story:
    """What happened to a run."""

    number: int
    ranks: int
    kills: list[str] = field(default_factory=list)
    lives: int = 0  # how often the command was given
    restarts: int = 0  # by --max-restarts
    left: list[str] = field(default_factory=list)  # processes and files that stayed
    same: bool = False

    def __str__(self) -> str:
        fate = "same bits" if self.same and not self.left else f"NOT THE SAME, left: {self.left}"
        told = f"run {self.number:3}  {self.ranks} ranks  commands {self.lives}  restarts {self.restarts}  {fate}"
        return f"{told}: {'; '.join(self.kills)}"


def live(folder: Path, number: int, seed: int, wanted: Path) -> Story:
    """Train, and kill at most so many times; whenever the command ends early, give it again with ``--resume``."""
    chance = random.Random(f"{seed}-{number}")
    story = Story(number, chance.choice([3, 4]))
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    out, kills = folder / "run", chance.randint(1, MOST_KILLS)
    while True:
        story.lives += 1
        command = (
            ["--resume", str(out)] if (out / "config.yaml").is_file() else ["config.yaml", "--out", str(out)]
        )
        options = ["--ranks", str(story.ranks), "--no-verify", "--no-figures", "--max-restarts", "5"]
        python = [sys.executable, "-m", "fdtrain", "run"]
        life = Watched(folder, [*python, *command, *options], out, FDTRAIN_DEADLINE="3")
        while len(story.kills) < kills and strike(life, chance, story):
            pass
        ended = life.end(PATIENCE)
        story.restarts += ended.errors.count("; restart ")
        story.left += [*ended.left, *map(str, ended.files)]
        if ended.status == 0 or story.left or story.lives > 2 * MOST_KILLS:
            break
    story.same = ended.status == 0 and is_same(out, wanted)
    if not story.same:
        story.left.append(ended.errors)
    return story


def strike(life: Watched, chance: random.Random, story: Story) -> bool:
    """Kill a process of the job at a random moment; whether the command goes on."""
    who, how = chance.choice(WHO), chance.choice(HOW)
    early = chance.random() < 0.2  # while the job is starting
    epoch = chance.randrange(EPOCHS)
    pause = chance.uniform(0, 2.0 if early else 0.2)
    end = time.monotonic() + PATIENCE
    while not early and life.epochs() < epoch and life.process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(pause)
    pid = life.victims().get(who)
    if pid is not None:
        reached = life.epochs()
        try:
            os.kill(pid, getattr(signal, how))
            story.kills.append(f"{how} {who} after epoch {reached}")
        except ProcessLookupError:
            pass
    elif not early and life.process.poll() is None:
        time.sleep(0.1)  # between two jobs
    if who == "launcher" and pid is not None:
        return False
    return life.process.poll() is None


def is_same(run: Path, wanted: Path) -> bool:
    """Whether two runs have the same parameters and metrics, to the bit."""
    metrics = [(path / "metrics.csv").read_bytes() for path in (run, wanted)]
    return theta(run).tobytes() == theta(wanted).tobytes() and metrics[0] == metrics[1]


def chaos(folder: Path, runs: int, seed: int) -> list[Story]:
    """So many runs, two at a time; what happened is printed."""
    (folder / "config.yaml").write_text(CONFIG)
    wanted = folder / "wanted"
    result: subprocess.CompletedProcess[str] = fdtrain(
        "run",
        str(folder / "config.yaml"),
        "--ranks",
        "1",
        "--out",
        str(wanted),
        "--no-figures",
        "--no-verify",
    )
    assert result.returncode == 0, result.stderr
    print(f"\nchaos: {runs} runs, CHAOS_SEED={seed}")
    with ThreadPoolExecutor(2) as pool:
        stories = list(pool.map(lambda n: live(folder / f"run-{n}", n, seed, wanted), range(1, runs + 1)))
    for story in stories:
        print(story)
    kills, same = sum(len(story.kills) for story in stories), sum(story.same for story in stories)
    restarts = sum(story.restarts for story in stories)
    again = sum(story.lives - 1 for story in stories)
    print(
        f"{kills} kills, {restarts} restarts, {again} times --resume: {same} of {runs} runs with the same bits"
    )
    return stories


def check(stories: list[Story]) -> None:
    """All ended as they should, and something was done to each of them."""
    assert all(story.same for story in stories), [str(story) for story in stories if not story.same]
    assert not any(story.left for story in stories), [story.left for story in stories if story.left]
    assert sum(len(story.kills) for story in stories) >= len(stories) / 2


def test_all_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    check(chaos(tmp_path, int(os.environ.get("CHAOS", "20")), int(os.environ.get("CHAOS_SEED", "1"))))
