"""What a closed and an open loop have in common: connections, the end of answers, timeouts, the in-flight integral."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from time import perf_counter_ns

from profile_and_optimize.clients.connection import MAX_ANSWER, Connection, Exchange
from profile_and_optimize.clients.dialer import Dialer, dial_many, reason

QUIET_NS = 1_000_000_000


class Loop:
    """Sends `requests`, each once. After `run`, `exchanges` holds every one of them, and times are set.

    A subclass says what happens at t0 (`_begin`) and what when a request ended (`_after`).
    """

    lead_ns = 0  # t0 lies this far ahead when the run begins

    def __init__(self, requests: Sequence[bytes], dialer: Dialer, *, timeout_s: float) -> None:
        self._requests, self._dialer = requests, dialer
        self._timeout_ns = round(timeout_s * 1e9)
        self._ended = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._in_flight = 0
        self._flight_since = 0
        self.exchanges: list[Exchange] = []
        self.most_bytes = MAX_ANSWER
        self.in_flight_ns = 0
        self.reconnects = 0
        self.t0_ns = 0
        self.end_ns = 0

    @property
    def connections(self) -> int:
        """How many it opened, or will open, before t0; afterwards the most there were at once."""
        raise NotImplementedError

    def _begin(self) -> None:
        raise NotImplementedError

    def _after(self, connection: Connection | None, exchange: Exchange, now: int) -> None:
        """`exchange` ended; `connection`, if it is still open, is free."""
        raise NotImplementedError

    def _may_resend(self, connection: Connection) -> bool:
        """A server may close an idle connection while our next request is on its way."""
        return connection.answers > 0

    async def connect(self) -> None:
        """Open the connections that there shall be before t0. Raises Unreachable."""
        self._connections = await dial_many(self._dialer, self, self.connections)

    async def run(self) -> None:
        """From t0 to the end of the last answer."""
        event_loop = asyncio.get_running_loop()
        self._all_done = event_loop.create_future()
        event_loop.set_exception_handler(self._broken)
        watch = asyncio.create_task(self._watch())
        self.t0_ns = self._flight_since = perf_counter_ns() + self.lead_ns
        self._begin()
        try:
            await self._all_done
        finally:
            self._close(watch)

    def _close(self, watch: asyncio.Task[None]) -> None:
        for task in (watch, *self._tasks):
            task.cancel()
        for connection in self._connections:
            connection.close()

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A bug in a callback would leave its slot waiting for ever: end the run with it instead."""
        error = context.get("exception")
        if isinstance(error, Exception) and not self._all_done.done():
            self._all_done.set_exception(error)

    def _send(self, connection: Connection, exchange: Exchange) -> None:
        connection.most_bytes = self.most_bytes
        connection.send(exchange, self._requests[exchange.index])
        self._fly(1, exchange.sent_ns)

    def _fly(self, change: int, now: int) -> None:
        """The in-flight integral, kept as it happens: an independent count of what the records add up to."""
        self.in_flight_ns += self._in_flight * (now - self._flight_since)
        self._flight_since = now
        self._in_flight += change

    def answered(self, connection: Connection, exchange: Exchange, now: int) -> None:
        self._fly(-1, now)
        if not connection.open:
            self._connections.discard(connection)
        self._end(connection, exchange, now)

    def _end(self, connection: Connection | None, exchange: Exchange, now: int) -> None:
        exchange.done_ns = now
        self._ended += 1
        self._after(connection, exchange, now)
        if self._ended == len(self._requests) and not self._all_done.done():
            self.end_ns = now
            self._all_done.set_result(None)

    def lost(self, connection: Connection, exchange: Exchange | None, now: int) -> None:
        self._connections.discard(connection)
        if exchange is None:
            return
        self._fly(-1, now)
        # It is sent again, once.
        if not exchange.reads and self._may_resend(connection) and not exchange.resent:
            exchange.resent = True
            self._send_anew(exchange)
        else:
            self._end(None, exchange, now)

    def _send_anew(self, exchange: Exchange) -> None:
        """On a connection of its own: another one that has been idle may be as stale as the one that was lost."""
        self.reconnects += 1
        self._start(self._dial_and_send(exchange))

    async def _dial_and_send(self, exchange: Exchange) -> None:
        try:
            connection = await self._dialer.dial(self)
        except OSError as error:
            self._never_sent(exchange, f"cannot reconnect: {reason(error)}")
            return
        if connection.open:
            self._connections.add(connection)
            self._send(connection, exchange)
        else:
            self._never_sent(exchange, "cannot reconnect: closed at once")

    def _never_sent(self, exchange: Exchange, fault: str) -> None:
        exchange.sent_ns = perf_counter_ns()
        exchange.fault = fault
        self._end(None, exchange, exchange.sent_ns)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Timeouts, and answers that went quiet."""
        while True:
            await asyncio.sleep(min(1.0, self._timeout_ns / 4e9))
            now = perf_counter_ns()
            for connection in list(self._connections):
                exchange = connection.exchange
                if exchange is None:
                    continue
                with contextlib.suppress(OSError):
                    if now - exchange.sent_ns > self._timeout_ns:
                        connection.give_up("timeout", now)
                    elif exchange.reads:
                        connection.recheck(now - QUIET_NS)
            self._give_up_waiting(now - self._timeout_ns)

    def _give_up_waiting(self, since_ns: int) -> None:
        """Requests that no connection was found for since then; a closed loop has none."""
