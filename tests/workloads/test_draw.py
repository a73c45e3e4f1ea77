"""Prompts of every kind: exact lengths, none twice, the same from the same seed, and prefixes shared only where declared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from profile_and_optimize.clients.prompts import Calibration, PromptMaker, calibrate, load_tokenizer
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.workload import Workload
from profile_and_optimize.workloads.draw import draw_prompts, samples
from profile_and_optimize.workloads.recorded import digest_file
from profile_and_optimize.workloads.suites import suite

OVERHEAD = 5
MADE = [*suite("demo"), *suite("prefixes")]


@pytest.fixture(scope="module")
def demo() -> Tokenizer:
    return load_tokenizer(str(Path(__file__).parents[2] / "demo/model"))


@pytest.fixture(scope="module")
def maker(demo: Tokenizer) -> PromptMaker:
    return PromptMaker(demo, Calibration(float(OVERHEAD), exact=True))


def counted(demo: Tokenizer, prompt: str) -> int:
    return len(demo.encode(prompt, add_special_tokens=False).ids) + OVERHEAD


@pytest.mark.parametrize("w", MADE, ids=lambda w: w.name)
def test_every_kind_gives_so_many_different_prompts_and_the_same_ones_again(w: Workload, maker: PromptMaker) -> None:
    drawn = draw_prompts(w, maker, 8, 24, "a seed")
    assert len({*drawn.warmup, *drawn.timed}) == 32 and (len(drawn.warmup), len(drawn.timed)) == (8, 24)
    assert drawn == draw_prompts(w, maker, 8, 24, "a seed")
    assert not {*drawn.timed} & {*draw_prompts(w, maker, 8, 24, "another seed").timed}
    assert len(draw_prompts(w, maker, 0, 3, "no warm-up").warmup) == 0


@pytest.mark.parametrize("w", MADE, ids=lambda w: w.name)
def test_lengths_are_those_asked_for_as_the_server_counts(w: Workload, maker: PromptMaker, demo: Tokenizer) -> None:
    drawn = draw_prompts(w, maker, 4, 32, "lengths")
    isls = [counted(demo, p) for p in drawn.timed]
    if w.kind in ("conversations", "multi-turn") or w.isl_least:
        assert max(isls) <= w.isl and len(set(isls)) > 5
    else:
        assert set(isls) == {w.isl}
    assert len(drawn.osls) == (0 if w.one_osl else 32)
    assert all(max(1, w.osl_least) <= osl <= w.osl for osl in drawn.osls)


@pytest.mark.parametrize("isl", [20, 333, 4000])
@pytest.mark.parametrize("text", ["own:verse", "own:code"])
def test_text_is_cut_to_any_length_and_longer_ones_go_round(
    text: str, isl: int, maker: PromptMaker, demo: Tokenizer
) -> None:
    drawn = draw_prompts(Workload("t", isl, 8, text, kind="text"), maker, 0, 3, "s")
    assert {counted(demo, p) for p in drawn.timed} == {isl}
    assert all(p == p.strip() for p in drawn.timed), "a template that trims would change the count"


def test_cold_texts_begin_apart_so_that_a_prefix_cache_finds_nothing(maker: PromptMaker) -> None:
    for w in (w for w in suite("demo") if w.kind in ("text", "conversations")):
        beginnings = {p[:28] for p in draw_prompts(w, maker, 8, 48, "s").timed}
        assert len(beginnings) == 48, w.name


def test_a_later_turn_begins_with_all_that_was_said_before_it_and_comes_after_it(maker: PromptMaker) -> None:
    w = next(w for w in suite("prefixes") if w.kind == "multi-turn")
    timed = draw_prompts(w, maker, 8, 48, "s").timed
    later = [(i, p) for i, p in enumerate(timed) if "\n\nAssistant: " in p]
    assert len(later) >= 24
    for i, prompt in later:
        before = prompt.rpartition("\n\nAssistant: ")[0]
        assert before in timed[:i] and i - timed.index(before) > 4
        assert prompt.rpartition("\n\n")[2].startswith("User: ")


def test_prompts_of_a_group_share_exactly_the_declared_tokens(maker: PromptMaker, demo: Tokenizer) -> None:
    w = Workload("s", 96, 8, kind="shared-prefix", shared=64, groups=2, prefixes=True)
    drawn = draw_prompts(w, maker, 2, 8, "s")
    ids = [demo.encode(p, add_special_tokens=False).ids for p in (*drawn.warmup, *drawn.timed)]
    heads = {tuple(i[:60]) for i in ids}
    assert len(heads) == 2 and len({tuple(i[:75]) for i in ids}) == 10


def test_without_a_tokenizer_each_text_has_its_own_tokens_per_word(demo: Tokenizer) -> None:
    verse, talk = (next(w for w in suite("demo") if w.name == n) for n in ("demo-verse", "demo-conversations"))
    found = calibrate(None, lambda prompt: counted(demo, prompt), samples([verse, talk]))
    assert set(found.texts) == {"demo-verse", "demo-conversations"} and found.texts["demo-verse"] > 1
    guessing = PromptMaker(None, found)
    isls = [counted(demo, p) for p in draw_prompts(verse, guessing, 0, 12, "s").timed]
    assert abs(sum(isls) / 12 - verse.isl) < 0.2 * verse.isl  # rated as random words it would be a half longer
    assert calibrate(None, lambda prompt: counted(demo, prompt)).to_json().keys() == {
        "overhead",
        "tokens_per_word",
        "exact",
    }


def chats(path: Path, count: int, turns: int = 1) -> Path:
    said = [
        [
            {"from": who, "value": f"{who} {i}: " + "some words that say little " * (2 + i % 3)}
            for _ in range(turns)
            for who in ("human", "gpt")
        ]
        for i in range(count)
    ]
    path.write_text(json.dumps([{"id": str(i), "conversations": s} for i, s in enumerate(said)]))
    return path


def test_slices_of_recorded_conversations_are_disjoint_and_answers_give_the_lengths(
    tmp_path: Path, maker: PromptMaker
) -> None:
    w = Workload("c", 128, 64, str(chats(tmp_path / "c.json", 30)), kind="conversations")
    parts = [draw_prompts(w, maker, 2, 8, "s", start) for start in (0, 10, 20)]
    every = [p for d in parts for p in (*d.warmup, *d.timed)]
    assert len(set(every)) == 30 and all(10 < osl <= 64 for d in parts for osl in d.osls)
    with pytest.raises(WrongUse, match="8 needed after 23 others"):
        draw_prompts(w, maker, 2, 8, "s", 21)
    warm = Workload("c", 128, 64, w.dataset, kind="conversations", warm=True)
    assert len(draw_prompts(warm, maker, 2, 8, "s", 95).timed) == 8


def test_what_is_too_long_or_too_short_is_left_out(tmp_path: Path, maker: PromptMaker) -> None:
    path = tmp_path / "c.jsonl"
    rows = [
        ("fine question, is it not?", "fine answer, that it is"),
        ("word " * 500, "long question"),
        ("long answer?", "word " * 500),
        ("hi", "ok"),
    ]
    path.write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n"
            for q, a in rows
        )
    )
    w = Workload("c", 64, 64, str(path), kind="conversations")
    assert draw_prompts(w, maker, 0, 1, "s").timed == ("fine question, is it not?",)
    with pytest.raises(WrongUse, match="1 prompts of 64 and 64 tokens at most, 2 needed"):
        draw_prompts(w, maker, 0, 2, "s")


def test_questions_without_answers_ask_for_the_declared_length(tmp_path: Path, maker: PromptMaker) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question number {i} about things"}) + "\n" for i in range(4)))
    assert draw_prompts(Workload("c", 64, 33, str(path), kind="conversations"), maker, 0, 4, "s").osls == (33,) * 4


@pytest.mark.parametrize("kind", ["conversations", "text", "prompts"])
def test_a_file_that_changed_since_the_plan_was_made_is_found_out(
    kind: str, tmp_path: Path, maker: PromptMaker
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question number {i} about things"}) + "\n" for i in range(9)))
    w = Workload("c", 32, 8, "data.jsonl", kind=kind, file=str(path), sha256=digest_file(path))
    draw_prompts(w, maker, 1, 4, "s")
    path.write_text(path.read_text().replace("things", "thongs"))
    with pytest.raises(Corrupted, match="the plan was made with"):
        draw_prompts(w, maker, 1, 4, "s")


def test_a_workload_whose_lengths_no_conversation_has_ends_with_a_word(maker: PromptMaker) -> None:
    w = Workload("c", 12, 6, "own:conversations", kind="conversations")
    with pytest.raises(WrongUse, match="0 prompts of 12 and 6 tokens at most"):
        draw_prompts(w, maker, 0, 1, "s")
