"""Exchanges that are made once and started in every round: persistent requests, or a collective of neighbours.

Imports mpi4py.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from fdtrain.transport.base import Message

_PROBE = 10.0  # seconds for a message to oneself


class Prepared(NamedTuple):
    """One exchange with all its buffers, ready to be started."""

    requests: list[MPI.Prequest]
    sends: Sequence[Message]
    receives: Sequence[Message]
    sent_bytes: int


class Native(NamedTuple):
    """How compiled code starts and tests requests: where MPI_Startall and MPI_Testall are, and sizes in bytes."""

    startall: int
    testall: int
    handle: int
    status: int

    def handles(self, requests: Sequence[MPI.Request]) -> NDArray[np.uint8]:
        """The requests as C code has them, one after another."""
        bits = (1 << 8 * self.handle) - 1  # an MPI may have handles that are negative numbers
        each = ((MPI._handleof(request) & bits).to_bytes(self.handle, "little") for request in requests)
        return np.frombuffer(bytearray(b"".join(each)), dtype=np.uint8)


def point_to_point(
    comm: MPI.Comm, sends: Sequence[Message], receives: Sequence[Message], tag: int
) -> Prepared:
    """Persistent requests, one per message; `tag` tells this exchange from others on the communicator."""
    requests = [comm.Recv_init(buffer, peer, tag) for peer, buffer in receives]
    requests += [comm.Send_init(buffer, peer, tag) for peer, buffer in sends]
    return Prepared(requests, sends, receives, _size(sends))


def neighbourhood(comm: MPI.Distgraphcomm, sends: Sequence[Message], receives: Sequence[Message]) -> Prepared:
    """One persistent collective (MPI-4, §8.8) of `comm`, whose neighbours are the peers as the messages have them."""
    request = comm.Neighbor_alltoallw_init(_everywhere(sends), _everywhere(receives))
    return Prepared([request], sends, receives, _size(sends))


def neighbours(comm: MPI.Intracomm, peers: Sequence[int]) -> MPI.Distgraphcomm:
    """A communicator of all ranks on which each is linked with its peers, both ways. All ranks call."""
    return comm.Create_dist_graph_adjacent(peers, peers, reorder=False)


def neighbourhoods_work(comm: MPI.Intracomm) -> bool:
    """Whether the library has persistent collectives of neighbours, and completes them as it does other requests: MPI-3
    has none, and MPICH 5.0 fails to. All ranks call, and send a number to themselves."""
    sent, received = np.ones(1), np.zeros(1)
    try:
        graph = neighbours(comm, [comm.Get_rank()])
        (request,) = neighbourhood(graph, [(comm.Get_rank(), sent)], [(comm.Get_rank(), received)]).requests
        for _ in range(2):
            received[0] = 0.0
            MPI.Prequest.Startall([request])
            end = time.monotonic() + _PROBE
            while not MPI.Request.Testall([request]):
                if time.monotonic() > end:
                    return False
            if received[0] != 1.0:
                return False
        request.Free()
        graph.Free()
    except (MPI.Exception, NotImplementedError, AttributeError):
        return False
    return True


@cache
def native() -> Native:
    """The MPI library that mpi4py uses, for compiled code."""
    library = ctypes.CDLL(MPI.__file__)
    start, test = (
        ctypes.cast(function, ctypes.c_void_p).value or 0
        for function in (library.MPI_Startall, library.MPI_Testall)
    )
    return Native(start, test, MPI._sizeof(MPI.Request), MPI._sizeof(MPI.Status))


def _everywhere(messages: Sequence[Message]) -> tuple[Any, Any, Any]:
    """Buffers wherever they lie, for a collective."""
    types = [MPI.BYTE] * len(messages)
    sizes, places = (
        [buffer.nbytes for _, buffer in messages],
        [MPI.Get_address(buffer) for _, buffer in messages],
    )
    return MPI.BOTTOM, (sizes, places), types


def _size(sends: Sequence[Message]) -> int:
    return sum(buffer.nbytes for _, buffer in sends)
