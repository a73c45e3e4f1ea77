"""Records that are odd but honest: every number is a measurement or unknown, and nothing ends in an exception."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_and_optimize.core.metrics import METRICS
from profile_and_optimize.core.records import ClientProbe, ClientRun, RequestRecord
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.stats.columns import Records
from profile_and_optimize.stats.honesty import assess
from profile_and_optimize.stats.summary import TrialSummary, leaving_out, summarize

HUGE = 2**50
TIMES = st.sampled_from([0, 0, 0, 1, 1, 1000, 10**9, HUGE])


@st.composite
def requests(draw: st.DrawFn, index: int) -> RequestRecord:
    """Times, chunks and counts from few values, so that equal, zero and huge ones meet often. A first chunk may lie before
    the request was sent, as on a clock that was set."""
    sent = draw(TIMES)
    done = sent + draw(TIMES)
    first = draw(st.sampled_from([sent, sent, max(0, sent - 5), sent + 1, done]))
    gaps = draw(st.lists(TIMES, max_size=4)) if draw(st.booleans()) else [0] * draw(st.integers(0, 40))
    chunks = [first]
    for gap in gaps:
        chunks.append(min(chunks[-1] + gap, HUGE * 2))
    error = draw(st.sampled_from([None, None, None, "refused"]))
    tokens, count = st.sampled_from([None, 0, 1, 2, 16, 2**31 - 1]), len(chunks)
    usage = draw(st.one_of(st.just(count), tokens))
    return RequestRecord(
        index, sent if draw(st.booleans()) else 0, sent, done, first, () if error else tuple(chunks), draw(tokens), usage, 200,
        draw(st.sampled_from([None, "stop", "length"])), error, draw(st.sampled_from([None, 1, 16])),
    )  # fmt: skip


@st.composite
def runs(draw: st.DrawFn) -> list[RequestRecord]:
    n = draw(st.sampled_from([1, 1, 2, 3, 24]))
    if draw(st.booleans()):  # all equal
        one = draw(requests(0))
        fields = {name: getattr(one, name) for name in RequestRecord.__slots__}
        return [RequestRecord(**{**fields, "index": i}) for i in range(n)]
    return [draw(requests(i)) for i in range(n)]


def sound(s: TrialSummary) -> None:
    for name in METRICS:
        value = s.value(name)
        assert value is None or (math.isfinite(value) and value > 0), (name, value)
    for dist in s.dists.values():
        assert dist is None or (dist.n > 0 and 0 < dist.p50 <= dist.p90 <= dist.p99 and dist.mean > 0)
    assert all(0 <= s.unknown_share(name) <= 1 for name in s.unknown)
    assert "cannot be made" not in s.reason


@settings(max_examples=300, deadline=None)
@given(runs(), st.booleans(), st.sampled_from([1, 4, 64]), st.sampled_from([None, 0, 1, 5, 1000]))
def test_every_number_of_any_records_is_a_measurement_or_unknown(
    records: list[RequestRecord], from_intended: bool, concurrency: int, drop: int | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s = summarize(records, asked=len(records), concurrency=concurrency, from_intended=from_intended, drop=drop)
        sound(s)
        sound(leaving_out(s, records, concurrency=concurrency, from_intended=from_intended, drop=1))
        arrival, rate = ("poisson", 2.0) if from_intended else ("closed", None)
        probe = ClientProbe(0.0, 0.0, 0.0, (), None, None, "", (), 1, 0, 0, 0)
        assess(
            ClientRun(0.0, concurrency, records, probe, arrival=arrival, request_rate=rate), requests_asked=len(records)
        )


def packet(i: int, at: int = 50, tokens: int = 16) -> RequestRecord:
    """All chunks at one moment."""
    return RequestRecord(i, i, i, i + at, i + at, (i + at,) * tokens, 9, tokens, 200, "length", max_tokens=tokens)


def test_an_answer_in_one_packet_has_a_ttft_and_a_rate_but_no_tpot_and_no_itl() -> None:
    s = summarize([packet(i) for i in range(24)], asked=24, concurrency=4)
    assert s.state is TrialState.FULL and s.dists["ttft"] is not None and s.whole_output_throughput is not None
    assert s.dists["tpot"] is None and s.dists["itl"] is None
    assert (s.unknown["tpot"], s.unknown["itl"], s.unknown["ttft"]) == (24, 24, 0)
    assert s.steady.answer == "too few to tell"


def test_an_answer_of_one_token_lacks_nothing_and_has_no_tpot() -> None:
    s = summarize([packet(i, tokens=1) for i in range(4)], asked=4, concurrency=1)
    assert s.dists["tpot"] is None and s.unknown["tpot"] == 0


def test_a_first_chunk_at_the_start_or_before_it_is_no_ttft() -> None:
    s = summarize([packet(0, at=0), packet(1, at=0), packet(2)], asked=3, concurrency=1)
    assert s.dists["ttft"] is not None and s.dists["ttft"].n == 1 and s.unknown["ttft"] == 2
    assert s.unknown_share("ttft") == pytest.approx(2 / 3)


def test_chunks_of_one_read_have_no_gap_between_them() -> None:
    one = RequestRecord(0, 0, 0, 60, 10, (10, 10, 30, 60), 9, 4, 200, "length", max_tokens=4)
    s = summarize([one], asked=1, concurrency=1)
    assert s.dists["itl"] is not None and (s.dists["itl"].n, s.dists["itl"].mean) == (2, pytest.approx(25e-9))


def test_a_summary_that_cannot_be_made_is_a_failed_trial_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Records, "tpots", property(lambda _: 1 // 0))
    s = summarize([packet(0)], asked=1, concurrency=1)
    assert s.state is TrialState.FAILED and "its summary cannot be made: ZeroDivisionError" in s.reason
    assert s.value("ttft") is None and s.value("output_throughput") is None and s.completed == 1
