"""The context of the numbers: asked and observed per field, what differs between arms, and what nobody knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.core.context import ARM_FIELDS
from profile_and_optimize.core.workload import point_key
from profile_and_optimize.report.words import UNKNOWN, plain

Holder = tuple[str, str]


@dataclass(frozen=True)
class ContextValue:
    """One value of a field and the arms (and workloads) that had it."""

    asked: str
    observed: str
    holders: str


@dataclass(frozen=True)
class ContextRow:
    """`differs` is True where arms had different values: an arm field is then a lever, an environment field a fault."""

    name: str
    kind: str
    values: tuple[ContextValue, ...]
    differs: bool


@dataclass(frozen=True)
class Gaps:
    """Fields that no arm's context knows, and what not knowing them means."""

    kind: str
    names: tuple[str, ...]
    meaning: str


MEANING = {
    "arm": "An arm may differ from the baseline in one of these without the report naming it as part of the lever.",
    "environment": "Nobody could check that these were equal for every arm; do not carry the result over to a place where "
    "one of them differs.",
}


def context_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[ContextRow, ...]:
    """Arm fields that differ first, then environment, then the rest of the arm fields."""
    measured = [r for r in rows if r["context"]]
    names = sorted({n for r in measured for n in r["context"]})
    found = [_row(name, measured) for name in names]
    known = [r for r in found if any((v.asked, v.observed) != (UNKNOWN, UNKNOWN) for v in r.values)]
    return tuple(sorted(known, key=lambda r: (not r.differs, r.kind == "arm", r.name)))


def _row(name: str, rows: Sequence[Mapping[str, Any]]) -> ContextRow:
    values: dict[tuple[str, str], list[Holder]] = {}
    for r in rows:
        f = r["context"].get(name, {"asked": UNKNOWN, "observed": UNKNOWN})
        values.setdefault((plain(f["asked"]), plain(f["observed"])), []).append((r["cell"], _point(r)))
    everyone = [(r["cell"], _point(r)) for r in rows]
    shown = tuple(ContextValue(a, o, _holders(h, everyone)) for (a, o), h in values.items())
    return ContextRow(name, "arm" if name in ARM_FIELDS else "environment", shown, _differs(values))


def _differs(values: Mapping[tuple[str, str], Sequence[Holder]]) -> bool:
    """True where two arms differ at the same workload; a field such as `load` differs between workloads by design."""
    at: dict[str, set[tuple[str, str]]] = {}
    for value, holders in values.items():
        for _, point in holders:
            at.setdefault(point, set()).add(value)
    return any(len(v) > 1 for v in at.values())


def _holders(mine: Sequence[Holder], everyone: Sequence[Holder]) -> str:
    arms, points = _unique(a for a, _ in mine), _unique(p for _, p in mine)
    all_arms, all_points = _unique(a for a, _ in everyone), _unique(p for _, p in everyone)
    who = "every arm" if arms == all_arms else ", ".join(arms)
    where = "" if points == all_points else f" at {', '.join(points)}"
    return who + where


def _unique(items: Any) -> list[str]:
    return list(dict.fromkeys(items))


def _point(row: Mapping[str, Any]) -> str:
    return point_key(row["workload"], row["concurrency"], row.get("request_rate"))


def gap_views(rows: Sequence[Mapping[str, Any]]) -> tuple[Gaps, ...]:
    """What every measured row lacks, by kind; nothing when there is no row to speak of."""
    lacking = [set(r["unknown"]) for r in rows if r["context"]]
    names = sorted(set().union(*lacking)) if lacking else []
    kinds = {k: tuple(n for n in names if (n in ARM_FIELDS) == (k == "arm")) for k in ("arm", "environment")}
    return tuple(Gaps(k, n, MEANING[k]) for k, n in kinds.items() if n)
