"""The journal: appended, chained, torn and tampered with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evidence.journal import Journal, read_journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "journal.jsonl")
    for i in range(5):
        made.append("note", float(i), n=i)
    return made


def test_events_come_back_in_order(journal: Journal) -> None:
    assert [e.data["n"] for e in read_journal(journal.path).events] == [0, 1, 2, 3, 4]


def test_a_torn_last_line_is_dropped_and_overwritten(journal: Journal) -> None:
    whole = journal.path.read_bytes()
    for cut in range(1, 60, 7):
        journal.path.write_bytes(whole[:-cut])
        again = Journal(journal.path)
        assert len(again.events) == 4
        again.append("note", 9.0, n=9)
        assert [e.data["n"] for e in read_journal(journal.path).events] == [0, 1, 2, 3, 9]


@pytest.mark.parametrize("spoil", ["edit", "drop", "swap", "double"])
def test_damage_in_the_middle_is_named_and_what_is_before_it_is_kept(journal: Journal, spoil: str) -> None:
    lines = journal.path.read_bytes().splitlines(keepends=True)
    spoiled = {
        "edit": [*lines[:2], lines[2].replace(b'"n":2', b'"n":7'), *lines[3:]],
        "drop": lines[:2] + lines[3:],
        "swap": [lines[0], lines[1], lines[3], lines[2], lines[4]],
        "double": [*lines[:2], lines[1], *lines[2:]],
    }[spoil]
    journal.path.write_bytes(b"".join(spoiled))
    reading = read_journal(journal.path)
    assert "line 3" in reading.problem and len(reading.events) == 2
    with pytest.raises(Corrupted, match="line 3"):
        Journal(journal.path)


def test_an_edit_with_its_own_hash_fixed_still_breaks_the_chain(journal: Journal) -> None:
    from profile_and_optimize.core.names import canonical, digest

    lines = journal.path.read_bytes().splitlines()
    row = json.loads(lines[1])
    row["data"]["n"] = 77
    row["hash"] = digest(canonical({k: row[k] for k in ("seq", "at", "kind", "data", "prev")}))
    journal.path.write_bytes(b"\n".join([lines[0], canonical(row), *lines[2:]]) + b"\n")
    assert "line 3" in read_journal(journal.path).problem


def test_small_numbers_wide_integers_and_any_text_come_back_as_they_were(tmp_path: Path) -> None:
    made = Journal(tmp_path / "journal.jsonl")
    data = {"x": 1e-5, "y": 1e16, "seed": 2**70, "t": 'a "hash":"b", \u00e4\u2028 \x7f', "hash": "c"}
    made.append("note", 1.5, **data)
    assert read_journal(made.path).events == tuple(made.events) and made.events[0].data == data


@pytest.mark.parametrize("line", [
    b"[" * 50_000, b"[]", b"{}", b'{"hash":5}', b'"text"', b"\xff\xfe", b'{"a":NaN}',
    b'{"at":0,"data":[],"hash":"0","kind":"x","prev":"' + b"0" * 64 + b'","seq":0}',
])  # fmt: skip
def test_a_hostile_line_is_a_problem_and_not_a_crash(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(line + b"\n")
    assert "line 1" in read_journal(tmp_path / "journal.jsonl").problem


def test_a_journal_that_is_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe")
    assert (
        "a link" in read_journal(tmp_path / "link").problem
        and "not a plain file" in read_journal(tmp_path / "pipe").problem
    )


def spoiled_and_hashed(journal: Journal, **changes: object) -> str:
    from profile_and_optimize.core.names import canonical, digest

    row = {**json.loads(journal.path.read_bytes().splitlines()[0]), **changes}
    row["hash"] = digest(canonical({k: v for k, v in row.items() if k != "hash"}))
    journal.path.write_bytes(canonical(row) + b"\n")
    return read_journal(journal.path).problem


def test_an_event_of_another_shape_is_refused_though_its_hash_is_right(journal: Journal) -> None:
    assert spoiled_and_hashed(journal) == ""
    for changes in ({"extra": 1}, {"data": [1]}, {"kind": 5}, {"at": "now"}, {"at": True}, {"seq": 1}, {"seq": "0"}):
        assert "line 1" in spoiled_and_hashed(journal, **changes)
