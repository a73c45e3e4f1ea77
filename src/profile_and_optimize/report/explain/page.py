"""An explanation as data and as lines for a terminal, at most 100 columns wide."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.context import context_from_json
from profile_and_optimize.core.workload import point_key
from profile_and_optimize.report.contexts import ContextRow, ContextValue, Gaps, context_rows, gap_views
from profile_and_optimize.report.explain.agree import Check
from profile_and_optimize.report.explain.number import Case, Cell, Number, Rest, Story, Table, shown
from profile_and_optimize.report.text import COLUMNS, grid, pairs, wrap
from profile_and_optimize.report.words import UNKNOWN, count, plain, width

MOST_FILES, MOST_ROWS = 24, 60
WIDEST_NAME, WIDEST_VALUE = 62, 16


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
    def agrees(self) -> bool:
        return not self.problems and all(c.agrees for c in self.checks)


def explain(case: Case, number: Number, checks: tuple[Check, ...] = (), problems: tuple[str, ...] = ()) -> Explanation:
    """`problems` are faults of the files that the number rests on, found by whoever can open them."""
    story = number.tell()
    rows = _rows(case, story.arms, story.points)
    run = shlex.quote(plain(str(case.ev.run)))
    return Explanation(
        run=plain(case.ev.run.name), root=case.ev.root, number=number, story=story, checks=checks, problems=problems,
        context=context_rows(rows), gaps=gap_views(rows),
        unseen=tuple(a for a in story.arms if a not in {r["cell"] for r in rows}), commands={a: _command(case, a) for a in story.arms},
        again=(f"pao explain {run} {shlex.quote(number.name)}", f"pao verify {run}"),
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


def listing(numbers: Sequence[Number], head: str, foot: Sequence[str]) -> str:
    """Name, printed value and meaning, in the order of the report; a blank line between kinds and between arms."""
    lines = wrap(head)
    for _, members in groupby(numbers, key=_group):
        lines += ["", *_columns(list(members))]
    return "\n".join([*lines, "", *(x for f in foot for x in wrap(f))])


def _group(n: Number) -> tuple[str, ...]:
    parts = n.name.split(".")
    return tuple(parts[:2]) if parts[0] in ("cells", "effect", "trials") else tuple(parts[:1])


def _columns(numbers: Sequence[Number]) -> list[str]:
    """Values stand below each other; what a meaning does not fit into goes on below it."""
    names = min(WIDEST_NAME, max(len(n.name) for n in numbers))
    values = min(WIDEST_VALUE, max(width(plain(n.text)) for n in numbers))
    hang = names + values + 4
    lines = []
    for n in numbers:
        start = f"{n.name:<{names}}  {plain(n.text):<{values}}"
        if width(start) + 2 > hang:
            lines += [*wrap(start, hang=4), *wrap(plain(n.meaning), " " * hang)]
            continue
        told = textwrap.wrap(plain(n.meaning), COLUMNS - hang) or [""]
        lines += [f"{start}  {told[0]}".rstrip(), *(" " * hang + line for line in told[1:])]
    return lines


def text(e: Explanation) -> str:
    s = e.story
    parts = (
        _head(e), _agreement(e), _section("How it comes about", s.formula), _values(s), *map(_table, s.tables),
        _files("Rests on", s.trials), _files("On disk, and does not count", s.unused), _records(s), _context(e), _commands(e),
        _foot(e),
    )  # fmt: skip
    return "\n\n".join("\n".join(p) for p in parts if p)


def _head(e: Explanation) -> list[str]:
    n = e.number
    same = [f"another name of {n.same_as}"] if n.same_as else []
    return [*wrap(f"{n.name} = {plain(n.text)}"), *(x for line in (plain(n.meaning), *same) for x in wrap(line, "  "))]


def _agreement(e: Explanation) -> list[str]:
    """Loud where anything does not agree; it stands before everything else."""
    bad = [c for c in e.checks if not c.agrees]
    if e.agrees:
        held = ", ".join(_where(e.checks))
        where = f"; the same stands in {held}" if held else "; no derived file on disk holds it"
        return wrap(f"AGREES: computed anew from the records{where}.", hang=2)
    lines = wrap("DOES NOT AGREE with what the records give:")
    for c in bad:
        lines += wrap(f"{c.words} says: {c.held}", "  ", hang=4) + wrap(f"the records give: {c.given}", "    ", hang=4)
    return [*lines, *(x for p in e.problems for x in wrap(plain(p), "  ", hang=4))]


def _where(checks: Sequence[Check]) -> Iterator[str]:
    for file, same in groupby(checks, key=lambda c: c.file):
        yield f"{file} ({', '.join(c.where for c in same)})"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(x for line in lines for x in wrap(plain(line), "  ", hang=4))] if lines else []


def _values(s: Story) -> list[str]:
    lines = ["Values on the way"] if s.values else []
    wide = [
        max(len(x) for x in column)
        for column in (("", *(v.symbol for v in s.values)), ("", *(_cell(v.value) for v in s.values)))
    ]
    for v in s.values:
        start = f"{v.symbol:<{wide[0]}}  {_cell(v.value):<{wide[1]}}"
        lines += wrap(f"{start}  {plain(v.note)}", "  ", hang=sum(wide) + 4)
    return lines


def _table(t: Table) -> list[str]:
    rows = [tuple(_cell(c) for c in row) for row in t.rows[:MOST_ROWS]]
    more = [f"  and {len(t.rows) - MOST_ROWS} more rows (--json has them all)"] if len(t.rows) > MOST_ROWS else []
    return [*wrap(t.title), *_fitted(t.heads, rows), *more]


def _fitted(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Side by side where that fits, else a row as lines of "name value"."""
    table = ["  " + line for line in grid(heads, rows)]
    if all(width(line) <= COLUMNS for line in table):
        return table
    told = [", ".join(f"{h} {c}".strip() for h, c in zip(heads, row, strict=True)) for row in rows]
    return ["", *(x for line in told for x in wrap(line, "  ", hang=4))]


def _cell(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or value is None:
        return shown(value)
    return plain(value)


def _files(title: str, rests: Sequence[Rest]) -> list[str]:
    if not rests:
        return []
    lines = [f"{title}: {count(len(rests), 'trial file')}"]
    for r in rests[:MOST_FILES]:
        lines += wrap(f"{plain(r.path)}  {plain(r.note)}", "  ", hang=4)
    return lines + ([f"  and {len(rests) - MOST_FILES} more (--json has them all)"] if len(rests) > MOST_FILES else [])


def _records(s: Story) -> list[str]:
    lines = ["By hand: the first requests that count, times in nanoseconds since the trial began"] if s.records else []
    for r in s.records:
        told = ", ".join(
            f"{k.removesuffix('_ns').replace('_', ' ')} {'unknown' if v is None else v}" for k, v in r.fields.items()
        )
        lines += wrap(f"{plain(r.trial)}, request {r.index}: {told}", "  ", hang=4)
        lines += [x for line in r.by_hand for x in wrap(plain(line), "    ", hang=4)]
    return lines


def _context(e: Explanation) -> list[str]:
    lines = ["Context, as asked by plan and flags and as observed"] if e.story.arms else []
    lines += [f"  nothing was observed of {a}: no trial of it can be read" for a in e.unseen]
    for c in e.context:
        differs = (", the lever" if c.kind == "arm" else ", must be equal") if c.differs else ""
        for v in c.values:
            whose = "" if v.holders == "every arm" else f" ({v.holders})"
            lines += wrap(f"{c.name} [{c.kind}{differs}]: {_seen(v)}{whose}", "  ", hang=4)
    for g in e.gaps:
        lines += wrap(f"unknown {g.kind} fields: {', '.join(g.names)}", "  ", hang=4)
    return lines


def _seen(v: ContextValue) -> str:
    if v.observed == UNKNOWN:
        return f"asked {v.asked}, not observed" if v.asked != UNKNOWN else UNKNOWN
    asked = "" if v.asked == UNKNOWN else ", as asked" if v.asked == v.observed else f", asked {v.asked}"
    return f"observed {v.observed}{asked}"


def _commands(e: Explanation) -> list[str]:
    lines = ["Command"] if e.commands else []
    for arm, c in e.commands.items():
        lines += [x for line in _command_words(arm, c) for x in wrap(plain(line), "  ", hang=4)]
    return lines


def _command_words(arm: str, c: Mapping[str, Any]) -> Iterator[str]:
    env = " ".join(f"{k}={shlex.quote(str(v))}" for k, v in c["env"].items())
    argv = shlex.join(map(str, c["argv"]))
    if c["kept"]:
        cores = f" on cores {','.join(map(str, c['cores']))}" if c["cores"] else ""
        yield f"{arm}: {env} {argv}{cores}".replace(":  ", ": ")
    elif c["url"]:
        yield f"{arm}: an endpoint that somebody else runs, {c['url']}"
    else:
        yield f"{arm}: no command was kept; flags {argv or 'none of its own'}{', env ' + env if env else ''}"


def _foot(e: Explanation) -> list[str]:
    rows = [
        ("run", e.run),
        ("root", e.root),
        *(("files", f) for f in e.story.files),
        *(("see", n) for n in e.story.see[:MOST_FILES]),
    ]
    return pairs([*rows, *(("again", a) for a in e.again)])
