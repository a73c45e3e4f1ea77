"""Files of questions: their clusters, and what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.campaign.questions import drawn, labels_of
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evals.exact_match import Question, could_be_right, is_unfinished, load_questions

ONE = {"question": "What is 90 + 7?", "answer": "97"}


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_line_may_carry_a_cluster(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl", {**ONE, "cluster": " sums "}, {"question": "Who?", "answer": "Ann", "kind": "who"}
    )
    assert load_questions(path) == (Question(ONE["question"], "97", "", "sums"), Question("Who?", "Ann", "who", ""))


@pytest.mark.parametrize("cluster", ["", "  ", 7, None, ["a"], {}, True])
def test_a_cluster_that_is_no_name_is_refused_with_its_line(tmp_path: Path, cluster: object) -> None:
    path = write(
        tmp_path / "q.jsonl", {**ONE, "cluster": "a"}, {"question": "Who?", "answer": "Ann", "cluster": cluster}
    )
    with pytest.raises(WrongUse, match="cluster must be a name in text") as e:
        load_questions(path)
    assert e.value.where == f"{path}:2"


@pytest.mark.parametrize(
    ("again", "message"),
    [
        ({**ONE, "answer": "98"}, "the question of line 1 again, with another answer"),
        ({**ONE, "answer": "98", "kind": "other"}, "another answer"),
        ({**ONE, "cluster": "b"}, "another cluster"),
        (ONE, "which would count as two"),
        ({**ONE, "question": f" {ONE['question']}\n", "kind": "other"}, "count as two"),
    ],
)
def test_a_question_twice_that_contradicts_itself_is_refused(
    tmp_path: Path, again: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "q.jsonl", ONE, {"question": "Who?", "answer": "Ann"}, again)
    with pytest.raises(WrongUse, match=message) as e:
        load_questions(path)
    assert e.value.where == f"{path}:3"


BAD = {
    '{"question": "Who?", "answer": ""}': "the answer is empty",
    '{"question": "Who?", "answer": " \\n\\u00a0"}': "the answer is empty",
    '{"question": "Who?", "answer": null}': "the answer must be a text, got null",
    '{"question": "Who?", "answer": ["Ann", "Anna"]}': "the answer must be a text, got \\[",
    '{"question": "Who?", "answer": {"text": "Ann"}}': "must be a text",
    '{"question": "How many?", "answer": 4}': "the answer must be a text, got 4",
    '{"question": "Really?", "answer": true}': "must be a text, got true",
    '{"question": "Who?", "answer": "..."}': "no letter, digit or symbol",
    '{"question": "Who?", "answer": "\\u200b\\ufeff"}': "no letter, digit or symbol",
    '{"question": "Who?", "answer": "\\u3164"}': "no letter, digit or symbol",
    '{"question": "Who?", "answer": "\\u0000"}': "no letter, digit or symbol",
    '{"question": "Who?", "answer": "\\u2013 \\u2014"}': "no letter, digit or symbol",
    '{"question": "Who?", "answer": "\\ud800"}': "not a JSON object",
    '{"question": "", "answer": "Ann"}': "the question is empty",
    '{"question": "???", "answer": "Ann"}': "the question has no letter",
    '{"question": ["Who?"], "answer": "Ann"}': "the question must be a text",
    '{"question": "Who?", "answer": "Ann", "answer": "Bob"}': "'answer' stands twice",
    '{"question": "Who?", "anwser": "Ann"}': "it has no 'answer'",
    '{"answer": "Ann"}': "it has no 'question'",
    '{"question": "Who?", "answer": "Ann", "kind": 7}': "kind must be a name",
    '{"question": "Who?", "answer": "Ann", "task": "a", "kind": "b"}': "gives both",
    '["Who?", "Ann"]': "not an object",
    '{"question": "Who?", "answer": NaN}': "not a JSON object",
    "": "an empty line",
    "Who?": "not a JSON object",
}


@pytest.mark.parametrize("line", BAD, ids=[line[:60] for line in BAD])
def test_a_line_that_cannot_be_asked_or_judged_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f"{json.dumps(ONE)}\n{line}\n{json.dumps({'question': 'Where?', 'answer': 'here'})}\n")
    with pytest.raises(WrongUse, match=BAD[line]) as e:
        load_questions(path)
    assert e.value.where == f"{path}:2"


@pytest.mark.parametrize("answer", ["+", "$5", "-1", "\u03c0", "\u2203", "No.", "\u5317\u4eac", "\U0001f642", " x "])
def test_an_answer_of_a_letter_a_digit_or_a_symbol_is_one(tmp_path: Path, answer: str) -> None:
    assert load_questions(write(tmp_path / "q.jsonl", {"question": "Which?", "answer": answer}))[0].answer == answer


def test_two_questions_may_have_the_same_answer(tmp_path: Path) -> None:
    assert len(load_questions(write(tmp_path / "q.jsonl", ONE, {"question": "What is 96 + 1?", "answer": "97"}))) == 2


def test_a_cut_answer_may_become_right_only_if_it_begins_like_the_expected_one() -> None:
    assert could_be_right(" 9", "97") and could_be_right("", "97") and could_be_right("97", "97")
    assert not could_be_right("The sum of", "97") and not could_be_right("970", "97")


@pytest.mark.parametrize(
    ("finish", "unfinished"),
    [("stop", False), ("length", True), ("", False), ("abort", True), ("content_filter", True)],
)
def test_an_answer_that_the_model_did_not_end_is_unfinished(finish: str, unfinished: bool) -> None:
    assert is_unfinished(finish) is unfinished


def questions(clusters: int, size: int) -> list[Question]:
    return [Question(f"What is {c} + {i}?", "x", "", f"c{c}") for c in range(clusters) for i in range(size)]


def test_a_campaign_asks_cluster_by_cluster_and_cuts_none() -> None:
    asked = drawn(questions(30, 7), most=100)
    assert len(asked) == 105 and len({q.cluster for q in asked}) == 15
    assert all(len({q.cluster for q in asked[i : i + 7]}) == 1 for i in range(0, 105, 7))
    assert drawn(asked[::-1]) == asked


def test_questions_alone_are_asked_in_the_order_they_always_were() -> None:
    """The digests of question 1, 0, 4, 2 and 3 begin with 19, 61, 66, bf and fa."""
    made = [Question(f"question {i}", "x") for i in range(5)]
    assert labels_of(made) == ("",) * 5
    assert "".join(q.question[-1] for q in drawn(made)) == "10423"
