"""An open loop: every request is sent at its own time, whatever became of the ones before it.

A server that stops for two seconds meets the requests that were meant in these seconds; their latency counts from the
time they were meant, so that no wait can hide in a client that held its requests back (coordinated omission).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from time import perf_counter_ns

from profile_and_optimize.clients.alarm import Alarm
from profile_and_optimize.clients.arrivals import Schedule
from profile_and_optimize.clients.connection import Connection, Exchange
from profile_and_optimize.clients.dialer import Dialer, reason
from profile_and_optimize.clients.loop import Loop

LEAD_NS = 20_000_000
# Then the loop reads what came in: a burst of a thousand sends would date the answers read after it 20 ms too late.
AT_ONCE = 16
SPARE_S = 0.25  # connections kept ready for the arrivals of this time; opening one takes a round trip or two
SPARE = (8, 256)
# A server closes connections that were idle for seconds (uvicorn: 5). One that it closed as we sent is not its failure.
IDLE_NS = 1_000_000_000
EXPECTED_S = 1.0
DIALS_AT_ONCE = 256  # requests wait for these, so more at a time than before t0


def spare(rate: float) -> int:
    """Idle connections to keep ready at this rate."""
    return max(SPARE[0], min(SPARE[1], math.ceil(rate * SPARE_S)))


def connections_for(rate: float, latency_s: float) -> int:
    """By Little's law rate * latency are busy; the spare ones come on top."""
    return math.ceil(rate * latency_s) + spare(rate)


class OpenLoop(Loop):
    """Sends request i at t0 + `schedule.at_ns[i]`, or when its session lets it (see `Schedule`).

    The idle connection used last is used first: the others may go stale. More are opened as soon as few are idle, up to
    `most`; a request that finds none waits for the first to come, and that wait is in its latency. `waited` counts them.
    """

    lead_ns = LEAD_NS

    def __init__(
        self, requests: Sequence[bytes], dialer: Dialer, schedule: Schedule, *, connections: int, most: int, timeout_s: float
    ) -> None:  # fmt: skip
        super().__init__(requests, dialer, timeout_s=timeout_s)
        wanted = connections or connections_for(schedule.request_rate, EXPECTED_S)
        self._opened = max(1, min(wanted, most, len(requests)))
        self._schedule, self.most = schedule, most
        self._spare = spare(schedule.request_rate)
        self._idle: list[Connection] = []
        self._waiting: deque[Exchange] = deque()
        self._dialing = 0
        self._unsent = len(requests)
        self.waited: int = 0

    @property
    def connections(self) -> int:
        return self._opened

    def _begin(self) -> None:
        self._idle = [c for c in self._connections if c.open]
        self._followers = _followers(self._schedule)
        free = [i for i in range(len(self._requests)) if not self._schedule.after or self._schedule.after[i] is None]
        self._due = [(self.t0_ns + self._schedule.at_ns[i], i) for i in free]  # ascending, so already a heap
        self._alarm = Alarm(asyncio.get_running_loop(), self._ring)
        self._alarm.set(self._due[0][0])

    def _close(self, watch: asyncio.Task[None]) -> None:
        self._alarm.close()
        super()._close(watch)

    def _ring(self) -> None:
        due, now = self._due, perf_counter_ns()
        for _ in range(AT_ONCE):
            if not due or due[0][0] > now:
                break
            intended, index = heappop(due)
            self._take(Exchange(index, intended))
        if due:
            self._alarm.set(due[0][0])

    def _take(self, exchange: Exchange) -> None:
        """Send it now on an idle connection, or on the first that there will be."""
        self.exchanges.append(exchange)
        self._unsent -= 1
        connection = self._pick()
        if connection is not None:
            self._send(connection, exchange)
        else:
            self.waited += 1
            self._waiting.append(exchange)
        if len(self._idle) < self._spare:
            self._grow(self._spare)

    def _pick(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def _grow(self, spare: int) -> None:
        """Open what the waiting need, and the spare ones that the requests still to come may need."""
        wanted = len(self._waiting) + min(spare, self._unsent) - len(self._idle) - self._dialing
        room = min(DIALS_AT_ONCE, self.most - len(self._connections)) - self._dialing
        for _ in range(min(wanted, room)):
            self._dialing += 1
            self._start(self._open())

    async def _open(self) -> None:
        fault = ""
        try:
            connection = await self._dialer.dial(self)
            fault = "" if connection.open else "closed at once"
        except OSError as error:
            fault = reason(error)
        self._dialing -= 1
        if not fault:
            self._connections.add(connection)
            self._opened = max(self._opened, len(self._connections))
            self._free(connection)
        elif self._waiting:
            self._never_sent(self._waiting.popleft(), f"cannot connect: {fault}")
        self._grow(0)  # no spare ones now: a server that refuses would be dialled without a pause

    def _free(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _after(self, connection: Connection | None, exchange: Exchange, now: int) -> None:
        for index in self._followers.get(exchange.index, ()):
            self._follow(index, now)
        if connection is not None and connection.open:
            self._free(connection)
        else:
            self._grow(0)

    def _follow(self, index: int, now: int) -> None:
        """The next turn of a session: due at its own time, or when the turn before it was answered and thought over."""
        at = max(self.t0_ns + self._schedule.at_ns[index], now + self._schedule.think_ns[index])
        heappush(self._due, (at, index))
        self._alarm.set(self._due[0][0])

    def lost(self, connection: Connection, exchange: Exchange | None, now: int) -> None:
        super().lost(connection, exchange, now)
        if connection in self._idle:
            self._idle.remove(connection)
            # Replaced at once, or after a quiet minute every request would wait for a connection. Not so where the
            # server closes what it has just accepted: that would never end.
            if now - connection.free_ns > IDLE_NS:
                self._grow(self._spare)

    def _may_resend(self, connection: Connection) -> bool:
        return super()._may_resend(connection) or connection.idle_ns > IDLE_NS

    def _give_up_waiting(self, since_ns: int) -> None:
        while self._waiting and self._waiting[0].intended_ns < since_ns:
            self._never_sent(self._waiting.popleft(), "timeout: no connection was free")


def _followers(schedule: Schedule) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for index, before in enumerate(schedule.after):
        if before is not None:
            found.setdefault(before, []).append(index)
    return found
