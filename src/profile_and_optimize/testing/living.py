"""A campaign on fakes whose clocks run and whose books agree, as those of a real one do: what verify is tried on.

The server keeps counters, the client every count that ours keeps and the bytes of some answers, the machine both clocks.
Everything follows from the plan's seed; nothing waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.guard import Guard, Reading
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientRun, RawResponse, RequestRecord
from profile_and_optimize.engines.base import Counters, Server, ServeSpec
from profile_and_optimize.engines.smoke import Answer
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_ask, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

LAG_PERIOD_S = 0.01
START_S, STOP_S, SETUP_S = 1.0, 0.2, 0.3
BOOTED_S = 1_789_990_000.0
BROKEN = {"broken": "ValueError: --explode is not supported on this device"}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class LivingClock(FakeClock):
    """Both clocks: `at` is the wall's, the monotonic one counts from the machine's start. `step` sets the wall's alone."""

    stepped: float = 0.0

    def take(self, seconds: float) -> None:
        self.at += seconds

    def step(self, seconds: float) -> None:
        self.at += seconds
        self.stepped += seconds

    @property
    def monotonic(self) -> float:
        return self.at - self.stepped - BOOTED_S


@dataclass(frozen=True)
class LivingEngine(FakeEngine):
    """Takes its time to start and stop, and counts what it served under vLLM's names. Every start leaves a log: that of its
    arm in `logs`, which are of the release they name."""

    clock: LivingClock = field(default_factory=LivingClock)
    books: dict[str, float] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    release: str = "1.0"

    def version(self) -> dict[str, str]:
        return {**super().version(), "engine_version": self.release}

    def start(self, spec: ServeSpec) -> Server:
        self.clock.take(START_S)
        self.books.clear()
        said = self.logs.get(spec.arm.id, "")
        spec.log.write_text(f"start {self.started[spec.arm.id] + 1} of {spec.arm.id}\n{said}")
        return super().start(spec)

    def counters(self, server: Server) -> Counters:
        return Counters(dict(self.books))

    def stop(self, server: Server) -> None:
        self.clock.take(STOP_S)


@dataclass
class LivingClient(FakeClient):
    """Plays our client: its name, its counts, its sample of response bytes."""

    name: str = "stream"
    clock: LivingClock = field(default_factory=LivingClock)
    books: dict[str, float] = field(default_factory=dict)

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        run = super().run(load, workdir=workdir)
        self.clock.take(SETUP_S)
        began = replace(run, t0_unix_s=self.clock.at, t0_monotonic_ns=round(self.clock.monotonic * 1e9))
        self.clock.take(run.probe.wall_s)
        _count(self.books, run.records)
        lags = (self.lag_ns,) * round(run.probe.wall_s / LAG_PERIOD_S)
        good = [r for r in run.records if r.ok][:: load.keep_raw_every]
        kept = sorted((*(bytes_of(r) for r in good), *run.raw), key=lambda r: r.index)
        return replace(began, probe=replace(run.probe, loop_lag_ns=lags), raw=tuple(kept))


@dataclass
class LivingMachine:
    """Quiet, with clocks that are those of the campaign."""

    clock: LivingClock

    def read(self, server: int | None) -> Reading:
        at = self.clock.monotonic
        return Reading(wall_s=self.clock.at, monotonic_s=at, cores=2, busy_s=at, ours_s=at, steal_s=0.0)

    def clocks_mhz(self) -> tuple[float, ...]:
        return ()


def _count(books: dict[str, float], records: Mapping[int, RequestRecord] | tuple[RequestRecord, ...] | object) -> None:
    """What a server enters over the good requests: everything a little earlier than the client sees it."""
    assert isinstance(records, tuple)
    good = [r for r in records if r.ok]
    sums = {
        "vllm:generation_tokens_total": sum(r.completion_tokens or 0 for r in good),
        "vllm:prompt_tokens_total": sum(r.prompt_tokens or 0 for r in good),
        "vllm:request_success_total": len(good),
    }
    histograms = {
        "vllm:time_to_first_token_seconds": [(r.chunk_ns[0] - r.sent_ns) * 0.999e-9 for r in good],
        "vllm:e2e_request_latency_seconds": [(r.done_ns - r.sent_ns) * 0.999e-9 for r in good],
        "vllm:request_time_per_output_token_seconds": [
            (r.chunk_ns[-1] - r.chunk_ns[0]) * 1e-9 / (r.completion_tokens - 1)
            for r in good if r.completion_tokens and r.completion_tokens > 1
        ],
    }  # fmt: skip
    for name, values in histograms.items():
        sums |= {f"{name}_sum": sum(values), f"{name}_count": len(values)}
    for name, value in sums.items():
        books[name] = books.get(name, 0.0) + value


def bytes_of(record: RequestRecord) -> RawResponse:
    """An answer whose bytes parse to this record."""
    reads = []
    for i, at in enumerate(record.chunk_ns):
        last = i == len(record.chunk_ns) - 1
        choice = {"index": 0, "delta": {"content": " tok"}, "finish_reason": record.finish_reason if last else None}
        data = (HEAD if i == 0 else b"") + _chunk(json.dumps({"choices": [choice]}))
        usage = {"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens}
        end = _chunk(json.dumps({"choices": [], "usage": usage})) + _chunk("[DONE]") + b"0\r\n\r\n" if last else b""
        reads.append((at, data + end))
    return RawResponse(record.index, tuple(reads))


def _chunk(data: str) -> bytes:
    body = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


def living_run(
    path: Path, plan: Plan | None = None, *, speeds: Mapping[str, float] | None = None, noise: float = 0.005,
    jitter: float = 0.02, error_every: int = 0, clock: LivingClock | None = None, ask: Callable[..., Answer] = fake_ask,
    fails: Mapping[str, tuple[int, ...]] | None = None, logs: Mapping[str, str] | None = None, release: str = "1.0",
) -> Path:  # fmt: skip
    """Run a campaign on these fakes into `path` and give the path back."""
    clock = clock or LivingClock()
    books: dict[str, float] = {}
    engine = LivingEngine(
        speeds or SPEEDS, BROKEN, clock=clock, books=books, fails=fails or {}, logs=logs or {}, release=release
    )
    client = LivingClient(noise=noise, jitter=jitter, error_every=error_every, clock=clock, books=books)
    plan = plan or replace(synthetic_plan(), client="stream")
    world = replace(
        fake_world(engine, client, clock),
        engines={a.engine: engine for a in plan.arms},
        ask=ask,
        guard=Guard(LivingMachine(clock), sleep=clock.take, limit_s=0.0),
    )
    folder = RunFolder(path, world.now)
    try:
        conduct.open_draft(folder, plan)
        conduct.run(folder, conduct.admit(folder, world), world)
    finally:
        folder.close()
    return path
