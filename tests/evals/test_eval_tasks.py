"""What --tasks and --data may name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evals.tasks import DEMO_END, demo, wanted_tasks


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "My Questions.jsonl"
    path.write_text("".join(json.dumps({"question": f"{i}?", "answer": str(i)}) + "\n" for i in range(3)))
    return path


def test_names_files_and_the_demo_stand_side_by_side(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("task: own\n")
    found = wanted_tasks(f"gsm8k, {plain},{tmp_path / 'own.yaml'},demo", {}, chat=True)
    assert [w.name for w in found] == ["gsm8k", "my-questions", "own", "demo"]
    assert [w.needs_hub for w in found] == [True, False, True, False]
    assert found[1].questions[2].answer == "2" and found[2].load.endswith("own.yaml")


def test_the_plain_name_of_gpqa_means_one_of_its_forms() -> None:
    assert wanted_tasks("gpqa_diamond", {}, chat=True)[0].load == "gpqa_diamond_cot_zeroshot"


def test_the_demo_asks_2000_questions_in_the_words_it_was_trained_on() -> None:
    bare, chat = demo(chat=False), demo(chat=True)
    assert len(bare.questions) == len(chat.questions) == 2000
    assert bare.format.replace("{question}", "bob?") == "<|user|>bob?<|end|><|assistant|>" and bare.until == (DEMO_END,)
    assert chat.format == "{question}" and chat.until == ()


def test_without_a_template_an_answer_of_one_line_ends_with_it_and_one_of_several_does_not(plain: Path) -> None:
    assert wanted_tasks(str(plain), {}, chat=False)[0].until == ("\n",)
    assert wanted_tasks(str(plain), {}, chat=True)[0].until == ()
    plain.write_text(json.dumps({"question": "a poem?", "answer": "one\ntwo"}) + "\n")
    assert wanted_tasks(str(plain), {}, chat=False)[0].until == ()


def test_local_data_is_one_file_or_a_file_per_split(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gsm"
    folder.mkdir()
    for split in ("test", "train"):
        (folder / f"{split}.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    one, several = wanted_tasks("gsm8k,arc_easy", {"gsm8k": str(plain), "arc_easy": str(folder)}, chat=False)
    assert [split for split, _ in one.splits] == [""] and not one.needs_hub
    assert [split for split, _ in several.splits] == ["test", "train"]


@pytest.mark.parametrize(
    ("tasks", "data", "said"),
    [
        ("", {}, "no task"), ("gsm8k,gsm8k", {}, "twice"), ("--help", {}, "is not a task"), ("a b", {}, "is not a task"),
        ("missing.jsonl", {}, "cannot read"), ("missing.yaml", {}, "cannot read"), ("gsm8k", {"gsm": "x"}, "not in --tasks"),
        ("gsm8k", {"gsm8k": "missing.jsonl"}, "cannot read"), ("demo", {"demo": "x.jsonl"}, "its own questions"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said(tasks: str, data: dict[str, str], said: str) -> None:
    with pytest.raises(WrongUse, match=said):
        wanted_tasks(tasks, data, chat=False)


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    for line in (
        "[2]",
        "",
        '{"a": 1}',
        '{"a": 2, "a": 3}',
        '{"question": "q", "answer": null}',
        '{"answer": " "}',
        '{"target": ""}',
    ):
        (tmp_path / "d.jsonl").write_text(f'{{"a": 1}}\n{line}\n')
        with pytest.raises(WrongUse) as e:
            wanted_tasks("gsm8k", {"gsm8k": str(tmp_path / "d.jsonl")}, chat=False)
        assert e.value.where.endswith("d.jsonl:2"), line
