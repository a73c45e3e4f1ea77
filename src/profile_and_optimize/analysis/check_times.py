"""Is every trial younger than its server, and was it made while the journal says so? Pure.

The journal is dated by the wall clock alone, a trial by both clocks. Where the two of a trial differ as they do in the
trials before and after it, nobody set the clock in between, and what the journal then says otherwise is no matter of clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from profile_and_optimize.analysis.check_records import OURS, client_of
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.evidence.trialfile import trial_path

# An event is dated when it is written, which takes as long as a disk takes; a start is measured by a loop that looks ten
# times a second.
SLACK_S = 2.0
SAME_CLOCK_S = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the journal says of one trial: when its session began, when it was begun itself, when it was entered."""

    session: Event | None
    began: Event | None
    entered: Event


def check_times(ev: Evidence) -> Iterator[Remark]:
    trials = {trial_path(t.key): t for t in ev.trials}
    told = _told(ev, trials)
    order = sorted(told, key=lambda path: told[path].entered.seq)
    for i, path in enumerate(order):
        t = trials[path]
        if client_of(t) == OURS and t.file.run.t0_monotonic_ns is None:
            yield Remark(path, "has no start time on the monotonic clock, which our client records")
        beside = [trials[p] for p in (*order[max(0, i - 1) : i], *order[i + 1 : i + 2])]
        doubt = len(beside) < 2 or not _steady(t, beside)
        yield from (Remark(path, text, doubt) for text in _disagree(t, told[path]))


def _told(ev: Evidence, trials: dict[str, Judged]) -> dict[str, Told]:
    session: Event | None = None
    began: dict[str, Event] = {}
    out: dict[str, Told] = {}
    for e in ev.events:
        if e.kind == "session":
            session = e
        elif e.kind == "trial_began":
            began[str(e.data["path"])] = e
        elif e.kind == "wrote" and e.data["path"] in trials:
            out[e.data["path"]] = Told(session, began.get(e.data["path"]), e)
    return out


def _steady(t: Judged, beside: list[Judged]) -> bool:
    """Are the trial's two clocks as far apart as those of the trials before and after it? Nothing is steady without a clock."""
    mine = _apart(t)
    return mine is not None and all(
        other is not None and abs(other - mine) < SAME_CLOCK_S for other in map(_apart, beside)
    )


def _apart(t: Judged) -> float | None:
    mono = t.file.run.t0_monotonic_ns
    return None if mono is None else t.file.run.t0_unix_s - mono * 1e-9


def _disagree(t: Judged, told: Told) -> Iterator[str]:
    if t.file.run.t0_monotonic_ns is None:
        return  # a client without clocks of its own
    t0, end = t.file.run.t0_unix_s, t.file.run.t0_unix_s + t.file.run.probe.wall_s
    if told.session is not None and t0 + SLACK_S < told.session.at + t.file.start_s:
        late = told.session.at + t.file.start_s - t0
        yield f"it started {late:.1f} s before its server can have been ready: the records are older than their server"
    if told.began is not None and t0 + SLACK_S < told.began.at:
        yield f"it started {told.began.at - t0:.1f} s before the journal's entry for its start"
    if end > told.entered.at + SLACK_S:
        yield f"it ended {end - told.entered.at:.1f} s after it was entered"
    waited = told.entered.at - end
    if told.began is not None and t0 - told.began.at > _most_between(t):
        yield f"it started {t0 - told.began.at:.1f} s after the journal's entry for its start"
    if waited > _most_between(t):
        yield f"it was entered {waited:.1f} s after it ended"


def _most_between(t: Judged) -> float:
    """What lies between a trial's own clock and the journal's two entries is one start of a client and one write."""
    return 120.0 + 2 * t.file.run.probe.wall_s
