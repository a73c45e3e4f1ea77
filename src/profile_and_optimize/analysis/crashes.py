"""A server that dies counts against its variant: starts, failed starts and deaths per arm, from the journal's events. Pure.

An arm is compared with the baseline at equal numbers of starts. The baseline and its twin are one configuration and count
together, as do a pick and its twin; what the baseline lost is scaled to the arm's number of starts and rounded down, so
that half a loss excuses none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.campaign.starts import DEATH, FAILED, SESSION, START, STOP, label_in
from profile_and_optimize.core.cell import Role, serves
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.evidence.journal import Event

GATE = "servers stay up"
# One more loss than the baseline keeps a pick a DRAFT; two more are not shipped.
DOUBT, TOO_MANY = 1, 2
# Nor is more than this share of all starts. A single loss is always over a tenth of less than ten starts and says no more
# than "one more than the baseline" does, so the share counts from the second loss on.
LARGEST_SHARE = 0.10


@dataclass(frozen=True, slots=True)
class Starts:
    """Of one configuration: `failed` starts did not get ready, the server of `deaths` was ready and died. `reason` is that
    of the last loss."""

    starts: int = 0
    failed: int = 0
    deaths: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        if min(self.starts, self.failed, self.deaths) < 0 or self.lost > self.starts:
            raise ValueError(f"{self.lost} losses at {self.starts} starts: every loss is that of one start")

    @property
    def lost(self) -> int:
        return self.failed + self.deaths

    @property
    def often(self) -> bool:
        return self.lost > 1 and self.lost > LARGEST_SHARE * self.starts

    def plus(self, other: Starts) -> Starts:
        return Starts(
            self.starts + other.starts, self.failed + other.failed, self.deaths + other.deaths, other.reason or self.reason
        )  # fmt: skip

    def to_json(self) -> dict[str, int]:
        return {"starts": self.starts, "failed_starts": self.failed, "deaths": self.deaths}

    @property
    def words(self) -> str:
        """ "3 of 7 starts lost (1 failed, 2 died)"."""
        told = [f"{n} {what}" for n, what in ((self.failed, "failed"), (self.deaths, "died")) if n]
        return f"{self.lost} of {_starts(self.starts)} lost" + (f" ({', '.join(told)})" if told else "")


def counted(events: Iterable[Event]) -> dict[str, Starts]:
    """By arm. A start is a session and how many of its starts were lost before: one that a kill of ours broke off was begun
    again, and counts once."""
    begun: set[tuple[str, str, int]] = set()
    lost: Counter[tuple[str, str]] = Counter()
    out: dict[str, Starts] = {}
    for e in events:
        if e.kind not in (SESSION, FAILED) or e.data.get("loss") == STOP:
            continue
        arm, label = str(e.data["arm"]), label_in(e)
        start = (arm, label, lost[arm, label])
        now = out.get(arm, Starts())
        if start not in begun:
            begun.add(start)
            now = replace(now, starts=now.starts + 1)
        if e.kind == FAILED:
            lost[arm, label] += 1
            loss, reason = e.data.get("loss", DEATH), str(e.data["reason"])
            now = now.plus(Starts(0, 0, 0, reason))
            now = replace(now, failed=now.failed + 1) if loss == START else replace(now, deaths=now.deaths + 1)
        out[arm] = now
    return out


def of_baseline(plan: Plan, by_arm: Mapping[str, Starts]) -> Starts:
    """Of the baseline and its twin together."""
    return _together(by_arm, [a.id for a in plan.all_arms if a.role in (Role.BASELINE, Role.AA)])


def of_arm(plan: Plan, by_arm: Mapping[str, Starts], arm: str) -> Starts:
    """Of the arm and its twins."""
    return of_baseline(plan, by_arm) if arm == plan.baseline.id else _together(by_arm, twins_of(plan, arm))


def twins_of(plan: Plan, arm: str) -> tuple[str, ...]:
    """The candidate and every other one that serves the same. One that serves what the baseline does is no variant of it,
    and stands alone."""
    return next((arms for arms in _pools(plan) if arm in arms), (arm,))


def _together(by_arm: Mapping[str, Starts], arms: Iterable[str]) -> Starts:
    found = Starts()
    for arm in arms:
        found = found.plus(by_arm.get(arm, Starts()))
    return found


def excess(mine: Starts, base: Starts) -> int:
    """How many more losses than the baseline had at as many starts; below 0 where the baseline lost more."""
    return mine.lost - (base.lost * mine.starts // base.starts if base.starts else 0)


def unshipped(mine: Starts, base: Starts) -> bool:
    return excess(mine, base) >= TOO_MANY or mine.often


def not_shipped(plan: Plan, by_arm: Mapping[str, Starts]) -> dict[str, str]:
    """Why each candidate whose servers were lost too often may not be shipped."""
    base = of_baseline(plan, by_arm)
    out: dict[str, str] = {}
    if not any(s.lost for s in by_arm.values()):
        return {}
    for arms in _pools(plan):
        mine = _together(by_arm, arms)
        if unshipped(mine, base):
            why = f"its server {_verb(mine)} at {mine.lost} of {_starts(mine.starts)}, {_baseline_words(plan, base)}"
            out |= dict.fromkeys(arms, why)
    return {a.id: out[a.id] for a in plan.candidates if a.id in out}


def _pools(plan: Plan) -> list[tuple[str, ...]]:
    """The candidates, those that serve the same together."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for a in plan.all_arms:
        if a.role not in (Role.BASELINE, Role.AA):
            alone = (a.id,) if serves(a) == serves(plan.baseline) else ()
            alike.setdefault((*alone, *serves(a)), []).append(a.id)
    return [tuple(arms) for arms in alike.values()]


def held_back(plan: Plan, by_arm: Mapping[str, Starts], effects: Mapping[str, Effect]) -> dict[str, Effect]:
    """The effects with no BETTER left of an arm that is not shipped: what it measured stands, and it is no pick."""
    why = not_shipped(plan, by_arm)
    return {
        a: replace(e, call=Call.UNKNOWN, reason=faster(a, why[a]), blocks_needed=None)
        if a in why and e.call is Call.BETTER
        else e
        for a, e in effects.items()
    }


def faster(arm: str, why: str) -> str:
    return f"{arm} was better and is not shipped: {why}"


def passed_over(plan: Plan, by_arm: Mapping[str, Starts], effects: Mapping[str, Effect]) -> str:
    """What follows the reason of a pick: who was better and is not shipped; "" where nobody was."""
    told = [faster(a, why) for a, why in not_shipped(plan, by_arm).items() if effects[a].reason == faster(a, why)]
    return "".join(f"; {words}" for words in told)


def crash_gate(pick: str, plan: Plan, by_arm: Mapping[str, Starts]) -> Gate:
    """The pick's servers were lost no more often than the baseline's, and the baseline's hardly ever."""
    mine, base = of_arm(plan, by_arm, pick), of_baseline(plan, by_arm)
    if not mine.starts or not base.starts:
        return Gate(GATE, None, "no start of a server is on record")
    words = f"{plan.baseline.id}{_twin(plan)}: {base.words}" + (f"; last: {base.reason}" if base.lost else "")
    if pick != plan.baseline.id:
        words = f"{pick}: {mine.words}" + (f"; last: {mine.reason}" if mine.lost else "") + f". {words}"
    if base.often:
        return Gate(GATE, False, f"the baseline itself is not stable. {words}")
    if pick == plan.baseline.id:
        return Gate(GATE, True, words)
    more = excess(mine, base)
    if more >= DOUBT or mine.often:
        return Gate(GATE, False, f"{more} more than the baseline at as many starts. {words}")
    return Gate(GATE, True, words + ("; the baseline was lost more often" if more < 0 else ""))


def _baseline_words(plan: Plan, base: Starts) -> str:
    return f"{plan.baseline.id}{_twin(plan)} {base.lost} of {base.starts}"


def _twin(plan: Plan) -> str:
    return f" with {plan.twin.id}" if plan.twin else ""


def _verb(s: Starts) -> str:
    return "died" if not s.failed else "did not start" if not s.deaths else "did not start or died"


def _starts(n: int) -> str:
    return f"{n} start{'s' * (n != 1)}"
