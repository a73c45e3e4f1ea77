"""One trial under verify's eyes: its own books, the server's, and the response bytes that were kept of it, parsed again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from profile_and_optimize.analysis.check_copies import Marks, marks_of
from profile_and_optimize.analysis.check_plan import check_load
from profile_and_optimize.analysis.check_prompts import Remaker, redrawn
from profile_and_optimize.analysis.check_records import OURS, check_records, client_of
from profile_and_optimize.analysis.check_server import check_server
from profile_and_optimize.campaign.evidence_of import CALIBRATION, read_plan
from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.prompts import Calibration
from profile_and_optimize.clients.usual import parse
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import RawResponse, RequestRecord
from profile_and_optimize.evidence.reading import read_bulk_json, read_json
from profile_and_optimize.evidence.trialfile import decode_raw, raw_path, trial_path
from profile_and_optimize.stats.columns import Records

KEEP_EVERY = cast(int, LoadRequest.__dataclass_fields__["keep_raw_every"].default)


class Looker:
    """Everything that verify asks of one trial. Without a `remaker`, its prompts are not drawn again; where another version drew
    them, perhaps in another way, prompts that come out otherwise are in doubt."""

    def __init__(self, plan: Plan | None, remaker: Remaker | None, *, same_version: bool = True) -> None:
        self._plan, self._remaker, self._same = plan, remaker, same_version

    def __call__(self, run: Path, t: Judged) -> tuple[Remark, ...]:
        kept = (Remark(trial_path(t.key), text) for text in _kept(run, t))
        prompts = [r if self._same else replace(r, doubt=True) for r in self._remaker.check(t)] if self._remaker else ()
        load = check_load(t, self._plan) if self._plan else ()
        return (*check_records(t), *check_server(t), *load, *kept, *prompts)

    def marks(self, t: Judged) -> Marks:
        return marks_of(t)


def looker(run: Path, *, same_version: bool) -> Looker:
    """For this run."""
    try:
        plan, told = read_plan(run / "plan.json"), read_json(run / CALIBRATION)
        return Looker(plan, Remaker(plan, Calibration(**told)), same_version=same_version)
    except (Corrupted, TypeError, ValueError):
        return Looker(None, None)  # that one of these cannot be read is somebody else's finding


def prompts_facts(plan: Plan) -> dict[str, object]:
    """Points whose prompts were drawn again, and those whose were not, with what it would have taken."""
    drawn, needs = redrawn(plan)
    return {"drawn_again": list(drawn), "not_drawn_again": needs}


def prompts_words(facts: dict[str, Any]) -> list[str]:
    """A line for what was drawn again, and one for every reason why something was not."""
    drawn = len(facts["drawn_again"])
    lines = [f"prompts of {drawn} points drawn again from the plan's seed"] if drawn else []
    for needs in dict.fromkeys(facts["not_drawn_again"].values()):
        points = ", ".join(k for k, v in facts["not_drawn_again"].items() if v == needs)
        lines.append(f"prompts of {points} not drawn again, only compared by their digests: that takes {needs}")
    return lines


def _kept(run: Path, t: Judged) -> Iterator[str]:
    rows, path = Records.of(t.file.run.records), run / raw_path(t.key)
    responses = decode_raw(read_bulk_json(path)) if os.path.lexists(path) else ()
    numbers = rows.numbers["index"].tolist()
    if client_of(t) == OURS and [r.index for r in responses] != _sample(rows, numbers):
        yield "response bytes are there of other requests than the client keeps"
    places = {index: i for i, index in enumerate(numbers)}
    for kept in responses:
        if kept.index not in places:
            yield f"bytes were kept of request {kept.index}, which is not there"
        elif not as_kept(rows[places[kept.index]], kept):
            yield f"request {kept.index} differs from its kept bytes"


def _sample(rows: Records, numbers: list[int]) -> list[int]:
    """Whose bytes our client keeps: of every failed request, and of the good ones the first and every fiftieth after it."""
    wanted, good = [], 0
    for index, ok in sorted(zip(numbers, rows.ok.tolist(), strict=True)):
        if not ok or good % KEEP_EVERY == 0:
            wanted.append(index)
        good += ok
    return wanted


def as_kept(old: RequestRecord, kept: RawResponse) -> bool:
    """Do the bytes give the record again? Of a failed request they may be cut, and what ended it may be our own timeout: they
    must not be a good answer, and when its first byte came is theirs. Credentials were overwritten at their length."""
    try:
        again = _parsed(old, kept)
    except ValueError:  # times that go backwards make no record
        return False
    return again == old if old.ok else not again.ok and again.first_byte_ns == old.first_byte_ns


def _parsed(old: RequestRecord, kept: RawResponse) -> RequestRecord:
    found = parse(
        index=old.index, intended_ns=old.intended_ns, sent_ns=old.sent_ns, done_ns=old.done_ns, reads=kept.reads
    ).record
    return replace(found, max_tokens=old.max_tokens)  # what was asked does not stand in the answer
