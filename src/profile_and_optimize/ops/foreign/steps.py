"""The commands of a backend, in order: a sweep that starts its server is one, everything else is one for each run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from profile_and_optimize.clients.aiperf import RESULTS, AiperfClient
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.external import refuse_unlike, tool_env
from profile_and_optimize.clients.prompts import Calibration, PromptMaker, load_tokenizer
from profile_and_optimize.clients.vllm_sweep import Endpoint, Step, VllmSweep
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.base import Command, Engine, ServeSpec
from profile_and_optimize.engines.process import available_cores
from profile_and_optimize.evidence.redact import HIDDEN, known_secrets, redact
from profile_and_optimize.ops.foreign.wanted import AIPERF, Wanted
from profile_and_optimize.ops.worlds import auth_headers, make_engine
from profile_and_optimize.workloads.draw import draw_prompts

SERVED = "model"


def tool_of(w: Wanted) -> tuple[str, str]:
    """(name, version). Raises WrongUse where it is not installed."""
    if w.backend == AIPERF:
        return "aiperf", AiperfClient(tool_env("aiperf")).version
    return VllmSweep.tool, sweep_of(w).version


def sweep_of(w: Wanted) -> VllmSweep:
    return VllmSweep(tool_env("vllm", w.python))


def engine_of(w: Wanted) -> Engine:
    return make_engine(w.arm.engine, w.python)


def spec_of(w: Wanted, log: Path, port: int) -> ServeSpec:
    plan = w.plan
    return ServeSpec(
        arm=w.arm, model=plan.model, served_name=SERVED, port=port, log=log, common_flags=plan.common_flags,
        common_env=plan.common_env, cores=available_cores(), allow_code=w.allowed,
    )  # fmt: skip


def steps(w: Wanted, at: Endpoint, port: int, work: Path, attempt: int, points: Sequence[Point]) -> Iterator[Step]:
    if w.backend == AIPERF:
        client = AiperfClient(tool_env("aiperf"))
        yield from (_aiperf(client, w, at, p, work / p.key, attempt) for p in points)
    elif w.by_tool:
        serve = engine_of(w).command(spec_of(w, work / "engine.log", port))
        yield sweep_of(w).sweep(w.arm.id, serve, at, points, work, levels=w.levels, runs=w.runs)
    else:
        sweep, key = sweep_of(w), _key()
        for i, p in enumerate(points):
            for n in range(w.runs):
                yield sweep.against(at, p, work, number=n, seed=attempt * 10_000 + i * 100 + n, key=key)


def _aiperf(client: AiperfClient, w: Wanted, at: Endpoint, p: Point, work: Path, attempt: int) -> Step:
    """With prompts of ours, so that none repeats: aiperf's own data set is the same in every run."""
    (work / "home").mkdir(parents=True, exist_ok=True)
    maker = PromptMaker(load_tokenizer(w.tokenizer) if w.tokenizer else None, Calibration(0.0))
    drawn = draw_prompts(p.workload, maker, 0, p.requests, f"{w.plan.seed}/aiperf/{w.arm.id}/{p.key}/{attempt}")
    load = LoadRequest(
        url=at.url, model=at.model, api=p.workload.api, osl=p.workload.osl, concurrency=p.concurrency,
        prompts=drawn.timed, osls=drawn.osls,
        headers=() if w.starts else auth_headers(),
    )  # fmt: skip
    refuse_unlike(load, "aiperf")
    limit_s = client.grace_s + -(-p.requests // p.concurrency) * load.timeout_s
    return Step(p.key, client.command(load, work), (p.key,), limit_s, work / RESULTS, f"BENCH--{p.key}")


def shown(command: Command, work: Path, port: int | None) -> dict[str, Any]:
    """A command as it is written down: without credentials, and with WORK and PORT for what means nothing later."""
    text = json.dumps({"argv": list(command.argv), "env": dict(command.env)}).replace(str(work), "WORK")
    if port is not None:
        for before in ("--port ", '--port", "', "127.0.0.1:"):
            text = text.replace(f"{before}{port}", f"{before}PORT")
    found: dict[str, Any] = json.loads(text)
    ours, key = known_secrets(os.environ), _key()
    env = {k: HIDDEN if v == key else redact(v, ours) for k, v in found["env"].items()}
    return {"argv": [redact(a, ours) for a in found["argv"]], "env": env}


def _key() -> str | None:
    """The token of the endpoint, handed to the tool through its environment."""
    return next((value.partition(" ")[2] for _, value in auth_headers()), None)
