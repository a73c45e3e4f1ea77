"""From the reads of one answer to its record. Pure, so that `verify` can parse kept raw bytes again.

A content chunk is an event whose delta carries content, reasoning or a tool call; its time is that of the read in
which its data line became complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from profile_and_optimize.clients.http1 import BadFraming, BodyReader
from profile_and_optimize.core.records import RequestRecord

Reads = Sequence[tuple[int, bytes]]
MAX_MESSAGE = 200


@dataclass(frozen=True, slots=True)
class Parsed:
    """The record, how many reads carried content, and how many of those carried more than one content chunk."""

    record: RequestRecord
    content_reads: int
    coalesced_reads: int

    @staticmethod
    def of(record: RequestRecord, answer: Answer) -> Parsed:
        brought = Counter(answer.chunk_reads)
        return Parsed(record, len(brought), sum(chunks > 1 for chunks in brought.values()))


class EventReader:
    """Splits body bytes into the data of server-sent events. Line ends are LF or CRLF. `at`: the number of a read."""

    def __init__(self) -> None:
        self._partial: list[
            bytes
        ] = []  # pieces of the unfinished line; joined once, so that a huge line costs linear time
        self._data: list[bytes] = []
        self._at = 0
        self._first = True

    def feed(self, at: int, body: bytes) -> list[tuple[int, bytes]]:
        """(read, data) of each event that this read completed; the read is that of its last data line."""
        if self._first:
            self._first = False
            body = body.removeprefix(b"\xef\xbb\xbf")
        if not self._partial and not self._data and _one_plain_event(body):
            return [(at, body[6:-2])]
        if b"\n" not in body:
            if body:
                self._partial.append(body)
            return []
        lines = b"".join((*self._partial, body)).split(b"\n")
        rest = lines.pop()
        self._partial = [rest] if rest else []
        return self._take(at, lines)

    def _take(self, at: int, lines: list[bytes]) -> list[tuple[int, bytes]]:
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._at = at
            elif not line and self._data:
                events.append((self._at, b"\n".join(self._data)))
                self._data = []
        return events

    def rest(self) -> bytes:
        """What an event without its blank line held when the stream ended."""
        line = b"".join(self._partial).removesuffix(b"\r")
        tail = [line.removeprefix(b"data:").strip()] if line.startswith(b"data:") else []
        return b"\n".join((*self._data, *tail))


def _one_plain_event(body: bytes) -> bool:
    """Exactly `data: ...` and a blank line: nearly every read of a real stream."""
    return body.startswith(b"data: ") and body.endswith(b"\n\n") and body.count(b"\n") == 2 and b"\r" not in body


class Answer:
    """What the events of one answer said. `chunk_reads` is the number of the read that brought each content chunk."""

    def __init__(self) -> None:
        self.chunk_reads: list[int] = []
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.done = False

    def take(self, at: int, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
        if self.done or self.error is not None:
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.error = f"event is not JSON: {clean(data)}"
            return
        if not isinstance(event, dict):
            self.error = f"event is not an object: {clean(data)}"
        elif event.get("error"):
            self.error = f"error in the stream: {_message(event, data)}"
        else:
            self.event(at, event)

    def event(self, at: int, event: dict[str, object]) -> None:
        choices = event.get("choices")
        content = False
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                content = _has_content(choice) or content
                if isinstance(reason := choice.get("finish_reason"), str):
                    self.finish_reason = clean(reason)
        if content:  # several choices are still one chunk
            self.chunk_reads.append(at)
        if isinstance(usage := event.get("usage"), dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"))
            self.completion_tokens = _count(usage.get("completion_tokens"))


def _has_content(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    if isinstance(delta, dict):
        get = delta.get  # spelled out: a loop over the keys costs as much as parsing the JSON
        return bool(get("content") or get("reasoning_content") or get("reasoning") or get("tool_calls"))
    return bool(choice.get("text"))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def parse_response(
    *, index: int, intended_ns: int, sent_ns: int, done_ns: int, reads: Reads, fault: str | None = None
) -> Parsed:
    """One request's record from what arrived. `fault` is what ended it from our side (a timeout), None otherwise.

    Never raises for anything the server sent: what cannot be read is the record's `error`.
    """
    body, events, answer = BodyReader(), EventReader(), Answer()
    problem: str | None = None
    kept = bytearray()
    for at, (_, data) in enumerate(reads):
        try:
            piece = body.feed(data)
        except BadFraming as error:
            problem = str(error)
            break
        if body.head is None or body.head.status != 200:
            kept += piece[: 65536 - len(kept)]
            continue
        for event_at, event in events.feed(at, piece):
            answer.take(event_at, event)
    if events.rest() == b"[DONE]":
        answer.done = True
    record = RequestRecord(
        index=index,
        intended_ns=intended_ns,
        sent_ns=sent_ns,
        done_ns=done_ns,
        first_byte_ns=reads[0][0] if reads else None,
        chunk_ns=tuple(reads[i][0] for i in answer.chunk_reads),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        status=body.head.status if body.head else None,
        finish_reason=answer.finish_reason,
        error=_error(body, answer, bytes(kept), problem, fault),
    )
    return Parsed.of(record, answer)


def _error(body: BodyReader, answer: Answer, kept: bytes, problem: str | None, fault: str | None) -> str | None:
    """The most telling reason why this answer does not count; None when it does."""
    head = body.head
    if head is None:
        return fault or problem or "connection closed before an answer"
    if head.status != 200:
        return _refusal(head.status, kept)
    if head.encoding != "identity" or not head.event_stream:
        return f"not a plain event stream: {clean(head.content_type)}, encoding {clean(head.encoding)}"
    if problem or answer.error or fault:
        return problem or answer.error or fault
    # Without [DONE], only an end by the framing and a finish reason together say that nothing is missing.
    if not answer.done and not (body.complete and answer.finish_reason):
        return f"stream cut after {len(answer.chunk_reads)} content chunks"
    return None if answer.chunk_reads else "empty answer: no content chunk"


def _refusal(status: int, body: bytes) -> str:
    kind = " (redirects are not followed)" if 300 <= status < 400 else ""
    try:
        message = _message(orjson.loads(body), body)
    except orjson.JSONDecodeError:
        message = clean(body)
    return f"HTTP {status}{kind}: {message}" if message else f"HTTP {status}{kind}"


def _message(said: object, raw: bytes) -> str:
    """The human part of an error object in the shapes servers use; the raw text where there is none."""
    if isinstance(said, dict):
        error = said.get("error")
        for place in (error, said):
            if isinstance(place, dict):
                for key in ("message", "detail", "msg"):
                    if isinstance(place.get(key), str):
                        return clean(place[key])
        if isinstance(error, str):
            return clean(error)
    return clean(raw)


def clean(text: str | bytes) -> str:
    """At most 200 printable characters on one line: a server's text ends up in terminals and reports."""
    if isinstance(text, bytes):
        text = text[: 8 * MAX_MESSAGE].decode("utf-8", "replace")
    printable = "".join(c if c.isprintable() else " " for c in text[: 8 * MAX_MESSAGE])
    return " ".join(printable.split())[:MAX_MESSAGE]
