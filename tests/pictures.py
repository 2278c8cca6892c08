"""What tests of figures share: fixtures to import, and a look at a PNG file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
    with np.errstate(all="raise"):
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Figure objects in the order in which they were saved."""
    from matplotlib.figure import Figure

    seen: list[Any] = []
    save = Figure.savefig

    def spy(self: Figure, *args: Any, **kwargs: Any) -> None:
        seen.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return seen


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG that decodes and shows more than one colour."""
    from matplotlib.image import imread

    raw = path.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    assert raw[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", raw[16:24])
    pixels = imread(path)
    assert pixels.shape[:2] == (height, width)
    assert pixels[..., :3].std() > 0.01
    return width, height
