"""Kinds of answers with known truth, for `stream_truth.py`: what a server may send for 16 tokens asked, good and bad.

Every body is written out here from the formats of the servers; nothing of the product makes or reads it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

ASKED, PROMPT = 16, 24
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """`pieces` are written one after the other, 1 ms apart, the first content at least 5 ms after the request. Truth: did it
    finish well; how many output tokens, None where nothing can tell; is there a first token to time. `close`: the server
    ends the connection after it."""

    name: str
    pieces: tuple[bytes, ...]
    good: bool
    tokens: int | None
    ttft: bool
    close: bool = False


class Api:
    """Events of one of the two APIs."""

    def __init__(self, chat: bool) -> None:
        self.chat, self.name = chat, "chat" if chat else "completions"

    def said(self, text: str, *, finish: Any = None, index: int = 0, **more: Any) -> bytes:
        content = {"delta": {"content": text}} if self.chat else {"text": text}
        return self.event([{"index": index, **content, "logprobs": None, "finish_reason": finish}], **more)

    def end(self, finish: Any = "length", index: int = 0) -> bytes:
        content: dict[str, Any] = {"delta": {}} if self.chat else {"text": ""}
        return self.event([{"index": index, **content, "finish_reason": finish}])

    def usage(self, tokens: Any = ASKED, prompt: Any = PROMPT) -> bytes:
        return self.event([], usage={"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": 40})

    def event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return data({"id": "x", "object": kind, "created": 1, "model": "m", "choices": choices, **more})

    def tokens(self, n: int = ASKED, **more: Any) -> list[bytes]:
        return [self.said(f"t{i} ", **more) for i in range(n)]


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


def stream(events: Iterable[bytes], *, last: bytes = b"0\r\n\r\n", head: bytes = CHUNKED) -> tuple[bytes, ...]:
    """Head, one HTTP chunk an event, the last chunk."""
    return (head, *map(chunk, events), *([last] if last else []))


def kinds(api: Api) -> list[Kind]:
    return [*_good(api), *_shapes(api), *_contradicted(api), *_bad_ends(api), *_errors(api), *_no_answers(api)]


def _kind(api: Api, name: str, events: Sequence[bytes], good: bool, tokens: int | None, ttft: bool = True) -> Kind:
    return Kind(f"{api.name}: {name}", stream(events), good, tokens, ttft)


def _good(api: Api) -> list[Kind]:
    t, end, usage = api.tokens(), api.end(), api.usage()
    both = [api.end("stop"), api.said("x", index=1), api.end("length", index=1)]
    rows: list[tuple[str, list[bytes], int | None]] = [
        ("finish reason, usage, [DONE]", [*t, end, usage, DONE], 16),
        ("stops early, at 7 tokens", [*api.tokens(7), api.end("stop"), api.usage(7), DONE], 7),
        ("finish reason beside the last token", [*t[:-1], api.said("z", finish="length"), usage, DONE], 16),
        ("no usage", [*t, end, DONE], None),
        ("no [DONE]", [*t, end, usage], 16),
        ("no finish reason, but usage and [DONE]", [*t, usage, DONE], 16),
        ("finish reason alone", [*t, end], None),
        ("four tokens a chunk", [*api.tokens(4), end, usage, DONE], 16),
        ("usage null in every event", [*api.tokens(usage=None), end, usage, DONE], 16),
        ("usage counted up in every event", [*_counted_up(api), end, usage, DONE], 16),
        ("a null error in every event", [*api.tokens(error=None), end, usage, DONE], 16),
        ("an empty finish reason in every event", [*[api.said("x", finish="") for _ in t], end, usage, DONE], 16),
        ("a finish reason that is an object", [*t, api.end({"type": "length", "length": 16}), usage, DONE], 16),
        (
            "a content filter's result first, without choices",
            [api.event([], prompt_filter_results=[{}]), *t, end, usage, DONE],
            16,
        ),
        ("two choices, both ended well", [*api.tokens(15), *both, usage, DONE], 16),
        ("the word error in the text", [api.said("error: "), *t[1:], end, usage, DONE], 16),
        ("tool_calls as the reason", [*t, api.end("tool_calls"), usage, DONE], 16),
        ("function_call as the reason", [*t, api.end("function_call"), usage, DONE], 16),
    ]
    if api.chat:
        role = api.event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        rows += [
            ("a role first", [role, *t, end, usage, DONE], 16),
            (
                "reasoning before the answer",
                [*_deltas(api, 6, "reasoning_content"), *api.tokens(10), end, usage, DONE],
                16,
            ),
            ("a function call (deprecated)", [*_calls(api), api.end("function_call"), usage, DONE], 16),
        ]
    return [_kind(api, name, events, True, tokens) for name, events, tokens in rows]


def _counted_up(api: Api) -> list[bytes]:
    return [api.said("x", usage={"prompt_tokens": PROMPT, "completion_tokens": i + 1}) for i in range(ASKED)]


def _deltas(api: Api, n: int, key: str) -> list[bytes]:
    return [api.event([{"index": 0, "delta": {key: "r "}, "finish_reason": None}]) for _ in range(n)]


def _calls(api: Api) -> list[bytes]:
    call = {"name": "f", "arguments": "{"}
    return [api.event([{"index": 0, "delta": {"function_call": call}, "finish_reason": None}]) for _ in range(ASKED)]


def _shapes(api: Api) -> list[Kind]:
    """The same good answer in other shapes of the standard and of HTTP."""
    events = [*api.tokens(), api.end(), api.usage(), DONE]
    whole, ping = b"".join(events), b'event: ping\ndata: {"type": "ping"}\n\n'
    length = HEAD + b"Content-Length: %d\r\n\r\n" % len(whole)
    crlf = [e.replace(b"\n", b"\r\n") for e in events]
    framed = b"".join(stream(events))
    two_lines = [_over_lines(e) if e != DONE else e for e in events]
    rows: list[tuple[str, tuple[bytes, ...]]] = [
        ("an empty data first", stream([b"data:\n\n", *events])),
        ("data without a colon between", stream(_between(events, b"data\n\n"))),
        ("comments between", stream(_between(events, b": keep-alive\n\n"))),
        ("pings between", stream(_between(events, ping))),
        ("a ping that is not JSON", stream(_between(events, b"event: ping\ndata: x\n\n"))),
        ("id and retry lines", stream([b"id: 1\nretry: 9\n" + e for e in events])),
        ("a byte order mark", stream([b"\xef\xbb\xbf", *events])),
        ("CRLF line ends", stream(crlf)),
        ("CRLF cut between CR and LF", stream([part for e in crlf for part in (e[:-1], e[-1:])])),
        ("bare CR line ends", stream([e.replace(b"\n", b"\r") for e in events])),
        ("data without the blank", stream([e.replace(b"data: ", b"data:", 1) for e in events])),
        ("data over two lines", stream(two_lines)),
        ("two events a packet", stream([b"".join(events[i : i + 2]) for i in range(0, len(events), 2)])),
        ("a comment after the end", stream([*events, b": bye\n\n"])),
        ("37 bytes a packet", (*[framed[i : i + 37] for i in range(0, len(framed), 37)],)),
        ("all in one packet", (framed,)),
        ("a Content-Length", (length, *events)),
        ("no content type", stream(events, head=CHUNKED.replace(b"Content-Type: text/event-stream; charset=utf-8\r\n", b""))),
        ("an interim answer first", stream(events, head=b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED)),
        ("trailers", stream(events, last=b"0\r\nX-Took: 1\r\n\r\n")),
    ]  # fmt: skip
    found = [Kind(f"{api.name}: {name}", pieces, True, 16, True) for name, pieces in rows]
    return [
        *found,
        Kind(f"{api.name}: until the connection closes", (HEAD + b"\r\n", *events), True, 16, True, close=True),
    ]


def _between(events: Sequence[bytes], other: bytes) -> list[bytes]:
    return [piece for e in events for piece in (other, e)]


def _over_lines(event: bytes) -> bytes:
    return event.replace(b', "created"', b',\ndata: "created"', 1)


def _contradicted(api: Api) -> list[Kind]:
    t, end = api.tokens(), api.end()
    counts: dict[str, Any] = {
        "usage 0 of 16": 0, "usage 1 of 16": 1, "usage 15 of 16": 15, "usage twice the tokens": 32, "usage 160 of 16": 160,
        "usage below zero": -16, "usage as text": "16", "usage as a fraction": 16.0, "usage beyond all bounds": 10**30,
        "usage true": True, "usage null": None,
    }  # fmt: skip
    found = [_kind(api, name, [*t, end, api.usage(n), DONE], True, None) for name, n in counts.items()]
    short = [*api.tokens(8), end, api.usage(8), DONE]
    found.append(_kind(api, "ended at max_tokens with half of them", short, True, None))
    found.append(_kind(api, "usage 0 in and 0 out", [*t, end, api.usage(0, 0), DONE], True, None))
    return found


def _bad_ends(api: Api) -> list[Kind]:
    few, usage = api.tokens(3), api.usage(3)
    reasons: tuple[Any, ...] = (
        "abort",
        "error",
        "content_filter",
        "cancelled",
        "STOP",
        "eos_token",
        {"type": "abort"},
        5,
        True,
    )
    found = [
        _kind(api, f"finish reason {reason!r}", [*few, api.end(reason), usage, DONE], False, None) for reason in reasons
    ]
    second = [*few, api.said("x", index=1)]
    rows = {
        "one of two choices aborted": [*second, api.end("abort", index=1), api.end("stop"), usage, DONE],
        "one of two choices never ended": [*second, api.end("stop"), usage, DONE],
        "abort, then stop": [*few, api.end("abort"), api.end("stop"), usage, DONE],
        "[DONE] with neither reason nor usage": [*few, DONE],
        "[DONE] and usage 0, no reason": [*few, api.usage(0, 0), DONE],
        "usage alone": [*few, usage],
        "ends after three tokens": few,
    }
    found += [_kind(api, name, events, False, None) for name, events in rows.items()]
    whole = b"".join(stream(api.tokens()))
    cuts = {
        "cut in the middle of an event": (whole[:900],),
        "cut before the end of its framing": stream(few, last=b""),
        "shorter than its Content-Length": (HEAD + b"Content-Length: 99999\r\n\r\n", *few),
    }
    return [*found, *(Kind(f"{api.name}: {name}", p, False, None, False, close=True) for name, p in cuts.items())]


def _errors(api: Api) -> list[Kind]:
    few, rest = api.tokens(5), [api.end("stop"), api.usage(5), DONE]
    said = {
        "error object": {"error": {"message": "engine died", "type": "InternalServerError", "code": 500}},
        "error text": {"error": "engine died", "error_type": "generation"},
        "error true": {"error": True},
        "error of an empty text": {"error": ""},
        'object "error"': {"object": "error", "message": "engine died", "code": 500},
        'type "error"': {"type": "error", "message": "engine died"},
        "error_code": {"text": "engine died", "error_code": 50001},
        "detail": {"detail": "engine died"},
        "a list of errors": {"errors": [{"message": "engine died"}]},
        "a message and a code": {"message": "engine died", "code": 500},
        "an error inside a choice": {"choices": [{"index": 0, "error": {"message": "engine died"}}]},
    }
    found = [_kind(api, f"{name}, then [DONE]", [*few, data(v), DONE], False, None) for name, v in said.items()]
    died = data(said["error object"])
    rows = {
        "an error after a good finish reason": [*few, api.end("stop"), died, DONE],
        "an error after [DONE]": [*few, *rest, died],
        "an error, then a good end": [*few, died, *rest],
        "an event named error": [*few, b'event: error\ndata: {"x": 1}\n\n', *rest],
        "an event named error, of text": [*few, b"event: error\ndata: engine died\n\n", *rest],
        "an event named error, without data": [*few, b"event: error\n\n", *rest],
        "a bare JSON line": [*few, b'{"detail": "engine died"}\n', *rest],
        "an event that is not JSON": [*few, b"data: <html>502</html>\n\n", *rest],
        "an event that is a list": [*few, b"data: [1]\n\n", *rest],
    }
    return [*found, *(_kind(api, name, events, False, None) for name, events in rows.items())]


def _no_answers(api: Api) -> list[Kind]:
    whole = {"object": "x", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    json_head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n"

    def plain(status: bytes, body: bytes, more: bytes = b"") -> tuple[bytes, ...]:
        return (json_head % (status, len(body), more) + body,)

    zipped = gzip.compress(b"".join([*api.tokens(), api.end(), api.usage(), DONE]))
    rows: dict[str, tuple[bytes, ...]] = {
        "HTTP 500": plain(b"500 No", b'{"error": {"message": "down"}}'),
        "HTTP 429": plain(b"429 No", b'{"detail": "too many"}'),
        "HTTP 307 to elsewhere": plain(b"307 No", b"", b"Location: http://127.0.0.1:9/\r\n"),
        "200 with a whole JSON answer": plain(b"200 OK", json.dumps(whole).encode()),
        "200 with an error as JSON": plain(b"200 OK", b'{"error": "down"}'),
        "an event stream that is bare JSON": (HEAD + b"Content-Length: 17\r\n\r\n" + b'{"detail": "no"}\n',),
        "an event stream that is a page": (HEAD + b"Content-Length: 16\r\n\r\n" + b"<html>502</html>",),
        "an empty event stream": stream([]),
        "[DONE] alone": stream([DONE]),
        "a reason and usage, no content": stream([api.end("stop"), api.usage(0), DONE]),
        "compressed": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped) + zipped,),
        "a transfer coding": stream(api.tokens(), head=CHUNKED.replace(b"chunked", b"gzip, chunked")),
    }
    found = [Kind(f"{api.name}: {name}", pieces, False, None, False) for name, pieces in rows.items()]
    broken = {"no HTTP": (b"hello\r\n\r\n",), "broken chunk sizes": (CHUNKED, b"zz\r\n"), "closed at once": ()}
    return [*found, *(Kind(f"{api.name}: {name}", p, False, None, False, close=True) for name, p in broken.items())]


def failed_has_no_numbers(kind: Kind) -> Kind:
    """A failed answer is in no latency, whatever came before it failed."""
    return kind if kind.good else replace(kind, tokens=None, ttft=False)


EVERY: Callable[[bool], list[Kind]] = lambda chat: [failed_has_no_numbers(k) for k in kinds(Api(chat))]  # noqa: E731
