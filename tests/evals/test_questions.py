"""Files of questions: their clusters, and what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.campaign.admit import drawn, labels_of
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evals.exact_match import Question, load_questions

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
    ],
)
def test_a_question_twice_that_contradicts_itself_is_refused(
    tmp_path: Path, again: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "q.jsonl", ONE, {"question": "Who?", "answer": "Ann"}, again)
    with pytest.raises(WrongUse, match=message) as e:
        load_questions(path)
    assert e.value.where == f"{path}:3"
    assert len(load_questions(write(tmp_path / "same.jsonl", ONE, ONE))) == 2


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
