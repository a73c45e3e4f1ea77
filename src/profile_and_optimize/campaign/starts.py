"""Every start of a server, and whatever ended one other than our own stop, as events of the journal.

`session` opens a start: arm, label, stage, block and its number (from 1 in every session). `session_failed` closes one: the
same, with the reason and which `loss` it is: `start` (it did not get ready, or could not do what it is asked at admission), `death`
(it was ready, and died or stopped answering) or `stop` (it would not be stopped: that is not its failure). A kill of ours
leaves no such event: the session is begun again under the same number, and counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.engines.base import Engine, EngineFailed, Server, ServerLost
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.journal import Event
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.stats.foreign import FOREIGN

SESSION, FAILED = "session", "session_failed"
ADMISSION, QUESTIONS = "admission", "questions"
LOSSES = (START, DEATH, STOP) = ("start", "death", "stop")
SILENT = "answered no request of a whole trial, not even with an error"
# The event that says that the baseline's start was too slow for its share, and with which flags every arm is started since.
SLOW_START = "slow_start"
# So often a server is started for one session; then a candidate is out, and the baseline ends the campaign until it is resumed.
STARTS = 2


class SlowStart(EngineFailed):
    """A start that we gave up because the plan gives it no more time: not the server's failure."""


def slow_start_words(events: Iterable[Event]) -> tuple[str, ...]:
    """What a campaign whose baseline started too slowly did instead, as lines of its page."""
    return tuple(
        f"every variant runs with {' '.join(e.data['flags'])}: without it the baseline was not ready after {e.data['limit_s']:.0f} s, "
        "its share of the budget"
        for e in events
        if e.kind == SLOW_START
    )


def label_of(stage: Stage, block: int, arm: str) -> str:
    """The name of a session, as the journal and its log have it."""
    return f"{stage.letter}{block:03d}-{arm}"


def label_in(e: Event) -> str:
    """The session that an event of either kind belongs to."""
    told = e.data.get("label")
    return str(told) if told else label_of(Stage(e.data.get("stage", Stage.CONFIRM)), e.data["block"], e.data["arm"])


def failures(events: Iterable[Event], arm: str, label: str) -> list[Event]:
    """The starts of one session that failed or died, in order."""
    mine = (e for e in events if e.kind == FAILED and e.data["arm"] == arm and e.data.get("loss") != STOP)
    return [e for e in mine if label_in(e) == label]


def starts_left(events: Iterable[Event], arm: Arm, label: str) -> range:
    """The numbers of the starts that this session may still have. The baseline's are counted afresh whenever the campaign
    is resumed after all of them were lost: without it there is nothing to measure."""
    lost = len(failures(events, arm.id, label))
    rounds = lost // STARTS if arm.role is Role.BASELINE else 0
    return range(lost + 1, STARTS * (rounds + 1) + 1)


def own_up(folder: RunFolder, arm: str, stage: Stage, block: int, silent: Iterable[str]) -> None:
    """On resume: the loss that a kill of ours came too early to write down. `silent` are trials of this session that got no
    answer at all; one without the word of a lost server after it is a death all the same."""
    label, events = label_of(stage, block, arm), folder.journal.events
    known = [e.seq for e in failures(events, arm, label)]
    wrote = [e.seq for e in events if e.kind == "wrote" and e.data["path"] in set(silent)]
    if wrote and max(wrote) > max(known, default=-1):
        Start(folder, arm, label, str(stage), block, len(known) + 1).silent()


def given_out(events: Iterable[Event], arm: Arm, label: str) -> str:
    """Why an arm may not be started again in this session, "" while it may: a kill came between its last failure and the
    word that it is out."""
    events = tuple(events)
    return "" if starts_left(events, arm, label) else str(failures(events, arm.id, label)[-1].data["reason"])


def refuse_again(events: Iterable[Event], arm: Arm) -> None:
    """Raises EngineFailed for an arm whose one start at admission was lost: it is not tried until it works."""
    for e in failures(events, arm.id, ADMISSION):
        raise EngineFailed(str(e.data["reason"]), where=f"cell {arm.id}")


@dataclass(frozen=True)
class Start:
    """One start of a server, open in the journal. Each of its three watches writes down the failure that passes through."""

    folder: RunFolder
    arm: str
    label: str
    stage: str
    block: int
    number: int
    secrets: Sequence[str] = ()

    @contextmanager
    def failing(self) -> Iterator[None]:
        try:
            yield
        except (EngineFailed, Unreachable) as e:
            self._lost(STOP if isinstance(e, SlowStart) else START, e.message)
            raise

    @contextmanager
    def dying(self, lost: Callable[[], str]) -> Iterator[None]:
        """A server that is up and refuses what admission asks of it never got ready for this campaign."""
        try:
            yield
        except (EngineFailed, Unreachable) as e:
            refused = self.stage == ADMISSION and not isinstance(e, ServerLost) and not lost()
            self._lost(START if refused else DEATH, e.message)
            raise

    @contextmanager
    def stopping(self) -> Iterator[None]:
        try:
            yield
        except (EngineFailed, Unreachable) as e:
            self._lost(STOP, e.message)
            raise

    def silent(self) -> None:
        self._lost(DEATH, SILENT)

    def _lost(self, loss: str, reason: str) -> None:
        self.folder.event(
            FAILED, arm=self.arm, label=self.label, stage=self.stage, block=self.block, start=self.number, loss=loss,
            reason=redact(reason, self.secrets),
        )  # fmt: skip


def begin(folder: RunFolder, arm: str, label: str, stage: str, block: int, secrets: Sequence[str] = ()) -> Start:
    """Write down that a server is about to be started."""
    number = len(failures(folder.journal.events, arm, label)) + 1
    folder.event(SESSION, arm=arm, label=label, stage=str(stage), block=block, start=number)
    return Start(folder, arm, label, str(stage), block, number, secrets)


def require_alive(engine: Engine, server: Server, run: ClientRun | None = None, client: str = "") -> None:
    """Raises ServerLost for a server that serves no longer, or that left every request of a trial without any answer."""
    reason = engine.lost(server)
    if not reason and run is not None and unanswered(run, client):
        reason = SILENT
    if reason:
        raise ServerLost(reason, where=server.url)


def unanswered(run: ClientRun, client: str) -> bool:
    """Did no request of a trial get as much as a status? A foreign client does not tell the status of what failed."""
    return client not in FOREIGN and bool(run.records) and not any(r.ok or r.status is not None for r in run.records)
