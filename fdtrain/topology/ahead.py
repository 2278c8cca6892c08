"""The graph of the next redraw, drawn while the ranks work on the mini-batches before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from fdtrain.graph import Graph

if TYPE_CHECKING:
    from fdtrain.service import Topology

WORTH = 10e-3  # seconds; less is not worth a thread that takes the interpreter away from the engine


class Ahead:
    """A topology with the same graphs, of which the next one is drawn in a thread.

    ``graph(t)`` is asked in any order; going forward finds the graph drawn. An error in a draw is raised when its
    mini-batch is asked for, and never if it is not. There is no thread before redraws have taken :data:`WORTH` on
    average.
    """

    def __init__(
        self,
        topology: Topology,
        every: int,
        minibatches: int,
        *,
        worth: float = WORTH,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """
        Args:
            topology: asked by one thread at a time; nobody else may ask it before :meth:`close`.
            every: mini-batches between redraws.
            minibatches: of the whole run; nothing is drawn beyond them.
            worth: seconds that a draw has to take for a thread.
            clock: seconds; by default those that the processor spends on the draw, however busy it is otherwise.
        """
        self._topology, self._every, self._minibatches = topology, every, minibatches
        self._worth, self._clock = worth, clock
        self._spent, self._drawn = 0.0, 0  # seconds and redraws, without the thread
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Graph]] | None = None  # draw number
        self._now: tuple[int, Graph] | None = None

    def graph(self, t: int) -> Graph:
        """The graph of mini-batch t; the same object as long as it stays the same.

        Raises:
            InputError: as the topology does.
        """
        number = t // self._every
        if self._now is None or self._now[0] != number:
            self._now = (number, self._take(number, t))
            self._begin(number + 1)
        return self._now[1]

    def close(self) -> None:
        """Wait for the thread, if there is one, and forget what it drew; from now on there is none."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._next, self._worth = None, None, math.inf

    def _take(self, number: int, t: int) -> Graph:
        drawn, self._next = self._next, None
        if drawn is not None:
            if drawn[0] == number:
                return drawn[1].result()
            drawn[1].exception()  # waits: one thread at a time
        before = self._clock()
        graph = self._topology.graph(t)
        if self._now is not None and self._pool is None:  # the first graph is there already
            self._spent, self._drawn = self._spent + self._clock() - before, self._drawn + 1
            if self._spent >= self._worth * self._drawn:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="topology")
        return graph

    def _begin(self, number: int) -> None:
        t = number * self._every
        if self._pool is not None and t < self._minibatches:
            self._next = (number, self._pool.submit(self._topology.graph, t))
