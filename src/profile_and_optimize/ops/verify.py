"""pao verify: the chain, every aggregate and the decision, from records alone. No network, no engine, nothing executed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize import __version__
from profile_and_optimize.analysis.crosscheck import crosscheck
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import earlier
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.campaign.loading import WORTH_PROCESSES, Remark
from profile_and_optimize.core.errors import Corrupted, GateRefused, PaoError, WrongUse
from profile_and_optimize.core.opens import DATA
from profile_and_optimize.evidence.cores import can_fork, spread, without_collector
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import Reading, read_journal
from profile_and_optimize.evidence.manifest import MANIFEST, check_manifest, evidence_root
from profile_and_optimize.evidence.reading import read_bytes, read_json, strict_json
from profile_and_optimize.evidence.tree import Tree, walk
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest
from profile_and_optimize.ops.kept import looker, prompts_facts, prompts_words
from profile_and_optimize.ops.sources import check_sources
from profile_and_optimize.ops.verify_pdf import check_pdf
from profile_and_optimize.optimize.publish import MAKERS, derived
from profile_and_optimize.report.pages.record import PDF

MOST_SHOWN = 40
ROOT_FILE_BYTES = 1 << 26
# A run that is no campaign, by the file that it is about. The module has `look(run) -> (problems, facts)`, which opens only
# what the run holds, and `words(facts) -> lines`.
OTHER_RUNS = {
    "evaluation.json": "profile_and_optimize.ops.verify_evaluation",
    "gate.json": "profile_and_optimize.ops.verify_gate",
    "serve_matrix.json": "profile_and_optimize.ops.verify_matrix",
}
PLANS = frozenset({"plan.json", "draft.json"})
_ROOT = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_DATA = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.S)
# Whatever a hostile run makes of a step: a line, never a traceback.
BAD = (
    PaoError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


class VerifyRequest(CampaignRequest):
    """`against` is a root that was published: 64 hex digits, a file that holds one, or another copy's manifest.json."""

    against: Annotated[str | None, DATA] = Field(
        default=None, description="a published root: 64 hex digits, or a file that holds one"
    )


@dataclass(frozen=True, slots=True)
class Roots:
    """What was published. A single digest may be either of the two; a manifest names both."""

    root: str
    evidence_root: str

    def match(self, root: str, evidence: str) -> str | None:
        """Which of a run's two roots was published; the one that covers more first."""
        return "root" if self.root == root else "evidence_root" if self.evidence_root == evidence else None


@dataclass
class Findings:
    """Problems and warnings as lines, and the facts that were found on the way."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def remark(self, remarks: Iterable[Remark]) -> None:
        for r in remarks:
            (self.warnings if r.doubt else self.problems).append(r.line)

    def step(self, what: str, look: Callable[[], list[str]]) -> None:
        """What a look finds; that it could not look is a finding as well."""
        try:
            self.problems += look()
        except BAD as e:
            self.problems.append(_line(e, what))


def run(req: VerifyRequest, say: Say) -> Result:
    path, published = req.path(), published_root(req.against) if req.against else None
    found = look_at(path, published)
    data: dict[str, Any] = {
        "campaign": path.name, "problems": found.problems, "warnings": found.warnings, **found.facts,
    }  # fmt: skip
    warnings = tuple(_first(found.warnings))
    if found.problems:
        count = len(found.problems)
        refusal = GateRefused(
            f"{count} {'thing does' if count == 1 else 'things do'} not hold", where=str(path),
            next="restore the files, or run the campaign again",
        )  # fmt: skip
        return Result(data, "\n".join(_first(found.problems)), warnings, refusal)
    return Result(data, text_of(path, found.facts), warnings)


def _first(lines: list[str]) -> list[str]:
    more = [f"... and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    return lines[:MOST_SHOWN] + more


def check(path: Path, published: Roots | None = None) -> tuple[list[str], dict[str, Any]]:
    """Every problem as a line, and what was checked."""
    found = look_at(path, published)
    return found.problems, {**found.facts, "warnings": found.warnings}


def look_at(path: Path, published: Roots | None = None) -> Findings:
    """All of it. Damage of any kind is a line too, never a crash; nothing outside of the run is opened."""
    with without_collector():
        return _look_at(path, published)


def _look_at(path: Path, published: Roots | None) -> Findings:
    found = Findings()
    try:
        tree = walk(path)
    except Corrupted as e:
        return Findings([_line(e, str(path))])
    if tree.odd:
        # A link, even to a folder half way down a path, leads to what is not the run's: nothing is opened.
        return Findings(list(tree.odd))
    journal = read_journal(path / JOURNAL)
    found.step(MANIFEST, lambda: check_manifest(path, journal, tree))
    if published is not None:
        found.step(MANIFEST, lambda: _against(path, journal, published, found.facts))
    if kind := other_kind(tree):
        found.step(kind, lambda: _other(path, kind, journal, found.facts))
        return found
    try:
        made_by = _made_by(path)
        same = made_by in ("", __version__)
        ev = load_evidence(path, journal=journal, look=looker(path, same_version=same))
    except BAD as e:
        found.problems.append(_line(e, "evidence"))
        return found
    found.facts |= {"rendered_by": made_by}
    _inside(path, ev, tree, same, found)
    return found


def other_kind(tree: Tree) -> str:
    """The file that makes this run another thing than a campaign; "" for a campaign."""
    if PLANS & tree.files.keys():
        return ""
    return next((name for name in OTHER_RUNS if name in tree.files), "")


def _other(path: Path, kind: str, journal: Reading, facts: dict[str, Any]) -> list[str]:
    facts |= {"kind": kind, "evidence_root": evidence_root(journal.events), "root": _root(path)}
    problems, told = import_module(OTHER_RUNS[kind]).look(path)
    facts |= told
    return list(problems)


def _inside(path: Path, ev: Evidence, tree: Tree, same: bool, found: Findings) -> None:
    """Everything about evidence that could be read: three parts, which know nothing of each other."""
    found.problems += [f"damaged {d}" for d in ev.damaged]
    found.remark(ev.remarks)
    found.warnings += _earlier(path, ev)
    parts: list[tuple[str, ...]] = [("agreement",), ("atlas_aggregate", "champion_select"), ("report_render",)]
    if len(ev.trials) < WORTH_PROCESSES or not can_fork():
        parts = [tuple(name for part in parts for name in part)]
    for part in spread(partial(_part, path, ev, tree, same), parts):
        found.problems += part.problems
        found.warnings += part.warnings
        found.facts["derived_files"] = found.facts.get("derived_files", 0) + part.facts.pop("derived_files", 0)
        found.facts |= part.facts
    found.facts |= {
        "trials": len(ev.trials), "requests": sum(len(t.file.run.records) for t in ev.trials), "evidence_root": ev.root,
        "root": _root(path), "prompts": prompts_facts(ev.frozen, same_version=same),
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


def _part(path: Path, ev: Evidence, tree: Tree, same: bool, names: tuple[str, ...]) -> Findings:
    """Does everything agree, and are the derived files of these verbs what the evidence gives?"""
    found = Findings()
    if "agreement" in names:
        found.remark(crosscheck(ev))
        found.step("sources", lambda: check_sources(path, ev, tree))
    verbs = [name for name in names if name in MAKERS]
    if verbs:
        found.step("decision", lambda: _rederive(path, ev, verbs if same else [], found.facts))
    if "report_render" in verbs and same:
        found.step(PDF, lambda: check_pdf(path, ev, found.warnings, found.facts))
    return found


def _line(e: BaseException, what: str) -> str:
    return f"{getattr(e, 'where', '') or what}: {getattr(e, 'message', '') or f'{type(e).__name__}: {e}'}"


def _rederive(path: Path, ev: Evidence, verbs: list[str], facts: dict[str, Any]) -> list[str]:
    """Those derived files of these verbs that are not what the evidence gives; how many there are goes into `facts`."""
    d = decide(ev)
    facts |= {"pick": d.pick, "tier": d.tier.value, "derived_files": 0}
    problems = []
    for rel, (verb, data) in sorted(derived(ev, d, verbs).items()):
        if not (path / rel).is_file():
            continue
        facts["derived_files"] += 1
        there = read_bytes(path / rel)
        if there != data and not same_to_nine_digits(rel, there, data):
            problems.append(f"{rel}: not what the records give (re-derive with: pao {verb} RUN)")
    return problems


def same_to_nine_digits(rel: str, one: bytes, two: bytes) -> bool:
    """Are these the same but for the last digits of numbers in their JSON? Another processor or mathematics library rounds
    those differently; whoever changed them further would have changed a result."""
    try:
        (values, rest), (others, remaining) = _json_in(rel, one), _json_in(rel, two)
        return rest == remaining and _close(values, others)
    except ValueError:
        return False


def _json_in(rel: str, data: bytes) -> tuple[list[Any], bytes]:
    """The JSON values of a file, and what stands around them: a page holds its numbers once more as data."""
    if rel.endswith(".jsonl"):
        return [strict_json(line) for line in data.splitlines()], b""
    if rel.endswith(".json"):
        return [strict_json(data)], b""
    inlined = _DATA.search(data)
    if inlined is None:
        return [], data
    return [strict_json(inlined.group(1))], data[: inlined.start(1)] + data[inlined.end(1) :]


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_close(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-15)
    return type(a) is type(b) and bool(a == b)


def _against(path: Path, journal: Reading, published: Roots, facts: dict[str, Any]) -> list[str]:
    matched = published.match(_root(path), evidence_root(journal.events))
    facts["against"] = {"root": published.root, "matched": matched}
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


def _made_by(path: Path) -> str:
    """The version that rendered the run's derived files; another one may print the same evidence differently."""
    return _of_manifest(path, "rendered_by")


def _root(path: Path) -> str:
    return _of_manifest(path, "root")


def _of_manifest(path: Path, key: str) -> str:
    if not os.path.lexists(path / MANIFEST):
        return ""
    found = read_json(path / MANIFEST)
    return str(found.get(key, "")) if isinstance(found, dict) else ""


ANCHORS = {
    "root": "the published root is this run's: every file is as it was then",
    "evidence_root": "the published root is that of this run's evidence, which is as it was then; its times in the journal and its\n"
    "  pages are not covered by that root",
    None: "a tampering that re-hashed everything can only be found against a root that was published: keep this one, and give it\n"
    "  as --against",
}


def text_of(path: Path, facts: dict[str, Any]) -> str:
    matched = facts["against"]["matched"] if "against" in facts else None
    if "kind" in facts:
        lines = import_module(OTHER_RUNS[facts["kind"]]).words(facts)
        ends = [f"root {facts['root']}", ANCHORS[matched]]
        return "\n".join([f"{path.name}: everything holds", *(f"  {line}" for line in (*lines, *ends))])
    return "\n".join([
        f"{path.name}: everything holds",
        f"  {facts['trials']} trials, {facts['requests']} requests re-read",
        *(f"  {line}" for line in prompts_words(facts["prompts"])),
        *([f"  {facts['imported']} results of other tools translated again: DRAFT material"] if facts["imported"] else []),
        f"  {facts['derived_files']} derived files come out byte for byte"
        if facts["derived_files"]
        else f"  derived files were made by version {facts['rendered_by']}, this is {__version__}: not compared, only their digests",
        f"  the records give {facts['tier']} {facts['pick']}",
        f"  root {facts['root']}",
        f"  {ANCHORS[matched]}",
    ])  # fmt: skip


OP = Op(
    "verify", "Re-derive every aggregate and the decision of a run from its records, offline.", Safety.READ_ONLY, VerifyRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_verify", acts=reads,
    examples=("pao verify my-campaign", "pao verify my-campaign --against root.txt"),
)  # fmt: skip
