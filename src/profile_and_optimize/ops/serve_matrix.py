"""pao serve_matrix: every serving backend that the engines offer for a checkpoint, tried: coherent? how fast? or why not?"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.analysis.matrix import DEBUG, SERVES, lines_of
from profile_and_optimize.campaign.session import serve_spec
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.code_settings import EVERY_ARM, bring_code, refuse_code
from profile_and_optimize.core.errors import Corrupted, GateRefused, PaoError, WrongUse
from profile_and_optimize.core.names import canonical, slug
from profile_and_optimize.core.opens import FLAGS, MODEL, OUT, PATH
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.engines.base import refuse_unknown_flags
from profile_and_optimize.engines.formats import format_of
from profile_and_optimize.evals.exact_match import Question, load_questions
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.folder import RunFolder, new_run_id, workspace
from profile_and_optimize.evidence.manifest import write_manifest
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.ops.acts import serves
from profile_and_optimize.ops.base import Acknowledged, AllowsCode, Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import command_line, opened, refuse_credentials
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.config import fresh_seed
from profile_and_optimize.ops.drafting import checked
from profile_and_optimize.ops.fits import max_length, require_fit
from profile_and_optimize.ops.node import facts
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import Started
from profile_and_optimize.ops.verify_matrix import DERIVED, RESULT, TABLE, derived, encoded, table_of
from profile_and_optimize.ops.worlds import ENGINE_PYTHON, checked_engines, make_world
from profile_and_optimize.optimize.backends import OWN_CHOICE, Offered, find_backends, only, table
from profile_and_optimize.optimize.matrix import KNOWN, Wanted, try_all
from profile_and_optimize.quant.gaps import gaps_of, ranks_in, whole_experts_in

REQUESTS_A_SLOT = 4


class ServeMatrixRequest(AllowsCode, Acknowledged):
    model: Annotated[str, MODEL] = Field(description=says("model"))
    engines: str = Field(default="vllm", description=says("engines"))
    backends: str | None = Field(
        default=None,
        description="backends to try: NAME or ENGINE:NAME, separated by commas; default: all, which --dry-run lists",
    )
    concurrency: str = Field(default="1,4,16", description=says("concurrency", "one trial for each of a list: 1,4,16"))
    requests: int | None = Field(default=None, ge=2, le=100000, description=says("requests"))
    isl: int = Field(default=64, ge=1, le=1_000_000, description=says("isl"))
    osl: int = Field(default=32, ge=2, le=1_000_000, description=says("osl"))
    api: Literal["chat", "completions"] | None = Field(
        default=None, description=says("api", "default: chat where the model has a chat template")
    )
    questions: Annotated[str | None, PATH] = Field(
        default=None, description=says("questions", "default: the model's own eval.jsonl, else four sums")
    )
    ask: int = Field(default=16, ge=1, le=1000, description="how many of the questions are asked")
    engine_flags: Annotated[str | None, FLAGS] = Field(default=None, description=says("engine_flags"))
    engine_python: Annotated[str | None, ENGINE_PYTHON] = Field(default=None, description=says("engine_python"))
    seed: int | None = Field(default=None, description=says("seed"))
    name: str | None = Field(default=None, description=says("name"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


def started(req: ServeMatrixRequest) -> Started:
    """What may be tried of our tables: which of it exists here is known once the engine was asked."""
    arms = tuple(b.arm(e) for e in checked_engines(req.engines) for b in (OWN_CHOICE, *table(e)))
    return Started(arms, tuple(shlex.split(req.engine_flags or "")), choice=True)


def run(req: ServeMatrixRequest, say: Say) -> Result:
    req.require_ack()
    engines = checked_engines(req.engines)
    return matrix_in(req, make_world(engines, say, req.engine_python, allowed=req.allowance), engines)


def matrix_in(req: ServeMatrixRequest, world: World, engines: tuple[str, ...]) -> Result:
    """The same in a world that was made before."""
    flags = tuple(shlex.split(req.engine_flags or ""))
    refuse_code(bring_code(flags, (), EVERY_ARM), world.allow_code)
    wanted = wanted_of(req, world, engines)
    refuse_credentials(canonical(wanted.to_json()).decode())
    if req.dry_run:
        return _dry(wanted, world)
    for gap in wanted.gaps:
        world.say(f"known gap of this model's family: {gap}")
    path = workspace(req.campaigns_dir) / new_run_id(wanted.slug, world.now())
    if path.exists():
        raise WrongUse("this run exists already", where=str(path), next="wait a second, or use another --name")
    RunFolder(path, world.now).close()
    with opened(path) as folder:
        folder.event("created", slug=wanted.slug)
        try:
            try_all(folder, wanted, world)
        finally:  # a stopped run shows what it had
            result = publish(path)
    return _result(path, result)


def publish(path: Path) -> dict[str, Any]:
    """The table from the records, beside them, and the manifest over all. Raises Corrupted for a record that is damaged."""
    result, damaged = derived(path)
    if damaged:
        raise Corrupted(damaged[0], where=str(path), next="run it again")
    write_atomic(path / RESULT, encoded(result))
    write_atomic(path / TABLE, table_of(result))
    write_manifest(path, DERIVED)
    return result


def wanted_of(req: ServeMatrixRequest, world: World, engines: tuple[str, ...]) -> Wanted:
    """Raises WrongUse before anything is started."""
    model = checked(req.model, engines)
    flags = tuple(shlex.split(req.engine_flags or ""))
    form = format_of(model)
    points = _points(req, req.api or api_of(model))
    require_fit([p for p in points[:1]], max_length(model, flags), model, take="a shorter --isl or --osl:")
    known = {e: facts(world, e, model) for e in engines}
    offered = {e: find_backends(e, form, known[e], world.engine(e).flags()) for e in engines}
    gaps = known_gaps(model, form, {e: "cpu" if known[e].cpu else "cuda" for e in engines}, flags)
    for engine in engines:
        refuse_unknown_flags(world.engine(engine), flags, f"--flags, {engine}")
    return Wanted(
        slug=slug(req.name or f"matrix-{Path(model).name}"), model=model, model_digest=model_digest(model), form=form,
        offered=_chosen(req, offered), points=points, questions=_questions(req, model), flags=flags, gaps=gaps,
        seed=req.seed if req.seed is not None else fresh_seed(time.time()),
        tokenizer=model if (Path(model) / "tokenizer.json").is_file() else "",
    )  # fmt: skip


def _chosen(req: ServeMatrixRequest, offered: dict[str, Offered]) -> dict[str, Offered]:
    return only(req.backends, offered) if req.backends else offered


def _points(req: ServeMatrixRequest, api: str) -> tuple[Point, ...]:
    try:
        slots = [int(part) for part in req.concurrency.split(",")]
    except ValueError as e:
        raise WrongUse(
            f"{req.concurrency!r} is not a list of numbers", where="--concurrency", next="--concurrency 1,4,16"
        ) from e
    if len(set(slots)) < len(slots) or not all(0 < c <= 20000 for c in slots):
        raise WrongUse(
            f"{req.concurrency!r} must be numbers of 1 to 20000",
            where="--concurrency",
            next="--concurrency 1,4,16",
        )
    workload = Workload("matrix", req.isl, req.osl, api=api)
    return tuple(Point(workload, c, req.requests or max(2, REQUESTS_A_SLOT * c)) for c in slots)


def api_of(model: str) -> str:
    """chat for a folder with a chat template and for a model on a hub; a base model without one answers completions."""
    folder = Path(model)
    if not folder.is_dir() or (folder / "chat_template.jinja").is_file():
        return "chat"
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        return "chat" if config.get("chat_template") else "completions"
    except (OSError, ValueError, AttributeError, RecursionError):
        return "completions"


def _questions(req: ServeMatrixRequest, model: str) -> tuple[Question, ...]:
    own = Path(model) / "eval.jsonl"
    file = Path(req.questions) if req.questions else own if own.is_file() else None
    return load_questions(file, req.ask) if file else KNOWN[: req.ask]


def known_gaps(model: str, form: str, devices: Mapping[str, str], flags: Sequence[str] = ()) -> tuple[str, ...]:
    """What is known not to serve of this model's family at the ranks that the flags ask for, in words; `devices` by engine.
    None known is not none there."""
    tp, whole = ranks_in(flags) or 1, whole_experts_in(flags)
    try:
        config = json.loads((Path(model) / "config.json").read_text())
        return tuple(dict.fromkeys(
            gap.words() for e, device in devices.items() for gap in gaps_of(config, form, tp, engine=e, device=device, whole_experts=whole)
        ))  # fmt: skip
    except PaoError as e:
        return (f"none is looked up: {e.message}",)
    except (OSError, ValueError, AttributeError, RecursionError):
        return ()


def _dry(wanted: Wanted, world: World) -> Result:
    shown = []
    for _, arm in wanted.cells:
        spec = serve_spec(wanted.plan(arm), arm, world, Path("engine.log"), 0)
        command = world.engine(arm.engine).command(spec)
        argv = [
            "PORT" if before == "--port" else a for before, a in zip(("", *command.argv), command.argv, strict=False)
        ]
        shown.append({"cell": arm.id, "argv": argv, "env": dict(command.env)})
    asked = wanted.to_json()
    lines = [command_line(s) for s in shown]
    lines += [f"skipped: {s['engine']}:{s['backend']} {s['needs']}" for s in asked["skipped"]]
    lines += [f"known gap: {gap}" for gap in wanted.gaps]
    return Result({"commands": shown, "asked": asked}, "\n".join(lines))


def _result(path: Path, result: dict[str, Any]) -> Result:
    text = "\n".join([*lines_of(result), "", f"run       {path}", f"check it  pao verify {path}"])
    broken = [f"{r['cell']}: {r['why']}" for r in result["rows"] if r["status"] == DEBUG]
    refusal = None
    if not any(r["status"] == SERVES for r in result["rows"]):
        refusal = GateRefused(
            "no backend serves this checkpoint coherently", where=str(path), next="read the logs named above"
        )
    return closed(Result({"path": str(path), **result}, text, tuple(broken), refusal), path)


OP = Op(
    "serve_matrix", "Try every serving backend an engine offers for a checkpoint: coherent, how fast, or why not.",
    Safety.SUBMITS_JOBS, ServeMatrixRequest, run, mcp_name="perf_tune_report_serve_matrix", acts=serves,
    started=started,
    examples=(
        "pao serve_matrix --model ./my-model-nvfp4 --dry-run",
        "pao serve_matrix --model ./my-model-nvfp4 --engines vllm,sglang --concurrency 1,4,16 --i-understand-this-submits-jobs",
    ),
)  # fmt: skip
