"""The answers of a campaign's arms as pairs against the baseline, and what the gate says of them.

One place: admission stops asking by it, the decision goes by it, and verify asks it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.stats.clusters import Clusters, Posed, clusters_of
from profile_and_optimize.stats.noninferiority import Answer, Pair, Place, answer

Asked = Mapping[str, Any]
NO_SHIP = "no ship: accuracy"
USEFUL_BASELINE = 0.5


def right_answers(found: Asked) -> list[bool]:
    """Answer by answer, in the order of the questions."""
    return [a["said"].strip() == a["expected"].strip() for a in found["answers"]]


def questions_digest(found: Asked) -> str:
    """Over what was asked, of all questions that the campaign has, whether an arm answered them all or stopped before."""
    return digest("\0".join("\1".join(asked(a)) for a in found["answers"]).encode())


def asked(a: Asked) -> tuple[str, ...]:
    """What an arm was asked, by one of its answers; a cluster only where one was declared, so that digests from before clusters
    stay what they were."""
    cluster = a.get("cluster", "")
    return (a["task"], a["question"], a["expected"], *([cluster] if cluster else []))


def clusters(base: Asked) -> Clusters:
    """Of all questions of a campaign, from the answers of its baseline; records from before clusters declare none."""
    return clusters_of(tuple(Posed(a["task"], a["question"], a.get("cluster", "")) for a in base["answers"]))


def places(base: Asked) -> tuple[Place, ...]:
    """Task and cluster of every question."""
    return tuple((a["task"], label) for a, label in zip(base["answers"], clusters(base).labels, strict=True))


def pairs(base: Asked, arm: Asked) -> tuple[Pair, ...]:
    """As many as the arm has answered."""
    sides = zip(places(base), right_answers(base), right_answers(arm), strict=False)
    return tuple(Pair(task, float(b), float(c), cluster) for (task, cluster), b, c in sides)


def accuracy_of(plan: Plan, accuracy: Mapping[str, Asked], arm: str) -> Answer | None:
    """What the gate says of an arm; None where it or the baseline was asked nothing, or other questions."""
    base, own = accuracy.get(plan.baseline.id), accuracy.get(arm)
    if base is None or own is None or base["questions_sha256"] != own["questions_sha256"]:
        return None
    twin = accuracy.get(plan.twin.id) if plan.twin else None
    floor = pairs(base, twin) if twin is not None else None
    found = answer(
        pairs(base, own), tolerance=plan.accuracy_margin, planned=len(base["answers"]), floor=floor, plan=places(base)
    )
    nothing = useless(base)
    return replace(found, call="unknown", decided_at=None, needed=None, reason=nothing) if nothing else found


def useless(base: Asked) -> str:
    """Why the questions cannot show a loss, "" where they can: two models that know nothing agree, question by question."""
    known, n = sum(right_answers(base)), len(base["answers"])
    if known >= USEFUL_BASELINE * n:
        return ""
    return f"the baseline itself answers {known} of {n}: these questions cannot show a loss"


def no_ship(found: Answer) -> str:
    """Why an arm that lost right answers takes no part."""
    return f"{NO_SHIP}: {found.reason}"
