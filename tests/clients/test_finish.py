"""What counts as an answer: it finished well, and nothing in its stream says otherwise. All bodies have status 200."""

from __future__ import annotations

import orjson
import pytest
from test_sse import HEAD, chunked, delta, error_of, event, parse

from profile_and_optimize.clients.sse import EventReader
from profile_and_optimize.core.finish import not_finished
from profile_and_optimize.core.records import RequestRecord

DONE = event(b"[DONE]")
USAGE = event(b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}')
TOKENS = event(delta(content="a")) + event(delta(content="b"))


def reason(value: object, index: int = 0) -> bytes:
    return event(orjson.dumps({"choices": [{"index": index, "delta": {}, "finish_reason": value}]}))


def body(*parts: bytes) -> bytes:
    return HEAD + chunked(*parts)


@pytest.mark.parametrize("good", ["stop", "length", "tool_calls", "function_call", {"type": "length", "length": 2}])
def test_these_reasons_are_a_good_end_with_or_without_done_and_usage(good: object) -> None:
    for rest in (USAGE + DONE, DONE, USAGE, b""):
        assert parse(body(TOKENS, reason(good), rest)).record.ok


@pytest.mark.parametrize(
    "bad", ["abort", "error", "content_filter", "eos_token", "STOP", "cancelled", 5, True, {"type": "abort"}, ["stop"]]
)
def test_any_other_reason_is_a_failure_that_names_it(bad: object) -> None:
    told = error_of(body(TOKENS, reason(bad), USAGE, DONE))
    assert told.startswith("finish reason ") and (not isinstance(bad, str) or f"'{bad}'" in told)


def test_without_a_reason_it_takes_usage_and_done() -> None:
    assert parse(body(TOKENS, USAGE, DONE)).record.ok
    assert parse(body(TOKENS, reason(None), reason(""), USAGE, DONE)).record.ok
    assert error_of(body(TOKENS, DONE)) == "ended without a finish reason and without usage"
    assert error_of(body(TOKENS, USAGE)) == "ended without a finish reason and without [DONE]"
    assert error_of(body(TOKENS)) == "ended without a finish reason and without usage and [DONE]"
    zero = USAGE.replace(b":2}", b":0}")
    assert "without usage" in error_of(body(TOKENS, zero, DONE))
    assert "without usage" in error_of(body(TOKENS, event(b'{"choices":[],"usage":null}'), DONE))


def test_one_choice_that_aborted_or_never_ended_spoils_the_answer() -> None:
    second = event(b'{"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":null}]}')
    assert "'abort'" in error_of(body(TOKENS, second, reason("abort", 1), reason("stop", 0), DONE))
    assert "'abort'" in error_of(body(TOKENS, reason("abort"), reason("stop"), DONE))
    assert "one of several choices" in error_of(body(TOKENS, second, reason("stop", 0), USAGE, DONE))
    assert parse(body(TOKENS, second, reason("stop", 0), reason("length", 1), DONE)).record.ok


COMPLAINTS = {
    b'{"error":{"message":"died","code":500}}': "died",
    b'{"error":"died"}': "died",
    b'{"error":true}': "true",
    b'{"error":["died"]}': "died",
    b'{"error":""}': "error",
    b'{"error":{"detail":[{"msg":"died"}]}}': "died",
    b'{"object":"error","message":"died"}': "died",
    b'{"type":"error","message":"died"}': "died",
    b'{"text":"died","error_code":50002}': "50002",
    b'{"detail":"died"}': "died",
    b'{"errors":[{"message":"died"}]}': "died",
    b'{"message":"died","code":500}': "died",
    b'{"choices":[{"index":0,"error":{"message":"died"},"delta":{"content":""}}]}': "died",
    b'{"status":"failed","choices":[]}': "failed",
}


@pytest.mark.parametrize("data", COMPLAINTS)
def test_an_error_anywhere_in_the_stream_fails_it_with_the_servers_words(data: bytes) -> None:
    for place in (
        (TOKENS, event(data), DONE),
        (TOKENS, reason("stop"), event(data), DONE),
        (TOKENS, reason("stop"), DONE, event(data)),
    ):
        told = error_of(body(*place))
        assert told.startswith("error in the stream: ") and COMPLAINTS[data] in told


def test_an_event_named_error_is_one_whatever_it_carries() -> None:
    for said in (
        b"event: error\ndata: died\n\n",
        b"event: error\ndata:\n\n",
        b"event: error\n\n",
        b'event:error\ndata:{"x":1}\n\n',
    ):
        assert "error in the stream" in error_of(body(TOKENS, said, reason("stop"), USAGE, DONE))


def test_what_is_no_event_but_reads_like_an_error_is_one() -> None:
    assert "died" in error_of(body(TOKENS, reason("stop"), b'{"detail":"died"}\n', DONE))
    assert "died" in error_of(body(b'{"detail":"died"}'))
    assert error_of(body(b"upstream is away")) == "no content in the stream: upstream is away"


def test_what_servers_send_beside_an_answer_does_no_harm() -> None:
    beside = [
        b": keep-alive\n\n", b"event: ping\ndata: x\n\n", b'event: ping\ndata: {"type":"ping"}\n\n', b"data:\n\n", b"data\n\n", b"data\r\r",
        b"retry: 10\n\n", b"id: 1\n\n", event(b'{"choices":[],"prompt_filter_results":[{"index":0}]}'),
        event(b'{"choices":[{"index":0,"delta":{"content":""},"finish_reason":""}],"usage":null,"error":null}'),
        event(b'{"text":"","error_code":0}'),
    ]  # fmt: skip
    record = parse(body(*beside, TOKENS, *beside, reason("stop"), *beside, USAGE, *beside, DONE)).record
    assert record.ok and len(record.chunk_ns) == 2 and record.completion_tokens == 2


def test_deprecated_function_calls_and_refusals_are_content() -> None:
    said = [delta(function_call={"name": "f", "arguments": ""}), delta(refusal="I cannot")]
    assert len(parse(body(*map(event, said), reason("function_call"), DONE)).record.chunk_ns) == 2


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_of_the_standard_wherever_the_reads_are_cut(end: bytes) -> None:
    stream = end.join(
        [b"\xef\xbb\xbf: hello", b"data: a", b"data:b", b"", b"event: x", b"data", b"data: c", b"", b"data:", b"", b""]
    )
    for size in range(1, len(stream) + 1):
        reader, found = EventReader(), []
        for at in range(0, len(stream), size):
            found += [(data, name) for _, data, name in reader.feed(at, stream[at : at + size])]
        assert found == [(b"a\nb", ""), (b"\nc", "x")]


def test_a_crlf_that_two_reads_share_is_one_line_end() -> None:
    reader = EventReader()
    assert reader.feed(0, b"data: a\r") == []
    assert reader.feed(1, b"\ndata: b\r\n\r") == [(1, b"a\nb", "")]
    assert reader.feed(2, b"\ndata: c\n\n") == [(2, b"c", "")]


def test_a_record_cannot_be_good_with_a_bad_reason() -> None:
    with pytest.raises(ValueError, match="abort"):
        RequestRecord(0, 0, 0, 9, 1, (1, 2), 5, 2, 200, "abort")
    assert not_finished([], usage=True, done=True) is None
