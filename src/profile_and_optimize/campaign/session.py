"""One session: a server of one arm started, warmed, put through every point, and stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.campaign.order import prompt_seed
from profile_and_optimize.campaign.selection import Judged, judge
from profile_and_optimize.campaign.world import World
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.prompts import PromptMaker, dataset_prompts
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.context import context
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import TrialKey
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.prometheus import server_tpot
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.evidence.trialfile import TrialFile, encode, encode_raw, trial_path

WARMUP_OSL = 8
PRODUCER = "campaign"


@dataclass(frozen=True)
class Seat:
    """What stays the same over the sessions of a campaign."""

    folder: RunFolder
    plan: Plan
    world: World
    prompts: PromptMaker

    def say(self, text: str) -> None:
        self.world.say(text)


def serve_spec(plan: Plan, arm: Arm, world: World, log: Path, port: int) -> ServeSpec:
    return ServeSpec(
        arm=arm, model=plan.model, served_name="model" if arm.engine != "endpoint" else plan.model, port=port, log=log,
        common_flags=plan.common_flags, common_env=plan.common_env, cores=world.engine_cores,
    )  # fmt: skip


@contextmanager
def serving(seat: Seat, arm: Arm, label: str) -> Iterator[Server]:
    """A running server of the arm; stopped whatever happens. Its log and command are kept, redacted."""
    engine = seat.world.engine(arm.engine)
    with tempfile.TemporaryDirectory(prefix="pao-") as scratch:
        log = Path(scratch) / "engine.log"
        spec = serve_spec(seat.plan, arm, seat.world, log, seat.world.pick_port() if engine.restarts else 0)
        _keep_command(seat, arm, spec, label)
        try:
            server = engine.start(spec)
            try:
                yield server
            finally:
                engine.stop(server)
        finally:
            _keep_log(seat, arm, log, label)


def run_points(seat: Seat, server: Server, arm: Arm, block: int, before: Sequence[Judged]) -> list[Judged]:
    """Every point of the plan that has no usable trial yet; an invalid trial is run again with new prompts.

    `before` are the trials that this arm has in this block already (a session that was killed and started again).
    """
    out = []
    for point in seat.plan.points:
        mine = [t for t in before if t.key.point == point.key]
        if any(t.usable(seat.plan.primary) for t in mine):
            continue
        tried = max((t.key.attempt for t in mine), default=0)
        for attempt in range(tried + 1, tried + 2 + seat.plan.retries):
            judged = run_trial(seat, server, arm, point, TrialKey(block, arm.id, point.key, attempt))
            out.append(judged)
            if judged.usable(seat.plan.primary) or judged.summary.completed == 0:
                break
            seat.say(f"  trial invalid ({'; '.join(judged.honesty.reasons)}): run again")
    return out


def run_trial(seat: Seat, server: Server, arm: Arm, point: Point, key: TrialKey) -> Judged:
    """Warm up, time one run, write its records before anything else happens."""
    engine, world = seat.world.engine(arm.engine), seat.world
    warm, prompts = prompts_of_trial(seat, arm, point, key, engine.restarts)
    drive(seat, server, point, warm, min(WARMUP_OSL, point.workload.osl))
    before, started = engine.counters(server), world.now()
    run = drive(seat, server, point, prompts, point.workload.osl)
    ended = world.now()
    counters = engine.counters(server).since(before)
    file = TrialFile(
        key=key, run=run, requests_asked=len(prompts), started_at=started, ended_at=ended, counters=counters,
        context=observed_context(seat, server, arm, point, run), prompts_digest=digest("\0".join(prompts).encode()),
        start_s=server.start_s,
    )  # fmt: skip
    if run.raw:
        seat.folder.write(trial_path(key).replace(".json", ".raw.json"), encode_raw(run.raw), producer=PRODUCER)
    seat.folder.write(trial_path(key), encode(file), producer=PRODUCER, inputs=("plan.json",))
    return judge(file, server_tpot(counters))


def prompts_of_trial(
    seat: Seat, arm: Arm, point: Point, key: TrialKey, restarts: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(warm-up, timed) prompts: one short untimed request per slot, then the trial's own. No prompt is in both.

    All arms of a block share them where every session starts a fresh server. A server that stays up would know them the
    second time, so there every arm gets its own.
    """
    seed = prompt_seed(seat.plan, key.block, point.key, key.attempt) + ("" if restarts else f"/{arm.id}")
    if point.workload.dataset != "random":
        return _from_dataset(seat, arm, point, key, restarts)
    isl, make = point.workload.isl, seat.prompts.make
    return make(point.concurrency, isl, seed + "/warm-up"), make(point.requests, isl, seed)


def _from_dataset(
    seat: Seat, arm: Arm, point: Point, key: TrialKey, restarts: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Disjoint slices of one shuffle per session (of the whole campaign where servers stay up)."""
    plan, size = seat.plan, point.concurrency + point.requests
    per_session = sum((p.concurrency + p.requests) * (1 + plan.retries) for p in plan.points)
    before = [p for p in plan.points if p.key < point.key]
    start = sum((p.concurrency + p.requests) * (1 + plan.retries) for p in before) + (key.attempt - 1) * size
    if not restarts:
        arms = sorted(a.id for a in plan.arms)
        start += ((key.block - 1) * len(arms) + arms.index(arm.id)) * per_session
    seed = f"{plan.seed}/dataset" + (f"/{key.block}" if restarts else "")
    found = dataset_prompts(Path(point.workload.dataset), size, seed, start=start, warm=point.workload.warm)
    return found[: point.concurrency], found[point.concurrency :]


def drive(seat: Seat, server: Server, point: Point, prompts: tuple[str, ...], osl: int) -> ClientRun:
    load = LoadRequest(
        url=server.url, model=server.model, api=point.workload.api, prompts=prompts, osl=osl,
        concurrency=min(point.concurrency, len(prompts)), headers=seat.world.headers, cores=seat.world.client_cores,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pao-client-") as scratch:
        return seat.world.client.run(load, workdir=Path(scratch))


def observed_context(seat: Seat, server: Server, arm: Arm, point: Point, run: ClientRun) -> dict[str, dict[str, str]]:
    engine, client, workload = seat.world.engine(arm.engine), seat.world.client, point.workload
    asked = {
        "engine": arm.engine, "flags": " ".join((*seat.plan.common_flags, *arm.flags)) or "engine defaults",
        "env": " ".join(f"{k}={v}" for k, v in (*seat.plan.common_env, *arm.env)) or "none",
        "model": seat.plan.model if arm.engine != "endpoint" else "", "base_model_digest": seat.plan.model_digest, "suite": seat.plan.suite,
        "workload": f"{workload.name} {workload.dataset} isl={workload.isl} osl={workload.osl} {workload.api}",
        "load": f"closed loop, concurrency {point.concurrency}, {point.requests} requests",
        "cache_mode": "warm" if workload.warm else "cold (no prompt repeats in a session)",
        "client_cores": _cores(seat.world.client_cores), "cores_bound": _cores(seat.world.engine_cores),
        "url": arm.url, "compile_cache": "filled before block 1" if engine.restarts else "",
    }  # fmt: skip
    seen = {
        **(seat.world.host() if engine.restarts else {}), **engine.version(), **engine.observed(server), "client": client.name,
        "client_version": client.version, "client_scheduler": run.probe.scheduler, "client_cores": _cores(run.probe.cores),
    }  # fmt: skip
    return context({k: redact(v) for k, v in asked.items()}, {k: redact(v) for k, v in seen.items()}).to_json()


def _cores(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores)) or "unbound"


def _keep_command(seat: Seat, arm: Arm, spec: ServeSpec, label: str) -> None:
    command = seat.world.engine(arm.engine).command(spec)
    # The port differs from start to start and means nothing; a placeholder keeps equal commands equal.
    argv = [
        "PORT" if before == "--port" else redact(a)
        for before, a in zip(("", *command.argv), command.argv, strict=False)
    ]
    shown: Mapping[str, object] = {
        "argv": argv,
        "env": {k: redact(v) for k, v in command.env},
        "cores": list(spec.cores),
    }
    path = f"cells/{arm.id}/commands/serve.json"
    if not (seat.folder.path / path).exists():
        seat.folder.write_json(path, shown, producer=PRODUCER)
    seat.folder.event("session", arm=arm.id, label=label)


def _keep_log(seat: Seat, arm: Arm, log: Path, label: str) -> None:
    if log.exists() and log.stat().st_size:
        text = redact(log.read_bytes()[-200_000:].decode(errors="replace"))
        seat.folder.write(f"cells/{arm.id}/raw/log-{label}.txt", text.encode(), producer="engine")
