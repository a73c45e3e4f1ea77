"""Rows of other tools: what is full, what is flagged, and what stays unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.analysis.imported import (
    UNDERCOUNT,
    cell_rows,
    document,
    flags_of,
    incomplete,
    reason,
    run_status,
    status,
)
from profile_and_optimize.campaign.imported import CUT_SHORT, Ask, Asked, Attempt, ImportedCell, Seen, without_tokens
from profile_and_optimize.core.context import context
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.importers.base import Imported, LoadKind, Stat
from profile_and_optimize.importers.vllm_sweep import Combination, SweepRun

GOOD = Imported(
    "vllm",
    None,
    "x",
    load=LoadKind.CLOSED,
    concurrency=4,
    asked=16,
    completed=16,
    failed=0,
    metrics={"ttft": Stat(p50=0.05)},
)
ENDED = Seen(1.0, 2.0, "")


def ask(**changes: object) -> Ask:
    points = tuple(Asked(f"w.c{n}", "w", "w random", 8, 8, n, 16) for n in (1, 4))
    asked = {"flags": "--x", "node": ""}
    values = {
        "cell": "a", "backend": "vllm-sweep", "attempt": 1, "engine": "vllm", "role": "candidate", "tool": "vllm bench",
        "tool_version": "0.32.0", "url": "", "model": "m", "points": points, "context": context(asked, {}).to_json(),
    }  # fmt: skip
    return Ask(**{**values, **changes})  # type: ignore[arg-type]


def ran(key: str, result: Imported = GOOD) -> SweepRun:
    return SweepRun(Combination("a", key), f"SERVE--a-BENCH--{key}/run=0.json", 0, result)


def cell(*runs: SweepRun, seen: Seen = ENDED, **changes: object) -> ImportedCell:
    return ImportedCell("a", "vllm-sweep", (Attempt(ask(**changes), seen, runs, ()),))


def test_a_cell_is_full_only_when_every_load_completed_every_request() -> None:
    one = replace(GOOD, concurrency=1)
    assert status(cell(ran("w.c1", one), ran("w.c4"))) == "full"
    assert status(cell(ran("w.c4"))) == "partial"
    assert status(cell(ran("w.c1", one), ran("w.c4", replace(GOOD, completed=15, failed=1)))) == "partial"
    assert status(cell()) == "failed"
    assert status(cell(ran("w.c1", replace(one, completed=0)), ran("w.c4", replace(GOOD, completed=0)))) == "failed"


@pytest.mark.parametrize(("changes", "said"), [
    ({}, "full"), ({"completed": 15}, "partial"), ({"failed": 1}, "partial"), ({"completed": 0}, "failed"),
    ({"completed": None}, "partial"), ({"asked": None}, "partial"), ({"failed": None}, "full"),
])  # fmt: skip
def test_a_run_is_judged_by_what_it_says_of_itself(changes: dict, said: str) -> None:
    assert run_status(replace(GOOD, **changes)) == said


@pytest.mark.parametrize(
    ("asked", "slots", "flagged"), [(7, 4, True), (8, 4, False), (None, 4, False), (7, None, False)]
)
def test_fewer_than_two_requests_a_slot_carry_the_word(asked: int | None, slots: int | None, flagged: bool) -> None:
    assert flags_of(replace(GOOD, asked=asked, concurrency=slots)) == ([UNDERCOUNT] if flagged else [])


def test_what_the_tool_does_not_say_is_unknown_and_never_zero() -> None:
    (row,) = cell_rows(cell(ran("w.c4", replace(GOOD, output_throughput=0.0)), points=ask().points[1:]), "run")
    assert row["metrics"]["ttft_ms"]["p50"] == {"estimate": 50.0, "lower": None, "upper": None, "n": 1}
    assert row["metrics"]["tpot_ms"] == {"p50": None, "p90": None, "p99": None, "mean": None, "n": None}
    assert row["metrics"]["output_throughput_tok_s"] is None and row["mean_output_tokens"] is None
    assert "node" in row["unknown"] and "hardware" in row["unknown"] and "flags" not in row["unknown"]
    assert row["blocks"] == [] and "verdict" not in row and row["source"] == "imported"


def test_a_load_that_never_came_has_a_row_with_the_reason_and_no_number() -> None:
    lost = cell(ran("w.c4"), seen=CUT_SHORT)
    rows = cell_rows(lost, "run")
    assert [(r["concurrency"], r["status"]) for r in rows] == [(4, "full"), (1, "failed")]
    assert "cut short" in rows[1]["reason"] and rows[1]["sources"] == []
    assert all(v is None or v.get("p50") is None for v in rows[1]["metrics"].values())
    assert reason(lost).startswith("not complete: w.c1 (cut short")


def test_another_concurrency_than_the_asked_one_is_said() -> None:
    (row, _) = cell_rows(cell(ran("w.c1")), "run")
    assert "asked at concurrency 1, the file reports 4" in row["reason"]


def test_levels_that_a_tool_chose_are_complete_when_it_came_to_its_end() -> None:
    point = (Asked("w", "w", "w random", 8, 8, None, 16),)
    runs = (ran("w", replace(GOOD, concurrency=1)), ran("w", replace(GOOD, concurrency=16)))
    half = cell(*runs, points=point, levels=3)
    assert [p.key for p in incomplete(half)] == ["w"] and status(half) == "partial"
    whole = cell(*runs, points=point, levels=3, seen=replace(ENDED, explored=True))
    assert status(whole) == "full" and [r["concurrency"] for r in cell_rows(whole, "run")] == [1, 16]
    assert [r["flags"] for r in cell_rows(whole, "run")] == [[], [UNDERCOUNT]]


def test_two_attempts_are_two_rows_and_no_mean() -> None:
    first = Attempt(ask(), ENDED, (ran("w.c1"), ran("w.c4", replace(GOOD, completed=3))), ())
    second = Attempt(ask(attempt=2), ENDED, (ran("w.c4"),), ())
    found = document(ImportedCell("a", "vllm-sweep", (first, second)), "run")
    assert [(r["attempt"], r["status"]) for r in found["rows"]] == [(1, "full"), (1, "partial"), (2, "full")]
    assert (found["status"], found["missing"], found["tier"]) == ("full", [], "DRAFT")


def test_tokens_that_only_a_stand_in_counted_are_not_believed() -> None:
    counted = replace(
        GOOD, metrics={"ttft": Stat(p50=0.05), "tpot": Stat(p50=0.01)}, output_throughput=9.0, output_tokens=5
    )
    bare = without_tokens(counted)
    assert "tpot" not in bare.metrics and bare.output_throughput is None and bare.stat("ttft").p50 == 0.05
    row = cell_rows(cell(ran("w.c4", bare), by_usage=True, points=ask().points[1:]), "run")[0]
    assert "the server counted no tokens" in row["reason"]


@pytest.mark.parametrize("changes", [
    {"backend": "../x"}, {"backend": "vllm"}, {"attempt": 0}, {"levels": -1}, {"cell": "../a"}, {"role": "king"},
    {"tool": 5}, {"url": None}, {"points": ask().points * 2}, {"context": {"nosuch": {"asked": "", "observed": ""}}},
])  # fmt: skip
def test_an_ask_that_cannot_be_is_refused_at_birth(changes: dict) -> None:
    with pytest.raises((ValueError, WrongUse)):
        ask(**changes)


@pytest.mark.parametrize(
    "changes", [{"concurrency": "4"}, {"requests": 0}, {"isl": 1.5}, {"osl": True}, {"words": None}]
)
def test_a_load_that_cannot_be_is_refused_at_birth(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"whole numbers|text"):
        replace(ask().points[0], **changes)
