"""pao explain: from a number of a report to everything behind it, computed anew from the records on the spot."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from profile_and_optimize import __version__
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.core.errors import Corrupted, GateRefused
from profile_and_optimize.core.names import digest
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import read_journal
from profile_and_optimize.evidence.manifest import MANIFEST, evidence_root, schema_of
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest
from profile_and_optimize.ops.verifying.rederived import is_ours, rendered_words
from profile_and_optimize.optimize.publish import derived
from profile_and_optimize.report.explain.agree import checks, differing, manifest_of
from profile_and_optimize.report.explain.catalogue import catalogue, find
from profile_and_optimize.report.explain.draw import listing, text
from profile_and_optimize.report.explain.number import Case, Number
from profile_and_optimize.report.explain.page import Explanation, explain, number_json, to_json
from profile_and_optimize.report.words import count, plain, verify_command


class ExplainRequest(CampaignRequest):
    """`number` is a name, the beginning of names, or a value as the report prints it; without it, all are listed."""

    number: str | None = Field(default=None, description="a number's name, the beginning of names, or a printed value")


def run(req: ExplainRequest, say: Say) -> Result:
    path = req.path()
    journal = read_journal(path / JOURNAL)
    ev = load_evidence(path, journal=journal)
    case = Case.of(ev, decide(ev))
    found = find(catalogue(case), req.number)
    if found.one is None:
        return _listed(case, found.several, found.why)
    broken = [f"{JOURNAL}: {journal.problem}"] if journal.problem else []
    return _explained(case, found.one, broken)


def _listed(case: Case, several: Sequence[Number], why: str) -> Result:
    """All of them, or those asked for; the fine ones are left out of the text of all, and of several with one value."""
    ev, name = case.ev, shlex.quote(plain(str(case.ev.run)))
    coarse = [n for n in several if not n.fine]
    shown = several if why.startswith("whose") else coarse or several
    head = f"{plain(ev.run.name)}: {count(len(several), 'number')} {why}".strip()
    hidden = len(several) - len(shown)
    foot = [f"pao explain {name} NAME takes one of them apart; pao explain {name} effect. lists those that begin so."]
    foot += [f"{hidden} finer ones are not shown: try pao explain {name} trials. or cells."] if hidden else []
    data = {"campaign": ev.run.name, "evidence_root": ev.root, "numbers": [number_json(n) for n in several]}
    return Result(data, listing(shown, head, foot), ev.damaged)


def _explained(case: Case, number: Number, broken: Sequence[str]) -> Result:
    manifest = manifest_of(read_bytes(case.ev.run / MANIFEST) if (case.ev.run / MANIFEST).is_file() else None)
    ev = case.ev if not manifest else replace(case.ev, root=evidence_root(case.ev.events, schema=schema_of(manifest)))
    given = {path: data for path, (_, data) in derived(ev, case.d, root=str(manifest.get("root", ""))).items()}
    disk = {path: read_bytes(ev.run / path) for path in given if (ev.run / path).is_file()}
    ours = not manifest or is_ours(manifest)
    found = explain(case, number, checks(number, given, disk, pages=ours))
    found = replace(found, problems=(*broken, *_root_problem(ev, manifest), *_altered(ev, found)))
    warnings = [*ev.damaged, *_elsewhere(ev, found, differing(given, disk), "" if ours else rendered_words(manifest))]
    refusal = None if found.agrees is not False else GateRefused(
        f"{number.name}: what is on disk is not what the records give", where=str(ev.run), next=verify_command(str(ev.run))
    )  # fmt: skip
    return Result(to_json(found), text(found), tuple(warnings), refusal)


def _root_problem(ev: Evidence, manifest: Mapping[str, object]) -> Iterator[str]:
    held = manifest.get("evidence_root", ev.root)
    if held != ev.root:
        yield f"{MANIFEST}: its evidence root is {str(held)[:64]}, the journal gives {ev.root}"


def _altered(ev: Evidence, e: Explanation) -> Iterator[str]:
    """Files that the number rests on and whose bytes are not those that the journal entered."""
    entered = {x.data["path"]: x.data["sha256"] for x in ev.events if x.kind == "wrote"}
    for path in dict.fromkeys((*(r.path for r in e.story.trials), *e.story.files)):
        if path in entered and _digest(ev.run / path) != entered[path]:
            yield f"{path}: not the bytes that were written (sha256 differs from the journal's)"


def _digest(path: Path) -> str | None:
    try:
        return digest(read_bytes(path))
    except Corrupted:
        return None


def _elsewhere(ev: Evidence, e: Explanation, differ: Sequence[str], made_by: str) -> Iterator[str]:
    if made_by:
        yield f"the derived files were made by {made_by}, this is {__version__}: their words are not compared"
        return
    elsewhere = [name for name in differ if name not in {c.file for c in e.checks if not c.agrees}]
    if elsewhere:
        yield f"in other places {', '.join(elsewhere)} differ from what the records give: {verify_command(str(ev.run))}"


OP = Op(
    "explain", "Take one number of a report apart: formula, values, trials, records, context, command.", Safety.READ_ONLY,
    ExplainRequest, run, positional=("campaign", "number"), mcp_name="perf_tune_report_explain", acts=reads,
    examples=("pao explain my-campaign", "pao explain my-campaign effect.", "pao explain my-campaign champion.effect"),
)  # fmt: skip
