"""manifest.json: every file of a run with bytes, digest, producer and inputs, chained; two digests on top.

`evidence_root` covers what the decision is computed from: all files entered in the journal, in order of their paths,
and the events that decide (a start of a server, one that failed or died, an arm that failed, a block given up). It
does not cover the journal's times and repetitions, so a campaign that was killed and resumed has the root of one that
was not.

`root`, the full root, covers `evidence_root`, the whole journal and every rendered file, and is printed in the pages that
it covers: those are digested with `PLACE` where the root stands. report.pdf shows the root in its foot, which is packed,
so its own bytes are left out of the root: they follow from report_pages.json, which is in it, and from the root. The root
is also written beside the run, as `RUN.root`.

Schema 1 had no root in its pages, and an `evidence_root` that left failed sessions out. It is still read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
SCHEMA = 2
# What the root covers. "derived" stands for the entries without what depends on the root.
PARTS = ("run_id", "evidence_root", "journal", "derived", "rendered_by")
# Rendered files that print the root as text, and those that show it packed, which follow from another file and the root.
PRINTS_ROOT = frozenset({"report.html", "report.txt"})
FOLLOWS = frozenset({"report.pdf"})
# Stands for the root until it is known. As long as a root, and no digest of anything.
PLACE = "the-root-of-this-run-" + "0" * 43
KEYS = frozenset((*PARTS, "schema", "entries", "root"))
ENTRY = ("path", "bytes", "sha256", "producer", "inputs")
RENDERED_ENTRY = frozenset({"path", "bytes", "sha256", "content", "producer"})
# Below this many files, starting processes costs more than it saves.
WORTH_PROCESSES = 2000
UNCLOSED = f"{MANIFEST}: missing; the run was not closed: pao report_render RUN closes it as it stands"
LOCK = ".lock"
NOT_LISTED = frozenset({MANIFEST, LOCK, JOURNAL})
# Events that tell how it went and may come twice where a campaign was resumed. Every other kind decides something.
TELLING = frozenset({"wrote", "created", "settled", "trial_began", "block", "race_block"})
# Starts of servers and their failures decide as well (a variant whose servers die is not shipped). A start that a kill of
# ours broke off is begun again under the same number, so of equal ones the first counts. Without a number they only tell:
# so it was before starts were counted.
STARTS = frozenset({"session", "session_failed"})
# What told and did not decide in manifests of older schemas.
TELLING_BEFORE = {
    1: frozenset({"wrote", "created", "session", "session_failed", "settled", "trial_began", "block", "race_block"})
}


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


def evidence_root(
    events: Iterable[Event], entries: Sequence[Mapping[str, Any]] | None = None, schema: int = SCHEMA
) -> str:
    """Over the chained entries and, in their order, the events that decide; their times and numbers are left out.

    `entries` are those of the same events, if they are known already."""
    events = tuple(events)
    entries = entries_of(events) if entries is None else entries
    telling = TELLING_BEFORE.get(schema)
    deciding = _deciding(events) if telling is None else (e for e in events if e.kind not in telling)
    body = {"files": entries[-1]["hash"] if entries else GENESIS, "decided": [[e.kind, e.data] for e in deciding]}
    return digest_of(body if schema == 1 else {**body, "schema": schema})


def full_root(manifest: Mapping[str, Any]) -> str:
    """The root that follows from the other parts of a manifest. Raises KeyError and TypeError for what is none."""
    body = {k: manifest[k] for k in PARTS}
    if manifest["schema"] == 1:
        return digest_of(body)
    return digest_of({**body, "schema": manifest["schema"], "derived": [_covered(d) for d in manifest["derived"]]})


def _covered(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the root covers of a rendered file: nothing that depends on the root itself."""
    if entry["path"] in FOLLOWS:
        return {"path": entry["path"], "producer": entry["producer"]}
    return {k: entry[k] for k in ("path", "bytes", "content", "producer")}


def content(path: str, data: bytes, root: str) -> str:
    """The digest of a rendered file with `PLACE` for the root that it prints."""
    return digest(data.replace(root.encode(), PLACE.encode()) if path in PRINTS_ROOT and root else data)


def with_root(path: str, data: bytes, root: str) -> bytes:
    """A rendered file as it lies on the disk."""
    return data.replace(PLACE.encode(), root.encode()) if path in PRINTS_ROOT else data


def root_file(run: Path) -> Path:
    """Where the root is written beside the run: `RUN.root`."""
    run = run.absolute()
    return run.parent / f"{run.name}.root"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file to be listed: who made it, and its bytes with `PLACE` for the root; None for one that follows from the root."""

    producer: str
    data: bytes | None


def root_of(run: Path, files: Mapping[str, Rendered]) -> str:
    """The root that the run will have with these rendered files."""
    return full_root(_body(run, files, {}))


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
    """List files that lie in the run as they stand and print no root. `derived` maps them to their producers."""
    return seal(run, {path: Rendered(who, read_bytes(run / path)) for path, who in derived.items()}, {})


def seal(run: Path, files: Mapping[str, Rendered], followed: Mapping[str, bytes]) -> dict[str, Any]:
    """Write manifest.json for the run as it stands, and its root beside it. `followed` are the bytes of the files that
    follow from the root; whatever else is listed is written here, with the root in its place."""
    body = _body(run, files, followed)
    root = body["root"] = full_root(body)
    for path, made in files.items():
        data = followed[path] if made.data is None else with_root(path, made.data, root)
        write_atomic(run / path, data)
    for entry in body["derived"]:
        made = files[entry["path"]]
        if made.data is not None:
            entry["sha256"] = digest(with_root(entry["path"], made.data, root))
    write_atomic(run / MANIFEST, (json.dumps(body, indent=1, sort_keys=True) + "\n").encode())
    write_atomic(root_file(run), f"{root}  {run.absolute().name}\n".encode())
    return body


def _body(run: Path, files: Mapping[str, Rendered], followed: Mapping[str, bytes]) -> dict[str, Any]:
    events = read_journal(run / JOURNAL).events
    return {
        "schema": SCHEMA, "run_id": run.absolute().name, "entries": entries_of(events), "evidence_root": evidence_root(events),
        "journal": _journal_entry(run, events),
        "derived": [_rendered_entry(path, made, followed.get(path, b"")) for path, made in sorted(files.items())],
        "rendered_by": __version__,
    }  # fmt: skip


def _rendered_entry(path: str, made: Rendered, followed: bytes) -> dict[str, Any]:
    data = followed if made.data is None else made.data
    sha256 = digest(data)
    return {"path": path, "bytes": len(data), "sha256": sha256, "content": sha256, "producer": made.producer}


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
        return [*problems, *_strangers(entries, (), tree), UNCLOSED]
    manifest = read_json(run / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("schema") not in (1, SCHEMA):
        return [*problems, f"{MANIFEST}: not a manifest of schema 1 to {SCHEMA}"]
    problems += _check_head(run, manifest, entries, reading.events)
    derived = [d for d in _list(manifest.get("derived")) if isinstance(d, dict)]
    problems += _check_listed(derived, entries) + _check_keys(manifest, derived)
    return problems + _check_rendered(run, manifest, derived, tree) + _strangers(entries, derived, tree)


def schema_of(manifest: Mapping[str, Any]) -> int:
    """1 for whatever is no newer one: the oldest is believed least."""
    return SCHEMA if manifest.get("schema") == SCHEMA else 1


def _check_listed(derived: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A rendered file is listed once, and is none of the evidence."""
    paths = [str(d.get("path"))[:200] for d in derived]
    other = {e["path"] for e in entries} | NOT_LISTED
    return [
        f"{MANIFEST}: lists {p!r} among the derived files "
        + ("more than once" if p not in other else "though it is not one")
        for p in sorted({p for p in paths if paths.count(p) > 1 or p in other})
    ]


def _check_keys(manifest: Mapping[str, Any], derived: Sequence[Mapping[str, Any]]) -> list[str]:
    """No word in a manifest that no digest covers."""
    if manifest["schema"] == 1:
        return []
    problems = [f"{MANIFEST}: its keys are not those of schema {SCHEMA}"] if manifest.keys() != KEYS else []
    if any(d.keys() != RENDERED_ENTRY for d in derived) or len(derived) != len(_list(manifest.get("derived"))):
        problems.append(f"{MANIFEST}: a derived entry has other keys than {', '.join(sorted(RENDERED_ENTRY))}")
    return problems


def _check_rendered(
    run: Path, manifest: Mapping[str, Any], derived: Sequence[Mapping[str, Any]], tree: Tree
) -> list[str]:
    """The bytes of every rendered file, and the digest of what the root covers of it."""
    problems = _check_files(run, derived, tree)
    if problems or manifest["schema"] == 1:
        return problems
    root = str(manifest.get("root"))
    for entry in derived:
        path = entry["path"]
        data = read_bytes(run / path)
        if entry.get("content") != content(path, data, root):
            problems.append(f"{path}: not the content that the root covers")
        if path in PRINTS_ROOT and PLACE.encode() in data:
            problems.append(f"{path}: shows a stand-in where the root belongs")
    return problems


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
    schema = schema_of(manifest)
    told = {
        "entries": (list(entries), "its entries are not those of the journal"),
        "evidence_root": (evidence_root(events, entries, schema), "evidence_root does not follow from the journal"),
        "journal": (_journal_entry(run, events), "its journal entry differs from that of the file"),
        "run_id": (run.name, f"it is of run {str(manifest.get('run_id'))[:100]!r}, the folder is {run.name!r}"),
    }
    problems = [f"{MANIFEST}: {text}" for key, (true, text) in told.items() if manifest.get(key) != true]
    if extra := _went_on(manifest, events):
        problems.append(extra)
    try:
        follows = manifest.get("root") == full_root(manifest)
    except (KeyError, TypeError, ValueError):
        follows = False
    return problems if follows else [*problems, f"{MANIFEST}: root does not follow from its parts"]


def _went_on(manifest: Mapping[str, Any], events: Sequence[Event]) -> str:
    """A word for whoever finds a run that was closed, and then went on."""
    journal = manifest.get("journal")
    head = journal.get("head") if isinstance(journal, dict) else None
    at = next((i for i, e in enumerate(events, 1) if e.hash == head), len(events))
    more = len(events) - at
    return f"{MANIFEST}: the run has {more} events after it was closed: pao report_render RUN" if more else ""


def _strangers(entries: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]], tree: Tree) -> list[str]:
    """Files that nobody wrote down. What a kill left half-written is one: whoever opens the run again removes it."""
    known = {e["path"] for e in entries} | {str(d.get("path")) for d in derived} | NOT_LISTED
    odd = [f"{p}: in the folder but in no list{_left(p)}" for p in tree.files if p not in known]
    return odd + ([f"{LOCK}: holds {tree.files[LOCK]} bytes; a lock is empty"] if tree.files.get(LOCK) else [])


def _left(path: str) -> str:
    return (
        " (half-written; a kill may have left it: pao report_render RUN removes it)"
        if path.endswith(TEMP_SUFFIX)
        else ""
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
