"""The quick parser gives what the exact one gives, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sse import HEAD, TRICKY, answer, chunked, cut, delta, event, finish

from profile_and_optimize.clients import usual
from profile_and_optimize.clients.sse import Parsed, parse_response
from profile_and_optimize.clients.usual import parse_usual

TIMES = {"index": 3, "intended_ns": 0, "sent_ns": 0, "done_ns": 10**12}


def both(pieces: list[bytes]) -> tuple[Parsed | None, Parsed]:
    reads = [(k * 1_000_000, piece) for k, piece in enumerate(pieces)]
    return parse_usual(reads=reads, **TIMES), parse_response(reads=reads, **TIMES)


@settings(deadline=None)
@given(st.lists(st.sampled_from(TRICKY), min_size=1, max_size=8), st.lists(st.integers(0, 5000), max_size=20))
def test_wherever_the_network_cut_the_bytes(texts: list[str], places: list[int]) -> None:
    quick, exact = both(cut(answer(texts), places))
    assert quick == exact and exact.record.ok


DONE = event(b"[DONE]")
USAGE = [event(e) for e in finish(1)]
ODD = {
    "an error in the stream": HEAD
    + chunked(event(delta(content="a")), event(b'{"error":{"message":"no"}}'), *USAGE, DONE),
    "not JSON": HEAD + chunked(event(b"{oops"), *USAGE, DONE),
    "two values in one event": HEAD + chunked(event(delta(content="a") + b"," + delta(content="b")), *USAGE, DONE),
    "not an object": HEAD + chunked(event(b"[1]"), event(delta(content="a")), *USAGE, DONE),
    "two events in one chunk": HEAD + chunked(event(delta(content="a")) + event(delta(content="b")), *USAGE, DONE),
    "CRLF": answer(["a", "b"], newline=b"\r\n"),
    "a comment": HEAD + chunked(b": ping\n\n", event(delta(content="a")), *USAGE, DONE),
    "no end": (HEAD + chunked(event(delta(content="a")), *USAGE, DONE))[:-5],
    "bytes after the end": HEAD + chunked(event(delta(content="a")), *USAGE, DONE) + b"more",
    "[DONE] alone": HEAD + chunked(DONE),
    "no content": HEAD + chunked(*USAGE, DONE),
    "a chunk of another size": (HEAD + chunked(event(delta(content="a")), *USAGE, DONE)).replace(
        b"\r\n5e\r\n", b"\r\n5f\r\n"
    ),
    "an error page": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
    "another content type": answer(["a"]).replace(b"text/event-stream", b"application/json"),
    "no head": b"garbage\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", ODD)
def test_for_anything_else_it_gives_the_same_or_nothing(kind: str) -> None:
    quick, exact = both([ODD[kind]])
    assert quick is None or quick == exact


def test_reasoning_tool_calls_and_usage_beside_content_are_read_as_the_exact_parser_reads_them() -> None:
    said = [delta(reasoning_content="r"), delta(tool_calls=[{"id": 1}]), delta(content=""), delta(content="x")]
    beside = b'{"choices":[{"delta":{"content":"y"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":5}}'
    quick, exact = both([HEAD + chunked(*map(event, (*said, beside, b"[DONE]")))])
    assert quick == exact and len(exact.record.chunk_ns) == 4 and exact.record.completion_tokens == 5


# Bytes where the text of a token is: valid JSON or not, with quotes that close the text early, keys given twice.
RAW = (
    b"a", b" b", b"", b"\\", b"\\\\", b"\\n", b'\\"', b'"', b'","x":"', b'x","content":"', b'"},"finish_reason":"stop","x":{"y":"',
    b"\xff", b"\xc3\xa9", b"\x01", b"\t", b"\\u0041", b"\\ud800", b"error", b"}", b"a\\", b"0\r\n", b"\n\n",
)  # fmt: skip
BEFORE_TEXT, AFTER_TEXT = (
    b'{"id":"1","choices":[{"index":0,"delta":{"content":"',
    b'"},"logprobs":null,"finish_reason":null}]}',
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from(RAW), min_size=1, max_size=6),
    st.sampled_from(
        [b"", b'{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}']
    ),
    st.sampled_from(
        [
            b"",
            b"{}",
            b'{"choices":[]}',
            b'{"detail":"no"}',
            b'{"choices":[{"index":1,"text":"b","finish_reason":null}]}',
        ]
    ),
    st.integers(0, 6),
    st.lists(st.integers(0, 3000), max_size=6),
)
def test_texts_between_the_same_bytes_are_read_as_the_exact_parser_reads_them(
    texts: list[bytes], role: bytes, odd: bytes, place: int, places: list[int]
) -> None:
    said = [BEFORE_TEXT + text + AFTER_TEXT for text in texts]
    said[place:place] = [odd] if odd else []
    whole = HEAD + chunked(*map(event, [e for e in (role, *said) if e]), *USAGE, DONE)
    quick, exact = both(cut(whole, places))
    assert quick is None or quick == exact


def test_a_backslash_before_the_quote_and_a_quote_in_the_next_text_are_no_two_tokens() -> None:
    """Joined, `a\\` and `,"c` look like two strings; each event by itself is not JSON."""
    said = [BEFORE_TEXT + text + AFTER_TEXT for text in (b"x", b"a\\", b',"c')]
    quick, exact = both([HEAD + chunked(*map(event, said), *USAGE, DONE)])
    assert quick is None and not exact.record.ok


def test_an_answer_of_plain_tokens_is_read_without_decoding_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand tokens at most the first, all texts together, and what stands before and after are decoded."""
    calls: list[object] = []
    loads = usual.orjson.loads
    monkeypatch.setattr(usual.orjson, "loads", lambda data: (calls.append(data), loads(data))[1])
    quick = parse_usual(reads=[(0, answer([f"t{i}" for i in range(1000)]))], **TIMES)
    assert quick is not None and len(quick.record.chunk_ns) == 1000 and len(calls) <= 6
