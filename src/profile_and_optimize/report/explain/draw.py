"""An explanation, or a list of numbers, as lines for a terminal at most 100 columns wide. Text from outside stays text."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from profile_and_optimize.report.contexts import ContextValue
from profile_and_optimize.report.explain.agree import Check
from profile_and_optimize.report.explain.number import Cell, Number, Rest, Story, Table, shown
from profile_and_optimize.report.explain.page import Explanation
from profile_and_optimize.report.text import COLUMNS, grid, pairs, wrap
from profile_and_optimize.report.words import UNKNOWN, count, plain, width

MOST_FILES, MOST_ROWS = 24, 60
WIDEST_NAME, WIDEST_VALUE = 62, 16


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
        return wrap(f"AGREES: computed anew from the records; the same stands in {held}.", hang=2)
    if e.agrees is None:
        return wrap(
            "COMPUTED anew from the records; no derived file on disk is known to hold it by itself, so none was compared."
        )
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
    lines = (
        ["By hand: the first requests that count, times in nanoseconds since the trial started"] if s.records else []
    )
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
