"""Base, ours and the vendor's: who ships, when a tie goes to the vendor, and what keeps a verdict a draft."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.three_way import three_way
from profile_and_optimize.campaign.accuracy import questions_digest
from profile_and_optimize.campaign.checkpoints import require_same
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.campaign.questions import drawn
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evals.exact_match import Question
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.verify import look_at
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.quant.checkpoint import read_checkpoint
from profile_and_optimize.report.explain.catalogue import catalogue
from profile_and_optimize.report.explain.number import Case
from profile_and_optimize.testing.fakes import fake_ask
from profile_and_optimize.testing.forge import Forged
from profile_and_optimize.testing.living import living_run
from profile_and_optimize.testing.quantized import checkpoint, forgetful, quantized_plan, vendor_like

SAME = {"baseline": 10.0, "aa": 10.0, "ours": 7.0, "vendor": 7.0}


def campaign(
    folder: Path, speeds: dict[str, float], *, vendor: bool = True, ask: Callable[..., Any] = fake_ask, **of_ours: Any
) -> Path:
    plan = quantized_plan(folder, vendor=vendor, **of_ours)
    return living_run(folder / "20261121T090000Z-quantized", plan, speeds=speeds, noise=0.002, ask=ask)


def compared(run: Path) -> dict[str, Any]:
    ev = load_evidence(run)
    found = three_way(ev, decide(ev))
    assert found is not None
    return found


def verdict(run: Path) -> dict[str, Any]:
    return compared(run)["verdicts"][0]


def test_ours_ships_when_it_is_faster_than_the_vendors_too(tmp_path: Path) -> None:
    run = campaign(tmp_path, {**SAME, "ours": 6.0})
    assert verdict(run)["verdict"] == "ship ours" and decide(load_evidence(run)).pick == "ours"
    assert compared(run)["between"]["ours over vendor"]["call"] == "BETTER"


def test_a_tie_keeps_the_vendors_and_so_does_the_champion(tmp_path: Path) -> None:
    run = campaign(tmp_path, {**SAME, "ours": 6.999})
    found = verdict(run)
    assert found["verdict"] == "tie: keep vendor" and decide(load_evidence(run)).pick == "vendor"
    assert any("does not say what it was made of" in o for o in found["open"]) and found["tier"] == "DRAFT"


def test_a_faster_vendor_ships(tmp_path: Path) -> None:
    assert verdict(campaign(tmp_path, {**SAME, "vendor": 6.0}))["verdict"] == "ship vendor"


def test_without_a_vendor_the_base_is_what_counts(tmp_path: Path) -> None:
    assert verdict(campaign(tmp_path, SAME, vendor=False))["verdict"] == "ship ours"
    assert verdict(campaign(tmp_path / "slow", {**SAME, "ours": 14.0}, vendor=False))["verdict"] == "no ship: no gain"


def test_a_fast_checkpoint_that_forgets_does_not_ship(tmp_path: Path) -> None:
    """One question in ten wrong: it leaves at admission, after fewer questions than there are, and the run still verifies."""
    run = campaign(tmp_path, {**SAME, "ours": 5.0}, vendor=True, ask=forgetful({"ours": range(0, 600, 10)}))
    ev = load_evidence(run)
    assert verdict(run)["verdict"] == "ship vendor" and "no ship: accuracy" in ev.failed_arms["ours"]
    assert len(ev.accuracy["ours"]["answers"]) < 600 == len(ev.accuracy["baseline"]["answers"])


def test_when_none_keeps_its_answers_that_is_a_result_and_nothing_is_measured(tmp_path: Path) -> None:
    run = campaign(tmp_path, SAME, vendor=False, ask=forgetful({"ours": range(0, 600, 10)}))
    ev = load_evidence(run)
    d = decide(ev)
    assert verdict(run)["verdict"] == "no ship: accuracy" and d.pick == "baseline" and not ev.trials
    publish(ev, d)
    assert look_at(run).problems == []
    assert "lose right answers" in (run / "CHAMPION.md").read_text()


def test_a_coverage_that_failed_and_another_base_are_contradictions(tmp_path: Path) -> None:
    for name, of_ours in (("coverage", {"coverage": False}), ("base", {"base": "sha256:" + "cd" * 32})):
        run = campaign(tmp_path / name, SAME, vendor=False, **of_ours)
        gate = next(g for g in decide(load_evidence(run)).gates if g.name == "checkpoint proven")
        assert gate.passed is False and ("coverage" in gate.reason or "another model" in gate.reason)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    run = campaign(folder, {**SAME, "ours": 5.0}, ask=forgetful({"vendor": range(0, 600, 10)}))
    ev = load_evidence(run)
    d = decide(ev)
    publish(ev, d)
    return run


def test_it_verifies_and_every_page_names_the_verdict(published: Path) -> None:
    assert look_at(published).problems == []
    for name in ("report.txt", "report.html", "CHAMPION.md"):
        assert "ship ours" in (published / name).read_text().lower(), name
    assert json.loads((published / "quant_compare.json").read_text())["verdicts"][0]["verdict"] == "ship ours"


def test_every_number_of_the_table_can_be_told(published: Path) -> None:
    ev = load_evidence(published)
    case = Case.of(ev, decide(ev))
    found = {name: n for name, n in catalogue(case).items() if name.startswith(("checkpoint.", "between."))}
    assert {"checkpoint.ours.size", "checkpoint.ours.kl", "checkpoint.baseline.tpot"} <= set(found)
    assert found["checkpoint.ours.kl"].text == "0.003" and all(n.tell().formula for n in found.values())


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("quant_compare.json", '"ship ours"', '"ship vendor"'),
        ("cells/vendor/raw/accuracy.json", '"no idea"', '"w0"'),
        ("cells/ours/raw/checkpoint.json", "ab" * 32, "cd" * 32),
    ],
)
def test_what_was_edited_is_found(published: Path, path: str, old: str, new: str) -> None:
    file = published / path
    kept = file.read_bytes()
    assert old.encode() in kept
    try:
        file.write_bytes(kept.replace(old.encode(), new.encode(), 1))
        assert look_at(published).problems
    finally:
        file.write_bytes(kept)


def gate_after(published: Path, space: Path, change: Callable[[Forged], object]) -> tuple[bool | None, list[str]]:
    """The gate on the checkpoint, and what verify finds, in a copy that was edited and hashed again."""
    forged = Forged.copy_of(published, space)
    change(forged)
    forged.save(rehash=True)
    gates = decide(load_evidence(forged.run)).gates
    return next(g.passed for g in gates if g.name == "checkpoint proven"), look_at(forged.run).problems


RECORD = "cells/ours/raw/checkpoint.json"


def test_a_word_above_its_checks_or_records_of_other_weights_prove_nothing(published: Path, tmp_path: Path) -> None:
    def checks(f: Forged) -> None:
        f.edit(RECORD, lambda d: d["records"]["coverage.json"]["checks"][0].update(passed=False))

    def weights(f: Forged) -> None:
        f.edit(RECORD, lambda d: d.update(weights_sha256="0" * 64))

    assert gate_after(published, tmp_path / "checks", checks)[0] is False
    assert gate_after(published, tmp_path / "weights", weights)[0] is False
    rows = compared(tmp_path / "weights" / published.name)["rows"]
    assert next(r for r in rows if r["cell"] == "ours")["kl_base"] is None


def test_without_its_record_a_checkpoint_is_not_proven_and_verify_misses_it(published: Path, tmp_path: Path) -> None:
    passed, problems = gate_after(published, tmp_path / "gone", lambda f: f.drop(RECORD))
    assert passed is None and any("every checkpoint is written down" in p for p in problems)


def test_who_is_said_to_have_lost_answers_has_given_them(published: Path, tmp_path: Path) -> None:
    _, problems = gate_after(published, tmp_path / "said", lambda f: f.drop("cells/vendor/raw/accuracy.json"))
    assert any("its answers were wrong" in p for p in problems)


def test_other_weights_in_its_place_are_found_before_a_block(tmp_path: Path) -> None:
    run = campaign(tmp_path, SAME, vendor=False)
    (tmp_path / "ours/model.safetensors").write_bytes(b"other weights")
    folder = RunFolder(run)
    plan = load_evidence(run).frozen
    with pytest.raises(Corrupted, match="not the one that was admitted"):
        require_same(folder, plan.arm("ours"))
    folder.close()


def test_a_vendors_files_of_our_names_may_hold_anything(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "theirs", record=False)
    (folder / "quantize.json").write_text('{"job": "x", "kl_base": null}')
    (folder / "roundtrip.json").write_text('{"kl_base": [1]}')
    assert read_checkpoint(folder).base_digest == "unknown"


def test_ours_with_a_lever_against_the_vendors_without_is_not_like_for_like(tmp_path: Path) -> None:
    plan = quantized_plan(tmp_path)
    arms = tuple(replace(a, flags=("--x", "1")) if a.id == "ours" else a for a in plan.arms)
    run = living_run(
        tmp_path / "20261121T090000Z-unlike",
        replace(plan, arms=arms),
        speeds={**SAME, "ours": 5.0},
        noise=0.002,
        ask=fake_ask,
    )
    found = verdict(run)
    assert found["verdict"] == "ship ours" and found["tier"] == "DRAFT"
    assert "not like for like: ours with --x 1 and vendor with no flags of its own" in found["open"]


def test_what_a_vendor_publishes_holds_nothing_that_only_we_could_know(tmp_path: Path) -> None:
    ours = checkpoint(tmp_path / "ours")
    (ours / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    found = read_checkpoint(vendor_like(ours, tmp_path / "theirs"))
    assert found.quant_method == "modelopt" and found.bytes == 10
    assert (found.base_digest, found.job_digest) == ("unknown", "unknown")
    assert [found.coverage, found.roundtrip, found.kl, found.top1, found.bits_per_weight] == [None] * 5


def test_the_same_question_twice_counts_once_and_the_draw_is_of_all() -> None:
    asked = [Question("q1", "a"), Question("q2", "b"), Question("q1", "a"), Question("q1", "a", "other task")]
    found = drawn(asked)
    assert len(found) == 3 and sorted(found, key=str) == sorted({*asked}, key=str)
    assert drawn(tuple(reversed(asked)))[0].question == found[0].question


def test_a_campaign_counts_clusters_says_so_and_verify_finds_them_again(tmp_path: Path) -> None:
    """600 questions of 120 clusters, of which ours loses 12 whole ones: harm is shown at the end of a cluster. A cluster that is
    taken out of the answers of all arms, with their digest made anew, leaves an order that is none."""
    plan = replace(quantized_plan(tmp_path, vendor=False), accuracy_margin=0.02)
    rows = [{"question": f"repeat w{i}", "answer": f"w{i}", "cluster": f"c{i // 5}"} for i in range(600)]
    Path(plan.questions).write_text("".join(json.dumps(r) + "\n" for r in rows))
    lost = [i for c in range(0, 120, 3) for i in range(5 * c, 5 * c + 5)]
    run = living_run(
        tmp_path / "20261121T090000Z-quantized", plan, speeds=SAME, noise=0.002, ask=forgetful({"ours": lost})
    )
    ev = load_evidence(run)
    d = decide(ev)
    n = len(ev.accuracy["ours"]["answers"])
    assert "no ship: accuracy" in ev.failed_arms["ours"] and n % 5 == 0 and n < 600
    assert ev.accuracy["ours"]["answers"][0]["cluster"] and compared(run)["clusters"]["clusters"] == 120
    publish(ev, d)
    assert look_at(run).problems == []
    told = " ".join((run / "report.txt").read_text().split())
    assert "flip independently: 600 questions in 120 clusters (the largest of 5), 0 near-duplicates found" in told
    for cell in ("baseline", "aa", "ours"):
        path = run / f"cells/{cell}/raw/accuracy.json"
        data = json.loads(path.read_text())
        data["answers"] = [{**a, "cluster": ""} for a in data["answers"]]
        path.write_text(json.dumps({**data, "questions_sha256": questions_digest(data)}))
    assert any("order in which they count" in str(p) for p in look_at(run).problems)


# --- cut answers, and folders that are asked in another way ------------------------------------------------------------------


def cut(arms: dict[str, range], reason: str = "length") -> Callable[..., Any]:
    """As `fake_ask`, but these arms' answers to these questions are cut."""

    def ask(url: str, model: str, prompt: str, **more: Any) -> Any:
        said, last = fake_ask(url, model, prompt, **more), prompt.split()[-1]
        cut = last.startswith("w") and last[1:].isdigit() and int(last[1:]) in arms.get(url.split("/")[3], ())
        return replace(said, finish=reason if cut else "stop")

    return ask


def accuracy_gate(run: Path) -> Any:
    return next(g for g in decide(load_evidence(run)).gates if g.name == "accuracy")


def problems(run: Path) -> list[str]:
    ev = load_evidence(run)
    publish(ev, decide(ev))
    return list(look_at(run).problems)


def test_answers_that_were_cut_on_both_sides_pass_nothing_and_the_run_verifies(tmp_path: Path) -> None:
    sides = dict.fromkeys(("baseline", "aa", "ours"), range(0, 600, 10))
    run = campaign(tmp_path, {**SAME, "ours": 5.0}, vendor=False, ask=cut(sides))
    gate = accuracy_gate(run)
    assert gate.passed is None and "60 of the base, 10.0%, and 60 of the candidate" in gate.reason
    assert len(load_evidence(run).accuracy["ours"]["answers"]) == 600 and problems(run) == []
    assert "540 of 540, 60 cut" in " ".join((run / "report.txt").read_text().split())


def test_a_loss_is_shown_whatever_a_few_cut_answers_would_have_been(tmp_path: Path) -> None:
    forgets, cuts = forgetful({"ours": range(0, 600, 5)}), cut({"ours": range(1, 600, 200)})

    def ask(url: str, model: str, prompt: str, **more: Any) -> Any:
        return replace(forgets(url, model, prompt, **more), finish=cuts(url, model, prompt, **more).finish)

    run = campaign(tmp_path, SAME, vendor=False, ask=ask)
    assert "no ship: accuracy" in load_evidence(run).failed_arms["ours"] and problems(run) == []


def run_of_folders(tmp_path: Path, **generation: Any) -> Path:
    """The base has a generation_config without anything in it, ours has this one."""
    plan = quantized_plan(tmp_path, vendor=False, generation=json.dumps(generation))
    base = tmp_path / "base"
    base.mkdir()
    (base / "generation_config.json").write_text("{}")
    return living_run(tmp_path / "20261121T090000Z-q", replace(plan, model=str(base)), speeds=SAME, noise=0.002)


def test_a_checkpoint_with_another_generation_config_keeps_the_gate_open_by_name(tmp_path: Path) -> None:
    run = run_of_folders(tmp_path, repetition_penalty=1.05)
    gate = accuracy_gate(run)
    assert gate.passed is None and "not asked alike: generation_config: repetition_penalty not set" in gate.reason
    assert problems(run) == []
    same = run_of_folders(tmp_path / "same", repetition_penalty=1.0, transformers_version="5.14.1")
    assert accuracy_gate(same).passed is True


def test_a_checkpoint_whose_generation_config_cannot_be_read_takes_no_part(tmp_path: Path) -> None:
    plan = quantized_plan(tmp_path, vendor=True, generation="{")
    run = living_run(tmp_path / "20261121T090000Z-q", plan, speeds=SAME, noise=0.002)
    assert "not JSON" in load_evidence(run).failed_arms["ours"] and "vendor" in load_evidence(run).accuracy


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"finish": ""', '"ended": ""', "how some answers ended is missing"),
        ('"generation": {}', '"generation": {"top_p": 0.5}', "asked_by"),
        (
            '"pins": null',
            '"pins": {"sent": {"temperature": 0.7}, "refused": [], "ignored": []}',
            "pins: temperature is 0.7",
        ),
    ],
)
def test_how_a_campaign_asked_is_part_of_its_evidence(tmp_path: Path, old: str, new: str, said: str) -> None:
    run = run_of_folders(tmp_path)
    assert problems(run) == []
    path = run / "cells/baseline/raw/accuracy.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert any(said in p for p in look_at(run).problems)
