"""The answer that nearly every server gives, parsed at a third of the cost: thousands of kept ones are read again by verify.

Usual is: status 200, chunked event stream, one `data: {...}` event in every HTTP chunk, `[DONE]` at the end. For anything
else there is `sse.parse_response`, which gives the same record for these (a test holds them together).
"""

from __future__ import annotations

import re
from itertools import accumulate

import numpy as np
import orjson

from profile_and_optimize.clients.http1 import BadFraming, split_head
from profile_and_optimize.clients.sse import Answer, Reads
from profile_and_optimize.core.records import RequestRecord

_EVENT = re.compile(rb"([0-9a-f]{1,8})\r\ndata: ([^\r\n]*)\n\n\r\n")
LAST = b"0\r\n\r\n"
# Around the data of an event: in its HTTP chunk, and in the bytes.
IN_CHUNK, AROUND = 8, 12


def parse_usual(*, index: int, intended_ns: int, sent_ns: int, done_ns: int, reads: Reads) -> RequestRecord | None:
    """The record of a usual answer, None for any other."""
    body = b"".join(data for _, data in reads)
    try:
        found = split_head(body)
    except BadFraming:
        return None
    if found is None:
        return None
    head, begin = found
    plain = head.status == 200 and head.chunked and head.encoding == "identity" and head.event_stream
    events = _EVENT.findall(body, begin) if plain and body.endswith(LAST) else []
    sizes = [len(size) + len(data) + AROUND for size, data in events]
    if not events or sum(sizes) != len(body) - begin - len(LAST) or events[-1][1] != b"[DONE]":
        return None
    if any(int(size, 16) != len(data) + IN_CHUNK for size, data in events):
        return None
    answer = _answer(events, _times(reads, begin, sizes))
    if answer is None or answer.error is not None or not answer.chunk_ns:
        return None
    return RequestRecord(
        index=index, intended_ns=intended_ns, sent_ns=sent_ns, done_ns=done_ns, first_byte_ns=reads[0][0],
        chunk_ns=tuple(answer.chunk_ns), prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens,
        status=head.status, finish_reason=answer.finish_reason,
    )  # fmt: skip


def _times(reads: Reads, begin: int, sizes: list[int]) -> list[int]:
    """Of the reads that brought the end of each event's data line: three bytes before the end of its chunk."""
    line_ends = np.cumsum(sizes) + begin - 3
    upto = np.array(list(accumulate(len(data) for _, data in reads)))
    return [reads[i][0] for i in np.searchsorted(upto, line_ends, side="left").tolist()]


def _answer(events: list[tuple[bytes, bytes]], times: list[int]) -> Answer | None:
    """What the events say; None when they are not one JSON object each."""
    try:
        said = orjson.loads(b"[" + b",".join(data for _, data in events[:-1]) + b"]")
    except orjson.JSONDecodeError:
        return None
    if len(said) != len(events) - 1 or not all(type(event) is dict for event in said):
        return None
    answer = Answer()
    for at, event in zip(times, said, strict=False):
        if event.get("error"):
            return None
        if _token(event):
            answer.chunk_ns.append(at)
        else:
            answer.event(at, event)
    return answer


def _token(event: dict[str, object]) -> bool:
    """Is it content of a single choice, and says nothing else?"""
    choices = event.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or "usage" in event or type(choices[0]) is not dict:
        return False
    choice = choices[0]
    delta = choice.get("delta")
    return choice.get("finish_reason") is None and type(delta) is dict and bool(delta.get("content"))
