"""Every rendered file of a run: a pure function of the evidence, so that two renders are the same bytes."""

from __future__ import annotations

import json
from typing import Any

from profile_and_optimize.analysis.atlas import rows as atlas_rows
from profile_and_optimize.analysis.decide import Decision, decision_json
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.evidence.manifest import PLACE
from profile_and_optimize.report import html, markdown, serving, text
from profile_and_optimize.report.status import report_status
from profile_and_optimize.report.view import view


def rendered(ev: Evidence, d: Decision) -> dict[str, bytes]:
    """Path in the run folder to bytes. Where a page shows the run's root, which covers that page, stands `PLACE`."""
    v, rows = view(ev, d), atlas_rows(ev, d)
    return {
        "report.html": html.page(v, {"decision": decision_json(ev, d), "atlas": rows}, PLACE),
        "report.txt": text.report(v, PLACE).encode(),
        "CHAMPION.md": markdown.champion(v).encode(),
        "HANDOFF.md": markdown.handoff(v).encode(),
        "summary.md": markdown.summary(v).encode(),
        "report_status.json": _json(report_status(ev, d, rows)),
        "serve.sh": serving.serve_script(ev, d).encode(),
        "serve.manifest.json": _json(serving.serve_manifest(ev, d)),
        "known_good_config.json": _json(serving.known_good(ev, d)),
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()
