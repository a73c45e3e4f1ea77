"""From the reads of one answer to its record. Pure, so that `verify` can parse kept raw bytes again.

A content chunk is an event whose delta carries content, reasoning or a tool call; its time is that of the read in
which its data line became complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from profile_and_optimize.clients.http1 import BadFraming, BodyReader
from profile_and_optimize.clients.said import clean, complaint, is_bad_name, message
from profile_and_optimize.core.finish import bad_reason, not_finished
from profile_and_optimize.core.records import RequestRecord

Reads = Sequence[tuple[int, bytes]]
Event = tuple[int, bytes, str]
"""(number of the read that completed its last data line, data, name)"""
MAX_EVENT = 4 * 1024 * 1024  # a token's event is a few hundred bytes; a whole answer in one event, a few hundred kB
MAX_COUNT = 2**31 - 1
BOM = b"\xef\xbb\xbf"
KEPT_BODY, KEPT_START, KEPT_STRAY = 64 * 1024, 2048, 8


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


class EventTooLong(Exception):
    """One event has more bytes than we are ready to hold."""

    def __init__(self) -> None:
        super().__init__(f"one event of more than {MAX_EVENT >> 20} MiB")


class EventReader:
    """Splits body bytes into server-sent events as WHATWG says: lines end with CR, LF or CRLF, a comment and an unknown
    field are passed over, an event without data is none. One that has only a name is given all the same: it may be
    `error`. `stray` holds the first lines that look like JSON outside of any event, as broken servers write them.
    """

    def __init__(self) -> None:
        # Pieces of the unfinished line; joined once, so that a huge line costs linear time.
        self._partial: list[bytes] = []
        self._data: list[bytes] = []
        self._name = ""
        self._at = 0
        self._held = 0
        self._first: bytes | None = b""  # the beginning, while it may still become a byte order mark
        self._after_cr = False
        self.stray: list[bytes] = []

    def feed(self, at: int, body: bytes) -> list[Event]:
        """The events that this read (its number is `at`) completed. Raises EventTooLong."""
        if self._first is not None:
            body = self._without_mark(body)
        if not self._partial and not self._data and not self._name and _one_plain_event(body) and not self._after_cr:
            return [(at, body[6:-2], "")]
        body = self._with_lf(body)
        if b"\n" not in body:
            self._hold(body)
            return []
        lines = b"".join((*self._partial, body)).split(b"\n")
        rest = lines.pop()
        self._partial, self._held = [], sum(map(len, self._data))
        events = self._take(at, lines)
        self._hold(rest)
        return events

    def _without_mark(self, body: bytes) -> bytes:
        """A byte order mark at the very start is dropped, wherever the reads cut it."""
        start = (self._first or b"") + body
        if len(start) < len(BOM) and BOM.startswith(start):
            self._first = start
            return b""
        self._first = None
        return start.removeprefix(BOM)

    def _with_lf(self, body: bytes) -> bytes:
        """All line ends as LF; the LF of a CRLF that two reads share belongs to the CR of the first."""
        if not body:
            return body
        if self._after_cr:
            body = body.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" not in body:
            return body
        self._after_cr = body.endswith(b"\r")
        return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._held += len(piece)
        if self._held > MAX_EVENT:
            raise EventTooLong

    def _take(self, at: int, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._at = at
                self._held += len(line)
                if self._held > MAX_EVENT:
                    raise EventTooLong
            elif not line:
                events += self._dispatch(at)
            else:
                self._field(line)
        return events

    def _dispatch(self, at: int) -> list[Event]:
        data, name = b"\n".join(self._data), self._name
        at = self._at if self._data else at
        self._data, self._name, self._held = [], "", 0
        return [(at, data, name)] if data or name else []

    def _field(self, line: bytes) -> None:
        if line == b"data":
            self._data.append(b"")
        elif line.startswith(b"event:") or line == b"event":
            self._name = clean(line[6:])
        elif line.startswith(b"{") and len(self.stray) < KEPT_STRAY:
            self.stray.append(line[:KEPT_BODY])

    def rest(self) -> list[bytes]:
        """What an event without its blank line held when the stream ended, and the stray lines, the last one included."""
        line = b"".join(self._partial)
        tail = [line.removeprefix(b"data:").strip()] if line.startswith(b"data:") else []
        stray = [line] if line.startswith(b"{") else []
        return [b"\n".join((*self._data, *tail)), *self.stray, *stray]


def _one_plain_event(body: bytes) -> bool:
    """Exactly `data: ...` and a blank line: nearly every read of a real stream."""
    return (
        body.startswith(b"data: ")
        and body.endswith(b"\n\n")
        and len(body) > 8
        and body.count(b"\n") == 2
        and b"\r" not in body
    )


class Answer:
    """What the events of one answer said. `chunk_reads` is the number of the read that brought each content chunk;
    `reasons` the finish reason of every choice that said something, None of one that gave none yet."""

    def __init__(self) -> None:
        self.chunk_reads: list[int] = []
        self.reasons: dict[int, str | None] = {}
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self.error: str | None = None
        self.done = False

    @property
    def finish_reason(self) -> str | None:
        """The one that decides: a bad one if any choice has one."""
        given = [reason for reason in self.reasons.values() if reason is not None]
        return next((r for r in given if bad_reason(r)), given[-1] if given else None)

    def unfinished(self) -> str | None:
        """Why it did not finish well, None when it did."""
        return not_finished(self.reasons.values(), usage=bool(self.completion_tokens), done=self.done)

    def take(self, at: int, data: bytes, name: str = "") -> None:
        """After an error nothing counts, after [DONE] only an error does."""
        if self.error is not None:
            return
        if data.strip() == b"[DONE]" and not is_bad_name(name):
            self.done = True
            return
        try:
            event = orjson.loads(data) if data else {}
        except orjson.JSONDecodeError:
            event = data
        if name and is_bad_name(name):
            self.error = f"error in the stream: {message(event, data or name.encode())}"
        elif not isinstance(event, dict):
            self._unread(event, data, name)
        elif complaint(event):
            self.error = f"error in the stream: {message(event, data)}"
        elif not self.done:
            self.event(at, event)

    def _unread(self, event: object, data: bytes, name: str) -> None:
        """Data that is not an object. Under a name of its own it is nothing of ours (a ping, say)."""
        if not self.done and name in ("", "message"):
            self.error = f"event is not {'JSON' if event is data else 'an object'}: {clean(data)}"

    def end(self, left: list[bytes]) -> None:
        """What was left outside of whole events: no content, but it may say that it is over, or what went wrong."""
        for data in left:
            if data == b"[DONE]":
                self.done = True
            elif self.error is None and data.startswith(b"{"):
                try:
                    event = orjson.loads(data)
                except orjson.JSONDecodeError:
                    continue
                if complaint(event):
                    self.error = f"error in the stream: {message(event, data)}"

    def event(self, at: int, event: dict[str, Any]) -> None:
        choices = event.get("choices")
        content = False
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                content = self._choice(choice) or content
        if content:  # several choices are still one chunk
            self.chunk_reads.append(at)
        if isinstance(usage := event.get("usage"), dict):
            self.prompt_tokens = _count(usage.get("prompt_tokens"))
            self.completion_tokens = _count(usage.get("completion_tokens"))

    def _choice(self, choice: dict[str, Any]) -> bool:
        """Does it carry content?"""
        index = choice.get("index")
        key = index if isinstance(index, int) else 0
        content = _has_content(choice)
        reason = _reason(choice.get("finish_reason"))
        if content:
            self.reasons.setdefault(key, None)
        if reason is not None and not bad_reason(self.reasons.get(key)):
            self.reasons[key] = reason
        return content


def _reason(value: object) -> str | None:
    """A finish reason as text; SGLang's own is an object with a `type`. "" is none: some servers send it in every chunk."""
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        value = value["type"]
    if value is None or value == "":
        return None
    return clean(value if isinstance(value, str) else repr(value))


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if isinstance(delta, dict):
        get = delta.get  # spelled out: a loop over the keys costs as much as parsing the JSON
        return bool(
            get("content")
            or get("reasoning_content")
            or get("reasoning")
            or get("tool_calls")
            or get("function_call")
            or get("refusal")
        )
    whole = choice.get("message")
    return bool(choice.get("text") or (isinstance(whole, dict) and whole.get("content")))


def _count(value: object) -> int | None:
    """None for what is no count, and for one that no answer has."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def parse_response(
    *,
    index: int,
    intended_ns: int,
    sent_ns: int,
    done_ns: int,
    reads: Reads,
    fault: str | None = None,
    max_tokens: int | None = None,
) -> Parsed:
    """One request's record from what arrived. `fault` is what ended it from our side (a timeout), None otherwise;
    `max_tokens` what was asked.

    Never raises for anything the server sent: what cannot be read is the record's `error`.
    """
    body, events, answer = BodyReader(), EventReader(), Answer()
    problem: str | None = None
    kept = bytearray()
    for at, (_, data) in enumerate(reads):
        try:
            piece = body.feed(data)
            if body.head is not None and body.head.encoding == "identity":
                kept += piece[: max(0, KEPT_BODY - len(kept))]
            if body.head is None or not _is_stream(body):
                continue
            for event_at, event, name in events.feed(at, piece):
                answer.take(event_at, event, name)
        except (BadFraming, EventTooLong) as error:
            problem = str(error)
            break
    answer.end(events.rest())
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
        max_tokens=max_tokens,
    )
    return Parsed.of(record, answer)


def _is_stream(body: BodyReader) -> bool:
    head = body.head
    return head is not None and head.status == 200 and head.encoding == "identity" and head.event_stream


def _error(body: BodyReader, answer: Answer, kept: bytes, problem: str | None, fault: str | None) -> str | None:
    """The most telling reason why this answer does not count; None when it does."""
    head = body.head
    if head is None:
        return fault or problem or "connection closed before an answer"
    if head.status != 200:
        return _refusal(head.status, kept)
    if not _is_stream(body):
        said = f": {_said(kept)}" if head.encoding == "identity" and kept.strip() else ""
        return f"not a plain event stream: {clean(head.content_type)}, encoding {clean(head.encoding)}{said}"
    if problem or answer.error or fault:
        return problem or answer.error or fault
    # A good finish reason is no end where the framing says that bytes are missing.
    if not body.ended and not answer.done:
        return f"stream cut after {len(answer.chunk_reads)} content chunks"
    if answer.chunk_reads:
        return answer.unfinished()
    if kept.strip() and not answer.reasons and not answer.done:
        return f"no content in the stream: {_said(kept[:KEPT_START])}"
    return bad_reason(answer.finish_reason) or "empty answer: no content chunk"


def _refusal(status: int, body: bytes) -> str:
    kind = " (redirects are not followed)" if 300 <= status < 400 else ""
    said = _said(body)
    return f"HTTP {status}{kind}: {said}" if said else f"HTTP {status}{kind}"


def _said(body: bytes) -> str:
    try:
        return message(orjson.loads(body), body)
    except orjson.JSONDecodeError:
        return clean(body)
