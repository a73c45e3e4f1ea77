"""A client's error is what it said less what happened: numbers one can check by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.core.records import ClientProbe, ClientRun, RequestRecord
from profile_and_optimize.stats.client_error import ClientError, client_error_from_json, run_error, sent_of

MS = 1_000_000
PROBE = ClientProbe(
    wall_s=2.0, cpu_s=0.003, parse_cpu_s=0.001, loop_lag_ns=(), run_queue_wait_s=None, in_flight_s=None, scheduler="unknown",
    cores=(), connections=None, reconnects=None, reads=None, coalesced_reads=None,
)  # fmt: skip


def stamp(tag: str, read_ms: int, *chunks_ms: int, tokens: int = 0) -> dict[str, object]:
    return {
        "tag": tag,
        "read_ns": read_ms * MS,
        "chunk_ns": [c * MS for c in chunks_ms],
        "tokens": tokens or len(chunks_ms),
    }


# Read at 0 and 100 ms; first token 50 ms later, then two more, 10 ms apart.
STAMPS = [stamp("0", 0, 50, 60, 70), stamp("1", 100, 150, 160, 170)]


def record(index: int, sent_ms: int, *chunks_ms: int, done_ms: int, tokens: int | None = 3) -> RequestRecord:
    return RequestRecord(
        index=index, intended_ns=sent_ms * MS, sent_ns=sent_ms * MS, done_ns=done_ms * MS, chunk_ns=tuple(c * MS for c in chunks_ms),
        completion_tokens=tokens,
    )  # fmt: skip


def run_of(*records: RequestRecord, t0_monotonic_ns: int | None = None) -> ClientRun:
    return ClientRun(0.0, 1, records, PROBE, (), t0_monotonic_ns)


LATE = run_of(record(0, 0, 53, 65, 77, done_ms=80), record(1, 100, 157, 169, 181, done_ms=182))


def test_errors_are_what_was_said_less_what_happened() -> None:
    found = run_error(LATE, sent_of(STAMPS))
    # TTFT said 53 and 57, was 50 and 50; TPOT said 12 and 12, was 10; E2E said 80 and 82, was 70.
    assert found.ttft_p50_s == pytest.approx(0.055) and found.ttft_error_p50_s == pytest.approx(0.005)
    assert found.ttft_error_p99_s == pytest.approx(0.003 + 0.99 * 0.004)
    assert found.tpot_error_p50_s == pytest.approx(0.002) and found.e2e_error_p50_s == pytest.approx(0.011)
    assert found.arrival_error_p50_s is None


def test_lost_load_is_the_share_of_what_one_slot_could_have_had() -> None:
    found = run_error(LATE, sent_of(STAMPS))
    # One slot, 70 ms a request: 1000/70 a second were to be had; two in two seconds are one a second.
    assert found.deliverable_rate == pytest.approx(1000 / 70) and found.request_rate == pytest.approx(1.0)
    assert found.lost == pytest.approx(1 - 0.07)
    assert found.cpu_us_per_token == pytest.approx(4000 / 6)


def test_arrivals_are_compared_where_both_are_on_one_clock() -> None:
    shifted = replace(LATE, t0_monotonic_ns=-2 * MS)
    assert run_error(shifted, sent_of(STAMPS)).arrival_error_p50_s == pytest.approx(0.003)


def test_unknown_stays_unknown() -> None:
    silent = run_of(record(0, 0, 53, 65, 77, done_ms=80, tokens=None))
    found = run_error(replace(silent, probe=replace(PROBE, cpu_s=None)), sent_of(STAMPS))
    assert found.tpot_error_p50_s is None and found.cpu_us_per_token is None


def test_a_run_that_does_not_belong_to_the_stamps_is_refused() -> None:
    with pytest.raises(ValueError, match="request 7 is not in"):
        run_error(run_of(record(7, 0, 53, done_ms=80)), sent_of(STAMPS))
    with pytest.raises(ValueError, match="no request was answered"):
        run_error(run_of(RequestRecord(0, 0, 0, 1, error="HTTP 500")), sent_of(STAMPS))
    with pytest.raises(ValueError, match="not ours, or twice"):
        sent_of([*STAMPS, stamp("1", 0, 1)])
    with pytest.raises(ValueError, match="'hello'"):
        sent_of([stamp("hello", 0, 1)])


STORED = ClientError(
    client="aiperf", version="0.13.0", node="n1", concurrency=16, requests=96, rounds=2, at_unix_s=86400.0,
    client_cores=(1,), cores_total=2, others_cores=0.02, load_average_1m=0.5, loud=(),
    ttft_s=0.05, itl_s=0.01, osl=64, isl=128, api="chat", failed=0,
    ttft_error_p50_s=0.0071, ttft_error_p99_s=0.0412, tpot_error_p50_s=None, e2e_error_p50_s=0.008, e2e_error_p99_s=0.05, lost=0.043,
    request_rate=22.0, cpu_us_per_token=52.0,
)  # fmt: skip


def test_a_stored_calibration_survives_the_round_trip_and_says_what_it_is() -> None:
    assert client_error_from_json(STORED.to_json()) == STORED
    words = STORED.words()
    assert "TTFT p50 +7.1 ms, p99 +41.2 ms, TPOT p50 unknown, E2E p50 +8.0 ms" in words
    assert "lost 4.3%" in words and "1970-01-02 on n1" in words
    assert STORED.printed()["ttft_error_p50_ms"] == pytest.approx(7.1)
    noisy = replace(STORED, loud=("1.2 cores used by other processes",), failed=3).words()
    assert "3 of 96 requests failed" in noisy and "NOT A QUIET MACHINE: 1.2 cores" in noisy


@pytest.mark.parametrize("data", [None, [], {}, {"schema": 1}, {**STORED.to_json(), "schema": 2}])
def test_what_is_no_calibration_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="not a client calibration"):
        client_error_from_json(data)


def test_a_calibration_that_lacks_a_field_is_refused() -> None:
    short = {k: v for k, v in STORED.to_json().items() if k != "lost"}
    with pytest.raises(ValueError, match="lacks fields"):
        client_error_from_json(short)
