"""The hot path: one socket, one request at a time. It notes (time, bytes) and finds out when an answer is over."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol, cast

from profile_and_optimize.clients.http1 import BadFraming, BodyReader, Head, split_head
from profile_and_optimize.clients.sse import MAX_EVENT

# A token's event takes 200 to 500 bytes; a server that does not heed max_tokens may send ten thousand more than asked.
LEAST_ANSWER, BYTES_PER_TOKEN, MAX_ANSWER = MAX_EVENT, 4096, 64 * 1024 * 1024
MAX_OTHER = 1024 * 1024  # of what is not an event stream: an error and its message
KEPT_OF_REFUSED = 64 * 1024
BLANK_LINES = (b"\n\n", b"\n\r", b"\r\r")
LAST = b"\r\n0\r\n\r\n"
DONE = b"[DONE]"


def most_bytes(tokens: int) -> int:
    """What an answer of so many tokens may have at most."""
    return min(MAX_ANSWER, LEAST_ANSWER + BYTES_PER_TOKEN * tokens)


class Exchange:
    """One request and what came back. Times are perf_counter_ns; `fault` is why our side gave up on it."""

    __slots__ = ("done_ns", "fault", "index", "intended_ns", "reads", "resent", "sent_ns")

    def __init__(self, index: int, intended_ns: int) -> None:
        self.index = index
        self.intended_ns = intended_ns
        self.sent_ns = 0
        self.done_ns = 0
        self.reads: list[tuple[int, bytes]] = []
        self.fault: str | None = None
        self.resent = False


class Owner(Protocol):
    """Who is told about the end of an answer, and about the end of the connection."""

    def answered(self, connection: Connection, exchange: Exchange, now: int) -> None: ...
    def lost(self, connection: Connection, exchange: Exchange | None, now: int) -> None: ...


class Connection(asyncio.Protocol):
    """`ended` decides per read, cheaply, whether the answer may be over; only doubtful ones are unframed here.

    The cheap road: the head says chunked, and the body ends `[DONE]`, blank line, last chunk. Anything else
    (errors, other content types, trailers) goes through an exact BodyReader, which costs more but is right.
    What is too large, or compressed, is refused as soon as that is seen, and its bytes are let go.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.exchange: Exchange | None = None
        self.answers = 0
        self.open = False
        self.most_bytes = MAX_ANSWER  # of one answer
        self.free_ns = 0  # since when nothing is asked of it
        self.idle_ns = 0  # how long nothing had been asked of it when the current request was sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses of it
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = None if transport.get_extra_info("sslcontext") else sock.fileno()
        self.open = True
        self.free_ns = perf_counter_ns()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        exchange, self.exchange = self.exchange, None
        self.owner.lost(self, exchange, perf_counter_ns())

    def send(self, exchange: Exchange, request: bytes) -> None:
        self.exchange = exchange
        self._ended: Callable[[Exchange, bytes], bool] = self._head_ended
        self._close_after = False
        self._size = self._seen = 0
        self._limit = MAX_EVENT
        self._done_seen = False
        exchange.sent_ns = perf_counter_ns()
        self.idle_ns = exchange.sent_ns - self.free_ns
        sent = self._write(request) if self._fd is not None else 0
        if sent < len(request):
            self._transport.write(request[sent:])

    def _write(self, request: bytes) -> int:
        """Straight to the kernel: a transport buffers until the end of the loop's turn, later than `sent_ns` says."""
        assert self._fd is not None
        try:
            return os.write(self._fd, request)
        except BlockingIOError:
            return 0
        except OSError:  # the server has closed; connection_lost follows and decides
            self._transport.abort()
            return len(request)

    def data_received(self, data: bytes) -> None:
        now = perf_counter_ns()
        exchange = self.exchange
        if exchange is None:
            self.open = False
            self._transport.abort()  # nobody asked: the framing is lost
            return
        exchange.reads.append((now, data))
        self._size += len(data)
        if self._size > self._limit and (fault := self._too_large(exchange)):
            self._refuse(exchange, fault, now)
        elif self._ended(exchange, data):
            self._finish(exchange, now)

    def _too_large(self, exchange: Exchange) -> str | None:
        """Looked at once for every 4 MiB: an event that began before the last look and has not ended since is too long."""
        if self._limit == MAX_OTHER:
            return f"answer longer than {MAX_OTHER >> 20} MiB that is not an event stream"
        since = b"".join([data for _, data in exchange.reads[self._seen :]])
        if not any(line in since for line in BLANK_LINES):
            return f"one event of more than {MAX_EVENT >> 20} MiB"
        if self._size > self.most_bytes:
            return f"answer longer than {self.most_bytes / 2**20:.1f} MiB"
        self._seen = len(exchange.reads)
        self._limit = min(self._limit + MAX_EVENT, self.most_bytes)
        return None

    def _refuse(self, exchange: Exchange, fault: str, now: int) -> None:
        """Give up on an answer; the beginning is kept to show what it was."""
        kept, size = [], 0
        for at, data in exchange.reads:
            kept.append((at, data[: KEPT_OF_REFUSED - size]))
            size += len(kept[-1][1])
            if size >= KEPT_OF_REFUSED:
                break
        exchange.reads = kept
        self.give_up(fault, now)

    def _finish(self, exchange: Exchange, now: int) -> None:
        self.exchange = None
        self.answers += 1
        self.free_ns = now
        if self._close_after:
            self.open = False
            self._transport.close()
        self.owner.answered(self, exchange, now)

    def give_up(self, fault: str, now: int) -> None:
        """End the request from our side; the connection cannot be used again."""
        exchange, self.exchange = self.exchange, None
        self.open = False
        self._transport.abort()
        if exchange is not None:
            exchange.fault = fault
            self.owner.answered(self, exchange, now)

    def recheck(self, idle_since: int) -> None:
        """For an answer that went quiet: was its end one that the cheap test does not know (trailers, odd splits)?"""
        exchange = self.exchange
        if exchange is None or self._ended != self._chunked_ended or exchange.reads[-1][0] > idle_since:
            return
        if self._exactly(exchange):
            self._finish(exchange, exchange.reads[-1][0])

    def close(self) -> None:
        self.open = False
        self._transport.close()

    def _head_ended(self, exchange: Exchange, data: bytes) -> bool:
        """The first read or reads: learn how this answer will end."""
        so_far = data if len(exchange.reads) == 1 else b"".join(read for _, read in exchange.reads)
        try:
            found = split_head(so_far)
        except BadFraming:
            self._close_after = True
            return True
        if found is None:
            return False
        head, body_at = found
        self._close_after = head.close
        self._seen = len(exchange.reads)  # the head's own blank line ends no event
        if head.encoding != "identity":
            self._refuse(exchange, f"encoding {head.encoding}, none was accepted", exchange.reads[-1][0])
            return False
        if not (head.status == 200 and head.event_stream):
            self._limit = MAX_OTHER
        if not _usual(head):
            return self._exactly(exchange)
        self._ended = self._chunked_ended
        return len(so_far) > body_at and self._chunked_ended(exchange, data)

    def _chunked_ended(self, exchange: Exchange, data: bytes) -> bool:
        """True when the terminal chunk is at the tail. Most reads cost three scans of a few hundred bytes."""
        if self._done_seen or len(data) < len(LAST) or data.endswith(b"\r\n\r\n"):
            tail = _tail(exchange.reads)
            if tail.endswith(LAST) and DONE in tail:
                return True
            # Near the end but not the usual one (or content that looks like it): read the framing from the start.
            if self._done_seen or tail.endswith((LAST, DONE + b"\r\n\r\n\r\n")):
                return self._exactly(exchange)
        self._done_seen = DONE in data
        return self._done_seen and data.endswith(b"\r\n\r\n") and self._exactly(exchange)

    def _exactly(self, exchange: Exchange) -> bool:
        """From here on this answer is unframed as it comes."""
        reader = BodyReader()
        try:
            for _, data in exchange.reads:
                reader.feed(data)
        except BadFraming:
            self._close_after = True
            return True
        self._ended = lambda _, data: self._feed(reader, data)
        return reader.complete

    def _feed(self, reader: BodyReader, data: bytes) -> bool:
        try:
            reader.feed(data)
        except BadFraming:
            self._close_after = True
            return True
        return reader.complete


def _usual(head: Head) -> bool:
    return head.status == 200 and head.chunked and head.event_stream


def _tail(reads: list[tuple[int, bytes]]) -> bytes:
    """The last bytes over several reads: enough for `[DONE]`, its blank line and the terminal chunk."""
    tail = reads[-1][1][-32:]
    at = len(reads) - 2
    while len(tail) < 32 and at >= 0:
        tail = reads[at][1][-(32 - len(tail)) :] + tail
        at -= 1
    return tail
