"""Files of recorded conversations: the shapes that are read, and files made to harm, which end with a line that names them."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.workloads import recorded
from profile_and_optimize.workloads.recorded import read_conversations

GOOD = {"conversations": [{"from": "human", "value": " q "}, {"from": "gpt", "value": "a"}]}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps([GOOD]), ("q", "a")),
        ("\ufeff" + json.dumps([GOOD], indent=2), ("q", "a")),
        (json.dumps(GOOD) + "\n\n", ("q", "a")),
        (json.dumps({"messages": [{"role": r, "content": r} for r in ("system", "user", "assistant")]}), ("user", "assistant")),
        ('{"prompt": "alone"}', ("alone",)),
        ('{"conversations": [{"from": "gpt", "value": "x"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}', ("q", "a")),
        ('{"conversations": [{"from": "human", "value": "q"}, {"from": "human", "value": "again"}]}', ("q",)),
        ('{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": ""}]}', ("q",)),
    ],
)  # fmt: skip
def test_the_shapes_that_people_have(text: str, found: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "c").write_text(text)
    assert read_conversations(tmp_path / "c") == (found,)


def test_an_entry_twice_counts_once_and_what_is_no_conversation_is_passed_over(tmp_path: Path) -> None:
    odd = [
        GOOD,
        {"id": 1},
        {"conversations": "text"},
        {"conversations": [1, None]},
        {"prompt": 5},
        {"prompt": "\ud800"},
        GOOD,
    ]
    (tmp_path / "c").write_text(json.dumps(odd))
    assert read_conversations(tmp_path / "c") == (("q", "a"),)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 entries, and none is a conversation"),
        (b"[]", "0 entries, and none"),
        (b"no json", "after 0 entries: not JSON"),
        (json.dumps([GOOD]).encode()[:-5], "after 0 entries: not JSON"),
        (json.dumps([GOOD]).encode()[:-1], "after 1 entries: the array does not end"),
        (json.dumps(GOOD).encode() + b"\nNaN\n", "after 1 entries: NaN"),
        (b'{"prompt": "x", "n": -Infinity}', "-Infinity is not a JSON number"),
        (b'["text"]', "not an object"),
        (b"[" * 200_000, "nested too deeply|not JSON"),
        (b'{"a":' * 200_000, "nested too deeply|not JSON"),
        (b'{"prompt": "x", "n": ' + b"9" * 9000 + b"}", "digit"),
        (b'{"prompt": "\xff\xfe"}', "utf-8"),
        (b"\x00" * 4096, "not JSON"),
    ],
)
def test_hostile_files_end_with_one_line(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(WrongUse, match=words) as e:
        read_conversations(tmp_path / "c")
    assert e.value.where == str(tmp_path / "c") and len(e.value.message) < 300


def test_an_entry_without_end_is_given_up_after_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_ENTRY_CHARS", 100_000)
    monkeypatch.setattr(recorded, "CHUNK", 20_000)
    (tmp_path / "c").write_text('{"prompt": "' + "x" * 1_000_000)
    with pytest.raises(WrongUse, match="does not end within 100000 characters"):
        read_conversations(tmp_path / "c")


def test_pipes_folders_and_what_is_not_there_are_no_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        with pytest.raises(WrongUse, match="cannot read"):
            read_conversations(path)


def test_a_large_array_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 MB, of which the first thousand conversations are kept: never held at once."""
    monkeypatch.setattr(recorded, "MOST_KEPT", 1000)
    with (tmp_path / "c").open("w") as file:
        file.write("[")
        for i in range(2000):
            file.write(("," if i else "") + json.dumps({"pad": "x" * 10_000, "prompt": f"question {i}"}))
        file.write("]")
    tracemalloc.start()
    found = read_conversations(tmp_path / "c")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 1000 and found[-1] == ("question 999",)
    assert peak < 8e6, f"{peak} bytes"


def test_the_same_path_with_other_bytes_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "c").write_text('{"prompt": "one"}')
    assert read_conversations(tmp_path / "c") == (("one",),)
    (tmp_path / "c").write_text('{"prompt": "another"}')
    assert read_conversations(tmp_path / "c") == (("another",),)
