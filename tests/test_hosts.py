"""Several hosts: network namespaces with names of their own, between which only TCP connects the ranks."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from commands import environment, needs_mpi, theta

from fdtrain import config, launcher, resources
from fdtrain.driver import run
from fdtrain.leftovers import parent

ROOT = Path(__file__).parent.parent
ADDRESSES = ("10.77.0.1", "10.77.0.2")

# In place of ssh: enters a host's namespaces, and does there what it is told.
AGENT = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
host=$1
shift
exec nsenter -t "$(cat "{folder}/$host")" -n -u sh -c "$*"
"""


class Hosts(NamedTuple):
    """Two of them; commands begin on the first."""

    folder: Path
    holders: tuple[int, ...]  # a process on each, which keeps it in being
    env: dict[str, str]

    def inside(self, number: int, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.holders[number]), "-n", "-u", *command]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """``launch/hostfile.sh`` with two ranks on the first, and one on the other."""
        script = [str(ROOT / "launch" / "hostfile.sh"), str(self.folder / "hosts"), *arguments]
        return subprocess.Popen(
            self.inside(0, "bash", *script), env=self.env, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def ranks(self, number: int) -> list[int]:
        """The processes of ranks on a host, and those that they left to clean up."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if not (folder / "ns" / "uts").samefile(f"/proc/{self.holders[number]}/ns/uts"):
                    continue
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if b"fdtrain" in command and b"-m" in command:
                found.append(int(folder.name))
        return found

    def received(self, number: int) -> int:
        """Bytes that have come to a host from the other one."""
        shown = subprocess.run(
            self.inside(number, "cat", "/proc/net/dev"), capture_output=True, text=True, check=True
        )
        return next(int(line.split()[1]) for line in shown.stdout.splitlines() if "wire" in line)


def may_make_namespaces() -> bool:
    if any(shutil.which(name) is None for name in ("unshare", "nsenter", "ip")) or os.geteuid() != 0:
        return False
    trial = "ip link add wire0 type veth peer name wire1"
    made = subprocess.run(["unshare", "-n", "-u", "sh", "-c", trial], capture_output=True, check=False)
    return made.returncode == 0


pytestmark = [
    pytest.mark.skipif(not (ROOT / "launch").is_dir(), reason="needs a source checkout"),
    pytest.mark.skipif(not may_make_namespaces(), reason="needs root and network namespaces"),
    needs_mpi,
]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    holders = [
        subprocess.Popen(
            ["unshare", "-n", "-u", "sh", "-c", f"hostname host{number}; echo; exec sleep 1000"],
            stdout=subprocess.PIPE,
        )
        for number in range(2)
    ]
    try:
        for holder, address in zip(holders, ADDRESSES, strict=True):
            assert holder.stdout is not None
            holder.stdout.readline()
            (tmp_path / address).write_text(str(holder.pid), encoding="utf-8")
        yield _connected(tmp_path, tuple(holder.pid for holder in holders))
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()


def _connected(folder: Path, holders: tuple[int, ...]) -> Hosts:
    agent, command = folder / "agent", folder / "fdtrain"
    agent.write_text(AGENT.format(folder=folder), encoding="utf-8")
    command.write_text(f'#!/usr/bin/env bash\nexec "{sys.executable}" -P -m fdtrain "$@"\n', encoding="utf-8")
    for file in (agent, command):
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    lines = [f"{address} slots={slots}\n" for address, slots in zip(ADDRESSES, (2, 1), strict=True)]
    (folder / "hosts").write_text("".join(lines), encoding="utf-8")
    extra = {
        "PATH": f"{Path(launcher.find_mpirun()).parent}:{os.environ['PATH']}",
        "FDTRAIN": str(command),
        "FDTRAIN_DEADLINE": "100",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "PRTE_MCA_hwloc_default_binding_policy": "none",  # the hosts share their cores
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": "^ofi,uct",
        "PRTE_MCA_plm_ssh_agent": str(agent),  # Open MPI 5
        "OMPI_MCA_plm_rsh_agent": str(agent),  # Open MPI 4
    }
    made = Hosts(folder, holders, environment(extra))
    cable = ["ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1", "netns", str(holders[1])]
    subprocess.run(made.inside(0, *cable), check=True)
    for number, address in enumerate(ADDRESSES):
        setup = (
            f"ip addr add {address}/24 dev wire{number} && ip link set wire{number} up && ip link set lo up"
        )
        subprocess.run(made.inside(number, "sh", "-c", setup), check=True)
    return made


def test_a_run_on_two_hosts_has_the_bits_of_one(hosts: Hosts) -> None:
    out = hosts.folder / "out"
    process = hosts.start("ci/smoke", "--profile", "--no-figures", "--out", str(out))
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    alone = run(config.load(resources.find_config("ci/smoke")), verify=False)
    np.testing.assert_array_equal(theta(out), alone.theta)
    with (out / "profile" / "summary.csv").open(newline="", encoding="utf-8") as stream:
        shares = list(csv.DictReader(stream))
    assert [line["host"] for line in shares] == ["host0", "host0", "host1"]
    assert hosts.received(1) > int(shares[0]["sent_bytes"]) > 0


def test_a_rank_that_is_killed_on_another_host_ends_the_job(hosts: Hosts) -> None:
    out = hosts.folder / "out"
    process = hosts.start("ci/smoke", "training.epochs=100000", "--no-verify", "--out", str(out))
    try:
        end = time.monotonic() + 90
        while not (out / "metrics.csv").is_file() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        there = hosts.ranks(1)
        ranks = [pid for pid in there if parent(pid) not in there]  # besides what cleans up after them
        assert len(ranks) == 1
        os.kill(ranks[0], signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0, said
    end = time.monotonic() + 10
    while (left := hosts.ranks(0) + hosts.ranks(1)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left
