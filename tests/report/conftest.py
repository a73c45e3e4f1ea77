"""One synthetic campaign for all report tests; the cases that are rarer are made from it by replacing what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_help import render

from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

RUN_ID = "20260921T141320Z-synthetic"


@pytest.fixture(scope="session")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return load_evidence(synthetic_run(tmp_path_factory.mktemp("report") / RUN_ID))


@pytest.fixture(scope="session")
def one_block(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    path = tmp_path_factory.mktemp("one") / "20260921T141320Z-one"
    return load_evidence(synthetic_run(path, synthetic_plan(blocks=1)))


@pytest.fixture(scope="session")
def files(evidence: Evidence) -> dict[str, str]:
    return render(evidence)


@pytest.fixture(scope="session")
def golden() -> Path:
    return Path(__file__).parents[1] / "golden" / "report.txt"
