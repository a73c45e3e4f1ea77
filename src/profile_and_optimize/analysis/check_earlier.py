"""The earlier campaigns that a run lists, against its own plan and trials. Pure: the other folders are not looked at."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.campaign.earlier import EARLIER, ENDPOINT, pair_key
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.evidence.trialfile import is_trial_path


def check_earlier(ev: Evidence) -> Iterator[Remark]:
    """Written once and before the first trial; its variants are those of the plan, its node and builds those of the trials."""
    yield from (Remark(EARLIER, text) for text in _texts(ev))


def _texts(ev: Evidence) -> Iterator[str]:
    kept, wrote = ev.earlier, [e.data["path"] for e in ev.events if e.kind == "wrote"]
    if kept is None:
        return
    first = next((i for i, p in enumerate(wrote) if is_trial_path(p)), len(wrote))
    if wrote.count(EARLIER) != 1 or wrote.index(EARLIER) > first:
        yield f"written {wrote.count(EARLIER)} times; it is written once, before the first trial"
    plan = ev.frozen
    if kept.alpha != plan.alpha or kept.pairs != {
        a.id: pair_key(plan, a, kept.node, kept.builds) for a in plan.candidates
    }:
        yield "its variants are not those of the plan"
    if ev.run.name in {r.run_id for r in kept.runs} or len({r.run_id for r in kept.runs}) < len(kept.runs):
        yield "a campaign is listed twice, or before itself"
    engines = {a.id: a.engine for a in plan.all_arms}
    for t in ev.trials:
        engine = engines.get(t.key.arm, ENDPOINT)
        if engine == ENDPOINT:
            continue
        told = {"node": kept.node, "engine_version": kept.builds.get(engine, {}).get("engine_version", UNKNOWN)}
        seen = {name: t.file.context.get(name, {}).get("observed", UNKNOWN) or UNKNOWN for name in told}
        if differ := [n for n in told if UNKNOWN not in (told[n], seen[n]) and told[n] != seen[n]]:
            yield f"records {', '.join(f'{n} {told[n]}' for n in differ)}; the trials saw {', '.join(seen[n] for n in differ)}"
            return
