"""One client at one load against the mock: what it reported, beside what the mock actually sent, and what it cost."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profile_and_optimize.clients.base import Client
from profile_and_optimize.clients.calibration import OurMock, Shape, run_client
from profile_and_optimize.clients.cpu_watch import CpuWatch
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.stats.client_error import RunError, run_error, sent_of

SHAPE = Shape()
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Point:
    """One run. Errors are reported minus actual, in ms; CPU in microseconds per output token. NaN is unknown."""

    client: str
    concurrency: int
    requests: int
    failed: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    ttft_error_p50_ms: float
    ttft_error_p99_ms: float
    arrival_error_p50_ms: float
    arrival_error_p99_ms: float
    tpot_error_p50_ms: float
    e2e_error_p50_ms: float
    request_rate: float
    ideal_rate: float
    deliverable_rate: float
    lost: float
    cpu_us: float
    cpu_whole_process_us: float
    cpu_run_us: float
    cpu_parse_us: float
    loop_lag_p50_ms: float
    scheduler: str


def measure(client: Client, concurrency: int, work: Path, mock_cores: tuple[int, ...], cores: tuple[int, ...]) -> Point:
    """A fresh mock, one run, its stamps. The client is the only child that ends in between."""
    with OurMock(SHAPE, work, mock_cores) as mock:
        watch, before = CpuWatch(os.getpid(), but=[mock.pid]), _reaped_cpu_s()
        watch.start()
        run = run_client(client, mock, SHAPE, concurrency, work, cores)
        watch.stop()
        whole = _reaped_cpu_s() - before
        rows = mock.stamps()
    started = watch.at(min(row["read_ns"] for row in rows))
    found = run_error(run, sent_of(rows))
    return _point(client.name, run, found, whole_s=whole, working_s=NAN if started is None else whole - started)


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _point(client: str, run: ClientRun, found: RunError, *, whole_s: float, working_s: float) -> Point:
    us = 1e6 / (found.requests * SHAPE.osl)
    lag = run.probe.loop_lag_ns
    return Point(
        client=client,
        concurrency=run.concurrency,
        requests=found.requests,
        failed=found.failed,
        ttft_p50_ms=found.ttft_p50_s * 1e3,
        ttft_p99_ms=found.ttft_p99_s * 1e3,
        ttft_error_p50_ms=found.ttft_error_p50_s * 1e3,
        ttft_error_p99_ms=found.ttft_error_p99_s * 1e3,
        arrival_error_p50_ms=_known(found.arrival_error_p50_s) * 1e3,
        arrival_error_p99_ms=_known(found.arrival_error_p99_s) * 1e3,
        tpot_error_p50_ms=_known(found.tpot_error_p50_s) * 1e3,
        e2e_error_p50_ms=found.e2e_error_p50_s * 1e3,
        request_rate=found.request_rate,
        ideal_rate=run.concurrency / (SHAPE.ttft_s + (SHAPE.osl - 1) * SHAPE.itl_s),
        deliverable_rate=found.deliverable_rate,
        lost=found.lost,
        cpu_us=working_s * us,
        cpu_whole_process_us=whole_s * us,
        cpu_run_us=_known(run.probe.cpu_s) * us,
        cpu_parse_us=_known(run.probe.parse_cpu_s) * us,
        loop_lag_p50_ms=_median(lag) / 1e6,
        scheduler=run.probe.scheduler,
    )


def _known(value: float | None) -> float:
    return NAN if value is None else value


def _median(values: Sequence[int]) -> float:
    return float(np.median(values)) if values else NAN
