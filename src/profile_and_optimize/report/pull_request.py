"""A run as Markdown for a pull request: the answer, the effects, absolute figures, the checks that did not pass."""

from __future__ import annotations

from collections.abc import Iterable

from profile_and_optimize.report.arms import FAILED, ArmView
from profile_and_optimize.report.markdown import document, light, table
from profile_and_optimize.report.view import View
from profile_and_optimize.report.workloads import WorkloadView


def pull_request(v: View, root: str = "") -> str:
    """`root` is the run's full root, under which `pao verify --against` finds this run and no other."""
    h = v.headline
    return document(
        [f"### {light(f'{h.title} {h.name}'.strip())} ({h.tier})"],
        [f"{light(h.sentence)} {light(h.caveat[0].upper() + h.caveat[1:])}."],
        table(("variant", "call", "effect", "n blocks"), map(_effect, v.arms)),
        *_figures(v),
        *_checks(v),
        [
            f"Model {light(v.place.model)} on {light(v.place.hardware)}; suite {light(v.place.suite)}; {v.stamp}; "
            f"run {light(v.run_id)}, root `{root or v.root}`; check it: `{v.verify.replace('`', chr(39))}`"
        ],
    )  # fmt: skip


def _effect(a: ArmView) -> tuple[str, ...]:
    return a.id, a.state, "unknown" if a.state == FAILED else a.effect_text or "the reference", str(a.blocks)


def _figures(v: View) -> Iterable[list[str]]:
    """The medians, with their 95% intervals over blocks."""
    heads = ("variant", *(f"{c.head} {c.unit}" for c in v.columns), "n blocks")
    for w in v.workloads:
        yield [light(w.words), "", *table(heads, _rows(w))]


def _rows(w: WorkloadView) -> Iterable[tuple[str, ...]]:
    for r in w.rows:
        if not r.note:
            yield r.arm, *(f"{x.text} ({x.interval})" if x.interval else x.text for x in r.figures), str(r.n)


def _checks(v: View) -> Iterable[list[str]]:
    if v.open_gates:
        rows = [(g.name, "failed" if g.state == "failed" else "not evaluated", g.reason) for g in v.open_gates]
        yield ["Checks that did not pass:", "", *table(("check", "state", "why"), rows)]
