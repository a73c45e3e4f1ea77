"""What verify does with a run of serve_matrix: its table once more, from the answers, logs' words and records it kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profile_and_optimize.analysis.matrix import lines_of
from profile_and_optimize.campaign.loading import load_trials
from profile_and_optimize.evidence.folder import JOURNAL
from profile_and_optimize.evidence.journal import read_journal
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.evidence.trialfile import is_trial_path
from profile_and_optimize.ops.verifying.meaning import same_to_nine_digits
from profile_and_optimize.optimize.matrix import result_of

RESULT, TABLE = "serve_matrix.json", "serve_matrix.txt"
DERIVED = {RESULT: "serve_matrix", TABLE: "serve_matrix"}


def derived(run: Path) -> tuple[dict[str, Any], list[str]]:
    """serve_matrix.json as the records give it, and what could not be read."""
    events = read_journal(run / JOURNAL).events
    paths = sorted({e.data["path"] for e in events if e.kind == "wrote" and is_trial_path(e.data["path"])})
    loaded = load_trials(run, paths)
    result = result_of(run, events, [x.trial for x in loaded if x.trial])
    return result, [f"{x.path}: {x.damage}" for x in loaded if x.damage]


def encoded(result: dict[str, Any]) -> bytes:
    return (json.dumps(result, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def table_of(result: dict[str, Any]) -> bytes:
    """serve_matrix.txt: the same for people."""
    return ("\n".join(lines_of(result)) + "\n").encode()


def look(run: Path) -> tuple[list[str], dict[str, Any]]:
    """(problems, facts) for `pao verify`."""
    result, problems = derived(run)
    there = read_bytes(run / RESULT)
    if there != encoded(result) and not same_to_nine_digits(RESULT, there, encoded(result)):
        problems.append(f"{RESULT}: not what the records give (run pao serve_matrix again)")
    if read_bytes(run / TABLE) != table_of(result):
        problems.append(f"{TABLE}: not what the records give (run pao serve_matrix again)")
    rows = result["rows"]
    requests = sum(p["requests"]["asked"] for r in rows for p in r["sweep"])
    return problems, {
        "backends": {r["cell"]: r["status"] for r in rows}, "trials": sum(len(r["sweep"]) for r in rows), "requests": requests,
    }  # fmt: skip


def words(facts: dict[str, Any]) -> list[str]:
    states = ", ".join(f"{cell} {status}" for cell, status in facts["backends"].items())
    return [f"{facts['trials']} trials, {facts['requests']} requests re-read", f"backends: {states}"]
