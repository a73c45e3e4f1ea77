"""pao accuracy_gate as a stranger types it: calls, exits, refusals, and verify afterwards."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.evals.pao_eval.sampling import wanted

sys.path.insert(0, str(Path(__file__).parent))
from made_evaluations import PLAIN, losing, made, most


class Desk:
    """Evaluations in a workspace, gated."""

    def __init__(self, space: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.space, self.capsys = space, capsys
        self.base = made(space, "base", most)

    def made(self, name: str, right: Any, **told: Any) -> str:
        return made(self.space, name, right, **told)

    def ask(self, *args: str) -> tuple[int, dict[str, Any]]:
        code = pao([*args, "--campaigns-dir", str(self.space), "--json"])
        return code, json.loads(self.capsys.readouterr().out)

    def gate(self, candidate: str, *args: str, base: str | None = None) -> tuple[int, dict[str, Any]]:
        name = f"g{len(list(self.space.glob('2*')))}"
        return self.ask("accuracy_gate", "--base", base or self.base, "--candidate", candidate, "--name", name, *args)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_the_same_answers_by_other_weights_pass_and_verify(desk: Desk) -> None:
    code, said = desk.gate(desk.made("int8", most), "--floor", desk.made("again", most, model_digest="sha256:base"))
    told = said["result"]
    assert (code, told["call"], told["tier"], told["answer"]["decided_at"]) == (0, "pass", "VERDICT", 480)
    assert told["floor"]["flips"] == 0 and any("word for word" in w for w in said["warnings"])
    code, checked = desk.ask("verify", told["run"])
    assert (code, checked["result"]["call"], checked["result"]["questions"]) == (0, "pass", 480)
    kept = {str(p.relative_to(told["run"])) for p in Path(told["run"]).rglob("*.json*")}
    assert {"base/raw/samples.jsonl", "candidate/evaluation.json", "floor/raw/samples.jsonl", "gate.json"} <= kept


def test_a_clear_loss_exits_1_with_the_gate_still_given(desk: Desk) -> None:
    code, said = desk.gate(desk.made("nvfp4", losing(0.25)))
    assert (code, said["error"]["code"], said["result"]["call"]) == (1, "refused", "fail")
    assert "no ship" in said["error"]["message"] and said["result"]["answer"]["decided_at"] < 480
    assert any("change nothing" in w for w in said["warnings"])
    assert desk.ask("verify", said["result"]["run"])[0] == 0


def test_what_cannot_be_told_is_a_draft_that_names_what_it_takes(desk: Desk) -> None:
    code, said = desk.gate(desk.made("int4", losing(0.01)))
    told = said["result"]
    assert (code, told["call"], told["tier"]) == (0, "unknown", "DRAFT") and told["answer"]["needed"] > 100
    code = pao(
        [
            "accuracy_gate",
            "--base",
            desk.base,
            "--candidate",
            "int4",
            "--campaigns-dir",
            str(desk.space),
            "--name",
            "text",
        ]
    )
    text = desk.capsys.readouterr().out
    assert code == 0 and "UNKNOWN (DRAFT)" in text and f"needs about {told['answer']['needed']} more questions" in text
    assert "looked after 48, 96" in text and "all tasks" in text


def test_a_wide_tolerance_and_a_larger_plan_are_the_users(desk: Desk) -> None:
    candidate = desk.made("int4", losing(0.01))
    assert desk.gate(candidate, "--tolerance-points", "5")[1]["result"]["call"] == "pass"
    code, said = desk.gate(candidate, "--planned", "4800")
    assert said["result"]["answer"]["look_at"] == [480] and said["result"]["answer"]["planned"] == 4800
    assert desk.gate(candidate, "--planned", "100")[0] == 2


def test_planning_again_is_said_and_keeps_the_gate_a_draft(desk: Desk) -> None:
    candidate = desk.made("int8", most)
    assert desk.gate(candidate, "--planned", "2000")[1]["result"]["call"] == "unknown"
    _, said = desk.gate(candidate)
    assert (said["result"]["call"], said["result"]["tier"]) == ("pass", "DRAFT")
    assert "all together for 2%" in said["result"]["doubts"][0]
    _, same = desk.gate(candidate)  # the same runs under the same plan are no new chance
    assert same["result"]["doubts"] == said["result"]["doubts"]
    _, floored = desk.gate(candidate, "--floor", desk.made("again", most, model_digest="sha256:base"))
    assert floored["result"]["doubts"] == said["result"]["doubts"]  # nor is a floor
    assert desk.gate(candidate, "--tolerance-points", "2")[1]["result"]["tier"] == "VERDICT"


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"chat": True}, "chat False against True"),
        ({"lm_eval": "0.4.9"}, "lm_eval"),
        (
            {"sampling": {"samples": 4, "temperature": 0.7, "max_tokens": None, "seed": 0, "concurrency": 8}},
            "samples 1 against 4",
        ),
        ({"tasks": {"sums": 300, "words": 179}}, "questions_sha256"),
        ({"tasks": {"sums": 300}}, "tasks: sums, words against sums"),
    ],
)
def test_runs_that_were_not_asked_the_same_are_refused_by_name(desk: Desk, told: dict[str, Any], named: str) -> None:
    code, said = desk.gate(desk.made("int8", most, **told))
    assert code == 2 and named in said["error"]["message"]


def test_the_base_as_candidate_and_another_model_as_floor_are_refused(desk: Desk) -> None:
    again = desk.made("again", most, model_digest="sha256:base")
    code, said = desk.gate(again)
    assert code == 2 and "the candidate is the base" in said["error"]["message"]
    assert desk.gate(desk.base)[0] == 2
    code, said = desk.gate(desk.made("int8", most), "--floor", desk.made("other", most))
    assert code == 2 and "the floor is the base asked once more" in said["error"]["message"]
    flags = {"name": "vllm", "engine_version": "0.32.0", "flags": "--kv-cache-dtype fp8"}
    code, said = desk.gate(desk.made("kv8", most, model_digest="sha256:base", engine=flags))
    assert code == 0 and any("not served alike" in w for w in said["warnings"])


def test_questions_that_show_no_loss_pass_nothing(desk: Desk) -> None:
    never = desk.made("weak", lambda task, i: False)
    code, said = desk.gate(desk.made("weaker", lambda task, i: False), base=never)
    assert (code, said["result"]["call"]) == (0, "unknown") and "cannot show a loss" in said["result"]["reason"]


def test_an_unknown_model_keeps_it_a_draft_and_an_evaluation_at_fault_is_refused(desk: Desk) -> None:
    where = {"model_digest": "unknown", "model": "unknown", "endpoint": "http://127.0.0.1:9", "asked_by": None}
    _, said = desk.gate(desk.made("remote", most, **where))
    assert (said["result"]["call"], said["result"]["tier"]) == ("pass", "DRAFT") and "endpoint" in said["result"][
        "doubts"
    ][0]
    bad = {"gate": {"passed": False, "why": {"sums": "every answer is the same"}, "blame": "gate"}}
    code, said = desk.gate(desk.made("mute", losing(1.0), **bad))
    assert code == 2 and "every answer is the same" in said["error"]["message"]


def test_an_instruct_model_wants_both_modes_and_no_examples(desk: Desk) -> None:
    base, tuned = (desk.made(n, most, chat=True) for n in ("base-it", "int8-it"))
    _, said = desk.gate(tuned, base=base)
    assert any("gate it without as well" in w for w in said["warnings"])
    raw, raw_tuned = (
        desk.made(f"raw-{n}", most, model=f"models/{n}", model_digest=f"sha256:{n}") for n in ("base-it", "int8-it")
    )
    _, said = desk.gate(raw_tuned, base=raw)
    assert not any("as well" in w for w in said["warnings"])


def test_a_changed_sample_or_gate_does_not_verify(desk: Desk) -> None:
    run = Path(desk.gate(desk.made("int8", losing(0.01)))[1]["result"]["run"])
    for rel, old, new in (
        ("candidate/raw/samples.jsonl", '"scores": [0.0]', '"scores": [1.0]'),
        ("gate.json", '"call": "unknown"', '"call": "pass"'),
    ):
        path, kept = run / rel, (run / rel).read_text()
        path.write_text(kept.replace(old, new, 1))
        code, said = desk.ask("verify", str(run))
        assert code == 1 and any("sha256 differs" in p for p in said["result"]["problems"])
        assert any("not what" in p or "the samples give" in p for p in said["result"]["problems"] if "sha256" not in p)
        path.write_text(kept)
    assert desk.ask("verify", str(run))[0] == 0


# --- clusters --------------------------------------------------------------------------------------------------------------------


def test_what_was_assumed_is_on_every_page(desk: Desk) -> None:
    _, said = desk.gate(desk.made("int8", most))
    told = said["result"]["clusters"]
    assert told["assumes"] == (
        "assumes that questions of different clusters flip independently: 480 questions in 480 clusters, 0 near-duplicates found"
    )
    assert (told["clusters"], told["largest"], told["declared"], told["near_duplicates"]) == (480, 1, 0, 0)


def test_declared_clusters_are_the_unit_and_verify(desk: Desk) -> None:
    """48 clusters of ten without a flip: 0.9^48 passes ten points, 0.95^48 does not pass five, where 480 questions would."""
    base, other = (desk.made(n, most, clusters=10) for n in ("base-in-tens", "int8-in-tens"))
    code, said = desk.gate(other, "--tolerance-points", "10", base=base)
    assert (code, said["result"]["call"]) == (0, "pass") and said["result"]["answer"]["clusters"] == 48
    code, said = desk.gate(other, "--tolerance-points", "5", base=base)
    assert (code, said["result"]["call"]) == (0, "unknown")
    assert said["result"]["answer"]["needed"] == 10 * said["result"]["answer"]["needed_clusters"]
    assert any("weigh no more than 48 independent ones" in w for w in said["warnings"])
    assert desk.ask("verify", said["result"]["run"])[0] == 0
    for name in (base, other):
        assert desk.ask("verify", str(desk.space / name))[0] == 0


def test_runs_with_other_clusters_are_not_asked_the_same(desk: Desk) -> None:
    code, said = desk.gate(desk.made("int8", most, clusters=5), base=desk.base)
    assert code == 2 and "questions_sha256" in said["error"]["message"]


def test_near_duplicates_are_found_and_named(desk: Desk) -> None:
    def twice(task: str, i: int) -> str:
        return f"{i}. What is the {task} of {i // 2}?"

    base, other = (desk.made(n, most, text=twice) for n in ("base-twice", "int8-twice"))
    _, said = desk.gate(other, base=base)
    told = said["result"]["clusters"]
    assert (told["clusters"], told["largest"], told["near_duplicates"], said["result"]["call"]) == (
        240,
        2,
        240,
        "unknown",
    )
    assert any("nearly the same question twice" in w for w in said["warnings"])


def test_a_question_text_that_was_changed_does_not_verify(desk: Desk) -> None:
    run = Path(desk.gate(desk.made("int8", most))[1]["result"]["run"])
    path = run / "base/raw/answers.jsonl"
    path.write_text(path.read_text().replace('"question": "What is the sums of 1?"', '"question": "Which?"'))
    code, said = desk.ask("verify", str(run))
    assert code == 1 and any("the texts of the questions" in p for p in said["result"]["problems"])


@pytest.mark.parametrize("schema", [1, 2])
def test_a_gate_of_an_older_format_still_verifies_with_what_it_knew(desk: Desk, schema: int) -> None:
    """1 is from before clusters, 2 from before unfinished answers and chat templates."""
    stored = next((Path(__file__).parents[1] / f"data/gate_schema_{schema}").iterdir())
    run = desk.space / stored.name
    shutil.copytree(stored, run)
    code, said = desk.ask("verify", str(run))
    assert (code, said["result"]["problems"]) == (0, [])
    gate = run / "gate.json"
    gate.write_text(gate.read_text().replace(f'"schema": {schema}', '"schema": 3'))
    assert desk.ask("verify", str(run))[0] == 1


# --- cut answers, how both were asked, which questions ---------------------------------------------------------------------------


def cut_of(share: int, per: int = 1000) -> Any:
    return lambda task, i: i % per < share


def test_907_of_1000_cut_on_both_sides_keep_the_gate_open_and_say_so(desk: Desk) -> None:
    base, other = (desk.made(n, most, tasks={"sums": 1000}, cut=cut_of(907)) for n in ("b", "c"))
    code, said = desk.gate(other, base=base)
    told = said["result"]
    assert (code, told["call"], told["tier"]) == (0, "unknown", "DRAFT")
    assert told["unfinished"] == {"base": 907, "candidate": 907, "n": 1000, "most": 0.01}
    assert "907 of the base, 90.7%" in told["reason"] and told["all_questions"][0]["n"] == 93
    assert desk.ask("verify", told["run"])[0] == 0
    row = json.loads((desk.space / base / "evaluation.json").read_text())["tasks"][0]
    assert (row["n"], row["cut"], row["unknown"]) == (1000, 907, 907) and row["score"] == pytest.approx(84 / 93)
    pao(["accuracy_gate", "--base", base, "--candidate", other, "--campaigns-dir", str(desk.space), "--name", "text"])
    assert "unfinished answers, neither right nor wrong: 907 of 1000 questions (90.7%)" in desk.capsys.readouterr().out


def test_nothing_but_cut_answers_has_no_score_and_no_crash(desk: Desk) -> None:
    base, other = (desk.made(n, most, tasks={"sums": 40}, cut=cut_of(40)) for n in ("b", "c"))
    code, said = desk.gate(
        other, "--floor", desk.made("f", most, tasks={"sums": 40}, model_digest="sha256:b"), base=base
    )
    assert (code, said["result"]["call"]) == (0, "unknown") and said["result"]["all_questions"][0]["base"] is None
    assert desk.ask("verify", said["result"]["run"])[0] == 0


def test_a_candidate_that_is_cut_more_often_does_not_pass(desk: Desk) -> None:
    """8 of 1,500 that the base ends: 0.5%, within two points, and 2 / 2^8 = 0.8% by chance."""
    base, other = (desk.made(n, most, tasks={"sums": 1500}, cut=cut_of(c)) for n, c in (("b", 0), ("c", 4)))
    code, said = desk.gate(other, "--tolerance-points", "2", base=base)
    assert (code, said["result"]["call"]) == (0, "unknown") and "cut unlike" in said["result"]["reason"]
    few = desk.made("few", most, tasks={"sums": 1500}, cut=cut_of(1))
    assert desk.gate(few, "--tolerance-points", "2", base=base)[1]["result"]["call"] == "pass"


def test_the_end_of_an_answer_cannot_be_taken_out_of_the_evidence(desk: Desk) -> None:
    run = desk.space / desk.made("b", most, tasks={"sums": 100}, cut=cut_of(50))
    path = run / "raw/samples.jsonl"
    for old, new, said in (
        ('"finish": ["length"]', '"finish": ["stop"]', "cut is 50, the samples give 49"),
        (', "finish": ["length"]', "", "how 1 answers ended is missing"),
    ):
        kept = path.read_text()
        path.write_text(kept.replace(old, new, 1))
        code, told = desk.ask("verify", str(run))
        assert code == 1 and any(said in p for p in told["result"]["problems"])
        path.write_text(kept)


def other(**generation: Any) -> dict[str, Any]:
    return replace(PLAIN, generation=tuple(sorted({"eos_token_id": 2, **generation}.items()))).to_json()


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"asked_by": replace(PLAIN, templates=(("default", "{{ other }}"),)).to_json()}, "chat template 'default'"),
        ({"asked_by": replace(PLAIN, templates=()).to_json()}, "none in the candidate"),
        ({"asked_by": other(repetition_penalty=1.1)}, "generation_config: repetition_penalty not set in the base, 1.1"),
        ({"asked_by": other(eos_token_id=[2, 7])}, "eos_token_id [2] in the base, [2, 7]"),
        (
            {"engine": {"name": "vllm", "engine_version": "0.32.0", "flags": "--generation_config vllm"}},
            "--generation-config: not given for the base, vllm",
        ),
    ],
)
def test_what_was_not_asked_alike_is_named_and_keeps_the_gate_open(
    desk: Desk, told: dict[str, Any], named: str
) -> None:
    code, said = desk.gate(desk.made("int8", most, **told))
    assert (code, said["result"]["call"], said["result"]["tier"]) == (0, "unknown", "DRAFT")
    assert named in said["result"]["reason"] and any(named in w for w in said["warnings"])
    run = Path(said["result"]["run"])
    assert desk.ask("verify", str(run))[0] == 0
    code, worse = desk.gate(desk.made("nvfp4", losing(0.25), **told))
    assert (code, worse["result"]["call"]) == (1, "fail")  # a loss that is shown is one


def test_the_same_said_otherwise_passes(desk: Desk) -> None:
    again = {"asked_by": other(eos_token_id=[2], temperature=1.0, transformers_version="5.14.1")}
    assert desk.gate(desk.made("int8", most, **again))[1]["result"]["call"] == "pass"


def test_a_chat_template_in_the_record_is_the_one_of_its_digest(desk: Desk) -> None:
    name = desk.made("int8", most)
    path = desk.space / name / "evaluation.json"
    path.write_text(path.read_text().replace("{{ messages }}", "{{ others }}"))
    code, said = desk.ask("verify", str(desk.space / name))
    assert code == 1 and any("asked_by: the digests" in p for p in said["result"]["problems"])
    assert desk.gate(name)[0] == 2


def test_what_no_request_could_pin_is_a_doubt_where_a_generation_config_sets_it(desk: Desk) -> None:
    loose = {"sent": wanted(0.0, 0), "refused": [], "ignored": ["presence_penalty", "top_k"]}
    _, said = desk.gate(desk.made("int8", most, pins=loose))
    assert (said["result"]["call"], said["result"]["tier"]) == ("pass", "VERDICT")
    set_there = {"asked_by": other(presence_penalty=0.5, top_k=20), "pins": loose}
    base = desk.made("b2", most, **set_there)
    _, said = desk.gate(desk.made("c2", most, **set_there), base=base)
    assert (said["result"]["call"], said["result"]["tier"]) == ("pass", "DRAFT")
    assert any("the server of the base decides itself on presence_penalty" in d for d in said["result"]["doubts"])
    assert not any("top_k" in d for d in said["result"]["doubts"])  # nothing is drawn at temperature 0


def test_a_gate_on_some_of_the_questions_says_which(desk: Desk) -> None:
    base, other_side = (desk.made(n, most, tasks={"sums": 480}, of=1319) for n in ("b", "c"))
    _, said = desk.gate(other_side, base=base)
    line = "sums: the first 480 of 1319 questions, in the order of its data"
    assert said["result"]["limited"] == [line] and any(line in w for w in said["warnings"])
    assert desk.gate(desk.made("whole", most))[1]["result"]["limited"] == []


def test_a_run_by_another_worker_was_not_asked_the_same(desk: Desk) -> None:
    code, said = desk.gate(desk.made("int8", most, worker_sha256="00" * 32))
    assert code == 2 and "worker_sha256" in said["error"]["message"]
