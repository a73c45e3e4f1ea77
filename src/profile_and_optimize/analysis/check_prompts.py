"""Which prompts were sent: the same to all arms of a block, none twice to a server, and those that the plan's seed gives. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.campaign.asked import made_prompts
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
from profile_and_optimize.stats.columns import Records
from profile_and_optimize.workloads.draw import Drawn

Place = tuple[object, ...]
# A plan may name any number of requests of any length; a campaign of ours has a few million at most.
MOST_TOKENS = 20_000_000


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


def redrawn(plan: Plan) -> tuple[tuple[str, ...], dict[str, str]]:
    """Points whose prompts follow from the plan alone, and those whose do not, with what they would need besides."""
    needs = {p.key: _needs(plan, p) for p in plan.points}
    return tuple(k for k, v in needs.items() if not v), {k: v for k, v in needs.items() if v}


def _needs(plan: Plan, point: Point) -> str:
    """What lies outside of the run, and without which its prompts cannot be drawn; "" where there is nothing."""
    w = point.workload
    if w.from_file:
        return f"the data {w.source}"
    if (point.concurrency + point.requests) * w.isl > MOST_TOKENS:
        return f"more than the {MOST_TOKENS} tokens that are drawn for one trial"
    return "the model's tokenizer" if plan.tokenizer else ""


class Remaker:
    """Draws the prompts of a trial again from the plan's seed, where that needs no file outside of the run: not with a
    tokenizer, and not from a data set."""

    def __init__(self, plan: Plan, calibration: Calibration) -> None:
        self._plan, self._maker = plan, PromptMaker(None, calibration)
        self._points, self._stay = {p.key: p for p in plan.points}, staying(plan)
        self._last: tuple[Place, Drawn, str, tuple[str, ...]] | None = None

    def check(self, t: Judged) -> Iterator[Remark]:
        point = self._points.get(t.key.point)
        if point is None or _needs(self._plan, point):
            return
        drawn, whole, ids = self._drawn(point, t.key, t.key.arm if t.key.arm in self._stay else "")
        if t.file.prompts_digest != whole or (t.file.prompt_ids and t.file.prompt_ids != ids):
            yield Remark(trial_path(t.key), "other prompts than the plan's seed gives")
        elif drawn.osls:
            yield from _too_long(t, drawn.osls)

    def _drawn(self, point: Point, key: TrialKey, arm: str) -> tuple[Drawn, str, tuple[str, ...]]:
        """Those of the trial before are kept: the arms of a block come one after another."""
        place: Place = (key.stage, key.block, key.point, key.attempt, arm)
        if self._last is None or self._last[0] != place:
            made = made_prompts(self._plan, self._maker, point, key, arm)
            ids = prompt_ids((*made.warmup, *made.timed))
            self._last = place, made, digest("\0".join(made.timed).encode()), ids
        return self._last[1:]


def _too_long(t: Judged, osls: tuple[int, ...]) -> Iterator[Remark]:
    """No answer may be longer than its own request asked for."""
    rows = Records.of(t.file.run.records)
    for index, tokens in zip(rows.numbers["index"].tolist(), rows.completion_tokens.tolist(), strict=True):
        if 0 <= index < len(osls) and tokens > osls[index]:
            yield Remark(trial_path(t.key), f"request {index} has {tokens} output tokens, it asked for {osls[index]}")
            return


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
