"""The rendered files as a whole: the same bytes twice, nothing hidden, nothing claimed that is not known."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_help import hostile, render

from profile_and_optimize.analysis.atlas import rows
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.report.render import rendered
from profile_and_optimize.testing.fakes import FakeClient, FakeEngine
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

ALL = {
    "report.html", "report.txt", "CHAMPION.md", "HANDOFF.md", "summary.md", "report_status.json", "serve.sh", "serve.manifest.json",
    "known_good_config.json",
}  # fmt: skip


def test_two_renders_are_the_same_bytes(evidence: Evidence) -> None:
    again = load_evidence(evidence.run)
    assert rendered(evidence, decide(evidence)) == rendered(again, decide(again))
    assert set(rendered(evidence, decide(evidence))) == ALL


def test_events_that_carry_no_evidence_change_no_byte(evidence: Evidence, files: dict[str, str]) -> None:
    more = dataclasses.replace(evidence.events[-1], kind="settled", data={"arm": "fast", "block": 9})
    assert render(dataclasses.replace(evidence, events=(*evidence.events, more))) == files


def test_the_stamp_is_utc_and_the_evidence_s(files: dict[str, str]) -> None:
    assert "2026-09-21 14:13:20 UTC" in files["report.html"]
    assert "2026-09-21 14:13:20 UTC" in files["report.txt"]


class Elements(HTMLParser):
    """Every element with its attributes, and the content policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.found if t == tag]


def test_hostile_texts_stay_text(evidence: Evidence, files: dict[str, str]) -> None:
    evil = render(hostile(evidence))
    page, tame = Elements(evil["report.html"]), Elements(files["report.html"])
    assert len(page.named("script")) == len(tame.named("script")) == 2
    assert not page.named("img")
    assert not [a for _, attrs in page.found for a in attrs if a.startswith("on")]
    for name in ("report.txt", "CHAMPION.md", "HANDOFF.md", "summary.md", "serve.sh"):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]", evil[name]), name
    for name in ("CHAMPION.md", "HANDOFF.md", "summary.md"):
        assert "<img" not in evil[name] and "<script" not in evil[name], name


def test_inlined_data_can_be_read_back(evidence: Evidence) -> None:
    ev = hostile(evidence)
    text = render(ev)["report.html"]
    inlined = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert inlined and not set("<>&\u2028\u2029") & set(inlined[1])
    assert json.loads(inlined[1])["atlas"] == json.loads(json.dumps(rows(ev, decide(ev))))


def test_the_page_asks_for_nothing(files: dict[str, str]) -> None:
    page = Elements(files["report.html"])
    policy = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1 and policy[0] is not None and policy[0].startswith("default-src 'none'; ")
    fetched = [
        v
        for _, attrs in page.found
        for k, v in attrs.items()
        if k in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert fetched and not [v for v in fetched if v and (":" in v or v.startswith("//"))]
    assert not re.search(r"url\(|@import", files["report.html"])
    assert not page.named("link")


def test_every_link_leads_somewhere(files: dict[str, str], evidence: Evidence) -> None:
    page = Elements(files["report.html"])
    ids = {a["id"] for _, a in page.found if a.get("id")}
    for link in page.named("a"):
        target = link["href"] or ""
        assert target[1:] in ids if target.startswith("#") else target in ALL or (evidence.run / target).is_file(), (
            target
        )


def test_a_failed_arm_is_visible_everywhere(files: dict[str, str]) -> None:
    reason = "ValueError: --explode is not supported on this device"
    for name in ("report.html", "report.txt", "CHAMPION.md", "HANDOFF.md"):
        assert "broken" in files[name] and reason in files[name], name
    plot = files["report.html"].split('<svg class="forest"')[1].split("</svg>")[0]
    assert 'data-arm="broken"' in plot and reason in plot


def test_the_failed_start_s_log_is_named_when_one_was_kept(evidence: Evidence) -> None:
    log = "cells/broken/raw/log-admission.txt"
    wrote = dataclasses.replace(evidence.events[-1], kind="wrote", data={"path": log})
    files = render(dataclasses.replace(evidence, events=(*evidence.events, wrote)))
    assert f'href="{log}"' in files["report.html"]
    assert log in files["report.txt"] and log in files["HANDOFF.md"].replace("\\_", "_")


class NoUsage(FakeClient):
    """A server that reports no usage: TPOT and output tokens cannot be known."""

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        found = super().run(load, workdir=workdir)
        bare = tuple(dataclasses.replace(r, completion_tokens=None, prompt_tokens=None) for r in found.records)
        return dataclasses.replace(found, records=bare)


def test_unknown_is_never_printed_as_zero(tmp_path: Path) -> None:
    run = tmp_path / "20260921T141320Z-bare"
    with pytest.raises(BrokeMidway):  # without usage the primary endpoint is unknown, so no block can ever be whole
        synthetic_run(run, synthetic_plan(blocks=2), client=NoUsage())
    files = render(load_evidence(run))
    table = files["report.html"].split("<h2>Workloads</h2>")[1].split("<h2>Block by block</h2>")[0]
    cells = re.findall(r'<td class="num" title="([^"]*)">(.*?)</td>', table, re.S)
    for title, cell in cells:
        if title.startswith(("tpot ", "output_throughput ")):
            assert "unknown" in cell and not re.search(r"\d\.\d", cell), title
            assert "Unknown: " in title
    assert not re.search(r">\s*[+−-]?0(\.0+)?%?\s*<", table)
    assert 'plot_ready_points": 0' in files["report_status.json"]


def test_one_block_has_values_and_no_interval(one_block: Evidence) -> None:
    files = render(one_block)
    assert files["report.txt"].startswith("The baseline stands  [DRAFT]")
    assert "no interval (n=1)" in files["report.html"]
    assert re.search(r"aa +UNKNOWN +unknown +1", files["report.txt"])
    assert "| 1 | fast |" in files["HANDOFF.md"]


def test_no_whole_block(one_block: Evidence) -> None:
    files = render(dataclasses.replace(one_block, trials=(), commands={}, events=()))
    assert files["report.txt"].startswith("No answer yet  [DRAFT]")
    status = json.loads(files["report_status.json"])
    assert status["status"] == "incomplete"
    assert status["missing"] == ["blocks of baseline, aa, fast, slow: 0 of at most 1 are whole, and arms are open"]
    assert json.loads(files["known_good_config.json"])["hardware"] == "unknown"


def test_a_veto_is_said_first(tmp_path: Path) -> None:
    engine = FakeEngine({"baseline": 10.0, "aa": 10.6, "fast": 9.0, "slow": 10.0}, {"broken": "no"})
    files = render(load_evidence(synthetic_run(tmp_path / "20260921T141320Z-veto", engine=engine)))
    head = " ".join(files["report.txt"].splitlines()[:4])
    assert "The baseline stands" in head and "differed from itself" in head
    assert re.search(r"aa +VETO", files["report.txt"])


def test_all_candidates_failed(evidence: Evidence) -> None:
    files = render(dataclasses.replace(evidence, failed_arms={"broken": "x", "fast": "OOM", "slow": "HTTP 500"}))
    assert "fast failed, slow failed, broken failed" in " ".join(files["report.txt"].split())
    assert not re.search(r"(fast|slow) +FAILED +[+-]\d", files["report.txt"])


def test_accuracy_has_n_and_interval(evidence: Evidence) -> None:
    """19 of 20 right: Clopper-Pearson gives 75.1% to 99.9%; the same answers on both sides lose and win nothing."""
    answers = [{"task": "", "question": str(i), "expected": "4", "said": "4" if i else "5"} for i in range(20)]
    asked = {"questions_sha256": "q", "questions": 20, "answers": answers}
    files = render(dataclasses.replace(evidence, accuracy={"baseline": asked, "fast": dict(asked)}))
    assert "fast: 19 of 20 right, 95.0% (75.1% to 99.9%)" in files["report.txt"]
    assert "fast: 19 of 20 right, 95.0% (75.1% to 99.9%), net loss +0.00" in files["report.txt"]
    assert "baseline: 19 of 20 right" in files["report.txt"]
    assert 'href="cells/fast/raw/accuracy.json"' in files["report.html"]


def test_status_counts_cells_and_points(files: dict[str, str]) -> None:
    status = json.loads(files["report_status.json"])
    # 4 arms served 2 workloads; the fifth failed.
    assert status["coverage"] == (
        "Coverage: 5 atlas cells | 4 full sweeps | 0 partial sweeps | 1 failed cells | 8 plot-ready concurrency points"
    )
    assert (status["status"], status["verdict_tier"], status["sol_rigor"]) == ("complete", "DRAFT", "none")
    assert status["dcgm_grounded"] is False and status["missing"] == []


def test_text_fits_a_terminal(evidence: Evidence, files: dict[str, str], one_block: Evidence) -> None:
    for text in (files["report.txt"], render(hostile(evidence))["report.txt"], render(one_block)["report.txt"]):
        assert max(map(len, text.splitlines())) <= 100


def test_text_is_the_golden_one(files: dict[str, str], golden: Path) -> None:
    """PAO_WRITE_GOLDEN=1 pytest tests/report writes it anew; read the difference before committing it."""
    if os.environ.get("PAO_WRITE_GOLDEN"):
        golden.write_text(files["report.txt"])
    assert files["report.txt"] == golden.read_text()


@pytest.mark.parametrize("name", ["report.html", "report.txt", "CHAMPION.md"])
def test_the_effect_is_the_decision_s_own(files: dict[str, str], evidence: Evidence, name: str) -> None:
    e = decide(evidence).effects["fast"]
    assert e.estimate is not None
    assert f"{100 * (math.exp(e.estimate) - 1):+.1f}%" in files[name]
