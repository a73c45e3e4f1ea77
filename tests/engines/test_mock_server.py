"""The mock keeps its promises: counts, order, faults on the named requests, and send times it really had."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import socket
import subprocess
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.engines.mock.ledger import Histogram, Ledger, Sent
from profile_and_optimize.engines.mock.options import Options, parse
from profile_and_optimize.engines.mock.plan import Ask, make_plan
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.engines.mock.service import Service

QUICK = ("--ttft-ms", "20", "--itl-ms", "2")


def post(url: str, path: str, body: dict[str, Any] | bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), headers or {})
        response = connection.getresponse()
        try:
            return response.status, response.read()
        except (http.client.IncompleteRead, ConnectionError):
            return response.status, b"cut"
    finally:
        connection.close()


def chat(url: str, text: str = "one two three", **fields: Any) -> tuple[int, bytes]:
    body = {"model": "mock", "messages": [{"role": "user", "content": text}], "stream": True, **fields}
    return post(url, "/v1/chat/completions", body)


def events(body: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def contents(body: bytes) -> list[str]:
    deltas = [choice["delta"] for event in events(body) for choice in event["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


def test_a_stream_has_max_tokens_chunks_and_usage_when_asked() -> None:
    with MockProcess(*QUICK, "--osl", "5") as mock:
        status, body = chat(mock.url, max_tokens=3, stream_options={"include_usage": True})
        assert status == 200
        assert contents(body) == [" tok"] * 3
        assert events(body)[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        assert len(contents(chat(mock.url)[1])) == 5
        assert all("usage" not in event for event in events(chat(mock.url)[1]))


def test_completions_and_whole_answers() -> None:
    with MockProcess(*QUICK) as mock:
        _, body = post(mock.url, "/v1/completions", {"prompt": "a b", "max_tokens": 4, "stream": True})
        assert [e["choices"][0]["text"] for e in events(body)] == [" tok"] * 4
        whole = json.loads(post(mock.url, "/v1/completions", {"prompt": "a b", "max_tokens": 4})[1])
        assert whole["choices"][0] == {"index": 0, "finish_reason": "length", "text": " tok tok tok tok"}
        assert whole["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(("mode", "empty"), [("none", 0), ("first", 1), ("zero", 1)])
def test_the_role_chunk_is_empty_and_only_there_when_asked(mode: str, empty: int) -> None:
    with MockProcess(*QUICK, "--role-chunk", mode) as mock:
        found = events(chat(mock.url, max_tokens=2)[1])
    assert len(found) == 2 + empty
    assert [e["choices"][0]["delta"].get("role") for e in found].count("assistant") == empty


def test_four_tokens_per_chunk_leave_the_chunks_one_itl_apart() -> None:
    """4 + 4 + 4 + 4 + 1 tokens in five chunks, 10 ms apart."""
    ask = Ask(True, True, True, 1, (" tok",) * 17, "length")
    plan = make_plan(ask, Options(tokens_per_chunk=4), 1.0, random.Random(0))
    assert plan.tokens == (4, 4, 4, 4, 1)
    assert [t / 1e6 for t in plan.offsets_ns] == [50, 60, 70, 80, 90]


def test_a_role_chunk_at_zero_moves_no_content() -> None:
    ask = Ask(True, True, True, 1, (" tok",) * 3, "length")
    plan = make_plan(ask, Options(role_chunk="zero"), 1.0, random.Random(0))
    assert plan.tokens == (0, 1, 1, 1)
    assert [t / 1e6 for t in plan.offsets_ns] == [0, 50, 60, 70]


def test_every_nth_request_fails_and_every_nth_stream_is_cut() -> None:
    with MockProcess(*QUICK, "--error-every", "3", "--cut-every", "4") as mock:
        answers = [chat(mock.url, max_tokens=8) for _ in range(12)]
    assert [n for n, (status, _) in enumerate(answers, 1) if status == 500] == [3, 6, 9, 12]
    assert [n for n, (_, body) in enumerate(answers, 1) if body == b"cut"] == [4, 8]


def test_stamps_carry_the_callers_index_and_real_order(tmp_path: Path) -> None:
    with MockProcess(*QUICK, "--stamps", str(tmp_path / "s.json")) as mock:
        body = {"prompt": "a", "max_tokens": 3, "stream": True}
        post(mock.url, "/v1/completions", body, {"X-Request-Index": "41"})
        post(mock.url, "/v1/completions", body, {"x-request-id": "bench-abc-7"})
        post(mock.url, "/v1/completions", body)
        rows = mock.stamps()
        assert json.loads((tmp_path / "s.json").read_text())["requests"] == rows
        mock.get("/stamps/reset")
        assert mock.stamps() == []
    assert [row["index"] for row in rows] == [41, 7, 2]
    for row in rows:
        assert row["tokens"] == 3 and row["outcome"] == "length"
        assert row["read_ns"] + 20e6 <= row["chunk_ns"][0]  # never early
        assert row["chunk_ns"] == sorted(row["chunk_ns"])


def test_slots_make_the_others_wait(tmp_path: Path) -> None:
    with MockProcess(*QUICK, "--slots", "1", "--stamps", str(tmp_path / "s.json")) as mock:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: chat(mock.url, max_tokens=4), range(3)))
        rows = sorted(mock.stamps(), key=lambda row: row["start_ns"])
    for earlier, later in itertools.pairwise(rows):
        assert later["start_ns"] >= earlier["chunk_ns"][-1]


def test_known_questions_get_their_answers(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "37 + 45 = ?", "answer": "It is 82"}\n')
    with MockProcess(*QUICK, "--answers", str(tmp_path / "a.jsonl")) as mock:
        _, body = chat(mock.url, " 37 + 45 = ? ", stream_options={"include_usage": True})
        assert contents(body) == ["It", " is", " 82"]
        assert events(body)[-1]["usage"]["completion_tokens"] == 3
        assert events(body)[-2]["choices"][0]["finish_reason"] == "stop"
        assert contents(chat(mock.url, "37 + 45 = ?", max_tokens=2)[1]) == ["It", " is"]
        assert contents(chat(mock.url, "another", max_tokens=2)[1]) == [" tok"] * 2


def test_other_paths_and_refusals() -> None:
    with MockProcess(*QUICK, "--model", "m") as mock:
        assert json.loads(mock.get("/v1/models"))["data"][0]["id"] == "m"
        assert mock.get("/health") == ""
        assert json.loads(mock.get("/version"))["version"].startswith("mock-")
        assert post(mock.url, "/v1/completions", {"model": "other", "prompt": "a"})[0] == 404
        assert post(mock.url, "/v1/completions", b"{nonsense")[0] == 400
        assert post(mock.url, "/v1/completions", {"prompt": 3})[0] == 400
        assert post(mock.url, "/v1/chat/completions", {"messages": "x"})[0] == 400
        assert post(mock.url, "/v1/completions", {"prompt": "a", "max_tokens": -1})[0] == 400
        assert post(mock.url, "/nowhere", {})[0] == 404
        assert post(mock.url, "/stamps", {})[0] == 404


def test_metrics_count_what_was_sent() -> None:
    with MockProcess(*QUICK) as mock:
        for _ in range(2):
            chat(mock.url, max_tokens=5)
        text = mock.get("/metrics")
    rows = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert rows['vllm:generation_tokens_total{model_name="mock"}'] == "10"
    assert rows['vllm:time_to_first_token_seconds_count{model_name="mock"}'] == "2"
    assert rows['vllm:inter_token_latency_seconds_count{model_name="mock"}'] == "8"
    assert rows['vllm:request_success_total{model_name="mock",finished_reason="length"}'] == "2"
    assert float(rows['vllm:time_to_first_token_seconds_sum{model_name="mock"}']) >= 2 * 0.020


def test_a_histogram_counts_a_value_on_the_edge_into_its_bucket() -> None:
    histogram = Histogram("h", (0.1, 0.2))
    for value in (0.1, 0.15, 9.0):
        histogram.observe(value)
    assert [line.rsplit(" ", 1)[1] for line in histogram.lines("")[1:]] == ["1", "2", "3", "9.25", "3"]


def test_the_ledger_times_from_actual_sends_and_escapes_the_model() -> None:
    ledger = Ledger('a"b\nc', keep=False)
    ledger.close(Sent(0, 0, 0, tokens=3, chunk_ns=[50_000_000, 60_000_000, 80_000_000]), "stop")
    assert ledger.ttft.sum == pytest.approx(0.050)
    assert ledger.tpot.sum == pytest.approx(0.015)
    assert ledger.labels == r'model_name="a\"b\nc"'


def _factors(**options: Any) -> list[float]:
    service = Service(Options(**options), asyncio.new_event_loop(), {})
    return [service._factor(n) for n in range(1, 201)]


def test_noise_is_log_normal_and_the_same_for_the_same_seed() -> None:
    assert _factors(noise=0.1, seed=3) == _factors(noise=0.1, seed=3)
    assert _factors(noise=0.1, seed=3) != _factors(noise=0.1, seed=4)
    assert 0.9 < sorted(_factors(noise=0.1, seed=3))[100] < 1.1
    assert set(_factors()) == {1.0}


def test_drift_makes_the_hundred_and_first_request_ten_percent_slower() -> None:
    assert _factors(drift=0.001)[100] == pytest.approx(1.1)


def test_a_stall_pauses_open_streams_once(tmp_path: Path) -> None:
    with MockProcess(*QUICK, "--stall-at", "0.1", "--stall-for", "0.5", "--stamps", str(tmp_path / "s.json")) as mock:
        chat(mock.url, max_tokens=100)
        (row,) = mock.stamps()
    gaps = [(b - a) / 1e9 for a, b in zip(row["chunk_ns"], row["chunk_ns"][1:], strict=False)]
    after = gaps.index(max(gaps)) + 1
    # No chunk is sent early, so each one after the pause is late by all of it; the one before may have been late by itself.
    late = [(ns - row["read_ns"]) / 1e9 - 0.02 - i * 0.002 for i, ns in enumerate(row["chunk_ns"])]
    assert after < 99 and min(late[after:]) >= 0.5
    assert sorted(gaps)[-2] < 0.4


def test_a_request_that_comes_in_a_stall_waits_for_its_end_and_not_for_its_length() -> None:
    service = Service(Options(stall_at=1.0, stall_for=2.0), asyncio.new_event_loop(), {})
    service._first_ns = 0
    second = 1_000_000_000
    assert [service.stalled_for(t * second // 10) for t in (9, 10, 25, 30)] == [0, 2 * second, second // 2, 0]
    assert [service.pause_at(t * second // 10) for t in (9, 10, 25, 30)] == [0, 2 * second, 2 * second, 0]


def test_a_port_in_use_is_one_line_and_exit_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "profile_and_optimize.engines.mock.server", "--port", str(port)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert str(port) in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("flags", [["--role-chunk", "maybe"], ["--osl", "0"], ["--noise", "-1"], ["--nonsense"]])
def test_wrong_flags_exit_2(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(flags)
    assert caught.value.code == 2
