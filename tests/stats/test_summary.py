"""Metrics of a trial, with numbers one can check by hand. Times in the records are nanoseconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.stats.summary import STEADY, WHOLE, summarize, tpot

MS = 1_000_000


def request(i: int, sent: float, first: float, step: float, chunks: int, tokens: int | None) -> RequestRecord:
    times = tuple(int((first + k * step) * MS) for k in range(chunks))
    return RequestRecord(i, int(sent * MS), int(sent * MS), times[-1], times[0], times, 10, tokens, 200, "length")


def test_ttft_tpot_itl_and_e2e_of_one_request() -> None:
    s = summarize([request(0, 0, 50, 10, 64, 64)], asked=1, concurrency=1)
    found = {k: round(d.p50 * 1e3, 6) for k, d in s.dists.items() if d}
    assert found == {"ttft": 50.0, "tpot": 10.0, "itl": 10.0, "e2e_latency": 680.0}


def test_four_tokens_a_chunk_every_10_ms_is_a_tpot_of_150_over_63_ms() -> None:
    assert tpot(request(0, 0, 50, 10, 16, 64)) == pytest.approx(0.150 / 63)


def test_tpot_needs_usage_and_two_tokens() -> None:
    assert tpot(request(0, 0, 50, 10, 64, None)) is None
    assert tpot(request(0, 0, 50, 10, 1, 1)) is None


def test_without_usage_rates_are_unknown_and_not_zero() -> None:
    s = summarize([request(0, 0, 50, 10, 8, None)], asked=1, concurrency=1)
    assert s.output_throughput is None and s.whole_output_throughput is None and s.dists["tpot"] is None


def test_steady_window_leaves_out_ramp_and_drain() -> None:
    # One slot, four requests of 100 ms with 10 tokens each, back to back: between the 1st completion and the
    # last send lie two whole requests, 20 tokens in 200 ms.
    rows = [request(i, i * 100, i * 100 + 10, 10, 10, 10) for i in range(4)]
    rows = [
        RequestRecord(r.index, r.sent_ns, r.sent_ns, r.sent_ns + 100 * MS, r.chunk_ns[0], r.chunk_ns, 10, 10, 200)
        for r in rows
    ]
    s = summarize(rows, asked=4, concurrency=1)
    assert (s.window, s.output_throughput) == (STEADY, pytest.approx(100.0))


def test_too_few_requests_for_a_steady_window_name_the_whole_run() -> None:
    rows = [request(i, 0, 50, 10, 4, 4) for i in range(4)]
    assert summarize(rows, asked=4, concurrency=2).window == WHOLE


def test_failed_requests_count_as_failed_and_in_no_latency() -> None:
    bad = RequestRecord(1, 0, 0, 5 * MS, status=500, error="HTTP 500")
    s = summarize([request(0, 0, 50, 10, 8, 8), bad], asked=2, concurrency=2)
    assert (s.state, s.completed, s.failed, s.errors) == (TrialState.PARTIAL, 1, 1, (("HTTP 500", 1),))
    assert s.dists["ttft"].n == 1


def test_nothing_completed_is_failed_with_every_metric_unknown() -> None:
    s = summarize([RequestRecord(0, 0, 0, 5, error="refused")], asked=1, concurrency=1)
    assert s.state is TrialState.FAILED
    assert all(d is None for d in s.dists.values()) and s.request_throughput is None


def test_a_lost_record_is_seen() -> None:
    s = summarize([request(0, 0, 50, 10, 8, 8)], asked=2, concurrency=1)
    assert (s.state, s.failed) == (TrialState.PARTIAL, 1)


@given(st.floats(1.0, 1000.0), st.floats(0.5, 50.0), st.integers(2, 40))
def test_latencies_scale_with_time(ttft: float, step: float, n: int) -> None:
    one = summarize([request(0, 0, ttft, step, n, n)], asked=1, concurrency=1)
    two = summarize([request(0, 0, 2 * ttft, 2 * step, n, n)], asked=1, concurrency=1)
    for name in ("ttft", "tpot", "itl", "e2e_latency"):
        assert two.dists[name].p50 == pytest.approx(2 * one.dists[name].p50, rel=1e-4)


@pytest.mark.parametrize("spoil", [
    {"sent_ns": -1}, {"done_ns": -5}, {"chunk_ns": (5, 4)}, {"chunk_ns": ()},
])  # fmt: skip
def test_records_that_cannot_be_are_refused_at_birth(spoil: dict[str, object]) -> None:
    good = {"index": 0, "intended_ns": 0, "sent_ns": 0, "done_ns": 10, "chunk_ns": (1, 2)}
    with pytest.raises(ValueError):
        RequestRecord(**{**good, **spoil})
