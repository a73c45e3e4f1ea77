"""The trials of a run that is being made, each read from the disk once: what is finished, and what counts so far."""

from __future__ import annotations

from profile_and_optimize.campaign.evidence_of import load_trial, proof_selected, race_of, selected
from profile_and_optimize.campaign.race import Race
from profile_and_optimize.campaign.selection import Judged, Selection
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.trialfile import is_trial_path


class Book:
    """A trial file never changes once it is written, so its judgement is kept by path."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._known: dict[str, Judged] = {}

    def trials(self) -> list[Judged]:
        wrote = {e.data["path"] for e in self._folder.journal.events if e.kind == "wrote"}
        paths = sorted(p for p in wrote if is_trial_path(p))
        for path in paths:
            if path not in self._known:
                self._known[path] = load_trial(self._folder.path / path)
        return [self._known[p] for p in paths]

    def of(self, stage: Stage, block: int, arm: str | None = None) -> list[Judged]:
        found = [t for t in self.trials() if (t.key.stage, t.key.block) == (stage, block)]
        return [t for t in found if arm in (None, t.key.arm)]

    def selection(self, plan: Plan) -> Selection:
        """Which trials of the exploration count, as the folder stands."""
        return selected(plan, self.trials(), self._folder.journal.events)

    def proof_selection(self, plan: Plan) -> Selection:
        """Which trials of the proof count; `plan` is its own (`Plan.proving`)."""
        return proof_selected(plan, self.trials(), self._folder.journal.events)

    def race(self, plan: Plan) -> Race | None:
        return race_of(plan, self.trials(), self._folder.journal.events)
