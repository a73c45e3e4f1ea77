"""Scores by hand: Clopper-Pearson of 9 in 10, Student-t of means, and lines that are no sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evals.samples import Sample, by_task, encode_samples, questions_digest, read_samples, scored


def sample(number: int, *scores: float, task: str = "t") -> Sample:
    return Sample(task, f"q{number}", scores, "7", tuple("7" if s else "8" for s in scores))


def test_nine_right_of_ten_have_the_textbook_interval() -> None:
    found = scored([sample(i, float(i > 0)) for i in range(10)])
    assert found is not None and (found.n, found.score) == (10, 0.9)
    # R: binom.test(9, 10)
    assert (found.lower, found.upper) == (pytest.approx(0.5549839, abs=1e-6), pytest.approx(0.9974714, abs=1e-6))


def test_questions_answered_half_right_have_a_t_interval_over_their_means() -> None:
    found = scored([sample(0, 1.0, 0.0), sample(1, 1.0, 1.0), sample(2, 0.0, 1.0), sample(3, 1.0, 1.0)])
    # Means .5 1 .5 1: mean .75, sd .288675, t(.975, 3) = 3.182446, half width .459346.
    assert found is not None and found.score == 0.75
    assert (found.lower, found.upper) == (pytest.approx(0.290654, abs=1e-5), 1.0)


def test_no_question_has_no_score_and_one_that_is_half_right_no_interval() -> None:
    assert scored([]) is None
    found = scored([sample(0, 1.0, 0.0)])
    assert found is not None and (found.score, found.lower, found.upper) == (0.5, None, None)


def test_several_samples_that_agree_are_no_reason_for_an_interval_of_width_nothing() -> None:
    found = scored([sample(i, 1.0, 1.0, 1.0) for i in range(5)])
    assert found is not None and found.score == 1.0 and found.lower == pytest.approx(0.4781763, abs=1e-6)


def test_lines_read_back_as_they_were(tmp_path: Path) -> None:
    samples = (sample(1, 1.0), sample(2, 0.0, 1.0, task="é\u2028"))
    (tmp_path / "s.jsonl").write_bytes(encode_samples(samples))
    assert read_samples(tmp_path / "s.jsonl") == samples
    assert list(by_task(samples)) == ["t", "é\u2028"]


@pytest.mark.parametrize(
    "change",
    [{"scores": [2]}, {"scores": [True]}, {"scores": []}, {"scores": [1, 1]}, {"said": [7]}, {"expected": 7}, {"more": 1}],
)  # fmt: skip
def test_what_is_no_sample_is_named_with_its_line(tmp_path: Path, change: dict[str, object]) -> None:
    good = sample(1, 1.0).to_json()
    (tmp_path / "s.jsonl").write_text(json.dumps(good) + "\n" + json.dumps({**good, "id": "q2", **change}) + "\n")
    with pytest.raises(Corrupted) as e:
        read_samples(tmp_path / "s.jsonl")
    assert e.value.where.endswith("s.jsonl:2")


def test_a_question_that_stands_twice_is_refused_and_so_counted_once(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_bytes(encode_samples([sample(1, 1.0), sample(1, 0.0)]))
    with pytest.raises(Corrupted, match="twice"):
        read_samples(tmp_path / "s.jsonl")


def test_the_digest_of_questions_is_that_of_what_was_asked_and_not_of_the_answers() -> None:
    right, wrong = [sample(i, 1.0) for i in range(3)], [sample(i, 0.0) for i in range(3)]
    assert questions_digest(right) == questions_digest(wrong) != questions_digest(right[::-1])
