"""`pao bench` in an open loop: what it refuses, what it prints, and that the two views of latency are told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import Server
from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.evidence.trialfile import decode
from profile_and_optimize.ops.base import Result, parse_request
from profile_and_optimize.ops.bench import OP, run
from profile_and_optimize.ops.loads import asked_load


def request(**options: Any) -> Any:
    return parse_request(OP, {"url": "http://127.0.0.1:1", **options})


def bench(url: str, **options: Any) -> Result:
    return run(parse_request(OP, {"url": url, "isl": 32, "osl": 4, **options}), lambda _: None)


def replay(url: str, path: Path, **options: Any) -> Result:
    return run(parse_request(OP, {"url": url, "replay": str(path), **options}), lambda _: None)


@pytest.mark.parametrize(("options", "where", "said"), [
    ({"request_rate": 4, "concurrency": 8}, "--concurrency", "hidden from the server"),
    ({"replay": "t", "concurrency": 8}, "--concurrency", "hidden from the server"),
    ({"replay": "t", "request_rate": 8}, "--request-rate", "its own times"),
    ({"replay": "t", "isl": 8}, "--isl", "its own times, lengths"),
    ({"replay": "t", "dataset": "random"}, "--dataset", "its own times, lengths"),
    ({"speed": 2}, "--speed", "no trace"),
    ({"arrival": "poisson"}, "--arrival", "open loop"),
    ({"duration_s": 5}, "--duration-s", "open loop"),
    ({"request_rate": 4, "duration_s": 5, "requests": 9}, "--duration-s", "either"),
    ({"request_rate": 4, "arrival": "gamma"}, "--arrival", "need a burstiness"),
    ({"request_rate": 4, "burstiness": 2}, "--burstiness", "belongs to --arrival gamma"),
    ({"request_rate": 4, "arrival": "poisson", "burstiness": 2}, "--burstiness", "belongs to --arrival gamma"),
])  # fmt: skip
def test_options_that_contradict_one_another_are_refused_before_anything_is_sent(
    options: dict[str, Any], where: str, said: str
) -> None:
    with pytest.raises(WrongUse, match=said) as caught:
        asked_load(request(**options), 1)
    assert caught.value.where == where and caught.value.next


@pytest.mark.parametrize("rate", [0, -1, "nan", "inf", 1e9])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    with pytest.raises(WrongUse) as caught:
        request(request_rate=rate)
    assert caught.value.where == "--request-rate"


def test_requests_follow_from_duration_and_rate() -> None:
    assert asked_load(request(request_rate=4, duration_s=10), 1).count == 40
    assert asked_load(request(request_rate=4), 1).count == 120
    assert asked_load(request(request_rate=0.1), 1).count == 32
    assert asked_load(request(request_rate=4, requests=7), 1).count == 7
    with pytest.raises(WrongUse, match="in one run"):
        asked_load(request(request_rate=1e5, duration_s=1e6), 1)


def test_a_closed_loop_is_what_it_was() -> None:
    load = asked_load(request(concurrency=16), 1)
    assert (load.count, load.slots, load.schedule, load.key) == (64, 16, None, "c16")
    assert asked_load(request(), 1).key == "c8"


def test_the_seed_fixes_the_times() -> None:
    once, again, other = (asked_load(request(request_rate=4), seed).schedule for seed in (1, 1, 2))
    assert once == again != other


def test_an_open_loop_shows_what_was_asked_and_delivered_and_both_latencies(
    mock_server: Server, tmp_path: Path
) -> None:
    found = bench(mock_server.url, request_rate=40, requests=30, seed=3, out=str(tmp_path / "o"))
    data = found.data
    assert (data["arrival"], data["request_rate"], data["latency_from"]) == ("poisson", 40.0, "intended")
    assert data["requests"]["completed"] == 30 and data["concurrency"] is None
    for name in ("ttft_ms", "e2e_latency_ms"):
        assert data["metrics"][name]["n"] == data["metrics_from_send"][name]["n"] == 30  # no start-up is left out
        assert data["metrics"][name]["mean"] >= data["metrics_from_send"][name]["mean"]
    assert data["honesty"]["open_loop"]["intended_rate_req_s"] == pytest.approx(40.0)
    for words in (
        "counts from the time a request was meant",
        "requested       40.000 req/s",
        "send lag",
        "ttft from send",
    ):
        assert words in found.text
    file = decode(read_json(tmp_path / "o" / "records.json"), "records.json")
    assert (file.key.point, file.run.arrival, file.run.request_rate) == ("random.r40", "poisson", 40.0)


def test_a_closed_loop_says_where_its_latency_begins(mock_server: Server) -> None:
    found = bench(mock_server.url, concurrency=2, requests=8)
    assert found.data["latency_from"] == "sent" and "metrics_from_send" not in found.data
    assert "from send" not in found.text


@pytest.mark.parametrize(
    "mock_server", [("--slots", "1", "--ttft-ms", "25", "--itl-ms", "5", "--osl", "4")], indirect=True
)
def test_a_server_that_falls_behind_is_a_finding_not_a_bad_client(mock_server: Server) -> None:
    """One request at a time, 40 ms each: 25 a second at most. 70 are asked, without a warm-up that takes its turns."""
    found = bench(mock_server.url, request_rate=70, requests=40, arrival="constant", no_warmup=True)
    assert found.data["honesty"]["open_loop"]["saturated"] is True
    assert any("SATURATED" in w for w in found.warnings) and "SATURATED" in found.text
    assert not any("saturat" in r.lower() for r in found.data["honesty"]["reasons"])
    assert found.data["metrics"]["ttft_ms"]["p99"] > 700


def test_a_replay_keeps_lengths_sessions_and_says_what_the_cache_saw(mock_server: Server, tmp_path: Path) -> None:
    lines = [
        {"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]},
        {"timestamp": 100, "input_length": 600, "output_length": 5, "hash_ids": [1, 3]},
        {"timestamp": 150, "input_length": 20, "output_length": 2, "session": "a"},
        {"timestamp": 160, "input_length": 40, "output_length": 2, "session": "a", "think_ms": 30},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = replay(mock_server.url, tmp_path / "t.jsonl", speed=0.5, out=str(tmp_path / "o"))
    data = found.data
    assert data["requests"]["completed"] == 4 and data["cache_mode"] == "replay: shared prefixes as in the trace"
    assert data["isl_observed_mean"] == (600 + 600 + 20 + 40) / 4 and data["osl_observed_mean"] == 3.0
    assert data["replay"]["sessions"] == 1 and data["replay"]["trace_span_s"] == pytest.approx(0.16)
    records = decode(read_json(tmp_path / "o" / "records.json"), "records.json").run.records
    assert [r.intended_ns for r in records[:3]] == [0, 200_000_000, 300_000_000]
    assert records[3].intended_ns == max(320_000_000, records[2].done_ns + 60_000_000)


def test_a_replay_of_texts_needs_no_lengths_and_warns_of_a_warm_server(mock_server: Server, tmp_path: Path) -> None:
    lines = [{"timestamp": 20 * i, "prompt": f"question {i}", "output_length": 2} for i in range(4)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = replay(mock_server.url, tmp_path / "t.jsonl")
    assert found.data["prompts_exact"] is None and "are warm on a server that has met them" in found.data["cache_mode"]
