"""Open-loop load by hand: rates, lags, and a server that keeps up told from one that does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from profile_and_optimize.clients.arrivals import draw
from profile_and_optimize.core.records import ClientProbe, ClientRun, RequestRecord
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.stats.honesty import assess
from profile_and_optimize.stats.open_load import backlog, max_in_flight, open_load

S, MS = 1_000_000_000, 1_000_000


def record(i: int, at: int, done: int, lag: int = 0) -> RequestRecord:
    sent = at + lag
    return RequestRecord(i, at, sent, done, done - 2 * MS, (done - 2 * MS, done - MS), 8, 2, 200, "length")


def run_of(records: tuple[RequestRecord, ...], rate: float = 1.0, waited: int = 0) -> ClientRun:
    area = sum(r.done_ns - r.sent_ns for r in records) / 1e9
    wall = max(r.done_ns for r in records) / 1e9
    probe = ClientProbe(
        wall_s=wall, cpu_s=0.1, parse_cpu_s=0.1, loop_lag_ns=(20_000,) * 8, run_queue_wait_s=0.0, in_flight_s=area, scheduler="fifo",
        cores=(), connections=9, reconnects=0, reads=9, coalesced_reads=0, waited_for_connection=waited,
    )  # fmt: skip
    return ClientRun(0.0, 1000, records, probe, arrival="constant", request_rate=rate)


def every_second(latency_s: Callable[[int], float], n: int = 40, lag: int = 0) -> tuple[RequestRecord, ...]:
    return tuple(record(i, i * S, i * S + round(latency_s(i) * S), lag) for i in range(n))


def test_a_punctual_run_delivers_what_was_asked() -> None:
    load = open_load(run_of(every_second(lambda _: 0.5)))
    assert load is not None
    assert (load.requested_rate, load.intended_rate, load.delivered_rate, load.delivered_of_requested) == (1, 1, 1, 1)
    assert (load.send_lag_p50_s, load.max_in_flight, load.saturated) == (0.0, 1, False)


def test_a_closed_loop_has_no_open_load() -> None:
    closed = replace(run_of(every_second(lambda _: 0.5)), arrival="closed", request_rate=None)
    assert open_load(closed) is None
    assert "open_loop" not in assess(closed, requests_asked=40).to_json()


def test_answers_that_end_as_the_next_is_sent_are_not_in_flight_together() -> None:
    assert max_in_flight(every_second(lambda _: 1.0)) == 1
    assert max_in_flight(every_second(lambda _: 2.5)) == 3


def test_a_server_of_half_the_speed_is_saturated() -> None:
    """One request a second, two seconds each, one after another: request i ends at 2(i + 1)."""
    found = backlog(every_second(lambda i: 2 * (i + 1) - i))
    assert found is not None and found.saturated is True
    assert found.completions_per_s == pytest.approx(found.arrivals_per_s / 2, rel=0.06)


def test_a_ramp_longer_than_the_run_is_unknown_not_saturated() -> None:
    """Constant latency of 100 s: in flight grows over the whole run, yet no request is slower than another."""
    found = backlog(every_second(lambda _: 100.0))
    assert found is not None and found.saturated is None


@pytest.mark.parametrize(("at", "told"), [(8, False), (20, False), (30, None)])
def test_a_stall_that_was_worked_off_is_no_saturation(at: int, told: bool | None) -> None:
    """Five seconds of it; at the very end of a run nobody can tell it from one that goes on."""

    def latency(i: int) -> float:
        return 0.5 + (max(0, at + 5 - i) if i >= at else 0)

    found = backlog(every_second(latency))
    assert found is not None and found.saturated is told


def test_too_few_requests_tell_nothing() -> None:
    assert backlog(every_second(lambda _: 0.5, n=19)) is None


def queue(rate: float, service_s: float, n: int, seed: int) -> tuple[RequestRecord, ...]:
    """Poisson arrivals at one server with exponential service, first come first served."""
    rng, free, out = random.Random(seed), 0.0, []
    for i, at in enumerate(draw("poisson", rate, n, str(seed)).at_ns):
        free = max(free, at / 1e9) + rng.expovariate(1 / service_s)
        out.append(record(i, at, max(round(free * S), at + 3 * MS)))
    return tuple(out)


def share_told(load: float, n: int, seeds: int, answer: bool) -> float:
    """Share of the queues at this load of which that is said."""
    found = [backlog(queue(load, 1.0, n, seed)) for seed in range(seeds)]
    return sum(f is not None and f.saturated is answer for f in found) / seeds


def test_queues_below_capacity_are_seldom_called_saturated_and_overloaded_ones_seldom_kept_up() -> None:
    assert share_told(0.5, 400, 200, True) <= 0.01
    assert share_told(0.7, 400, 200, True) <= 0.03
    assert share_told(0.5, 400, 100, False) >= 0.9
    assert share_told(1.5, 400, 100, True) >= 0.95
    assert share_told(2.0, 100, 100, True) >= 0.9
    assert share_told(1.5, 400, 100, False) == 0
    assert share_told(2.0, 100, 100, False) <= 0.01


def test_late_sends_make_the_client_invalid_or_degraded() -> None:
    def validity(lag: int, n_late: int) -> tuple[Validity, str]:
        records = tuple(record(i, i * S, i * S + S // 2, lag if i < n_late else 0) for i in range(40))
        found = assess(run_of(records, waited=n_late), requests_asked=40)
        return found.validity, "; ".join(found.reasons)

    assert validity(0, 0) == (Validity.VALID, "")
    assert validity(3 * MS, 40)[0] is Validity.INVALID and "found no idle connection" in validity(3 * MS, 40)[1]
    assert validity(3 * MS, 4)[0] is Validity.DEGRADED and "p99" in validity(3 * MS, 4)[1]


def test_a_client_that_falls_behind_did_not_deliver_the_rate() -> None:
    """Every gap 3% too long: 97% of the rate, though the server was quick."""
    records = tuple(record(i, i * S, i * S + i * 30 * MS + S, lag=i * 30 * MS) for i in range(40))
    found = assess(run_of(records), requests_asked=40)
    assert found.delivered_of_requested == pytest.approx(1 / 1.03)
    assert found.validity is Validity.INVALID and "of the requested rate" in " ".join(found.reasons)


def test_a_saturated_server_is_no_fault_of_the_client() -> None:
    found = assess(run_of(every_second(lambda i: 2 * (i + 1) - i)), requests_asked=40)
    assert found.validity is Validity.VALID and found.reasons == ()
    assert found.open_load is not None and found.open_load.saturated is True
    assert found.to_json()["open_loop"]["saturated"] is True


def test_a_request_that_never_left_is_late_for_nothing() -> None:
    refused = RequestRecord(5, 5 * S, 15 * S, 15 * S, error="cannot connect: connection refused")
    records = tuple(refused if r.index == 5 else r for r in every_second(lambda _: 0.5))
    load = open_load(run_of(records))
    assert load is not None and load.send_lag_p99_s == 0.0
