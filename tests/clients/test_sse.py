"""An answer's record does not depend on where the network cut its bytes, and no bytes can break the parser."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_and_optimize.clients.http1 import BadFraming, BodyReader
from profile_and_optimize.clients.sse import EventReader, EventTooLong, Parsed, clean, parse_response

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
TRICKY = ['say "hi"', "[DONE]", "\r\n0\r\n\r\n", "data: x\n\n", "\u00e9\U0001f600", "\\", " ", "0"]


def delta(**fields: object) -> bytes:
    return orjson.dumps({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def event(data: bytes, newline: bytes = b"\n") -> bytes:
    return b"data: " + data + newline * 2


def chunked(*bodies: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(b), b) for b in bodies if b) + b"0\r\n\r\n"


def finish(n: int) -> tuple[bytes, bytes]:
    end = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": n}}
    return orjson.dumps(end), orjson.dumps(usage)


def answer(texts: list[str], newline: bytes = b"\n") -> bytes:
    events = (
        [delta(role="assistant", content="")] + [delta(content=t) for t in texts] + [*finish(len(texts)), b"[DONE]"]
    )
    return HEAD + chunked(*(event(e, newline) for e in events))


def parse(*pieces: bytes, fault: str | None = None) -> Parsed:
    """Read k arrives at k milliseconds."""
    reads = [(k * 1_000_000, piece) for k, piece in enumerate(pieces)]
    return parse_response(index=0, intended_ns=0, sent_ns=0, done_ns=10**12, reads=reads, fault=fault)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted({p % (len(data) + 1) for p in places}), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if b > a]


def test_first_token_is_the_first_content_not_the_role_chunk() -> None:
    role, first, second = (
        chunked(event(e))[:-5] for e in (delta(role="assistant"), delta(content="a"), delta(content="b"))
    )
    record = parse(HEAD + role, first, second, chunked(*map(event, (*finish(2), b"[DONE]")))).record
    assert record.ok
    assert record.first_byte_ns == 0
    assert record.chunk_ns == (1_000_000, 2_000_000)
    assert (record.prompt_tokens, record.completion_tokens, record.finish_reason) == (7, 2, "length")


@given(
    texts=st.lists(st.sampled_from(TRICKY) | st.text(min_size=1, max_size=20), min_size=1, max_size=6),
    places=st.lists(st.integers(0, 10_000), max_size=40),
    newline=st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_split_into_reads_gives_the_same_content(texts: list[str], places: list[int], newline: bytes) -> None:
    data = answer(texts, newline)
    whole, split = parse(data).record, parse(*cut(data, places)).record
    assert whole.ok and split.ok
    assert len(split.chunk_ns) == len(whole.chunk_ns) == len(texts)
    assert split.completion_tokens == len(texts)
    assert split.finish_reason == "length"


def test_one_byte_per_read_gives_the_same_content() -> None:
    data = answer(TRICKY)
    assert len(parse(*cut(data, list(range(len(data))))).record.chunk_ns) == len(TRICKY)


def test_a_chunk_is_timed_by_the_read_that_completed_its_data_line() -> None:
    data = chunked(event(delta(content="a")))[:-5]
    line_end = data.index(b"\n\n") + 1
    parts = [HEAD + data[:12], data[12:line_end], data[line_end:]]
    record = parse(*parts, chunked(*map(event, (*finish(1), b"[DONE]")))).record
    assert record.chunk_ns == (1_000_000,)


def test_two_chunks_in_one_read_count_as_coalesced() -> None:
    parsed = parse(answer(["a", "b"]))
    assert (parsed.content_reads, parsed.coalesced_reads) == (1, 1)
    assert len(parsed.record.chunk_ns) == 2


@pytest.mark.parametrize("key", ["content", "reasoning_content", "reasoning"])
def test_reasoning_counts_as_content(key: str) -> None:
    data = HEAD + chunked(event(delta(**{key: "x"})), event(b"[DONE]"))
    assert len(parse(data).record.chunk_ns) == 1


def test_a_tool_call_counts_and_an_empty_delta_does_not() -> None:
    call = delta(tool_calls=[{"index": 0, "function": {"arguments": "{"}}])
    nothing = [delta(content=""), delta(content=None), delta(tool_calls=[]), delta()]
    assert len(parse(HEAD + chunked(*map(event, [*nothing, call, b"[DONE]"]))).record.chunk_ns) == 1


def test_completions_text_counts_as_content() -> None:
    text = orjson.dumps({"choices": [{"text": " tok", "finish_reason": None}]})
    assert len(parse(HEAD + chunked(event(text), event(b"[DONE]"))).record.chunk_ns) == 1


def test_comments_other_fields_and_multi_line_data_are_read_as_the_standard_says() -> None:
    body = b'\xef\xbb\xbf: ping\n\nevent: x\nid: 3\ndata: {"choices": [\ndata:{"text": "a"}\ndata: ]}\n\n\n\n'
    body += event(finish(1)[0]) + event(b"[DONE]")
    record = parse(HEAD + chunked(body)).record
    assert record.ok and len(record.chunk_ns) == 1


def test_with_a_finish_reason_usage_is_not_needed_and_bad_usage_is_unknown() -> None:
    good = [event(delta(content="a")), event(finish(1)[0])]
    usage = orjson.dumps({"choices": [], "usage": {"completion_tokens": -3, "prompt_tokens": "x"}})
    assert parse(HEAD + chunked(*good, event(b"[DONE]"))).record.completion_tokens is None
    record = parse(HEAD + chunked(*good, event(usage), event(b"[DONE]"))).record
    assert record.ok and record.completion_tokens is None and record.prompt_tokens is None


def test_bodies_with_a_length_or_until_close_are_read_too() -> None:
    body = event(delta(content="a")) + event(finish(1)[0]) + event(b"[DONE]")
    plain = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    assert parse(plain + b"content-length: %d\r\n\r\n" % len(body) + body).record.ok
    assert parse(plain + b"\r\n" + body).record.ok
    assert parse(plain + b"\r\n" + body.rstrip()).record.ok


# What is not an answer is an error, and says so.


def error_of(*pieces: bytes, fault: str | None = None) -> str:
    error = parse(*pieces, fault=fault).record.error
    assert error is not None
    assert len(error) <= 260 and error.isprintable()
    return error


def test_a_stream_without_its_end_is_cut() -> None:
    data = answer(["a", "b", "c"])
    assert error_of(data[: data.index(b"length")]) == "stream cut after 3 content chunks"
    whole = HEAD + chunked(event(delta(content="a")))
    assert error_of(whole) == "ended without a finish reason and without usage and [DONE]"


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_every_strict_prefix_before_done_is_an_error(at: int) -> None:
    data = answer(["a", "b"])
    assert error_of(*filter(None, [data[: at % data.index(b"[DONE]")]]))


def test_an_http_error_shows_its_message_without_control_characters() -> None:
    body = orjson.dumps({"error": {"message": "no such \x1b[31mmodel\n" + "x" * 500, "code": 404}})
    error = error_of(b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert error.startswith("HTTP 404: no such [31mmodel xxx")


def test_shapes_of_error_bodies() -> None:
    bodies = {
        b'{"detail": "Not Found"}': "HTTP 502: Not Found",
        b'{"error": "down"}': "HTTP 502: down",
        b"<html>bad</html>": "HTTP 502: <html>bad</html>",
        b"": "HTTP 502",
    }
    for body, expected in bodies.items():
        assert error_of(b"HTTP/1.1 502 X\r\ncontent-length: %d\r\n\r\n" % len(body) + body) == expected


def test_redirects_other_content_types_and_encodings_are_errors() -> None:
    assert "not followed" in error_of(b"HTTP/1.1 307 X\r\nlocation: /v1\r\ncontent-length: 0\r\n\r\n")
    json = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    assert error_of(json).startswith("not a plain event stream: application/json")
    assert "gzip" in error_of(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))


def test_an_error_object_in_the_stream_fails_the_request() -> None:
    data = HEAD + chunked(
        event(delta(content="a")), event(b'{"error": {"message": "out of memory"}}'), event(b"[DONE]")
    )
    assert error_of(data) == "error in the stream: out of memory"


def test_our_own_timeout_is_the_reason_shown() -> None:
    assert error_of(HEAD, fault="timeout") == "timeout"
    assert error_of(fault="timeout") == "timeout"
    assert error_of() == "connection closed before an answer"


@pytest.mark.parametrize(
    "data", [b"{", b"null", b"[1]", b'"x"', b"\xff\xfe", b"{" * 5000, b'{"choices": 3, "usage": []}', b'{"choices": [1, null]}']
)  # fmt: skip
def test_events_that_are_no_answer_are_errors(data: bytes) -> None:
    assert error_of(HEAD + chunked(event(data), event(b"[DONE]")))


@given(st.lists(st.binary(max_size=400), max_size=8), st.sampled_from([b"", HEAD, HEAD + b"5\r\n", HEAD + b"-5\r\n"]))
def test_no_bytes_break_the_parser(garbage: list[bytes], start: bytes) -> None:
    assert error_of(*[piece for piece in [start, *garbage] if piece])


@given(st.binary(max_size=300).filter(bool))
def test_random_bytes_in_correct_framing_are_an_error(body: bytes) -> None:
    assert error_of(HEAD + chunked(body))


def test_a_huge_line_in_small_reads_takes_linear_time() -> None:
    """4 MB in 4 KB pieces: quadratic joining would copy 2 GB. One more piece is more than an event may have."""
    reader = EventReader()
    piece = b"x" * 4096
    reader.feed(0, b"data: ")
    for at in range(1000):
        assert reader.feed(at, piece) == []
    ((at, data, name),) = reader.feed(9, b"\n\n")
    assert at == 9 and len(data) == 4096 * 1000 and name == ""
    with pytest.raises(EventTooLong):
        reader.feed(10, b"data: " + piece * 1024)


@pytest.mark.parametrize("bad", [b"zz\r\n", b"-1\r\n", b"fffffffffff\r\n", b"3\r\nabcdef\r\n", b"1" * 5000])
def test_bad_chunk_framing_is_found(bad: bytes) -> None:
    reader = BodyReader()
    with pytest.raises(BadFraming):
        reader.feed(HEAD + bad)


def test_trailers_extensions_and_interim_answers_are_read() -> None:
    reader = BodyReader()
    body = reader.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"3;name=x\r\nabc\r\n0\r\nTrailer: x\r\n")
    assert body == b"abc" and not reader.complete
    reader.feed(b"\r\n")
    assert reader.complete


def test_clean_keeps_printable_text_only() -> None:
    assert clean(b"a\x00\x1b[2J\xff\r\n b\xe2\x80\xae") == "a [2J\ufffd b"
