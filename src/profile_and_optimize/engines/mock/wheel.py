"""One timer for all streams: a heap of absolute deadlines and a single call to wake up for the next."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

# Then the loop reads what came in. 256 streams that end together would otherwise keep their successors' requests
# unread for milliseconds, and a client would be blamed for it.
AT_ONCE = 16


class Timed(Protocol):
    def fire(self) -> int | None:
        """Do what is due; give the next absolute deadline (perf_counter_ns), or None when there is none."""
        ...


class Wheel:
    """Wakes `Timed` things, never early and, when the loop is free, at most about 1 ms late.

    libuv's timers count whole milliseconds. That batches 25,600 chunks a second into at most 1,000 wake-ups, and
    since the actual send time of each chunk is stamped, the lateness is never taken for a client's error.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[int, int, Timed]] = []
        self._serial = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0
        self._ticking = False

    def add(self, deadline_ns: int, timed: Timed) -> None:
        self._push(deadline_ns, timed)
        if not self._ticking and (self._timer is None or deadline_ns < self._armed_for):
            self._arm()

    def _push(self, deadline_ns: int, timed: Timed) -> None:
        self._serial += 1  # breaks ties, so that two streams are never compared
        heapq.heappush(self._heap, (deadline_ns, self._serial, timed))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._armed_for = self._heap[0][0]
            # Whole milliseconds, rounded up: a fraction would round to zero and spin until the deadline.
            wait_ms = max(0, -(-(self._armed_for - self._clock()) // 1_000_000))
            self._timer = self._loop.call_later(wait_ms / 1e3, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._ticking = True
        try:
            self._fire_due(self._clock())
        finally:
            self._ticking = False
            self._arm()

    def _fire_due(self, now: int) -> None:
        heap = self._heap
        for _ in range(AT_ONCE):
            if not heap or heap[0][0] > now:
                return
            timed = heapq.heappop(heap)[2]
            following = timed.fire()
            if following is not None:
                self._push(following, timed)
