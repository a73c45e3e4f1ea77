"""How far a client misreports: what its records say, held against when the server really sent each chunk. Pure.

The truth is the mock's own stamps, taken right before each system call that sends a chunk, so that the mock's lateness
is no client's error. A request is found again by its prompt's first word, which is its index.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from profile_and_optimize.core.records import ClientRun, RequestRecord

NS = 1e-9
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """What the server did with one request: when it had read it and when it sent each content chunk, in nanoseconds."""

    read_ns: int
    chunk_ns: tuple[int, ...]
    tokens: int

    @property
    def tpot_s(self) -> float | None:
        spread = self.chunk_ns[-1] - self.chunk_ns[0]
        return spread * NS / (self.tokens - 1) if self.tokens > 1 and len(self.chunk_ns) > 1 else None


def sent_of(stamps: Iterable[Mapping[str, Any]]) -> dict[int, Sent]:
    """The mock's stamps by request index. Raises ValueError when two requests carry one number, or a prompt carries none."""
    found: dict[int, Sent] = {}
    for row in stamps:
        tag = str(row["tag"])
        if not tag.isdecimal() or int(tag) in found:
            raise ValueError(f"the mock saw a request {tag!r} that is not ours, or twice")
        found[int(tag)] = Sent(row["read_ns"], tuple(row["chunk_ns"]), row["tokens"])
    return found


@dataclass(frozen=True, slots=True)
class RunError:
    """One run. Seconds; an error is what the client reported less what happened, its percentiles over the requests
    (TPOT: the difference of the medians). `arrival` is the first chunk's time stamp less its actual send, known where both
    are on one clock. `request_rate` is the client's own, `deliverable_rate` what the server could have given: slots
    by the mean time a request was served. None is unknown.
    """

    requests: int
    failed: int
    ttft_p50_s: float
    ttft_p99_s: float
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    tpot_error_p50_s: float | None
    e2e_error_p50_s: float
    e2e_error_p99_s: float
    arrival_error_p50_s: float | None
    arrival_error_p99_s: float | None
    request_rate: float
    deliverable_rate: float
    cpu_us_per_token: float | None

    @property
    def lost(self) -> float:
        """Share of the requests per second that the server could have given and the client did not take."""
        return 1.0 - self.request_rate / self.deliverable_rate


def run_error(run: ClientRun, sent: Mapping[int, Sent]) -> RunError:
    """Raises ValueError when no request was answered, or one that the server never saw was."""
    good = [r for r in run.records if r.ok]
    unseen = [r.index for r in good if r.index not in sent]
    if not good or unseen:
        raise ValueError(f"request {unseen[0]} is not in the server's stamps" if unseen else "no request was answered")
    pairs = [(r, sent[r.index]) for r in good]
    reported = [_ttft(r) for r in good]
    ttft = [_ttft(r) - (s.chunk_ns[0] - s.read_ns) * NS for r, s in pairs]
    e2e = [(r.done_ns - r.sent_ns - (s.chunk_ns[-1] - s.read_ns)) * NS for r, s in pairs]
    t0 = run.t0_monotonic_ns
    arrival = [] if t0 is None else [(r.chunk_ns[0] + t0 - s.chunk_ns[0]) * NS for r, s in pairs]
    served = [(s.chunk_ns[-1] - s.read_ns) * NS for s in sent.values() if s.chunk_ns]
    return RunError(
        requests=len(run.records), failed=len(run.records) - len(good), ttft_p50_s=_at(reported, 50), ttft_p99_s=_at(reported, 99),
        ttft_error_p50_s=_at(ttft, 50), ttft_error_p99_s=_at(ttft, 99), tpot_error_p50_s=_tpot_error(pairs),
        e2e_error_p50_s=_at(e2e, 50), e2e_error_p99_s=_at(e2e, 99),
        arrival_error_p50_s=_at(arrival, 50) if arrival else None, arrival_error_p99_s=_at(arrival, 99) if arrival else None,
        request_rate=len(good) / run.probe.wall_s,
        deliverable_rate=min(run.concurrency, len(run.records)) / float(np.mean(served)),
        cpu_us_per_token=_cpu_us(run, sum(s.tokens for s in sent.values())),
    )  # fmt: skip


def _ttft(r: RequestRecord) -> float:
    return (r.chunk_ns[0] - r.sent_ns) * NS


def _tpot_error(pairs: Sequence[tuple[RequestRecord, Sent]]) -> float | None:
    reported = [
        (r.chunk_ns[-1] - r.chunk_ns[0]) * NS / (r.completion_tokens - 1)
        for r, _ in pairs
        if r.completion_tokens is not None and r.completion_tokens > 1 and len(r.chunk_ns) > 1
    ]
    actual = [t for _, s in pairs if (t := s.tpot_s) is not None]
    return _at(reported, 50) - _at(actual, 50) if reported and actual else None


def _cpu_us(run: ClientRun, tokens: int) -> float | None:
    """From the first request to the end of the client, its parsing included."""
    cpu, parse = run.probe.cpu_s, run.probe.parse_cpu_s
    return None if cpu is None or parse is None or not tokens else (cpu + parse) / tokens * 1e6


def _at(values: Sequence[float], percentile: float) -> float:
    return float(np.percentile(values, percentile))


@dataclass(frozen=True, slots=True)
class ClientError:
    """The stored calibration of one client at one concurrency on one machine: medians over `rounds` runs. Seconds,
    requests per second, microseconds of CPU; None is unknown.

    `ttft_s`, `itl_s`, `osl`, `isl` and `api` are what the mock was told to be. `others_cores` is how many cores other
    processes used meanwhile; `loud` says what was too loud for a calibration, empty on a quiet machine.
    """

    client: str
    version: str
    node: str
    concurrency: int
    requests: int
    rounds: int
    at_unix_s: float
    client_cores: tuple[int, ...]
    cores_total: int | None
    others_cores: float | None
    load_average_1m: float | None
    loud: tuple[str, ...]
    ttft_s: float
    itl_s: float
    osl: int
    isl: int
    api: str
    failed: int
    ttft_error_p50_s: float
    ttft_error_p99_s: float
    tpot_error_p50_s: float | None
    e2e_error_p50_s: float
    e2e_error_p99_s: float
    lost: float
    request_rate: float
    cpu_us_per_token: float | None

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.rounds < 1 or not self.client or not self.version or not self.node:
            raise ValueError("a calibration names its client, version, node, a concurrency and at least one round")

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self.at_unix_s))

    def fits(self, client: str, version: str, concurrency: int) -> bool:
        return (self.client, self.version, self.concurrency) == (client, version, concurrency)

    def words(self) -> str:
        """One line for a reason or a report."""
        tpot = "unknown" if self.tpot_error_p50_s is None else f"{self.tpot_error_p50_s * 1e3:+.2f} ms"
        return (
            f"{self.client} {self.version} at concurrency {self.concurrency} was off by TTFT p50 {self.ttft_error_p50_s * 1e3:+.1f} ms, "
            f"p99 {self.ttft_error_p99_s * 1e3:+.1f} ms, TPOT p50 {tpot}, E2E p50 {self.e2e_error_p50_s * 1e3:+.1f} ms, and lost "
            f"{self.lost:.1%} of the requests/s{self._faults()} (calibrated {self.date} on {self.node})"
        )

    def _faults(self) -> str:
        failed = f"; {self.failed} of {self.requests} requests failed" if self.failed else ""
        return failed + (f"; NOT A QUIET MACHINE: {'; '.join(self.loud)}" if self.loud else "")

    def printed(self) -> dict[str, Any]:
        """For people and for result JSON: milliseconds."""
        times = {
            "ttft_error_p50_ms": self.ttft_error_p50_s, "ttft_error_p99_ms": self.ttft_error_p99_s,
            "tpot_error_p50_ms": self.tpot_error_p50_s, "e2e_error_p50_ms": self.e2e_error_p50_s,
            "e2e_error_p99_ms": self.e2e_error_p99_s, "mock_ttft_ms": self.ttft_s, "mock_itl_ms": self.itl_s,
        }  # fmt: skip
        plain = (
            "client", "version", "node", "date", "concurrency", "requests", "rounds", "failed", "lost", "request_rate", "cpu_us_per_token",
            "osl", "isl", "api", "cores_total", "others_cores", "load_average_1m",
        )  # fmt: skip
        lists = {"client_cores": list(self.client_cores), "loud": list(self.loud)}
        return (
            {k: getattr(self, k) for k in plain} | {k: None if v is None else v * 1e3 for k, v in times.items()} | lists
        )

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": "client calibration", **asdict(self)}


def client_error_from_json(data: Any) -> ClientError:
    """The inverse of `to_json`. Raises ValueError for anything else."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or data.get("kind") != "client calibration":
        raise ValueError(f"not a client calibration of schema {SCHEMA}")
    values = {f.name: data[f.name] for f in fields(ClientError) if f.name in data}
    if len(values) < len(fields(ClientError)):
        raise ValueError("a client calibration that lacks fields")
    return ClientError(**values | {"client_cores": tuple(values["client_cores"]), "loud": tuple(values["loud"])})
