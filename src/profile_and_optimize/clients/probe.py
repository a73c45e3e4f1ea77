"""The client watches itself: how late its loop runs, how long it waited for a core, who else it lets run."""

from __future__ import annotations

import asyncio
import os
from time import perf_counter_ns

from profile_and_optimize.clients.alarm import TimerFd

PERIOD_NS = 10_000_000
FIFO_PRIORITY = 10


class LagProbe:
    """Samples, every 10 ms, how late the event loop gets to a timer. `samples` are nanoseconds.

    A wake-up that comes several periods late gives a sample for each missed one: otherwise the worst moments
    would be the least sampled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.samples: list[int] = []
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        # libuv's own timers count whole milliseconds, too coarse to see a lag of one.
        self._timerfd = TimerFd.open()
        self._due = perf_counter_ns() + PERIOD_NS
        if self._timerfd is None:
            self._timer = loop.call_later(PERIOD_NS / 1e9, self._on_timer)
        else:
            self._timerfd.set(self._due, PERIOD_NS)
            loop.add_reader(self._timerfd.fd, self._on_fd)

    def _sample(self) -> None:
        now = perf_counter_ns()
        if now < self._due:
            # Early by libuv's rounding: on time.
            self.samples.append(0)
            self._due += PERIOD_NS
        while self._due <= now:
            self.samples.append(now - self._due)
            self._due += PERIOD_NS

    def _on_fd(self) -> None:
        assert self._timerfd is not None
        if self._timerfd.take():
            self._sample()

    def _on_timer(self) -> None:
        self._sample()
        self._timer = self._loop.call_later(max(0, self._due - perf_counter_ns()) / 1e9, self._on_timer)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._timerfd is not None:
            self._loop.remove_reader(self._timerfd.fd)
            self._timerfd.close()
            self._timerfd = None


def run_queue_wait_ns() -> int | None:
    """Time this thread was runnable but not running so far; None where Linux's schedstat is missing."""
    try:
        with open("/proc/self/schedstat") as file:
            return int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def pin(cores: tuple[int, ...]) -> None:
    """Stay on these cores. Raises OSError when they do not exist; does nothing where the system cannot pin."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def cores_allowed() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def take_fifo() -> str:
    """Real-time priority where the system grants it: `fifo`, else `other`."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
    except (AttributeError, OSError):
        return "other"
    return "fifo"


def leave_fifo() -> None:
    """Back among the others: parsing seconds of raw bytes at real-time priority would starve the machine."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
