"""manifest.json: every file of a run with bytes, digest, producer and inputs, chained; two digests on top.

`evidence_root` covers the evidence: all files entered in the journal, in order of their paths. It does not cover
the journal, so a campaign that was killed and resumed has the root of one that was not. `root` covers
`evidence_root`, the journal and the rendered files, which are printed from the evidence and can be re-rendered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_and_optimize import __version__
from profile_and_optimize.core.names import digest, digest_of
from profile_and_optimize.evidence.atomic import TEMP_SUFFIX, write_atomic
from profile_and_optimize.evidence.folder import JOURNAL, read_json
from profile_and_optimize.evidence.journal import GENESIS, Event, read_journal

MANIFEST = "manifest.json"
PARTS = ("run_id", "evidence_root", "journal", "derived", "rendered_by")
NOT_LISTED = frozenset({MANIFEST, ".lock", JOURNAL})


def entries_of(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The newest entry per path, sorted by path and chained."""
    newest = {e.data["path"]: e.data for e in events if e.kind == "wrote"}
    out, prev = [], GENESIS
    for path in sorted(newest):
        body = {k: newest[path][k] for k in ("path", "bytes", "sha256", "producer", "inputs")}
        body["prev"] = prev
        prev = digest_of(body)
        out.append({**body, "hash": prev})
    return out


def evidence_root(events: Iterable[Event]) -> str:
    entries = entries_of(events)
    return entries[-1]["hash"] if entries else GENESIS


def write_manifest(run: Path, derived: Mapping[str, str]) -> dict[str, Any]:
    """Write manifest.json for the run as it stands. `derived` maps rendered files to their producers."""
    events = read_journal(run / JOURNAL).events
    rendered = [_file_entry(run, path, producer) for path, producer in sorted(derived.items())]
    journal = _file_entry(run, JOURNAL, "campaign")
    body = {
        "schema": 1,
        "run_id": run.name,
        "entries": entries_of(events),
        "evidence_root": evidence_root(events),
        "journal": {**journal, "head": events[-1].hash if events else GENESIS},
        "derived": rendered,
        "rendered_by": __version__,
    }
    body["root"] = digest_of({k: body[k] for k in PARTS})

    write_atomic(run / MANIFEST, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
    return body


def _file_entry(run: Path, rel: str, producer: str) -> dict[str, Any]:
    data = (run / rel).read_bytes()
    return {"path": rel, "bytes": len(data), "sha256": digest(data), "producer": producer}


def check_manifest(run: Path) -> list[str]:
    """What differs between the folder and its journal and manifest, each as one line; empty when nothing does."""
    reading = read_journal(run / JOURNAL)
    problems = [f"{JOURNAL}: {reading.problem}"] if reading.problem else []
    if not reading.events:
        return [*problems, f"{JOURNAL}: no events"]
    entries = entries_of(reading.events)
    problems += _check_files(run, entries)
    if not (run / MANIFEST).exists():
        return [*problems, f"{MANIFEST}: missing; the run was not closed"]
    manifest = read_json(run / MANIFEST)
    if not isinstance(manifest, dict):
        return [*problems, f"{MANIFEST}: not an object"]
    problems += _check_head(run, manifest, entries)
    return problems + _strangers(run, entries, manifest.get("derived", []))


def _check_files(run: Path, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    problems = []
    for entry in entries:
        if not _inside(entry["path"]):
            problems.append(f"{entry['path']}: leads out of the run")
            continue
        path = run / entry["path"]
        if not path.is_file() or path.is_symlink():
            problems.append(f"{entry['path']}: missing")
        elif digest(path.read_bytes()) != entry["sha256"]:
            problems.append(f"{entry['path']}: not the bytes that were written (sha256 differs)")
    return problems


def _inside(rel: object) -> bool:
    return isinstance(rel, str) and not rel.startswith(("/", "\\")) and ".." not in Path(rel).parts


def _check_head(run: Path, manifest: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    problems = []
    if manifest.get("entries") != list(entries):
        problems.append(f"{MANIFEST}: its entries are not those of the journal")
    if manifest.get("evidence_root") != (entries[-1]["hash"] if entries else GENESIS):
        problems.append(f"{MANIFEST}: evidence_root does not follow from the entries")
    parts = {k: manifest.get(k) for k in PARTS}
    if manifest.get("root") != digest_of(parts):
        problems.append(f"{MANIFEST}: root does not follow from its parts")
    for entry in [*manifest.get("derived", []), manifest.get("journal", {})]:
        path = run / str(entry.get("path", "?"))
        if not _inside(entry.get("path")) or not path.is_file() or digest(path.read_bytes()) != entry.get("sha256"):
            problems.append(f"{entry.get('path')}: not the bytes the manifest lists")
    return problems


def _strangers(run: Path, entries: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]]) -> list[str]:
    known = {e["path"] for e in entries} | {d["path"] for d in derived} | NOT_LISTED
    there = (p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file() or p.is_symlink())
    return [
        f"{p}: in the folder but in no list" for p in sorted(there) if p not in known and not p.endswith(TEMP_SUFFIX)
    ]
