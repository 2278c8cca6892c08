"""The scripts of launch/, between small stand-ins for the programs of SLURM and PBS, and on hosts of their own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from commands import environment, needs_mpi, theta

from fdtrain import config, launcher, resources
from fdtrain.driver import run

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "launch"
LONG = ["ci/smoke", "training.epochs=300"]

pytestmark = [
    pytest.mark.skipif(not LAUNCH.is_dir(), reason="needs a source checkout"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
    needs_mpi,
]

# Starts the ranks as srun does; in a job's first life USR1 comes as soon as two epochs are done.
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do echo "$1" >>"$STAND_IN/srun"; shift; done
"$MPIRUN" --map-by :oversubscribe -n "$SLURM_NTASKS" "$@" &
"$STAND_IN/interrupt" $!
wait $!
"""
INTERRUPT = """#!/usr/bin/env bash
[ -e "$STAND_IN/interrupted" ] && exit
until [ "$(wc -l <"$METRICS" 2>/dev/null || echo 0)" -gt 2 ]; do
    kill -0 "$1" || exit
    sleep 0.05
done
touch "$STAND_IN/interrupted"
kill -USR1 "$1"
"""
SCONTROL = """#!/usr/bin/env bash
echo "$*" >>"$STAND_IN/scontrol"
"""
# mpirun of a PBS job: what ends it in time is `timeout`, here as soon as two epochs are done.
TIMEOUT = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do echo "$1" >>"$STAND_IN/timeout"; shift; done
echo "$1" >>"$STAND_IN/timeout"
shift
"$@" &
"$STAND_IN/interrupt" $!
wait $!
"""
MPIRUN_IN_PBS = """#!/usr/bin/env bash
exec "$MPIRUN" "$@"
"""
QSUB = """#!/usr/bin/env bash
printf '%s\\n' "$@" >"$STAND_IN/qsub"
env | grep ^FDTRAIN_ >"$STAND_IN/environment"
"""


class Machine(NamedTuple):
    """A cluster of stand-ins."""

    folder: Path
    env: dict[str, str]
    out: Path

    def start(self, script: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(LAUNCH / script), *arguments], cwd=self.folder, env={**self.env, **extra},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def said(self, name: str) -> list[str]:
        return (self.folder / name).read_text(encoding="utf-8").splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    stand_ins = {
        "srun": SRUN,
        "interrupt": INTERRUPT,
        "scontrol": SCONTROL,
        "qsub": QSUB,
        "timeout": TIMEOUT,
        "mpirun": MPIRUN_IN_PBS,
        "fdtrain": f'#!/usr/bin/env bash\nexec "{sys.executable}" -P -m fdtrain "$@"\n',
    }
    bins = tmp_path / "bin"
    bins.mkdir()
    for name, text in stand_ins.items():
        file = (tmp_path if name == "interrupt" else bins) / name
        file.write_text(text, encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    out = tmp_path / "out"
    own = {
        "PATH": f"{bins}:{os.environ['PATH']}",
        "STAND_IN": str(tmp_path),
        "MPIRUN": launcher.find_mpirun(),
        "METRICS": str(out / "metrics.csv"),
    }
    return Machine(tmp_path, environment({**launcher.rank_environment(100), **own}), out)


@pytest.fixture(scope="module")
def uninterrupted() -> np.ndarray:
    """θ of the run that nothing has stopped."""
    return run(config.load(resources.find_config(LONG[0]), LONG[1:]), verify=False).theta


def test_a_slurm_job_that_is_told_to_stop_is_queued_again_and_goes_on(
    machine: Machine, uninterrupted: np.ndarray
) -> None:
    arguments = [*LONG, "--no-verify", "--no-figures", "--out", str(machine.out)]
    job = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "2"}
    first = machine.start("slurm.sbatch", *arguments, **job)
    assert first.returncode == 143, first.stdout + first.stderr
    assert machine.said("scontrol") == ["requeue 77"]
    assert len((machine.out / "metrics.csv").read_text().splitlines()) < 301
    second = machine.start("slurm.sbatch", *arguments, **job, SLURM_RESTART_COUNT="1")
    assert second.returncode == 0, second.stdout + second.stderr
    assert machine.said("scontrol") == ["requeue 77"]
    assert "--kill-on-bad-exit=1" in machine.said("srun")
    np.testing.assert_array_equal(theta(machine.out), uninterrupted)


def test_a_slurm_job_is_not_queued_for_ever_and_not_after_a_failure(machine: Machine) -> None:
    job = {"SLURM_JOB_ID": "78", "SLURM_NTASKS": "2", "SLURM_RESTART_COUNT": "3", "FDTRAIN_REQUEUES": "3"}
    arguments = [*LONG, "--no-verify", "--no-figures", "--out", str(machine.out)]
    assert machine.start("slurm.sbatch", *arguments, **job).returncode == 143
    failed = machine.start("slurm.sbatch", "nowhere.yaml", SLURM_JOB_ID="79", SLURM_NTASKS="2")
    assert failed.returncode == 2
    assert "nowhere.yaml: no such file" in failed.stderr
    assert not (machine.folder / "scontrol").exists()


def test_every_job_of_a_slurm_array_has_its_own_arguments(machine: Machine) -> None:
    (machine.folder / "interrupted").touch()
    arguments = ["ci/smoke", "seed=%a", "--no-figures", "--out", str(machine.folder / "seed-%a")]
    job = {"SLURM_JOB_ID": "80", "SLURM_NTASKS": "2", "SLURM_ARRAY_TASK_ID": "5"}
    result = machine.start("slurm.sbatch", *arguments, **job)
    assert result.returncode == 0, result.stderr
    assert "seed: 5" in (machine.folder / "seed-5" / "config.yaml").read_text()


def test_a_pbs_job_whose_time_is_over_submits_itself_again_and_goes_on(
    machine: Machine, uninterrupted: np.ndarray
) -> None:
    nodes = machine.folder / "nodes"
    nodes.write_text("localhost\nlocalhost\n", encoding="utf-8")
    arguments = " ".join([*LONG, "--no-verify", "--no-figures", "--out", str(machine.out)])
    job = {"PBS_O_WORKDIR": str(ROOT), "PBS_NODEFILE": str(nodes), "PBS_JOBID": "5.host"}
    first = machine.start("pbs.sh", **job, FDTRAIN_ARGUMENTS=arguments, PBS_WALLTIME="1000")
    assert first.returncode == 143, first.stdout + first.stderr
    assert machine.said("timeout") == ["--preserve-status", "--signal=USR1", "880"]
    submitted = machine.said("qsub")
    assert submitted[:2] == ["-W", "depend=afterany:5.host"]
    assert submitted[-1] == "launch/pbs.sh"
    handed = dict(line.split("=", 1) for line in machine.said("environment"))
    assert set(submitted[3].split(",")) <= set(handed)
    again = {name: handed[name] for name in submitted[3].split(",")}
    assert again["FDTRAIN_REQUEUES"] == "99"
    (machine.folder / "qsub").unlink()
    second = machine.start("pbs.sh", **{**job, "PBS_JOBID": "6.host"}, **again)
    assert second.returncode == 0, second.stdout + second.stderr
    assert not (machine.folder / "qsub").exists()
    np.testing.assert_array_equal(theta(machine.out), uninterrupted)


def test_a_pbs_job_without_a_directory_is_refused(machine: Machine) -> None:
    job = {"PBS_O_WORKDIR": str(ROOT), "PBS_NODEFILE": os.devnull, "PBS_JOBID": "7"}
    refused = machine.start("pbs.sh", **job, FDTRAIN_ARGUMENTS="ci/smoke")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "error: FDTRAIN_ARGUMENTS: needs --out DIR, found ci/smoke"
