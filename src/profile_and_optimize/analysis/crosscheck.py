"""What must agree inside a run whatever the numbers are: counts, times, prompts, node, cache mode, commit. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from profile_and_optimize.campaign.evidence_of import FINALISTS, Evidence
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.trialfile import is_trial_path, trial_path

SLACK_S = 0.5
LITTLE = 0.02
SAME_EVERYWHERE = ("node", "kernel", "driver", "base_model_digest", "client_version", "hardware")
SAME_PER_POINT = ("workload", "load", "cache_mode")


def crosscheck(ev: Evidence) -> list[str]:
    """Each disagreement as one line naming the file; empty when everything agrees."""
    found: list[str] = []
    checks: tuple[Callable[[Judged, Evidence], Iterator[str]], ...] = (_belongs, _counts, _times, _little)
    for t in ev.trials:
        where = trial_path(t.key)
        found += [f"{where}: {text}" for check in checks for text in check(t, ev)]
    return (
        found + list(_written(ev)) + list(_race(ev)) + list(_attempts(ev)) + list(_prompts(ev)) + list(_same(ev.trials))
    )


def _written(ev: Evidence) -> Iterator[str]:
    """A trial is written once, and the plan once and before the first of them."""
    wrote = [e.data["path"] for e in ev.events if e.kind == "wrote"]
    trials = [p for p in wrote if is_trial_path(p)]
    for path in sorted({p for p in trials if trials.count(p) > 1}):
        yield f"{path}: written {trials.count(path)} times"
    if wrote.count("plan.json") > 1:
        yield f"plan.json: written {wrote.count('plan.json')} times; a plan is fixed before block 1"
    if trials and "plan.json" in wrote and wrote.index("plan.json") > wrote.index(trials[0]):
        yield f"plan.json: written after {trials[0]}"


def _attempts(ev: Evidence) -> Iterator[str]:
    """A trial is run again only when the one before it was not usable."""
    good: set[tuple[str, int, str, str]] = set()
    for t in sorted(ev.trials, key=lambda t: t.key.attempt):
        place = (t.key.stage, t.key.block, t.key.arm, t.key.point)
        if place in good:
            yield f"{trial_path(t.key)}: an attempt after one that was usable"
        if t.usable(ev.plan.primary):
            good.add(place)


def _race(ev: Evidence) -> Iterator[str]:
    """The finalists that were confirmed are those that the race's records give, and no confirmation ran before they stood."""
    wrote = [e.data["path"] for e in ev.events if e.kind == "wrote"]
    confirming = [p for p in wrote if is_trial_path(p) and "/raw/b" in p]
    if ev.race is None:
        if FINALISTS in wrote or any(is_trial_path(p) and "/raw/r" in p for p in wrote):
            yield f"{FINALISTS}: this plan has no race"
        return
    if confirming and (FINALISTS not in wrote or wrote.index(FINALISTS) > wrote.index(confirming[0])):
        yield f"{FINALISTS}: not written before {confirming[0]}"
    if ev.finalists is not None and ev.finalists != ev.race.finalists:
        yield f"{FINALISTS}: says {', '.join(ev.finalists)}, the race's records give {', '.join(ev.race.finalists) or 'none'}"


def _belongs(t: Judged, ev: Evidence) -> Iterator[str]:
    ids = {a.id for a in ev.frozen.arms}
    if t.key.stage is Stage.RACE:
        if ev.race is None or t.key.arm not in ev.race.arms_of(t.key.block):
            yield f"arm {t.key.arm!r} has no place in race block {t.key.block}"
    elif t.key.arm not in ids:
        yield f"no such arm {t.key.arm!r} in the plan"
    elif t.key.arm not in ev.plan.group_of_block(t.key.block):
        yield f"arm {t.key.arm!r} has no place in block {t.key.block}"
    if t.key.point not in {p.key for p in ev.plan.points}:
        yield f"no such point {t.key.point!r} in the plan"


def _counts(t: Judged, ev: Evidence) -> Iterator[str]:
    point = next((p for p in ev.plan.points if p.key == t.key.point), None)
    if point is None:
        return
    run = t.file.run
    load, asked = (run.request_rate or run.concurrency), (point.request_rate or point.concurrency)
    if t.file.requests_asked != point.requests or run.request_rate != point.request_rate or load != asked:
        kind = "at concurrency" if run.request_rate is None else "a second, at a rate of"
        yield f"{t.file.requests_asked} requests {kind} {load:g}, the plan asks {point.requests}: {point.load}"
    indices = sorted(r.index for r in t.file.run.records)
    if indices != list(range(len(indices))):
        yield "request numbers are not 0, 1, 2, ... once each"
    over = [r.index for r in t.file.run.records if (r.completion_tokens or 0) > point.workload.osl]
    if over:
        yield f"request {over[0]} has more output tokens than were asked for"


def _times(t: Judged, ev: Evidence) -> Iterator[str]:
    wall, told = t.summary.wall_s, t.file.ended_at - t.file.started_at
    # A clock that stands still (fakes) or steps tells nothing about the length of a run.
    if told > 0 and wall > told + SLACK_S:
        yield f"its requests span {wall:.2f} s, the trial took {told:.2f} s"
    late = [
        r.index for r in t.file.run.records if r.chunk_ns and (r.chunk_ns[0] < r.sent_ns or r.chunk_ns[-1] > r.done_ns)
    ]
    if late:
        yield f"request {late[0]} has chunks outside its own start and end"
    in_flight = _most_in_flight(t)
    if in_flight > t.file.run.concurrency:
        yield f"{in_flight} requests in flight at once, concurrency was {t.file.run.concurrency}"


def _most_in_flight(t: Judged) -> int:
    edges = sorted([(r.sent_ns, 1) for r in t.file.run.records] + [(r.done_ns, -1) for r in t.file.run.records])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def _little(t: Judged, ev: Evidence) -> Iterator[str]:
    residual = t.honesty.little_residual
    if residual is not None and residual > LITTLE:
        yield f"Little's law: in-flight integral and latencies differ by {residual:.1%}"


def _prompts(ev: Evidence) -> Iterator[str]:
    """Arms of a block share their prompts where servers restart; otherwise, and between blocks, none is met twice."""
    seen: dict[str, tuple[object, ...]] = {}
    shared: dict[tuple[str, int, str, int], str] = {}
    for t in ev.trials:
        place = (t.key.stage, t.key.block, t.key.point, t.key.attempt)
        stays_up = any(a.id == t.key.arm and a.engine == "endpoint" for a in ev.plan.all_arms)
        if not stays_up and shared.setdefault(place, t.file.prompts_digest) != t.file.prompts_digest:
            yield f"{trial_path(t.key)}: other prompts than the other arms of block {t.key.block}"
        warm = next((p.workload.warm for p in ev.plan.points if p.key == t.key.point), False)
        mine = (*place, t.key.arm) if stays_up else place
        if not warm and seen.setdefault(t.file.prompts_digest, mine) != mine:
            yield f"{trial_path(t.key)}: the prompts of block {seen[t.file.prompts_digest][1]} again"


def _same(trials: Iterable[Judged]) -> Iterator[str]:
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for t in trials:
        wanted = [(n, "") for n in SAME_EVERYWHERE] + [(n, t.key.point) for n in SAME_PER_POINT]
        wanted += [(n, t.key.arm) for n in ("engine_version", "source_commit", "engine_lock")]
        for name, scope in wanted:
            field = t.file.context.get(name, {})
            value = (
                field.get("observed", "unknown")
                if field.get("observed", "unknown") != "unknown"
                else field.get("asked", "unknown")
            )
            known, where = first.setdefault((name, scope), (value, trial_path(t.key)))
            if value != known:
                yield f"{trial_path(t.key)}: {name} is {value!r}, {where} says {known!r}"
