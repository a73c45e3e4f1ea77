"""The trials of a run from disk, on every core that we may use when there are many. The answer does not depend on how."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.campaign import client_errors
from profile_and_optimize.campaign.selection import Judged, judge
from profile_and_optimize.core.context import ARM_FIELDS, ENVIRONMENT_FIELDS
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.engines.prometheus import server_tpot
from profile_and_optimize.evidence.reading import read_bulk_json
from profile_and_optimize.evidence.trialfile import TrialFile, decode, trial_path

BATCH = 50
# Below this many trials, starting processes costs more than it saves.
WORTH_PROCESSES = 400

# What arithmetic on hostile but well-formed values may end in.
ODD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Remark:
    """Two things in a run that do not agree. In `doubt` there is an honest cause too, such as a clock that was set."""

    where: str
    text: str
    doubt: bool = False

    @property
    def line(self) -> str:
        return f"{self.where}: {self.text}"


Look = Callable[[Path, Judged], tuple[Remark, ...]]
"""Run folder and trial to what disagrees in it. A function of a module, so that other processes can be handed it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One trial file of a run: `trial` and what was remarked on it, or why it could not be read."""

    path: str
    trial: Judged | None
    remarks: tuple[Remark, ...] = ()
    damage: str = ""


def load_trials(run: Path, paths: Sequence[str], look: Look | None = None) -> list[Loaded]:
    """In the order of `paths`, which are relative to the run."""
    batches = [(run, paths[i : i + BATCH], look) for i in range(0, len(paths), BATCH)]
    if len(paths) >= WORTH_PROCESSES and cores() > 1:
        try:
            return _in_processes(batches)
        except (OSError, BrokenProcessPool, RuntimeError):
            pass  # no processes to be had here: one core does the same
    return [one for batch in batches for one in _load_batch(batch)]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(batches: Sequence[tuple[Path, Sequence[str], Look | None]]) -> list[Loaded]:
    # A fork is there at once and inherits all imports; among threads it could inherit a lock that nobody gives back.
    alone = threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods()
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("fork" if alone else "spawn")) as pool:
        return [one for batch in pool.map(_load_batch, batches) for one in batch]


def _load_batch(batch: tuple[Path, Sequence[str], Look | None]) -> list[Loaded]:
    run, paths, look = batch
    return [_load(run, path, look) for path in paths]


def _load(run: Path, path: str, look: Look | None) -> Loaded:
    try:
        trial = load_trial(run / path)
    except Corrupted as e:
        return Loaded(path, None, damage=e.message)
    try:
        return Loaded(path, trial, look(run, trial) if look else ())
    except (*ODD, Corrupted) as e:
        return Loaded(path, trial, (Remark(path, f"cannot be checked: {type(e).__name__} {e}"),))


def load_trial(path: Path) -> Judged:
    """One trial file with its judgement. Raises Corrupted naming it, whatever is wrong in it."""
    file = decode(read_bulk_json(path), str(path))
    if trial_path(file.key) != "/".join(path.parts[-4:]):
        raise Corrupted(f"it says it is {trial_path(file.key)}", where=str(path), next="pao verify RUN")
    try:
        _check_context(file)
        return judge(file, server_tpot(dict(file.counters)), client_errors.read(path.parents[3]))
    except ODD as e:
        raise Corrupted(f"not a trial: {type(e).__name__} {e}", where=str(path), next="pao verify RUN") from e


def _check_context(file: TrialFile) -> None:
    strange = sorted(file.context.keys() - ARM_FIELDS - ENVIRONMENT_FIELDS)
    if strange:
        raise ValueError(f"context field {strange[0]!r} is in neither table")
    if not all(field.keys() >= {"asked", "observed"} for field in file.context.values()):
        raise ValueError("a context field without what was asked or observed")
