"""The demo tasks and tokenizer, without torch."""

import json
import random
import re

import jinja2
import pytest
from demo.tasks import (
    HELDOUT,
    KINDS,
    MORE,
    Part,
    Task,
    distinct,
    draw,
    filler,
    heldout,
    more_heldout,
    part_of,
    read_tasks,
)  # fmt: skip
from demo.tokenizer import ALPHABET, MARKERS, build_tokenizer, chat_prompt, is_printable, save_tokenizer
from demo.words import whole_words
from tokenizers.decoders import DecodeStream


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def independent_answer(question: str) -> str:
    """The answer worked out from the question's text alone."""
    if sums := re.fullmatch(r"What is (\d+) ([+-]) (\d+)\?", question):
        first, sign, second = sums.groups()
        return str(int(first) + int(sign + second))
    if words := re.fullmatch(r"Repeat: (.+)", question):
        return words[1]
    pairs, name = re.fullmatch(r"(.+)\. (\w+)\?", question).groups()
    return dict(pair.split("=") for pair in pairs.split())[name]


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_follows_from_its_question(kind):
    rng = random.Random(3)
    for _ in range(200):
        task = draw(rng, kind, Part.TRAINING)
        assert task.answer == independent_answer(task.question) and task.kind == kind


def test_the_independent_answers_are_known_for_four_questions():
    known = {
        "What is 37 + 45?": "82",
        "What is 45 - 37?": "8",
        "Repeat: red fox lamp": "red fox lamp",
        "ann=4 bob=7. bob?": "7",
    }
    assert {question: independent_answer(question) for question in known} == known


def test_training_never_draws_a_heldout_question():
    held = {task.question for task in heldout()}
    trained = {task.question for task in distinct(Part.TRAINING, per_kind=300, seed=1)}
    steering = {task.question for task in distinct(Part.DEVELOPMENT, per_kind=60, seed=7)}
    assert not held & trained and not held & steering and not trained & steering
    assert all(part_of(question) is Part.HELDOUT for question in held)


def test_the_shipped_heldout_file_is_what_the_seed_gives():
    assert read_tasks(HELDOUT) == heldout()


def test_heldout_has_400_questions_or_more_and_as_many_of_each_kind():
    tasks = heldout()
    assert len(tasks) >= 400 and len({task.question for task in tasks}) == len(tasks)
    assert len({sum(task.kind == kind for task in tasks) for kind in KINDS}) == 1


def test_heldout_answers_are_right():
    assert all(
        task == Task(task.question, independent_answer(task.question), task.kind)
        for task in (*read_tasks(HELDOUT), *read_tasks(MORE))
    )


def test_the_further_heldout_questions_are_what_their_seed_gives_and_were_never_trained_on():
    more = read_tasks(MORE)
    assert more == more_heldout() and len(more) + len(heldout()) == 2000
    assert not {task.question for task in more} & {task.question for task in heldout()}
    assert all(part_of(task.question) is Part.HELDOUT for task in more) and len({t.question for t in more}) == len(more)


def test_a_leading_slice_of_the_further_questions_has_the_mix_of_them_all():
    more = more_heldout()
    for kind in KINDS:
        share = sum(task.kind == kind for task in more) / len(more)
        assert abs(sum(task.kind == kind for task in more[:380]) / 380 - share) < 0.01


def test_every_word_is_one_token_with_a_space_before_it_and_one_without(tokenizer):
    for word in whole_words():
        for form in (word, " " + word):
            (token,) = tokenizer.encode(form).ids
            assert tokenizer.decode([token], skip_special_tokens=True) == form


def test_n_words_with_a_space_before_each_are_n_tokens(tokenizer):
    words = whole_words()
    assert len(words) >= 200
    for count in (1, 64, 512):
        text = "".join(" " + word for word in random.Random(count).choices(words, k=count))
        ids = tokenizer.encode(text).ids
        assert len(ids) == count and tokenizer.decode(ids) == text


def test_no_token_prints_as_nothing_even_where_special_tokens_are_skipped(tokenizer):
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(tokenizer.get_vocab_size())]
    assert all(is_printable(text) for text in texts) and len(set(texts)) == len(texts)


def test_streaming_gives_text_for_every_token(tokenizer):
    stream = DecodeStream(skip_special_tokens=True)
    for token in range(tokenizer.get_vocab_size()):
        assert stream.step(tokenizer, token) == tokenizer.decode([token])


def test_the_vocabulary_is_the_alphabet_the_words_and_the_markers(tokenizer):
    assert tokenizer.get_vocab_size() == len(ALPHABET) + 2 * len(whole_words()) + len(MARKERS)
    assert 512 <= tokenizer.get_vocab_size() <= 1024


def test_a_number_is_as_many_tokens_as_it_has_digits(tokenizer):
    assert tokenizer.encode("1907").tokens == ["1", "9", "0", "7"]


def test_any_ascii_text_round_trips_and_other_text_reads_as_question_marks(tokenizer):
    text = "".join(ALPHABET) + "Zebra-crossing, 12:30?\n" + filler(random.Random(0), 3)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.decode(tokenizer.encode("caf\u00e9").ids) == "caf?"


def test_no_token_is_added_before_or_after_a_prompt(tokenizer):
    tokens = tokenizer.encode(chat_prompt("What is 37 + 45?")).tokens
    assert tokens[0] == "<|user|>" and tokens[-2:] == ["<|end|>", "<|assistant|>"]


def test_the_tokenizer_files_are_the_same_bytes_every_time(tmp_path):
    for name in ("first", "second"):
        save_tokenizer(tmp_path / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_the_chat_template_renders_what_training_used(tmp_path):
    save_tokenizer(tmp_path)
    template = jinja2.Template(json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"])
    messages = [{"role": "user", "content": "bob?"}]
    assert template.render(messages=messages, add_generation_prompt=True) == chat_prompt("bob?")
