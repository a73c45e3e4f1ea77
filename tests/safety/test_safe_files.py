"""Files of others: campaign files, data sets, traces, questions, archives; and runs that would lead our own writes astray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from profile_and_optimize.campaign.history import History, look_back
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.clients.prompts import dataset_prompts
from profile_and_optimize.clients.trace import read_trace
from profile_and_optimize.core.errors import Corrupted, PaoError, WrongUse
from profile_and_optimize.evals.exact_match import load_questions
from profile_and_optimize.evidence import given
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.ops.campaigns import opened
from profile_and_optimize.ops.config import CampaignConfig, first_problem, load_config, read_yaml
from profile_and_optimize.testing.synthetic import synthetic_plan
from profile_and_optimize.toolenv.fetch import Fetcher
from profile_and_optimize.toolenv.lock import Pin

READERS: dict[str, Callable[[Path], object]] = {
    "data set": lambda p: dataset_prompts(p, 1, "s"), "questions": load_questions, "trace": read_trace, "campaign file": load_config,
}  # fmt: skip
reader = pytest.mark.parametrize("what", READERS)


@reader
def test_a_pipe_a_device_and_a_folder_are_not_read(what: str, tmp_path: Path) -> None:
    """A pipe that nobody writes to would be waited for; a device never ends."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero"), tmp_path, tmp_path / "none"):
        with pytest.raises(WrongUse) as e:
            READERS[what](path)
        assert e.value.where == str(path)


@reader
def test_a_file_beyond_all_measure_is_not_taken_in(what: str, tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as f:
        f.truncate(2**41)
    with pytest.raises(WrongUse, match="more than"):
        READERS[what](tmp_path / "sparse")


LINES = {
    "nested": b"[" * 1_500, "half a surrogate": b'{"prompt": "\\ud800", "question": "\\ud800", "answer": "x"}',
    "no text": b'{"prompt": "\xff"}',
    "no object": b"[1]", "null": b"null", "not a number": b'{"prompt": NaN, "question": NaN}', "nothing": b"", "zeros": bytes(100),
    "a prompt that is none": b'{"prompt": {"a": 1}, "question": ["x"]}', "two values": b'{"prompt": "a"}{"prompt": "b"}',
}  # fmt: skip


@pytest.mark.parametrize("what", ["data set", "questions", "trace"])
@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_cannot_be_meant_is_a_named_error_and_no_crash(what: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(LINES[kind] + b"\n")
    if (what, kind) == ("questions", "a prompt that is none"):
        path.write_bytes(b'{"question": "x"}\n')
    with pytest.raises(PaoError) as e:
        READERS[what](path)
    assert str(path) in e.value.where and len(e.value.message) < 500


def test_separators_that_are_no_line_ends_stay_in_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes('{"prompt": "a\u2028b\x85c"}\n'.encode())
    assert dataset_prompts(path, 1, "s") == ("a\u2028b\x85c",)


def layers(first: str, each: str, count: int) -> str:
    return first + "".join(f"{each.replace('NEW', f'm{i}').replace('OLD', f'*m{i - 1}')}\n" for i in range(1, count))


ALIASES = layers("m0: &m0 [x, x, x, x, x, x, x, x, x]\n", "NEW: &NEW [OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD]", 11)
MERGES = layers("m0: &m0 {k: v}\n", "NEW: &NEW {<<: [OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD]}", 12)
YAMLS = {
    "aliases of aliases": ALIASES, "merges of merges": MERGES, "one wide merge": "a: &a {b: 1}\nc: {<<: [" + "*a, " * 10_001 + "*a]}\n",
    "itself": "&a {<<: *a}", "a python object": "name: !!python/object/apply:os.system ['touch pwned']", "nested": "[" * 700,
    "a control character": "name: \x00",
}  # fmt: skip


@pytest.mark.parametrize("kind", YAMLS)
def test_a_few_lines_of_yaml_cannot_fill_the_memory_or_run_anything(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(YAMLS[kind])
    with pytest.raises(WrongUse):
        load_config(path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_wrong_is_said_without_printing_the_whole_value() -> None:
    """The validator's own message would print a value of billions of letters before it is cut."""
    bomb = read_yaml(ALIASES.encode())["m10"]
    with pytest.raises(ValueError) as e:
        CampaignConfig(**{"name": "n", "model": "m", "cells": [{"cell_id": "a", "lever": bomb, "flags": {"x": bomb}}]})
    assert first_problem(e.value) == "cells.0.lever: Input should be a valid string"  # type: ignore[arg-type]


def test_a_link_beside_a_file_does_not_lead_its_write_elsewhere(tmp_path: Path) -> None:
    """Files are written under a name with .part first, which a prepared run could hold as a link."""
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "report.html.part").symlink_to(tmp_path / "mine")
    (tmp_path / "report.txt").symlink_to(tmp_path / "mine")
    write_atomic(tmp_path / "report.html", b"page")
    write_atomic(tmp_path / "report.txt", b"text")
    assert (tmp_path / "mine").read_text() == "precious" and not (tmp_path / "report.txt").is_symlink()


@pytest.mark.parametrize("place", ["report.html.part", "cells/slow", ".lock", "cells/fast/raw/x", "journal.jsonl.part"])
@pytest.mark.parametrize("verb", ["report_render", "champion_select", "atlas_aggregate"])
def test_verbs_that_write_into_a_run_refuse_one_with_links(
    verb: str, place: str, run_copy: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("precious")
    link = run_copy / place
    target = outside / "mine"
    if link.is_dir():
        link.rename(outside / "moved")
        target = outside / "moved"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    before = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    assert pao([verb, str(run_copy)]) == 3
    with pytest.raises(Corrupted), opened(run_copy):
        pass
    assert {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()} == before


def test_a_prepared_run_in_the_workspace_does_not_hold_up_a_new_one(run_copy: Path) -> None:
    """The history of a node is read from the runs beside; one with a pipe in it is counted as damaged."""
    (run_copy / "atlas.jsonl").unlink()
    os.mkfifo(run_copy / "atlas.jsonl")
    found: list[History] = []
    plan = synthetic_plan()
    look = Thread(target=lambda: found.append(look_back(run_copy.parent / "20270101T000000Z-new", plan, "fake-node")))
    look.daemon = True  # one that waits for a writer never ends
    look.start()
    look.join(120)
    assert [(f.damaged, f.runs) for f in found] == [(1, ())]


def wheel(path: Path, name: str, data: bytes, mode: int = 0o100644) -> Path:
    """A wheel with one file too many."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("evil/__init__.py", "")
        z.writestr(info, data)
        z.writestr("evil-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
        z.writestr(
            "evil-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        z.writestr("evil-1.dist-info/RECORD", "")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"), [("../../pwned", 0o100644), ("HERE/pwned", 0o100644), ("evil/link", 0o120777)]
)
def test_a_wheel_that_leads_out_of_its_folder_writes_nothing_there(name: str, mode: int, tmp_path: Path) -> None:
    """Wheels are unpacked by pip alone: what it does with one such file is what the installation does."""
    file = wheel(
        tmp_path / "evil-1-py3-none-any.whl", name.replace("HERE", str(tmp_path)), str(tmp_path / "mine").encode(), mode
    )
    target = tmp_path / "a/b/site"
    argv = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(target), str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    links = [p for p in tmp_path.rglob("*") if p.is_symlink()]
    assert links == [] and not [p for p in tmp_path.rglob("pwned") if not p.is_relative_to(target)]
    assert done.returncode != 0 or mode == 0o120777


def test_only_wheels_of_known_hash_are_asked_for(tmp_path: Path) -> None:
    """Nothing that would run a setup.py, and no file that the lock does not know by its sha256."""
    asked: list[list[str]] = []

    def child(argv, *, env, on_line) -> int:
        asked.append(list(argv))
        (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"x")
        return 0

    pin = Pin("a", "1", "0" * 64, "a-1-py3-none-any.whl", 1)
    Fetcher(Path("python"), tmp_path, {}, child).packages([pin], lambda _: None)
    assert {"--only-binary=:all:", "--require-hashes", "--no-deps"} <= set(asked[0])
    assert "--hash=sha256:" + "0" * 64 in (tmp_path / "batch.txt").read_text()


def test_a_file_is_judged_once_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes between the look and the opening is of no use: only the opened file is looked at."""
    (tmp_path / "f").write_text("data")
    real = os.open

    def swapped(path, flags, *more) -> int:
        return real("/dev/zero" if str(path).endswith("/f") else path, flags, *more)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(WrongUse, match="not a plain file"):
        given.read_given(tmp_path / "f")


def test_a_prompt_that_is_an_attack_is_only_a_prompt(tmp_path: Path) -> None:
    text = "\x1b[31m$(touch pwned)\u202e</script>\x00\r\n"
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"prompt": text}) + "\n")
    assert dataset_prompts(path, 1, "s") == (text,)
