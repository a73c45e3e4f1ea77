"""Gates on what surrounded the trials: a quiet machine, unique prompts, a cold cache, code that can be pinned. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.campaign.guard import loudest, too_loud, unseen
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Workload
from profile_and_optimize.engines.prometheus import cache_use
from profile_and_optimize.evidence.trialfile import trial_path

QUIET, UNIQUE, CACHE, PINNED = "quiet machine", "unique prompts", "cache state", "pinned source"
MOST_NAMED = 3
# Prompts of a data set share beginnings, such as an instruction before every question; a repeated prompt is all hits.
SHARED = 0.10
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def quiet_gate(used: Sequence[Judged]) -> Gate:
    """No trial that counts had more of others' work, steal, quota, heat or swapping beside it than the guard's limits."""
    if not used:
        return Gate(QUIET, None, "no whole block")
    loud = [(t, words) for t in used if (words := too_loud(t.file.machine))]
    if loud:
        first, words = loud[0]
        what = f"{trial_path(first.key)}: {'; '.join(words)}"
        return Gate(QUIET, False, f"{len(loud)} of {len(used)} trials were disturbed, such as {what}")
    blind = [t for t in used if unseen(t.file.machine)]
    if any(_asked(t, "engine") == "endpoint" for t in blind):
        return Gate(QUIET, None, "endpoints that we did not start: what else their machines do is not seen")
    if blind:
        return Gate(QUIET, None, f"what else the machine did is unknown for {len(blind)} of {len(used)} trials")
    cores, steal = loudest(t.file.machine for t in used)
    return Gate(QUIET, True, f"at most {cores:.2f} cores of other work and {steal:.1%} steal in {len(used)} trials")


def prompts_repeat_gate(used: Sequence[Judged], plan: Plan) -> Gate:
    """Every cold prompt was new to its server. `used` may be all trials, which then also tells of those that do not count."""
    if not used:
        return Gate(UNIQUE, None, "no whole block")
    found = repeated_prompts(used, plan)
    if found:
        return Gate(UNIQUE, False, f"{found[0]}{f', and {len(found) - 1} more trials' if len(found) > 1 else ''}")
    lacking = sum(not t.file.prompt_ids for t in used)
    if lacking:
        return Gate(UNIQUE, None, f"{lacking} of {len(used)} trials do not tell their prompts apart")
    return Gate(UNIQUE, True, "no prompt was sent twice to a server, warm workloads apart")


def repeated_prompts(trials: Iterable[Judged], plan: Plan) -> list[str]:
    """A line per trial that sent a prompt its server knew already, in the order in which the trials ran.

    A server lives for one session (stage, block, arm); one that we did not start, under its URL, for the whole campaign.
    """
    known: dict[tuple[object, ...], set[str]] = {}
    lines = []
    for t in sorted(trials, key=lambda t: (t.file.started_at, t.key)):
        server = known.setdefault(_server(t, plan), set())
        ids = t.file.prompt_ids
        again = len(ids) - len(set(ids) - server)
        if again and not _warm(t, plan):
            lines.append(f"{trial_path(t.key)}: {again} of {len(ids)} prompts were known to its server already")
        server |= set(ids)
    return lines


def _server(t: Judged, plan: Plan) -> tuple[object, ...]:
    arm = next((a for a in plan.all_arms if a.id == t.key.arm), None)
    if arm is not None and arm.engine == "endpoint":
        return ("endpoint", arm.url)
    return (t.key.stage, t.key.block, t.key.arm)


def cache_gate(used: Sequence[Judged], plan: Plan) -> Gate:
    """Cold workloads found nothing in the prefix cache beyond the chat template and a tenth of their tokens.

    By the servers' own counters. Where prompts repeat or begin alike by declaration there is no limit; what they found is told.
    """
    if not used:
        return Gate(CACHE, None, "no whole block")
    cold = [t for t in used if not _repeats(t, plan)]
    excess = {t.key: _excess(t) for t in cold}
    hot = [t for t in cold if (e := excess[t.key]) is not None and e > SHARED]
    told = "".join(f"; {words}" for words in _warm_words([t for t in used if _repeats(t, plan)], plan))
    if hot:
        what = f"{trial_path(hot[0].key)} found {excess[hot[0].key]:.0%} of its prompt tokens there beyond the chat template"
        return Gate(CACHE, False, f"{len(hot)} of {len(cold)} cold trials met a warm cache, such as {what}{told}")
    unknown = sorted({t.key.arm for t in cold if excess[t.key] is None})
    if unknown:
        return Gate(CACHE, None, f"the servers of {', '.join(unknown)} show no cache counters{told}")
    if not cold:
        return Gate(CACHE, True, told.removeprefix("; "))
    most = max(e for e in excess.values() if e is not None)
    return Gate(CACHE, True, f"cold: at most {most:.1%} of prompt tokens from the cache, the chat template apart{told}")


def _excess(t: Judged) -> float | None:
    """The share of queried prompt tokens that the cache held beyond the template's; None where nobody counted."""
    if _seen(t, "prefix_caching").lower() in ("false", "off", "0"):
        return 0.0
    use, template = cache_use(t.file.counters), _number(_seen(t, "template_tokens"))
    if use is None or use.queried <= 0 or template is None:
        return None
    return max(0.0, use.hit - template * t.file.requests_asked) / use.queried


def _warm_words(warm: Sequence[Judged], plan: Plan) -> Iterator[str]:
    for point in sorted({t.key.point for t in warm}):
        kind = "warm" if any(p.key == point and p.workload.warm for p in plan.points) else "shared prefixes,"
        uses = [cache_use(t.file.counters) for t in warm if t.key.point == point]
        shares = [u.share for u in uses if u is not None and u.share is not None]
        if shares:
            yield f"{kind} {point}: {min(shares):.0%} to {max(shares):.0%} of prompt tokens from the cache"
        else:
            yield f"{kind} {point}: the cache is not counted"


def provenance_gate(pick: str, plan: Plan, used: Sequence[Judged], twin: Sequence[str] = ()) -> Gate:
    """In every trial of the pick, of its twin and of the baseline, the engine was a release or a commit, pinned, and nothing over it."""
    arms = tuple(dict.fromkeys((pick, *twin, plan.baseline.id)))
    mine = [t for t in used if t.key.arm in arms]
    if not mine:
        return Gate(PINNED, None, "no trial of the pick")
    told = [_pinned(t) for t in mine]
    answers = [answer for answer, _ in told]
    passed = False if False in answers else None if None in answers else True
    reasons = list(
        dict.fromkeys(f"{t.key.arm}: {why}" for t, (answer, why) in zip(mine, told, strict=True) if answer is passed)
    )
    return Gate(PINNED, passed, "; ".join(reasons[:MOST_NAMED]))


def _pinned(t: Judged) -> tuple[bool | None, str]:
    delivery, commit, lock, changed = (
        _seen(t, n) for n in ("delivery", "source_commit", "engine_lock", "modified_files")
    )
    what = f"{commit}, lock {lock}"
    if changed not in ("none", UNKNOWN):
        return False, f"{delivery}, {commit}, with changes: {_first(changed)}"
    if delivery == "overlay":
        return False, f"an overlay on {what}"
    if UNKNOWN in (delivery, commit, lock, changed):
        missing = [
            n
            for n, v in (("delivery", delivery), ("commit", commit), ("lock", lock), ("changes", changed))
            if v == UNKNOWN
        ]
        return None, f"unknown: {', '.join(missing)}" + ("" if delivery == UNKNOWN else f" ({delivery})")
    if delivery == "release" or (delivery == "source" and _COMMIT.fullmatch(commit)):
        return True, f"{delivery}, {what}, no file modified"
    return None, f"{delivery}, {what}"


def _first(changed: str) -> str:
    """ "7: a, b, c, d ..." with three of the names."""
    count, _, names = changed.partition(": ")
    return (
        f"{count} ({', '.join(names.split(', ')[:MOST_NAMED])}{', ...' if len(names.split(', ')) > MOST_NAMED else ''})"
    )


def _workload(t: Judged, plan: Plan) -> Workload | None:
    return next((p.workload for p in plan.points if p.key == t.key.point), None)


def _warm(t: Judged, plan: Plan) -> bool:
    """May its prompts repeat?"""
    found = _workload(t, plan)
    return found is not None and found.warm


def _repeats(t: Judged, plan: Plan) -> bool:
    """May a prefix cache hold what its prompts begin with?"""
    found = _workload(t, plan)
    return found is not None and found.repeats


def _seen(t: Judged, name: str) -> str:
    return t.file.context.get(name, {}).get("observed", UNKNOWN)


def _asked(t: Judged, name: str) -> str:
    return t.file.context.get(name, {}).get("asked", UNKNOWN)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
