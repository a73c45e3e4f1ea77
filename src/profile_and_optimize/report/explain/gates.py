"""The gates as they were computed: what each asks for, what it saw trial by trial, and the numbers it looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from profile_and_optimize.analysis.gates import SLO_LEVEL, Gate
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.metrics import METRICS, Metric
from profile_and_optimize.core.names import slug
from profile_and_optimize.engines.prometheus import cache_use
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.explain.number import Case, Cell, Number, Place, Story, Table, left_out, rests, shown
from profile_and_optimize.report.view import GateView
from profile_and_optimize.stats.quantile import quantile_interval
from profile_and_optimize.stats.summary import samples

CHOICE = "champion_select.json"
ASKS = {
    "primary test": "the pick is called BETTER; where the baseline stands, the looks have shown every candidate not to be better",
    "proof of the pick": "signs and t interval of the proof's blocks agree: e at least 100, and the interval beyond the margin",
    "worst block": "in no block that counts did the pick come out below the baseline by more than the non-inferiority margin",
    "A/A arm": "the interval of the baseline against itself, at alpha on each side, includes 0",
    "no workload lost": "per workload and focus metric, the lower end of the pick's interval lies above 1 / (1 + non-inferiority)",
    "accuracy": "the bound of the pick's net loss of right answers, which holds at all looks together, is below the tolerance",
    "SLO": "a t-interval (5% a side, on the logs, over the pick's sessions) of upper bounds of their p99 ends at most at the limit",
    "failed requests": "failed / asked, over all trials that count, of the pick and of the baseline, is at most the limit",
    "interim analyses complete": "every kind of block has all its blocks, or a look answered for all its arms",
    "client valid": "no trial that counts had a client that was late by its own measures",
    "servers stay up": "the pick's servers failed to start or died no more often than the baseline's at as many starts",
    "restarts": "every server was started by the campaign, anew in every block",
    "no run cut short": "at most one trial broken off, block given up or trial run again, of those that the pick's answer rests on",
    "random order": "the files of every block were written in the order drawn from the plan's seed",
    "steady state": "MSER-5 on the TPOT of every trial that counts finds the end of the start-up, and no trend is left",
    "quiet machine": "beside no trial that counts did others use more of the machine than the guard allows",
    "unique prompts": "no prompt was sent twice to one server, warm workloads apart",
    "cache state": "cold workloads found at most 10% of their tokens in the prefix cache, the chat template apart",
    "pinned source": "every trial of pick and baseline ran a release or a commit, pinned and unmodified",
    "grounding": "device counters were read over the trials (L3 or better), unless the node has none",
    "records readable": "every trial file that the journal lists could be read",
}


def numbers(case: Case) -> Iterator[Number]:
    for gate, seen in zip(case.d.gates, case.view.gates, strict=True):
        stored = (Place(CHOICE, ("gates", ("name", gate.name), "passed"), gate.passed),)
        yield Number(
            f"gate.{slug(gate.name)}", seen.state, seen.name, partial(_story, case, gate, seen), stored, (seen.name,)
        )


def _story(case: Case, gate: Gate, seen: GateView) -> Story:
    used = case.d.counted
    note, asks = _NOTES.get(gate.name), ASKS.get(gate.name)
    mine = [t for t in used if gate.name not in _OF_THE_PICK or t.key.arm in _named(case, gate.name)]
    told = (
        f"passes when {asks}" if asks else "",
        f"{seen.state}: {seen.reason}",
        f"to do: {seen.todo}" if seen.todo else "",
    )
    return Story(
        formula=tuple(line for line in told if line),
        tables=_p99s(case) if gate.name == "SLO" else (),
        trials=rests(mine, note) if note else (), unused=left_out(case, lambda t: True) if note else (),
        files=("plan.json", "journal.jsonl"), arms=_named(case, gate.name), see=_see(case, gate.name),
    )  # fmt: skip


_OF_THE_PICK = ("SLO", "failed requests", "pinned source")


def _named(case: Case, gate: str) -> tuple[str, ...]:
    """The arms that a gate is about; the pick, and mostly the baseline with it."""
    return (case.d.pick,) if gate == "SLO" else tuple(dict.fromkeys((case.d.pick, case.view.baseline)))


def _see(case: Case, gate: str) -> tuple[str, ...]:
    pick, plan = case.d.pick, case.ev.plan
    if gate == "primary test":
        return tuple(f"effect.{a}" for a in case.d.effects)
    if gate == "A/A arm":
        return ("aa.effect",) if plan.twin else ()
    if gate == "no workload lost" and pick != plan.baseline.id:
        return tuple(f"effect.{pick}.{p.key}.{METRICS[m].printed}" for p in plan.points for m in plan.primary)
    if gate == "accuracy" and pick in case.ev.accuracy:
        return (f"accuracy.{pick}", f"accuracy.{pick}.loss")
    return ()


def _p99s(case: Case) -> tuple[Table, ...]:
    """Per session of the pick: its p99, and the upper bound of it by order statistics."""
    blocks, pick = sorted(case.d.selection.blocks.items()), case.d.pick
    rows = tuple(
        _p99(arms[pick][p.key], METRICS[name], limit)
        for p in case.ev.plan.points for name, limit in case.ev.plan.slo for _, arms in blocks if pick in arms
    )  # fmt: skip
    heads = ("workload", "metric", "block", "values", "p99", "upper bound", "limit")
    return (Table("The pick's p99 in every session", heads, rows),) if rows else ()


def _p99(t: Judged, m: Metric, limit: float) -> tuple[Cell, ...]:
    dist, run = t.summary.dists[m.name], t.file.run
    found = samples(run.records, t.summary.dropped, run.open_loop)[m.name].tolist() if dist else []
    high = quantile_interval(found, 0.99, 1 - 2 * SLO_LEVEL).high
    ends = [None if v is None else v * m.scale for v in (dist.p99 if dist else None, high, limit)]
    return (t.key.point, m.printed, t.key.block, len(found), *ends)


def _failed(t: Judged) -> str:
    return f"{t.summary.failed} of {t.summary.asked} failed"


def _client(t: Judged) -> str:
    return "; ".join((t.honesty.validity.value, *t.honesty.reasons))


def _steady(t: Judged) -> str:
    return f"{t.summary.steady.answer}: {t.summary.steady.reason}"


def _machine(t: Judged) -> str:
    foreign, steal = (t.file.machine.get(k) for k in ("foreign_cores", "steal_share"))
    return f"others used {shown(foreign)} cores, steal {shown(steal)}"


def _prompts(t: Judged) -> str:
    ids = t.file.prompt_ids
    return f"{len(ids)} prompts, {len(set(ids))} different" if ids else "its prompts are not told apart"


def _cache(t: Judged) -> str:
    use = cache_use(t.file.counters)
    return "no cache counters" if use is None else f"{shown(use.hit)} of {shown(use.queried)} tokens from the cache"


def _source(t: Judged) -> str:
    names = ("delivery", "source_commit", "engine_lock", "modified_files")
    return ", ".join(f"{n} {t.file.context.get(n, {}).get('observed', 'unknown')}" for n in names)


def _hardware(t: Judged) -> str:
    return f"hardware {t.file.context.get('hardware', {}).get('observed', 'unknown')}"


_NOTES: dict[str, Callable[[Judged], str]] = {
    "failed requests": _failed, "client valid": _client, "steady state": _steady, "quiet machine": _machine,
    "unique prompts": _prompts, "cache state": _cache, "pinned source": _source, "grounding": _hardware, "SLO": _failed,
    "random order": lambda t: f"block {t.key.block}, {t.key.arm}", "records readable": lambda t: trial_path(t.key),
}  # fmt: skip
