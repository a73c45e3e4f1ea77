"""What the worker is asked to do: the JSON of a job as frozen values. Paths and URLs are text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

SCHEMA = 2
# Of a job what differs between two models that are asked the same.
OF_ONE_MODEL = ("out", "url", "model", "host", "addresses", "hub")


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a user's own file."""

    question: str
    answer: str
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of --tasks: questions of our own (`rows`), or what `load` names, with data from `splits` (split to file)."""

    name: str
    load: str = ""
    rows: tuple[Asked, ...] = ()
    splits: tuple[tuple[str, str], ...] = ()
    format: str = "{question}"
    until: tuple[str, ...] = ()
    max_tokens: int = 256

    @property
    def is_local(self) -> bool:
        return bool(self.rows or self.splits)


@dataclass(frozen=True, slots=True)
class Job:
    """`worker_sha256` is the worker that the job was written for. `host` is the server's name, `addresses` those it was judged
    to stand for; `hub` is host and port of the hub."""

    schema: int
    worker_sha256: str
    out: str
    url: str
    model: str
    api: str
    host: str
    addresses: tuple[str, ...]
    hub: tuple[str, int]
    tasks: tuple[Entry, ...]
    limit: int | None
    fewshot: int | None
    samples: int
    temperature: float
    max_tokens: int | None
    seed: int
    cluster_field: str
    metric: str
    concurrency: int
    timeout_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def same_for_all(self) -> dict[str, Any]:
        """What any model asked in this way is asked; the job's digest is taken over it. Of files the names alone: their
        content is in the digests of the questions."""
        told = {k: v for k, v in self.to_json().items() if k not in OF_ONE_MODEL}
        for entry in told["tasks"]:
            entry["load"] = Path(entry["load"]).name
            entry["splits"] = [split for split, _ in entry["splits"]]
        return told


def read_job(path: str) -> Job:
    """Raises ValueError for a job of another schema or with other fields."""
    raw = json.loads(Path(path).read_text())
    if raw.get("schema") != SCHEMA:
        raise ValueError(f"job of schema {raw.get('schema')!r}, this worker reads {SCHEMA}")
    tasks = tuple(_entry(entry) for entry in raw["tasks"])
    host, port = raw["hub"]
    return Job(**_exactly(Job, raw) | {"tasks": tasks, "addresses": tuple(raw["addresses"]), "hub": (host, port)})


def _entry(raw: dict[str, Any]) -> Entry:
    rows = tuple(Asked(**_exactly(Asked, row)) for row in raw["rows"])
    splits = tuple((split, file) for split, file in raw["splits"])
    return Entry(**_exactly(Entry, raw) | {"rows": rows, "splits": splits, "until": tuple(raw["until"])})


def _exactly(kind: type, raw: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    if raw.keys() != names:
        raise ValueError(f"{kind.__name__}: its fields are not {', '.join(sorted(names))}")
    return raw
