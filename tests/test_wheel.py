"""What a built wheel carries."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="part of the dev extra")
ROOT = Path(__file__).parent.parent


def test_the_wheel_carries_configs_topologies_and_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs", "topologies"):
        shipped = {
            f"fdtrain/share/{file.relative_to(ROOT)}"
            for file in (ROOT / folder).rglob("*")
            if file.is_file() and file.suffix != ".pyc"
        }
        assert len(shipped) >= 5
        assert shipped <= names
    assert {"fdtrain/stub.py", "fdtrain/py.typed"} <= names
    page = {"page.html.j2", "page.css", "theme.js", "figures.js", "curves.js", "controls.js"}
    assert {f"fdtrain/report/{name}" for name in page} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests") for name in names)
