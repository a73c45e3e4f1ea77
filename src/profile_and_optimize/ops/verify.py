"""pao verify: the chain, every aggregate and the decision, from records alone. No network, no engine, nothing executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from profile_and_optimize import __version__
from profile_and_optimize.analysis.crosscheck import crosscheck
from profile_and_optimize.analysis.decide import Decision, decide
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.clients.sse import parse_response
from profile_and_optimize.core.errors import Corrupted, GateRefused, WrongUse
from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.evidence.manifest import MANIFEST, check_manifest
from profile_and_optimize.evidence.redact import HIDDEN
from profile_and_optimize.evidence.trialfile import decode_raw, trial_path
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest
from profile_and_optimize.optimize.publish import derived

MOST_SHOWN = 40


class VerifyRequest(CampaignRequest):
    pass


def run(req: VerifyRequest, say: Say) -> Result:
    path = req.path()
    problems, facts = check(path)
    shown = problems[:MOST_SHOWN] + (
        [f"... and {len(problems) - MOST_SHOWN} more"] if len(problems) > MOST_SHOWN else []
    )
    data: dict[str, Any] = {"campaign": path.name, "problems": problems, **facts}
    if problems:
        refusal = GateRefused(
            f"{len(problems)} things do not hold", where=str(path), next="restore the files, or run the campaign again"
        )
        return Result(data, "\n".join(shown), refusal=refusal)
    return Result(data, text_of(path, facts))


BAD = (Corrupted, WrongUse, KeyError, TypeError, ValueError, AttributeError, OSError)


def check(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Every problem as a line, and what was checked. Damage of any kind is a line too, never a crash."""
    problems = _lines(lambda: check_manifest(path), "manifest.json")
    try:
        ev = load_evidence(path)
    except BAD as e:
        return [*problems, _line(e, "evidence")], {}
    problems += [f"damaged {d}" for d in ev.damaged]
    problems += _lines(lambda: crosscheck(ev), "cross-checks") + _lines(lambda: _raw_disagrees(ev), "kept bytes")
    facts: dict[str, Any] = {}
    problems += _lines(lambda: _rederive(path, ev, facts), "decision")
    return problems, facts


def _lines(look: Callable[[], list[str]], what: str) -> list[str]:
    """What a look finds; that it could not look is a finding as well."""
    try:
        return look()
    except BAD as e:
        return [_line(e, what)]


def _line(e: Exception, what: str) -> str:
    return f"{getattr(e, 'where', '') or what}: {getattr(e, 'message', '') or f'{type(e).__name__}: {e}'}"


def _rederive(path: Path, ev: Evidence, facts: dict[str, Any]) -> list[str]:
    d = decide(ev)
    made_by = _made_by(path)
    compared, differing = _derived_differs(ev, d) if made_by in ("", __version__) else (0, [])
    facts |= {
        "trials": len(ev.trials), "requests": sum(len(t.file.run.records) for t in ev.trials), "derived_files": compared,
        "pick": d.pick, "tier": d.tier.value, "evidence_root": ev.root, "root": _root(path), "rendered_by": made_by,
    }  # fmt: skip
    return differing


def _derived_differs(ev: Evidence, d: Decision) -> tuple[int, list[str]]:
    """How many derived files there are, and those whose bytes are not what the evidence gives."""
    problems, count = [], 0
    for rel, (verb, data) in sorted(derived(ev, d).items()):
        path = ev.run / rel
        if not path.is_file():
            continue
        count += 1
        if path.read_bytes() != data:
            problems.append(f"{rel}: not what the records give (re-derive with: pao {verb} RUN)")
    return count, problems


def _raw_disagrees(ev: Evidence) -> list[str]:
    """Kept response bytes are parsed again and must give the records that stand in the trial."""
    problems = []
    for t in ev.trials:
        path = ev.run / trial_path(t.key).replace(".json", ".raw.json")
        if not path.exists():
            continue
        records = {r.index: r for r in t.file.run.records}
        for kept in decode_raw(read_json(path)):
            old = records.get(kept.index)
            if old is None or not old.ok or any(HIDDEN.encode() in data for _, data in kept.reads):
                continue
            again = parse_response(
                index=old.index, intended_ns=old.intended_ns, sent_ns=old.sent_ns, done_ns=old.done_ns, reads=kept.reads
            ).record
            if again != old:
                problems.append(f"{trial_path(t.key)}: request {kept.index} is not what its kept bytes say")
    return problems


def _made_by(path: Path) -> str:
    """The version that rendered the run's derived files; another one may print the same evidence differently."""
    return str(read_json(path / MANIFEST).get("rendered_by", "")) if (path / MANIFEST).exists() else ""


def _root(path: Path) -> str:
    return str(read_json(path / MANIFEST).get("root", "")) if (path / MANIFEST).exists() else ""


def text_of(path: Path, facts: dict[str, Any]) -> str:
    return "\n".join([
        f"{path.name}: everything holds",
        f"  {facts['trials']} trials, {facts['requests']} requests re-read",
        f"  {facts['derived_files']} derived files come out byte for byte"
        if facts["derived_files"]
        else f"  derived files were made by version {facts['rendered_by']}, this is {__version__}: not compared, only their digests",
        f"  the records give {facts['tier']} {facts['pick']}",
        f"  root {facts['root']}",
        "  a tampering that re-hashed everything can only be found against a root that was published or signed: keep this one",
    ])  # fmt: skip


OP = Op(
    "verify", "Re-derive every aggregate and the decision of a run from its records, offline.", Safety.READ_ONLY, VerifyRequest, run,
    positional=("campaign",), mcp_name="perf_tune_report_verify", examples=("pao verify my-campaign",),
)  # fmt: skip
