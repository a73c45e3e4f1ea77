"""Runs the race of a campaign that has one, and writes down who is confirmed. Safe to call again after a kill."""

from __future__ import annotations

from collections.abc import Mapping

from profile_and_optimize.campaign.admit import prompt_maker
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.evidence_of import FINALISTS
from profile_and_optimize.campaign.race import Race
from profile_and_optimize.campaign.recover import note_interrupted
from profile_and_optimize.campaign.run import Progress, drop_silent, lacking, run_session
from profile_and_optimize.campaign.session import PRODUCER, Seat
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.folder import RunFolder


def run_race(folder: RunFolder, plan: Plan, world: World, session_s: Mapping[str, float]) -> Plan:
    """The plan of the confirmation. Raises BrokeMidway when no round gave a single pair to compare."""
    seat = Seat(folder, plan, world, prompt_maker(folder, plan), Book(folder))
    note_interrupted(folder)
    progress, told = Progress(session_s), 0
    while (race := _race(seat)).next_block is not None:
        told = _tell(seat, race, told)
        _run_block(seat, race, progress)
    _tell(seat, race, told)
    if not race.finalists:
        raise BrokeMidway("the race gave nothing to compare", where=str(folder.path), next=f"pao verify {folder.path}")
    if not (folder.path / FINALISTS).exists():
        last = race.last
        covered = last.covered if last else 0.0
        found = {"schema": 1, "finalists": list(race.finalists), "rounds": len(race.rounds), "covered": covered}
        folder.write_json(FINALISTS, found, producer=PRODUCER, inputs=("plan.json",))
    return plan.confirming(race.finalists)


def _race(seat: Seat) -> Race:
    race = seat.book.race(seat.plan)
    assert race is not None
    return race


def _run_block(seat: Seat, race: Race, progress: Progress) -> None:
    block = race.next_block
    assert block is not None
    order = race.arms_of(block)
    seat.folder.event("race_block", block=block, order=list(order))
    for i, arm_id in enumerate(order, start=1):
        if arm_id in _failed(seat) or not lacking(seat, block, arm_id, Stage.RACE):
            continue
        seat.say(f"race round {len(race.rounds)}, block {block}, session {i}/{len(order)} {arm_id}")
        began = seat.world.now()
        run_session(seat, block, arm_id, Stage.RACE)
        progress.ran(arm_id, seat.world.now() - began)
    drop_silent(seat, block, Stage.RACE)
    if _race(seat).next_block == block:
        seat.folder.event("race_block_given_up", block=block, reason="an arm gave no usable trial")


def _failed(seat: Seat) -> set[str]:
    return {e.data["arm"] for e in seat.folder.journal.events if e.kind == "arm_failed"}


def _tell(seat: Seat, race: Race, told: int) -> int:
    """A line per finished round: who is left, and how sure it is that the best is among the finalists."""
    done = [r for r in race.rounds if r.standing]
    for r in done[told:]:
        s = r.standing
        assert s is not None
        words = "over" if s.decided or race.next_block is None else f"{len(s.survivors)} arms continue"
        seat.say(f"  round {r.number}: {words}; leading {', '.join(s.finalists)} ({s.covered:.0%} to hold the best)")
    return len(done)
