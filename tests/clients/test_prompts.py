"""Prompts of an exact length through a tokenizer, or calibrated on the server's usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from profile_and_optimize.clients.prompts import Calibration, PromptMaker, calibrate, dataset_prompts, load_tokenizer
from profile_and_optimize.core.errors import WrongUse

DEMO = Path(__file__).parents[2] / "demo/model"


@pytest.fixture(scope="module")
def demo() -> Tokenizer:
    return load_tokenizer(str(DEMO))


def letters() -> Tokenizer:
    """One token a character: no word is ever a single token."""
    return Tokenizer(models.WordLevel({c: i for i, c in enumerate(" abcdefghijklmnopqrstuvwxyz?")}, unk_token="?"))


@pytest.mark.parametrize("isl", [1, 2, 16, 96, 500])
def test_every_prompt_has_exactly_the_asked_tokens_and_none_repeats(demo: Tokenizer, isl: int) -> None:
    made = PromptMaker(demo, Calibration(0.0)).make(12, isl + 8, "seed")
    assert {len(demo.encode(p, add_special_tokens=False).ids) for p in made} == {isl + 8}
    assert len(set(made)) == 12


def test_a_tokenizer_without_whole_words_is_met_exactly_too() -> None:
    made_of = letters()
    made_of.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made = PromptMaker(made_of, Calibration(0.0)).make(5, 41, "seed")
    assert {len(made_of.encode(p).ids) for p in made} == {41}


@pytest.mark.parametrize("isl", [1, 7, 60, 333])
def test_joined_pieces_are_of_exactly_the_asked_tokens_whatever_the_tokenizer(demo: Tokenizer, isl: int) -> None:
    by_letter = letters()
    by_letter.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    for tokenizer in (demo, by_letter) if isl > 40 else (demo,):  # its words are three letters and more
        maker = PromptMaker(tokenizer, Calibration(3.0))
        for pieces in ([], [("a", 50)], [("a", 16), ("b", 16), ("c", 16)]):
            made = maker.joined(pieces, isl + 3, "seed")
            assert len(tokenizer.encode(made, add_special_tokens=False).ids) == isl


def test_the_same_seed_gives_the_same_prompts_and_another_other_ones(demo: Tokenizer) -> None:
    maker = PromptMaker(demo, Calibration(4.0))
    assert maker.make(3, 40, "a") == maker.make(3, 40, "a") != maker.make(3, 40, "b")


def test_the_template_is_taken_off_the_prompt(demo: Tokenizer) -> None:
    found = calibrate(demo, lambda prompt: len(demo.encode(prompt, add_special_tokens=False).ids) + 7)
    assert (found.overhead, found.exact) == (7.0, True)
    prompt = PromptMaker(demo, found).make(1, 40, "x")[0]
    assert len(demo.encode(prompt, add_special_tokens=False).ids) == 33


def test_another_tokenizer_than_the_servers_is_found_out(demo: Tokenizer) -> None:
    with pytest.raises(WrongUse, match="another tokenizer"):
        calibrate(demo, lambda prompt: 3 * len(prompt.split()))


def test_without_a_tokenizer_words_are_calibrated_on_usage() -> None:
    found = calibrate(None, lambda prompt: 2 * len(prompt.split()) + 5)
    assert (found.overhead, found.tokens_per_word) == (pytest.approx(5.0), pytest.approx(2.0))
    assert len(PromptMaker(None, found).make(1, 105, "x")[0].split()) == 50


def test_without_usage_the_length_is_unknown_and_that_is_said() -> None:
    with pytest.raises(WrongUse, match="no usage"):
        calibrate(None, lambda prompt: None)


@pytest.mark.parametrize("count", [lambda n: 0, lambda n: 50, lambda n: 200 - n])
def test_usage_that_does_not_follow_the_prompt_is_refused(count) -> None:
    with pytest.raises(WrongUse, match="does not follow"):
        calibrate(None, lambda prompt: count(len(prompt.split())))


def test_slices_of_a_file_are_disjoint(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(9)))
    parts = [dataset_prompts(path, 3, "s", start=i) for i in (0, 3, 6)]
    assert len({p for part in parts for p in part}) == 9


def test_an_isl_below_the_template_is_refused(demo: Tokenizer) -> None:
    with pytest.raises(WrongUse, match="template"):
        PromptMaker(demo, Calibration(20.0)).make(1, 20, "x")


@pytest.mark.parametrize("text", ["", "{}\n", "not json\n", '{"prompt": 5}\n', '["a"]\n'])
def test_a_file_without_prompts_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(WrongUse, match=r"p\.jsonl"):
        dataset_prompts(tmp_path / "p.jsonl", 1, "s")


def test_prompts_of_a_file_do_not_repeat_unless_the_workload_is_warm(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(5)))
    assert sorted(dataset_prompts(path, 5, "s")) == [f"p{i}" for i in range(5)]
    with pytest.raises(WrongUse, match="5 different prompts"):
        dataset_prompts(path, 6, "s")
    assert len(dataset_prompts(path, 12, "s", warm=True)) == 12
