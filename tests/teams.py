"""Training in the threads of the test's own process."""

from __future__ import annotations

from fdtrain.experiment import Experiment, run_job
from fdtrain.service import Host
from fdtrain.team import Team, in_threads
from fdtrain.training import follow


def run(made: Experiment, ranks: int) -> Host:
    """Train on `ranks` ranks; the host has the outcome."""
    host = made.host(ranks)

    def work(team: Team) -> None:
        if team.rank == 0:
            run_job(made.job, team, host)
            team.dismiss()
        else:
            follow(team)

    in_threads(ranks, work)
    return host
