"""Other tools' figures on the page: apart, marked, and never in what is compared."""

from __future__ import annotations

import dataclasses
import re

from report_help import HOSTILE, render

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.imported import Ask, Asked, Attempt, ImportedCell, Seen
from profile_and_optimize.core.context import context
from profile_and_optimize.importers.base import Imported, LoadKind, Stat
from profile_and_optimize.importers.vllm_sweep import Combination, Lost, SweepRun
from profile_and_optimize.report.html import page
from profile_and_optimize.report.view import EngineView, view


def imported(words: str = "") -> ImportedCell:
    """The pick's cell by a tool that says ten times the speed of ours, and one load that never came."""
    points = tuple(Asked(f"short-chat.c{n}", "short-chat", "w", 32, 16, n, 16) for n in (4, 8))
    ask = Ask(
        "fast", "vllm-sweep", 1, "fake", "candidate", "vllm bench", "0.32.0", "", "m", points,
        context=context({"url": "http://10.0.0.1:8000"}, {}).to_json(),
    )  # fmt: skip
    result = Imported(
        "vllm", None, "x", load=LoadKind.CLOSED, concurrency=4, asked=7, completed=7, failed=0, output_throughput=9876.0,
        metrics={"tpot": Stat(p50=0.0005)}, facts={"note": words},
    )  # fmt: skip
    run = SweepRun(Combination("", "short-chat.c4"), "BENCH--short-chat.c4/run=0.json", 0, result)
    lost = (Lost(Combination("", "short-chat.c8"), "x", words),) if words else ()
    return ImportedCell("fast", "vllm-sweep", (Attempt(ask, Seen(1.0, 2.0, words or "the server died"), (run,), lost),))


def with_tool(ev: Evidence, words: str = "") -> Evidence:
    return dataclasses.replace(ev, imported=(imported(words),))


def test_they_have_a_section_of_their_own_that_says_what_they_are(evidence: Evidence) -> None:
    page = render(with_tool(evidence))["report.html"]
    section = page.split("<h2>Other tools on these cells</h2>")[1].split("</section>")[0]
    assert "DRAFT material" in section and "9876" in section and "on http://10.0.0.1:8000" in section
    assert "steady_window_undercount" in section and "the server died" in section
    assert (
        re.search(r"s-failed.{0,40}failed", section)
        and 'href="cells/fast/raw/vllm-sweep/r1/BENCH--short-chat.c4/run%3D0.json"' in section
    )
    assert section.count('class="none">unknown') == 4 + 6  # all but TPOT and output of the one, all six of the other
    assert "Other tools" not in render(evidence)["report.html"]


def test_nothing_that_is_decided_or_compared_changes_by_them(evidence: Evidence) -> None:
    bare, beside = render(evidence), render(with_tool(evidence))
    assert decide(with_tool(evidence)) == decide(evidence)
    for name in ("CHAMPION.md", "known_good_config.json", "serve.sh"):
        assert beside[name] == bare[name], name
    first, second = (
        p["report.html"].split("<h2>Block by block</h2>")[0].split("<h2>Other tools")[0] for p in (bare, beside)
    )
    assert first.split() == second.split()


def test_the_text_names_them_apart_too(evidence: Evidence) -> None:
    text = render(with_tool(evidence))["report.txt"]
    part = text.split("Other tools on these cells (DRAFT material, in no comparison)")[1].split("\n\n")[0]
    words = " ".join(part.split())
    assert "fast by vllm bench 0.32.0, short-chat at concurrency 4: full; TTFT unknown, TPOT 0.5" in words
    assert "short-chat at concurrency 8: failed" in words and max(map(len, text.splitlines())) <= 100


def test_the_best_of_each_engine_has_a_table_where_there_are_several(evidence: Evidence) -> None:
    d = decide(evidence)
    engines = (
        EngineView("vllm", "0.32.0", "release", (("base", "the reference"), ("fast", "+5.0% (+4.0% to +6.0%)"))),
        EngineView("sglang", "0.5.23", "overlay <b>", (("sg", "-7.0% (-9.0% to -5.0%)"),)),
    )
    html = page(dataclasses.replace(view(evidence, d), engines=engines), {}).decode()
    section = html.split("<h2>The best of each engine</h2>")[1].split("</section>")[0]
    assert section.count("<tr>") == 1 + 3 and 'rowspan="2">vllm' in section
    assert "overlay &lt;b&gt;" in section and "\u22127.0%" in section
    assert "The best of each engine" not in render(evidence)["report.html"]


def test_what_a_tool_says_stays_text(evidence: Evidence) -> None:
    page = render(with_tool(evidence, HOSTILE))["report.html"]
    assert "<img" not in page and "<script>alert" not in page
