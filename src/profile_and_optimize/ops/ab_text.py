"""What `pao ab` prints: the answer with its doubt, absolute figures of both sides, what keeps it a DRAFT, the next command."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from profile_and_optimize.analysis.atlas import rows as atlas_rows
from profile_and_optimize.analysis.decide import Decision, ratio_words
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.ops.bench_text import most_first
from profile_and_optimize.report.absolute import LABELS, Absolute, absolutes, headline_figure
from profile_and_optimize.report.text import grid, wrap
from profile_and_optimize.report.view import gate_views, place_of
from profile_and_optimize.report.words import plain
from profile_and_optimize.stats.summary import TrialSummary

MOST_REASONS = 4


def text_of(ev: Evidence, d: Decision, b: str, failed: Sequence[str]) -> str:
    plan, rows = ev.plan, atlas_rows(ev, d)
    figures, effect = absolutes(plan, rows, b), d.effects.get(b)
    path = shlex.quote(str(ev.run))
    lines = wrap(answer(plan.baseline.id, b, effect, d.failed.get(b, ""), headline_figure(plan, figures), plan.margin))
    lines += wrap(f"model {place_of(plan, d, rows).model}", "  ")
    if effect is not None:
        what = " and ".join(plan.primary)
        lines += wrap(
            f"{what}: {effect.reason}; {effect.blocks} blocks, one-sided error {effect.error:.2%}", "  ", hang=2
        )
    lines += ["", *_table(figures, plan.baseline.id, b), ""] if any(f.baseline for f in figures) else []
    lines += wrap(f"A/A control, {plan.baseline.id} against itself: {ratio_words(d.aa) if d.aa else 'not run'}", "  ")
    lines += [x for line in failed for x in wrap(line, "  ", hang=2)]
    lines += _draft(ev, d)
    return "\n".join([*lines, f"page      {ev.run / 'report.html'}", f"check it  pao verify {path}"])


def answer(a: str, b: str, e: Effect | None, failed: str, figure: Absolute | None, margin: float) -> str:
    """The first line: what to serve, absolute figures of A -> B, the ratio with its interval."""
    if failed or e is None:
        return f"Keep {a}: {b} was not compared: {plain(failed) or 'no block is whole'}"
    what = {
        Call.BETTER: f"Serve {b} (provisional)",
        Call.WORSE: f"Keep {a}, {b} is worse (provisional)",
        Call.SAME: f"{a} and {b} are the same within {100 * margin:g}% (provisional)",
    }.get(e.call, f"UNKNOWN whether {b} is better than {a}")
    if e.estimate is None:
        return what
    turned = " (turned so that + is better)" if figure is not None and figure.metric.better == "lower" else ""
    return f"{what}: " + (f"{figure.arrow}, " if figure else "geometric mean ") + ratio_words(e) + turned


def _table(figures: Sequence[Absolute], a: str, b: str) -> list[str]:
    """Both sides of every point: medians over the blocks with 95% intervals."""
    out: list[str] = []
    for point in dict.fromkeys(f.point for f in figures):
        mine = [f for f in figures if f.point == point]
        heads = (f"  {point}", *(f"{LABELS[f.metric.name]} {f.metric.unit}" for f in mine))
        rows = [(f"  {side}", *(f.words[i] for f in mine)) for i, side in enumerate((a, b))]
        out += grid(heads, rows)
    return [*out, "  (over blocks, with 95% intervals)"]


def _draft(ev: Evidence, d: Decision) -> list[str]:
    """What keeps the result from a VERDICT, check by check, with what can be done."""
    found = [g for g in gate_views(ev, d) if g.todo]
    lines = [f"  {d.tier.value}" + (", because of:" if found else "")]
    for todo in dict.fromkeys(g.todo for g in found):
        mine = [g for g in found if g.todo == todo]
        for g in mine:
            state = "failed" if g.state == "failed" else "not evaluated"
            lines += wrap(f"{g.name} ({state}): {g.reason}", "    ", hang=2)
        lines += _advice(todo)
    return lines


def _advice(todo: str) -> list[str]:
    """A command stays on one line, however long, so that it can be copied."""
    says, colon, command = todo.partition(": pao ")
    lines = wrap(f"-> {says}{':' if colon else ''}", "      ", hang=3)
    return [*lines, f"         pao {command}"] if colon else lines


def failed_lines(trials: Sequence[Judged], sides: Mapping[str, Sequence[str]]) -> list[str]:
    """Per side: failed of asked requests over all its trials, those that did not count too, and the reasons."""
    lines = []
    for side, arms in sides.items():
        mine = [t.summary for t in trials if t.key.arm in arms]
        reasons: Counter[str] = Counter()
        for s in mine:
            reasons.update(dict(s.errors))
        why = "; ".join(f"{n} x {error}" for error, n in most_first(reasons.items())[:MOST_REASONS])
        count = f"{sum(s.failed for s in mine)} of {sum(s.asked for s in mine)} requests failed"
        unknown = sum(n for s in mine for _, n in s.unknown_why)
        tokens = f"; output tokens unknown of {unknown} answers: {_why_unknown(mine)}" if unknown else ""
        lines.append(f"{side}: {count}" + (f" ({why})" if why else "") + tokens)
    return lines


def _why_unknown(summaries: Sequence[TrialSummary]) -> str:
    return "; ".join(dict.fromkeys(words for s in summaries for words, _ in s.unknown_why))
