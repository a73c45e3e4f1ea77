"""The trials of a run from disk, on every core that we may use when there are many. The answer does not depend on how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Protocol

from profile_and_optimize.campaign import client_errors
from profile_and_optimize.campaign.selection import Judged, honesty_of, start_up_of, summary_of
from profile_and_optimize.core.context import ARM_FIELDS, ENVIRONMENT_FIELDS
from profile_and_optimize.core.errors import ODD, Corrupted
from profile_and_optimize.core.trial import Validity
from profile_and_optimize.engines.prometheus import server_tpot
from profile_and_optimize.evidence.cores import spread
from profile_and_optimize.evidence.reading import read_bulk_json
from profile_and_optimize.evidence.trialfile import TrialFile, decode, trial_path
from profile_and_optimize.stats.columns import Elsewhere, Records
from profile_and_optimize.stats.honesty import Honesty

BATCH = 50
# Below this many trials, starting processes costs more than it saves.
WORTH_PROCESSES = 400


@dataclass(frozen=True, slots=True)
class Remark:
    """Two things in a run that do not agree. In `doubt` there is an honest cause too, such as a clock that was set."""

    where: str
    text: str
    doubt: bool = False

    @property
    def line(self) -> str:
        return f"{self.where}: {self.text}"


class Look(Protocol):
    """Run folder and trial to what disagrees in it; `marks` is what the trial is known by, to be compared with other trials
    later. It is handed to other processes, so it and they can be pickled."""

    def __call__(self, run: Path, t: Judged, /) -> tuple[Remark, ...]: ...

    def marks(self, t: Judged, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """One trial file of a run: `trial`, what was remarked on it and what it is known by, or why it could not be read."""

    path: str
    trial: Judged | None
    remarks: tuple[Remark, ...] = ()
    damage: str = ""
    marks: object = None


def load_trials(run: Path, paths: Sequence[str], look: Look | None = None) -> list[Loaded]:
    """In order of their paths, which are relative to the run."""
    batches = _batches(paths, BATCH if len(paths) >= WORTH_PROCESSES else len(paths))
    found = spread(partial(_load_batch, run, look, len(batches) > 1), batches)
    return sorted((one for batch in found for one in batch), key=lambda x: x.path)


def _batches(paths: Sequence[str], size: int) -> list[list[str]]:
    """Trials of one block, point and attempt stay together: what they share is worked out once."""
    batches: list[list[str]] = [[]]
    for _, same in groupby(sorted(paths, key=_name), key=_name):
        if len(batches[-1]) >= size:
            batches.append([])
        batches[-1] += same
    return batches


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _load_batch(run: Path, look: Look | None, apart: bool, batch: list[str]) -> list[Loaded]:
    """`apart`: in a process of its own, which keeps the records: what is computed from them is all that is sent back."""
    groups = (_load_group(run, look, list(paths)) for _, paths in groupby(batch, key=_name))
    return [_without_records(run, one) if apart else one for same in groups for one in same]


def _load_group(run: Path, look: Look | None, paths: list[str]) -> list[Loaded]:
    """Trials of one block, point and attempt. All leave out the longest start-up among them, as a block does; should the
    block then choose other attempts, it works its own out again."""
    read = [(path, _read(run / path)) for path in paths]
    drop = max((x.start_up for _, x in read if isinstance(x, Read) and x.usable), default=0)
    return [_judged(run, path, x, drop, look) for path, x in read]


@dataclass(frozen=True, slots=True)
class Read:
    """A trial of which all is known but how many first requests it leaves out."""

    file: TrialFile
    honesty: Honesty
    start_up: int

    @property
    def usable(self) -> bool:
        return self.honesty.validity is not Validity.INVALID


def _read(path: Path) -> Read | Corrupted:
    try:
        file = _trial_at(path)
        return Read(file, _honesty(file, path), start_up_of(file))
    except Corrupted as e:
        return e
    except ODD as e:
        return _no_trial(e, path)


def _judged(run: Path, path: str, found: Read | Corrupted, drop: int, look: Look | None) -> Loaded:
    if isinstance(found, Corrupted):
        return Loaded(path, None, damage=found.message)
    try:
        trial = Judged(found.file, summary_of(found.file, drop), found.honesty)
    except ODD as e:
        return Loaded(path, None, damage=_no_trial(e, run / path).message)
    try:
        return Loaded(path, trial, look(run, trial), marks=look.marks(trial)) if look else Loaded(path, trial)
    except (*ODD, Corrupted) as e:
        return Loaded(path, trial, (Remark(path, f"cannot be checked: {type(e).__name__} {e}"),))


def _without_records(run: Path, one: Loaded) -> Loaded:
    if one.trial is None:
        return one
    file, summary, honesty = one.trial.file, one.trial.summary, one.trial.honesty
    records = Elsewhere(len(file.run.records), partial(_records_at, run / one.path))
    light = replace(file, run=replace(file.run, records=records))
    return Loaded(one.path, Judged(light, summary, honesty), one.remarks, marks=one.marks)


def _records_at(path: Path) -> Records:
    return Records.of(decode(read_bulk_json(path), str(path)).run.records)


def load_trial(path: Path) -> Judged:
    """One trial file with its judgement. Raises Corrupted naming it, whatever is wrong in it."""
    file = _trial_at(path)
    try:
        return Judged(file, summary_of(file), _honesty(file, path))
    except ODD as e:
        raise _no_trial(e, path) from e


def _trial_at(path: Path) -> TrialFile:
    file = decode(read_bulk_json(path), str(path))
    if trial_path(file.key) != "/".join(path.parts[-4:]):
        raise Corrupted(f"its content is of {trial_path(file.key)}", where=str(path), next="pao verify RUN")
    try:
        _check_context(file)
    except ODD as e:
        raise _no_trial(e, path) from e
    return file


def _honesty(file: TrialFile, path: Path) -> Honesty:
    return honesty_of(file, server_tpot(dict(file.counters)), client_errors.read(path.parents[3]))


def _no_trial(e: Exception, path: Path) -> Corrupted:
    return Corrupted(f"not a trial: {type(e).__name__} {e}", where=str(path), next="pao verify RUN")


def _check_context(file: TrialFile) -> None:
    strange = sorted(file.context.keys() - ARM_FIELDS - ENVIRONMENT_FIELDS)
    if strange:
        raise ValueError(f"context field {strange[0]!r} is in neither table")
    if not all(field.keys() >= {"asked", "observed"} for field in file.context.values()):
        raise ValueError("a context field without what was asked or observed")
