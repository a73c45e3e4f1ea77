"""--against: which root was published decides, and what is no root is wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.manifest import evidence_root
from profile_and_optimize.evidence.reading import strict_json
from profile_and_optimize.ops.verify import VerifyRequest, check, run
from profile_and_optimize.ops.verifying.roots import Roots, published_root
from profile_and_optimize.testing.forge import Forged, publish

TRIAL = "cells/fast/raw/b001-short-chat.c4-a1.json"


def manifest(path: Path) -> dict[str, str]:
    return strict_json((path / "manifest.json").read_bytes())


def asked(run_path: Path, against: str) -> tuple[bool, dict]:
    answer = run(VerifyRequest(campaign=str(run_path), against=against), lambda _: None)
    return answer.refusal is None, answer.data


def test_the_full_root_holds_and_the_evidence_root_alone_leaves_the_rendering_uncovered(closed_run: Path) -> None:
    held, data = asked(closed_run, manifest(closed_run)["root"].upper())
    assert held and data["against"] == {"root": manifest(closed_run)["root"], "matched": "root"}
    assert data["answer"] == "HOLDS" and data["not_covered"] == []
    held, data = asked(closed_run, manifest(closed_run)["evidence_root"])
    assert not held and data["against"]["matched"] == "evidence_root"
    assert data["answer"] == "HOLDS IN PART" and [x.split(":")[0] for x in data["not_covered"]] == ["rendering"]


def test_the_root_lies_beside_the_run_and_in_the_foot_of_its_pages(closed_run: Path) -> None:
    root, beside = manifest(closed_run)["root"], closed_run.parent / f"{closed_run.name}.root"
    assert beside.read_text() == f"{root}  {closed_run.name}\n"
    assert asked(closed_run, str(beside))[1]["against"]["matched"] == "root"
    assert (closed_run / "report.html").read_text().count(root) == 1
    assert (closed_run / "report.txt").read_text().count(root) == 1


def test_another_root_is_a_problem(closed_run: Path) -> None:
    held, data = asked(closed_run, "0" * 64)
    assert not held and data["against"]["matched"] is None
    assert data["problems"] == ["manifest.json: neither root is the published " + "0" * 64]


def test_a_run_that_was_changed_and_re_hashed_is_told_by_the_root_alone(closed_run: Path, tmp_path: Path) -> None:
    f = Forged.copy_of(closed_run, tmp_path)
    f.edit(
        "SOURCE.md" if (f.run / "SOURCE.md").exists() else "calibration.json",
        lambda d: d.update(overhead=d["overhead"]),
    )
    f.edit(TRIAL, lambda d: d["probe"].update(cpu_s=0.123))
    f.save(rehash=True)
    assert check(f.run)[0] == []
    for root in (
        manifest(closed_run)["root"],
        manifest(closed_run)["evidence_root"],
        str(closed_run / "manifest.json"),
        str(closed_run),
    ):
        assert not asked(f.run, root)[0]


def test_pages_rendered_anew_keep_the_evidence_root_alone(closed_run: Path, run_copy: Path) -> None:
    (run_copy / "summary.md").unlink()
    (run_copy / "manifest.json").unlink()
    publish(run_copy)
    assert asked(run_copy, str(closed_run / "manifest.json"))[1]["against"]["matched"] == "root"
    (run_copy / "journal.jsonl").touch()
    other = json.loads((run_copy / "manifest.json").read_text()) | {"root": "1" * 64}
    assert Roots("1" * 64, other["evidence_root"]).match("2" * 64, other["evidence_root"]) == "evidence_root"


def test_an_event_that_decides_is_covered_by_the_evidence_root_and_one_that_tells_is_not(
    closed_run: Path, tmp_path: Path
) -> None:
    from profile_and_optimize.evidence.journal import read_journal

    events = read_journal(closed_run / "journal.jsonl").events
    whole = evidence_root(events)
    assert evidence_root([e for e in events if e.kind != "arm_failed"]) != whole
    assert evidence_root([e for e in events if e.kind not in ("block", "settled", "trial_began")]) == whole
    starts = [e for e in events if e.kind == "session"]
    assert evidence_root([e for e in events if e is not starts[3]]) != whole
    # A start that a kill broke off is begun again, and is the same start.
    again = [x for e in events for x in ((e, e) if e is starts[3] else (e,))]
    assert evidence_root(again) == whole


def test_a_root_comes_from_digits_a_file_a_manifest_or_a_run(closed_run: Path, tmp_path: Path) -> None:
    root, evidence = manifest(closed_run)["root"], manifest(closed_run)["evidence_root"]
    (tmp_path / "root.txt").write_text(f"root of the run: {root}\nthe same once more: {root}\n")
    assert published_root(str(tmp_path / "root.txt")) == published_root(root) == Roots(root, root)
    assert published_root(str(closed_run / "manifest.json")) == published_root(str(closed_run)) == Roots(root, evidence)


WRONG = {
    "too short": "abc123", "63 digits": "a" * 63, "65 digits": "a" * 65, "not hex": "g" * 64,
    "no such file": "roots/none.txt", "empty": " ",
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_root_is_wrong_use(closed_run: Path, kind: str) -> None:
    with pytest.raises(WrongUse):
        asked(closed_run, WRONG[kind])


@pytest.mark.parametrize("text", ["", "nothing here", f"{'a' * 64} and {'b' * 64}", '{"root": 5, "evidence_root": []}'])
def test_a_file_without_one_root_is_wrong_use(closed_run: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "root.txt").write_text(text)
    with pytest.raises(WrongUse):
        published_root(str(tmp_path / "root.txt"))


def test_the_command_line_exits_4_for_half_a_root_1_for_another_and_2_for_none(
    closed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["verify", str(closed_run)]
    assert pao([*where, "--against", manifest(closed_run)["root"]]) == 0
    assert "every file is as it was then" in capsys.readouterr().out
    assert pao([*where, "--against", manifest(closed_run)["evidence_root"]]) == 4
    assert pao([*where, "--against", "f" * 64]) == 1
    assert pao([*where, "--against", "ffff"]) == 2
    assert "64 hex digits" in capsys.readouterr().err
