"""verify: a clean run holds, each kind of tampering is found, and nothing of the run is executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_and_optimize.ops.verify import check
from profile_and_optimize.testing.forge import publish, relist

TRIAL = "cells/fast/raw/b001-short-chat.c4-a1.json"


def edit(path: Path, change: Callable[[dict], object]) -> None:
    doc = json.loads(path.read_text())
    change(doc)
    path.write_text(json.dumps(doc, sort_keys=True, separators=(",", ":")) + "\n")


def test_a_clean_run_holds(closed_run: Path) -> None:
    problems, facts = check(closed_run)
    assert problems == [] and facts["pick"] == "fast" and facts["trials"] == 24


def remove_lines(path: Path, keep: Callable[[str], bool]) -> None:
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if keep(line)))


KINDS: dict[str, Callable[[Path], object]] = {
    "dropped trial": lambda r: (r / TRIAL).unlink(),
    "edited latency": lambda r: edit(r / TRIAL, lambda d: d["columns"]["first_chunk_ns"].__setitem__(0, 5)),
    "edited token count": lambda r: edit(r / TRIAL, lambda d: d["columns"]["completion_tokens"].__setitem__(0, 99)),
    "swapped node": lambda r: edit(r / TRIAL, lambda d: d["context"]["node"].update(observed="other")),
    "other commit": lambda r: edit(r / TRIAL, lambda d: d["context"]["source_commit"].update(observed="1" * 40)),
    "cache mode": lambda r: edit(r / TRIAL, lambda d: d["context"]["cache_mode"].update(asked="warm")),
    "trial of one arm put under another": lambda r: shutil.copy(r / TRIAL, r / TRIAL.replace("fast", "baseline")),
    "added trial": lambda r: shutil.copy(r / TRIAL, r / TRIAL.replace("b001", "b009")),
    "edited plan": lambda r: edit(r / "plan.json", lambda d: d.update(margin=0.0)),
    "cherry-picked block": lambda r: remove_lines(r / "journal.jsonl", lambda line: "b002" not in line),
    "edited verdict": lambda r: edit(r / "verdict.json", lambda d: d.update(tier="VERDICT")),
    "edited pick": lambda r: edit(r / "champion_select.json", lambda d: d.update(pick="slow")),
    "edited atlas": lambda r: (r / "atlas.jsonl").write_text((r / "atlas.jsonl").read_text().replace("0.0", "0.1", 1)),
    "edited page": lambda r: (r / "report.html").write_text(
        (r / "report.html").read_text().replace("BETTER", "BEST", 1)
    ),
    "edited journal": lambda r: (r / "journal.jsonl").write_text(
        (r / "journal.jsonl").read_text().replace("arm_failed", "arm_fine", 1)
    ),
    "manifest without the run": lambda r: (r / "manifest.json").unlink(),
    "stranger in the folder": lambda r: (r / "cells/fast/raw/extra.json").write_text("{}"),
    "link out of the folder": lambda r: ((r / TRIAL).unlink(), (r / TRIAL).symlink_to("/etc/hostname")),
    "half-written file": lambda r: (r / "report.html.part").write_text("x"),
    "lock that holds something": lambda r: (r / ".lock").write_text("x"),
    "page missing": lambda r: (r / "report.html").unlink(),
    "champion missing": lambda r: (r / "CHAMPION.md").unlink(),
    "file that nothing makes, listed": lambda r: (
        (r / "EXTRA.md").write_text("# VERDICT\n"),
        edit(r / "manifest.json", lambda d: d["derived"].append({**d["derived"][0], "path": "EXTRA.md"})),
        relist(r),
    ),
    "pages missing and listed anew": lambda r: ((r / "verdict.json").unlink(), (r / "report.txt").unlink(), relist(r)),
    "an evaluation in a campaign": lambda r: (r / "evaluation.json").write_text("{}"),
    "truncated trial": lambda r: (r / TRIAL).write_bytes((r / TRIAL).read_bytes()[:500]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tampering_is_found(run_copy: Path, kind: str) -> None:
    KINDS[kind](run_copy)
    problems, _ = check(run_copy)
    assert problems, kind


ODD: dict[str, tuple[str, Callable[[dict], object]]] = {
    "context field renamed": (TRIAL, lambda d: d["context"].update(nodf=d["context"].pop("node"))),
    "context without asked": (TRIAL, lambda d: d["context"]["node"].pop("asked")),
    "text for a number": (TRIAL, lambda d: d["columns"].update(sent_ns=["x"] * len(d["columns"]["sent_ns"]))),
    "plan without a key": ("plan.json", lambda d: d.pop("alpha")),
    "plan with another key": ("plan.json", lambda d: d.update(warp=9)),
    "plan out of range": ("plan.json", lambda d: d.update(margin=7)),
    "manifest of other types": ("manifest.json", lambda d: d.update(derived=5, journal=[])),
    "manifest that leads out": (
        "manifest.json",
        lambda d: d["derived"].append({"path": "../../etc/passwd", "sha256": "", "bytes": 0}),
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_damage_that_is_still_json_is_a_finding_and_not_a_crash(run_copy: Path, kind: str) -> None:
    path, change = ODD[kind]
    edit(run_copy / path, change)
    problems, _ = check(run_copy)
    assert problems


def test_a_better_attempt_slipped_in_beside_a_good_one_does_not_count_and_is_found(run_copy: Path) -> None:
    from profile_and_optimize.campaign.recover import adopt_orphans
    from profile_and_optimize.evidence.folder import RunFolder

    second = run_copy / TRIAL.replace("-a1", "-a2")
    shutil.copy(run_copy / TRIAL, second)
    edit(second, lambda d: d["key"].update(attempt=2))
    folder = RunFolder(run_copy)
    assert adopt_orphans(folder) == 1
    folder.close()
    problems, facts = check(run_copy)
    assert any("an attempt after one that was usable" in p for p in problems) and facts["pick"] == "fast"


def test_damage_is_named_with_its_place(run_copy: Path) -> None:
    (run_copy / TRIAL).write_bytes(b"\x00\xff not json")
    problems, _ = check(run_copy)
    assert any(TRIAL in p for p in problems)


def test_a_run_that_was_killed_says_so_and_holds_once_it_is_closed(run_copy: Path) -> None:
    (run_copy / "manifest.json").unlink()
    (run_copy / "cells/fast/raw/b009-x.json.part").write_text("half")
    problems, facts = check(run_copy)
    assert facts["answer"] == "BROKEN" and any("half-written" in p for p in problems)
    assert any("the run was not closed" in p for p in problems)
    publish(run_copy)
    assert check(run_copy)[1]["answer"] == "HOLDS" and not list(run_copy.rglob("*.part"))


def test_a_run_that_went_on_after_it_was_closed_says_so(run_copy: Path) -> None:
    from profile_and_optimize.evidence.folder import RunFolder

    folder = RunFolder(run_copy)
    folder.event("settled", block=9)
    folder.close()
    assert any("has 1 events after it was closed" in p for p in check(run_copy)[0])
    publish(run_copy)
    assert check(run_copy)[0] == []
