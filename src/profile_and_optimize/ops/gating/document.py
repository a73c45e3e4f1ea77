"""gate.json: what follows from two evaluations, a tolerance and a plan. `verify` makes it again from the copies in the run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from profile_and_optimize.evals.samples import Sample, by_task, scored
from profile_and_optimize.ops.evaluation.keep import limited
from profile_and_optimize.ops.gating.sides import Side, asked_apart, pair_id
from profile_and_optimize.stats.clusters import Clusters, counting_order
from profile_and_optimize.stats.noninferiority import FAIL, OPEN, PASS, Answer, Pair, answer
from profile_and_optimize.stats.unfinished import Asked, answer_with_unfinished, seen_pairs

SCHEMA = 3
TIGHT = 400
MOST_CHOICES = 26


@dataclass(frozen=True, slots=True)
class Terms:
    """What was asked of the gate. `runs` names the evaluations with their roots; `earlier` are gates of the same pair before this
    one; `other_mode` one that asked it with the other form of prompt; `instruct` says why the model wants a chat template, "" if
    nothing tells so."""

    tolerance: float
    planned: int
    alpha: float
    runs: dict[str, dict[str, str]]
    earlier: tuple[dict[str, Any], ...] = ()
    other_mode: str = ""
    instruct: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "earlier": list(self.earlier)}


def terms_of(raw: dict[str, Any]) -> Terms:
    return Terms(**{**raw, "earlier": tuple(raw["earlier"])})


def gate_document(
    terms: Terms, base: Side, candidate: Side, floor: Side | None, schema: int = SCHEMA
) -> dict[str, Any]:
    """Everything that gate.json says. Of schema 1, from before clusters, and 2, from before unfinished answers and chat templates,
    with what those had."""
    if schema == 1:
        base, candidate = replace(base, texts=None), replace(candidate, texts=None)
    asked = asked_of(base, candidate)
    found = answer_with_unfinished(
        asked, tolerance=terms.tolerance, planned=terms.planned, alpha=terms.alpha,
        floor=pairs_of(base, floor) if floor else None,
    )  # fmt: skip
    guessing = {t: why for t, s in by_task(base.samples).items() if (why := cannot_show(s, terms.tolerance))}
    if found.call == PASS and len(guessing) == len(base.tasks):
        why = f"{next(iter(guessing.values()))}: these questions cannot show a loss"
        found = replace(found, call=OPEN, decided_at=None, reason=why)
    apart = asked_apart(base, candidate) if schema >= 3 else []
    if schema >= 3:
        found = held_open(found, apart, base, candidate)
    twice = floor_of(base, floor, terms) if floor else None
    doubts = [*_doubts(terms, base, candidate), *(_asking_doubts(base, candidate) if schema >= 3 else ())]
    document = {
        "schema": schema, "call": found.call, "tier": "DRAFT" if found.call == OPEN or doubts else "VERDICT", "reason": found.reason,
        "doubts": doubts,
        "answer": _numbers(found, schema), "all_questions": whole(base, candidate), "floor": twice,
        "warnings": [*doubts, *_warnings(terms, base, candidate, found, guessing, schema), *_floor_warnings(twice, terms)],
        "pair": pair_id(base, candidate), "sides": _sides(base, candidate, floor), "asked": terms.to_json(),
    }  # fmt: skip
    if schema >= 3:
        document |= {
            "unfinished": _unfinished(asked, terms.tolerance),
            "asked_apart": apart,
            "limited": limited(base.told["tasks"]),
        }
    return document if schema == 1 else {**document, "clusters": base.clusters.to_json()}


def encoded(document: dict[str, Any]) -> bytes:
    """The bytes of gate.json, as `RunFolder.write_json` writes them."""
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def asked_of(one: Side, two: Side) -> tuple[Asked, ...]:
    """In the order in which they count, whatever order they were asked in."""
    mine, other, labels = one.scores, two.scores, one.clusters.labels
    order = counting_order([f"{s.task}\0{s.id}" for s in one.samples], labels)
    keys = [((one.samples[i].task, one.samples[i].id), labels[i]) for i in order]
    return tuple(Asked(key[0], mine[key], other[key], label) for key, label in keys)


def pairs_of(one: Side, two: Side) -> tuple[Pair, ...]:
    """The questions that both sides answered to their end, in the same order."""
    return seen_pairs(asked_of(one, two))


def held_open(found: Answer, apart: Sequence[str], base: Side, candidate: Side) -> Answer:
    """A pass is not given where the two sides were not asked alike, or where nobody kept which answers were cut. A loss that was
    shown is no less one."""
    if found.call == FAIL:
        return found
    old = [
        name for name, side in (("base", base), ("candidate", candidate)) if side.told["schema"] < 3 and _was_cut(side)
    ]
    why = f"not asked alike: {'; '.join(apart)}" if apart else ""
    if not why and old:
        why = f"answers of the {' and the '.join(old)} were cut, and its record does not say which: evaluate again"
    return (
        replace(found, call=OPEN, decided_at=None, needed=None, needed_clusters=None, samples=None, reason=why)
        if why
        else found
    )


def _was_cut(side: Side) -> bool:
    return any(r.get("cut") for r in side.told["tasks"])


def _unfinished(asked: Sequence[Asked], tolerance: float) -> dict[str, Any]:
    """How many questions have an unfinished answer, and the share that a pass allows."""
    return {
        "base": sum(a.base.cut for a in asked), "candidate": sum(a.candidate.cut for a in asked), "n": len(asked), "most": tolerance,
    }  # fmt: skip


def _asking_doubts(base: Side, candidate: Side) -> Iterator[str]:
    """What of the asking nobody can tell."""
    sides = {"base": base, "candidate": candidate}
    unknown = [name for name, side in sides.items() if side.conversation is None]
    if unknown:
        yield f"the chat template and generation_config of the {' and the '.join(unknown)} are unknown"
    for name, side in sides.items():
        if side.loose:
            yield f"the server of the {name} decides itself on {', '.join(side.loose)}: no request could"


def _numbers(found: Answer, schema: int) -> dict[str, Any]:
    told = asdict(found)
    tasks = [{**asdict(t), "flips": t.flips} for t in found.tasks]
    for name in ("call", "reason", "floor"):  # said once, above
        del told[name]
    if schema == 1:
        for row in (told, *tasks):
            row.pop("clusters")
        told.pop("needed_clusters")
    return {**told, "tasks": tasks, "look_at": list(found.look_at)}


def whole(base: Side, candidate: Side) -> list[dict[str, Any]]:
    """Every task over all its questions, and all of them together, whenever the gate decided."""
    pairs = pairs_of(base, candidate)
    names = [*sorted(base.tasks), ""] if len(base.tasks) > 1 else list(base.tasks)
    return [_whole(name, [p for p in pairs if name in ("", p.task)]) for name in names]


def _whole(task: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    if not (n := len(pairs)):
        nothing = dict.fromkeys(("base", "candidate", "loss", "flips"))
        return {"task": task or "all tasks", "n": 0, "lost": 0, "won": 0, **nothing}
    lost, won = sum(p.candidate < p.base for p in pairs), sum(p.candidate > p.base for p in pairs)
    base, candidate = sum(p.base for p in pairs) / n, sum(p.candidate for p in pairs) / n
    return {
        "task": task or "all tasks", "n": n, "base": base, "candidate": candidate, "loss": base - candidate, "lost": lost, "won": won,
        "flips": (lost + won) / n,
    }  # fmt: skip


def floor_of(base: Side, floor: Side, terms: Terms) -> dict[str, Any]:
    """The base against itself: how many questions flip by themselves, and is one run worse than the other?"""
    pairs = pairs_of(base, floor)
    if not pairs:
        return {**_whole("", pairs), "task": "base twice", "itself": "unknown"}
    there = answer(pairs, tolerance=terms.tolerance, planned=len(pairs), alpha=terms.alpha)
    back = answer(
        [Pair(p.task, p.candidate, p.base) for p in pairs],
        tolerance=terms.tolerance,
        planned=len(pairs),
        alpha=terms.alpha,
    )
    return {
        **_whole("", pairs),
        "task": "base twice",
        "itself": "fail" if "fail" in (there.call, back.call) else "holds",
    }


def cannot_show(samples: Sequence[Sample], tolerance: float) -> str:
    """Why a loss in this task would not be seen, "" when it would: the base guesses, or is hardly ever right.

    Guessing is judged against always giving the most frequent answer, where there are few different ones to choose from.
    """
    told = scored(samples)
    lower = told.lower if told is not None and told.lower is not None else 0.0
    counts = Counter(s.expected.strip() for s in samples)
    few = len(counts) <= MOST_CHOICES and len(samples) >= 4 * len(counts) and len(counts) > 1
    chance = max(counts.values()) / len(samples) if few else 0.0
    task = samples[0].task
    if few and lower <= chance:
        return f"{task}: the base cannot be told from always giving one answer ({chance:.1%} right)"
    return f"{task}: the base is hardly ever right" if lower <= tolerance else ""


def _sides(base: Side, candidate: Side, floor: Side | None) -> dict[str, Any]:
    named = {"base": base, "candidate": candidate, **({"floor": floor} if floor else {})}
    fields = ("model", "model_digest", "served_model", "endpoint", "engine", "chat", "sampling", "lm_eval")
    return {name: {f: side.told.get(f) for f in fields} for name, side in named.items()}


def _doubts(terms: Terms, base: Side, candidate: Side) -> Iterator[str]:
    """What keeps a decided gate a DRAFT."""
    for name, side in (("base", base), ("candidate", candidate)):
        if not side.known:
            yield f"which weights the {name} is stays unknown: it was asked at an endpoint, as {side.model}"
    if terms.earlier:
        last = terms.earlier[-1]
        count = len(terms.earlier)
        yield (
            f"this pair was gated before ({count} other plan{'' if count == 1 else 's'}, last {last['run']}: {last['call']} of "
            f"{last['planned']} planned): {terms.alpha:.0%} holds for one plan, all together for {terms.alpha * (count + 1):.0%}"
        )


def cluster_warnings(clusters: Clusters) -> Iterator[str]:
    """What clusters cost, and which questions were joined by their text."""
    n, largest = len(clusters.labels), clusters.sizes[0]
    if largest > 1:
        yield (
            f"the largest cluster has {largest} of {n} questions: they weigh no more than {n // largest} independent ones; smaller "
            "clusters, or more questions outside of it, tell sooner"
        )
    for one, two in clusters.examples[:1]:
        yield f"nearly the same question twice, so that both count as one cluster, such as {one!r} and {two!r}"


def _warnings(
    terms: Terms, base: Side, candidate: Side, found: Answer, guessing: dict[str, str], schema: int
) -> Iterator[str]:
    yield from guessing.values()
    if schema >= 3:
        yield from (f"only {line}: the rest is not judged" for line in limited(base.told["tasks"]))
        yield from (f"not asked alike: {line}" for line in asked_apart(base, candidate))
    yield from cluster_warnings(base.clusters) if schema != 1 else ()
    for name, side in (("base", base), ("candidate", candidate)):
        yield from (f"{name}: {line}" for line in side.told.get("warnings") or ())
    if base.serving != candidate.serving:
        yield f"base and candidate were not served alike, so the loss is that of the serving as well: {_apart(base, candidate)}"
    if base.said == candidate.said:
        yield "every answer is the same word for word: was the candidate really asked?"
    if found.decided_at is not None and found.n > found.decided_at:
        yield f"decided after {found.decided_at} questions; the {found.n - found.decided_at} after them change nothing"
    yield from _instruct_warnings(terms, base)


def _apart(base: Side, candidate: Side) -> str:
    one, two = base.serving, candidate.serving
    return ", ".join(k for k in sorted({*one, *two}) if one.get(k) != two.get(k))


def _instruct_warnings(terms: Terms, base: Side) -> Iterator[str]:
    """What the comparison of an instruct model takes: no examples, with and without its chat template, enough questions."""
    if not terms.instruct:
        return
    shots = [t for t, r in base.tasks.items() if r.get("fewshot")]
    if shots:
        yield f"an instruct model ({terms.instruct}) is compared without examples: --fewshot 0 for {', '.join(shots)}"
    if not terms.other_mode:
        mode, other = ("with", "without") if base.told.get("chat") else ("without", "with")
        yield f"an instruct model ({terms.instruct}), asked {mode} its chat template only: gate it {other} as well"
    if len(base.samples) < TIGHT:
        yield f"{len(base.samples)} questions; a tight comparison of an instruct model takes {TIGHT}"


def _floor_warnings(twice: dict[str, Any] | None, terms: Terms) -> Iterator[str]:
    if twice is None:
        yield "without --floor nobody knows how many questions flip by themselves: pao evaluate the base once more"
    elif twice["itself"] == "fail":
        yield f"the base does not reproduce itself: two runs of it differ by more than {100 * terms.tolerance:g} points"
