"""Credentials in kept response bytes: whole, cut by a read, by an HTTP chunk, by an event, by our own limits."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hostile import sending
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.kept import MAX_FAILED_BYTES, as_told, hide, keep, secrets_of
from profile_and_optimize.clients.sse import parse_response
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.records import RawResponse, RequestRecord
from profile_and_optimize.evidence.redact import redact, starred
from profile_and_optimize.evidence.trialfile import encode_raw

TOKEN = 'tok/Plant"ed-0123+é'
HEADERS = (("Authorization", f"Bearer {TOKEN}"),)
SECRETS = secrets_of(HEADERS)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
Reads = list[tuple[int, bytes]]


def chunks(body: bytes, size: int) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def refusal(said: bytes, size: int = 0) -> bytes:
    head = b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\n"
    if size:
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunks(said, size)
    return head + b"content-length: %d\r\n\r\n" % len(said) + said


def event(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


def answer(texts: list[str], size: int) -> bytes:
    last = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
    return STREAM + chunks(("".join(map(event, texts)) + last + "data: [DONE]\n\n").encode(), size)


def cut(data: bytes, *places: int) -> Reads:
    ends = [0, *sorted(p for p in places if 0 < p < len(data)), len(data)]
    return [(i, data[a:b]) for i, (a, b) in enumerate(pairwise(ends)) if b > a]


def parsed(reads: Reads) -> RequestRecord:
    return parse_response(index=0, intended_ns=0, sent_ns=0, done_ns=len(reads), reads=reads).record


def said(reads: Reads) -> str:
    """What somebody reads out of kept bytes who puts together all that was taken apart."""
    data = b"".join(d for _, d in reads)
    body = data.split(b"\r\n\r\n", 1)[-1]
    if b"chunked" in data[:200]:
        lines, whole = body.split(b"\r\n"), b""
        for i in range(0, len(lines) - 1, 2):
            whole += lines[i + 1]
        body = whole
    text = body.decode("utf-8", "replace")
    contents = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return text + "".join(c["choices"][0]["delta"].get("content", "") for c in contents if c.get("choices"))


SPELLED = (
    TOKEN,
    json.dumps(TOKEN)[1:-1],
    json.dumps(TOKEN, ensure_ascii=False)[1:-1],
    json.dumps(TOKEN)[1:-1].replace("/", "\\/"),
)


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("spelled", SPELLED)
def test_our_own_token_is_found_wherever_an_answer_is_cut(spelled: str, size: int) -> None:
    data = refusal(b'{"error": {"message": "bad key ' + spelled.encode() + b'"}}', size)
    for place in range(1, len(data), 3):
        reads = cut(data, place, place + 5)
        kept = keep(0, reads, failed=True, secrets=SECRETS)
        found = said(list(kept.reads))
        assert [len(d) for _, d in kept.reads] == [len(d) for _, d in reads] and "bad key ***" in found
        assert "Plant" not in found and "0123" not in found and "Plant" not in said(list(hide(reads, SECRETS)))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_token_that_comes_in_pieces_is_not_kept_and_the_record_stays_the_same(data: st.DataObject) -> None:
    """Letter by letter as a model would say it, in chunks and reads of any size."""
    token = "sk-planted0123456789"
    ends = sorted(data.draw(st.sets(st.integers(1, len(token) - 1), max_size=8)))
    texts = [
        "my key is ",
        *(token[a:b] for a, b in zip([0, *ends], [*ends, len(token)], strict=True)),
        ', and "more"\n',
    ]
    whole = answer(texts, data.draw(st.integers(5, 90)))
    reads = cut(whole, *data.draw(st.lists(st.integers(0, len(whole)), max_size=9)))
    for secrets in (secrets_of((("Authorization", f"Bearer {token}"),)), ()):
        kept = list(keep(0, reads, failed=False, secrets=secrets).reads)
        assert parsed(kept) == parsed(reads) and parsed(kept).ok
        assert token not in said(kept).replace("\n", "") and token[3:12] not in said(kept)


def test_an_honest_answer_is_kept_byte_for_byte() -> None:
    reads = cut(answer(["The ", "token ", "budget: 5", " is, ", 'é\n"quoted"'], 40), 60, 99, 180)
    assert list(keep(0, reads, failed=False, secrets=SECRETS).reads) == reads
    assert hide(reads, SECRETS) is reads and hide(reads, ()) is reads


@pytest.mark.parametrize("shift", range(0, 20, 3))
def test_a_failed_answer_is_cut_after_its_credentials_were_taken_out(shift: int) -> None:
    """Cut first, the beginning of a token would be left at the end."""
    data = refusal(b"x" * (MAX_FAILED_BYTES - 150 + shift) + TOKEN.encode() * 20)
    kept = keep(0, cut(data, 5000, MAX_FAILED_BYTES - 3), failed=True, secrets=SECRETS)
    assert sum(len(d) for _, d in kept.reads) == MAX_FAILED_BYTES
    assert b"tok" not in b"".join(d for _, d in kept.reads) and kept.reads[-1][1].endswith(b"**")


@pytest.mark.parametrize("before", range(170, 200, 4))
def test_an_error_is_cut_after_its_credentials_were_taken_out(before: int) -> None:
    """Of an error 200 characters are kept: a token that begins before the last of them must not be left half."""
    reads = cut(refusal(json.dumps({"error": {"message": "x" * before + TOKEN}}).encode()), 30)
    told = as_told(parsed(reads), parsed(list(hide(reads, SECRETS))))
    assert told.error is not None and "tok" not in told.error and told.error.startswith("HTTP 401: xxx")


def test_a_number_that_is_a_password_does_not_break_what_is_measured() -> None:
    reads = cut(answer(["a", "b"], 30), 100)
    for key in ("choices", "123456", "content", "prompt_tokens"):
        told = as_told(parsed(reads), parsed(list(hide(reads, secrets_of((("x-api-key", key),))))))
        assert told.ok and told.chunk_ns == parsed(reads).chunk_ns


OTHERS = (
    "hf_plantedABCDEF12",
    "ghp_plantedABCDEF12",
    "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
    "api_key=plantedABCDEF",
    'Authorization\\": \\"Basic cGxhbnRlZDp4',
)


@pytest.mark.parametrize("token", OTHERS)
@pytest.mark.parametrize("place", [3, 9, 14])
def test_credentials_of_others_are_overwritten_in_the_file_though_two_reads_hold_them(token: str, place: int) -> None:
    text = f'{{"error": "{token}", "n": 1}}'.encode()
    place += text.index(b'"error"')
    written = encode_raw((RawResponse(0, ((1, text[:place]), (2, text[place:]))),))
    reads = json.loads(written)["responses"][0]["reads"]
    joined = "".join(t for _, t in reads)
    assert [len(t) for _, t in reads] == [place, len(text) - place] and json.loads(joined)["n"] == 1
    assert not [part for part in ("ABCDEF", "eyJhbGciOi", "cGxhbnRlZDp4") if part in joined]


@pytest.mark.parametrize("text", [
    *OTHERS, "token: 'abc[def]ghi'", "https://user:hunter22@host/x", "https://ghtoken123@host",
    "Bearer abc\\/def\\/ghi123", "{'api_key': ['sekrit99']}",
    '{"token":123456789}',
])  # fmt: skip
def test_hiding_twice_changes_nothing_more(text: str) -> None:
    assert redact(redact(text)) == redact(text) != text
    assert starred(starred(text)) == starred(text) and len(starred(text)) == len(text)


def test_json_stays_json_where_a_number_looks_like_a_credential() -> None:
    assert json.loads(starred('{"token":123456789,"x":"password: hunter2222"}')) == {
        "token": 111111111,
        "x": "password: **********",
    }


def test_the_client_s_own_process_hides_a_key_that_two_reads_and_two_chunks_hold(tmp_path: Path) -> None:
    """The real client, end to end, on an error body that echoes the key."""
    data = refusal(b'{"error": {"message": "bad key tok-Planted-0123"}}', 41).replace(
        b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1
    )
    at = data.index(b"lante")
    headers = (("Authorization", "Bearer tok-Planted-0123"),)
    with sending([data[:at], data[at:]], connections=2) as url:
        load = LoadRequest(url, "m", "chat", ("a", "b"), 2, 1, timeout_s=10.0, headers=headers, fifo=False)
        run = StreamClient().run(load, workdir=tmp_path)
    assert [r.error for r in run.records] == ["HTTP 401: bad key ****************"] * 2
    assert [len(r.reads) for r in run.raw] == [2, 2] and "Planted" not in repr(run) and "tok-" not in repr(run)


@pytest.mark.parametrize(
    "token",
    ["hf_plantedABCDEF12", "ghp_plantedABCDEF12", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", "api_key=plantedABCDEF"],
)
@pytest.mark.parametrize("cuts", [(), (4,), (3, 7, 11)])
def test_a_credential_in_one_of_many_tokens_alike_is_not_kept(token: str, cuts: tuple[int, ...]) -> None:
    """Whole in one event, or in pieces over several: what surrounds the tokens is looked at once, the tokens all."""
    pieces = [token[a:b] for a, b in pairwise((0, *cuts, len(token)))]
    texts = ["one", " two", " plain ", *pieces, " words", " end"]
    around = 'data: {"id":"1","choices":[{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}]}\n\n'
    said = [around.replace("TEXT", text) for text in texts]
    last = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    data = STREAM + b"".join(b"%x\r\n%b\r\n" % (len(e), e.encode()) for e in (*said, last)) + b"0\r\n\r\n"
    kept = b"".join(d for _, d in keep(0, [(1, data)], failed=False, secrets=()).reads)
    whole = "".join(re.findall(r'"content":"([^"]*)"', kept.decode()))
    assert not [part for part in ("ABCDEF", "eyJhbGciOi") if part in whole]
    assert len(kept) == len(data) and kept.count(b'"delta":{"content":"') == len(texts)
