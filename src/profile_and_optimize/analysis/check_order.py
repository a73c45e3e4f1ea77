"""In which order things were done: journal, sessions, attempts, blocks, and the clocks that dated them. Pure.

The journal says the order. Monotonic times must follow it within a session; wall clocks that do not are in doubt, because
they can be set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from profile_and_optimize.campaign.accuracy import MORE
from profile_and_optimize.campaign.evidence_of import Evidence, proof_in, selection_of, twins
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.campaign.proof import BEGAN, Proof, pick_to_prove, wanted
from profile_and_optimize.campaign.selection import Judged, Selection
from profile_and_optimize.campaign.starts import QUESTIONS, SESSION, label_in, label_of
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage, TrialKey
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.evidence.trialfile import is_trial_path, trial_path

CLOCK_S = 1.0
# A machine that was started again has been away for longer than this.
REBOOT_S = 20.0


def check_order(ev: Evidence) -> Iterator[Remark]:
    trials = {trial_path(t.key): t for t in ev.trials}
    yield from _once(ev)
    yield from _attempts(ev)
    yield from _sessions(ev, trials)
    yield from _begun(ev)
    yield from _drawn(ev)
    yield from _blocks(ev)
    yield from _clocks(ev, trials)


def _once(ev: Evidence) -> Iterator[Remark]:
    """A trial is written once."""
    seen: set[str] = set()
    for path in (e.data["path"] for e in ev.events if e.kind == "wrote" and is_trial_path(e.data["path"])):
        if path in seen:
            yield Remark(path, "written more than once")
        seen.add(path)


def _attempts(ev: Evidence) -> Iterator[Remark]:
    """Attempts are 1, 2, ..., and there is another one only when the one before it was not usable."""
    last: dict[tuple[str, int, str, str], Judged] = {}
    for t in sorted(ev.trials, key=lambda t: t.key.attempt):
        place = (t.key.stage, t.key.block, t.key.arm, t.key.point)
        before = last.get(place)
        if t.key.attempt != (before.key.attempt + 1 if before else 1):
            yield Remark(trial_path(t.key), f"attempt {t.key.attempt} without attempt {t.key.attempt - 1}")
        elif before is not None and before.usable(ev.plan.primary):
            yield Remark(trial_path(t.key), "an attempt after one that was usable")
        last[place] = t


def _sessions(ev: Evidence, trials: dict[str, Judged]) -> Iterator[Remark]:
    """A trial is entered during its own session, and every session leaves a trial or the reason why not."""
    now, labels, accounted = "", [], set(_given_up(ev))
    for e in ev.events:
        if e.kind == "session":
            now = str(e.data["label"])
            labels.append(now)
        elif e.kind == "session_failed":
            accounted.add(label_in(e))
        elif e.kind == "wrote" and e.data["path"].endswith(f"/{MORE}"):
            accounted.add(QUESTIONS)
        elif e.kind == "wrote" and e.data["path"] in trials:
            key = trials[e.data["path"]].key
            mine = label_of(key.stage, key.block, key.arm)
            accounted.add(mine)
            if mine != now:
                yield Remark(e.data["path"], f"entered during session {now or 'none'}")
    for label in dict.fromkeys(labels[:-1]):
        if label not in accounted and label != "admission" and label != labels[-1]:
            yield Remark(JOURNAL, f"session {label} left neither a trial nor a reason")


def _begun(ev: Evidence) -> Iterator[Remark]:
    """A trial that was begun has records, or was interrupted, or its session failed; one with records was begun."""
    begun = [e.data["path"] for e in ev.events if e.kind == "trial_began"]
    wrote = {e.data["path"] for e in ev.events if e.kind == "wrote" and is_trial_path(e.data["path"])}
    over = wrote | {e.data["path"] for e in ev.events if e.kind == "interrupted"}
    fell = {label_in(e) for e in ev.events if e.kind == "session_failed"}
    for path in dict.fromkeys(begun[:-1]):
        if path not in over and _label_of_path(path) not in fell and path != begun[-1]:
            yield Remark(path, "begun, and there are neither records nor a word of an interruption")
    if begun:
        yield from (Remark(path, "never begun") for path in sorted(wrote - set(begun)))


def stage_of(e: Event) -> Stage:
    """Events of before there were proofs name no stage where it is the confirmation's."""
    return Stage(e.data.get("stage", Stage.CONFIRM))


def _label_of_path(path: str) -> str:
    """`cells/ARM/raw/b001-POINT-a1.json` was run in session `b001-ARM`."""
    _, arm, _, name = path.split("/")
    return f"{name.split('-', 1)[0]}-{arm}"


def _given_up(ev: Evidence) -> Iterator[str]:
    """Sessions of blocks that were given up: a kill may have left them without a trial."""
    for e in ev.events:
        if e.kind in ("block_given_up", "race_block_given_up"):
            stage = Stage.RACE if e.kind == "race_block_given_up" else stage_of(e)
            yield from (label_of(stage, e.data["block"], a.id) for a in (*ev.frozen.all_arms, *twins(ev)))


def _drawn(ev: Evidence) -> Iterator[Remark]:
    """Every block was begun in the order that the plan's seed had drawn, less the arms that had failed by then."""
    out: set[str] = set()
    for e in ev.events:
        if e.kind == "arm_failed":
            out.add(e.data["arm"])
        elif e.kind == "block":
            stage = stage_of(e)
            plan = ev.plan.proving(ev.proving) if stage is Stage.PROVE and ev.proving is not None else ev.plan
            drawn = [a for a in session_order(plan, e.data["block"], stage) if a not in out]
            if e.data["order"] != drawn:
                kind = "proof block" if stage is Stage.PROVE else "block"
                yield Remark(
                    JOURNAL, f"{kind} {e.data['block']} was begun as {_words(e)}, drawn was {', '.join(drawn)}"
                )
        elif (
            e.kind == "race_block"
            and ev.race is not None
            and tuple(e.data["order"]) != ev.race.arms_of(e.data["block"])
        ):
            yield Remark(JOURNAL, f"race block {e.data['block']} was begun as {_words(e)}, which was not drawn")


def _words(e: Event) -> str:
    return ", ".join(map(str, e.data["order"]))


def _blocks(ev: Evidence) -> Iterator[Remark]:
    """No block is missing between two, none was left open and gone past, and none was run that nobody still wanted."""
    selection = selection_of(ev)
    yield from _blocks_of(ev, ev.plan, selection)
    proof = proof_in(ev, selection)
    if proof is not None and proof.stage is Stage.PROVE:
        yield from _rightly_begun(ev, proof, selection)
        yield from _blocks_of(ev, proof.plan, proof.selection)


def _rightly_begun(ev: Evidence, proof: Proof, selection: Selection) -> Iterator[Remark]:
    """A proof is begun once, after the exploration, and of the pick that the exploration ended with."""
    began_at = [e.seq for e in ev.events if e.kind == BEGAN]
    if len(began_at) != 1:
        yield Remark(JOURNAL, f"a proof was begun {len(began_at)} times; there is one")
    late = [trial_path(t.key) for t in ev.trials if t.key.stage is Stage.CONFIRM and _entered(ev, t) > began_at[0]]
    if late:
        yield Remark(late[0], "run after the proof started, when the exploration was over")
    if pick_to_prove(ev.plan, selection) != proof.pick:
        yield Remark(JOURNAL, f"the proof was of {proof.pick}, which is not what the exploration ended with")


def _entered(ev: Evidence, t: Judged) -> int:
    return next((e.seq for e in ev.events if e.kind == "wrote" and e.data["path"] == trial_path(t.key)), -1)


def _blocks_of(ev: Evidence, plan: Plan, selection: Selection) -> Iterator[Remark]:
    known = set(selection.blocks) | set(selection.excluded) | set(selection.open)
    begun = {e.data["block"] for e in ev.events if e.kind == "block" and stage_of(e) is selection.stage}
    for i, group in enumerate(plan.groups):
        mine = sorted(b for b in known if (b - 1) % len(plan.groups) == i)
        missing = set(range(i + 1, max(mine, default=0), len(plan.groups))) - set(mine)
        yield from (Remark(JOURNAL, f"there is no block {b}, but later ones of its arms") for b in sorted(missing))
        left = [
            b
            for b in mine
            if b in selection.open and any(b < later and (later - b) % len(plan.groups) == 0 for later in begun)
        ]
        yield from (
            Remark(JOURNAL, f"block {b} was left open ({selection.open[b]}), and later ones were begun") for b in left
        )
        whole = [b for b in mine if b in selection.blocks]
        beyond = [b for b in mine if selection.excluded.get(b, "").startswith("beyond")]
        if whole and not beyond:
            blocks = {b: v for b, v in selection.blocks.items() if b < whole[-1]}
            before = replace(selection, blocks=blocks, failed=_failed_before(ev, selection.stage, whole[-1]))
            beyond = [] if wanted(plan, before, group) else [whole[-1]]
        yield from (
            Remark(JOURNAL, f"block {b} was run, although no answer was open and none was added") for b in beyond
        )


def _failed_before(ev: Evidence, stage: Stage, block: int) -> frozenset[str]:
    """Arms that were out when a block began. One that fails during it leaves a block that nobody wants any more."""
    mine = [e.seq for e in ev.events if e.kind == SESSION and e.data.get("stage") == stage and e.data["block"] == block]
    if not mine:
        return frozenset(ev.failed_arms)
    return frozenset(e.data["arm"] for e in ev.events if e.kind == "arm_failed" and e.seq < mine[0])


def _clocks(ev: Evidence, trials: dict[str, Judged]) -> Iterator[Remark]:
    entered = [(e, trials[e.data["path"]]) for e in ev.events if e.kind == "wrote" and e.data["path"] in trials]
    for e, t in entered:
        if e.at + CLOCK_S < t.file.ended_at:
            yield _doubt(t, f"it ended {t.file.ended_at - e.at:.1f} s after it was entered")
    for (_, a), (_, b) in pairwise(entered):
        yield from _follows(a, b)
    for one, two in pairwise(ev.events):
        if two.at + CLOCK_S < one.at:
            yield Remark(JOURNAL, f"the clock was set back by {one.at - two.at:.1f} s at event {two.seq}", doubt=True)


def _follows(a: Judged, b: Judged) -> Iterator[Remark]:
    """Of two trials that were entered one after the other, the second began when the first had ended."""
    if b.file.started_at + CLOCK_S < a.file.ended_at:
        yield _doubt(
            b,
            f"it started {a.file.ended_at - b.file.started_at:.1f} s before {trial_path(a.key)} ended, by the wall clock",
        )
    first, second = a.file.run.t0_monotonic_ns, b.file.run.t0_monotonic_ns
    if first is None or second is None:
        return
    apart = (second - first) * 1e-9
    if apart < a.file.run.probe.wall_s:
        # Only a machine that was started again counts from the beginning.
        again = _session(a.key) != _session(b.key) and b.file.started_at - a.file.ended_at > REBOOT_S
        yield Remark(
            trial_path(b.key), f"it started before {trial_path(a.key)} ended, by the monotonic clock", doubt=again
        )
    elif abs((b.file.run.t0_unix_s - a.file.run.t0_unix_s) - apart) > CLOCK_S:
        step = b.file.run.t0_unix_s - a.file.run.t0_unix_s - apart
        yield _doubt(b, f"the wall clock was set by {step:+.1f} s since {trial_path(a.key)}")


def _session(key: TrialKey) -> str:
    return label_of(key.stage, key.block, key.arm)


def _doubt(t: Judged, text: str) -> Remark:
    return Remark(trial_path(t.key), text, doubt=True)
