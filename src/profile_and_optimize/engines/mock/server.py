"""The mock server: an OpenAI-compatible endpoint that keeps its schedule and stamps what it really did.

    python -m profile_and_optimize.engines.mock.server --port 8000 --ttft-ms 50 --itl-ms 10 --osl 64

One process, one loop, one timer. It prints one line with its address when it listens, and stops on SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from time import perf_counter_ns
from typing import cast

import uvloop

from profile_and_optimize.engines.mock.http import BadRequest, Request, response, take_request
from profile_and_optimize.engines.mock.options import Options, parse
from profile_and_optimize.engines.mock.plan import Refused, read_answers
from profile_and_optimize.engines.mock.service import Service, error_body

BACKLOG = 4096


class Connection(asyncio.Protocol):
    """One client's socket. Requests on it are answered one after another."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = bytearray()
        self._closing = False
        self.busy = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses of it
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = sock.fileno()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        self._buffer += data
        self._next(now)

    def _next(self, now: int) -> None:
        try:
            while not self.busy and not self._closing and (request := take_request(self._buffer)):
                self.busy = True
                self._closing = not request.keep_alive
                self._answer(request, now)
        except BadRequest as error:
            self._closing = True
            self.finish(response(400, error_body(400, str(error))))

    def _answer(self, request: Request, now: int) -> None:
        try:
            self._service.answer(self, request, now)
        except Refused as refused:
            self.finish(response(refused.status, error_body(refused.status, str(refused))))

    def send(self, data: bytes) -> None:
        """Straight to the kernel: a transport buffers until the end of the loop's turn, and stamps would be early."""
        if self.lost:
            return
        sent = 0
        if not self._transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                pass
            except OSError:
                self.lost = True
                return
        if sent < len(data):
            self._transport.write(data[sent:])

    def finish(self, data: bytes = b"") -> None:
        """The last bytes of an answer, then the next request of this connection."""
        if data:
            self.send(data)
        self.busy = False
        if self._closing:
            self._transport.close()
        elif self._buffer:
            self._next(perf_counter_ns())

    def cut(self) -> None:
        """Close in the middle of an answer."""
        self.lost = True
        self._transport.close()


def listen(options: Options) -> socket.socket:
    """A listening socket. Raises OSError when the port is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Without it a restart on the same port fails for a minute; a port that is listened on is refused all the same.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((options.host, options.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


async def serve(options: Options, sock: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    service = Service(options, loop, read_answers(options.answers))
    server = await loop.create_server(lambda: Connection(service), sock=sock, backlog=BACKLOG)
    print(f"mock listening on http://{options.host}:{sock.getsockname()[1]}", flush=True)
    gc.collect()
    gc.freeze()
    await stop.wait()
    server.close()


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    try:
        sock = listen(options)
    except OSError as error:
        print(f"mock: port {options.port} on {options.host}: {error.strerror}", file=sys.stderr)
        return 2
    uvloop.run(serve(options, sock))
    return 0


if __name__ == "__main__":
    sys.exit(main())
