"""A closed loop: every slot sends its next request the moment its last answer ended."""

from __future__ import annotations

from collections.abc import Sequence

from profile_and_optimize.clients.connection import Connection, Exchange
from profile_and_optimize.clients.dialer import Dialer
from profile_and_optimize.clients.loop import Loop


class ClosedLoop(Loop):
    """Works through `requests` in order with `slots` connections."""

    def __init__(self, requests: Sequence[bytes], dialer: Dialer, *, slots: int, timeout_s: float) -> None:
        super().__init__(requests, dialer, timeout_s=timeout_s)
        self._slots = min(slots, len(requests))
        self._next = 0

    @property
    def connections(self) -> int:
        return self._slots

    def _begin(self) -> None:
        for connection in list(self._connections):
            self._send_next(connection, self.t0_ns)

    def _after(self, connection: Connection | None, exchange: Exchange, now: int) -> None:
        self._send_next(connection, now)

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
            self._send_anew(exchange)
