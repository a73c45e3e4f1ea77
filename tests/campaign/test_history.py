"""What earlier A/A arms say about a node: read once when a campaign begins, bounded, and blind to damaged neighbours."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign import history
from profile_and_optimize.campaign.endpoint import primary_of
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.history import (
    History,
    PastRun,
    history_words,
    look_back,
    read_history,
    session_sd,
    write_history,
)
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.testing.synthetic import synthetic_plan, synthetic_run

NEW = "20261121T100000Z-next"


@pytest.fixture
def space(closed_run: Path, tmp_path: Path) -> Path:
    """A workspace with one finished run of the fake engine on fake-node."""
    shutil.copytree(closed_run, tmp_path / closed_run.name)
    return tmp_path


def begun(space: Path) -> History:
    found = read_history(synthetic_run(space / NEW, synthetic_plan(blocks=3)))
    assert found is not None
    return found


def test_the_first_campaign_of_a_workspace_has_no_history_and_says_so(closed_run: Path) -> None:
    found = read_history(closed_run)
    assert found is not None and found.runs == () and session_sd(found) is None
    assert history_words(found) == "no earlier A/A arm of fake on node fake-node in this workspace"


def test_the_next_one_knows_the_earlier_arm_with_its_interval_and_sd(space: Path, closed_run: Path) -> None:
    found = begun(space)
    (past,) = found.runs
    ev = load_evidence(closed_run)
    aa, blocks = decide(ev).aa, decide(ev).selection.blocks
    assert (past.run_id, past.evidence_root, past.blocks) == (closed_run.name, ev.root, len(blocks))
    assert aa is not None and past.estimate == pytest.approx(math.expm1(aa.estimate or 0.0))
    apart = [
        (primary_of(ev.plan, b["aa"]) or 0.0) - (primary_of(ev.plan, b["baseline"]) or 0.0) for b in blocks.values()
    ]
    assert session_sd(found) == past.session_sd == pytest.approx(stdev(apart) / math.sqrt(2))
    assert history_words(found).startswith(
        "1 earlier A/A arm of fake on node fake-node: the baseline differed from itself by "
    )


def test_what_is_written_once_stays_although_others_end_meanwhile(space: Path, closed_run: Path) -> None:
    """A campaign killed during its admission and resumed later keeps the history that it began with."""
    folder = RunFolder(space / NEW)
    write_history(folder, synthetic_plan(), "fake-node")
    shutil.copytree(closed_run, space / "20261121T093000Z-synthetic")
    write_history(folder, synthetic_plan(), "fake-node")
    folder.close()
    found = read_history(space / NEW)
    assert found is not None and [r.run_id for r in found.runs] == [closed_run.name]


@pytest.mark.parametrize("change", [{"node": "other"}, {"node": "unknown"}])
def test_another_node_does_not_count(space: Path, change: dict[str, str]) -> None:
    assert look_back(space / NEW, synthetic_plan(), change["node"]).runs == ()


def test_another_engine_and_another_endpoint_do_not_count(space: Path) -> None:
    assert look_back(space / NEW, synthetic_plan(), "fake-node").runs
    assert look_back(space / NEW, synthetic_plan(focus="latency"), "fake-node").runs == ()
    arms = tuple(replace(a, engine="vllm") for a in synthetic_plan().arms)
    assert look_back(space / NEW, replace(synthetic_plan(), arms=arms), "fake-node").runs == ()


@pytest.mark.parametrize("spoil", ["champion_select.json", "atlas.jsonl", "cells/aa/normalized.json", "manifest.json"])
def test_a_damaged_neighbour_is_skipped_and_counted(space: Path, closed_run: Path, spoil: str) -> None:
    path = space / closed_run.name / spoil
    path.write_bytes(path.read_bytes()[:-20])
    found = begun(space)
    assert (found.runs, found.damaged) == ((), 1) and "1 damaged" in history_words(found)


def test_an_edited_number_of_a_neighbour_is_damage(space: Path, closed_run: Path) -> None:
    path = space / closed_run.name / "champion_select.json"
    data = json.loads(path.read_text())
    next(a for a in data["arms"] if a["role"] == "aa")["effect"]["estimate"] = 0.0
    path.write_text(json.dumps(data))
    assert begun(space).damaged == 1


def test_unfinished_runs_and_other_folders_are_passed_over(space: Path) -> None:
    (space / "20261121T080000Z-begun").mkdir()
    (space / "notes").mkdir()
    assert begun(space).damaged == 0


def test_only_the_newest_are_read(space: Path, closed_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_RUNS", 2)
    for hour in (5, 6, 7):
        shutil.copytree(closed_run, space / f"20261121T0{hour}0000Z-synthetic")
    found = look_back(space / NEW, synthetic_plan(), "fake-node")
    assert [r.run_id[9:11] for r in found.runs] == ["09", "07"]


def test_the_words_count_intervals_that_exclude_zero_and_take_the_median_sd() -> None:
    def past(i: int, low: float, sd: float | None) -> PastRun:
        return PastRun(f"r{i}", "root", "1", low + 0.002, low, low + 0.004, 5, sd)

    runs = (past(1, -0.001, 0.01), past(2, 0.001, 0.03), past(3, -0.003, 0.005), past(4, -0.002, None))
    found = History("n", "vllm", ("output_throughput",), runs)
    assert session_sd(found) == 0.01
    assert history_words(found) == (
        "4 earlier A/A arms of vllm on node n: the baseline differed from itself by -0.10% to +0.30%, "
        "1 of the intervals excluded 0; one session has a standard deviation of 1.00%"
    )
