"""One page on one run, on several, or on a sweep: ``fdtrain report``. The file needs no network to be read.

Plotly and Jinja are imported when a page is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fdtrain.outputs import check_file, writing
from fdtrain.report.collect import read_runs
from fdtrain.report.read import Run

__all__ = ["Run", "default_file", "read_runs", "write_report"]


def default_file(directories: Sequence[Path]) -> Path:
    """``DIR/report.html`` for one directory, ``report.html`` here for several."""
    return directories[0] / "report.html" if len(directories) == 1 else Path("report.html")


def write_report(directories: Sequence[Path], out: Path | None = None, title: str | None = None) -> Path:
    """Write the page on the runs and sweeps in `directories`, and return its file.

    Raises:
        InputError: a directory holds no run with a finished epoch, or `out` cannot be written.
    """
    runs, notes = read_runs(directories)
    file = default_file(directories) if out is None else out
    check_file(file, ".html")
    from fdtrain.report.page import render

    text = render(runs, notes, title)
    with writing(f"--out {file}"):
        file.write_text(text, encoding="utf-8")
    return file
