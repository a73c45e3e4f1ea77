"""A closed loop: every slot sends its next request the moment its last answer ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Sequence
from time import perf_counter_ns, sleep

from profile_and_optimize.clients.connection import Connection, Exchange, Owner
from profile_and_optimize.clients.target import Target
from profile_and_optimize.core.errors import Unreachable

CONNECT_TIMEOUT_S = 10.0
CONNECTS_AT_ONCE = 64  # more would overflow small listen backlogs and wait a second for the SYN's repetition
QUIET_NS = 1_000_000_000
SLOW_VARIABLE = "PAO_STREAM_TEST_SLOW_MS"


class Dialer:
    """Opens connections to one target, on the first of its addresses that answered."""

    def __init__(self, target: Target, addresses: Sequence[str]) -> None:
        self._target, self._addresses = target, list(addresses)
        self._tls = ssl.create_default_context() if target.tls else None
        self._make = slow_connection(os.environ.get(SLOW_VARIABLE, ""))

    async def dial(self, owner: Owner) -> Connection:
        """Raises OSError or TimeoutError."""
        loop, last = asyncio.get_running_loop(), OSError("no address")
        for address in list(self._addresses):
            name = self._target.host if self._tls else None
            opening = loop.create_connection(
                lambda: self._make(owner), address, self._target.port, ssl=self._tls, server_hostname=name
            )
            try:
                _, connection = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
            except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors too
                last = error
                continue
            self._addresses = [address]
            return connection
        raise last

    async def dial_first(self, owner: Owner) -> Connection:
        """Raises Unreachable, naming the URL."""
        try:
            return await self.dial(owner)
        except OSError as error:
            raise Unreachable(f"cannot connect: {reason(error)}", where=self._target.url) from None


def reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return os.strerror(error.errno) if error.errno and not isinstance(error, ssl.SSLError) else str(error)


def slow_connection(milliseconds: str) -> Callable[[Owner], Connection]:
    """FAULT INJECTION for the honesty test, off unless the variable is set: a client that is too busy to read.

    Once per burst of reads it blocks the whole loop, as a client that parses or tokenises in its callbacks does.
    """
    if not milliseconds:
        return Connection
    blocked = False

    def unblock() -> None:
        nonlocal blocked
        blocked = False

    class SlowConnection(Connection):
        def data_received(self, data: bytes) -> None:
            nonlocal blocked
            if not blocked:
                blocked = True
                sleep(float(milliseconds) / 1e3)
                asyncio.get_running_loop().call_soon(unblock)
            super().data_received(data)

    return SlowConnection


class ClosedLoop:
    """Works through `requests` in order with `slots` connections. After `run`, `exchanges` holds every one of them."""

    def __init__(self, requests: Sequence[bytes], dialer: Dialer, *, slots: int, timeout_s: float) -> None:
        self._requests, self._dialer = requests, dialer
        self._slots = min(slots, len(requests))
        self._timeout_ns = round(timeout_s * 1e9)
        self._next = 0
        self._ended = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._in_flight = 0
        self._flight_since = 0
        self.exchanges: list[Exchange] = []
        self.in_flight_ns = 0
        self.reconnects = 0
        self.t0_ns = 0
        self.end_ns = 0

    @property
    def connections(self) -> int:
        return self._slots

    async def connect(self) -> None:
        """Open every connection. Raises Unreachable."""
        limit = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def one() -> Connection:
            async with limit:
                return await self._dialer.dial_first(self)

        first = await one()  # alone: a dead target is named once, and its working address is known to the others
        self._connections = {first, *await asyncio.gather(*(one() for _ in range(self._slots - 1)))}

    async def run(self) -> None:
        """From t0 to the end of the last answer."""
        event_loop = asyncio.get_running_loop()
        self._all_done = event_loop.create_future()
        event_loop.set_exception_handler(self._broken)
        watch = asyncio.create_task(self._watch())
        self.t0_ns = self._flight_since = perf_counter_ns()
        for connection in list(self._connections):
            self._send_next(connection, self.t0_ns)
        await self._all_done
        watch.cancel()
        for connection in self._connections:
            connection.close()

    def _broken(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A bug in a callback would leave its slot waiting for ever: end the run with it instead."""
        error = context.get("exception")
        if isinstance(error, Exception) and not self._all_done.done():
            self._all_done.set_exception(error)

    def _send_next(self, connection: Connection | None, free_ns: int) -> None:
        """The slot that became free takes the next request, on its connection or on a new one."""
        if self._next >= len(self._requests):
            return
        exchange = Exchange(self._next, free_ns)
        self._next += 1
        self.exchanges.append(exchange)
        if connection is not None and connection.open:
            self._send(connection, exchange)
        else:
            self._reconnect(exchange)

    def _send(self, connection: Connection, exchange: Exchange) -> None:
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
        self._send_next(connection, now)
        if self._ended == len(self._requests) and not self._all_done.done():
            self.end_ns = now
            self._all_done.set_result(None)

    def lost(self, connection: Connection, exchange: Exchange | None, now: int) -> None:
        self._connections.discard(connection)
        if exchange is None:
            return
        self._fly(-1, now)
        # A server may close an idle connection while our next request is on its way: that one is sent again, once.
        if not exchange.reads and connection.answers and not exchange.resent:
            exchange.resent = True
            self._reconnect(exchange)
        else:
            self._end(None, exchange, now)

    def _reconnect(self, exchange: Exchange) -> None:
        self.reconnects += 1
        task = asyncio.get_running_loop().create_task(self._send_anew(exchange))
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def _send_anew(self, exchange: Exchange) -> None:
        try:
            connection = await self._dialer.dial(self)
        except OSError as error:
            now = perf_counter_ns()
            exchange.sent_ns = now
            exchange.fault = f"cannot reconnect: {reason(error)}"
            self._end(None, exchange, now)
        else:
            self._connections.add(connection)
            self._send(connection, exchange)

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
