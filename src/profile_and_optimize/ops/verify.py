"""pao verify: the chain, every aggregate and the decision, from records alone. No network, no engine, nothing executed.

Three answers: HOLDS, HOLDS IN PART, BROKEN. What the run says of itself can make them stricter or partial, never better.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.analysis.crosscheck import crosscheck
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import earlier
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.campaign.loading import WORTH_PROCESSES
from profile_and_optimize.core.errors import Corrupted, GateRefused, PaoError, Undecided
from profile_and_optimize.core.opens import DATA
from profile_and_optimize.evidence.cores import can_fork, spread, without_collector
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import Reading, read_journal
from profile_and_optimize.evidence.manifest import MANIFEST, check_manifest, evidence_root, schema_of
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.evidence.tree import Tree, walk
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest
from profile_and_optimize.ops.kept import looker, prompts_facts, prompts_words
from profile_and_optimize.ops.sources import check_sources
from profile_and_optimize.ops.verify_pdf import check_pdf
from profile_and_optimize.ops.verifying.findings import BAD, Answer, Findings, line_of
from profile_and_optimize.ops.verifying.rederived import check_derived, is_ours
from profile_and_optimize.ops.verifying.roots import Roots, against, published_root
from profile_and_optimize.optimize.publish import MAKERS
from profile_and_optimize.report.pages.record import PDF

MOST_SHOWN = 40
# A run that is no campaign, by the file that it is about. The module has `look(run) -> (problems, facts)`, which opens only
# what the run holds, `words(facts) -> lines`, and DERIVED: the files that are not evidence, with their producers.
OTHER_RUNS = {
    "evaluation.json": "profile_and_optimize.ops.verify_evaluation",
    "gate.json": "profile_and_optimize.ops.verify_gate",
    "serve_matrix.json": "profile_and_optimize.ops.verify_matrix",
}
PLANS = frozenset({"plan.json", "draft.json"})


class VerifyRequest(CampaignRequest):
    """`against` is a root that was published: 64 hex digits, a file that holds one (RUN.root), or a manifest.json."""

    against: Annotated[str | None, DATA] = Field(
        default=None,
        description="a published root: 64 hex digits, RUN.root or another file that holds one, or a manifest",
    )


def run(req: VerifyRequest, say: Say) -> Result:
    path, published = req.path(), published_root(req.against) if req.against else None
    found = look_at(path, published)
    data: dict[str, Any] = {
        "campaign": path.name, "answer": found.answer.value, "problems": found.problems, "not_covered": found.not_covered,
        "warnings": found.warnings, **found.facts,
    }  # fmt: skip
    return Result(data, text_of(path, found), tuple(_first(found.warnings)), _refusal(path, found))


def _refusal(path: Path, found: Findings) -> PaoError | None:
    """What makes the exit code: 1 for what is broken, 4 for what holds in part."""
    if found.answer is Answer.BROKEN:
        count = len(found.problems)
        return GateRefused(
            f"{count} {'thing does' if count == 1 else 'things do'} not hold", where=str(path),
            next="restore the files, or run the campaign again",
        )  # fmt: skip
    if found.answer is Answer.IN_PART:
        count = len(found.not_covered)
        return Undecided(
            f"holds in part: {count} {'thing was' if count == 1 else 'things were'} not covered", where=str(path),
            next="verify it with the version that rendered it and its root, or render it again: pao report_render RUN",
        )  # fmt: skip
    return None


def _first(lines: list[str]) -> list[str]:
    more = [f"... and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return lines[:MOST_SHOWN] + more


def check(path: Path, published: Roots | None = None) -> tuple[list[str], dict[str, Any]]:
    """Every problem as a line, and what was checked."""
    found = look_at(path, published)
    return found.problems, {
        **found.facts, "warnings": found.warnings, "not_covered": found.not_covered, "answer": found.answer.value,
    }  # fmt: skip


def look_at(path: Path, published: Roots | None = None) -> Findings:
    """All of it. Damage of any kind is a line too, never a crash; nothing outside of the run is opened."""
    with without_collector():
        return _look_at(path, published)


def _look_at(path: Path, published: Roots | None) -> Findings:
    found = Findings()
    try:
        tree = walk(path)
    except Corrupted as e:
        return Findings([line_of(e, str(path))])
    if tree.odd:
        # A link, even to a folder half way down a path, leads to what is not the run's: nothing is opened.
        return Findings(list(tree.odd))
    journal = read_journal(path / JOURNAL)
    found.step(MANIFEST, lambda: check_manifest(path, journal, tree))
    manifest = _manifest(path)
    if published is not None:
        found.step(MANIFEST, lambda: against(manifest, journal, published, found))
    if kinds := [name for name in OTHER_RUNS if name in tree.files]:
        if len(kinds) > 1 or PLANS & tree.files.keys():
            others = sorted(PLANS & tree.files.keys())
            found.problems.append(f"a run is one thing, and this is several: {', '.join([*kinds, *others])}")
        if not PLANS & tree.files.keys():
            found.step(kinds[0], lambda: _other(path, kinds[0], journal, manifest, found.facts))
            return found
    try:
        ev = load_evidence(path, journal=journal, look=looker(path, same_version=is_ours(manifest)))
        ev = replace(ev, root=evidence_root(ev.events, schema=schema_of(manifest)) if manifest else ev.root)
    except BAD as e:
        found.problems.append(line_of(e, "evidence"))
        return found
    found.facts |= {"rendered_by": str(manifest.get("rendered_by", ""))}
    _inside(path, ev, tree, manifest, found)
    return found


def _manifest(path: Path) -> dict[str, Any]:
    """As it lies there; {} for what is none, which `check_manifest` says."""
    if not os.path.lexists(path / MANIFEST):
        return {}
    try:
        found = read_json(path / MANIFEST)
    except Corrupted:
        return {}
    return found if isinstance(found, dict) else {}


def _other(path: Path, kind: str, journal: Reading, manifest: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    root = evidence_root(journal.events, schema=schema_of(manifest))
    facts |= {"kind": kind, "evidence_root": root, "root": str(manifest.get("root", ""))}
    module = import_module(OTHER_RUNS[kind])
    problems, told = module.look(path)
    facts |= told
    listed = {str(d.get("path")): str(d.get("producer")) for d in manifest.get("derived", ()) if isinstance(d, dict)}
    odd = (
        [] if listed == module.DERIVED or not manifest else [f"{MANIFEST}: its derived files are not those of a {kind}"]
    )
    return [*problems, *odd]


def _inside(path: Path, ev: Evidence, tree: Tree, manifest: dict[str, Any], found: Findings) -> None:
    """Everything about evidence that could be read: three parts, which know nothing of each other."""
    found.problems += [f"damaged {d}" for d in ev.damaged]
    found.remark(ev.remarks)
    found.warnings += _earlier(path, ev)
    parts: list[tuple[str, ...]] = [("agreement",), ("atlas_aggregate", "champion_select"), ("report_render",)]
    if len(ev.trials) < WORTH_PROCESSES or not can_fork():
        parts = [tuple(name for part in parts for name in part)]
    for part in spread(partial(_part, path, ev, tree, manifest), parts):
        found.add(part)
    found.facts |= {
        "trials": len(ev.trials), "requests": sum(len(t.file.run.records) for t in ev.trials), "evidence_root": ev.root,
        "root": str(manifest.get("root", "")), "prompts": prompts_facts(ev.frozen),
        "imported": sum(len(a.runs) for c in ev.imported for a in c.attempts),
    }  # fmt: skip


def _earlier(path: Path, ev: Evidence) -> list[str]:
    """What the folders beside the run say otherwise of earlier campaigns than it lists: no fault of the run."""
    at = next((e.at for e in ev.events if e.kind == "wrote" and e.data["path"] == earlier.EARLIER), None)
    if ev.earlier is None or at is None:
        return []
    try:
        return earlier.differences(path, ev.earlier, at)
    except OSError as e:
        return [f"{earlier.EARLIER}: the folders beside the run cannot be listed: {e.strerror}"]


def _part(path: Path, ev: Evidence, tree: Tree, manifest: dict[str, Any], names: tuple[str, ...]) -> Findings:
    """Does everything agree, and are the derived files of these verbs what the evidence gives?"""
    found = Findings()
    if "agreement" in names:
        found.remark(crosscheck(ev))
        found.step("sources", lambda: check_sources(path, ev, tree))
    verbs = [name for name in names if name in MAKERS]
    if verbs and manifest:
        found.step("decision", lambda: check_derived(path, ev, decide(ev), verbs, manifest, found))
    if "report_render" in verbs and manifest:
        found.step(PDF, lambda: check_pdf(path, ev, manifest, found))
    return found


ANCHORS = {
    "root": "the published root is this run's: every file is as it was then",
    "evidence_root": "the published root is that of this run's evidence, which is as it was then",
    None: "a tampering that re-hashed everything can only be found against a root that was published: keep this one, and give it\n"
    "  as --against",
}


def text_of(path: Path, found: Findings) -> str:
    """The answer first, then what it rests on; for what is broken, each problem."""
    if found.answer is Answer.BROKEN:
        return "\n".join([f"{path.name}: BROKEN", *_first(found.problems)])
    facts = found.facts
    matched = facts["against"]["matched"] if "against" in facts else None
    looked = import_module(OTHER_RUNS[facts["kind"]]).words(facts) if "kind" in facts else _campaign_words(facts)
    lines = [
        *looked, *(f"not covered: {line}" for line in _first(found.not_covered)), f"root {facts['root']}", ANCHORS[matched],
    ]  # fmt: skip
    return "\n".join([f"{path.name}: {found.answer.value}", *(f"  {line}" for line in lines)])


def _campaign_words(facts: dict[str, Any]) -> list[str]:
    imported = facts["imported"]
    return [
        f"{facts['trials']} trials, {facts['requests']} requests re-read",
        *prompts_words(facts["prompts"]),
        *([f"{imported} results of other tools translated again: DRAFT material"] if imported else []),
        f"{facts['derived_files']} derived files come out byte for byte; report.pdf: {facts.get('pdf', 'not looked at')}",
        f"the records give {facts['tier']} {facts['pick']}",
    ]


OP = Op(
    "verify", "Re-derive every aggregate and the decision of a run from its records, offline.", Safety.READ_ONLY, VerifyRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_verify", acts=reads,
    examples=("pao verify my-campaign", "pao verify my-campaign --against my-campaign.root"),
)  # fmt: skip
