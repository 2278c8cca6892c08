"""Reading ``.npz`` archives of anybody: nothing in them is executed, and damage is said in one line."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError


class Archive(Mapping[str, NDArray[Any]]):
    """The arrays of an archive, by name; each is read when it is asked for.

    Messages of errors begin after the file's name, which the reader of the file puts before them.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        """`stream` stays the caller's: it has to be open while arrays are read.

        Raises:
            InputError: no ``.npz``, or a damaged one.
        """
        magic = np.lib.format.MAGIC_PREFIX
        if stream.read(len(magic)) == magic:
            raise InputError("must be an .npz archive, found a single array")
        try:
            self._zip = zipfile.ZipFile(stream)
        except Exception as error:  # mostly BadZipFile, but a damaged directory has others
            raise InputError(f"is damaged or no .npz file ({brief(error)})") from None
        self._members = {name.removesuffix(".npy"): name for name in self._zip.namelist()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Raises:
        KeyError: there is none of this name.
        InputError: it is damaged, no array, or one of pickled objects.
        """
        member = self._members[name]
        try:
            with self._zip.open(member) as stream, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what a damaged header looks like to a parser
                array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
                return array
        except Exception as error:  # zip, zlib, NumPy and the parser of its headers each have their own
            if str(error).startswith("Object arrays"):
                raise InputError(f"{name!r} holds pickled objects; save plain numeric arrays") from None
            raise InputError(f"{name!r} is damaged ({brief(error)})") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def brief(error: BaseException) -> str:
    """An error of somebody else's in one short line."""
    text = " ".join(str(error).split())[:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
