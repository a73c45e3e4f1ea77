"""Tries one serving backend after another on one checkpoint: start, known questions, a short sweep, stop. Everything that
was seen is written as it comes; what it amounts to is computed from that (`analysis.matrix`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.analysis.matrix import WITH_LAYERS, matrix, right
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.layers import Served, log_of, read_served
from profile_and_optimize.campaign.session import Seat, run_trial, serving
from profile_and_optimize.campaign.world import World
from profile_and_optimize.clients.prompts import Calibration, PromptMaker, calibrate, load_tokenizer
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import Corrupted, Unreachable
from profile_and_optimize.core.names import digest_of
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import TrialKey, TrialState
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.base import EngineFailed, Server
from profile_and_optimize.engines.kernels import Asked, kernels_in
from profile_and_optimize.evals.exact_match import Question
from profile_and_optimize.evidence.folder import RunFolder, read_json
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.optimize.backends import Backend, Offered
from profile_and_optimize.workloads.draw import samples

ASKED, SEEN, LABEL = "matrix.json", "raw/seen.json", "matrix"
PRODUCER = "serve_matrix"
ANSWER_TOKENS = 24
# Asked where nobody gave questions: whatever answers at all knows these.
KNOWN = tuple(
    Question(f"What is {a}?", b) for a, b in (("2 + 2", "4"), ("3 + 5", "8"), ("9 - 4", "5"), ("10 + 10", "20"))
)


def _known(q: Question) -> dict[str, str]:
    return {"question": q.question, "answer": q.answer, "task": q.task}


@dataclass(frozen=True)
class Wanted:
    """One matrix. `points` are one workload at several concurrencies; `gaps` are known gaps of the model's family."""

    slug: str
    model: str
    model_digest: str
    form: str
    offered: Mapping[str, Offered]
    points: tuple[Point, ...]
    questions: tuple[Question, ...]
    seed: int
    tokenizer: str = ""
    flags: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[tuple[Backend, Arm], ...]:
        return tuple((b, b.arm(engine)) for engine, found in self.offered.items() for b in found.here)

    def plan(self, arm: Arm) -> Plan:
        """What one backend goes through. Each is alone in its plan, for nothing is compared."""
        return Plan(
            slug=self.slug, model=self.model, focus="throughput", arms=(arm,), points=self.points, blocks=1, seed=self.seed,
            suite="serve matrix", common_flags=self.flags, tokenizer=self.tokenizer, model_digest=self.model_digest,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        workload = self.points[0].workload
        skipped = [(e, b, why) for e, found in self.offered.items() for b, why in found.skipped]
        return {
            "schema": WITH_LAYERS, "model": self.model, "model_digest": self.model_digest, "format": self.form, "api": workload.api,
            "isl": workload.isl, "osl": workload.osl, "seed": self.seed, "flags": list(self.flags), "gaps": list(self.gaps),
            "cells": [{
                "cell": a.id, "engine": a.engine, "backend": b.id, "says": b.says, "flags": list(a.flags), "env": dict(a.env),
            } for b, a in self.cells],
            "skipped": [{"engine": e, "backend": b.id, "says": b.says, "needs": why} for e, b, why in skipped],
            "points": [asdict(p) for p in self.points],
            "questions_sha256": digest_of([_known(q) for q in self.questions]), "questions": len(self.questions),
        }  # fmt: skip


def try_all(folder: RunFolder, wanted: Wanted, world: World) -> None:
    """Every backend once. One that breaks is written down with its own error, and the next one is tried."""
    folder.write_json(ASKED, wanted.to_json(), producer=PRODUCER)
    for _, arm in wanted.cells:
        seat = Seat(folder, wanted.plan(arm), world, PromptMaker(None, Calibration(0.0)), Book(folder))
        world.say(f"{arm.id}: starting")
        try:
            _try(seat, wanted, arm)
        except (EngineFailed, Unreachable) as e:
            reason = redact(e.message, world.secrets)
            log = log_of(arm.id, LABEL)
            there = log if (folder.path / log).exists() else ""
            folder.event("arm_failed", arm=arm.id, reason=reason, phase="serve_matrix", log=there)
            world.say(f"  {arm.id} is a debug target: {reason}")


def _try(seat: Seat, wanted: Wanted, arm: Arm) -> None:
    with serving(seat, arm, LABEL) as server:
        seen = _looked_at(seat, server, arm, wanted.questions)
        seat.folder.write_json(f"cells/{arm.id}/{SEEN}", seen, producer=PRODUCER, inputs=(ASKED,))
        seat.say(
            f"  {arm.id}: ready in {server.start_s:.1f} s; {right(seen['answers'])} of {len(seen['answers'])} known"
        )
        seat = _calibrated(seat, server, wanted)
        wait = seat.world.guard.wait(server.pid if seat.world.engine(arm.engine).restarts else None, seat.say)
        seat.folder.event("settled", arm=arm.id, **wait.to_json())
        for point in wanted.points:
            done = run_trial(seat, server, arm, point, TrialKey(1, arm.id, point.key))
            if done.summary.state is TrialState.FAILED:
                break  # the others would wait for their timeouts


def _looked_at(seat: Seat, server: Server, arm: Arm, questions: Sequence[Question]) -> dict[str, Any]:
    log = server.log.read_text(errors="replace") if server.log and server.log.exists() else ""
    kernels, engine = kernels_in(log), seat.world.engine(arm.engine)
    seen = {**engine.version(), **server.source, **engine.observed(server)}
    return {
        "schema": 1, "start_s": server.start_s, "kernels": list(kernels.named), "fell_back": seat.hide(kernels.fell_back),
        "source": {k: seat.hide(v) for k, v in seen.items()},
        "answers": [{"question": q.question, "expected": q.answer, "said": _said(seat, server, q)} for q in questions],
    }  # fmt: skip


def _said(seat: Seat, server: Server, question: Question) -> str:
    api = seat.plan.points[0].workload.api
    prompt = question.question if api == "chat" else f"Q: {question.question}\nA:"
    answer = seat.world.ask(server.url, server.model, prompt, api=api, max_tokens=ANSWER_TOKENS)
    return seat.hide(answer.text)[:400]


def _calibrated(seat: Seat, server: Server, wanted: Wanted) -> Seat:
    """Prompts of the asked length; the first server that answers is asked what the template adds, for all of them."""
    tokenizer = load_tokenizer(wanted.tokenizer) if wanted.tokenizer else None
    path = seat.folder.path / "calibration.json"
    if not path.exists():
        workload = wanted.points[0].workload

        def count(prompt: str) -> int | None:
            return seat.world.ask(server.url, server.model, prompt, api=workload.api, max_tokens=1).prompt_tokens

        found = calibrate(tokenizer, count, samples([workload]) if tokenizer is None else {})
        seat.folder.write_json("calibration.json", found.to_json(), producer=PRODUCER)
    made = PromptMaker(tokenizer, Calibration(**seat.folder.read_json("calibration.json")))
    return Seat(seat.folder, seat.plan, seat.world, made, seat.book)


def result_of(run: Path, events: Sequence[Event], trials: Sequence[Any]) -> dict[str, Any]:
    """serve_matrix.json from what a run holds. Raises Corrupted naming the file that is no record of a matrix."""
    asked = read_json(run / ASKED)
    wrote = {e.data["path"] for e in events if e.kind == "wrote"}
    failures = {e.data["arm"]: e.data for e in events if e.kind == "arm_failed"}
    try:
        places = {c["cell"]: f"cells/{c['cell']}/{SEEN}" for c in asked["cells"]}
        seen = {cell: read_json(run / place) for cell, place in places.items() if place in wrote}
        served = _served(run, asked, seen, wrote) if asked["schema"] >= WITH_LAYERS else {}
        return matrix(asked, failures, seen, trials, served)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Corrupted(f"not a serve matrix: {type(e).__name__} {e}", where=str(run), next="pao verify RUN") from e


def _served(run: Path, asked: Mapping[str, Any], seen: Mapping[str, Any], wrote: Collection[str]) -> dict[str, Served]:
    """What the cells that served were asked and what their logs name."""
    out = {}
    for cell in (c for c in asked["cells"] if c["cell"] in seen):
        version = str(seen[cell["cell"]]["source"].get("engine_version", ""))
        wanted = Asked(cell["engine"], version, asked["format"], (*asked["flags"], *cell["flags"]))
        out[cell["cell"]] = read_served(run, wanted, [p for p in wrote if p == log_of(cell["cell"], LABEL)])
    return out
