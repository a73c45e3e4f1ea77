"""Starts and deaths of servers: every file that a session leaves belongs to the session in which it was entered, and an arm that
left has the starts that failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.starts import label_in
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import Event

ADMISSION = "admission"
# What is entered while the arm's server is up for its admission, or right after it was stopped.
ADMITTED = ("admission.json", "raw/accuracy.json")


def check_sessions(ev: Evidence) -> Iterator[Remark]:
    yield from _entered(ev)
    yield from _left(ev)
    yield from _twice(ev)


def _entered(ev: Evidence) -> Iterator[Remark]:
    """Answers and logs against the session that the journal had begun last."""
    arm, label = "", ""
    for e in ev.events:
        if e.kind == "session":
            arm, label = str(e.data["arm"]), str(e.data["label"])
        elif e.kind == "session_failed" and label_in(e) != label:
            yield Remark(JOURNAL, f"a start of {e.data['arm']} is recorded as failed during session {label or 'none'}")
        elif e.kind == "wrote":
            place = _place(str(e.data["path"]))
            if place is not None and place != (arm, label):
                now = f"{label} of {arm}" if label else "none"
                yield Remark(str(e.data["path"]), f"entered during session {now}; it is of session {place[1]}")


def _place(path: str) -> tuple[str, str] | None:
    """(arm, session) that a file is of, by its name; None for every other file."""
    parts = path.split("/", 2)
    if len(parts) < 3 or parts[0] != "cells":
        return None
    if parts[2] in ADMITTED:
        return parts[1], ADMISSION
    if parts[2].startswith("raw/log-") and parts[2].endswith(".txt"):
        return parts[1], parts[2].removeprefix("raw/log-").removesuffix(".txt")
    return None


def _left(ev: Evidence) -> Iterator[Remark]:
    """An arm is out since a block right after a start of it failed there, or where its answers do not tell what is compared."""
    silent = {(t.key.arm, str(t.key.stage), t.key.block) for t in ev.trials if t.silence(ev.plan.primary)}
    last: Event | None = None
    for e in ev.events:
        out = e.kind == "arm_failed" and e.data.get("phase") != ADMISSION and _where(e) not in silent
        if out and (last is None or last.kind != "session_failed" or _where(last) != _where(e)):
            block = e.data.get("block")
            yield Remark(JOURNAL, f"{e.data['arm']} is out since block {block}, and no start of it failed there last")
        if e.kind in ("session", "session_failed", "arm_failed"):
            last = e


def _where(e: Event) -> tuple[str, str, int]:
    return str(e.data["arm"]), str(e.data.get("stage", Stage.CONFIRM)), int(e.data.get("block", 0))


def _twice(ev: Evidence) -> Iterator[Remark]:
    """A session that was begun again has a reason: a start that failed, or a kill, which leaves none."""
    telling = [e for e in ev.events if e.kind in ("session", "session_failed", "arm_failed", "interrupted")]
    for one, two in pairwise(telling):
        if one.kind == two.kind == "session" and one.data["label"] == two.data["label"] != ADMISSION:
            text = f"session {one.data['label']} was started twice with no reason recorded: a kill, or a failure that was removed"
            yield Remark(JOURNAL, text, doubt=True)
