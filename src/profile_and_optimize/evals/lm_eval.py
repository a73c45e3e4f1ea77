"""lm-eval, driven as a process of its own tool environment: our worker there asks, here its rows become values."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.names import digest_of
from profile_and_optimize.core.urls import parse_url
from profile_and_optimize.engines.base import Command
from profile_and_optimize.engines.process import Managed, real_error
from profile_and_optimize.evals.base import Asking, Failed, Outcome, Shown, TaskRun, Wanted
from profile_and_optimize.evals.pao_eval.identity import worker_sha256
from profile_and_optimize.evals.pao_eval.job import SCHEMA, Asked, Entry, Job
from profile_and_optimize.evals.pao_eval.sampling import Pins
from profile_and_optimize.evals.samples import Sample
from profile_and_optimize.evidence.redact import redact, without
from profile_and_optimize.toolenv.find import ToolEnv

WORKER = Path(__file__).with_name("pao_eval")
HUB = "https://huggingface.co"
LOG = "lm-eval.log"
POLL_S, SAY_EVERY_S = 0.2, 10.0
TRIES, STALL_S = 6, 300.0  # of a request (see pao_eval/wire.py); beyond them, what reading a task may take
PASSED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
KEY = "OPENAI_API_KEY"
# Only for tasks whose data is not here.
FOR_THE_HUB = (
    "HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE",
    "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
)  # fmt: skip


@dataclass(frozen=True)
class LmEval:
    """`secrets` are credentials of ours in every spelling; no text that comes back keeps one."""

    env: ToolEnv
    secrets: tuple[str, ...] = ()
    stall_s: float = STALL_S

    @property
    def version(self) -> str:
        return self.env.version("lm_eval") or "unknown"

    def run(self, wanted: tuple[Wanted, ...], asking: Asking, workdir: Path, say: Callable[[str], None]) -> Outcome:
        """Raises BrokeMidway when the process hangs, or dies before any task was asked."""
        out = workdir / "out"
        out.mkdir(parents=True)
        job, path = job_of(wanted, asking, out), workdir / "job.json"
        path.write_text(json.dumps(job.to_json()))
        copy_worker(workdir / "worker")
        command = Command(
            (str(self.env.python), "-m", WORKER.name, "evaluate", str(path)), self._environment(wanted, workdir)
        )
        ended = self._wait(command, workdir / LOG, asking.timeout_s * TRIES + self.stall_s, say)
        found = self._outcome(wanted, out, workdir / LOG, ended)
        return replace(found, worker_sha256=job.worker_sha256, job_sha256=digest_of(job.same_for_all))

    def log(self, workdir: Path) -> str:
        path = workdir / LOG
        return redact(path.read_text(errors="replace"), self.secrets) if path.exists() else ""

    def _environment(self, wanted: Sequence[Wanted], workdir: Path) -> tuple[tuple[str, str], ...]:
        """A home and caches of its own and no hub, unless a task's data has to come from there."""
        quiet = {
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            **_alone(workdir / "worker"),
        }
        quiet |= {KEY: os.environ[KEY]} if KEY in os.environ else {}
        if any(w.needs_hub for w in wanted):
            return tuple({**{k: os.environ[k] for k in FOR_THE_HUB if k in os.environ}, **quiet}.items())
        home = {"HOME": str(workdir / "home"), "HF_HOME": str(workdir / "home/hf"), "HF_HUB_OFFLINE": "1"}
        return tuple({**home, "HF_DATASETS_OFFLINE": "1", **quiet}.items())

    def _wait(self, command: Command, log: Path, stall_s: float, say: Callable[[str], None]) -> int:
        """The exit status. The process tree is stopped whatever happens."""
        managed = Managed(command, log, (), {k: os.environ[k] for k in PASSED if k in os.environ})
        progress = _Progress(log, say)
        try:
            while not managed.ended:
                time.sleep(POLL_S)
                progress.look()
                if time.monotonic() - progress.heard > stall_s:
                    raise BrokeMidway(f"lm-eval printed nothing for {stall_s:.0f} s", next="look at the server's log")
        finally:
            managed.stop()
        # An end that nobody saw is no success.
        return -1 if managed.exit_code is None else managed.exit_code

    def _outcome(self, wanted: Sequence[Wanted], out: Path, log: Path, ended: int) -> Outcome:
        runs: list[TaskRun] = []
        failed: list[Failed] = []
        for number, w in enumerate(wanted):
            path = out / f"{number}.json"
            if not path.exists():
                why = redact(real_error(log), self.secrets) or "no message"
                failed.append(Failed(w.name, "broke", f"lm-eval ended with {ended}: {why}", "read the log of the run"))
                continue
            told = json.loads(path.read_text())
            if "failed" in told:
                words = [redact(str(told["failed"][k]), self.secrets) for k in ("code", "message", "next")]
                failed.append(Failed(w.name, *words))
            else:
                runs += [self._task(w, one) for one in told["tasks"]]
        if ended and not runs and all(f.code == "broke" for f in failed):
            raise BrokeMidway(failed[0].message, next="pao tools install eval")
        pins = out / "asked.json"
        return Outcome(tuple(runs), tuple(failed), pins_of(json.loads(pins.read_text())) if pins.exists() else None)

    def _task(self, w: Wanted, told: dict[str, Any]) -> TaskRun:
        name, rows = str(told["task"]), told["rows"]
        samples = tuple(
            Sample(
                name, r["id"], tuple(r["scores"]), self._text(r["expected"]), tuple(map(self._text, r["said"])),
                self._text(r["cluster"]), tuple(map(self._text, r["finish"])) if told["kind"] == "generate_until" else (),
            )
            for r in rows
        )  # fmt: skip
        shown = tuple(
            Shown(
                name, r["id"], self._text(r["asked"]), tuple(map(self._text, r["answers"])), self._text(r["question"])
            )
            for r in rows
        )
        return TaskRun(
            name, told["metric"], told["kind"], told["fewshot"], told["version"], told["of"], samples, shown, w.name
        )

    def _text(self, text: str) -> str:
        """Without our own credentials; what only looks like one may be a right answer. No half of a pair of surrogates."""
        return without(text.encode("utf-8", "replace").decode(), self.secrets)


def job_of(wanted: Sequence[Wanted], asking: Asking, out: Path) -> Job:
    """What the worker reads. Hosts are taken from URLs here: the worker, which imports nothing of ours, reads none."""
    hub = parse_url(os.environ.get("HF_ENDPOINT") or HUB)
    return Job(
        schema=SCHEMA, worker_sha256=worker_sha256(), out=str(out), url=asking.url, model=asking.model, api=asking.api,
        host=parse_url(asking.url).host, addresses=asking.addresses, hub=(hub.host, hub.port), tasks=tuple(map(_entry, wanted)),
        limit=asking.limit, fewshot=asking.fewshot, samples=asking.samples, temperature=asking.temperature,
        max_tokens=asking.max_tokens, seed=asking.seed, cluster_field=asking.cluster_field, metric=asking.metric,
        concurrency=asking.concurrency, timeout_s=asking.timeout_s,
    )  # fmt: skip


def _entry(w: Wanted) -> Entry:
    rows = tuple(Asked(q.question, q.answer, q.cluster) for q in w.questions)
    splits = tuple((split, str(path)) for split, path in w.splits)
    return Entry(w.name, w.load, rows, splits, w.format, w.until, w.max_tokens)


def copy_worker(place: Path) -> None:
    """The worker's folder into `place`: run from our own, modules beside it would shadow those of its environment."""
    folder = place / WORKER.name
    folder.mkdir(parents=True)
    for path in WORKER.glob("*.py"):
        (folder / path.name).write_bytes(path.read_bytes())


def _alone(place: Path) -> dict[str, str]:
    """The worker is found in its folder, and nothing else but its own environment is."""
    return {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def pins_of(raw: dict[str, Any]) -> Pins:
    return Pins(tuple(raw["sent"].items()), tuple(raw["refused"]), tuple(raw["ignored"]))


class _Progress:
    """Follows the worker's log. `heard` is when it last said anything."""

    def __init__(self, log: Path, say: Callable[[str], None]) -> None:
        self.log, self.say, self.at = log, say, 0
        self.heard = self.said = time.monotonic()
        self.stage = ""

    def look(self) -> None:
        if not self.log.exists():
            return
        with self.log.open("rb") as file:
            file.seek(self.at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.at += len(whole)
        for line in whole.splitlines():
            self.heard = time.monotonic()
            if line.startswith(b"PAO "):
                self._tell(json.loads(line[4:]))

    def _tell(self, told: dict[str, Any]) -> None:
        new = told["stage"] != self.stage or told.get("done") == told.get("of")
        if not new and self.heard - self.said < SAY_EVERY_S:
            return
        self.stage, self.said = told["stage"], self.heard
        if "done" in told:
            self.say(f"{told['stage']}: {told['done']} of {told['of']} answered, {told['left_s']} s left")
        else:
            self.say(f"{told['stage']}: {told['says']}")
