"""Opens connections to one target, on the first of its addresses that answered."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from time import sleep

from profile_and_optimize.clients.connection import Connection, Owner
from profile_and_optimize.clients.target import Target
from profile_and_optimize.core.errors import Unreachable

CONNECT_TIMEOUT_S = 10.0
CONNECTS_AT_ONCE = 64  # more would overflow small listen backlogs and wait a second for the SYN's repetition
SLOW_VARIABLE = "PAO_STREAM_TEST_SLOW_MS"


class Dialer:
    """See above. `dial` gives up on an address after 10 s."""

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


async def dial_many(dialer: Dialer, owner: Owner, count: int) -> set[Connection]:
    """Before t0. Raises Unreachable."""
    limit = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def one() -> Connection:
        async with limit:
            return await dialer.dial_first(owner)

    first = await one()  # alone: a dead target is named once, and its working address is known to the others
    return {first, *await asyncio.gather(*(one() for _ in range(count - 1)))}
