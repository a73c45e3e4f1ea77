"""Accuracy per arm: right answers with their interval, and the bound on the net loss against the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.report.words import UNKNOWN
from profile_and_optimize.stats.accuracy import paired_loss, score


@dataclass(frozen=True)
class AccuracyRow:
    """`loss` bounds the net loss of right answers against the baseline from above (95% one-sided)."""

    arm: str
    right: str
    share: str
    interval: str
    loss: str
    source: str


def accuracy_rows(ev: Evidence) -> tuple[AccuracyRow, ...]:
    """One row per arm that was asked; empty when no questions were asked at all."""
    base = ev.accuracy.get(ev.plan.baseline.id)
    return tuple(_row(a.id, ev.accuracy[a.id], base) for a in ev.plan.all_arms if a.id in ev.accuracy)


def _row(arm: str, found: Mapping[str, Any], base: Mapping[str, Any] | None) -> AccuracyRow:
    own = score(right_answers(found))
    source = f"cells/{arm}/raw/accuracy.json"
    if own is None:
        return AccuracyRow(arm, UNKNOWN, UNKNOWN, "", UNKNOWN, source)
    return AccuracyRow(
        arm, f"{own.right} of {own.n}", f"{own.share:.1%}", f"{own.lower:.1%} to {own.upper:.1%}", _loss(found, base), source
    )  # fmt: skip


def _loss(found: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    if base is found:
        return "is the baseline"
    if base is None or base["questions_sha256"] != found["questions_sha256"]:
        return UNKNOWN
    loss = paired_loss(right_answers(base), right_answers(found))
    return UNKNOWN if loss is None else f"at most {max(0.0, loss.upper):.1%} (lost {loss.lost}, won {loss.won})"


def right_answers(found: Mapping[str, Any]) -> list[bool]:
    """Answer by answer, in the order of the questions."""
    return [a["said"].strip() == a["expected"].strip() for a in found["answers"]]
