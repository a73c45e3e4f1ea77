"""Metrics of a trial, with numbers one can check by hand. Times in the records are nanoseconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.stats.summary import STEADY, WHOLE, quantiles, summarize, tpot

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


def slow_then_steady(n: int = 40, slow: int = 10) -> list[RequestRecord]:
    """One slot; requests of 10 tokens, 20 ms a token for the first ones and 10 ms for the rest."""
    rows, now = [], 0.0
    for i in range(n):
        step = 20 if i < slow else 10
        rows.append(request(i, now, now + step, step, 10, 10))
        now += 10 * step
    return rows


def test_the_start_up_is_left_out_of_distributions_and_window() -> None:
    s = summarize(slow_then_steady(), asked=40, concurrency=1)
    assert (s.steady.drop, s.dropped, s.steady.answer) == (10, 10, "steady")
    assert {k: (d.n, round(d.p99 * 1e3, 6)) for k, d in s.dists.items() if d} == {
        "ttft": (30, 10.0), "tpot": (30, 10.0), "itl": (270, 10.0), "e2e_latency": (30, 100.0),
    }  # fmt: skip
    # From the send of request 10 at 2.0 s to that of request 39 at 4.9 s arrive 29 x 10 tokens.
    assert (s.window_s, s.output_throughput) == (pytest.approx(2.9), pytest.approx(100.0))
    assert (
        s.completed == 40 and s.wall_s == pytest.approx(5.0) and s.to_json()["steady_state"]["requests_left_out"] == 10
    )


def test_one_number_of_requests_can_be_left_out_of_all_arms() -> None:
    s = summarize(slow_then_steady(), asked=40, concurrency=1, drop=20)
    assert (s.dropped, s.steady.drop, s.dists["tpot"].n, s.window_s) == (20, 10, 20, pytest.approx(1.9))
    assert summarize(slow_then_steady(), asked=40, concurrency=1, drop=0).dists["tpot"].n == 40
    gone = summarize(slow_then_steady(), asked=40, concurrency=1, drop=40)
    assert gone.output_throughput is None and gone.dists["tpot"] is None and gone.completed == 40


def test_a_drop_inside_the_ramp_leaves_the_window_where_it_was() -> None:
    rows = [request(i, 0, 100 * (i + 1), 10, 10, 10) for i in range(4)]
    rows += [request(4 + i, 400 + 100 * i, 450 + 100 * i, 10, 5, 5) for i in range(8)]
    one, two = (summarize(rows, asked=12, concurrency=4, drop=d) for d in (0, 2))
    assert (one.window_s, one.output_throughput) == (two.window_s, two.output_throughput)


def test_the_window_of_an_open_loop_reaches_from_the_first_kept_to_the_last_intended_time() -> None:
    # One request a second, each answered with 10 tokens in the 100 ms after it: dropped 5 of 25, 19 x 10 tokens in 19 s.
    rows = [request(i, 1000 * i, 1000 * i + 10, 10, 10, 10) for i in range(25)]
    s = summarize(rows, asked=25, concurrency=64, from_intended=True, drop=5)
    assert (s.window, s.window_s, s.output_throughput) == (STEADY, pytest.approx(19.0), pytest.approx(10.0))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_quantiles_are_those_of_numpy_to_the_last_bit(values: list[float]) -> None:
    assert quantiles(values, (0.5, 0.9, 0.99)) == np.percentile(values, (50, 90, 99)).tolist()
