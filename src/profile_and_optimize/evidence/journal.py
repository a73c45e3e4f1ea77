"""The append-only journal of a run: one JSON line an event, each carrying the digest of the line before it.

A kill can leave a torn last line; reading drops it and the next append overwrites it. Any other damage is named
with its line number, and the events before it are still given.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import BrokeMidway, Corrupted
from profile_and_optimize.core.names import canonical, digest

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is wall-clock seconds. `data` is what the event says."""

    seq: int
    at: float
    kind: str
    data: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The sound events, how many bytes they take, and what is wrong after them ("" when nothing is)."""

    events: tuple[Event, ...]
    sound_bytes: int
    torn: bool
    problem: str


def read_journal(path: Path) -> Reading:
    """Every sound event from the start. Never raises on damage: `problem` says what and where."""
    if not path.exists():
        return Reading((), 0, False, "")
    data = path.read_bytes()
    events: list[Event] = []
    offset, prev = 0, GENESIS
    for number, line in enumerate(data.split(b"\n"), start=1):
        last = offset + len(line) >= len(data)
        if not line and last:
            break
        event = _event(line, prev, len(events))
        if event is None:
            torn = last and not data.endswith(b"\n")
            problem = "" if torn else f"line {number} is not what was written; {len(events)} events before it are good"
            return Reading(tuple(events), offset, torn, problem)
        if last:
            return Reading(tuple(events), offset, True, "")
        events.append(event)
        prev = event.hash
        offset += len(line) + 1
    return Reading(tuple(events), offset, False, "")


def _event(line: bytes, prev: str, seq: int) -> Event | None:
    try:
        raw = json.loads(line)
        body = {k: raw[k] for k in ("seq", "at", "kind", "data", "prev")}
        ok = raw["prev"] == prev and raw["seq"] == seq and digest(canonical(body)) == raw["hash"] and len(raw) == 6
        return Event(seq, raw["at"], raw["kind"], raw["data"], raw["hash"]) if ok else None
    except (ValueError, KeyError, TypeError):
        return None


class Journal:
    """The open journal of a run. Appends reach the disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        reading = read_journal(path)
        if reading.problem:
            raise Corrupted(reading.problem, where=str(path), next=f"pao verify {path.parent}")
        self.events = list(reading.events)
        if reading.torn:
            os.truncate(path, reading.sound_bytes)

    @property
    def head(self) -> str:
        return self.events[-1].hash if self.events else GENESIS

    def append(self, kind: str, at: float, **data: Any) -> Event:
        seq = len(self.events)
        body = {"seq": seq, "at": at, "kind": kind, "data": data, "prev": self.head}
        event = Event(seq, at, kind, data, digest(canonical(body)))
        line = canonical({**body, "hash": event.hash}) + b"\n"
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab") as f:
                f.write(line)
                f.flush()
                os.fsync(f.fileno())
        except OSError as e:
            if self.path.exists():
                os.truncate(self.path, before)
            raise BrokeMidway(
                f"cannot append: {e.strerror or e}", where=str(self.path), next="free disk space, then --resume"
            ) from e
        self.events.append(event)
        return event
