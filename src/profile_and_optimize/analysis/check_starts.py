"""Starts of servers in the journal, against their sessions and the records of their trials. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from profile_and_optimize.campaign.evidence_of import Evidence, given_up, twins
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.campaign.starts import DEATH, FAILED, LOSSES, SESSION, STOP, label_in, label_of, unanswered
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.stats.foreign import OURS


def check_starts(ev: Evidence) -> Iterator[Remark]:
    """Every loss is that of the start before it, numbers follow from the losses, no trial is entered after its server was
    lost and before the next start, and a server that left a whole trial unanswered is in the journal as lost."""
    trials = {trial_path(t.key): t for t in ev.trials}
    arms = {a.id for a in ev.frozen.all_arms} | {a.id for a in twins(ev)}
    lost: Counter[str] = Counter()
    now: tuple[str, bool] = ("", False)  # the session of the last start, and whether its server is still there
    for e in ev.events:
        if e.kind in (SESSION, FAILED):
            label, arm = label_in(e), str(e.data["arm"])
            yield from _numbered(label, arm, e.data.get("start"), lost[f"{arm} {label}"] + 1, arms)
        if e.kind == SESSION:
            now = (label, True)
        elif e.kind == FAILED and e.data.get("loss") not in (None, *LOSSES):
            yield Remark(JOURNAL, f"event {e.seq} calls a lost start {str(e.data.get('loss'))[:40]!r}")
        elif e.kind == FAILED:
            if now != (label, True):
                yield Remark(JOURNAL, f"event {e.seq}: a server of session {label} was lost, and none had been started")
            lost[f"{arm} {label}"] += e.data.get("loss") != STOP
            now = (label, False)
        elif e.kind == "wrote" and not now[1] and now[0] == _session(trials.get(e.data["path"])):
            yield Remark(e.data["path"], f"entered after its server of session {now[0]} was lost")
    yield from _silent(ev, trials)


def _silent(ev: Evidence, trials: dict[str, Judged]) -> Iterator[Remark]:
    """A trial that got no answer at all is followed by the word that its server was lost. What ends there was killed."""
    starts = [e for e in ev.events if e.kind in (SESSION, FAILED)]
    lost = {stage: given_up(ev.events, stage) for stage in Stage}
    wrote = {e.data["path"]: e.seq for e in ev.events if e.kind == "wrote"}
    for path, t in trials.items():
        # Records are read again only of a trial in which every request failed.
        if t.summary.failed < t.summary.asked or t.key.block in lost[t.key.stage]:
            continue
        if not unanswered(t.file.run, _client(t)):
            continue
        after = next((e for e in starts if e.seq > wrote[path]), None)
        if after is not None and (after.kind != FAILED or after.data.get("loss", DEATH) != DEATH):
            yield Remark(path, "no request of it got an answer, and the journal does not say that the server was lost")


def _numbered(label: str, arm: str, told: object, wanted: int, arms: set[str]) -> Iterator[Remark]:
    if arm not in arms:
        yield Remark(JOURNAL, f"a server of {arm[:80]!r} was started, which is not in the plan")
    # Starts of before they were numbered say nothing.
    if told is not None and (type(told) is not int or told != wanted):
        yield Remark(JOURNAL, f"session {label} of {arm} has start {told!r}; going by its losses it is start {wanted}")


def _session(t: Judged | None) -> str | None:
    return None if t is None else label_of(t.key.stage, t.key.block, t.key.arm)


def _client(t: Judged) -> str:
    seen = str(t.file.context.get("client", {}).get("observed", OURS))
    return OURS if seen == UNKNOWN else seen
