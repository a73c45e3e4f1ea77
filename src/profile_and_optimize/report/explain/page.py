"""An explanation: one number with its story, whether it agrees, its context and commands. As data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.context import context_from_json
from profile_and_optimize.core.workload import point_key
from profile_and_optimize.report.contexts import ContextRow, Gaps, context_rows, gap_views
from profile_and_optimize.report.explain.agree import Check
from profile_and_optimize.report.explain.number import Case, Number, Story
from profile_and_optimize.report.words import plain, verify_command


@dataclass(frozen=True)
class Explanation:
    """One number with all that is behind it. `unseen` are arms without any context; `commands` are those of the arms that
    it is about, as they were kept."""

    run: str
    root: str
    number: Number
    story: Story
    checks: tuple[Check, ...]
    problems: tuple[str, ...]
    context: tuple[ContextRow, ...]
    gaps: tuple[Gaps, ...]
    unseen: tuple[str, ...]
    commands: Mapping[str, Mapping[str, Any]]
    again: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """None where there was nothing to compare with."""
        if self.problems or not all(c.agrees for c in self.checks):
            return False
        return True if self.checks else None


def explain(case: Case, number: Number, checks: tuple[Check, ...] = (), problems: tuple[str, ...] = ()) -> Explanation:
    """`problems` are faults of the files that the number rests on, found by whoever can open them."""
    story = number.tell()
    rows = _rows(case, story.arms, story.points)
    run = shlex.quote(plain(str(case.ev.run)))
    return Explanation(
        run=plain(case.ev.run.name), root=case.ev.root, number=number, story=story, checks=checks, problems=problems,
        context=context_rows(rows), gaps=gap_views(rows),
        unseen=tuple(a for a in story.arms if a not in {r["cell"] for r in rows}), commands={a: _command(case, a) for a in story.arms},
        again=(f"pao explain {run} {shlex.quote(number.name)}", verify_command(str(case.ev.run))),
    )  # fmt: skip


def _rows(case: Case, arms: Sequence[str], points: Sequence[str]) -> list[Mapping[str, Any]]:
    """What is known of where the arms' numbers were taken: from the trials that count, else from any there is."""
    found = [r for r in case.rows if r["cell"] in arms and r["context"] and (not points or _point(r) in points)]
    lacking = [a for a in arms if a not in {r["cell"] for r in found}]
    first = {t.key.arm: t for t in reversed(case.ev.trials) if t.key.arm in lacking}
    return found + [_row(case, t) for t in first.values()]


def _point(row: Mapping[str, Any]) -> str:
    return point_key(row["workload"], row["concurrency"], row["request_rate"])


def _row(case: Case, t: Judged) -> Mapping[str, Any]:
    known = context_from_json(t.file.context)
    point = next(p for p in case.ev.plan.points if p.key == t.key.point)
    return {
        "cell": t.key.arm, "workload": point.workload.name, "concurrency": point.concurrency, "request_rate": point.request_rate,
        "context": known.to_json(), "unknown": list(known.gaps()),
    }  # fmt: skip


def _command(case: Case, arm: str) -> Mapping[str, Any]:
    """As it was started; for an arm that we did not start, or that never got so far, what the plan says of it."""
    kept, asked = case.ev.commands.get(arm), case.ev.plan.arm(arm)
    if kept is not None:
        return {
            "argv": list(kept.get("argv", ())),
            "env": dict(kept.get("env", {})),
            "cores": list(kept.get("cores", ())),
            "kept": True,
        }
    env = {**dict(case.ev.plan.common_env), **dict(asked.env)}
    return {
        "argv": [*case.ev.plan.common_flags, *asked.flags],
        "env": env,
        "cores": [],
        "kept": False,
        "url": asked.url or None,
    }


def to_json(e: Explanation) -> dict[str, Any]:
    s = e.story
    return {
        "campaign": e.run, "evidence_root": e.root, "agrees": e.agrees, **number_json(e.number), "formula": list(s.formula),
        "values": {v.symbol: {"value": v.value, "note": v.note} for v in s.values},
        "tables": [{"title": t.title, "rows": [dict(zip(t.heads, row, strict=True)) for row in t.rows]} for t in s.tables],
        "trials": [asdict(r) for r in s.trials], "do_not_count": [asdict(r) for r in s.unused],
        "records": [{"trial": r.trial, "index": r.index, **r.fields, "by_hand": list(r.by_hand)} for r in s.records],
        "files": list(s.files), "context": [asdict(c) for c in e.context], "unknown": {g.kind: list(g.names) for g in e.gaps},
        "commands": {a: dict(c) for a, c in e.commands.items()}, "checks": [asdict(c) for c in e.checks], "problems": list(e.problems),
        "see": list(s.see), "again": list(e.again),
    }  # fmt: skip


def number_json(n: Number) -> dict[str, Any]:
    stored = [{"file": p.file, "where": p.words, "value": p.value} for p in n.places]
    return {"name": n.name, "printed": n.text, "meaning": n.meaning, "stored": stored, "same_as": n.same_as or None}
