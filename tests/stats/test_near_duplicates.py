"""Which questions are nearly the same text, on texts short enough to judge by eye."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_and_optimize.stats.near_duplicates import near_duplicates, words_of

DEMO = Path(__file__).parents[2] / "demo"
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


def text(seed: int, n: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def joined(one: str, two: str) -> bool:
    return near_duplicates([one, two], ["t", "t"]).found == 1


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What is 90 + 7?", "what  is 90+7"),
        ("What is 90 + 7?", "17. What is 90 + 7?"),
        ("What is 90 + 7?", "Question 3: What is 90 + 7?"),
        ("Who wrote “Emma”?", 'Who wrote "Emma"'),
        ("Tom has 5 apples and gives 2 to Ann.", "Read this. Tom has 5 apples and gives 2 to Ann. How many are left?"),
        (text(1, 40) + ". Who?", text(1, 40) + ". Where was it that he went?"),
        (text(2, 60), text(2, 60).replace(text(2, 60).split()[30], "other")),
        ("???", " ??? "),
    ],
)
def test_the_same_question_in_other_clothes_is_found(one: str, two: str) -> None:
    assert joined(one, two) and joined(two, one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What is 90 + 7?", "What is 90 + 8?"),
        ("What is 90 + 7?", "What is 90 - 7?"),
        ("What is 3.5 + 2?", "What is 35 + 2?"),
        ("(2 + 3) * 4", "2 + 3 * 4"),
        ("Repeat: shoe blue", "Repeat: shoe blue grey"),
        ("Capital of France?", "Capital of Spain?"),
        ("ann=5 bob=1 cat=2 dan=5. ann?", "ann=5 bob=1 cat=2 dan=5. bob?"),
        ("東京の人口は何人ですか", "大阪の人口は何人ですか"),
        ("How much is the sum of the two numbers 19 and 23?", "How much is the sum of the two numbers 19 and 24?"),
        (text(3, 29) + " who", text(3, 29) + " " + text(4, 30)),
    ],
)
def test_short_questions_that_differ_in_a_word_are_two(one: str, two: str) -> None:
    assert not joined(one, two) and not joined(two, one)


def test_the_demo_questions_of_four_templates_are_all_alone() -> None:
    rows = [orjson.loads(x) for name in ("heldout.jsonl", "heldout_more.jsonl") for x in (DEMO / name).open()]
    assert near_duplicates([r["question"] for r in rows], [r["kind"] for r in rows]).found == 0


def test_an_instruction_before_every_question_joins_none_and_is_named() -> None:
    rule = text(5, 50)
    found = near_duplicates([f"{rule} {text(100 + i, 12)}" for i in range(40)], ["t"] * 40)
    assert (found.found, found.instructions) == (0, ("t",))
    some = near_duplicates([f"{rule if i < 20 else ''} {text(100 + i, 12)}" for i in range(40)], ["t"] * 40)
    assert (some.found, some.instructions) == (19, ())


def test_chains_are_one_group_and_named_by_its_first() -> None:
    a, b, c = text(6, 30), text(7, 30), text(8, 30)
    assert near_duplicates([f"{a} {b}", f"{b} {c}", f"{c} end", "alone"], ["t"] * 4).groups == (0, 0, 0, 3)


def test_words_are_compared_without_case_spacing_and_sentence_punctuation() -> None:
    assert words_of("12) Is 3.5 > 1,000? \u00abNo\u00bb") == ("is", "3.5", ">", "1,000", "no")
    assert words_of("3.5 is it") == ("3.5", "is", "it")


texts = st.lists(
    st.sampled_from([text(i, n) for i in range(6) for n in (3, 9, 25, 45)]
                    + [text(i, 45)[:-3] + "xy" for i in range(6)] + [f"{text(i, 9)} more" for i in range(6)]),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(texts, st.randoms(use_true_random=False))
def test_the_order_of_questions_does_not_matter(made: list[str], rng: random.Random) -> None:
    order = list(range(len(made)))
    rng.shuffle(order)
    one = near_duplicates(made, ["t"] * len(made)).groups
    two = near_duplicates([made[i] for i in order], ["t"] * len(made)).groups
    together = {(i, j) for i in order for j in order if one[i] == one[j]}
    again = {(order[i], order[j]) for i in range(len(made)) for j in range(len(made)) if two[i] == two[j]}
    assert together == again
