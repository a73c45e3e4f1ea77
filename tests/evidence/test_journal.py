"""The journal: appended, chained, torn and tampered with."""

from __future__ import annotations

import json
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
