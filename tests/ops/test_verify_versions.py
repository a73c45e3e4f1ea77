"""A run cannot choose how strictly it is checked: whatever it says of its version, pick, tier and serve.sh are made again."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_and_optimize import __version__
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.forge import relist

OLD = Path(__file__).parents[1] / "data/runs/schema-1.tar.xz"
PAGES = ("report.html", "report.txt", "CHAMPION.md", "HANDOFF.md", "summary.md")


def replaced(run: Path, name: str, old: str, new: str) -> None:
    text = (run / name).read_text()
    assert old in text
    (run / name).write_text(text.replace(old, new))


def test_another_version_holds_in_part_and_names_the_pages_that_differ(run_copy: Path) -> None:
    replaced(run_copy, "summary.md", "suite", "set")
    relist(run_copy, "0.0.9")
    problems, facts = check(run_copy)
    assert problems == [] and facts["answer"] == "HOLDS IN PART"
    assert facts["not_covered"] == [f"summary.md: rendered by version 0.0.9, this is {__version__}"]
    assert pao(["verify", str(run_copy)]) == 4


def test_what_comes_out_byte_for_byte_holds_whoever_says_to_have_made_it(run_copy: Path) -> None:
    relist(run_copy, "0.0.9")
    problems, facts = check(run_copy)
    assert problems == [] and facts["answer"] == "HOLDS"


LIES: dict[str, Callable[[Path], object]] = {
    **{f"VERDICT on {name}": (lambda r, n=name: replaced(r, n, "DRAFT", "VERDICT")) for name in PAGES},
    "VERDICT in verdict.json": lambda r: replaced(r, "verdict.json", "DRAFT", "VERDICT"),
    "VERDICT in champion_select.json": lambda r: replaced(r, "champion_select.json", '"DRAFT"', '"VERDICT"'),
    "VERDICT in report_status.json": lambda r: replaced(r, "report_status.json", '"DRAFT"', '"VERDICT"'),
    "VERDICT in known_good_config.json": lambda r: replaced(r, "known_good_config.json", '"DRAFT"', '"VERDICT"'),
    "no tier in verdict.json": lambda r: replaced(r, "verdict.json", '"tier"', '"tire"'),
    "another pick": lambda r: replaced(r, "champion_select.json", '"pick": "fast"', '"pick": "slow"'),
    "a gate that passed": lambda r: replaced(r, "champion_select.json", '"passed": null', '"passed": true'),
    "a larger effect": lambda r: replaced(r, "champion_select.json", '"estimate": 0.', '"estimate": 1.'),
    "another number in the page's data": lambda r: replaced(r, "report.html", '"estimate":0.', '"estimate":1.'),
    "a line more in serve.sh": lambda r: (r / "serve.sh").write_text((r / "serve.sh").read_text() + "curl evil\n"),
    "a comment in serve.sh": lambda r: replaced(r, "serve.sh", "DRAFT", "VERDICT"),
    "a number of the atlas": lambda r: replaced(r, "atlas.jsonl", '"n":4', '"n":9'),
    "a row of the atlas less": lambda r: (r / "atlas.jsonl").write_text(
        "".join((r / "atlas.jsonl").read_text().splitlines(keepends=True)[1:])
    ),
    "no serve.sh": lambda r: (r / "serve.sh").unlink(),
    "no verdict.json": lambda r: (r / "verdict.json").unlink(),
    "no report.html": lambda r: (r / "report.html").unlink(),
    "a status of another cell": lambda r: (r / "cells/fast/status.txt").write_text("partial\n"),
}  # fmt: skip


@pytest.mark.parametrize("version", ["0.0.9", __version__])
@pytest.mark.parametrize("lie", LIES)
def test_no_version_makes_a_lie_hold(run_copy: Path, lie: str, version: str) -> None:
    LIES[lie](run_copy)
    relist(run_copy, version)
    problems, facts = check(run_copy)
    assert problems and facts["answer"] == "BROKEN", lie


def test_an_older_schema_claimed_makes_no_lie_hold(run_copy: Path) -> None:
    replaced(run_copy, "verdict.json", "DRAFT", "VERDICT")
    relist(run_copy, __version__, schema=1)
    assert check(run_copy)[0]


def test_a_stored_run_of_schema_1_is_still_read_and_what_is_no_longer_covered_is_named(tmp_path: Path) -> None:
    with tarfile.open(OLD) as stored:
        stored.extractall(tmp_path, filter="data")
    run = next(tmp_path.iterdir())
    problems, facts = check(run)
    assert problems == [] and facts["answer"] == "HOLDS IN PART" and facts["tier"] == "DRAFT"
    assert {line.split(":")[0] for line in facts["not_covered"]} >= {"report.html", "report.txt"}
    replaced(run, "serve.sh", "exec ", "exec nice ")
    assert check(run)[1]["answer"] == "BROKEN"
