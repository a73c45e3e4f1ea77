"""The open-loop part of `client_honesty.py`: do requests leave on time, and does a stall show in the latencies?

Accuracy: Poisson arrivals at a rate, `vllm bench serve --request-rate` beside ours, truth being the mock's stamps.
Stall: the mock freezes for two seconds in the middle; an open loop at a constant rate meets it with every request that
was meant in these seconds, a closed loop of the same mean load (Little: rate x latency slots) only with those it had out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from profile_and_optimize.clients.arrivals import draw
from profile_and_optimize.clients.base import MOST_CONNECTIONS, Client, LoadRequest
from profile_and_optimize.clients.calibration import OurMock, Shape
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.clients.vllm_bench import VllmBenchClient
from profile_and_optimize.core.records import ClientRun, RequestRecord
from profile_and_optimize.engines.base import Command
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.stats.client_error import run_error, sent_of
from profile_and_optimize.stats.honesty import assess

SHAPE = Shape()
LATENCY_S = SHAPE.ttft_s + (SHAPE.osl - 1) * SHAPE.itl_s
STALL_RATE, STALL_AT_S, STALL_S, STALL_RUN_S = 20.0, 3.0, 2.0, 10.0
LATE_S = 0.1  # beyond what the mock takes
NS = 1e-9


@dataclass(frozen=True, slots=True)
class OpenPoint:
    """One run at a rate. Lags and errors in ms; the rates are those at which the mock read the requests. NaN is unknown."""

    client: str
    rate: float
    requests: int
    failed: int
    read_rate: float
    send_lag_p50_ms: float
    send_lag_p99_ms: float
    ttft_error_p50_ms: float
    ttft_error_p99_ms: float
    arrival_error_p50_ms: float
    arrival_error_p99_ms: float
    validity: str


@dataclass(frozen=True, slots=True)
class StallPoint:
    """Latencies over all requests of one run in ms, the share whose end-to-end latency the stall lengthened, and the
    share that was meant to be served while the server stood still."""

    client: str
    requests: int
    ttft_p99_ms: float
    ttft_max_ms: float
    e2e_p50_ms: float
    e2e_p90_ms: float
    e2e_p99_ms: float
    e2e_max_ms: float
    late_share: float
    meant_in_stall: float


@dataclass(frozen=True, slots=True)
class OpenSection:
    points: tuple[OpenPoint, ...]
    stalls: tuple[StallPoint, ...]

    def rows(self) -> dict[str, object]:
        return {"open_loop": [asdict(p) for p in self.points], "stall": [asdict(s) for s in self.stalls]}


class VllmAtRate(VllmBenchClient):
    """The adapter drives closed loops only; here its command gets a request rate instead of a limit."""

    def __init__(self, client: VllmBenchClient, rate: float) -> None:
        super().__init__(client.env, client.grace_s)
        self.rate = rate

    def command(self, load: LoadRequest, workdir: Path) -> Command:
        found = super().command(load, workdir)
        argv = list(found.argv)
        at = argv.index("--max-concurrency")
        argv[at : at + 2] = ["--request-rate", f"{self.rate:g}", "--burstiness", "1.0"]
        return replace(found, argv=tuple(argv))


def open_section(
    clients: Sequence[Client], work: Path, mock_cores: tuple[int, ...], cores: tuple[int, ...], *,
    rates: Sequence[float], seconds: float, rounds: int,
) -> OpenSection:  # fmt: skip
    points = []
    for rate in rates:
        for turn in range(rounds):
            for client in _able(clients)[:: 1 if turn % 2 == 0 else -1]:
                print(f"{rate:g} req/s round {turn + 1}/{rounds}: {client.name}", file=sys.stderr, flush=True)
                points.append(_at_rate(client, rate, round(rate * seconds), turn, work, mock_cores, cores))
    print(f"stall of {STALL_S:g} s", file=sys.stderr, flush=True)
    return OpenSection(tuple(points), tuple(_stalls(work, mock_cores, cores)))


def _able(clients: Sequence[Client]) -> list[Client]:
    return [c for c in clients if c.name == StreamClient.name or isinstance(c, VllmBenchClient)]


def _load(url: str, n: int, cores: tuple[int, ...]) -> LoadRequest:
    prompts = tuple(f"{i} " + "word " * (SHAPE.isl - 1) for i in range(n))
    return LoadRequest(url, "mock", SHAPE.api, prompts, SHAPE.osl, n, timeout_s=60.0, cores=cores)


def _at_rate(
    client: Client, rate: float, n: int, turn: int, work: Path, mock_cores: tuple[int, ...], cores: tuple[int, ...]
) -> OpenPoint:  # fmt: skip
    with OurMock(SHAPE, work, mock_cores) as mock:
        load = _load(mock.url, n, cores)
        if isinstance(client, VllmBenchClient):
            run = VllmAtRate(client, rate).run(load, workdir=work)
        else:
            schedule = draw("poisson", rate, n, f"bench/{rate:g}/{turn}")
            run = client.run(replace(load, schedule=schedule, concurrency=MOST_CONNECTIONS), workdir=work)
        rows = mock.stamps()
    return _point(client.name, rate, run, rows)


def _point(client: str, rate: float, run: ClientRun, rows: Sequence[Mapping[str, Any]]) -> OpenPoint:
    error = run_error(run, sent_of(rows))
    read = [row["read_ns"] * NS for row in rows]
    lags = [(r.sent_ns - r.intended_ns) / 1e6 for r in run.records] if run.open_loop else [float("nan")]
    arrival = (error.arrival_error_p50_s, error.arrival_error_p99_s)
    return OpenPoint(
        client=client, rate=rate, requests=error.requests, failed=error.failed,
        read_rate=(len(read) - 1) / (max(read) - min(read)), send_lag_p50_ms=float(np.percentile(lags, 50)),
        send_lag_p99_ms=float(np.percentile(lags, 99)), ttft_error_p50_ms=error.ttft_error_p50_s * 1e3,
        ttft_error_p99_ms=error.ttft_error_p99_s * 1e3,
        arrival_error_p50_ms=float("nan") if arrival[0] is None else arrival[0] * 1e3,
        arrival_error_p99_ms=float("nan") if arrival[1] is None else arrival[1] * 1e3,
        validity=assess(run, requests_asked=len(run.records)).validity.value if run.open_loop else "unknown",
    )  # fmt: skip


def _stalls(work: Path, mock_cores: tuple[int, ...], cores: tuple[int, ...]) -> list[StallPoint]:
    n = round(STALL_RATE * STALL_RUN_S)
    slots = round(STALL_RATE * LATENCY_S)
    schedule = draw("constant", STALL_RATE, n, "stall")
    open_load = {"schedule": schedule, "concurrency": MOST_CONNECTIONS}
    return [
        _stalled("open loop, from intended", work, mock_cores, replace(_load("", n, cores), **open_load)),
        _stalled(f"closed loop of {slots}", work, mock_cores, replace(_load("", n, cores), concurrency=slots)),
    ]


def _stalled(name: str, work: Path, mock_cores: tuple[int, ...], load: LoadRequest) -> StallPoint:
    prefix = ("taskset", "-c", ",".join(map(str, mock_cores))) if mock_cores else ()
    flags = ("--stall-at", f"{STALL_AT_S:g}", "--stall-for", f"{STALL_S:g}", "--stamps", str(work / "stamps.json"))
    with MockProcess(*SHAPE.mock_flags, *flags, prefix=prefix) as mock:
        run = StreamClient().run(replace(load, url=mock.url), workdir=work)
        rows = mock.stamps()
    assert run.t0_monotonic_ns is not None
    begin = (min(row["read_ns"] for row in rows) - run.t0_monotonic_ns) * NS + STALL_AT_S
    return _stall_point(name, run.records, begin)


def _stall_point(name: str, records: Sequence[RequestRecord], begin: float) -> StallPoint:
    """A closed loop's latency is from its send, which is the moment it meant to."""
    ttft = np.array([(r.chunk_ns[0] - r.intended_ns) / 1e6 for r in records if r.ok])
    e2e = np.array([(r.done_ns - r.intended_ns) / 1e6 for r in records if r.ok])
    meant = np.array([r.intended_ns * NS for r in records])
    # In flight when it began, or meant while it lasted (but for its last 0.1 s, which make nobody late).
    inside = (meant >= begin - LATENCY_S) & (meant < begin + STALL_S - LATE_S)
    p50, p90, p99 = (float(x) for x in np.percentile(e2e, (50, 90, 99)))
    late = float(np.mean(e2e > (LATENCY_S + LATE_S) * 1e3))
    return StallPoint(
        name, len(records), float(np.percentile(ttft, 99)), float(ttft.max()), p50, p90, p99, float(e2e.max()), late,
        float(np.mean(inside)),
    )  # fmt: skip


def open_checks(section: OpenSection) -> list[tuple[str, bool, str]]:
    """(bar, passed, found) of each."""
    found = []
    for rate in dict.fromkeys(p.rate for p in section.points):
        mine = [p for p in section.points if p.rate == rate and p.client == StreamClient.name]
        error, lag, read = (
            float(np.median([getattr(p, k) for p in mine]))
            for k in ("ttft_error_p50_ms", "send_lag_p50_ms", "read_rate")
        )
        found += [
            (f"open loop at {rate:g} req/s: TTFT p50 error below 1 ms", abs(error) < 1, f"{error:+.3f}"),
            (f"open loop at {rate:g} req/s: send lag p50 below 0.5 ms", lag < 0.5, f"{lag:.3f}"),
            (f"open loop at {rate:g} req/s: the server read 99% of it", read > 0.99 * rate, f"{read:.3f}"),
        ]
    opened, closed = section.stalls
    told = f"{opened.late_share:.1%} late, {opened.meant_in_stall:.1%} in flight or meant"
    found += [
        ("a stall is in the open loop's latencies, 1.95 s at least", opened.ttft_max_ms > 1950, f"{opened.ttft_max_ms:.0f} ms"),
        ("as many requests are late as were in flight or meant in the stall", abs(opened.late_share - opened.meant_in_stall) < 0.01, told),
        ("a closed loop shows less than half of them", closed.late_share < opened.late_share / 2, f"{closed.late_share:.1%}"),
    ]  # fmt: skip
    return found


def open_lines(section: OpenSection) -> list[str]:
    """The two tables in Markdown, medians over rounds."""
    heads = [
        "client",
        "req/s asked",
        "n",
        "req/s read",
        "send lag p50",
        "p99",
        "TTFT error p50",
        "p99",
        "arrival p50",
        "p99",
        "client is",
    ]
    lines = ["## Open loop", "", _row(heads), "|---" * len(heads) + "|"]
    for rate, client in dict.fromkeys((p.rate, p.client) for p in section.points):
        lines.append(_row(_cells([p for p in section.points if (p.rate, p.client) == (rate, client)])))
    heads = [
        f"a stall of {STALL_S:g} s",
        "n",
        "TTFT p99",
        "max",
        "E2E p50",
        "p90",
        "p99",
        "max",
        "late",
        "meant for it",
    ]
    lines += ["", _row(heads), "|---" * len(heads) + "|"]
    for s in section.stalls:
        times = [
            f"{t:.0f}" for t in (s.ttft_p99_ms, s.ttft_max_ms, s.e2e_p50_ms, s.e2e_p90_ms, s.e2e_p99_ms, s.e2e_max_ms)
        ]
        lines.append(_row([s.client, str(s.requests), *times, f"{s.late_share:.1%}", f"{s.meant_in_stall:.1%}"]))
    about = f"{STALL_RATE:g} req/s on a server that freezes from {STALL_AT_S:g} s to {STALL_AT_S + STALL_S:g} s of {STALL_RUN_S:g} s"
    note = f"Times in ms. Send lag: sent minus intended, which only ours tells. Stall: {about}. Late: 0.1 s and more."
    return [*lines, "", note, ""]


def _cells(runs: Sequence[OpenPoint]) -> list[str]:
    names = (
        "send_lag_p50_ms",
        "send_lag_p99_ms",
        "ttft_error_p50_ms",
        "ttft_error_p99_ms",
        "arrival_error_p50_ms",
        "arrival_error_p99_ms",
    )
    middle = [float(np.median([getattr(p, name) for p in runs])) for name in names]
    first = runs[0]
    read = float(np.median([p.read_rate for p in runs]))
    shown = [f"{x:+.3f}" if np.isfinite(x) else "-" for x in middle]
    said = ", ".join(sorted({p.validity for p in runs}))
    return [first.client, f"{first.rate:g}", str(first.requests), f"{read:.2f}", *shown, said]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
