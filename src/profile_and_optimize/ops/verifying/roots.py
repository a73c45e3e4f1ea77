"""The root that was published, against the run's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.evidence.journal import Reading
from profile_and_optimize.evidence.manifest import MANIFEST, evidence_root, schema_of
from profile_and_optimize.evidence.reading import read_bytes, strict_json
from profile_and_optimize.ops.verifying.findings import Findings

ROOT_FILE_BYTES = 1 << 26
_ROOT = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
EVIDENCE_ALONE = "rendering: the published root is that of the evidence; the pages, and the times in the journal, are not covered by it"


@dataclass(frozen=True, slots=True)
class Roots:
    """What was published. A single digest may be either of the two; a manifest names both."""

    root: str
    evidence_root: str

    def match(self, root: str, evidence: str) -> str | None:
        """Which of a run's two roots was published; the one that covers more first."""
        return "root" if self.root == root else "evidence_root" if self.evidence_root == evidence else None


def against(manifest: dict[str, Any], journal: Reading, published: Roots, found: Findings) -> list[str]:
    """Only the full root covers everything; that of the evidence alone leaves the rendering uncovered."""
    evidence = evidence_root(journal.events, schema=schema_of(manifest))
    matched = published.match(str(manifest.get("root", "")), evidence)
    found.facts["against"] = {"root": published.root, "matched": matched}
    if matched == "evidence_root":
        found.not_covered.append(EVIDENCE_ALONE)
    return [] if matched else [f"{MANIFEST}: neither root is the published {published.root}"]


def published_root(text: str) -> Roots:
    """Of 64 hex digits, or of a file or folder that holds a root. Raises WrongUse for anything else."""
    if re.fullmatch(_ROOT, text):
        return Roots(text.lower(), text.lower())
    path = Path(text) / MANIFEST if Path(text).is_dir() else Path(text)
    if not path.is_file():
        raise WrongUse(
            f"{text[:80]!r} is neither a root nor a file", where="--against", next="give all 64 hex digits, or a file"
        )
    try:
        return _root_in(read_bytes(path.resolve(), ROOT_FILE_BYTES))
    except (Corrupted, WrongUse) as e:
        raise WrongUse(e.message, where=str(path), next="give the root itself: 64 hex digits") from e


def _root_in(data: bytes) -> Roots:
    text = data.decode(errors="replace")
    try:
        value = strict_json(text)
        if isinstance(value, dict) and {"root", "evidence_root"} <= value.keys():
            both = [str(value[k]).lower() for k in ("root", "evidence_root")]
            if all(re.fullmatch(_ROOT, one) for one in both):
                return Roots(*both)
    except ValueError:
        pass
    found = {hit.lower() for hit in re.findall(_ROOT, text)}
    if len(found) != 1:
        raise WrongUse(
            "holds no root" if not found else f"holds {len(found)} digests, so which one is meant is unclear"
        )
    return Roots(*found, *found)
