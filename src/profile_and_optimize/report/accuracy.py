"""Accuracy per arm: right answers with their interval, and the bounds of the net loss against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.campaign.accuracy import accuracy_of, clusters, right_answers
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.report.words import UNKNOWN
from profile_and_optimize.stats.accuracy import score
from profile_and_optimize.stats.noninferiority import Answer


@dataclass(frozen=True)
class AccuracyRow:
    """`loss` is the net loss of right answers against the baseline with its interval, `call` what the gate says of it, and
    `needed` how many questions more it would take where it cannot tell."""

    arm: str
    right: str
    share: str
    interval: str
    loss: str
    call: str
    needed: str
    flips: str
    source: str


def accuracy_rows(ev: Evidence) -> tuple[AccuracyRow, ...]:
    """One row per arm that was asked; empty when no questions were asked at all."""
    return tuple(_row(ev, a.id, ev.accuracy[a.id]) for a in ev.plan.all_arms if a.id in ev.accuracy)


def assumption(ev: Evidence) -> str:
    """What the bounds of the losses rest on; "" when no questions were asked."""
    base = ev.accuracy.get(ev.plan.baseline.id)
    return clusters(base).assumption if base else ""


def _row(ev: Evidence, arm: str, found: Mapping[str, Any]) -> AccuracyRow:
    own, source = score(right_answers(found)), f"cells/{arm}/raw/accuracy.json"
    if own is None:
        return AccuracyRow(arm, UNKNOWN, UNKNOWN, "", UNKNOWN, UNKNOWN, "", "", source)
    cut = len(found["answers"]) - own.n
    right, share = f"{own.right} of {own.n}" + (f", {cut} cut" if cut else ""), f"{own.share:.1%}"
    interval = f"{own.lower:.1%} to {own.upper:.1%}"
    if arm == ev.plan.baseline.id:
        return AccuracyRow(arm, right, share, interval, "is the baseline", "", "", "", source)
    told = accuracy_of(ev.frozen, ev.accuracy, arm)
    if told is None:
        return AccuracyRow(arm, right, share, interval, UNKNOWN, UNKNOWN, "", "", source)
    twin = ev.plan.twin is not None and arm == ev.plan.twin.id
    call, needed = ("the floor", "") if twin else (told.call, _needed(told))
    return AccuracyRow(arm, right, share, interval, loss_words(told), call, needed, _flips(told, twin), source)


def loss_words(told: Answer) -> str:
    """In points, positive is worse."""
    if told.loss is None or told.lower is None or told.upper is None:
        return UNKNOWN
    return f"{_points(told.loss)} ({_points(told.lower)} to {_points(told.upper)}) points"


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"


def _needed(told: Answer) -> str:
    if told.call != "unknown" or not told.needed:
        return ""
    joined = f" in {told.needed_clusters} more clusters" if told.needed_clusters != told.needed else ""
    return f"about {told.needed} more questions{joined}"


def _flips(told: Answer, twin: bool) -> str:
    """Answers that differ from the baseline's in being right, beside how many do when the baseline is asked twice."""
    floor = "" if twin or told.floor is None else f" (asked twice, the baseline: {told.floor:.1%})"
    return "" if told.flips is None else f"{told.flips:.1%}{floor}"
