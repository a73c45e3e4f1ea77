"""Just enough HTTP/1.1 for a test server: requests with a Content-Length body, keep-alive, fixed or chunked answers."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


class BadRequest(Exception):
    """The bytes are not a request that this server reads."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


def take_request(buffer: bytearray) -> Request | None:
    """Remove one whole request from the front of `buffer`; None while it is incomplete. Raises BadRequest."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD:
            raise BadRequest("request head too long")
        return None
    method, path, headers = _head(bytes(buffer[:end]))
    length = _length(headers)
    whole = end + 4 + length
    if len(buffer) < whole:
        return None
    body = bytes(buffer[end + 4 : whole])
    del buffer[:whole]
    return Request(method, path, headers, body)


def _head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest("not an HTTP/1 request line")
    pairs = (line.partition(":") for line in lines)
    return parts[0], parts[1].partition("?")[0], {name.strip().lower(): value.strip() for name, _, value in pairs}


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest("chunked request bodies are not read here")
    text = headers.get("content-length", "0")
    if not text.isdecimal() or int(text) > MAX_BODY:
        raise BadRequest("bad content-length")
    return int(text)


def response(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    """A whole answer with its length."""
    reason = REASONS.get(status, "Error")
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(payload: bytes) -> bytes:
    """One HTTP chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)
