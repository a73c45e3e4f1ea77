"""An attacker who owns a finished run and knows this program: what he changes, he can re-hash and derive again.

For the tests and benches of `verify`.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.core.names import canonical, digest
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import Journal
from profile_and_optimize.evidence.manifest import MANIFEST, PRINTS_ROOT, content, full_root
from profile_and_optimize.evidence.trialfile import TrialFile, decode, encode, is_trial_path
from profile_and_optimize.optimize import publish as publishing


def publish(run: Path) -> Path:
    """Every derived file and the manifest, as the run stands."""
    ev = load_evidence(run)
    publishing.publish(ev, decide(ev))
    return run


def root_of(run: Path) -> str:
    return str(json.loads((run / MANIFEST).read_text())["root"])


def relist(run: Path, version: str | None = None, schema: int | None = None) -> None:
    """The manifest anew over the derived files as they are, their pages showing its new root; `version` and `schema` are what
    it says of itself."""
    doc = json.loads((run / MANIFEST).read_text())
    before = doc["root"]
    doc |= {"rendered_by": version or doc["rendered_by"], "schema": schema or doc["schema"]}
    doc["derived"] = [d for d in doc["derived"] if (run / d["path"]).is_file()]
    files = {d["path"]: (run / d["path"]).read_bytes() for d in doc["derived"]}
    for d in doc["derived"]:
        d |= {"bytes": len(files[d["path"]]), "content": content(d["path"], files[d["path"]], before)}
    doc["root"] = full_root(doc)
    for d in doc["derived"]:
        if d["path"] in PRINTS_ROOT:
            files[d["path"]] = files[d["path"]].replace(before.encode(), doc["root"].encode())
            (run / d["path"]).write_bytes(files[d["path"]])
        d["sha256"] = digest(files[d["path"]])
    (run / MANIFEST).write_text(json.dumps(doc, indent=1, sort_keys=True) + "\n")


class Forged:
    """A copy of a finished run in his hands. `events` are the journal's lines, to be edited; `save` writes them."""

    def __init__(self, run: Path, rng: random.Random | None = None) -> None:
        self.run, self.rng = run, rng or random.Random(0)
        self.events: list[dict[str, Any]] = [json.loads(line) for line in (run / JOURNAL).read_text().splitlines()]
        self._before = canonical(self.events)

    @staticmethod
    def copy_of(run: Path, space: Path, rng: random.Random | None = None) -> Forged:
        return Forged(Path(shutil.copytree(run, space / run.name, symlinks=True)), rng)

    def paths(self, kind: str = "wrote") -> list[str]:
        return [e["data"]["path"] for e in self.events if e["kind"] == kind]

    def trials(self, *, arm: str | None = None, stage: str = "b", block: int | None = None) -> list[str]:
        found = sorted({p for p in self.paths() if is_trial_path(p) and f"/raw/{stage}" in p})
        in_block = "" if block is None else f"/raw/{stage}{block:03d}-"
        return [p for p in found if (arm is None or p.split("/")[1] == arm) and in_block in p]

    def plan(self) -> dict[str, Any]:
        return self.read("plan.json")

    def baseline(self) -> str:
        return next(a["id"] for a in self.plan()["arms"] if a["role"] == "baseline")

    def candidate(self) -> str:
        """One that was measured."""
        ids = [a["id"] for a in self.plan()["arms"] if a["role"] == "candidate" and self.trials(arm=a["id"])]
        return self.rng.choice(ids)

    def pick(self, arm: str | None = None) -> str:
        return self.rng.choice(self.trials(arm=arm))

    def read(self, path: str) -> Any:
        return json.loads((self.run / path).read_bytes())

    def edit(self, path: str, change: Callable[[Any], object]) -> None:
        """Change the JSON of a file; spaced as it was."""
        spaced = b"\n " in (self.run / path).read_bytes()[:400]
        doc = self.read(path)
        change(doc)
        text = json.dumps(doc, indent=1, sort_keys=True, ensure_ascii=False).encode() if spaced else canonical(doc)
        (self.run / path).write_bytes(text + b"\n")

    def redo(self, path: str, change: Callable[[TrialFile], TrialFile]) -> None:
        """Change a trial as a value and write it with the product's own encoder."""
        (self.run / path).write_bytes(encode(change(decode(self.read(path), path))))

    def records(self, path: str, change: Callable[[tuple[RequestRecord, ...]], tuple[RequestRecord, ...]]) -> None:
        self.redo(path, lambda f: replace(f, run=replace(f.run, records=change(tuple(f.run.records)))))

    def move(self, path: str, other: str) -> None:
        """A trial under another name, in the journal too; its kept bytes go with it."""
        for old, new in ((path, other), (_raw(path), _raw(other))):
            if (self.run / old).exists():
                (self.run / old).rename(self.run / new)
                for e in self.events:
                    if e["data"].get("path") == old:
                        e["data"]["path"] = new

    def drop(self, path: str) -> None:
        """A file and every trace of it in the journal; with a trial go its kept bytes."""
        for one in (path, _raw(path)):
            (self.run / one).unlink(missing_ok=True)
            self.events = [e for e in self.events if e["data"].get("path") != one]

    def save(self, *, rehash: bool) -> None:
        """Write the journal; `rehash`: with new digests and a new chain, then new derived files and a new manifest.

        Raises whatever the product's own readers do when what he made cannot be read back.
        """
        if rehash:
            self._chain()
            publish(self.run)
        elif canonical(self.events) != self._before:
            (self.run / JOURNAL).write_bytes(b"".join(canonical(e) + b"\n" for e in self.events))

    def _chain(self) -> None:
        (self.run / JOURNAL).unlink()
        journal = Journal(self.run / JOURNAL)
        for e in self.events:
            if e["kind"] == "wrote":
                data = (self.run / e["data"]["path"]).read_bytes()
                e["data"] = {**e["data"], "sha256": digest(data), "bytes": len(data)}
            journal.append(e["kind"], e["at"], **e["data"])


def _raw(path: str) -> str:
    return path.removesuffix(".json") + ".raw.json"
