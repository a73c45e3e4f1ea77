"""Reading HTTP/1.1 answers from the bytes as they came, cut at any place. Pure: bytes in, body bytes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

MAX_HEAD = 64 * 1024
MAX_LINE = 4096
MAX_CHUNK = 1 << 31
ENCODINGS = ("content-encoding", "transfer-encoding")


class BadFraming(Exception):
    """These bytes are not an HTTP/1.1 answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """`length` is None without a Content-Length; `close` says that the server ends the connection after this answer."""

    status: int
    length: int | None
    chunked: bool
    close: bool
    content_type: str
    encoding: str

    @property
    def event_stream(self) -> bool:
        """A missing content type gets the benefit of the doubt."""
        return not self.content_type or self.content_type.startswith("text/event-stream")


def split_head(data: bytes) -> tuple[Head, int] | None:
    """The head and where the body begins; None while incomplete. Interim 1xx answers are skipped. Raises BadFraming."""
    begin = 0
    while True:
        end = data.find(b"\r\n\r\n", begin)
        if end < 0:
            if len(data) > MAX_HEAD or not b"HTTP/1."[: len(data) - begin] == data[begin : begin + 7]:
                raise BadFraming("not an HTTP/1 answer")
            return None
        head = parse_head(data[begin:end])
        begin = end + 4
        if head.status >= 200:
            return head, begin
        if begin > MAX_HEAD:
            raise BadFraming("interim answers without an end")


@lru_cache(maxsize=64)  # one server's heads differ only in their date, and the hot path reads them too
def parse_head(head: bytes) -> Head:
    """Raises BadFraming for a status line or length that cannot be read."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if not first.startswith("HTTP/1.") or len(parts) < 2 or not (parts[1].isascii() and parts[1].isdecimal()):
        raise BadFraming("not an HTTP/1 answer")
    pairs = [line.partition(":") for line in lines]
    fields = {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
    chunked = "chunked" in fields.get("transfer-encoding", "")
    return Head(
        status=int(parts[1][:3]),
        length=None if chunked else _length(fields.get("content-length")),
        chunked=chunked,
        close=fields.get("connection") == "close" or first.startswith("HTTP/1.0"),
        content_type=fields.get("content-type", ""),
        encoding=_encoding([(name.strip().lower(), value.strip().lower()) for name, _, value in pairs]),
    )


def _encoding(fields: list[tuple[str, str]]) -> str:
    """All that was done to the body beside chunking, "identity" for nothing."""
    values = [v for name, value in fields if name in ENCODINGS for v in value.split(",")]
    return ", ".join(v for value in values if (v := value.strip()) not in ("", "identity", "chunked")) or "identity"


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise BadFraming("unreadable content-length")
    return int(text)


class BodyReader:
    """Takes reads in order and gives the body bytes that each one completed.

    `head` is None until the head is whole. `complete` is true once the framing says that the body is over; a body
    that lasts until the connection closes is never complete by itself. `ended` asks whether bytes are missing if that
    was all: of a body that lasts until the close, nothing can tell.
    """

    def __init__(self) -> None:
        self.head: Head | None = None
        self.complete = False
        self._start = b""
        self._left = 0  # bytes to come of the current chunk, or of the whole body
        self._line = b""  # the unfinished size, CRLF or trailer line
        self._expect = "size"

    @property
    def ended(self) -> bool:
        until_close = self.head is not None and not self.head.chunked and self.head.length is None
        return self.complete or until_close

    def feed(self, data: bytes) -> bytes:
        """Body bytes in this read, maybe none. Raises BadFraming."""
        if self.complete:
            return b""
        if self.head is None:
            self._start += data
            found = split_head(self._start)
            if found is None:
                return b""
            self.head, body_at = found
            data, self._start = self._start[body_at:], b""
            self._left = self.head.length or 0
            self.complete = self.head.length == 0 or self.head.status in (204, 304)
        if self.head.chunked:
            return self._whole_chunk(data) or self._chunked(data)
        return data if self.head.length is None else self._counted(data)

    def _counted(self, data: bytes) -> bytes:
        piece = data[: self._left]
        self._left -= len(piece)
        self.complete = self._left == 0
        return piece

    def _whole_chunk(self, data: bytes) -> bytes:
        """The common read is exactly one HTTP chunk; b'' when this one is not. Halves the cost of unframing."""
        if self._left or self._line or self._expect != "size":
            return b""
        end = data.find(b"\r\n", 0, 10)
        try:
            size = int(data[:end], 16)
        except ValueError:  # extensions, say; the general way tells those from nonsense
            return b""
        whole = size > 0 and len(data) == end + size + 4 and data.endswith(b"\r\n")
        return data[end + 2 : -2] if whole else b""

    def _chunked(self, data: bytes) -> bytes:
        pieces, at = [], 0
        while at < len(data) and not self.complete:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._expect = "crlf"  # only met once _left is 0
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end if end >= 0 else len(data)]
            if len(self._line) > MAX_LINE:
                raise BadFraming("chunk size line too long")
            if end < 0:
                break
            line, self._line, at = self._line.removesuffix(b"\r"), b"", end + 1
            self._take_line(line)
        return b"".join(pieces)

    def _take_line(self, line: bytes) -> None:
        if self._expect == "crlf":
            if line:
                raise BadFraming("chunk longer than its size")
            self._expect = "size"
        elif self._expect == "size":
            self._left = _size(line)
            self._expect = "crlf" if self._left else "trailer"
        else:
            self.complete = not line


def _size(line: bytes) -> int:
    """Chunk size in bytes; extensions after ';' are ignored."""
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise BadFraming("unreadable chunk size") from None
    if not 0 <= size < MAX_CHUNK:
        raise BadFraming("chunk size out of range")
    return size
