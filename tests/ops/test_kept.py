"""Records beside the response bytes that were kept of them: good ones again as they were, failed ones not good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.clients.kept import keep
from profile_and_optimize.clients.sse import Reads, parse_response
from profile_and_optimize.core.records import RawResponse, RequestRecord
from profile_and_optimize.ops.kept import as_kept

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def stream(*events: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in events) + end


GOOD = stream(TOKEN, TOKEN, END, DONE)
FAILED: dict[str, tuple[bytes, str | None]] = {
    "refused": (b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", None),
    "an error in the stream": (stream(TOKEN, b'data: {"error":{"message":"dying"}}\n\n', DONE), None),
    "cut": (stream(TOKEN, end=b""), None),
    "too late": (stream(TOKEN, end=b""), "timeout"),
    "nothing came": (b"", "timeout"),
    "longer than is kept": (stream(*[TOKEN] * 2000, end=b""), "timeout"),
}


def seen(data: bytes, fault: str | None = None) -> tuple[RequestRecord, RawResponse]:
    """What our client records of an answer, and the bytes it keeps."""
    reads: Reads = [(10 + i, data[at : at + 200]) for i, at in enumerate(range(0, len(data), 200))]
    record = parse_response(index=0, intended_ns=0, sent_ns=1, done_ns=10**6, reads=reads, fault=fault).record
    return record, keep(0, reads, failed=not record.ok, secrets=())


def test_a_good_answer_is_its_kept_bytes() -> None:
    record, kept = seen(GOOD)
    assert record.ok and as_kept(record, kept)
    assert not as_kept(replace(record, chunk_ns=(record.chunk_ns[0] - 1, record.chunk_ns[1])), kept)


@pytest.mark.parametrize("kind", FAILED)
def test_a_failed_answer_is_its_kept_bytes(kind: str) -> None:
    record, kept = seen(*FAILED[kind])
    assert not record.ok and as_kept(record, kept)


@pytest.mark.parametrize("error", ["timeout", "HTTP 500: no", "stream cut after 1 content chunks"])
def test_a_good_answer_called_failed_is_found(error: str) -> None:
    record, kept = seen(GOOD)
    assert not as_kept(replace(record, error=error, chunk_ns=(), finish_reason=None), kept)
    assert not as_kept(replace(record, error=error), kept)


def test_a_failed_answer_called_good_is_found() -> None:
    record, kept = seen(*FAILED["refused"])
    assert not as_kept(replace(record, error=None, chunk_ns=(50,), finish_reason="stop"), kept)


def test_an_answer_that_came_is_not_one_of_which_nothing_came() -> None:
    """Bytes taken away from a failed request leave the time of its first one."""
    record, kept = seen(*FAILED["refused"])
    assert not as_kept(record, replace(kept, reads=()))
