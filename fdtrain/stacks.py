"""The stacks of all ranks of a job that is given up.

Every rank can be asked for its stacks by a signal, whatever it is doing, and writes them into memory of its own; the
rank that gives up first asks the others on its machine, and puts what they wrote into one file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fdtrain.leftovers import state
from fdtrain.transport.base import Control

_PATIENCE = 0.7  # seconds in which the others may write
_OTHERS = 3.0  # seconds that the rank which collects has until the job is aborted
_WAITING = "transport/mpi.py"  # the file in which a rank that waits for others is


class _Place(NamedTuple):
    host: str
    pid: int
    file: int  # descriptor

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.pid}/fd/{self.file}")


class Stacks:
    """Where each rank writes its stacks when it is asked."""

    def __init__(self, control: Control) -> None:
        """Every rank calls."""
        file = os.memfd_create("fdtrain-stacks")
        faulthandler.register(signal.SIGUSR2, file=file, all_threads=True, chain=False)
        own = _Place(socket.gethostname(), os.getpid(), file)
        self.rank = control.rank
        self.places: list[_Place] = control.bcast(control.gather(own))
        self.file: Path | None = None  # where they are, if this rank collected them
        self.busy = ""  # which ranks were not waiting for others, in words

    def collect(self, folder: Path | None) -> None:
        """Write all ranks' stacks into a file in `folder` (of temporary files where there is none).

        If another rank is doing that, give it the time to end the job; who returns from it has to speak for itself.
        """
        path = (folder or Path(tempfile.gettempdir())) / f"stacks-{self.places[0].pid}.log"
        try:
            stream = path.open("x", encoding="utf-8")
        except FileExistsError:
            time.sleep(_OTHERS)
            return
        except OSError:  # no place for them; what was late is worth more
            return
        here = socket.gethostname()
        asked = [place for place in self.places if place.host == here]
        for place in asked:
            with contextlib.suppress(OSError):
                os.kill(place.pid, signal.SIGUSR2)
        _await_silence(asked)
        busy = []
        with stream:
            for rank, place in enumerate(self.places):
                text, remark = _read(place, here)
                stream.write(f"rank {rank}, process {place.pid} on {place.host}: {remark}\n{text}\n")
                if remark:
                    busy.append(f"rank {rank} {remark}")
        self.file = path
        self.busy = "; ".join(busy[:3]) + (f" and {len(busy) - 3} more" if len(busy) > 3 else "")


def _await_silence(places: Sequence[_Place]) -> None:
    """Wait until all have written, and write no more; not for those that cannot."""
    end, before = time.monotonic() + _PATIENCE, None
    while time.monotonic() < end:
        sizes = [_size(place) for place in places]
        answered = all(
            size or state(place.pid) in ("T", "Z", "") for size, place in zip(sizes, places, strict=True)
        )
        if answered and sizes == before:
            return
        before = sizes
        time.sleep(0.02)


def _size(place: _Place) -> int:
    try:
        return place.path.stat().st_size
    except OSError:
        return 0


def _read(place: _Place, here: str) -> tuple[str, str]:
    """A rank's stacks, and in words what it does if it does not wait for others."""
    if place.host != here:
        return "", ""
    is_stopped = state(place.pid) == "T"
    try:
        text = place.path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", "is gone"
    if is_stopped:
        return text, "is stopped"
    if not text:
        return text, "does not answer"
    return text, "" if _WAITING in text else f"is busy in {_top(text)}"


def _top(text: str) -> str:
    """The innermost line of the thread that was asked, the main one."""
    frames = text[max(text.rfind("Current thread"), 0) :].splitlines()[1:]
    return " ".join(frames[0].split()) if frames else "an unknown place"
