"""Admission: every arm is started once before the plan is frozen. Fills compile caches, asks the smoke and accuracy
questions, measures what a session costs, and finds the arms that cannot start. Nothing timed here enters a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign import PRODUCER
from profile_and_optimize.campaign.accuracy import NO_SHIP
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.checkpoints import keep
from profile_and_optimize.campaign.evidence_of import failed_arms
from profile_and_optimize.campaign.history import write_history
from profile_and_optimize.campaign.layers import serves
from profile_and_optimize.campaign.questions import ask_on, ask_questions, drawn, fail, has_failed, require_answers
from profile_and_optimize.campaign.session import PROBE_WAVES, Seat, drive, probe_slice, serving
from profile_and_optimize.campaign.starts import (
    SLOW_START,
    SlowStart,
    refuse_again,
    require_alive,
    slow_start_words,
)
from profile_and_optimize.campaign.timing import seconds_per_session
from profile_and_optimize.campaign.world import World
from profile_and_optimize.clients.prompts import Calibration, PromptMaker, calibrate, load_tokenizer
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.errors import Corrupted, GateRefused, Unreachable
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.base import EngineFailed, Server
from profile_and_optimize.evals.exact_match import Question, load_questions
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.workloads.draw import Drawn, draw_prompts, samples


def admit_all(folder: RunFolder, plan: Plan, world: World) -> None:
    """Admit every arm that is neither admitted nor failed yet. Raises GateRefused when the baseline cannot serve."""
    write_history(folder, plan, world.host().get("node", UNKNOWN))
    questions = drawn(load_questions(Path(plan.questions))) if plan.questions else ()
    if folder.last(SLOW_START):
        plan = plan.hurried()
    for arm in sorted(plan.arms, key=lambda a: (a.role is not Role.BASELINE, a.role is Role.AA, a.id)):
        if (folder.path / f"cells/{arm.id}/admission.json").exists() or has_failed(folder, arm):
            continue
        try:
            keep(folder, plan, arm)
            refuse_again(folder.journal.events, arm)
            plan = _admit_in_time(Seat(folder, plan, world, prompt_maker(folder, plan), Book(folder)), arm, questions)
        except (EngineFailed, Unreachable) as e:
            fail(folder, arm, e, world.secrets)
            world.say(f"  {arm.id} failed: {e.message}")
            if arm.role is Role.BASELINE:
                raise GateRefused(
                    f"the baseline cannot serve: {e.message}", where=f"cell {arm.id}", next=e.next or "read its log"
                ) from e
    if questions:
        ask_on(Seat(folder, plan, world, prompt_maker(folder, plan), Book(folder)), questions)
    _need_something_to_compare(folder, plan)


def prompt_maker(folder: RunFolder, plan: Plan) -> PromptMaker:
    """The maker with the calibration of this run; before the baseline's admission, an uncalibrated one."""
    tokenizer = load_tokenizer(plan.tokenizer) if plan.tokenizer else None
    path = folder.path / "calibration.json"
    try:
        found = Calibration(**folder.read_json("calibration.json")) if path.exists() else Calibration(0.0)
    except TypeError as e:
        raise Corrupted(f"not a calibration: {e}", where=str(path), next="restore it, or begin a new campaign") from e
    return PromptMaker(tokenizer, found)


def _admit_in_time(seat: Seat, arm: Arm, questions: Sequence[Question]) -> Plan:
    """The plan that the admission goes on with: where the baseline's start takes more than its share, all arms start cheaper."""
    try:
        _admit(seat, arm, questions, seat.plan.start_limit_s if arm.role is Role.BASELINE else 0.0)
        return seat.plan
    except SlowStart:
        plan = seat.plan
        seat.folder.event(SLOW_START, arm=arm.id, limit_s=plan.start_limit_s, flags=list(plan.slow_start_flags))
        seat.say(f"  {slow_start_words(seat.folder.journal.events)[0]}")
        seat = replace(seat, plan=plan.hurried())
        _admit(seat, arm, questions, 0.0)
        return seat.plan


def _admit(seat: Seat, arm: Arm, questions: Sequence[Question], limit_s: float) -> None:
    seat.say(f"  {arm.id}: starting (fills compile caches)")
    began = seat.world.now()
    with serving(seat, arm, "admission", limit_s=limit_s) as server:
        ready = seat.world.now()
        seat = _calibrated(seat, server)
        smoke = _smoke(seat, server)
        probe_s = {} if arm.role is Role.AA else _probe(seat, server, arm)
        if questions:
            ask_questions(seat, server, arm, questions)
        require_alive(seat.world.engine(arm.engine), server)
        stopping = seat.world.now()
    stopped = seat.world.now()
    require_answers(seat, arm)
    admission: dict[str, Any] = {
        "start_s": server.start_s, "up_s": ready - began, "stop_s": stopped - stopping, "probe_s": probe_s, "smoke": smoke,
        "total_s": stopped - began, "source": dict(server.source),
        **({"hurried": True} if seat.folder.last(SLOW_START) else {}),
        **serves(seat.plan, arm, seat.world.engine(arm.engine).version()),
    }  # fmt: skip
    seat.folder.write_json(f"cells/{arm.id}/admission.json", admission, producer=PRODUCER)
    seat.say(f"  {arm.id}: serves; ready in {server.start_s:.1f} s")


def _calibrated(seat: Seat, server: Server) -> Seat:
    """The seat with the run's prompt calibration; the first server (the baseline's) is asked for it."""
    if not (seat.folder.path / "calibration.json").exists():
        point = seat.plan.points[0]

        def count(prompt: str) -> int | None:
            return seat.world.ask(server.url, server.model, prompt, api=point.workload.api, max_tokens=1).prompt_tokens

        # Only without a tokenizer do other texts have to be counted by the server.
        texts = samples(p.workload for p in seat.plan.points) if seat.prompts.tokenizer is None else {}
        found = calibrate(seat.prompts.tokenizer, count, texts)
        seat.folder.write_json("calibration.json", found.to_json(), producer=PRODUCER)
    return Seat(seat.folder, seat.plan, seat.world, prompt_maker(seat.folder, seat.plan), seat.book)


def _smoke(seat: Seat, server: Server) -> dict[str, Any]:
    """One question through the real route; an empty answer is a failed start."""
    answer = seat.world.ask(
        server.url, server.model, "What is 2 + 2?", api=seat.plan.points[0].workload.api, max_tokens=8
    )
    if not answer.text.strip():
        raise EngineFailed("the smoke question got an empty answer", where=server.url, next="check the chat template")
    return {"question": "What is 2 + 2?", "answer": seat.hide(answer.text)[:200]}


def _probe(seat: Seat, server: Server, arm: Arm) -> dict[str, float]:
    """Seconds that one warm-up and trial of every point take, scaled from two waves of requests."""
    out = {}
    for point in seat.plan.points:
        count = PROBE_WAVES * point.concurrency
        drawn = _probe_prompts(seat, arm, point, count)
        began = seat.world.now()
        drive(seat, server, point, drawn.timed, point.workload.osl, osls=drawn.osls)
        out[point.key] = _trial_seconds(point, count, seat.world.now() - began)
    return out


def _trial_seconds(point: Point, count: int, took_s: float) -> float:
    """A closed loop takes as much longer as it has more requests; an open one lasts as long as its arrivals."""
    if point.request_rate is None:
        return took_s * (point.requests / count) * 1.1
    return took_s + 1.1 * point.requests / point.request_rate


def _probe_prompts(seat: Seat, arm: Arm, point: Point, count: int) -> Drawn:
    """Prompts that no trial sends: a server that stays up would know them then."""
    if point.workload.from_file:
        start, _ = probe_slice(seat.plan, point, arm.id)
        return draw_prompts(point.workload, seat.prompts, 0, count, f"{seat.plan.seed}/dataset", start)
    return draw_prompts(point.workload, seat.prompts, 0, count, f"{seat.plan.seed}/probe/{arm.id}/{point.key}")


def session_seconds(folder: RunFolder, plan: Plan) -> dict[str, float]:
    """Measured seconds of one session per arm."""
    admitted = [a.id for a in plan.arms if a is not plan.pick_twin]
    return seconds_per_session(plan, {a: folder.read_json(f"cells/{a}/admission.json") for a in admitted})


def _need_something_to_compare(folder: RunFolder, plan: Plan) -> None:
    reasons = failed_arms(folder.journal.events)
    # An arm that lost right answers has its answer: that is a result, and the report says it.
    answered = [a for a in plan.candidates if reasons.get(a.id, NO_SHIP).startswith(NO_SHIP)]
    if not answered:
        raise GateRefused(
            "no candidate can serve, so there is nothing to compare",
            where=str(folder.path),
            next="read the cells' logs",
        )
