"""The answers of a campaign's arms as pairs against the baseline, and what the gate says of them.

One place: admission stops asking by it, the decision goes by it, and verify asks it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evals.conversation import Conversation, conversation_of, differences
from profile_and_optimize.evals.exact_match import could_be_right, is_right, is_unfinished
from profile_and_optimize.evals.pao_eval.sampling import wrong_pins
from profile_and_optimize.stats.clusters import Clusters, Posed, clusters_of
from profile_and_optimize.stats.noninferiority import Answer, Pair, Place, enough_without_loss
from profile_and_optimize.stats.unfinished import Asked as Both
from profile_and_optimize.stats.unfinished import Known, answer_with_unfinished, seen_pairs, too_many

Asked = Mapping[str, Any]
# Where the answers of a cell are: those of its admission, and those to the questions that were put later.
FIRST, MORE = "raw/accuracy.json", "raw/accuracy-more.json"
# The event that says why questions were not asked although a candidate needed them.
LEFT_OUT = "questions_left_out"
NO_SHIP = "no ship: accuracy"
USEFUL_BASELINE = 0.5
BROKEN = (ValueError, KeyError, TypeError, AttributeError)


def known_answers(found: Asked) -> list[bool | None]:
    """Is it right, answer by answer, in the order of the questions; None for one that is unfinished, and so neither."""
    return [
        None if is_unfinished(a.get("finish", "")) else is_right(a["said"], a["expected"]) for a in found["answers"]
    ]


def right_answers(found: Asked) -> list[bool]:
    """The same of those that are finished."""
    return [right for right in known_answers(found) if right is not None]


def _known(a: Asked) -> Known:
    if is_unfinished(a.get("finish", "")):
        return Known(None, 0.0, float(could_be_right(a["said"], a["expected"])), True)
    right = float(is_right(a["said"], a["expected"]))
    return Known(right, right, right, False)


def every_question(base: Asked) -> Sequence[Asked]:
    """All questions of a campaign in their order, by the record of its baseline: those it answered, then those it was not asked."""
    return [*base["answers"], *base.get("unasked", ())]


def joined(first: Asked, more: Asked | None) -> Asked:
    """The record of a cell whose later answers, if any, follow those of its admission."""
    if more is None:
        return first
    rest = {k: v for k, v in more.items() if k not in ("answers", "unasked")}
    answers = [*first["answers"], *more["answers"]]
    return {
        **first,
        "answers": answers,
        "unasked": more.get("unasked", []),
        "first": len(first["answers"]),
        "more": rest,
    }


def questions_digest(found: Asked) -> str:
    """Over every question that the campaign has, by the record of its baseline."""
    return digest("\0".join("\1".join(asked(a)) for a in every_question(found)).encode())


def asked(a: Asked) -> tuple[str, ...]:
    """What an arm was asked, by one of its answers; a cluster only where one was declared, so that digests from before clusters
    stay what they were."""
    cluster = a.get("cluster", "")
    return (a["task"], a["question"], a["expected"], *([cluster] if cluster else []))


def clusters(base: Asked) -> Clusters:
    """Of all questions of a campaign, from the answers of its baseline; records from before clusters declare none."""
    return clusters_of(tuple(Posed(a["task"], a["question"], a.get("cluster", "")) for a in every_question(base)))


def places(base: Asked) -> tuple[Place, ...]:
    """Task and cluster of every question."""
    return tuple((a["task"], label) for a, label in zip(every_question(base), clusters(base).labels, strict=True))


def first_portion(plan: Plan, places: Sequence[Place]) -> int:
    """How many questions baseline and A/A control answer at admission: as many as settle a candidate that loses nothing. Where
    checkpoints are compared, all: answers flip then, and a second start of every server would cost more than the questions."""
    if any(a.checkpoint for a in plan.all_arms):
        return len(places)
    return enough_without_loss(places, plan.accuracy_margin)


def both(base: Asked, arm: Asked) -> tuple[Both, ...]:
    """As many questions as both were asked."""
    sides = zip(places(base), base["answers"], arm["answers"], strict=False)
    return tuple(Both(task, _known(b), _known(c), cluster) for (task, cluster), b, c in sides)


def pairs(base: Asked, arm: Asked) -> tuple[Pair, ...]:
    """Those that both answered to their end."""
    return seen_pairs(both(base, arm))


def asked_apart(base: Asked, arm: Asked) -> list[str]:
    """How the folders of the two differ in their chat template or generation_config, as lines; none where one is unknown."""
    one, two = conversation_in(base), conversation_in(arm)
    return list(differences(one, two)) if one is not None and two is not None else []


def conversation_in(found: Asked) -> Conversation | None:
    """None behind an endpoint, in records from before it was kept, and for one that does not hold together, which verify says."""
    try:
        return conversation_of(found["asked_by"]) if found.get("asked_by") is not None else None
    except BROKEN:
        return None


def wrong_asking(found: Asked) -> Iterator[str]:
    """What of a record does not say how the questions were asked and how their answers ended, as lines."""
    if found.get("schema", 1) < 3:
        return
    if any(type(a.get("finish")) is not str for a in found["answers"]):
        yield "how some answers ended is missing"
    if found.get("asked_by") is not None and conversation_in(found) is None:
        yield "asked_by: the digests of its chat template or generation_config differ from those of the texts it holds"
    if found.get("first") and any(
        found["more"].get(k) != found.get(k) for k in ("questions_sha256", "asked_by", "pins")
    ):
        yield f"{MORE}: other questions than those of {FIRST}, or asked otherwise"
    if (pins := found.get("pins")) is not None:
        yield from (f"pins: {line}" for line in wrong_pins(pins, 0.0, 0))


def accuracy_of(plan: Plan, accuracy: Mapping[str, Asked], arm: str) -> Answer | None:
    """What the gate says of an arm; None where it or the baseline was asked nothing, or other questions."""
    base, own = accuracy.get(plan.baseline.id), accuracy.get(arm)
    if base is None or own is None or base["questions_sha256"] != own["questions_sha256"]:
        return None
    twin = accuracy.get(plan.twin.id) if plan.twin else None
    floor = pairs(base, twin) if twin is not None else None
    asked_both = both(base, own)
    found = answer_with_unfinished(
        asked_both, tolerance=plan.accuracy_margin, planned=len(every_question(base)), floor=floor, plan=places(base)
    )
    apart = "" if found.call == "fail" else "; ".join(asked_apart(base, own))
    why = (
        f"not asked alike: {apart}"
        if apart
        else useless(base) and (too_many(asked_both, plan.accuracy_margin) or useless(base))
    )
    return replace(found, call="unknown", decided_at=None, needed=None, reason=why) if why else found


def useless(base: Asked) -> str:
    """Why the questions cannot show a loss, "" where they can: two models that know nothing agree, question by question."""
    first = {
        "answers": base["answers"][: base.get("first")]
    }  # what was asked later, or not, must not turn a call round
    known, n = sum(right_answers(first)), len(first["answers"])
    if known >= USEFUL_BASELINE * n:
        return ""
    return f"the baseline itself answers {known} of {n}: these questions cannot show a loss"


def how_many(found: Answer) -> str:
    """How many of the planned questions an arm answered and why not all; "" where it answered them all."""
    if found.n >= found.planned:
        return ""
    if found.decided_at is None:
        return f"{found.n} of {found.planned} questions asked, {found.planned - found.n} left out"
    number = len(found.look_at)
    return f"{found.n} of {found.planned} questions asked: settled at interim analysis {number}"


def no_ship(found: Answer) -> str:
    """Why an arm that lost right answers takes no part."""
    return f"{NO_SHIP}: {found.reason}"
