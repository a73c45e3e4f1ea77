"""What two model folders say of how they are asked: what is the same in other words, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evals.conversation import Conversation, conversation_of, differences, read_conversation

CONFIG = {"eos_token_id": 2}


def folder(
    place: Path, generation: Any = None, tokenizer: Any = None, config: Any = None, **files: str
) -> Conversation:
    place.mkdir(exist_ok=True)
    told = {
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer,
        "config.json": CONFIG if config is None else config,
    }
    for name, value in told.items():
        if value is not None:
            (place / name).write_text(json.dumps(value))
    for name, text in files.items():
        (place / name.replace("__", "/").replace("_jinja", ".jinja")).write_text(text)
    found = read_conversation(place)
    assert found is not None
    return found


def between(tmp_path: Path, one: Any, two: Any) -> list[str]:
    return list(differences(folder(tmp_path / "one", one), folder(tmp_path / "two", two)))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (None, {}), (None, {"eos_token_id": 2}), ({"eos_token_id": 2}, {"eos_token_id": [2]}),
        ({"eos_token_id": [3, 2]}, {"eos_token_id": [2, 3, 3]}),
        ({"top_p": 1}, {"temperature": 1.0, "repetition_penalty": 1}), ({"top_k": 20}, {"top_k": 20.0}),
        ({"transformers_version": "4.51"}, {"transformers_version": "5.14", "_from_model_config": True, "pad_token_id": 0}),
        ({"do_sample": False}, {"do_sample": None, "max_new_tokens": None}), ({"temperature": 0.6}, {"temperature": 0.60}),
    ],
)  # fmt: skip
def test_the_same_said_otherwise_is_the_same(tmp_path: Path, one: Any, two: Any) -> None:
    assert between(tmp_path, one, two) == []


@pytest.mark.parametrize(
    ("one", "two", "named"),
    [
        ({"repetition_penalty": 1.05}, {}, "repetition_penalty 1.05 in the base, not set in the candidate"),
        ({"temperature": 0.6}, {"temperature": 0.7}, "temperature 0.6 in the base, 0.7 in the candidate"),
        ({"eos_token_id": [2, 3]}, None, "eos_token_id [2, 3] in the base, [2] in the candidate"),
        ({"top_k": 50}, {}, "top_k 50 in the base"), ({"do_sample": True}, {"do_sample": False}, "do_sample True"),
        ({"suppress_tokens": [5]}, {"suppress_tokens": [6]}, "suppress_tokens"), ({"stop_strings": ["a"]}, {}, "stop_strings"),
        ({"no_repeat_ngram_size": 3}, {"no_repeat_ngram_size": 0}, "no_repeat_ngram_size 3 in the base"), ({"min_p": 0.05}, {}, "min_p"),
        ({"forced_eos_token_id": 2}, {}, "forced_eos_token_id"), ({"bad_words_ids": [[7]]}, {}, "bad_words_ids"),
        ({"temperature": "0.6"}, {"temperature": 0.6}, "temperature '0.6'"), ({"a_later_field": 1}, {}, "a_later_field"),
        ({"sequence_bias": 9007199254740993}, {"sequence_bias": 9007199254740992}, "sequence_bias"),
        ({"max_new_tokens": 2048}, {"max_new_tokens": 32}, "max_new_tokens"),
    ],
)  # fmt: skip
def test_what_may_change_an_answer_is_named_with_both_values(tmp_path: Path, one: Any, two: Any, named: str) -> None:
    (line,) = between(tmp_path, one, two)
    assert line.startswith("generation_config: ") and named in line
    assert len(between(tmp_path / "back", two, one) if (tmp_path / "back").mkdir() is None else ()) == 1


def test_ends_of_an_answer_come_from_config_json_where_the_generation_config_has_none(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"top_p": 1.0}, config={"text_config": {"eos_token_id": [1, 106]}})
    two = folder(tmp_path / "two", {"eos_token_id": [106, 1]}, config={})
    assert list(differences(one, two)) == []
    assert list(differences(one, folder(tmp_path / "three", None, config={"eos_token_id": 1})))


def test_a_template_is_the_same_wherever_it_lies_and_whatever_ends_its_lines(tmp_path: Path) -> None:
    text = "{% for m in messages %}{{ bos_token }}{{ m.content }}\n{% endfor %}\n"
    inside = folder(tmp_path / "a", tokenizer={"chat_template": text, "bos_token": "<s>"})
    beside = folder(
        tmp_path / "b", tokenizer={"bos_token": {"content": "<s>"}}, chat_template_jinja=text[:-1].replace("\n", "\r\n")
    )
    named = folder(
        tmp_path / "c", tokenizer={"chat_template": [{"name": "default", "template": text}], "bos_token": "<s>"}
    )
    assert list(differences(inside, beside)) == list(differences(inside, named)) == []
    assert inside.template_sha256 == beside.template_sha256 == named.template_sha256


def test_another_template_a_missing_one_one_more_and_another_token_are_named(tmp_path: Path) -> None:
    base = folder(tmp_path / "a", tokenizer={"chat_template": "{{ bos_token }}x", "bos_token": "<s>", "pad_token": "a"})
    for name, told, said in (
        ("space", {"chat_template": "{{ bos_token }} x", "bos_token": "<s>"}, "chat template 'default': 16 characters"),
        ("none", {"bos_token": "<s>"}, "none in the candidate"),
        ("token", {"chat_template": "{{ bos_token }}x", "bos_token": "[BOS]"}, "bos_token '<s>' in the base, '[BOS]'"),
    ):
        assert said in " ".join(differences(base, folder(tmp_path / name, tokenizer=told))), name
    (tmp_path / "more/additional_chat_templates").mkdir(parents=True)
    more = folder(
        tmp_path / "more", tokenizer={"chat_template": "{{ bos_token }}x", "bos_token": "<s>", "pad_token": "b"},
        additional_chat_templates__tool_jinja="t",
    )  # fmt: skip
    (line,) = differences(base, more)
    assert "chat template 'tool'" in line
    assert list(differences(base, base)) == []


def test_a_template_given_to_the_server_stands_in_the_folders_place(tmp_path: Path) -> None:
    base = folder(tmp_path / "a", tokenizer={"chat_template": "x"})
    (tmp_path / "own.jinja").write_text("y")
    given = read_conversation(tmp_path / "a", str(tmp_path / "own.jinja"))
    assert given is not None and dict(given.templates) == {"default": "y"} and len(list(differences(base, given))) == 1
    named = read_conversation(tmp_path / "a", "chatml")
    assert named is not None and dict(named.templates) == {"default": "chatml"}
    assert read_conversation(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("generation_config.json", "{"), ("generation_config.json", "[]"), ("generation_config.json", '{"top_p": NaN}'),
        ("generation_config.json", '{"top_p": 1.0, "top_p": 0.5}'), ("tokenizer_config.json", '{"chat_template": 7}'),
        ("tokenizer_config.json", '{"chat_template": "\\ud800"}'),
    ],
)  # fmt: skip
def test_a_file_that_reads_two_ways_or_none_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(WrongUse):
        read_conversation(tmp_path)


def test_a_record_whose_digest_is_not_that_of_its_text_is_no_record(tmp_path: Path) -> None:
    found = folder(tmp_path / "a", {"temperature": 0.6}, tokenizer={"chat_template": "x"})
    raw = json.loads(json.dumps(found.to_json()))
    assert conversation_of(raw) == found
    for change in (
        {"templates": {"default": "y"}},
        {"generation": {"temperature": 0.7}},
        {"template_sha256": "0" * 64},
        {"more": 1},
    ):
        with pytest.raises(ValueError, match="digests"):
            conversation_of({**raw, **change})
