"""Checkpoint files: written whole or not at all, and read only if every bit is as it was written.

A file is :data:`MAGIC`, then the version, the length and the SHA-256 of the content (which covers version and length as
well), then the content: an ``.npz`` archive with a JSON text and the arrays that it names. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.npz import Archive, brief

MAGIC = b"fdtrain checkpoint\n"
VERSION = 1
_HEADER = struct.Struct(">IQ32s")  # version, length, SHA-256
_NAME = re.compile(r"minibatch-(\d{9,})\.ckpt")
_UNFINISHED = ".writing"
_ARRAY = "#"  # the key of an array's number in the JSON text


def file_name(minibatch: int) -> str:
    """The name of the checkpoint after so many mini-batches."""
    return f"minibatch-{minibatch:09}.ckpt"


def number_of(file: Path) -> int:
    """After how many mini-batches a checkpoint is one, by its name."""
    match = _NAME.fullmatch(file.name)
    if match is None:
        raise ValueError(f"{file.name}: is no checkpoint's name")
    return int(match[1])


def found_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first; none if it does not exist."""
    if not folder.is_dir():
        return []
    files = [file for file in folder.iterdir() if _NAME.fullmatch(file.name)]
    return sorted(files, key=number_of, reverse=True)


def write(folder: Path, minibatch: int, content: Any, keep: int) -> Path:
    """Write `content` (see :func:`encode`) as the checkpoint after so many mini-batches; keep the newest `keep`.

    The file gets its name when all of it is on the disk; older ones are removed after that, when it was read again.

    Raises:
        OSError: it could not be written; the folder holds the checkpoints that it held before.
    """
    file, data = folder / file_name(minibatch), encode(content)
    if not folder.is_dir():
        folder.mkdir()
        sync_folder(folder.parent)
    remove_unfinished(folder)
    unfinished = file.with_name(file.name + _UNFINISHED)
    try:
        with unfinished.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if unfinished.read_bytes() != data:
            raise OSError(f"{unfinished.name} does not read as it was written")
        os.replace(unfinished, file)
        sync_folder(folder)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    every = found_in(folder)
    place = every.index(file)  # what is newer could not be read, or belongs to the run's earlier life
    for other in [*every[:place], *every[place + keep :]]:
        with suppress(OSError):
            other.unlink()
    return file


def remove_unfinished(folder: Path) -> None:
    """Remove what a process left that was ended while it wrote."""
    if folder.is_dir():
        for file in folder.glob(f"*{_UNFINISHED}"):
            with suppress(OSError):
                file.unlink()


def read(file: Path) -> Any:
    """The content of a checkpoint.

    Raises:
        InputError: it is damaged, or cannot be read; the message says why, not which file.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from None
    return decode(data)


def encode(content: Any) -> bytes:
    """The bytes of a checkpoint with `content`: numbers, texts, None, arrays and NumPy's scalars in lists and in
    dictionaries by text."""
    arrays: list[NDArray[Any]] = []
    text = json.dumps(_without_arrays(content, arrays))
    stream = io.BytesIO()
    named: dict[str, Any] = {str(number): array for number, array in enumerate(arrays)}
    np.savez(stream, content=np.frombuffer(text.encode(), dtype=np.uint8), **named)
    archive = stream.getvalue()
    return MAGIC + _HEADER.pack(VERSION, len(archive), _digest(VERSION, archive)) + archive


def decode(data: bytes) -> Any:
    """The content of a checkpoint's bytes.

    Raises:
        InputError: they are not those that :func:`encode` made.
    """
    start = len(MAGIC) + _HEADER.size
    if data[: len(MAGIC)] != MAGIC:
        raise InputError("does not begin as a checkpoint" if data else "is empty")
    if len(data) < start:
        raise InputError(f"is cut short after {len(data)} bytes")
    version, length, digest = _HEADER.unpack_from(data, len(MAGIC))
    archive = data[start:]
    if len(archive) != length:
        raise InputError(f"has {len(archive):,} bytes of content instead of {length:,}")
    if _digest(version, archive) != digest:
        raise InputError("has another checksum than its content")
    if version != VERSION:
        raise InputError(f"is of version {version}, this fdtrain reads version {VERSION}")
    try:
        arrays = Archive(io.BytesIO(archive))
        text = arrays["content"].tobytes().decode()
        return _with_arrays(json.loads(text), arrays)
    except (InputError, ValueError, KeyError) as error:
        raise InputError(f"has no content that can be read ({brief(error)})") from None


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(version: int, archive: bytes) -> bytes:
    return hashlib.sha256(_HEADER.pack(version, len(archive), b"") + archive).digest()


def _without_arrays(item: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(item, dict):
        if not all(isinstance(key, str) and key != _ARRAY for key in item):
            raise TypeError(f"a checkpoint's dictionaries have texts other than '{_ARRAY}' as keys")
        return {key: _without_arrays(value, arrays) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_without_arrays(value, arrays) for value in item]
    if isinstance(item, np.ndarray | np.generic):
        if item.dtype.kind == "O":
            raise TypeError("a checkpoint has no arrays of Python's objects")
        arrays.append(np.ascontiguousarray(item).reshape(item.shape))
        return {_ARRAY: len(arrays) - 1}
    return item


def _with_arrays(item: Any, arrays: Archive) -> Any:
    if isinstance(item, dict):
        if item.keys() == {_ARRAY}:
            return arrays[str(item[_ARRAY])][()]  # of no dimension: a scalar
        return {key: _with_arrays(value, arrays) for key, value in item.items()}
    return [_with_arrays(value, arrays) for value in item] if isinstance(item, list) else item


def items(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of nested dictionaries, by paths such as ``training.epochs``."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from items(value, f"{path}.{key}" if path else key)
    else:
        yield path, content
