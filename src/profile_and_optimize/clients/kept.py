"""Which raw bytes stay with a run: every failed answer and a sample of the good ones, without credentials.

A credential may be cut by the reads, by HTTP chunks, or come a letter an event: it is looked for in what the answer
says, and overwritten where that stands in the bytes. Lengths stay, so that the framing and the records still read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from profile_and_optimize.clients.http1 import MAX_CHUNK, BadFraming, split_head
from profile_and_optimize.clients.sse import Reads
from profile_and_optimize.clients.usual import around, tokens
from profile_and_optimize.core.records import RawResponse, RequestRecord
from profile_and_optimize.evidence.redact import spellings, starred

MAX_FAILED_BYTES = 64 * 1024
LONGEST_SECRET = 8 * 1024
SHORTEST_SECRET = 6
_SAID = re.compile(r'"(?:content|reasoning_content|reasoning|text|arguments)"\s*:\s*"((?:\\.|[^"\\])*)"')


def secrets_of(headers: Sequence[tuple[str, str]]) -> tuple[bytes, ...]:
    """Header values, and the token within `Bearer TOKEN`, in every spelling; longest first."""
    found = {part for _, value in headers for part in (value, value.rpartition(" ")[2])}
    spelled = spellings(s for s in found if len(s) >= SHORTEST_SECRET)
    return tuple(dict.fromkeys(s.encode(code, "replace") for s in spelled for code in ("utf-8", "latin-1")))


def redact_text(text: str | None, secrets: Sequence[bytes]) -> str | None:
    for secret in secrets if text else ():
        text = text and text.replace(secret.decode("utf-8", "replace"), "*" * len(secret))
    return text


def hide(reads: Reads, secrets: Sequence[bytes]) -> Reads:
    """The reads with our own secrets as stars; the very same object when they hold none."""
    if not secrets:
        return reads
    data = b"".join(data for _, data in reads)
    found = _overwritten(data, lambda text: _without(text, secrets))
    return reads if found == data else _cut_as(reads, found)


def as_told(record: RequestRecord, hidden: RequestRecord) -> RequestRecord:
    """A record with its texts from the same answer without secrets: a text is cut short, and so could be a secret in it."""
    error = record.error and (hidden.error or "an error with a credential in it")
    return replace(record, error=error, finish_reason=record.finish_reason and hidden.finish_reason)


def keep(index: int, reads: Reads, *, failed: bool, secrets: Sequence[bytes]) -> RawResponse:
    """Good answers whole, so that they can be parsed again; failed ones up to 64 KiB."""
    most = MAX_FAILED_BYTES if failed else sum(len(data) for _, data in reads)
    data = b"".join(data for _, data in reads)[: most + LONGEST_SECRET]

    def cover(text: str) -> str:
        # What is put together first: covered in part, a credential is no longer known by its look.
        text = _without_split(_without(text, secrets), lambda t: starred(_without(t, secrets)))
        once = _once(text)
        return text if starred(once) == once else starred(text)

    return RawResponse(index, tuple(_cut_as(reads, _overwritten(data, cover)[:most])))


def _once(text: str) -> str:
    """The events of a usual answer with what surrounds each token written once, every other token on a line of its own: a
    fifth of the text or less, in which a credential is found where the whole has one."""
    events = [event.removeprefix(b"data: ") for event in text.encode("latin-1").split(b"\n\n")]
    first, end = tokens(events)
    found = around(events[first]) if end - first > 1 else None
    if found is None:
        return text
    prefix, suffix = found
    rest = [event[len(prefix) : -len(suffix)] for event in events[first + 1 : end]]
    return b"\n\n".join((*events[: first + 1], *rest, *events[end:])).decode("latin-1")


def _without(text: str, secrets: Sequence[bytes]) -> str:
    for secret in secrets:
        text = text.replace(secret.decode("latin-1"), "*" * len(secret))
    return text


def _without_split(text: str, cover: Callable[[str], str]) -> str:
    """All that an answer's events say is covered where it holds a credential only once it is put together."""
    said = "".join(m.group(1) for m in _SAID.finditer(text))
    if cover(said) == said:
        return text
    return _SAID.sub(lambda m: m.group(0)[: m.start(1) - m.start()] + "*" * len(m.group(1)) + '"', text)


def _overwritten(data: bytes, cover: Callable[[str], str]) -> bytes:
    """`data` with what it says covered, and the sizes of HTTP chunks in between left alone. `cover` keeps the length."""
    pieces = _pieces(data)
    text = b"".join(data[begin:end] for begin, end in pieces).decode("latin-1")
    found = cover(text)
    if found == text:
        return data
    out, new, at = bytearray(data), found.encode("latin-1"), 0
    for begin, end in pieces:
        out[begin:end] = new[at : at + end - begin]
        at += end - begin
    return bytes(out)


def _pieces(data: bytes) -> list[tuple[int, int]]:
    """(begin, end) of the head and of what each HTTP chunk carries; one piece where nothing is chunked."""
    try:
        found = split_head(data)
    except BadFraming:
        found = None
    if found is None or not found[0].chunked:
        return [(0, len(data))]
    at = found[1]
    pieces = [(0, at)]
    while (end := data.find(b"\r\n", at)) >= 0 and 0 < (size := _size(data[at:end])) < MAX_CHUNK:
        pieces.append((end + 2, min(len(data), end + 2 + size)))
        at = min(len(data), end + 4 + size)
    return [*pieces, (at, len(data))]


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        return 0


def _cut_as(reads: Reads, data: bytes) -> list[tuple[int, bytes]]:
    """The bytes at the times of the reads, cut as they were."""
    ends = accumulate(len(piece) for _, piece in reads)
    cut = ((at, data[end - len(piece) : end]) for (at, piece), end in zip(reads, ends, strict=True))
    return [(at, piece) for at, piece in cut if piece]
