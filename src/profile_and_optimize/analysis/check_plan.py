"""What a plan fixed before block 1, against everything that was done under it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from profile_and_optimize.campaign.accuracy import (
    FIRST,
    LEFT_OUT,
    MORE,
    NO_SHIP,
    accuracy_of,
    asked,
    clusters,
    every_question,
    first_portion,
    no_ship,
    places,
    questions_digest,
    wrong_asking,
)  # fmt: skip
from profile_and_optimize.campaign.asked import asked_by_plan
from profile_and_optimize.campaign.checkpoints import KEPT
from profile_and_optimize.campaign.evidence_of import CALIBRATION, DRAFT, FINALISTS, Evidence
from profile_and_optimize.campaign.history import session_sd
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.campaign.session import schedule_of
from profile_and_optimize.campaign.timing import freeze
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import unallowed
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.evidence.trialfile import is_trial_path, trial_path
from profile_and_optimize.stats.clusters import counting_order
from profile_and_optimize.stats.columns import MISSING, Records

PLAN = "plan.json"


def check_plan(ev: Evidence) -> Iterator[Remark]:
    """The plan against its draft and admissions, the race against its finalists, every trial against the plan."""
    yield from (Remark(PLAN, text) for text in _frozen(ev))
    yield from (Remark(FINALISTS, text) for text in _race(ev))
    # A run with nothing but other tools' results has its draft alone, and admits nobody.
    if ev.trials or any(e.kind == "wrote" and e.data["path"] == PLAN for e in ev.events):
        yield from _cells(ev)
    places = Places(ev)
    for t in ev.trials:
        yield from (Remark(trial_path(t.key), text) for text in places.disagree(t))


def _frozen(ev: Evidence) -> Iterator[str]:
    """Written once, before the first trial, and from the draft and the admissions alone."""
    wrote = [e.data["path"] for e in ev.events if e.kind == "wrote"]
    first = next((i for i, p in enumerate(wrote) if is_trial_path(p)), len(wrote))
    for name in (PLAN, DRAFT, CALIBRATION):
        if wrote.count(name) > 1:
            yield f"{name} was written {wrote.count(name)} times; a plan is fixed before block 1"
    if PLAN in wrote and wrote.index(PLAN) > first:
        yield f"written after {wrote[first]}"
    if odd := unallowed(ev.frozen):
        yield f"settings that bring code and who allowed them do not meet: {', '.join(odd)}"
    if ev.draft is None:
        yield f"there is no {DRAFT} that it came from"
        return
    failed = {e.data["arm"] for e in ev.events if e.kind == "arm_failed" and e.data.get("phase") == "admission"}
    if {a.id for a in ev.frozen.failed} != failed:
        yield f"its failed cells are not the ones whose failure the journal has: {', '.join(sorted(failed)) or 'none'}"
    elif all(a.id in ev.admissions for a in ev.draft.arms if a.id not in failed):
        yield from _as_frozen(ev, ev.draft, failed)


def _as_frozen(ev: Evidence, draft: Plan, failed: set[str]) -> Iterator[str]:
    expected, _ = freeze(draft, failed, ev.admissions, session_sd(ev.history) if ev.history else None, ev.checkpoints)
    differ = [f.name for f in fields(Plan) if getattr(ev.frozen, f.name) != getattr(expected, f.name)]
    if differ:
        yield f"{', '.join(differ)} not as the draft and the admissions give them"


def _race(ev: Evidence) -> Iterator[str]:
    """The finalists that were confirmed are those that the race's records give, and no confirmation ran before they stood."""
    wrote = [e.data["path"] for e in ev.events if e.kind == "wrote"]
    confirming = [p for p in wrote if is_trial_path(p) and "/raw/b" in p]
    if ev.race is None:
        if FINALISTS in wrote or any(is_trial_path(p) and "/raw/r" in p for p in wrote):
            yield "this plan has no race"
        return
    if confirming and (FINALISTS not in wrote or wrote.index(FINALISTS) > wrote.index(confirming[0])):
        yield f"not written before {confirming[0]}"
    if ev.finalists is not None and ev.finalists != ev.race.finalists:
        yield f"names {', '.join(ev.finalists)}, the race's records give {', '.join(ev.race.finalists) or 'none'}"


def _cells(ev: Evidence) -> Iterator[Remark]:
    """Admission, command and answers of every cell that stands in the plan."""
    points = {p.key for p in ev.frozen.points}
    for arm in ev.frozen.arms:
        where = f"cells/{arm.id}/admission.json"
        found = ev.admissions.get(arm.id)
        if arm is ev.frozen.pick_twin:
            if found is not None:
                yield Remark(where, "the twin of a candidate is not admitted by itself")
            continue
        if found is None:
            yield Remark(where, "missing; every cell is admitted before block 1")
        elif set(found["probe_s"]) != (set() if arm.role is Role.AA else points):
            yield Remark(
                where,
                f"measured {', '.join(sorted(found['probe_s'])) or 'nothing'}, the plan has {', '.join(sorted(points))}",
            )
        command = ev.commands.get(arm.id)
        if command is not None and not _within(
            [redact(f) for f in (*ev.frozen.common_flags, *arm.flags)], command["argv"]
        ):
            yield Remark(f"cells/{arm.id}/commands/serve.json", "does not hold the flags of the plan")
    yield from _answers(ev)
    yield from _checkpoints(ev)


def _within(flags: Sequence[str], argv: Sequence[str]) -> bool:
    """Are the flags there one after another?"""
    return not flags or any(list(argv[i : i + len(flags)]) == list(flags) for i in range(len(argv) - len(flags) + 1))


def _answers(ev: Evidence) -> Iterator[Remark]:
    """The digest of the questions follows from the answers, all cells were asked the same, those that left for their answers
    are those whose answers say so, and nobody was asked beyond what decided."""
    accuracy, frozen = ev.accuracy, ev.frozen
    if accuracy or frozen.questions:
        yield from _unasked(ev)
    base = accuracy.get(frozen.baseline.id)
    for cell, found in sorted(accuracy.items()):
        where = f"cells/{cell}/raw/accuracy.json"
        if (
            base is None
            or questions_digest(base) != base["questions_sha256"]
            or len(every_question(base)) != base["questions"]
        ):
            yield Remark(where, "the baseline's questions and expected answers are not those of its digest")
            return
        told = [a["question"] for a in every_question(base)]
        labels = clusters(base).labels if base.get("schema", 1) >= 2 else ()  # before, clusters did not stay together
        if len({(a["task"], a["question"]) for a in every_question(base)}) < len(told):
            yield Remark(where, "a question was asked twice and counts as two")
        if [told[i] for i in counting_order(told, labels)] != told:
            yield Remark(where, "the questions were not asked in the order in which they count")
        if cell == frozen.baseline.id:
            yield from (Remark(where, text) for text in _portion(ev, base))
        yield from (Remark(where, text) for text in wrong_asking(found))
        own = list(map(asked, found["answers"]))
        if (
            found["questions_sha256"] != base["questions_sha256"]
            or own != list(map(asked, every_question(base)))[: len(own)]
        ):
            yield Remark(where, f"other questions than {frozen.baseline.id} was asked, or another order")
        elif cell != frozen.baseline.id:
            yield from (Remark(where, text) for text in _stopped(ev, cell))


def _unasked(ev: Evidence) -> Iterator[Remark]:
    """Every arm that was admitted was asked; the baseline's A/A control only where arms serve checkpoints of their own, or in
    records of schema 4."""
    base = ev.accuracy.get(ev.frozen.baseline.id, {})
    both = any(a.checkpoint for a in ev.frozen.all_arms) or base.get("schema", 1) >= 4
    for arm in ev.frozen.all_arms:
        if arm.id in ev.admissions and arm.id not in ev.accuracy and (both or arm.role is not Role.AA):
            yield Remark(f"cells/{arm.id}/raw/accuracy.json", "missing; every arm is asked before it is admitted")


def _checkpoints(ev: Evidence) -> Iterator[Remark]:
    """Every checkpoint that was served has its record, written once; answers too are given once."""
    for arm in ev.frozen.all_arms:
        if arm.checkpoint and arm.id in ev.admissions and arm.id not in ev.checkpoints:
            yield Remark(f"cells/{arm.id}/{KEPT}", "missing; every checkpoint is written down before it is served")
        if ev.failed_arms.get(arm.id, "").startswith(NO_SHIP) and arm.id not in ev.accuracy:
            yield Remark(
                f"cells/{arm.id}/raw/accuracy.json", "missing, though the journal records that its answers were wrong"
            )
    wrote = [e.data["path"] for e in ev.events if e.kind == "wrote"]
    for path in sorted({p for p in wrote if p.endswith((f"/{KEPT}", f"/{FIRST}", f"/{MORE}"))}):
        if wrote.count(path) > 1:
            yield Remark(path, f"was written {wrote.count(path)} times; it is written once")


def _stopped(ev: Evidence, cell: str) -> Iterator[str]:
    """Was it asked up to the look that decided, and did it leave just when it was shown to lose?"""
    n, base = len(ev.accuracy[cell]["answers"]), ev.accuracy[ev.frozen.baseline.id]
    planned = len(base["answers"])  # beyond what the baseline answered nothing is compared
    if ev.frozen.twin is not None and cell == ev.frozen.twin.id:
        if n != base.get("first", planned):
            yield f"{n} of {base.get('first', planned)} questions were asked of the A/A control"
        return
    found = accuracy_of(ev.frozen, ev.accuracy, cell)
    if found is None:
        return
    if n != (found.decided_at or planned):
        yield f"asked {n} questions; the looks say {found.decided_at or planned}"
    left = ev.failed_arms.get(cell, "").startswith(NO_SHIP)
    if left != (found.call == "fail") or (left and ev.failed_arms[cell] != no_ship(found)):
        yield f"its answers give {found.call}, the journal has {ev.failed_arms.get(cell) or 'that it stayed'}"


def _portion(ev: Evidence, base: Mapping[str, Any]) -> Iterator[str]:
    """Was the baseline asked as many questions as settle a candidate that loses nothing, and the others where one was left open?"""
    n, planned, first = len(base["answers"]), len(every_question(base)), first_portion(ev.frozen, places(base))
    if base.get("first", n) not in (first, planned) or n not in (first, planned):
        yield f"asked {n} questions; admission asks {first} of {planned}, and the others all or none"
    found = {a.id: accuracy_of(ev.frozen, ev.accuracy, a.id) for a in ev.frozen.candidates if a.id in ev.accuracy}
    left = [a for a, answer in found.items() if answer is not None and answer.call == "unknown"]
    if n < planned and left and not any(e.kind == LEFT_OUT for e in ev.events):
        yield f"{planned - n} questions were left out without a word, though {', '.join(left)} needed them"


class Places:
    """What the plan says of the trial at every place, worked out once for all trials."""

    def __init__(self, ev: Evidence) -> None:
        self._ev = ev
        self._arms: dict[str, Arm] = {a.id: a for a in ev.frozen.all_arms}
        self._points: dict[str, Point] = {p.key: p for p in ev.frozen.points}
        self._groups = ev.plan.groups
        proving = ev.plan.proving(ev.proving) if ev.proving is not None else None
        self._proving = proving.groups[0] if proving else ()
        if proving and proving.pick_twin:
            self._arms[proving.pick_twin.id] = proving.pick_twin
        self._racing = {b: arms for r in (ev.race.rounds if ev.race else ()) for b, arms in r.blocks.items()}
        self._asked: dict[tuple[str, str], dict[str, str]] = {}
        self._redacted = cache(redact)  # most values are the same for all arms and points

    def disagree(self, t: Judged) -> Iterator[str]:
        point = self._points.get(t.key.point)
        if t.key.stage is Stage.CONFIRM and t.key.arm not in {a.id for a in self._ev.plan.arms}:
            yield f"no such arm {t.key.arm!r} in the plan"
        elif t.key.arm not in self._arms_of(t.key.stage, t.key.block):
            yield f"arm {t.key.arm!r} has no place in {t.key.stage} block {t.key.block}"
        elif point is None:
            yield f"no such point {t.key.point!r} in the plan"
        else:
            yield from self._context(t, point)

    def _arms_of(self, stage: Stage, block: int) -> tuple[str, ...]:
        if stage is Stage.PROVE:
            return self._proving
        if stage is Stage.RACE:
            return self._racing.get(block, ())
        return self._groups[(block - 1) % len(self._groups)] if block > 0 else ()

    def _context(self, t: Judged, point: Point) -> Iterator[str]:
        place = (t.key.arm, point.key)
        if place not in self._asked:
            told = asked_by_plan(self._ev.frozen, self._arms[t.key.arm], point)
            self._asked[place] = {k: self._redacted(v) or UNKNOWN for k, v in told.items()}
        context = t.file.context
        wrong = [k for k, v in self._asked[place].items() if context.get(k, {}).get("asked", UNKNOWN) != v]
        if wrong:
            yield f"its context was asked for another {', '.join(wrong)} than the plan says"
        client = context.get("client", {}).get("observed")
        if client != self._ev.frozen.client:
            yield f"run by client {client!r}, the plan has {self._ev.frozen.client!r}"


def check_load(t: Judged, plan: Plan) -> Iterator[Remark]:
    """The requests of one trial against the point of the plan that it was run at."""
    point = next((p for p in plan.points if p.key == t.key.point), None)
    if point is not None:
        yield from (Remark(trial_path(t.key), text) for text in _load(t, point, plan))


def _load(t: Judged, point: Point, plan: Plan) -> Iterator[str]:
    run, rows = t.file.run, Records.of(t.file.run.records)
    load, asked = (run.request_rate or run.concurrency), (point.request_rate or point.concurrency)
    if t.file.requests_asked != point.requests or run.request_rate != point.request_rate or load != asked:
        kind = "at concurrency" if run.request_rate is None else "a second, at a rate of"
        yield f"{t.file.requests_asked} requests {kind} {load:g}, the plan asks {point.requests}: {point.load}"
        return
    most, w = rows.max_tokens, point.workload
    other = (most != MISSING) & ((most != w.osl) if w.one_osl else (most > w.osl))
    if other.any():
        yield f"request {rows.numbers['index'][int(other.argmax())]} asked for another number of output tokens than the plan"
    over = (most == MISSING) & (rows.completion_tokens > w.osl)
    if over.any():
        yield f"request {rows.numbers['index'][int(over.argmax())]} has more output tokens than were asked for"
    schedule = schedule_of(plan, point, t.key)
    if schedule is not None and rows.intended_ns[rows.issue_order].tolist() != sorted(schedule.at_ns)[: len(rows)]:
        yield "its requests were meant for other times than the plan's seed gives"
