"""The page in a real browser: its script runs under its own content policy, and hostile texts do nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from report_help import hostile, render

from profile_and_optimize.campaign.evidence_of import Evidence

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_script_runs_and_nothing_else_does(evidence: Evidence, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(hostile(evidence))["report.html"].replace("alert(1)", "document.title='pwned'"))
    argv = [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    assert '<div class="tools" id="tools">' in dom, "our script shows the filter"
    assert "<title>pwned" not in dom and "<img" not in dom
