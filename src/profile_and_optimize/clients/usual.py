"""From the reads of one answer to its record, and the answer that nearly every server gives at a third of the cost.

Usual is: status 200, chunked event stream, one `data: {...}` event in every HTTP chunk, `[DONE]` at the end. For anything
else there is `sse.parse_response`, which gives the same record for these (a test holds them together).
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import orjson

from profile_and_optimize.clients.http1 import BadFraming, split_head
from profile_and_optimize.clients.said import complaint
from profile_and_optimize.clients.sse import Answer, Parsed, Reads, parse_response
from profile_and_optimize.core.records import RequestRecord

BEFORE, AFTER, LAST = b"\r\ndata: ", b"\n\n\r\n", b"0\r\n\r\n"
# Beside the data of an event: in its HTTP chunk, and in the bytes (the size's own digits apart).
IN_CHUNK, AROUND = 8, 12
LF, CR = 4, 2  # line ends of an event with its chunk


def parse(
    *, index: int, intended_ns: int, sent_ns: int, done_ns: int, reads: Reads, fault: str | None = None
) -> Parsed:
    """As `sse.parse_response`. Raises ValueError when times go backwards."""
    quick = None
    if fault is None:
        quick = parse_usual(index=index, intended_ns=intended_ns, sent_ns=sent_ns, done_ns=done_ns, reads=reads)
    return quick or parse_response(
        index=index, intended_ns=intended_ns, sent_ns=sent_ns, done_ns=done_ns, reads=reads, fault=fault
    )


def parse_usual(*, index: int, intended_ns: int, sent_ns: int, done_ns: int, reads: Reads) -> Parsed | None:
    """Of a usual answer, None for any other."""
    body = b"".join([data for _, data in reads])
    events, begin = _events(body)
    if not events or events[-1][1] != b"[DONE]":
        return None
    answer = _answer([data for _, data in events[:-1]], _brought_by(reads, begin, events), b"error" not in body)
    if answer is None or not answer.chunk_reads:
        return None
    answer.done = True
    record = RequestRecord(
        index=index, intended_ns=intended_ns, sent_ns=sent_ns, done_ns=done_ns, first_byte_ns=reads[0][0],
        chunk_ns=tuple([reads[i][0] for i in answer.chunk_reads]), prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens, status=200, finish_reason=answer.finish_reason,
        error=answer.unfinished(),
    )  # fmt: skip
    return Parsed.of(record, answer)


def _events(body: bytes) -> tuple[list[list[bytes]], int]:
    """[digits of its chunk's size, its data] of every event, and where the body begins; none of an unusual answer."""
    try:
        found = split_head(body)
    except BadFraming:
        return [], 0
    if found is None or not body.endswith(AFTER + LAST):
        return [], 0
    head, begin = found
    if not (head.status == 200 and head.chunked and head.encoding == "identity" and head.event_stream):
        return [], 0
    said = body[begin : -len(LAST)]
    events = [piece.split(BEFORE, 1) for piece in said.split(AFTER)[:-1]]
    if said.count(b"\n") != LF * len(events) or said.count(b"\r") != CR * len(events):
        return [], 0  # line ends within the data, or more of them between
    try:
        fits = [int(size, 16) for size, _ in events] == [len(data) + IN_CHUNK for _, data in events]
    except ValueError:
        return [], 0
    return (events, begin) if fits else ([], 0)


def _brought_by(reads: Reads, begin: int, events: list[list[bytes]]) -> list[int]:
    """Which read brought the end of each event's data line: three bytes before the end of its chunk."""
    line_ends = np.cumsum([len(size) + len(data) + AROUND for size, data in events]) + begin - 3
    upto = np.array(list(accumulate([len(data) for _, data in reads])))
    found: list[int] = np.searchsorted(upto, line_ends, side="left").tolist()
    return found


def _answer(events: list[bytes], brought_by: list[int], plain: bool) -> Answer | None:
    """What the events say; None when they are not one JSON object each. `plain`: the word "error" is nowhere in them, so
    that an event with a token in it needs no search for one."""
    try:
        said = orjson.loads(b"[" + b",".join(events) + b"]")
    except orjson.JSONDecodeError:
        return None
    if len(said) != len(events) or not set(map(type, said)) <= {dict}:
        return None
    answer, began, chat = Answer(), False, bool(events) and b'"delta"' in events[0]
    for at, event in zip(brought_by, said, strict=False):
        try:  # a token of a single choice, and nothing else said
            (choice,) = event["choices"]
            token = (
                plain and choice["finish_reason"] is None and choice["index"] == 0 and event.get("usage") is None
                and (choice["delta"]["content"] if chat else choice["text"])
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            token = False
        if token:
            began = True
            answer.chunk_reads.append(at)
        elif complaint(event):
            return None
        else:
            answer.event(at, event)
    if began:
        answer.reasons.setdefault(0, None)
    return answer
