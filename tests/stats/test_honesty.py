"""Validity of the client: each threshold crossed on its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.stats.honesty import assess
from profile_and_optimize.testing.fakes import FakeClient

MS = 1_000_000


@pytest.fixture
def run(tmp_path) -> ClientRun:
    load = LoadRequest("http://fake/x/10.0", "m", "chat", tuple(f"word {i}" for i in range(16)), 16, 4)
    return FakeClient().run(load, workdir=tmp_path)


def with_probe(run: ClientRun, **changes: object) -> ClientRun:
    return replace(run, probe=replace(run.probe, **changes))


def test_a_quiet_client_is_valid(run: ClientRun) -> None:
    found = assess(run, requests_asked=16)
    assert (found.validity, found.reasons) == (Validity.VALID, ())


def test_a_loop_2_ms_late_at_the_median_is_invalid(run: ClientRun) -> None:
    found = assess(with_probe(run, loop_lag_ns=(2 * MS,) * 20), requests_asked=16)
    assert found.validity is Validity.INVALID and "2.0 ms late" in found.reasons[0]


def test_a_loop_without_samples_is_invalid_not_fine(run: ClientRun) -> None:
    assert assess(with_probe(run, loop_lag_ns=()), requests_asked=16).validity is Validity.INVALID


def test_rare_lag_beyond_a_tenth_of_tpot_is_degraded(run: ClientRun) -> None:
    lags = (0,) * 90 + (5 * MS,) * 10
    assert assess(with_probe(run, loop_lag_ns=lags), requests_asked=16).validity is Validity.DEGRADED


def test_a_slot_left_idle_is_invalid(run: ClientRun) -> None:
    late = [replace(r, sent_ns=r.sent_ns + 40 * MS, done_ns=r.done_ns + 40 * MS, chunk_ns=tuple(t + 40 * MS for t in r.chunk_ns))
            if r.index >= 4 else r for r in run.records]  # fmt: skip
    found = assess(replace(run, records=tuple(late)), requests_asked=16)
    assert found.validity is Validity.INVALID and "requested concurrency" in " ".join(found.reasons)


def test_lost_records_are_invalid(run: ClientRun) -> None:
    assert assess(replace(run, records=run.records[:-1]), requests_asked=16).validity is Validity.INVALID


@pytest.mark.parametrize(("change", "word"), [
    ({"coalesced_reads": 60, "reads": 256}, "more than one chunk"),
    ({"run_queue_wait_s": 1e9}, "waited for a core"),
    ({"in_flight_s": 1e9}, "Little"),
])  # fmt: skip
def test_each_sign_of_blur_degrades(run: ClientRun, change: dict[str, object], word: str) -> None:
    found = assess(with_probe(run, **change), requests_asked=16)
    assert found.validity is Validity.DEGRADED and any(word in r for r in found.reasons)


def test_disagreeing_with_the_servers_own_histogram_degrades(run: ClientRun) -> None:
    assert assess(run, requests_asked=16, server_tpot_mean_s=0.010).validity is Validity.VALID
    assert assess(run, requests_asked=16, server_tpot_mean_s=0.011).validity is Validity.DEGRADED
