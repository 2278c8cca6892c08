"""What one rank did when: spans of time, of the first and last mini-batches; sums of all of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from fdtrain.team import Team

# What time is spent on. Every moment of a profiled run belongs to one of them.
CATEGORIES = ("compute", "pack", "post", "wait", "control", "serve", "rewire", "other")
_SHORT = 1000  # nanoseconds; what is shorter is counted, and not shown


class Span(NamedTuple):
    """Something that took time, in nanoseconds of the rank's own clock."""

    name: str
    category: str  # one of CATEGORIES, or what encloses such spans: round, pass, mini-batch
    start: int
    stop: int
    details: dict[str, Any] | None = None


class Group(NamedTuple):
    """What was recorded from the beginning of a mini-batch to that of the next."""

    minibatch: int | None  # None: before the first one
    spans: list[Span]


class _Open(NamedTuple):
    """A span that has not ended, and what is done within it where nothing else is said."""

    name: str
    category: str
    start: int
    details: dict[str, Any] | None
    before: str  # what was done around it


class Recorder:
    """Cuts a rank's time into spans. Spans either follow one another or enclose one another."""

    def __init__(self, team: Team, minibatches: int, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """Keep the spans of so many mini-batches: half of them the first ones, half the last ones."""
        self.clock = clock
        self.start = self._last = clock()
        self.totals = dict.fromkeys(CATEGORIES, 0)  # nanoseconds
        self.rounds = 0  # of all mini-batches
        self.minibatches = 0
        self.place = "other"  # what is done where nothing else is said
        self._team, self._round = team, 0
        self._stack: list[_Open] = []
        self._before = Group(None, [])
        self._first: list[Group] = []
        self._kept_first = (minibatches + 1) // 2
        self._kept_last: deque[Group] = deque(maxlen=minibatches // 2)
        self._group = self._before

    def mark(self, category: str | None = None, name: str | None = None) -> None:
        """What was done since the last call was of this category; where none is given, what is usual in this place."""
        now, category = self.clock(), category or self.place
        self.totals[category] += now - self._last
        if category != "other" and now - self._last >= _SHORT:
            self._group.spans.append(Span(name or category, category, self._last, now))
        self._last = now

    def open(self, name: str, category: str, place: str, details: dict[str, Any] | None = None) -> None:
        """Begin a span that encloses others; within it `place` is what is done."""
        self.mark()
        if not self._stack:
            self._turn_over()
        if category == "pass":
            self._round = 0
        self._stack.append(_Open(name, category, self._last, details, self.place))
        self.place = place

    def close(self) -> None:
        """End the span that was begun last."""
        self.mark()
        name, category, start, details, self.place = self._stack.pop()
        self._group.spans.append(Span(name, category, start, self._last, details))

    def open_round(self, carries: Any) -> None:
        """Begin a round, which `carries` something."""
        self.rounds += 1
        self._round += 1
        details = {"minibatch": self._team.minibatch, "round": self._round, "carries": carries}
        self.open(f"round {self._round}", "round", "pack", details)

    def describe(self, **details: Any) -> None:
        """Add to the details of the span that was begun last."""
        within = self._stack[-1].details
        if within is not None:
            within.update(details)

    @property
    def in_round(self) -> bool:
        """Whether a round has begun."""
        return bool(self._stack) and self._stack[-1].category == "round"

    def finish(self) -> None:
        """Nothing more is recorded; what was not ended, because of an error, ends here."""
        while self._stack:
            self.close()
        self.mark()
        self._enclose()
        self.stop = self._last

    @property
    def groups(self) -> list[Group]:
        """What is kept, in the order of time."""
        return [self._before, *self._first, *self._kept_last]

    def _turn_over(self) -> None:
        """Begin another group, if it is another mini-batch's time."""
        t = self._team.minibatch
        if t is None or t == self._group.minibatch:
            return
        self._enclose()
        self._group = Group(t, [])
        self.minibatches += 1
        if len(self._first) < self._kept_first:
            self._first.append(self._group)
        elif self._kept_last.maxlen:
            self._kept_last.append(self._group)

    def _enclose(self) -> None:
        """A span around all that was recorded in this group."""
        t, spans = self._group
        if not spans:
            return
        name = "start" if t is None else f"mini-batch {t + 1}"
        start = min(span.start for span in spans)
        spans.append(Span(name, "mini-batch", start, max(span.stop for span in spans), {"minibatch": t}))
