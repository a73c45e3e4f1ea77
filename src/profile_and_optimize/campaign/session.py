"""One session: a server of one arm started, warmed, put through every point, and stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from profile_and_optimize.campaign import PRODUCER, client_errors
from profile_and_optimize.campaign.asked import asked_by_plan, made_prompts
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.order import most_race_blocks, prompt_seed
from profile_and_optimize.campaign.selection import Judged, judge
from profile_and_optimize.campaign.starts import ADMISSION, SlowStart, begin, require_alive
from profile_and_optimize.campaign.world import World
from profile_and_optimize.clients.arrivals import Schedule, draw
from profile_and_optimize.clients.base import MOST_CONNECTIONS, LoadRequest
from profile_and_optimize.clients.prompts import PromptMaker
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.context import context
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Stage, TrialKey
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.base import EngineFailed, Server, ServeSpec
from profile_and_optimize.engines.kernels import CUT
from profile_and_optimize.engines.prometheus import server_tpot
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.evidence.trialfile import TrialFile, encode, encode_raw, trial_path
from profile_and_optimize.workloads.draw import Drawn, draw_prompts

WARMUP_OSL = 8
# Kept of a server's log.
LOG_BYTES = 200_000
PROBE_WAVES = 2
# 48 bits: two of a hundred thousand different prompts share one with a chance of two in a hundred thousand.
PROMPT_ID_DIGITS = 12


@dataclass(frozen=True)
class Seat:
    """What stays the same over the sessions of a campaign."""

    folder: RunFolder
    plan: Plan
    world: World
    prompts: PromptMaker
    book: Book

    def say(self, text: str) -> None:
        self.world.say(text)

    def hide(self, text: str) -> str:
        """Text of a server or a log without credentials, as it may be written."""
        return redact(text, self.world.secrets)


def serve_spec(plan: Plan, arm: Arm, world: World, log: Path, port: int) -> ServeSpec:
    return ServeSpec(
        arm=arm, model=plan.model_of(arm), served_name="model" if arm.engine != "endpoint" else plan.model, port=port, log=log,
        common_flags=plan.common_flags, common_env=plan.common_env, cores=world.engine_cores,
        allow_code=world.allow_code,
    )  # fmt: skip


@contextmanager
def serving(
    seat: Seat, arm: Arm, label: str, stage: str = ADMISSION, block: int = 0, limit_s: float = 0.0
) -> Iterator[Server]:
    """A running server of the arm; stopped whatever happens. Its log and command are kept, redacted, and whatever ends it
    other than our stop is written down. Raises SlowStart where it is not ready within `limit_s` (0: as long as the engine takes)."""
    engine = seat.world.engine(arm.engine)
    with tempfile.TemporaryDirectory(prefix="pao-") as scratch:
        log = Path(scratch) / "engine.log"
        spec = serve_spec(seat.plan, arm, seat.world, log, seat.world.pick_port() if engine.restarts else 0)
        spec = replace(spec, start_timeout_s=limit_s) if limit_s else spec
        start = begin(seat.folder, arm.id, label, stage, block, seat.world.secrets)
        try:
            with start.failing():
                server = _started(seat, spec, limit_s)
            _keep_command(seat, arm, spec)
            try:
                with start.dying(lambda: engine.lost(server)):
                    yield server
            finally:
                with start.stopping():
                    engine.stop(server)
        finally:
            _keep_log(seat, arm, log, label)


def _started(seat: Seat, spec: ServeSpec, limit_s: float) -> Server:
    began = seat.world.now()
    try:
        return seat.world.engine(spec.arm.engine).start(spec)
    except EngineFailed as e:
        if limit_s and seat.world.now() - began >= limit_s:
            raise SlowStart(f"not ready after {limit_s:.0f} s, its share of the budget", where=e.where) from e
        _keep_command(seat, spec.arm, spec)
        raise


def run_points(
    seat: Seat, server: Server, arm: Arm, block: int, before: Sequence[Judged], stage: Stage
) -> list[Judged]:
    """Every point of the plan that has no usable trial yet; an invalid trial is run again with new prompts.

    `before` are the trials that this arm has in this block already (a session that was killed and started again).
    """
    _settle(seat, server, arm, block, stage)
    out = []
    for point in seat.plan.points:
        mine = [t for t in before if t.key.point == point.key]
        if any(t.usable(seat.plan.primary) for t in mine):
            continue
        tried = max((t.key.attempt for t in mine), default=0)
        for attempt in range(tried + 1, tried + 2 + seat.plan.retries):
            judged = run_trial(seat, server, arm, point, TrialKey(block, arm.id, point.key, attempt, stage))
            out.append(judged)
            require_alive(seat.world.engine(arm.engine), server, judged.file.run, seat.world.client.name)
            if judged.usable(seat.plan.primary) or judged.summary.completed == 0:
                break
            seat.say(f"  trial unusable ({judged.why_unusable(seat.plan.primary)}): run again")
    return out


def _settle(seat: Seat, server: Server, arm: Arm, block: int, stage: Stage) -> None:
    """Wait for a quiet machine before a session, and write down how that went."""
    wait = seat.world.guard.wait(_tree(seat, server, arm), seat.say)
    seat.folder.event("settled", stage=stage, block=block, arm=arm.id, **wait.to_json())


def _tree(seat: Seat, server: Server, arm: Arm) -> int | None:
    """The server's process tree; None where we started none, so that its work cannot be told from others'."""
    return server.pid if seat.world.engine(arm.engine).restarts else None


def run_trial(seat: Seat, server: Server, arm: Arm, point: Point, key: TrialKey) -> Judged:
    """Warm up, time one run, write its records before anything else happens."""
    engine, world = seat.world.engine(arm.engine), seat.world
    drawn = prompts_of_trial(seat, arm, point, key, engine.restarts)
    drive(seat, server, point, drawn.warmup, min(WARMUP_OSL, point.workload.osl))
    seat.folder.event("trial_began", path=trial_path(key))
    before, started = engine.counters(server), world.now()
    with world.guard.watch(_tree(seat, server, arm)) as machine:
        schedule = schedule_of(seat.plan, point, key)
        run = drive(seat, server, point, drawn.timed, point.workload.osl, schedule, drawn.osls)
    ended = world.now()
    counters = engine.counters(server).since(before)
    file = TrialFile(
        key=key, run=run, requests_asked=len(drawn.timed), started_at=started, ended_at=ended, counters=counters,
        context=observed_context(seat, server, arm, point, run), prompts_digest=digest("\0".join(drawn.timed).encode()),
        start_s=server.start_s, prompt_ids=prompt_ids((*drawn.warmup, *drawn.timed)), machine=machine,
    )  # fmt: skip
    if run.raw:
        seat.folder.write(
            trial_path(key).replace(".json", ".raw.json"), encode_raw(run.raw, world.secrets), producer=PRODUCER
        )
    seat.folder.write(trial_path(key), encode(file, world.secrets), producer=PRODUCER, inputs=("plan.json",))
    return judge(file, server_tpot(counters), client_errors.read(seat.folder.path))


def prompt_ids(prompts: Sequence[str]) -> tuple[str, ...]:
    """A short digest of each prompt, so that one that repeats within a session is found without keeping its text."""
    return tuple(digest(p.encode())[:PROMPT_ID_DIGITS] for p in prompts)


def prompts_of_trial(seat: Seat, arm: Arm, point: Point, key: TrialKey, restarts: bool) -> Drawn:
    """One short untimed request per slot to warm up with, then the trial's own. No prompt is in both.

    All arms of a block share them where every session starts a fresh server. A server that stays up would know them the
    second time, so there every arm gets its own.
    """
    if point.workload.from_file:
        return _from_file(seat, arm, point, key, restarts)
    return made_prompts(seat.plan, seat.prompts, point, key, "" if restarts else arm.id)


def _from_file(seat: Seat, arm: Arm, point: Point, key: TrialKey, restarts: bool) -> Drawn:
    """Disjoint slices of one shuffle per session (of the whole campaign where servers stay up)."""
    plan, size = seat.plan, point.concurrency + point.requests
    per_session = sum((p.concurrency + p.requests) * (1 + plan.retries) for p in plan.points)
    before = [p for p in plan.points if p.key < point.key]
    start = sum((p.concurrency + p.requests) * (1 + plan.retries) for p in before) + (key.attempt - 1) * size
    if not restarts:
        arms = sorted(a.id for a in plan.all_arms)
        earlier = most_race_blocks(plan) if key.stage is Stage.CONFIRM else 0
        start += (
            probe_slice(plan, plan.points[-1], arms[-1])[1]
            + ((earlier + key.block - 1) * len(arms) + arms.index(arm.id)) * per_session
        )
    seed = f"{plan.seed}/dataset" + (f"/{key.stage}/{key.block}" if restarts else "")
    return draw_prompts(point.workload, seat.prompts, point.concurrency, point.requests, seed, start)


def probe_slice(plan: Plan, point: Point, arm: str) -> tuple[int, int]:
    """Where in that one shuffle the prompts begin and end that admission sends to measure an arm's speed at a point."""
    arms = sorted(a.id for a in plan.all_arms)
    each = sum(PROBE_WAVES * p.concurrency for p in plan.points)
    before = sum(PROBE_WAVES * p.concurrency for p in plan.points[: plan.points.index(point)])
    start = arms.index(arm) * each + before
    return start, start + PROBE_WAVES * point.concurrency


def schedule_of(plan: Plan, point: Point, key: TrialKey) -> Schedule | None:
    """When an open loop's requests are sent: the same times for all arms of a block, new ones in the next. None: closed."""
    if point.request_rate is None:
        return None
    return draw("poisson", point.request_rate, point.requests, prompt_seed(plan, key) + "/arrivals")


def drive(
    seat: Seat, server: Server, point: Point, prompts: tuple[str, ...], osl: int, schedule: Schedule | None = None,
    osls: tuple[int, ...] = (),
) -> ClientRun:  # fmt: skip
    """A closed loop over the point's slots (every warm-up and probe is one) unless there is a schedule."""
    load = LoadRequest(
        url=server.url, model=server.model, api=point.workload.api, prompts=prompts, osl=osl,
        concurrency=min(point.concurrency, len(prompts)) if schedule is None else MOST_CONNECTIONS,
        headers=seat.world.headers, cores=seat.world.client_cores, schedule=schedule, osls=osls,
        ignore_eos_fields=server.ignore_eos,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="pao-client-") as scratch:
        return seat.world.client.run(load, workdir=Path(scratch))


def observed_context(seat: Seat, server: Server, arm: Arm, point: Point, run: ClientRun) -> dict[str, dict[str, str]]:
    engine, client = seat.world.engine(arm.engine), seat.world.client
    asked = {
        **asked_by_plan(seat.plan, arm, point), "client_cores": _cores(seat.world.client_cores),
        "cores_bound": _cores(seat.world.engine_cores), "compile_cache": "filled before block 1" if engine.restarts else "",
    }  # fmt: skip
    seen = {
        **(seat.world.host() if engine.restarts else {}), **engine.version(), **server.source, **engine.observed(server),
        "template_tokens": f"{seat.prompts.calibration.overhead:g}", "client": client.name,
        "client_version": client.version, "client_scheduler": run.probe.scheduler, "client_cores": _cores(run.probe.cores),
    }  # fmt: skip
    return context({k: redact(v) for k, v in asked.items()}, {k: seat.hide(v) for k, v in seen.items()}).to_json()


def _cores(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores)) or "unbound"


def _keep_command(seat: Seat, arm: Arm, spec: ServeSpec) -> None:
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


def _keep_log(seat: Seat, arm: Arm, log: Path, label: str) -> None:
    if log.exists() and log.stat().st_size:
        text = seat.hide(ends_of(log, LOG_BYTES).decode(errors="replace"))
        seat.folder.write(f"cells/{arm.id}/raw/log-{label}.txt", text.encode(), producer="engine")


def ends_of(log: Path, most: int) -> bytes:
    """Its first and last whole lines: a server names its kernels as it starts and its errors as it ends. Half a line could
    hold the end of a credential, which nobody would know for one."""
    data = log.read_bytes()
    if len(data) <= most:
        return data
    half = most // 2
    head, tail = data[: data.rfind(b"\n", 0, half) + 1], data[-half:].partition(b"\n")[2]
    return head + f"{CUT} {len(data) - len(head) - len(tail)} bytes]\n".encode() + tail
