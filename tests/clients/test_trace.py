"""Traces: what is shared is literally shared, sessions keep their order, and a hostile line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profile_and_optimize.clients.prompts import Calibration, PromptMaker, load_tokenizer
from profile_and_optimize.clients.trace import MOST_TOKENS, Trace, check_size, read_trace
from profile_and_optimize.core.errors import WrongUse

DEMO = Path(__file__).parents[2] / "demo/model"
MS = 1_000_000


def trace_of(folder: Path, *lines: dict[str, object] | str) -> Trace:
    path = folder / "trace.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return read_trace(path)


def plain(at: float = 0, **more: object) -> dict[str, object]:
    return {"timestamp": at, "input_length": 20, "output_length": 4, **more}


@pytest.fixture(scope="module")
def maker() -> PromptMaker:
    """Exact, with a template of six tokens."""
    return PromptMaker(load_tokenizer(str(DEMO)), Calibration(6.0, exact=True))


def length(maker: PromptMaker, prompt: str) -> int:
    assert maker.tokenizer is not None
    return len(maker.tokenizer.encode(prompt, add_special_tokens=False).ids) + 6


def shared(a: str, b: str) -> int:
    """Leading words that two prompts have in common."""
    pairs = zip(a.split(), b.split(), strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a.split()), len(b.split())))


def test_milliseconds_and_seconds_are_told_by_the_key_and_count_from_the_first_line(tmp_path: Path) -> None:
    assert [t.at_ns for t in trace_of(tmp_path, plain(1000), plain(1250.5)).turns] == [0, 250_500_000]
    seconds = [{"timestamp_s": s, "input_length": 9, "output_length": 1} for s in (7, 7.5)]
    assert [t.at_ns for t in trace_of(tmp_path, *seconds).turns] == [0, 500_000_000]


def test_the_lines_of_the_page_on_open_loops_are_traces(tmp_path: Path) -> None:
    page = (DEMO.parents[1] / "docs/open-loop.md").read_text().splitlines()
    lines = [line.strip() for line in page if line.startswith('    {"timestamp')]
    found = trace_of(tmp_path, *lines)
    assert [t.at_ns // MS for t in found.turns] == [0, 750, 1500, 1600, 1700]
    assert (found.turns[2].session, found.turns[2].think_ns, len(found.turns[4].pieces)) == ("a", 500 * MS, 14)


def test_speed_divides_times_and_thought(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, plain(0, session="a"), plain(500, session="b"), plain(800, session="a", think_ms=60))
    found = trace.schedule(2.0)
    assert found.at_ns == (0, 250 * MS, 400 * MS)
    assert (found.after, found.think_ns) == ((None, None, 0), (0, 0, 30 * MS))
    assert (found.arrival, found.request_rate) == ("replay", pytest.approx(2 / 0.4))


def test_a_trace_without_sessions_waits_for_nothing(tmp_path: Path) -> None:
    assert trace_of(tmp_path, plain(0), plain(5)).schedule(1.0).after == ()


def test_mooncake_blocks_that_are_shared_are_the_same_text_and_others_are_not(
    tmp_path: Path, maker: PromptMaker
) -> None:
    """Blocks of 512 tokens: the first two prompts share two blocks, the third one block with them, the fourth none."""
    lines = [
        {"timestamp": 0, "input_length": 1200, "output_length": 5, "hash_ids": [1, 2, 3]},
        {"timestamp": 1, "input_length": 1500, "output_length": 5, "hash_ids": [1, 2, 4]},
        {"timestamp": 2, "input_length": 1024, "output_length": 5, "hash_ids": [1, 5]},
        {"timestamp": 3, "input_length": 700, "output_length": 5, "hash_ids": [6, 7]},
    ]
    a, b, c, d = trace_of(tmp_path, *lines).prompts(maker, "seed")
    assert [length(maker, p) for p in (a, b, c, d)] == [1200, 1500, 1024, 700]
    # The demo tokenizer's words are one token each, so that blocks are 512 words.
    assert 1024 <= shared(a, b) < 1040
    assert 512 <= shared(a, c) < 528 and shared(b, c) == shared(a, c)
    assert shared(a, d) < 16


def test_equal_blocks_and_lengths_are_equal_prompts_and_another_seed_gives_others(
    tmp_path: Path, maker: PromptMaker
) -> None:
    line = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
    trace = trace_of(tmp_path, line, {**line, "timestamp": 9})
    one, two = trace.prompts(maker, "seed")
    assert one == two
    assert trace.prompts(maker, "other")[0] != one


def hashed(isl: int, ids: int) -> dict[str, object]:
    return {"timestamp": 0, "input_length": isl, "output_length": 5, "hash_ids": list(range(ids))}


@pytest.mark.parametrize(("lines", "size"), [
    ([(3000, 3), (5200, 6), (2100, 3)], 1024),  # 1000 to 1049 tokens fit all three
    ([(6758, 14)], 512), ([(1200, 3), (700, 2)], 512),
    ([(20, 2)], 16), ([(100, 2)], 64), ([(900, 3), (899, 3), (901, 4)], 300), ([(40, 3), (8, 1)], 16),
])  # fmt: skip
def test_the_size_of_a_hash_block_is_read_from_all_lines(
    tmp_path: Path, lines: list[tuple[int, int]], size: int
) -> None:
    assert trace_of(tmp_path, *(hashed(*line) for line in lines)).block_tokens == size


@pytest.mark.parametrize(("lines", "asked", "said"), [
    ([(700, 1)], None, "700 tokens and more fit all"),
    ([(3000, 3), (1024, 2)], None, "1000 to 1023 tokens fit"), ([(3000, 3), (900, 2)], None, "no size fits both"),
    ([(3000, 3)], 512, "3 hash_ids for 3000 tokens; in blocks of 512 (as asked) there are 6"),
    ([(5, 4)], None, "no size fits both"),
    ([(3000, 6), (2100, 3)], 512, "there are 5"),
])  # fmt: skip
def test_a_size_that_is_not_known_or_not_kept_is_refused(
    tmp_path: Path, lines: list[tuple[int, int]], asked: int | None, said: str
) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(json.dumps(hashed(*line)) for line in lines))
    with pytest.raises(WrongUse) as e:
        read_trace(path, blocks_of=asked)
    assert said in e.value.message


def test_an_asked_size_settles_what_the_lines_leave_open(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(hashed(700, 1)))
    assert read_trace(path, blocks_of=1024).turns[0].pieces == (("block 0", 1024),)
    path.write_text(json.dumps(plain()))
    with pytest.raises(WrongUse, match="no hash_ids"):
        read_trace(path, blocks_of=1024)


def test_a_shorter_shared_prefix_begins_a_longer_one(tmp_path: Path, maker: PromptMaker) -> None:
    """So a session's growing history can be written down: each turn's prompt begins with the turn before it."""
    lines = [
        plain(i, input_length=n, shared_prefix={"id": "chat", "length": n - 40}) for i, n in enumerate((140, 240, 340))
    ]
    a, b, c = trace_of(tmp_path, *lines).prompts(maker, "seed")
    assert [length(maker, p) for p in (a, b, c)] == [140, 240, 340]
    assert 100 <= shared(a, b) < 110 and 200 <= shared(b, c) < 210 and shared(a, c) == shared(a, b)


def test_texts_of_the_trace_are_sent_as_they_are(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, {"timestamp": 0, "prompt": "Hello  there", "output_length": 3})
    assert trace.prompts(None, "seed") == ("Hello  there",)
    assert not trace.needs_maker


def test_without_a_tokenizer_words_take_the_place_of_tokens(tmp_path: Path) -> None:
    made = PromptMaker(None, Calibration(4.0, 2.0))
    lines = [plain(i, input_length=604, shared_prefix={"id": 1, "length": 300}) for i in range(2)]
    a, b = trace_of(tmp_path, *lines).prompts(made, "seed")
    assert len(a.split()) == len(b.split()) == 300
    assert 150 <= shared(a, b) < 160


def test_the_first_requests_or_seconds_can_be_taken(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, *(plain(1000 * i) for i in range(5)))
    assert len(trace.first(count=2, seconds=None).turns) == 2
    assert len(trace.first(count=None, seconds=2.0).turns) == 3


BAD = [
    ("{", "not JSON"),
    ("[1]", "not a JSON object"),
    ("[" * 100_000, "not JSON"),
    (json.dumps(plain(-1)), "timestamp is -1"),
    ('{"timestamp": NaN, "input_length": 2, "output_length": 2}', "timestamp is nan"),
    ('{"timestamp": Infinity, "input_length": 2, "output_length": 2}', "timestamp is inf"),
    ('{"timestamp": 1e999, "input_length": 2, "output_length": 2}', "timestamp is inf"),
    (json.dumps(plain(10**400)), "timestamp is 1000"),
    (json.dumps(plain(True)), "timestamp is True"),
    (json.dumps(plain("5")), "timestamp is '5'"),
    (json.dumps({"input_length": 2, "output_length": 2}), "one of timestamp"),
    (json.dumps(plain(0, timestamp_s=0)), "one of timestamp"),
    (json.dumps(plain(input_length=0)), "input_length is 0"),
    (json.dumps(plain(input_length=MOST_TOKENS + 1)), "input_length is 1048577"),
    (json.dumps(plain(input_length=2.5)), "input_length is 2.5"),
    (json.dumps(plain(output_length=10**12)), "output_length is 1000000000000"),
    (json.dumps({"timestamp": 0, "input_length": 5}), "output_length is missing"),
    (json.dumps({"timestamp": 0, "output_length": 5}), "one of prompt"),
    (json.dumps(plain(prompt="x")), "one of prompt"),
    (json.dumps({"timestamp": 0, "prompt": "  ", "output_length": 5}), "prompt is not text"),
    ('{"timestamp": 0, "prompt": "\\ud800", "output_length": 5}', "surrogate"),
    (json.dumps(plain(sesion="a")), "unknown key 'sesion'"),
    (json.dumps(plain(session="")), "session is ''"),
    (json.dumps(plain(session=True)), "session is True"),
    (json.dumps(plain(think_ms=-5)), "think_ms is -5"),
    (json.dumps(plain(think_ms=1e12)), "more than 7 days"),
    (json.dumps(plain(shared_prefix={"id": 1})), "shared_prefix is"),
    (json.dumps(plain(shared_prefix={"id": 1, "length": 21})), "prefix of 21 tokens in a prompt of 20"),
    (json.dumps(plain(hash_ids=[])), "hash_ids is not"),
    (json.dumps(plain(hash_ids=[1, "2"])), "hash_ids is not"),
    (json.dumps(plain(hash_ids=[*range(21)])), "21 hash_ids in a prompt of 20 tokens"),
    (json.dumps(plain(hash_ids=[1], shared_prefix={"id": 1, "length": 2})), "one of them at a time"),
    (json.dumps({"timestamp": 0, "prompt": "x", "output_length": 5, "hash_ids": [1]}), "with input_length"),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=[said[:30] for _, said in BAD])
def test_a_hostile_line_is_named_with_what_is_wrong(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(WrongUse) as caught:
        trace_of(tmp_path, plain(0), "", line)
    assert said in caught.value.message and caught.value.where.endswith("trace.jsonl:3")


def test_times_that_go_back_or_on_for_weeks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="before that of the line above") as caught:
        trace_of(tmp_path, plain(5), plain(9), plain(8))
    assert caught.value.where.endswith(":3")
    with pytest.raises(WrongUse, match="days after the first request"):
        trace_of(tmp_path, plain(0), plain(8 * 86400e3))


def test_a_file_without_a_load_is_refused(tmp_path: Path) -> None:
    for text in (b"", b"\n \n"):
        (tmp_path / "t.jsonl").write_bytes(text)
        with pytest.raises(WrongUse, match="no request in it"):
            read_trace(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WrongUse, match="not JSON"):
        read_trace(tmp_path / "t.jsonl")
    with pytest.raises(WrongUse, match="cannot read"):
        read_trace(tmp_path / "none.jsonl")
    with pytest.raises(WrongUse, match="cannot read"):
        read_trace(tmp_path)
    with pytest.raises(WrongUse, match="one timestamp"):
        trace_of(tmp_path, plain(3), plain(3)).schedule(1.0)


def test_more_prompt_than_fits_is_refused_before_it_is_made(tmp_path: Path) -> None:
    lines = [plain(i, input_length=MOST_TOKENS) for i in range(100)]
    with pytest.raises(WrongUse, match="prompt tokens"):
        check_size(trace_of(tmp_path, *lines))


def test_a_prompt_shorter_than_the_template_names_its_line(tmp_path: Path, maker: PromptMaker) -> None:
    with pytest.raises(WrongUse, match="template") as caught:
        trace_of(tmp_path, plain(0), plain(1, input_length=5)).prompts(maker, "seed")
    assert caught.value.where.endswith(":2")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=4
)  # fmt: skip
NAMES = [
    "timestamp",
    "timestamp_s",
    "prompt",
    "input_length",
    "output_length",
    "session",
    "think_ms",
    "shared_prefix",
    "hash_ids",
]


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), JSON), max_size=3))
def test_any_json_is_a_trace_or_wrong_use(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    try:
        found = trace_of(tmp_path_factory.mktemp("t"), *({**plain(i), **row} for i, row in enumerate(rows)))
    except WrongUse:
        return
    assert len(found.turns) == len(rows)
