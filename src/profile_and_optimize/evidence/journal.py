"""The append-only journal of a run: one JSON line an event, each carrying the digest of the line before it.

A kill can leave a torn last line; reading drops it and the next append overwrites it. Any other damage is named
with its line number, and the events before it are still given.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from profile_and_optimize.core.errors import BrokeMidway, Corrupted
from profile_and_optimize.core.names import canonical, digest
from profile_and_optimize.evidence.reading import read_bytes, strict_json

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
    if not os.path.lexists(path):
        return Reading((), 0, False, "")
    try:
        data = read_bytes(path)
    except Corrupted as e:
        return Reading((), 0, False, e.message)
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
        raw = orjson.loads(line)
        # Nearly every line comes out again as it went in; then its digest needs no JSON written again.
        plain = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS) == line
        raw = raw if plain else strict_json(line)
        hashed = raw.pop("hash")
        body = line.replace(f'"hash":"{hashed}",'.encode(), b"", 1) if plain else canonical(raw)
        if raw["prev"] != prev or raw["seq"] != seq or len(raw) != 5 or digest(body) != hashed:
            return None
        return Event(seq, _seconds(raw["at"]), _text(raw["kind"]), _object(raw["data"]), hashed)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a time is a number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a kind is text")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an event's data are an object")
    return value


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
