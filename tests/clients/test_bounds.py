"""What is too large or compressed is refused as soon as that is seen, and the run goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.connection import KEPT_OF_REFUSED, MAX_ANSWER, MAX_OTHER, most_bytes
from profile_and_optimize.clients.http1 import MAX_HEAD, BadFraming, parse_head, split_head
from profile_and_optimize.clients.sse import MAX_EVENT
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.records import ClientRun

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'


@contextmanager
def server(head: bytes, piece: bytes, sent: list[int]) -> Iterator[str]:
    """Answers every request with the head and then the piece until nobody takes it; `sent` collects how many bytes went."""

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while b"\r\n\r\n" not in connection.recv(65536):
                    pass
                sent.append(connection.send(head))
                while True:
                    sent.append(connection.send(piece))
            except OSError:
                pass

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def run(url: str, work: Path) -> ClientRun:
    load = LoadRequest(
        url=url, model="m", api="chat", prompts=("a", "b"), osl=16, concurrency=1, timeout_s=20.0, fifo=False
    )
    return StreamClient().run(load, workdir=work)


KINDS: dict[str, tuple[bytes, bytes, str, int]] = {
    "one event without an end": (OK + b"\r\n" + b"data: ", b"x" * 65536, "one event of more than 4 MiB", 2 * MAX_EVENT),
    "small events without an end": (OK + b"\r\n", EVENT * 500, "answer longer than 4.1 MiB", 2 * MAX_EVENT),
    "compressed": (OK + b"Content-Encoding: gzip\r\n\r\n", b"\x1f" * 65536, "encoding gzip", MAX_OTHER),
    "compressed as a transfer": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"\x1f" * 65536, "encoding gzip", MAX_OTHER),
    "an error page without an end": (b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536, "HTTP 500: xxx", 2 * MAX_OTHER),
    "JSON without an end": (OK.replace(b"text/event-stream", b"application/json") + b"\r\n", b" " * 65536, "not a plain", 2 * MAX_OTHER),
    "a head without an end": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000, "not an HTTP/1 answer", MAX_OTHER),
    "interim answers without an end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, "interim answers", MAX_OTHER),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_early_with_the_reason_and_little_of_it_is_kept(kind: str, tmp_path: Path) -> None:
    head, piece, words, most = KINDS[kind]
    sent: list[int] = []
    with server(head, piece, sent) as url:
        found = run(url, tmp_path)
    assert all(words in (r.error or "") for r in found.records), found.records
    # What lies in the sockets of both sides when the client closes has been sent, too.
    assert sum(sent) < 2 * (most + 8 * 1024 * 1024)
    assert all(sum(len(data) for _, data in kept.reads) <= KEPT_OF_REFUSED for kept in found.raw)


def test_an_answer_may_be_as_long_as_what_was_asked_with_room() -> None:
    assert most_bytes(16) == MAX_EVENT + 64 * 1024
    assert most_bytes(10_000) == MAX_EVENT + 10_000 * 4096 and most_bytes(10**6) == MAX_ANSWER


ENCODINGS: dict[bytes, str] = {
    b"": "identity", b"Content-Encoding:\r\n": "identity", b"Content-Encoding: Identity\r\n": "identity",
    b"Transfer-Encoding: chunked\r\n": "identity", b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n": "gzip",
    b"Content-Encoding: br\r\nTransfer-Encoding: gzip, chunked\r\n": "br, gzip",
}  # fmt: skip


@pytest.mark.parametrize("lines", ENCODINGS)
def test_what_was_done_to_a_body_beside_chunking(lines: bytes) -> None:
    assert parse_head((OK + lines).removesuffix(b"\r\n")).encoding == ENCODINGS[lines]


def test_interim_answers_are_passed_over_up_to_a_bound() -> None:
    interim: Callable[[int], bytes] = lambda n: b"HTTP/1.1 100 Continue\r\n\r\n" * n  # noqa: E731
    assert split_head(interim(3) + OK + b"\r\n") is not None
    with pytest.raises(BadFraming):
        split_head(interim(MAX_HEAD // 25 + 2))
