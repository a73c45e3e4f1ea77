"""What a hostile file can do to a reader: nothing but be named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evidence.reading import bulk_json, read_bulk_json, read_bytes, read_json, strict_json

BAD = {
    "not a number": b'{"a":NaN}',
    "infinity": b"[Infinity]",
    "infinity by rounding": b"[1e999]",
    "a key twice": b'{"a":1,"a":2}',
    "a key twice, deeper": b'{"b":[{"a":1,"a":1}]}',
    "the same key, spelled in two ways": b'{"a":1,"\\u0061":2}',
    "nested too deeply": b"[" * 100_000 + b"]" * 100_000,
    "bytes that are no text": b'{"a":"\xff"}',
    "nothing": b"",
    "more than one value": b"{}{}",
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("parse", [strict_json, bulk_json])
def test_json_that_could_be_read_in_two_ways_or_not_at_all_is_refused(parse, kind: str) -> None:
    with pytest.raises(ValueError):
        parse(BAD[kind])


@pytest.mark.parametrize("text", [b'{"a":[1,-2.5,null,true,"\\u00e4"],"b":{}}\n', b'{ "b": 1e-7, "a": 1E+20 }'])
def test_other_json_is_read_alike_by_both(text: bytes) -> None:
    assert strict_json(text) == bulk_json(text)


def refused(path: Path, **limit: int) -> str:
    with pytest.raises(Corrupted) as e:
        read_bytes(path, **limit)
    assert e.value.where == str(path)
    return e.value.message


def test_only_plain_files_are_opened_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    os.mkfifo(tmp_path / "pipe")
    assert read_bytes(tmp_path / "good") == b"12345"
    assert "a link" in refused(tmp_path / "link") and "not a plain file" in refused(tmp_path / "pipe")
    assert "not a plain file" in refused(tmp_path) and "missing" in refused(tmp_path / "none")
    assert "not a plain file" in refused(Path("/dev/zero"))


def test_a_file_that_is_too_large_is_named_with_its_size_and_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as f:
        f.truncate(2**40)
    assert refused(tmp_path / "sparse") == f"{2**40} bytes; files beyond 268435456 bytes are not read"
    (tmp_path / "five").write_bytes(b"12345")
    assert read_bytes(tmp_path / "five", most=5) == b"12345" and "5 bytes" in refused(tmp_path / "five", most=4)


@pytest.mark.parametrize("read", [read_json, read_bulk_json])
def test_what_is_no_json_is_named_with_its_file(read, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"{")
    with pytest.raises(Corrupted, match="not JSON") as e:
        read(tmp_path / "x.json")
    assert e.value.where.endswith("x.json")
