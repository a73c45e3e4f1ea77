"""Every derived file of a run made again from its records.

What this very program rendered must come out byte for byte. What another version rendered, or says so of itself, must mean
the same: pick, tier, effects, gates and every value that both versions write, and serve.sh to the byte. Only the wording of
its pages is left out then, and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from profile_and_optimize import __version__
from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.evidence.manifest import MANIFEST, SCHEMA
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.ops.verifying.findings import Findings
from profile_and_optimize.ops.verifying.meaning import differing, same_to_nine_digits
from profile_and_optimize.optimize.publish import MAKERS, PDF_MAKER, derived, pdf_is_due
from profile_and_optimize.report.pages.record import PDF, RECORD
from profile_and_optimize.report.words import plain

# Whatever version made it: what is started is what was measured, byte for byte. By the name of the file.
ALWAYS_THE_SAME_BYTES = frozenset({"serve.sh", "status.txt"})
# What of a page is not read by people, and the word by which every page states the tier first.
_UNREAD = re.compile(r"<(style|script)\b.*?</\1>", re.S)
_TIER = re.compile(r"\b(?:DRAFT|VERDICT)\b")


def is_ours(manifest: Mapping[str, Any]) -> bool:
    """Did this very program render the run, by the manifest's word? A lie can only make the look at it stricter, or its answer
    one in part."""
    return manifest.get("schema") == SCHEMA and manifest.get("rendered_by") == __version__


def rendered_words(manifest: Mapping[str, Any]) -> str:
    """Who rendered the run, for a line of text."""
    told = plain(str(manifest.get("rendered_by", "")))[:40] or "unknown"
    return f"version {told}" if manifest.get("schema") == SCHEMA else f"version {told}, manifest of schema 1"


def check_derived(
    path: Path, ev: Evidence, d: Decision, verbs: Iterable[str], manifest: Mapping[str, Any], found: Findings
) -> list[str]:
    """Those derived files of these verbs that are missing, or are not what the evidence gives. How many were compared goes into
    the facts, what could not be compared into what is not covered."""
    found.facts |= {"pick": d.pick, "tier": d.tier.value, "derived_files": 0}
    ours, root = is_ours(manifest), str(manifest.get("root", ""))
    made = derived(ev, d, verbs, root=root)
    problems = _listed(ev, {path: verb for path, (verb, _) in made.items()}, tuple(verbs), manifest)
    for rel, (verb, data) in sorted(made.items()):
        if not (path / rel).is_file():
            problems.append(f"{rel}: missing; every closed run has it (make it with: pao {verb} RUN)")
            continue
        there = read_bytes(path / rel)
        found.facts["derived_files"] += 1
        if there == data or same_to_nine_digits(rel, there, data):
            continue
        if ours or rel.rsplit("/", 1)[-1] in ALWAYS_THE_SAME_BYTES:
            problems.append(f"{rel}: not what the records give (re-derive with: pao {verb} RUN)")
        else:
            problems += _of_another_version(rel, there, data, manifest, found)
    return problems


def _of_another_version(rel: str, there: bytes, data: bytes, manifest: Mapping[str, Any], found: Findings) -> list[str]:
    """What contradicts ours; the rest is named as not covered."""
    try:
        wrong, alone = differing(rel, there, data)
    except ValueError as e:
        return [f"{rel}: not what any version writes: {str(e)[:80]}"]
    wrong += _stated(there, data) if not rel.endswith((".json", ".jsonl")) else []
    found.facts["derived_files"] -= 1
    places = f": {', '.join(plain(a)[:60] for a in alone[:6])}{', ...' if len(alone) > 6 else ''}" if alone else ""
    found.not_covered.append(f"{rel}: rendered by {rendered_words(manifest)}, this is {__version__}{places}")
    return [f"{rel}: {plain(w)[:200]}" for w in wrong]


def _stated(there: bytes, data: bytes) -> list[str]:
    """The tier that a page states, where it contradicts ours."""
    said = [_TIER.search(_UNREAD.sub("", x.decode(errors="replace"))) for x in (there, data)]
    words = [m.group() if m else "no tier" for m in said]
    return [f"shows {words[0]}, the records give {words[1]}"] if words[0] != words[1] else []


def _listed(ev: Evidence, made: Mapping[str, str], verbs: Iterable[str], manifest: Mapping[str, Any]) -> list[str]:
    """The derived files of these verbs in the manifest are those that they make, and no others: a path that nothing of ours makes
    proves nothing. What no verb of ours is said to have made counts as the report's."""
    pdf = {PDF: PDF_MAKER, RECORD: PDF_MAKER} if PDF_MAKER in verbs else {}
    listed = {str(e.get("path")): str(e.get("producer")) for e in manifest.get("derived", ()) if isinstance(e, dict)}
    mine = {p for p, who in listed.items() if who in verbs or (pdf and who not in MAKERS)}
    problems = [
        f"{MANIFEST}: lists {plain(p)[:120]!r} as derived by {plain(listed[p])[:40]!r}, which does not make it"
        for p in sorted(mine)
        if {**made, **pdf}.get(p) != listed[p]
    ]
    required = [*made, *(pdf if pdf_is_due(ev) else ())]
    return problems + [f"{MANIFEST}: does not list {p}; every closed run has it" for p in required if p not in listed]
