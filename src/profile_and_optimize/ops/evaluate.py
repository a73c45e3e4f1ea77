"""pao evaluate: questions with known answers to a served model, by lm-eval; every answer kept, scores with n and interval."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.clients.external import tool_env
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import CodeSetting, bring_code, refuse_code
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, Unreachable, WrongUse
from profile_and_optimize.core.opens import FLAGS, MODEL, OUT, PLACE, PYTHON, URL
from profile_and_optimize.evals.base import Asking, Outcome, Wanted
from profile_and_optimize.evals.coherence import Blame
from profile_and_optimize.evals.conversation import left_to_server
from profile_and_optimize.evals.lm_eval import LmEval
from profile_and_optimize.evals.tasks import TASK_FILES, TASKS, wanted_tasks
from profile_and_optimize.evidence.folder import RunFolder, new_run_id, workspace
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.ops.acts import Act, Acts
from profile_and_optimize.ops.base import AllowsCode, Op, Result, Safety, Say
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.evaluation.control import Judged, judge
from profile_and_optimize.ops.evaluation.keep import SCHEMA, failed_row, keep, keep_log, limited, read_text, task_row
from profile_and_optimize.ops.evaluation.target import How, Target, flags_of, is_url, target
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import Started
from profile_and_optimize.workloads.data import FILES, given_files

TEMPERATURE = 0.7  # for several samples, where the user names none


class EvaluateRequest(AllowsCode):
    tasks: Annotated[str, TASKS] = Field(
        description="tasks, separated by commas: names of lm-eval (gsm8k, mmlu_pro, ...), FILE.yaml, FILE.jsonl, demo"
    )
    endpoint_url: Annotated[str | None, URL] = Field(default=None, description=says("endpoint_url"))
    model: Annotated[str | None, MODEL] = Field(
        default=None, description=says("model", "served for as long as the questions take")
    )
    served_model: str | None = Field(default=None, description=says("served_model"))
    limit: int | None = Field(default=None, ge=1, description="first questions of each task to ask; default: all")
    chat: bool = Field(default=False, description=says("chat", "instruction-tuned models need it"))
    fewshot: int | None = Field(
        default=None, ge=0, le=64, description="examples before each question; default: the task's"
    )
    data: Annotated[str | None, FILES] = Field(default=None, description=says("data", "TASK=FILE.jsonl or TASK=FOLDER"))
    metric: str | None = Field(
        default=None, description="metric of a task that has several: NAME or NAME,FILTER of lm-eval"
    )
    cluster_field: str | None = Field(
        default=None, min_length=1, max_length=120,
        description="field of the tasks' data that questions share which may flip together, such as their passage's id",
    )  # fmt: skip
    num_samples: int = Field(default=1, ge=1, le=256, description=says("num_samples"))
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="sampling temperature; default: 0, and 0.7 for several answers"
    )
    max_tokens: int | None = Field(
        default=None, ge=1, le=1_000_000, description="most tokens of an answer; default: the task's"
    )
    concurrency: int = Field(default=8, ge=1, le=1024, description=says("concurrency"))
    timeout_s: float = Field(default=600.0, gt=0, le=1e6, description=says("timeout_s"))
    seed: int = Field(default=0, ge=0, description=says("seed", "it draws examples and sampled answers"))
    control: Annotated[str | None, PLACE] = Field(
        default=None, description="model folder or URL that is known to be good, asked when a gate fails"
    )
    engine: str = Field(default="vllm", description=says("engine", "it serves a model folder"))
    engine_flags: Annotated[str | None, FLAGS] = Field(default=None, description=says("engine_flags"))
    engine_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("engine_python"))
    eval_python: Annotated[str | None, PYTHON] = Field(default=None, description=says("eval_python"))
    name: str | None = Field(default=None, description=says("name"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


def acts(req: EvaluateRequest) -> Acts:
    """A task may be a file of lm-eval, which runs the code that it names."""
    served = {Act.STARTS} if req.model is not None or (req.control and not is_url(req.control)) else set()
    return frozenset({Act.WRITES, Act.SENDS, Act.LONG, Act.CODE, *served})


def started(req: EvaluateRequest) -> Started:
    flags = flags_of(req.engine_flags)
    return Started((Arm("model", req.engine, Role.BASELINE, flags),) if flags else ())


@dataclass(frozen=True)
class _Done:
    """What came out, before it is written down."""

    target: Target
    outcome: Outcome
    judged: Judged | None


def run(req: EvaluateRequest, say: Say) -> Result:
    place = _place(req)
    wanted = wanted_tasks(req.tasks, given_files(req.data), chat=req.chat)
    if req.num_samples > 1 and req.temperature == 0:
        raise WrongUse(
            "several samples at temperature 0 are one sample", where="--num-samples", next="leave out --temperature"
        )
    if req.cluster_field and all(w.questions for w in wanted):
        raise WrongUse(
            "lines of a question file name their clusters themselves", where="--cluster-field",
            next='"cluster": "NAME" in the lines; the option is for tasks of lm-eval',
        )  # fmt: skip
    refuse_code(_code(req, wanted), req.allowance)
    secrets = known_secrets(os.environ)
    evaluator = LmEval(tool_env("eval", req.eval_python), secrets)
    folder = _folder(req, place)
    try:
        done = _ask(req, place, wanted, evaluator, folder, say)
        data = _record(req, wanted, evaluator, done)
        keep(folder, _hidden(data, secrets), done.outcome, done.judged.control if done.judged else None)
    except (WrongUse, Unreachable):  # nobody was asked, so there is nothing to keep
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    except PaoError as e:
        folder.event("failed", reason=redact(e.message, secrets))
        raise
    finally:
        folder.close()
    return _result(data, folder.path, done)


def _code(req: EvaluateRequest, wanted: tuple[Wanted, ...]) -> tuple[CodeSetting, ...]:
    """What the engine's flags and the task files bring; a task file is named as it was given."""
    files = [part for part in (p.strip() for p in req.tasks.split(",")) if part.endswith(TASK_FILES)]
    tasks = (CodeSetting("--tasks", name, "", "a task file runs the Python that it names") for name in files)
    return (*bring_code(flags_of(req.engine_flags), (), "--engine-flags"), *tasks)


def _place(req: EvaluateRequest) -> str:
    if (req.endpoint_url is None) == (req.model is None):
        raise WrongUse("who is asked?", where="--endpoint-url, --model", next="give one of the two")
    if req.endpoint_url is not None and not is_url(req.endpoint_url):
        raise WrongUse(
            f"{req.endpoint_url!r} is not a URL", where="--endpoint-url", next="http://127.0.0.1:8000, or --model DIR"
        )
    return req.endpoint_url or str(req.model)


def _folder(req: EvaluateRequest, place: str) -> RunFolder:
    what = req.name or f"eval-{Path(place).name if req.model else 'endpoint'}"
    path = workspace(req.campaigns_dir) / new_run_id(what, time.time())
    if path.exists():
        raise WrongUse("this run exists already", where=str(path), next="wait a second, or use another name")
    folder = RunFolder(path)
    folder.event("created", slug=what)
    return folder


def _asking(req: EvaluateRequest, t: Target) -> Asking:
    drawn = TEMPERATURE if req.num_samples > 1 else 0.0
    return Asking(
        url=t.url, model=t.served, api="chat" if req.chat else "completions", limit=req.limit, fewshot=req.fewshot,
        samples=req.num_samples, temperature=drawn if req.temperature is None else req.temperature, max_tokens=req.max_tokens,
        metric=req.metric or "", concurrency=req.concurrency, timeout_s=req.timeout_s, seed=req.seed,
        addresses=t.addresses, cluster_field=req.cluster_field or "",
    )  # fmt: skip


def _ask(
    req: EvaluateRequest, place: str, wanted: tuple[Wanted, ...], evaluator: LmEval, folder: RunFolder, say: Say
) -> _Done:
    """The model asked and its server stopped; then the control, if there is a need for one: both may not fit at once."""
    how = How(req.engine, flags_of(req.engine_flags), req.engine_python, req.served_model, req.allowance)
    with tempfile.TemporaryDirectory(prefix="pao-eval-") as scratch:
        log = Path(scratch) / "engine.log"
        try:
            with target(place, how, log, say) as t:
                outcome = evaluator.run(wanted, _asking(req, t), Path(scratch), say)
        finally:
            keep_log(folder, "engine.log", redact(read_text(log), evaluator.secrets))
            keep_log(folder, "lm-eval.log", evaluator.log(Path(scratch)))
    return _Done(t, outcome, judge(outcome, wanted, _asking(req, t), req.control, how, evaluator, say))


def _record(req: EvaluateRequest, wanted: tuple[Wanted, ...], evaluator: LmEval, done: _Done) -> dict[str, Any]:
    t, judged, asking = done.target, done.judged, _asking(req, done.target)
    return {
        "schema": SCHEMA, "tasks": [task_row(r, wanted) for r in done.outcome.runs],
        "failed": [failed_row(f) for f in done.outcome.failed], "cluster_field": req.cluster_field,
        "limit": req.limit, "chat": req.chat, "fewshot": req.fewshot,
        "model": t.model, "model_digest": t.model_digest, "served_model": t.served, "endpoint": t.endpoint, "engine": t.engine,
        **({"code": [f"{s.words} ({req.allowed_by})" for s in code]} if (code := _code(req, wanted)) else {}),
        "lm_eval": evaluator.version, "lm_eval_source": evaluator.env.delivery,
        "worker_sha256": done.outcome.worker_sha256, "job_sha256": done.outcome.job_sha256,
        "asked_by": t.asked_by.to_json() if t.asked_by else None, "pins": pins.to_json() if (pins := done.outcome.pins) else None,
        "sampling": {
            "samples": asking.samples, "temperature": asking.temperature, "max_tokens": asking.max_tokens, "seed": asking.seed,
            "concurrency": asking.concurrency,
        },
        "gate": {"passed": judged is None, "why": judged.why if judged else {}, "blame": judged.blame.value if judged else None},
        "control": judged.told if judged else None, "warnings": list(_warnings(req, wanted, done)),
    }  # fmt: skip


def _hidden(value: Any, secrets: tuple[str, ...]) -> Any:
    """The record without credentials: flags, versions and messages come from outside."""
    if isinstance(value, dict):
        return {k: _hidden(v, secrets) for k, v in value.items()}
    if isinstance(value, list):
        return [_hidden(v, secrets) for v in value]
    return redact(value, secrets) if isinstance(value, str) else value


def _warnings(req: EvaluateRequest, wanted: tuple[Wanted, ...], done: _Done) -> tuple[str, ...]:
    found = []
    bare = [w.name for w in wanted if w.format == "{question}"]
    if done.target.instruct and not req.chat and bare:
        found.append(
            f"{', '.join(bare)}: asked without a chat template ({done.target.instruct}); a bare prompt makes an instruction-tuned "
            "model repeat itself or end at once, whatever its weights are worth: add --chat"
        )  # fmt: skip
    for r in done.outcome.runs:
        if req.fewshot is not None and r.fewshot != req.fewshot:
            found.append(f"{r.task}: shows {r.fewshot} examples, whatever --fewshot says: it is made so")
        if r.cut:
            total = sum(len(s.scores) for s in r.samples)
            found.append(
                f"{r.task}: {r.cut} of {total} answers were cut at the limit of tokens and are neither right nor wrong: raise "
                "--max-tokens"
            )
    t, pins = done.target, done.outcome.pins
    if pins and (loose := left_to_server(pins, _asking(req, t).temperature, t.asked_by)):
        found.append(
            f"the server does not take {', '.join(loose)} from a request: its generation_config decides on them"
        )
    return tuple(found)


def _result(data: dict[str, Any], path: Path, done: _Done) -> Result:
    shown = {**data, "run": str(path)}
    return closed(Result(shown, text_of(data, path), tuple(data["warnings"]), _refusal(data, path, done)), path)


COLUMNS = ("task", "metric", "n", "score", "95% interval", "cut")


def text_of(data: dict[str, Any], path: Path) -> str:
    rows = [COLUMNS, *(_cells(r) for r in data["tasks"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"no score: {f['task']}: {f['message']} -- next: {f['next']}" for f in data["failed"]]
    lines += [f"asked: {line}" for line in limited(data["tasks"])]
    lines += [f"runs code of its own: {line}" for line in data.get("code", ())]
    return "\n".join([
        *(lines if data["tasks"] else lines[1:]),
        f"per question: {path}/raw/samples.jsonl, answers in full: raw/answers.jsonl",
        f"run {path}",
        f"next: pao accuracy_gate --base RUN --candidate {path.name}",
    ])  # fmt: skip


def _cells(r: dict[str, Any]) -> tuple[str, ...]:
    share = [("unknown" if r[k] is None else f"{r[k]:.1%}") for k in ("score", "lower", "upper")]
    cut = f"{r['cut']}" + (f" ({r['unknown']} unknown)" if r["unknown"] else "")
    return (r["task"], r["metric"], str(r["n"]), share[0], f"{share[1]} .. {share[2]}", cut)


_WORDS = {
    Blame.MODEL: "the control answers the same questions, so it is the model",
    Blame.GATE: "the control fails the same questions, so it is the gate (prompt format, task or server), not the model",
    Blame.UNKNOWN: "whether model or gate is at fault is unknown",
}


def _refusal(data: dict[str, Any], path: Path, done: _Done) -> PaoError | None:
    if (judged := done.judged) is not None:
        error = f" (the control: {judged.told['error']})" if judged.told and "error" in judged.told else ""
        then = {
            Blame.MODEL: "read raw/answers.jsonl; evaluate the model it was made from",
            Blame.GATE: "read raw/answers.jsonl; --chat for an instruct model, or another task",
            Blame.UNKNOWN: f"{_template(data, done)}--control DIR or URL of a model that is known to be good",
        }
        why = f"{next(iter(judged.why.values()))}; {_WORDS[judged.blame]}{error}"
        return GateRefused(why, where=str(path), next=then[judged.blame])
    if done.outcome.failed:
        first, total = done.outcome.failed[0], len(done.outcome.failed) + len(done.outcome.runs)
        why = f"{len(done.outcome.failed)} of {total} tasks gave no score: {first.task}: {first.message}"
        return BrokeMidway(why, where=str(path), next=first.next)
    return None


def _template(data: dict[str, Any], done: _Done) -> str:
    """What to try first where a model that wants a template was asked without one."""
    return "add --chat; then " if done.target.instruct and not data["chat"] else ""


OP = Op(
    "evaluate", "Ask a served model questions with known answers: scores with n and interval, every answer kept.",
    Safety.SUBMITS_JOBS, EvaluateRequest, run, mcp_name="evaluate", acts=acts, started=started,
    examples=(
        "pao evaluate --endpoint-url http://127.0.0.1:8000 --tasks gsm8k,mmlu_pro --limit 400 --chat",
        "pao evaluate --model ./my-model --tasks questions.jsonl --control ./base-model",
        "pao evaluate --model demo/model --tasks demo --chat",
    ),
)  # fmt: skip
