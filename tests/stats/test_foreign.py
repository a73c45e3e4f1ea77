"""A foreign client is never valid on its own word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_client_error import PROBE, STORED

from profile_and_optimize.core.records import ClientRun, RequestRecord
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.stats.client_error import ClientError
from profile_and_optimize.stats.foreign import assess_client
from profile_and_optimize.stats.honesty import Honesty

MS = 1_000_000


def run_at(concurrency: int, lag_ns: tuple[int, ...] = (), due_before_ms: int = 0) -> ClientRun:
    """Two waves, each slot busy throughout."""
    records = []
    for i in range(2 * concurrency):
        sent = (100 if i >= concurrency else 0) * MS + due_before_ms * MS
        chunks = (sent + 50 * MS, sent + 99 * MS)
        records.append(
            RequestRecord(i, sent - due_before_ms * MS, sent, sent + 100 * MS, chunk_ns=chunks, completion_tokens=2)
        )
    return ClientRun(0.0, concurrency, tuple(records), replace(PROBE, loop_lag_ns=lag_ns))


def judged(
    run: ClientRun, *known: ClientError, client: str = "aiperf", version: str = "0.13.0", asked: int = 32
) -> Honesty:
    return assess_client(run, client=client, version=version, calibrations=known, requests_asked=asked)


def test_without_a_calibration_it_is_invalid_and_says_what_to_type() -> None:
    found = judged(run_at(16))
    assert found.validity is Validity.INVALID
    assert found.reasons[0].endswith("pao calibrate --client aiperf --concurrency 16")
    assert not [r for r in found.reasons if "lag was not sampled" in r]


def test_with_one_it_is_degraded_by_its_measured_error() -> None:
    found = judged(run_at(16), STORED)
    assert found.validity is Validity.DEGRADED and "TTFT p50 +7.1 ms" in found.reasons[0]


@pytest.mark.parametrize("other", [{"version": "0.12.0"}, {"client": "guidellm"}, {"concurrency": 64}])
def test_a_calibration_of_something_else_does_not_count(other: dict[str, object]) -> None:
    assert judged(run_at(16), replace(STORED, **other)).validity is Validity.INVALID  # type: ignore[arg-type]


def test_of_several_the_newest_counts() -> None:
    newer = replace(STORED, at_unix_s=STORED.at_unix_s + 1, ttft_error_p50_s=0.0099)
    assert "TTFT p50 +9.9 ms" in judged(run_at(16), newer, STORED).reasons[0]


def test_a_calibration_heals_no_other_fault() -> None:
    found = judged(run_at(16), STORED, asked=33)
    assert found.validity is Validity.INVALID and "32 records for 33 requests" in found.reasons


def test_so_much_load_may_be_missing_as_the_calibration_found_lost() -> None:
    thin = replace(run_at(16), concurrency=17)  # 16 of 17 slots are 94.1%
    lossy = replace(STORED, concurrency=17)  # loses 4.3%: 93.7% are asked for
    assert judged(thin, lossy).validity is Validity.DEGRADED
    found = judged(thin, replace(lossy, lost=0.01))
    assert (
        found.validity is Validity.INVALID
        and "delivered 94.1% of the requested concurrency (limit 97%)" in found.reasons
    )
    assert judged(thin, replace(lossy, lost=-0.5)).validity is Validity.INVALID


def test_a_client_that_samples_its_own_lag_answers_for_itself() -> None:
    good = judged(run_at(16, lag_ns=(50_000,) * 20), client="somebody's")
    assert not [r for r in good.reasons if "calibrat" in r]
    late = judged(run_at(16, lag_ns=(5 * MS,) * 20), STORED)
    assert late.validity is Validity.INVALID and "5.0 ms late" in late.reasons[0]


def test_ours_without_samples_is_not_saved_by_a_calibration() -> None:
    ours = replace(STORED, client="stream", version="1")
    found = judged(run_at(16), ours, client="stream", version="1")
    assert found.validity is Validity.INVALID and "the client's own lag was not sampled" in found.reasons


def test_the_send_lag_of_a_client_that_does_not_say_when_it_meant_to_send_is_unknown() -> None:
    assert judged(run_at(16), STORED).send_lag_p99_s is None
    assert judged(run_at(16, due_before_ms=3), STORED).send_lag_p99_s == pytest.approx(0.003)
