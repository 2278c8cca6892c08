"""What is remembered of every link, through changes of the topology and of the packing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.channel.spec import Index
from fdtrain.snapshot import Kept

LASTING = "mass"
BESIDE = f"{LASTING}, and "


class LinkStore:
    """Named arrays with a row for every link of this rank's nodes, in the order of the neighbourhood's links.

    A link that vanishes is forgotten, but for arrays whose name begins with :data:`LASTING`: where one of them holds
    something but zeros, and is not there :data:`BESIDE` another, the rows of all wait until the link is there again.
    """

    def __init__(self) -> None:
        self.receivers = self.senders = np.zeros(0, dtype=np.int64)
        self._arrays: dict[str, NDArray[Any]] = {}
        self._fills: dict[str, float] = {}
        self._waiting: dict[
            str, Kept
        ] = {}  # of links that are not there now, or arrays that were not asked for yet

    def get(
        self, name: str, shape: tuple[int, ...], fill: float = 0.0, dtype: Any = np.float64
    ) -> NDArray[Any]:
        """The array [m, *shape], made and filled where it is new; one that is there may be wider."""
        if name not in self._arrays:
            self._fills[name] = fill
            waiting = self._waiting.pop(name, None)
            self._arrays[name] = self._fresh(name, waiting.rows.shape[1:] if waiting else shape, dtype)
            if waiting:
                self._put(name, waiting)
        return self._arrays[name]

    def places_after(self, receivers: Index, senders: Index) -> Index:
        """Where each link will be among those, −1 where it will not."""
        return _places(self.receivers, self.senders, receivers, senders)

    def rewire(self, receivers: Index, senders: Index) -> None:
        """Take new links."""
        places = self.places_after(receivers, senders)
        old_receivers, old_senders = self.receivers, self.senders
        self.receivers, self.senders = receivers, senders
        gone = places < 0
        lasting = gone & self._worth()
        for name, old in list(self._arrays.items()):
            if name.startswith(LASTING):
                waiting = self._waiting.pop(name, _none(old))
                here = Kept(*(part[lasting] for part in (old_receivers, old_senders, old)))
                self._waiting[name] = Kept(
                    *(np.concatenate(both) for both in zip(waiting, here, strict=True))
                )
            self._arrays[name] = self._fresh(name, old.shape[1:], old.dtype)
            self._arrays[name][places[~gone]] = old[~gone]
        for name in list(self._waiting):
            if name in self._arrays:
                self._put(name, self._waiting.pop(name))
            elif not name.startswith(LASTING):
                unused = self._waiting[name]
                there = self.places(unused.receivers, unused.senders) >= 0
                self._waiting[name] = Kept(*(part[there] for part in unused))

    def _worth(self) -> NDArray[np.bool_]:
        """The links of which something lasts, as they are in the arrays."""
        masses = [
            array.any(axis=1)
            for name, array in self._arrays.items()
            if name.startswith(LASTING) and not name.startswith(BESIDE)
        ]
        found: NDArray[np.bool_] = np.any(masses, axis=0) if masses else np.zeros(1, dtype=np.bool_)
        return found

    def _fresh(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        return np.full((len(self.receivers), *shape), self._fills[name], dtype=dtype)

    def _put(self, name: str, kept: Kept) -> None:
        """Hand rows to the links that are there, and keep the others."""
        places = _places(kept.receivers, kept.senders, self.receivers, self.senders)
        here, array = places >= 0, self._arrays[name]
        array[places[here]] = kept.rows[here]
        if not here.all() and name.startswith(LASTING):
            self._waiting[name] = Kept(*(part[~here] for part in kept))

    def snapshot(self) -> dict[str, Kept]:
        """Everything, by name."""
        found = {}
        for name, array in self._arrays.items():
            waiting = self._waiting.get(name, _none(array))
            here = Kept(self.receivers, self.senders, array)
            found[name] = Kept(*(np.concatenate(both) for both in zip(here, waiting, strict=True)))
        return {**self._waiting, **found}

    def restore(self, kept: dict[str, Kept]) -> None:
        """Take it back; names that are not known yet wait for their first use."""
        self._waiting = dict(kept)
        for name in list(self._waiting):
            if name in self._arrays:
                self._arrays[name] = self._fresh(name, self._arrays[name].shape[1:], self._arrays[name].dtype)
                self._put(name, self._waiting.pop(name))

    def places(self, receivers: Index, senders: Index) -> Index:
        """Where these links are, −1 where they are not."""
        return _places(receivers, senders, self.receivers, self.senders)


def _none(like: NDArray[Any]) -> Kept:
    nobody = np.zeros(0, dtype=np.int64)
    return Kept(nobody, nobody, like[:0])


def _places(receivers: Index, senders: Index, among_receivers: Index, among_senders: Index) -> Index:
    """The place of each link among others, −1 where it is not there."""
    if not len(receivers) or not len(among_receivers):
        return np.full(len(receivers), -1)
    nodes = 1 + max(int(part.max()) for part in (receivers, senders, among_receivers, among_senders))
    keys, among = receivers * nodes + senders, among_receivers * nodes + among_senders
    order = np.argsort(among, kind="stable")
    place = np.minimum(np.searchsorted(among, keys, sorter=order), len(among) - 1)
    found: Index = np.where(among[order[place]] == keys, order[place], -1)
    return found
