"""A run made to harm whoever verifies it: nothing outside of it is opened, it ends, and each trick is a line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_and_optimize.ops.verify import check
from profile_and_optimize.ops.verifying.meaning import same_to_nine_digits
from profile_and_optimize.testing.forge import Forged

TRIAL = "cells/fast/raw/b001-short-chat.c4-a1.json"


def replaced(run: Path, rel: str, data: bytes) -> None:
    (run / rel).write_bytes(data)


def fifo(run: Path, rel: str) -> None:
    (run / rel).unlink()
    os.mkfifo(run / rel)


def link(run: Path, rel: str, to: str) -> None:
    if (run / rel).is_dir():
        (run / rel).rename(run.parent / "moved")
    else:
        (run / rel).unlink()
    (run / rel).symlink_to(to)


def sparse(run: Path, rel: str) -> None:
    os.truncate(run / rel, 2**42)


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
NAMES = (
    "plan.json",
    "draft.json",
    "calibration.json",
    "manifest.json",
    "journal.jsonl",
    TRIAL,
    "cells/fast/admission.json",
    "verdict.json",
)

TRICKS: dict[str, Callable[[Path, str], object]] = {
    "a link to a file of ours": lambda r, n: link(r, n, "/etc/hostname"),
    "a link to itself": lambda r, n: link(r, n, Path(n).name),
    "a pipe": fifo,
    "terabytes": sparse,
    "deep JSON": lambda r, n: replaced(r, n, DEEP),
    "NaN": lambda r, n: replaced(r, n, b'{"a":NaN}\n'),
    "infinity": lambda r, n: replaced(r, n, b'{"a":1e999}\n'),
    "a key twice": lambda r, n: replaced(r, n, b'{"schema":1,"schema":1}\n'),
    "a list": lambda r, n: replaced(r, n, b"[[[[]]]]\n"),
    "a number": lambda r, n: replaced(r, n, b"7\n"),
    "null": lambda r, n: replaced(r, n, b"null\n"),
    "not text": lambda r, n: replaced(r, n, bytes(range(256)) * 99),
    "nothing": lambda r, n: replaced(r, n, b""),
    "a folder": lambda r, n: ((r / n).unlink(), (r / n).mkdir()),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trick", TRICKS)
def test_a_hostile_file_is_a_line_and_not_a_crash(run_copy: Path, trick: str, name: str) -> None:
    TRICKS[trick](run_copy, name)
    problems, _ = check(run_copy)
    assert problems and all("\n" not in p for p in problems)


@pytest.mark.parametrize("change", [
    lambda d: d.clear(), lambda d: d.update(path=5), lambda d: d.update(path="/etc/passwd"), lambda d: d.update(path="../../etc/passwd"),
    lambda d: d.update(path="cells/../../x.json"), lambda d: d.update(path="cells"), lambda d: d.update(path="a\0b"),
    lambda d: d.update(sha256=None), lambda d: d.update(bytes=-1), lambda d: d.update(bytes=True), lambda d: d.update(inputs="plan.json"),
    lambda d: d.update(path="x" * 100_000), lambda d: d.update(path="\ud83d"),
])  # fmt: skip
def test_a_hostile_entry_of_the_journal_is_a_line(run_copy: Path, change: Callable[[dict], object]) -> None:
    lines = (run_copy / "journal.jsonl").read_text().splitlines()
    from profile_and_optimize.core.names import digest
    from profile_and_optimize.evidence.journal import GENESIS

    out, prev = [], GENESIS
    for number, line in enumerate(lines):  # hashed anew, so that the entry itself is looked at
        event = json.loads(line)
        if number == 3:
            change(event["data"])
        event["prev"] = prev
        body = {k: v for k, v in event.items() if k != "hash"}
        event["hash"] = prev = digest(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
        out.append(json.dumps(event, sort_keys=True, separators=(",", ":")))
    (run_copy / "journal.jsonl").write_text("\n".join(out) + "\n")
    assert check(run_copy)[0]


def test_a_folder_that_is_a_link_is_not_walked_into(run_copy: Path) -> None:
    link(run_copy, "cells/fast", str(run_copy.parent / "moved"))
    problems, facts = check(run_copy)
    assert problems == ["cells/fast: a link; a run holds plain files and folders only"] and "pick" not in facts


def test_nothing_outside_of_the_run_is_opened(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    f = Forged(run_copy)
    f.edit("plan.json", lambda d: d.update(tokenizer="/etc/passwd", questions="/etc/passwd"))
    f.edit("draft.json", lambda d: d.update(tokenizer="/etc/passwd", questions="/etc/passwd"))
    f.save(rehash=True)
    opened: list[str] = []
    real = os.open

    def watched(path: object, *args: object, **kwargs: object) -> int:
        opened.append(os.path.abspath(str(path)))
        return real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watched)
    problems, _ = check(run_copy)
    assert opened and all(p.startswith(str(run_copy)) for p in opened)


def test_a_folder_nested_without_end_and_a_name_of_any_bytes(run_copy: Path) -> None:
    at = os.open(run_copy, os.O_RDONLY)
    for _ in range(300):  # beyond what a path may be long
        os.mkdir("d" * 40, dir_fd=at)
        deeper = os.open("d" * 40, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)
    assert check(run_copy)[0]


def test_a_file_with_odd_bytes_in_its_name_is_a_stranger(run_copy: Path) -> None:
    with open(os.fsencode(run_copy) + b"/cells/\xff\x1b[31m", "wb"):
        pass
    assert any("in no list" in p for p in check(run_copy)[0])


def test_a_hostile_campaign_file_is_a_line(run_copy: Path) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
    )
    for text in (bomb, "a: " + "[" * 5000, "!!python/object/apply:os.system ['true']", "- 1", "\t\0"):
        (run_copy / "config.yaml").write_text(text)
        assert any("config.yaml" in p for p in check(run_copy)[0])


@pytest.mark.parametrize(("rel", "one", "two", "same"), [
    ("a.json", b'{"x":0.1}', b'{"x":0.10000000000000002}', True), ("a.json", b'{"x":0.1}', b'{"x":0.1000001}', False),
    ("a.json", b'{"x":1}', b'{"x":2}', False), ("a.json", b'{"x":1}', b'{"y":1}', False), ("a.json", b"[1.0]", b"[1.0,1.0]", False),
    ("a.json", b'["a"]', b'["b"]', False), ("a.json", b"[1]", b"[true]", False),
    ("a.jsonl", b"[0.3]\n[1]\n", b"[0.30000000000000004]\n[1]\n", True),
    ("a.txt", b"0.1", b"0.10000000000000002", False),
    ("r.html", b'<p>1</p><script type="application/json" id="data">[0.3]</script>',
     b'<p>1</p><script type="application/json" id="data">[0.30000000000000004]</script>', True),
    ("r.html", b'<p>1</p><script type="application/json" id="data">[0.3]</script>',
     b'<p>2</p><script type="application/json" id="data">[0.3]</script>', False),
])  # fmt: skip
def test_derived_files_may_differ_in_the_last_digits_of_their_json(
    rel: str, one: bytes, two: bytes, same: bool
) -> None:
    assert same_to_nine_digits(rel, one, two) is same
