"""A finished run as large as wanted, written by the product's own writers: what `verify_speed.py` gives to verify.

One session of every cell in a race, each at several points, then the confirmation of the finalists. No server and no client
ran: the records are drawn, with every book and clock that verify holds against them.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.asked import asked_by_plan, made_prompts
from profile_and_optimize.campaign.evidence_of import FINALISTS, load_evidence
from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.campaign.race import replay
from profile_and_optimize.campaign.session import prompt_ids
from profile_and_optimize.campaign.timing import freeze
from profile_and_optimize.clients.prompts import Calibration, PromptMaker
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.context import context
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientProbe, ClientRun
from profile_and_optimize.core.trial import Stage, TrialKey
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.trialfile import TrialFile, encode, encode_raw, raw_path, trial_path
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.testing.living import BOOTED_S, LivingClock, bytes_of

SLOTS = 8
TTFT_S, ITL_S = 0.05, 0.01
BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """`cells` with `points` trials each in the race, `requests` in a trial, `chunks` in an answer. `remade`:
    the prompts are of a kind that verify draws again, as for servers without a tokenizer beside them."""

    cells: int = 1000
    points: int = 4
    requests: int = 100
    chunks: int = 64
    remade: bool = False


def build(path: Path, size: Size, seed: int = 1) -> Path:
    """Write the run, its aggregates, its pick and its pages."""
    clock = LivingClock()
    with without_fsync():
        folder = RunFolder(path, clock)
        Builder(folder, clock, size, seed).write()
        folder.close()
        ev = load_evidence(path)
        publish(ev, decide(ev))
    return path


@contextmanager
def without_fsync() -> Iterator[None]:
    """Nobody is hurt if this run is lost to a power cut, and it is built ten times faster."""
    real, os.fsync = os.fsync, lambda _: None
    try:
        yield
    finally:
        os.fsync = real


def draft_of(size: Size) -> Plan:
    names = [f"c{i:04d}" for i in range(1, size.cells - 1)]
    arms = (
        Arm("baseline", "mock", Role.BASELINE),
        Arm("again", "mock", Role.AA),
        *(Arm(n, "mock", Role.CANDIDATE, ("--seed", n[1:]), lever=f"seed {n[1:]}") for n in names),
    )
    points = tuple(
        Point(Workload(f"w{i}", isl=64 + i, osl=size.chunks, api="completions"), SLOTS, size.requests)
        for i in range(size.points)
    )
    return Plan(
        slug="large", model="mock", focus="throughput", arms=arms, points=points, blocks=BLOCKS, seed=7, suite="own", race_rounds=1,
        budget_s=3600.0, tokenizer="" if size.remade else "model",
    )  # fmt: skip


class Builder:
    """Does in order what a campaign does, and lets the clock run."""

    def __init__(self, folder: RunFolder, clock: LivingClock, size: Size, seed: int) -> None:
        self.folder, self.clock, self.size = folder, clock, size
        self.rng = np.random.default_rng(seed)
        self.draft = draft_of(size)
        self.maker = PromptMaker(None, Calibration(0.0))
        self.pace = {a.id: float(np.exp(self.rng.normal(0, 0.03))) for a in self.draft.arms}
        self.prompts: dict[tuple[Stage, int, str], tuple[str, tuple[str, ...]]] = {}
        self.commands: set[str] = set()

    def write(self) -> None:
        self._json("draft.json", self.draft.to_json(), "campaign_init")
        self._json("calibration.json", self.maker.calibration.to_json(), "campaign")
        plan = self._admit()
        for block, arms in replay(plan, (), {}, {}).rounds[0].blocks.items():
            self.folder.event("race_block", block=block, order=list(arms))
            self._sessions(plan, Stage.RACE, block, arms)
        race = load_evidence(self.folder.path).race
        assert race is not None and race.finalists
        self._json(FINALISTS, {"schema": 1, "finalists": list(race.finalists), "rounds": 1}, "campaign")
        final = plan.confirming(race.finalists)
        for block in range(1, BLOCKS * len(final.groups) + 1):
            order = session_order(final, block)
            self.folder.event("block", block=block, order=list(order))
            self._sessions(final, Stage.CONFIRM, block, order)

    def _admit(self) -> Plan:
        admissions = {}
        for arm in self.draft.arms:
            self._session(arm.id, "admission")
            probe = {} if arm.role is Role.AA else {p.key: 8.0 for p in self.draft.points}
            admissions[arm.id] = {"start_s": 1.0, "up_s": 1.0, "stop_s": 0.2, "probe_s": probe, "total_s": 41.2}
            self.clock.take(41.2)
            self._json(f"cells/{arm.id}/admission.json", admissions[arm.id], "campaign")
        plan, _ = freeze(self.draft, (), admissions, None, {})
        self._json("plan.json", plan.to_json(), "campaign")
        return plan

    def _sessions(self, plan: Plan, stage: Stage, block: int, arms: tuple[str, ...]) -> None:
        for arm in arms:
            self._session(arm, f"{'b' if stage is Stage.CONFIRM else 'r'}{block:03d}-{arm}")
            self.clock.take(1.0)
            self.folder.event(
                "settled", stage=stage, block=block, arm=arm, waited_s=1.0, quiet=True, foreign_cores=0.01
            )
            for point in plan.points:
                self._trial(plan, point, TrialKey(block, arm, point.key, 1, stage))

    def _session(self, arm: str, label: str) -> None:
        if arm not in self.commands:
            self.commands.add(arm)
            argv = ["mock", "--port", "PORT", *self.draft.arm(arm).flags]
            self._json(f"cells/{arm}/commands/serve.json", {"argv": argv, "env": {}, "cores": [0]}, "campaign")
        self.folder.event("session", arm=arm, label=label)

    def _trial(self, plan: Plan, point: Point, key: TrialKey) -> None:
        prompts, ids = self._prompts(plan, point, key)
        self.folder.event("trial_began", path=trial_path(key))
        rows = self._records(point, self.pace[key.arm])
        self.clock.take(0.5)
        wall = int(rows.done_ns.max()) / 1e9
        begun = self.clock.at
        self.clock.take(wall)
        run = self._run(rows, wall, begun)
        file = TrialFile(
            key=key, run=run, requests_asked=point.requests, started_at=begun - 0.3, ended_at=self.clock.at + 0.1,
            counters=_counters(rows), context=self._context(plan, point, key.arm), prompts_digest=prompts, start_s=1.0,
            prompt_ids=ids, machine={"window_s": wall + 0.4, "clock_step_s": 0.0, "foreign_cores": 0.0, "steal_share": 0.0},
        )  # fmt: skip
        self.clock.take(0.2)
        kept = tuple(bytes_of(rows[i]) for i in range(0, point.requests, 50))
        self.folder.write(raw_path(key), encode_raw(kept), producer="campaign")
        self.folder.write(trial_path(key), encode(file), producer="campaign", inputs=("plan.json",))

    def _run(self, rows: Records, wall: float, begun: float) -> ClientRun:
        area = int((rows.done_ns - rows.sent_ns).sum()) / 1e9
        lag = tuple(int(x) for x in self.rng.integers(5_000, 60_000, round(wall / 0.01)))
        probe = ClientProbe(
            wall_s=wall, cpu_s=0.03 * wall, parse_cpu_s=0.1, loop_lag_ns=lag, run_queue_wait_s=0.001 * wall, in_flight_s=area,
            scheduler="fifo", cores=(1,), connections=SLOTS, reconnects=0, reads=int(rows.chunks.sum()), coalesced_reads=0,
            threads="event loop; one blocked on stdin",
        )  # fmt: skip
        return ClientRun(begun, SLOTS, rows, probe, t0_monotonic_ns=round((begun - BOOTED_S) * 1e9))

    def _records(self, point: Point, pace: float) -> Records:
        """A closed loop over drawn answers; the pace of a cell stretches all of its times."""
        n, chunks = point.requests, self.size.chunks
        ttft = self.rng.normal(TTFT_S, 0.001, n) * pace * 1e9
        gaps = (self.rng.normal(ITL_S, 0.0003, (n, chunks - 1)) * pace * 1e9).astype(np.int64)
        took = ttft.astype(np.int64) + gaps.sum(axis=1)
        free = [0] * SLOTS
        intended = np.empty(n, dtype=np.int64)
        for i in range(n):
            intended[i] = heapq.heappop(free)
            heapq.heappush(free, int(intended[i]) + 20_000 + int(took[i]))
        sent = intended + 20_000
        first = sent + ttft.astype(np.int64)
        same = {"prompt_tokens": point.workload.isl, "completion_tokens": chunks, "status": 200, "max_tokens": chunks}
        numbers = {
            "index": np.arange(n),
            "intended_ns": intended,
            "sent_ns": sent,
            "done_ns": sent + took,
            "first_byte_ns": first,
        }
        return Records(
            {**numbers, **{k: np.full(n, v) for k, v in same.items()}}, {"finish_reason": ["length"] * n, "error": [None] * n},
            chunks=np.full(n, chunks), first_ns=first, gaps_ns=gaps.reshape(-1),
        )  # fmt: skip

    def _prompts(self, plan: Plan, point: Point, key: TrialKey) -> tuple[str, tuple[str, ...]]:
        place = (key.stage, key.block, key.point)
        if place not in self.prompts:
            drawn = made_prompts(plan, self.maker, point, key, "")
            ids = prompt_ids((*drawn.warmup, *drawn.timed))
            self.prompts[place] = digest("\0".join(drawn.timed).encode()), ids
        return self.prompts[place]

    def _context(self, plan: Plan, point: Point, arm: str) -> dict[str, dict[str, str]]:
        asked = {**asked_by_plan(plan, plan.arm(arm), point), "client_cores": "1", "cores_bound": "0"}
        seen = {
            "node": "bench", "hardware": "cpu:drawn", "gpu_ids": "none", "driver": "none (cpu)", "kernel": "Linux", "python": "3.11",
            "cores_total": "2", "memory_total_bytes": "0", "engine_version": "mock 1", "delivery": "mock: no model behind it",
            "served_model": "model", "client": "stream", "client_version": "1", "client_scheduler": "fifo", "client_cores": "1",
        }  # fmt: skip
        return context(asked, seen).to_json()

    def _json(self, rel: str, value: object, producer: str) -> None:
        self.folder.write_json(rel, value, producer=producer)


def _counters(rows: Records) -> dict[str, float]:
    assert (rows.completion_tokens != MISSING).all()
    n = len(rows)
    means = {
        "vllm:time_to_first_token_seconds": (rows.first_ns - rows.sent_ns) * 0.999e-9,
        "vllm:e2e_request_latency_seconds": (rows.done_ns - rows.sent_ns) * 0.999e-9,
        "vllm:request_time_per_output_token_seconds": rows.span_ns * 1e-9 / (rows.completion_tokens - 1),
    }
    histograms = {f"{k}_sum": float(v.sum()) for k, v in means.items()} | {f"{k}_count": float(n) for k in means}
    return {
        "vllm:generation_tokens_total": float(rows.completion_tokens.sum()),
        "vllm:prompt_tokens_total": float(rows.prompt_tokens.sum()), "vllm:request_success_total": float(n), **histograms,
    }  # fmt: skip
