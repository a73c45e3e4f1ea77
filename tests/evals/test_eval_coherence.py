"""What a model that does not answer looks like, and who is to blame for it."""

from __future__ import annotations

import pytest

from profile_and_optimize.evals.base import Shown, TaskRun
from profile_and_optimize.evals.coherence import Blame, blame, degenerate, incoherent
from profile_and_optimize.evals.samples import Sample


def run(answers: list[str], *, right: int, kind: str = "generate_until") -> TaskRun:
    samples = tuple(Sample("t", f"q{i}", (float(i < right),), str(i), (a,)) for i, a in enumerate(answers))
    shown = tuple(Shown("t", f"q{i}", f"{i}?", (a,), f"{i}?") for i, a in enumerate(answers))
    return TaskRun("t", "exact_match", kind, 0, "1", len(answers), samples, shown)


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", True), (" \n", True), ("is is is is is is is is is", True), ("is is is", False), ("42", False),
        ("the cat sat on the mat and the dog on the rug", False),
    ],
)  # fmt: skip
def test_nothing_and_one_word_over_and_over_are_degenerate(text: str, bad: bool) -> None:
    assert degenerate(text) is bad


def test_a_model_that_answers_wrong_now_and_then_is_no_matter_for_the_gate() -> None:
    assert incoherent(run([str(i) for i in range(20)], right=1)) == ""


def test_none_right_of_sixteen_is_and_none_of_fifteen_is_not() -> None:
    assert incoherent(run([f"no {i}" for i in range(16)], right=0)) == "t: 0 of 16 right"
    assert incoherent(run([f"no {i}" for i in range(15)], right=0)) == ""


def test_the_same_answer_to_everything_fails_even_where_it_is_right_once() -> None:
    assert "all 16 answers are the same" in incoherent(run(["7"] * 16, right=1))


def test_more_than_half_degenerate_fails_whatever_is_right() -> None:
    assert "6 of 10 answers" in incoherent(run([""] * 6 + ["1", "2", "3", "4"], right=4))
    assert incoherent(run([""] * 5 + ["1", "2", "3", "4", "5"], right=5)) == ""


def test_choices_by_probability_are_judged_by_right_and_wrong_alone() -> None:
    assert incoherent(run([""] * 10, right=3, kind="multiple_choice")) == ""


def test_the_control_tells_whose_fault_it_is() -> None:
    assert blame(["gsm8k"], None) is Blame.UNKNOWN
    assert blame(["gsm8k"], []) is Blame.MODEL
    assert blame(["gsm8k"], ["gsm8k"]) is Blame.GATE
    assert blame(["gsm8k"], ["another"]) is Blame.MODEL


def test_answers_that_were_all_cut_say_nothing_and_some_of_them_are_not_counted_as_wrong() -> None:
    def cut(n: int, of: int) -> TaskRun:
        samples = tuple(
            Sample("t", f"q{i}", (0.0,), str(i), (f"no {i}",), "", ("length" if i < n else "stop",)) for i in range(of)
        )
        return TaskRun("t", "exact_match", "generate_until", 0, "1", of, samples, ())

    assert incoherent(cut(20, 20)) == "t: every answer was cut at the limit of tokens"
    assert incoherent(cut(5, 20)) == ""  # 15 known ones are too few to conclude from
    assert incoherent(cut(4, 20)) == "t: 0 of 16 right"
