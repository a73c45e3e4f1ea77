"""From the reads of one answer to its record, and the answer that nearly every server gives at a third of the cost.

Usual is: status 200, chunked event stream, one `data: {...}` event in every HTTP chunk, `[DONE]` at the end. For anything
else there is `sse.parse_response`, which gives the same record for these (a test holds them together).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import orjson

from profile_and_optimize.clients.http1 import BadFraming, split_head
from profile_and_optimize.clients.said import complaint
from profile_and_optimize.clients.sse import Answer, Parsed, Reads, parse_response
from profile_and_optimize.core.records import RequestRecord

BEFORE, AFTER, LAST = b"\r\ndata: ", b"\n\n\r\n", b"0\r\n\r\n"
# Beside the data of an event in its HTTP chunk.
IN_CHUNK = 8
SIZES = [b"%x" % (n + IN_CHUNK) for n in range(2048)]  # as most servers write them
MOST_BEFORE = 3  # events before the first token: the role, a look at the prompt


def parse(
    *,
    index: int,
    intended_ns: int,
    sent_ns: int,
    done_ns: int,
    reads: Reads,
    fault: str | None = None,
    max_tokens: int | None = None,
) -> Parsed:
    """As `sse.parse_response`. Raises ValueError when times go backwards."""
    times = {"index": index, "intended_ns": intended_ns, "sent_ns": sent_ns, "done_ns": done_ns}
    quick = parse_usual(**times, reads=reads, max_tokens=max_tokens) if fault is None else None
    return quick or parse_response(**times, reads=reads, fault=fault, max_tokens=max_tokens)


def parse_usual(
    *, index: int, intended_ns: int, sent_ns: int, done_ns: int, reads: Reads, max_tokens: int | None = None
) -> Parsed | None:
    """Of a usual answer, None for any other."""
    body = b"".join([data for _, data in reads])
    events = _events(body)
    if events is None or events.datas[-1] != b"[DONE]":
        return None
    brought_by = _brought_by(reads, events)
    answer = _answer(events.datas[:-1], brought_by, b"error" not in body)
    if answer is None or not answer.chunk_reads:
        return None
    answer.done = True
    record = RequestRecord(
        index=index, intended_ns=intended_ns, sent_ns=sent_ns, done_ns=done_ns, first_byte_ns=reads[0][0],
        chunk_ns=tuple([reads[i][0] for i in answer.chunk_reads]), prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens, status=200, finish_reason=answer.finish_reason,
        error=answer.unfinished(), max_tokens=max_tokens,
    )  # fmt: skip
    return Parsed.of(record, answer)


@dataclass(frozen=True, slots=True)
class _Events:
    """The data of every event, the bytes each takes with its HTTP chunk, and where the first chunk starts."""

    datas: list[bytes]
    sizes: list[int]
    start: int


def _events(body: bytes) -> _Events | None:
    """None for an unusual answer."""
    try:
        found = split_head(body)
    except BadFraming:
        return None
    if found is None or not body.endswith(AFTER + LAST):
        return None
    head, start = found
    if not (head.status == 200 and head.chunked and head.encoding == "identity" and head.event_stream):
        return None
    chunks = body[start : -len(LAST)]
    pieces = chunks.split(AFTER)[:-1]
    try:
        digits, datas = zip(*[piece.split(BEFORE, 1) for piece in pieces], strict=True)
    except ValueError:
        return None
    if not _sizes_hold(digits, list(map(len, datas))) or _breaks(b"".join(datas)):
        return None
    return _Events(list(datas), [len(piece) + len(AFTER) for piece in pieces], start)


def _sizes_hold(digits: Sequence[bytes], lengths: list[int]) -> bool:
    """Is the size of every HTTP chunk that of its event?"""
    if max(lengths) < len(SIZES) and list(digits) == [SIZES[n] for n in lengths]:
        return True
    if not all(map(bytes.isalnum, digits)):  # `int` takes blanks and line ends around a number
        return False
    try:  # capital letters, zeros before
        return [int(size, 16) for size in digits] == [n + IN_CHUNK for n in lengths]
    except ValueError:
        return False


def _breaks(datas: bytes) -> bool:
    """Is there a line end within the data of an event?"""
    return b"\n" in datas or b"\r" in datas


def _brought_by(reads: Reads, events: _Events) -> list[int]:
    """Which read brought the end of each event's data line: three bytes before the end of its chunk."""
    upto = list(accumulate([len(data) for _, data in reads]))
    chunk_ends = list(accumulate(events.sizes, initial=events.start))[1:]
    if upto[: len(chunk_ends) - 1] == chunk_ends[:-1]:
        return list(range(len(chunk_ends)))  # a read for every event
    found: list[int] = np.searchsorted(upto, np.array(chunk_ends) - 3, side="left").tolist()
    return found


def _answer(events: list[bytes], brought_by: list[int], plain: bool) -> Answer | None:
    """What the events hold; None when they are not one JSON object each. `plain`: the word "error" is nowhere in them, so
    that an event with a token in it needs no search for one."""
    answer = Answer()
    first, end = tokens(events) if plain else (0, 0)
    if not _take(answer, events[:first], brought_by, plain):
        return None
    if end > first:
        answer.chunk_reads += brought_by[first:end]
        answer.reasons.setdefault(0, None)
    return answer if _take(answer, events[end:], brought_by[end:], plain) else None


def tokens(events: list[bytes]) -> tuple[int, int]:
    """From which event to which (excluded) all are one token each: the same bytes around a text without a quote. Nothing
    else is decoded of them than that text. (0, 0) when there are no such events."""
    at = next(((i, found) for i, data in enumerate(events[:MOST_BEFORE]) if (found := around(data))), None)
    if at is None:
        return 0, 0
    first, (prefix, suffix) = at
    end = len(events)
    while end > first and not (events[end - 1].startswith(prefix) and events[end - 1].endswith(suffix)):
        end -= 1
    run, before, after = events[first:end], len(prefix), len(suffix)
    texts = [data[before:-after] for data in run]
    if prefix + (suffix + b"," + prefix).join(texts) + suffix != b",".join(run) or b"" in texts:
        return 0, 0
    written = b'["' + b'","'.join(texts) + b'"]'
    if written.count(b'"') != 2 * len(texts):
        return 0, 0
    try:  # a text that ends in a backslash would take the quote after it: then there are fewer
        return (first, end) if len(orjson.loads(written)) == len(texts) else (0, 0)
    except orjson.JSONDecodeError:
        return 0, 0


def around(data: bytes) -> tuple[bytes, bytes] | None:
    """The bytes before and after the text of an event that holds a token and nothing else; None for another event."""
    for key in (b'"content":"', b'"content": "', b'"text":"', b'"text": "'):
        before, found, rest = data.partition(key)
        text, quote, after = rest.partition(b'"')
        if found and quote and text:
            prefix, suffix = before + found, quote + after
            try:
                event = orjson.loads(prefix + b"token" + suffix)
            except orjson.JSONDecodeError:
                return None
            return (prefix, suffix) if isinstance(event, dict) and _token(event) == "token" else None
    return None


def _token(event: dict[str, Any]) -> object:
    """The text of an event that holds a token of a single choice and nothing else; None of another event."""
    try:
        (choice,) = event["choices"]
        if choice["finish_reason"] is not None or choice["index"] != 0 or event.get("usage") is not None:
            return None
        return choice["delta"]["content"] if "delta" in choice else choice["text"]
    except (KeyError, TypeError, ValueError):
        return None


def _take(answer: Answer, events: list[bytes], brought_by: list[int], plain: bool) -> bool:
    """Every event decoded. False when they are not one JSON object each, or one complains."""
    try:
        decoded = orjson.loads(b"[" + b",".join(events) + b"]")
    except orjson.JSONDecodeError:
        return False
    if len(decoded) != len(events) or not set(map(type, decoded)) <= {dict}:
        return False
    for at, event in zip(brought_by, decoded, strict=False):
        if plain and _token(event):
            answer.chunk_reads.append(at)
            answer.reasons.setdefault(0, None)
        elif complaint(event):
            return False
        else:
            answer.event(at, event)
    return True
