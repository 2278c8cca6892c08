"""Training under a profile: what all ranks do, and what rank 0 is asked for and tells."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdtrain.profile import summary, trace
from fdtrain.profile.calls import recorded_calls
from fdtrain.profile.clocks import align, identity
from fdtrain.profile.planes import ProfiledControl, ProfiledTransport
from fdtrain.profile.recorder import Recorder
from fdtrain.profile.summary import Shares
from fdtrain.team import Team
from fdtrain.transport.base import Control

KEPT = 6  # mini-batches whose timeline is kept, unless something else is asked for


@dataclass(frozen=True)
class Settings:
    """What every rank is told of a profile."""

    folder: str
    minibatches: int  # whose timeline is kept: half of them the first ones, half the last ones


@dataclass(frozen=True)
class Profile:
    """What rank 0 knows of one."""

    settings: Settings
    note: Callable[[str], None]  # shows a text

    def tell(self, shares: Sequence[Shares], problem: str) -> None:
        """Show the table, and what went wrong."""
        self.note(summary.table(shares))
        if problem:
            self.note(f"note: the profile is incomplete: {problem}")

    @classmethod
    def into(cls, folder: Path, minibatches: int, note: Callable[[str], None]) -> Profile:
        """A profile in `folder`, from which that of an earlier run is removed.

        Raises:
            OSError: it cannot be made.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return cls(Settings(str(folder.absolute()), minibatches), note)


def profiled(settings: Settings, work: Callable[[Team], Any], team: Team) -> tuple[list[Shares], str]:
    """An order: do `work` with a recorder at both planes, and write what it has recorded.

    Returns:
        On rank 0 the shares of all ranks, and what could not be written, if anything; elsewhere neither.
    """
    control, transport, folder = team.control, team.transport, Path(settings.folder)
    hosts = control.bcast(control.gather(socket.gethostname()))
    place = trace.Place(team.rank, list(dict.fromkeys(hosts)).index(hosts[team.rank]), hosts[team.rank])
    team.minibatch = None  # whatever was trained before
    sent_before = transport.sent_bytes
    recorder = Recorder(team, settings.minibatches)
    shift = align(control, recorder.clock, identity())
    origin = control.bcast(recorder.start) + shift.offset
    team.transport = ProfiledTransport(transport, recorder)
    team.control = ProfiledControl(control, recorder)
    problem = ""
    try:
        with recorded_calls():
            work(team)
    finally:
        team.transport, team.control = transport, control
        recorder.finish()
        try:
            trace.write(trace.file_of(folder, team.rank), recorder, place, origin)
        except OSError as error:
            problem = f"{folder}: cannot be written: {error.strerror or error}"
    shares = summary.shares_of(
        recorder, team.rank, place.name, transport.sent_bytes - sent_before, shift.error
    )
    return _collect(control, folder, shares, problem)


def _collect(control: Control, folder: Path, shares: Shares, problem: str) -> tuple[list[Shares], str]:
    """On rank 0: the shares of all, written, and the files of all, joined; or why not."""
    found: Sequence[tuple[Shares, str]] | None = control.gather((shares, problem))
    if found is None:
        return [], ""
    everybody = [one for one, _ in found]
    problem = next((text for _, text in found if text), "")
    if not problem:
        try:
            summary.write(folder, everybody)
            trace.join(folder, len(everybody))
        except OSError as error:
            problem = f"{folder}: cannot be written: {error.strerror or error}"
    return everybody, problem
