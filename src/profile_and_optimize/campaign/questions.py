"""The accuracy questions of a campaign: drawn in the order in which they count, and asked of its servers, no more than settle them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign.accuracy import (
    FIRST,
    LEFT_OUT,
    MORE,
    accuracy_of,
    first_portion,
    joined,
    no_ship,
    questions_digest,
)
from profile_and_optimize.campaign.session import Seat, serving
from profile_and_optimize.campaign.starts import QUESTIONS
from profile_and_optimize.core.argv import last_value
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import PaoError, Unreachable, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.base import EngineFailed, Server
from profile_and_optimize.evals.conversation import Conversation, read_conversation
from profile_and_optimize.evals.exact_match import Answered, Question, answer_all
from profile_and_optimize.evals.pao_eval.sampling import Pins
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import redact, without
from profile_and_optimize.stats.clusters import Clusters, Posed, clusters_of, counting_order, whole_end
from profile_and_optimize.stats.noninferiority import Answer, looks

ANSWER_TOKENS = 24
# Questions are asked as many at once as the load has requests, up to this many.
MOST_AT_ONCE = 64
# Of more, so many are drawn: an arm that loses one point and one that loses none are told apart well before.
MOST_QUESTIONS = 4000


def drawn(questions: Sequence[Question], most: int = MOST_QUESTIONS) -> tuple[Question, ...]:
    """In the order in which they count, each once: files are sorted by subject, and a look has to see a fair draw of all; the
    same question twice would count as two. Clusters stay together, also where only the first `most` questions are asked."""
    once = list({(q.task, q.question): q for q in reversed(questions)}.values())
    ordered = _in_order(once)
    if len(ordered) <= most:
        return ordered
    labels = labels_of(ordered)
    end = whole_end(labels, most)
    # What a file has beyond may be all that made two of the kept ones alike, or a text an instruction: judged anew.
    return _in_order(ordered[:end])


def _in_order(questions: Sequence[Question]) -> tuple[Question, ...]:
    return tuple(questions[i] for i in counting_order([q.question for q in questions], labels_of(questions)))


def labels_of(questions: Sequence[Question]) -> tuple[str, ...]:
    """Which questions belong together."""
    return _clusters(questions).labels


def _clusters(questions: Sequence[Question]) -> Clusters:
    return clusters_of(tuple(Posed(q.task, q.question, q.cluster) for q in questions))


def ask_questions(seat: Seat, server: Server, arm: Arm, questions: Sequence[Question]) -> None:
    """Of the baseline and of its A/A control, whose differences are the floor (what batching flips too), as many as settle a
    candidate that loses nothing; of a candidate as many as it takes to answer for it, and no more than the baseline was asked."""
    if (seat.folder.path / f"cells/{arm.id}/{FIRST}").exists():
        return  # answered before a kill: nobody is asked until the answers please
    asked_of = Answers(seat, server, arm, questions)
    if arm.role is Role.BASELINE:
        seat.say(f"  accuracy: {_clusters(questions).assumption}")
    labels = labels_of(questions)
    most = first_portion(seat.plan, [(q.task, label) for q, label in zip(questions, labels, strict=True)])
    if arm.role is not Role.CANDIDATE:
        asked_of.ask(most)
    else:
        _ask_by_looks(asked_of, [n for n in looks(len(questions), labels) if n <= most])
    _keep_answers(asked_of, FIRST)


def _ask_by_looks(asked_of: Answers, ends: Sequence[int]) -> None:
    """Until an interim analysis settles it."""
    for n in ends:
        asked_of.ask(n)
        found = asked_of.found()
        if found is None or found.call != "unknown":
            break


def _keep_answers(asked_of: Answers, name: str) -> None:
    seat, arm = asked_of.seat, asked_of.arm
    seat.folder.write_json(f"cells/{arm.id}/{name}", asked_of.data(), producer="evals exact_match")
    found = accuracy_of(seat.plan, _accuracy_so_far(seat), arm.id)
    seat.say(f"  {arm.id}: {asked_of.n} of {len(asked_of.questions)} accuracy questions" + _said(found, arm))


def ask_on(seat: Seat, questions: Sequence[Question]) -> None:
    """The questions that are left, where a candidate was not settled by the first ones: of the baseline and of each such candidate,
    on a further start of its server. Nothing is asked where all is settled."""
    plan, firsts = seat.plan, _records(seat, FIRST)
    first = len(firsts[plan.baseline.id]["answers"])
    left = [a for a in plan.candidates if not has_failed(seat.folder, a) and _is_open(plan, firsts, a)]
    if first == len(questions) or not left or seat.folder.last(LEFT_OUT):
        return
    seat.say(f"  {first} questions did not settle {', '.join(a.id for a in left)}: asking the others")
    for arm in (plan.baseline, *left):
        try:
            if not (seat.folder.path / f"cells/{arm.id}/{MORE}").exists():
                _ask_rest(seat, arm, questions, first)
            require_answers(seat, arm)
        except (EngineFailed, Unreachable) as e:
            seat.say(f"  {arm.id} failed: {e.message}")
            if arm.role is Role.BASELINE:
                seat.folder.event(LEFT_OUT, reason=redact(e.message, seat.world.secrets))
                return
            fail(seat.folder, arm, e, seat.world.secrets)


def _ask_rest(seat: Seat, arm: Arm, questions: Sequence[Question], first: int) -> None:
    seat.say(f"  {arm.id}: starting for questions {first + 1} to {len(questions)}")
    with serving(seat, arm, QUESTIONS) as server:
        asked_of = Answers(seat, server, arm, questions, before=first)
        if arm.role is Role.BASELINE:
            asked_of.ask(len(questions))
        else:
            _ask_by_looks(asked_of, [n for n in looks(len(questions), labels_of(questions)) if n > first])
        _keep_answers(asked_of, MORE)


def _is_open(plan: Plan, accuracy: Mapping[str, Any], arm: Arm) -> bool:
    found = accuracy_of(plan, accuracy, arm.id)
    return found is not None and found.call == "unknown"


def require_answers(seat: Seat, arm: Arm) -> None:
    """Raises EngineFailed for an arm that was shown to lose right answers."""
    found = accuracy_of(seat.plan, _accuracy_so_far(seat), arm.id) if arm.role is Role.CANDIDATE else None
    if found is not None and found.call == "fail":
        raise EngineFailed(no_ship(found), where=f"cell {arm.id}")


def _said(found: Answer | None, arm: Arm) -> str:
    return f": {found.call}" if found is not None and arm.role is Role.CANDIDATE else ""


def _accuracy_so_far(seat: Seat) -> dict[str, Any]:
    more = _records(seat, MORE)
    return {arm: joined(found, more.get(arm)) for arm, found in _records(seat, FIRST).items()}


def _records(seat: Seat, name: str) -> dict[str, Any]:
    """What there is of that name, by cell."""
    names = {a.id: f"cells/{a.id}/{name}" for a in seat.plan.arms}
    return {a: seat.folder.read_json(rel) for a, rel in names.items() if (seat.folder.path / rel).exists()}


class Answers:
    """The answers of one arm, asked for in their order, some now and some later; `before` were asked on an earlier start."""

    def __init__(self, seat: Seat, server: Server, arm: Arm, questions: Sequence[Question], before: int = 0) -> None:
        self.seat, self._server, self.arm, self.questions = seat, server, arm, questions
        self._before = before
        self._asked_by = _conversation(seat.plan, arm)
        self._pins: Pins | None = None
        self._took_s = 0.0
        self._at_once = min(MOST_AT_ONCE, max(p.concurrency for p in seat.plan.points))
        self.answered: tuple[Answered, ...] = ()

    @property
    def n(self) -> int:
        """Questions answered on all starts."""
        return self._before + len(self.answered)

    def ask(self, n: int) -> None:
        """Up to the n-th question, as many at once as the load has requests."""
        began = self.seat.world.now()
        self.answered += answer_all(self.questions[self.n : n], self._one, concurrency=self._at_once)
        self._took_s += self.seat.world.now() - began

    def found(self) -> Answer | None:
        """What the gate says of this arm with the answers so far."""
        so_far = _accuracy_so_far(self.seat)
        own = joined(so_far[self.arm.id], self.data()) if self._before else self.data()
        return accuracy_of(self.seat.plan, {**so_far, self.arm.id: own}, self.arm.id)

    def _one(self, question: str) -> tuple[str, str]:
        world, api = self.seat.world, self.seat.plan.points[0].workload.api
        said = world.ask(self._server.url, self._server.model, question, api=api, max_tokens=ANSWER_TOKENS, pinned=True)
        self._pins = said.pins
        # Nothing but our own credentials: a right answer may well look like one of somebody else.
        return without(said.text, world.secrets), without(said.finish, world.secrets)

    def data(self) -> dict[str, Any]:
        every = [
            {"task": q.task, "question": q.question, "expected": q.answer, "cluster": q.cluster} for q in self.questions
        ]
        # Of the baseline alone: its record tells which questions the campaign has, asked or not.
        unasked = {"unasked": every[self.n :]} if self.arm.role is Role.BASELINE else {}
        return {
            "schema": 4, "questions_sha256": questions_digest({"answers": every}), "questions": len(every), **unasked,
            "max_tokens": ANSWER_TOKENS, "pins": self._pins.to_json() if self._pins else None, "at_once": self._at_once,
            "took_s": self._took_s, "asked_by": self._asked_by.to_json() if self._asked_by else None,
            "answers": [asdict(a) for a in self.answered],
        }  # fmt: skip


def _conversation(plan: Plan, arm: Arm) -> Conversation | None:
    """What the folder that the arm serves says of how it is asked. Raises EngineFailed where it cannot be read."""
    try:
        return read_conversation(
            Path(plan.model_of(arm)), last_value((*plan.common_flags, *arm.flags), "chat-template")
        )
    except WrongUse as e:
        raise EngineFailed(e.message, where=f"cell {arm.id}: {e.where}", next=e.next) from e


def has_failed(folder: RunFolder, arm: Arm) -> bool:
    return any(e.kind == "arm_failed" and e.data["arm"] == arm.id for e in folder.journal.events)


def fail(folder: RunFolder, arm: Arm, error: PaoError, secrets: Sequence[str]) -> None:
    folder.event("arm_failed", arm=arm.id, reason=redact(error.message, secrets), phase="admission")
