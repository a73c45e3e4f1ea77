"""Which prompts were sent: the same to all arms of a block, none twice to a server, and those that the plan's seed gives. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.campaign.asked import random_prompts
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.campaign.session import prompt_ids
from profile_and_optimize.clients.prompts import Calibration, PromptMaker
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import TrialKey
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evidence.trialfile import trial_path

Place = tuple[object, ...]


def check_prompts(ev: Evidence) -> Iterator[Remark]:
    """What the digests of the prompts say, over all trials."""
    points = {p.key: p for p in ev.frozen.points}
    stay = staying(ev.frozen)
    known = [t for t in ev.trials if t.key.point in points]
    yield from _shared(known, points, stay)
    yield from _repeated(known, points, stay)


def staying(plan: Plan) -> frozenset[str]:
    """Arms on servers that stay up, which would know a prompt the second time: each gets its own."""
    return frozenset(a.id for a in plan.all_arms if a.engine == "endpoint")


class Remaker:
    """Draws the random prompts of a trial again from the plan's seed, where that needs no file outside of the run: not
    with a tokenizer, and not from a dataset."""

    def __init__(self, plan: Plan, calibration: Calibration) -> None:
        self._plan, self._maker = plan, PromptMaker(None, calibration)
        self._points, self._stay = {p.key: p for p in plan.points}, staying(plan)
        self._last: tuple[Place, str, tuple[str, ...]] | None = None

    def check(self, t: Judged) -> Iterator[Remark]:
        point = self._points.get(t.key.point)
        if point is None or point.workload.dataset != "random":
            return
        whole, ids = self._digests(point, t.key, t.key.arm if t.key.arm in self._stay else "")
        if t.file.prompts_digest != whole or (t.file.prompt_ids and t.file.prompt_ids != ids):
            yield Remark(trial_path(t.key), "other prompts than the plan's seed gives")

    def _digests(self, point: Point, key: TrialKey, arm: str) -> tuple[str, tuple[str, ...]]:
        """Those of the trial before are kept: the arms of a block come one after another."""
        place: Place = (key.stage, key.block, key.point, key.attempt, arm)
        if self._last is None or self._last[0] != place:
            warm, timed = random_prompts(self._plan, self._maker, point, key, arm)
            self._last = place, digest("\0".join(timed).encode()), prompt_ids((*warm, *timed))
        return self._last[1], self._last[2]


def _shared(trials: list[Judged], points: dict[str, Point], stay: frozenset[str]) -> Iterator[Remark]:
    """Arms of a block share their prompts where servers restart; otherwise, and between blocks, none is met twice."""
    seen: dict[str, Place] = {}
    shared: dict[Place, tuple[str, tuple[str, ...]]] = {}
    for t in trials:
        place: Place = (t.key.stage, t.key.block, t.key.point, t.key.attempt)
        prompts = (t.file.prompts_digest, t.file.prompt_ids)
        if t.key.arm not in stay and shared.setdefault(place, prompts) != prompts:
            yield Remark(trial_path(t.key), f"other prompts than the other arms of {t.key.stage} block {t.key.block}")
        mine = (*place, t.key.arm) if t.key.arm in stay else place
        first = seen.setdefault(t.file.prompts_digest, mine)
        if first != mine and not points[t.key.point].workload.warm:
            yield Remark(trial_path(t.key), f"the prompts of {first[0]} block {first[1]} again")


def _repeated(trials: list[Judged], points: dict[str, Point], stay: frozenset[str]) -> Iterator[Remark]:
    """No prompt twice on a server: within one session, or within the campaign on one that stays up."""
    met: dict[Place, set[str]] = {}
    for t in trials:
        point, ids = points[t.key.point], t.file.prompt_ids
        if not ids:
            continue
        if len(ids) != point.concurrency + point.requests:
            yield Remark(
                trial_path(t.key), f"{len(ids)} prompt digests for {point.concurrency} + {point.requests} prompts"
            )
        server: Place = () if t.key.arm in stay else (t.key.stage, t.key.block, t.key.arm)
        before = met.setdefault(server, set())
        if not point.workload.warm and (len(set(ids)) < len(ids) or before & set(ids)):
            yield Remark(trial_path(t.key), "a prompt that this server had met before")
        before |= set(ids)
