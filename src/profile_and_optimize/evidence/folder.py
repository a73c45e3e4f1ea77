"""A run folder: every file goes through here, is written whole, and is entered in the journal with its digest."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from profile_and_optimize.core.environment import value
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import digest, slug
from profile_and_optimize.core.near import did_you_mean
from profile_and_optimize.evidence.atomic import sweep_temps, write_atomic
from profile_and_optimize.evidence.journal import Journal
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.evidence.redact import known_secrets, redact

RUN_ID = re.compile(r"\d{8}T\d{6}Z-[a-z0-9][a-z0-9._-]*\Z")
JOURNAL = "journal.jsonl"


def workspace(given: str | None = None) -> Path:
    """Where runs live: --campaigns-dir, PAO_CAMPAIGNS_DIR, or ./campaigns."""
    return Path(given or value("PAO_CAMPAIGNS_DIR", os.environ) or "campaigns")


def new_run_id(name: str, at: float) -> str:
    """The time and the name's slug. Raises WrongUse for a name that holds a credential: every page and path would show it."""
    if redact(name, known_secrets(os.environ)) != name:
        raise WrongUse("the name of the run looks like a credential", where="--name", next="take another name")
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at)) + "-" + slug(name)


def is_run(path: Path) -> bool:
    """A folder named by a run id. Beside a run lies its root, in a file named after it."""
    return RUN_ID.match(path.name) is not None and path.is_dir()


def find_run(name: str, space: Path) -> Path:
    """The run of that path, id, or unique slug. Raises WrongUse listing the candidates of an ambiguous slug."""
    path = Path(name)
    # os.path says False of a name that is longer than the disk takes; Path raises.
    if os.path.exists(path / JOURNAL) or os.path.exists(path / "config.yaml"):
        return (
            path if path.name not in ("", "..") else Path(os.path.abspath(path))
        )  # "." is a run's path, but not its id
    runs = sorted(p for p in space.iterdir() if is_run(p)) if space.is_dir() else []
    hits = [p for p in runs if p.name == name] or [p for p in runs if p.name.split("-", 1)[1] == name]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise WrongUse(
            f"{name!r} is the slug of several runs: {', '.join(p.name for p in hits)}", next="give the whole id"
        )
    known = [known for p in reversed(runs) for known in (p.name.split("-", 1)[1], p.name)]
    there = ", ".join(p.name for p in runs[-5:]) or "none"
    raise WrongUse(
        f"no run {name!r} in {space}{did_you_mean(name, known)}; the newest there: {there}",
        next="give its path, or --campaigns-dir DIR",
    )


class RunFolder:
    """One run on disk, held by one process at a time. `clock` gives wall-clock seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        path.mkdir(parents=True, exist_ok=True)
        self._lock = _hold(path)
        self.swept = sweep_temps(path)
        self.journal = Journal(path / JOURNAL)

    @property
    def run_id(self) -> str:
        return self.path.name

    def event(self, kind: str, **data: Any) -> None:
        self.journal.append(kind, self.clock(), **data)

    def write(self, rel: str, data: bytes, *, producer: str, inputs: Sequence[str] = ()) -> Path:
        """Write one file of evidence whole and enter it. `rel` is relative to the run and stays inside it."""
        path = self.path / inside(rel)
        write_atomic(path, data)
        self.event("wrote", path=rel, bytes=len(data), sha256=digest(data), producer=producer, inputs=list(inputs))
        return path

    def write_json(self, rel: str, value: Any, *, producer: str, inputs: Sequence[str] = ()) -> Path:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
        return self.write(rel, text.encode(), producer=producer, inputs=inputs)

    def read_json(self, rel: str) -> Any:
        """The JSON of one file. Raises Corrupted naming it."""
        return read_json(self.path / inside(rel))

    def last(self, kind: str) -> dict[str, Any] | None:
        """The data of the newest event of that kind."""
        return next((e.data for e in reversed(self.journal.events) if e.kind == kind), None)

    def close(self) -> None:
        self._lock.close()


def inside(rel: str) -> str:
    """`rel` if it is a plain relative path without '..'. Raises WrongUse."""
    if rel.startswith(("/", "\\")) or ".." in Path(rel).parts or "\0" in rel:
        raise WrongUse(f"{rel!r} would leave the run folder")
    return rel


def _hold(path: Path) -> IO[str]:
    """An advisory lock, so that two processes never write one run; the kernel drops it when we die."""
    handle = open(path / ".lock", "w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        handle.close()
        raise WrongUse("another process is working on this run", where=str(path), next="wait for it, or stop it") from e
    return handle
