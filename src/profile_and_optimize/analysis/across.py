"""Several engines in one campaign: what must match between them, and the best of each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.context import UNKNOWN, context_from_json
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call, Effect

MATCHED_GATE = "engines matched"
# An arm may change these of its own engine. Between engines a difference would be taken for one of the engines: a cache that
# replays prefixes has made phantom winners.
MATCHED = ("prefix_caching", "dtype", "cores_bound")
TOP = 3


@dataclass(frozen=True, slots=True)
class EngineRank:
    """The best of one engine: `first` is its own defaults (the arm that came first), `top` its arms by their estimate
    against the campaign's baseline, which counts as 0; an arm without an estimate is not ranked."""

    engine: str
    first: str
    top: tuple[str, ...]


def engines_of(plan: Plan) -> tuple[str, ...]:
    """In the order of their first arms."""
    return tuple(dict.fromkeys(a.engine for a in plan.all_arms))


def ranks(plan: Plan, effects: Mapping[str, Effect]) -> tuple[EngineRank, ...]:
    out = []
    for engine in engines_of(plan):
        mine = [a.id for a in plan.all_arms if a.engine == engine and a is not plan.twin]
        known = {plan.baseline.id: 0.0} | {a: e.estimate for a, e in effects.items() if e.estimate is not None}
        ranked = sorted((a for a in mine if a in known), key=lambda a: (-known[a], mine.index(a)))
        out.append(EngineRank(engine, mine[0], tuple(ranked[:TOP])))
    return tuple(out)


def ranks_json(plan: Plan, effects: Mapping[str, Effect]) -> list[dict[str, Any]]:
    return [{"engine": r.engine, "first": r.first, "top": list(r.top)} for r in ranks(plan, effects)]


def ties(plan: Plan, effects: Mapping[str, Effect]) -> tuple[str, ...]:
    """Arms of other engines than the baseline's that are the same within the margin."""
    return tuple(
        a.id for a in plan.candidates if a.engine != plan.baseline.engine and _call(effects, a.id) is Call.SAME
    )


def _call(effects: Mapping[str, Effect], arm: str) -> Call | None:
    return effects[arm].call if arm in effects else None


def unmatched(base: Judged, t: Judged) -> Iterator[str]:
    """What differs between two engines and must not; nothing for arms of one engine."""
    if _engine(base) == _engine(t):
        return
    for name in MATCHED:
        one, two = _value(base, name), _value(t, name)
        if one != two and UNKNOWN not in (one, two):
            yield f"{name}: {one} | {two} (must match between engines)"


def matched_gate(plan: Plan, used: Sequence[Judged]) -> Gate | None:
    """Do the engines' caches, number formats and cores match? None where there is one engine only."""
    if len(engines_of(plan)) < 2:
        return None
    base = next((t for t in used if t.key.arm == plan.baseline.id), None)
    others = [t for t in used if base is not None and _engine(t) != _engine(base)]
    if base is None or not others:
        return Gate(MATCHED_GATE, None, "no whole block with two engines")
    wrong = sorted({f"{t.key.arm}: {line}" for t in others for line in unmatched(base, t)})
    if wrong:
        return Gate(MATCHED_GATE, False, "; ".join(wrong))
    unknown = sorted({f"{n} of {t.key.arm}" for t in (base, *others) for n in MATCHED if _value(t, n) == UNKNOWN})
    if unknown:
        return Gate(MATCHED_GATE, None, f"unknown: {', '.join(unknown)}")
    return Gate(MATCHED_GATE, True, ", ".join(f"{n} {_value(base, n)}" for n in MATCHED))


def _engine(t: Judged) -> str:
    return t.file.context.get("engine", {}).get("asked", UNKNOWN)


def _value(t: Judged, name: str) -> str:
    """One spelling for what engines spell differently."""
    return context_from_json(t.file.context).get(name).lower().removeprefix("torch.")
