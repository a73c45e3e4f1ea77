"""manifest.json: every file of a run with bytes, digest, producer and inputs, chained; two digests on top.

`evidence_root` covers what the decision is computed from: all files entered in the journal, in order of their paths, and
the events that decide (a start of a server, one that failed or died, an arm that failed, a block given up). It does not
cover the journal's times and repetitions, so a campaign that was killed and resumed has the root of one that was not.
`root` covers `evidence_root`, the whole journal and the rendered files, which are printed from the evidence and can be
re-rendered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from profile_and_optimize import __version__
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.names import digest, digest_of
from profile_and_optimize.evidence.atomic import TEMP_SUFFIX, write_atomic
from profile_and_optimize.evidence.cores import cores, spread
from profile_and_optimize.evidence.folder import JOURNAL, read_json
from profile_and_optimize.evidence.journal import GENESIS, Event, Reading, read_journal
from profile_and_optimize.evidence.reading import MOST_BYTES, read_bytes
from profile_and_optimize.evidence.tree import Tree, walk

MANIFEST = "manifest.json"
PARTS = ("run_id", "evidence_root", "journal", "derived", "rendered_by")
ENTRY = ("path", "bytes", "sha256", "producer", "inputs")
# Below this many files, starting processes costs more than it saves.
WORTH_PROCESSES = 2000
NOT_LISTED = frozenset({MANIFEST, ".lock", JOURNAL})
# Events that tell how it went and may come twice where a campaign was resumed. Every other kind decides something.
TELLING = frozenset({"wrote", "created", "settled", "trial_began", "block", "race_block"})
# Starts of servers and their failures decide as well (a variant whose servers die is not shipped). A start that a kill of
# ours broke off is begun again under the same number, so of equal ones the first counts. Without a number they only tell:
# so it was before starts were counted.
STARTS = frozenset({"session", "session_failed"})


def entries_of(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The newest entry per path, sorted by path and chained. Raises ValueError for an event that is no such entry."""
    newest: dict[str, dict[str, Any]] = {}
    for e in events:
        if e.kind == "wrote":
            newest[_entry(e)["path"]] = e.data
    out, prev = [], GENESIS
    for path in sorted(newest):
        body = {k: newest[path][k] for k in ENTRY}
        body["prev"] = prev
        # Text and integers only: the same bytes as names.canonical, at a fifth of the time.
        prev = digest(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
        out.append({**body, "hash": prev})
    return out


def _entry(event: Event) -> dict[str, Any]:
    data = event.data
    inputs, size = data.get("inputs"), data.get("bytes")
    texts = [data.get("path"), data.get("sha256"), data.get("producer"), *(inputs if isinstance(inputs, list) else [0])]
    if not set(map(type, texts)) <= {str} or type(size) is not int or size < 0:
        raise ValueError(f"event {event.seq} enters a file without saying which, by whom and how large")
    return data


def evidence_root(events: Iterable[Event], entries: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Over the chained entries and, in their order, the events that decide; their times and numbers are left out.

    `entries` are those of the same events, if they are known already."""
    events = tuple(events)
    entries = entries_of(events) if entries is None else entries
    decided = [[e.kind, e.data] for e in _deciding(events)]
    return digest_of({"files": entries[-1]["hash"] if entries else GENESIS, "decided": decided})


def _deciding(events: Iterable[Event]) -> Iterator[Event]:
    begun: set[str] = set()
    for e in events:
        if e.kind in TELLING or (e.kind in STARTS and "start" not in e.data):
            continue
        if e.kind == "session":
            start = digest_of(e.data)
            if start in begun:
                continue
            begun.add(start)
        yield e


def write_manifest(run: Path, derived: Mapping[str, str]) -> dict[str, Any]:
    """Write manifest.json for the run as it stands. `derived` maps rendered files to their producers."""
    events = read_journal(run / JOURNAL).events
    rendered = [_file_entry(run, path, producer) for path, producer in sorted(derived.items())]
    body = {
        "schema": 1,
        "run_id": run.name,
        "entries": entries_of(events),
        "evidence_root": evidence_root(events),
        "journal": _journal_entry(run, events),
        "derived": rendered,
        "rendered_by": __version__,
    }
    body["root"] = digest_of({k: body[k] for k in PARTS})

    write_atomic(run / MANIFEST, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
    return body


def _journal_entry(run: Path, events: Sequence[Event]) -> dict[str, Any]:
    return {**_file_entry(run, JOURNAL, "campaign"), "head": events[-1].hash if events else GENESIS}


def _file_entry(run: Path, rel: str, producer: str) -> dict[str, Any]:
    data = read_bytes(run / rel)
    return {"path": rel, "bytes": len(data), "sha256": digest(data), "producer": producer}


def check_manifest(run: Path, reading: Reading | None = None, tree: Tree | None = None) -> list[str]:
    """What differs between the folder and its journal and manifest, each as one line; empty when nothing does.

    Only files that stand in `tree` are opened: a path that leads out of the run is in no tree.
    """
    reading, tree = reading or read_journal(run / JOURNAL), tree or walk(run)
    problems = [*tree.odd] + ([f"{JOURNAL}: {reading.problem}"] if reading.problem else [])
    if not reading.events:
        return [*problems, f"{JOURNAL}: no events"]
    try:
        entries = entries_of(reading.events)
    except ValueError as e:
        return [*problems, f"{JOURNAL}: {e}"]
    problems += _check_files(run, entries, tree)
    if MANIFEST not in tree.files:
        return [*problems, f"{MANIFEST}: missing; the run was not closed"]
    manifest = read_json(run / MANIFEST)
    if not isinstance(manifest, dict):
        return [*problems, f"{MANIFEST}: not an object"]
    problems += _check_head(run, manifest, entries, reading.events)
    derived = [d for d in _list(manifest.get("derived")) if isinstance(d, dict)]
    return problems + _check_files(run, derived, tree) + _strangers(entries, derived, tree)


def _check_files(run: Path, entries: Sequence[Mapping[str, Any]], tree: Tree) -> list[str]:
    size = -(-len(entries) // cores()) if len(entries) >= WORTH_PROCESSES else max(1, len(entries))
    parts = [entries[i : i + size] for i in range(0, len(entries), size)]
    return [line for found in spread(partial(_check_part, run, tree), parts) for line in found]


def _check_part(run: Path, tree: Tree, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line for entry in entries if (line := _check_file(run, entry, tree))]


def _check_file(run: Path, entry: Mapping[str, Any], tree: Tree) -> str:
    path = entry.get("path")
    if not isinstance(path, str) or not _inside(path):
        return f"{str(path)[:200]!r}: leads out of the run"
    if path not in tree.files:
        return f"{path}: missing"
    if tree.files[path] > MOST_BYTES:
        return f"{path}: {tree.files[path]} bytes; files beyond {MOST_BYTES} bytes are not read"
    try:
        data = read_bytes(run / path)
    except Corrupted as e:
        return f"{path}: {e.message}"
    same = digest(data) == entry.get("sha256") and len(data) == entry.get("bytes")
    return "" if same else f"{path}: not the bytes that were written (sha256 differs)"


def _inside(rel: str) -> bool:
    return not rel.startswith(("/", "\\")) and "\0" not in rel and ".." not in Path(rel).parts


def _check_head(
    run: Path, manifest: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], events: Sequence[Event]
) -> list[str]:
    told = {
        "entries": (list(entries), "its entries are not those of the journal"),
        "evidence_root": (evidence_root(events, entries), "evidence_root does not follow from the journal"),
        "journal": (_journal_entry(run, events), "its entry of the journal is not that of the file"),
        "run_id": (run.name, f"it is of run {str(manifest.get('run_id'))[:100]!r}, the folder is {run.name!r}"),
    }
    problems = [f"{MANIFEST}: {text}" for key, (true, text) in told.items() if manifest.get(key) != true]
    if manifest.get("root") != digest_of({k: manifest.get(k) for k in PARTS}):
        problems.append(f"{MANIFEST}: root does not follow from its parts")
    return problems


def _strangers(entries: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]], tree: Tree) -> list[str]:
    known = {e["path"] for e in entries} | {str(d.get("path")) for d in derived} | NOT_LISTED
    return [f"{p}: in the folder but in no list" for p in tree.files if p not in known and not p.endswith(TEMP_SUFFIX)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
