"""The accuracy gate with answers that are neither right nor wrong, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.stats.noninferiority import answer
from profile_and_optimize.stats.unfinished import Asked, Known, answer_with_unfinished, sign_test, too_many

RIGHT, WRONG = Known(1.0, 1.0, 1.0, False), Known(0.0, 0.0, 0.0, False)
CUT = Known(None, 0.0, 1.0, True)
HOPELESS = Known(None, 0.0, 0.0, True)  # cut, and begun otherwise than the right answer


def asked(n: int, *others: tuple[Known, Known]) -> list[Asked]:
    """`n` questions that both sides answer right, and these spread evenly among them."""
    sides = [(RIGHT, RIGHT)] * n
    for i, other in enumerate(others):
        sides.insert(i * (n + len(others)) // len(others), other)
    return [Asked("t", b, c) for b, c in sides]


def gate(questions: list[Asked], tolerance: float = 0.01, planned: int | None = None):  # type: ignore[no-untyped-def]
    return answer_with_unfinished(questions, tolerance=tolerance, planned=planned or len(questions))


def test_without_a_cut_answer_it_is_the_gate_to_the_last_digit() -> None:
    questions = asked(480, (RIGHT, WRONG))
    assert gate(questions) == answer([a.seen for a in questions if a.seen], tolerance=0.01, planned=481)
    assert gate(asked(480)).call == "pass"


def test_907_of_1000_cut_on_both_sides_pass_nothing() -> None:
    found = gate(asked(93, *[(CUT, CUT)] * 907))
    assert found.call == "unknown" and found.decided_at is None
    assert "907 of the base, 90.7%, and 907 of the candidate, 90.7%" in found.reason and "1.00%" in found.reason
    assert gate(asked(93, *[(HOPELESS, HOPELESS)] * 907)).call == "unknown"


def test_a_cut_answer_counts_against_the_candidate_for_a_pass_and_for_it_for_a_fail() -> None:
    """3,000 questions without a flip bear a loss of 8 at one point, and not one of 40."""
    assert gate(asked(2992, *[(RIGHT, CUT)] * 2 + [(CUT, RIGHT)] * 2 + [(CUT, CUT)] * 4)).call == "pass"
    found = gate(asked(2960, *[(RIGHT, WRONG)] * 36, *[(CUT, CUT)] * 4))
    assert found.call == "unknown" and found.lower < 0.01 < found.upper
    assert gate(asked(800, *[(RIGHT, WRONG)] * 200)).call == "fail"
    assert gate(asked(800, *[(RIGHT, CUT)] * 200)).call == "unknown"
    assert gate(asked(800, *[(RIGHT, HOPELESS)] * 200)).call == "fail"  # no end could make them right


def test_one_cut_answer_among_480_keeps_one_point_open_unless_it_can_no_longer_be_right() -> None:
    assert gate(asked(479, (CUT, CUT))).call == "unknown"
    assert gate(asked(479, (HOPELESS, HOPELESS))).call == "pass"


def test_one_side_that_is_cut_more_often_keeps_it_open() -> None:
    """6 and 0 of 3,000: both within a point, and 2 / 2^6 = 3.1%."""
    assert gate(asked(2994, *[(HOPELESS, HOPELESS)] * 6)).call == "pass"
    found = gate(asked(2994, *[(HOPELESS, WRONG)] * 6))
    assert found.call == "unknown" and "cut unlike" in found.reason
    assert gate(asked(2994, *[(WRONG, HOPELESS)] * 6)).call == "unknown"


def test_the_share_may_be_the_tolerance_and_no_more() -> None:
    assert too_many(asked(99, (HOPELESS, HOPELESS)), 0.01) == "" != too_many(asked(98, (HOPELESS, HOPELESS)), 0.01)
    assert too_many(asked(0), 0.01) == ""


def test_a_pass_stands_at_the_first_look_at_which_it_may_be_given() -> None:
    """At one of 48 more than a point is cut; at the second look, one of 2,000 planned in tenths, no more."""
    questions = [Asked("t", HOPELESS, HOPELESS), *asked(1999)]
    early = gate(questions, tolerance=0.05)
    late = gate([questions[0], *[replace(a) for a in questions[1:]]], tolerance=0.004)
    assert early.call == "pass" and early.decided_at is not None and early.decided_at < 2000
    assert late.decided_at is None or 1 / late.decided_at <= 0.004


def test_rows_are_those_of_the_questions_that_both_answered() -> None:
    found = gate(asked(90, (RIGHT, WRONG), (WRONG, RIGHT), *[(CUT, RIGHT)] * 8))
    (row,) = found.tasks
    assert (found.n, row.n, row.lost, row.won) == (100, 92, 1, 1)
    nothing = gate([Asked("t", CUT, CUT)] * 20)
    assert (nothing.call, nothing.loss, nothing.tasks) == ("unknown", None, ())


@pytest.mark.parametrize(
    ("one", "two", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (0, 6, 0.03125), (3, 3, 1.0), (8, 1, 0.0390625)]
)
def test_the_sign_test_is_binomial(one: int, two: int, p: float) -> None:
    assert sign_test(one, two) == p
