"""How often the servers of each arm were started, did not get ready, or died."""

from __future__ import annotations

from dataclasses import dataclass

from profile_and_optimize.analysis.crashes import Starts
from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.report.words import count, plain


@dataclass(frozen=True)
class StartsView:
    """One arm. `note` is why it is not shipped, or what its last loss said; "" where none was lost."""

    arm: str
    starts: int
    failed: int
    deaths: int
    note: str

    @property
    def words(self) -> str:
        counts = f"{self.arm}: {count(self.starts, 'start')}, {self.failed} failed, {self.deaths} died"
        return f"{counts}; {self.note}" if self.note else counts


def starts_views(ev: Evidence, d: Decision) -> tuple[StartsView, ...]:
    """Every arm that was compared, and of the others those whose servers were lost. Empty before the first start."""
    by_arm, why = d.starts, d.not_shipped
    theirs = {a.id for a in ev.plan.all_arms if a.engine == "endpoint"}  # not started here: only a loss says something
    compared = {a.id for a in ev.plan.arms}
    shown = [
        a.id for a in ev.plan.all_arms if (a.id in compared and a.id not in theirs) or by_arm.get(a.id, Starts()).lost
    ]
    return tuple(_view(arm, by_arm[arm], why.get(arm, "")) for arm in shown if arm in by_arm)


def _view(arm: str, s: Starts, why: str) -> StartsView:
    note = [f"not shipped: {why}"] if why else []
    note += [f"last: {s.reason}"] if s.lost else []
    return StartsView(plain(arm), s.starts, s.failed, s.deaths, plain("; ".join(note)))
