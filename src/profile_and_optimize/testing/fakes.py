"""An engine, a client and a clock without a machine behind them: deterministic, instant, and able to fail on demand."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from profile_and_optimize.campaign.guard import Guard, Reading
from profile_and_optimize.campaign.world import World
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse, RequestRecord
from profile_and_optimize.engines.base import Command, Counters, Engine, EngineFailed, Server, ServeSpec
from profile_and_optimize.engines.smoke import Answer

MS = 1_000_000
FAKE_FAILURE = "ValueError: no kernel for this shape"
FAKE_DEATH = "the server was killed by signal 9"


@dataclass(frozen=True)
class FakeEngine:
    """Serves at a speed per arm id: `tpot_ms[arm]`; arms in `broken` cannot start, with that error.

    `fails[arm]` and `dies[arm]` are the numbers (from 1, admission's) of the starts that do not get ready, and of those
    whose server dies before it answers its first timed request. `started` counts them."""

    tpot_ms: Mapping[str, float] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    fails: Mapping[str, Collection[int]] = field(default_factory=dict)
    dies: Mapping[str, Collection[int]] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)
    known_flags: frozenset[str] | None = None
    name: str = "fake"
    restarts: bool = True

    def version(self) -> dict[str, str]:
        return {
            "engine_version": "1.0", "source_commit": "0" * 40, "delivery": "release", "engine_lock": digest(b"fake"),
            "modified_files": "none",
        }  # fmt: skip

    def flags(self) -> frozenset[str] | None:
        return self.known_flags

    def command(self, spec: ServeSpec) -> Command:
        return Command(
            ("fake-serve", spec.model, "--port", str(spec.port), *spec.common_flags, *spec.arm.flags), spec.arm.env
        )

    def start(self, spec: ServeSpec) -> Server:
        if spec.arm.id in self.broken:
            raise EngineFailed(self.broken[spec.arm.id], where=spec.arm.id)
        self.started[spec.arm.id] += 1
        if self.started[spec.arm.id] in self.fails.get(spec.arm.id, ()):
            raise EngineFailed(FAKE_FAILURE, where=spec.arm.id)
        dead = self.started[spec.arm.id] in self.dies.get(spec.arm.id, ())
        # The twin of a pick is as fast as the pick, whose name it carries.
        own = self.tpot_ms.get(spec.arm.id.removesuffix("-again"), 10.0)
        tpot_ms = math.inf if dead else self.tpot_ms.get(spec.arm.id, own)
        return Server(
            url=f"http://fake/{spec.arm.id}/{tpot_ms}", model=spec.served_name, start_s=1.0,
            pid=1 if self.restarts else None,
        )  # fmt: skip

    def observed(self, server: Server) -> dict[str, str]:
        return {"served_model": server.model, "prefix_caching": "False"}

    def counters(self, server: Server) -> Counters:
        return Counters({})

    def lost(self, server: Server) -> str:
        return FAKE_DEATH if _is_dead(server.url) else ""

    def stop(self, server: Server) -> None:
        return None


def _is_dead(url: str) -> bool:
    """A fake server says in its address how fast it is; one that dies never answers."""
    return math.isinf(float(url.rsplit("/", 1)[1]))


@dataclass
class FakeClient:
    """Plays the engine behind a fake URL. Every time follows from URL and prompts, so the same run gives the same records.

    `noise` is the sd of the log of a trial's speed, `jitter` that of one token's time; `lag_ns` is the loop lag it reports of itself.
    """

    noise: float = 0.005
    jitter: float = 0.0
    lag_ns: int = 20_000
    error_every: int = 0
    name: str = "fake-client"
    version: str = "1"
    runs: list[str] = field(default_factory=list)

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        self.runs.append(load.url)
        rng = random.Random(f"{load.url}{digest(''.join(load.prompts).encode())}")
        tpot = float(load.url.rsplit("/", 1)[1]) * math.exp(rng.gauss(0.0, self.noise))
        dead = _is_dead(load.url)
        answering = closed_loop if load.schedule is None else open_loop
        made = _refused(load) if dead else answering(load, tpot, self.error_every)
        records = made if dead or not self.jitter else jittered(made, load, rng, self.jitter)
        wall = max(r.done_ns for r in records) / 1e9
        area = sum(r.done_ns - r.sent_ns for r in records) / 1e9
        tokens = sum(r.completion_tokens or 0 for r in records)
        probe = ClientProbe(
            wall_s=wall, cpu_s=tokens * 5e-6, parse_cpu_s=tokens * 5e-6, loop_lag_ns=(self.lag_ns,) * 8, run_queue_wait_s=0.0,
            in_flight_s=area, scheduler="fake", cores=(), connections=load.concurrency, reconnects=0, reads=tokens, coalesced_reads=0,
        )  # fmt: skip
        raw = tuple(RawResponse(r.index, _refusal(r.first_byte_ns)) for r in records if not r.ok)
        return ClientRun(
            0.0,
            load.concurrency,
            records,
            probe,
            raw,
            arrival=load.arrival,
            request_rate=load.request_rate,
            ignore_eos=load.ignore_eos,
        )


def closed_loop(load: LoadRequest, tpot_ms: float, error_every: int) -> tuple[RequestRecord, ...]:
    """Slots that take the next prompt when free; first token after 5 token times, then one a token time."""
    free = [0] * load.concurrency
    records = []
    for i in range(len(load.prompts)):
        slot = free.index(min(free))
        records.append(_record(load, i, free[slot], tpot_ms, error_every))
        free[slot] = records[-1].done_ns
    return tuple(records)


def _refusal(at: int | None) -> tuple[tuple[int, bytes], ...]:
    return () if at is None else ((at, b"HTTP/1.1 500\r\n\r\n"),)


def _refused(load: LoadRequest) -> tuple[RequestRecord, ...]:
    return tuple(
        RequestRecord(i, i * MS, i * MS, (i + 1) * MS, error="connection refused") for i in range(len(load.prompts))
    )


def open_loop(load: LoadRequest, tpot_ms: float, error_every: int) -> tuple[RequestRecord, ...]:
    """Every request at its own time, on a server that is never too busy."""
    assert load.schedule is not None
    return tuple(_record(load, i, at, tpot_ms, error_every) for i, at in enumerate(load.schedule.at_ns))


def jittered(
    records: tuple[RequestRecord, ...], load: LoadRequest, rng: random.Random, sd: float
) -> tuple[RequestRecord, ...]:
    """The same requests, each token a little sooner or later, as on a machine; a closed loop's next requests move with them."""
    free = [0] * load.concurrency
    out = []
    for r in records:
        slot = free.index(min(free))
        sent = free[slot] if load.schedule is None else r.sent_ns
        times = [r.sent_ns, *r.chunk_ns] if r.chunk_ns else [r.sent_ns, r.done_ns]
        at, moved = sent, []
        for a, b in pairwise(times):
            at += max(1, round((b - a) * math.exp(rng.gauss(0.0, sd))))
            moved.append(at)
        first = moved[0] if r.first_byte_ns is not None else None
        chunks = tuple(moved) if r.chunk_ns else ()
        out.append(replace(r, intended_ns=sent, sent_ns=sent, done_ns=at, first_byte_ns=first, chunk_ns=chunks))
        free[slot] = at
    return tuple(out)


def _record(load: LoadRequest, i: int, sent: int, tpot_ms: float, error_every: int) -> RequestRecord:
    step = int(tpot_ms * MS)
    osl = load.osls[i] if load.osls else load.osl
    times = tuple(sent + step * (5 + k) for k in range(osl))
    if error_every and (i + 1) % error_every == 0:
        return RequestRecord(i, sent, sent, times[-1], error="HTTP 500: asked to fail", status=500, max_tokens=osl)
    words = len(load.prompts[i].split()) + 4
    return RequestRecord(i, sent, sent, times[-1], times[0], times, words, osl, 200, "length", max_tokens=osl)


@dataclass
class FakeClock:
    """Wall-clock seconds that stand still unless moved."""

    at: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.at


@dataclass
class FakeMachine:
    """A second passes from one reading to the next, and others use `foreign[i]` of `cores` meanwhile (the last one for ever).

    A machine whose `foreign` is empty shows nothing of its processes. `quota_throttled`, `steal` and the like are what
    grows with every reading.
    """

    foreign: Sequence[float] = (0.0,)
    cores: int = 2
    steal: float = 0.0
    quota_throttled: float = 0.0
    thermal: int = 0
    clock_step: float = 0.0
    clocks: tuple[float, ...] = ()
    readings: int = 0

    def read(self, server: int | None) -> Reading:
        n = self.readings
        self.readings += 1
        others = sum(self.foreign[min(i, len(self.foreign) - 1)] for i in range(n)) if self.foreign else 0.0
        seen = bool(self.foreign)
        return Reading(
            wall_s=n * (1.0 + self.clock_step), monotonic_s=float(n), cores=self.cores, busy_s=0.5 * n + others if seen else None,
            ours_s=0.5 * n if seen and server is not None else None, steal_s=self.steal * n if seen else None,
            thermal_throttles=self.thermal * n, quota_throttled_s=self.quota_throttled * n, others={9: ("neighbour", others)},
        )  # fmt: skip

    def clocks_mhz(self) -> tuple[float, ...]:
        return self.clocks


def fake_ask(
    url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, pinned: bool = False
) -> Answer:
    """Echoes the last word, and counts words plus four as prompt tokens."""
    return Answer(prompt.split()[-1], len(prompt.split()) + 4, 1)


def fake_world(
    engine: FakeEngine, client: FakeClient | None = None, clock: FakeClock | None = None, machine: FakeMachine | None = None
) -> World:  # fmt: skip
    engines: dict[str, Engine] = {"fake": engine}
    return World(
        engines=engines, client=client or FakeClient(), now=clock or FakeClock(), ask=fake_ask,
        host=lambda: {"node": "fake-node", "hardware": "cpu:fake"}, say=lambda _: None, pick_port=lambda: 1,
        guard=Guard(machine or FakeMachine(), sleep=lambda _: None),
    )  # fmt: skip
