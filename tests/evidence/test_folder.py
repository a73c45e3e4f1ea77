"""The run folder: whole files, one writer, names that stay inside, a full disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import BrokeMidway, WrongUse
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.evidence.folder import RunFolder, find_run, inside, new_run_id
from profile_and_optimize.evidence.redact import allowed_env, redact


def test_half_written_files_of_a_kill_are_swept_on_opening(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/x.json.part").write_text("half")
    folder = RunFolder(tmp_path)
    assert folder.swept == 1 and not list(tmp_path.rglob("*.part"))
    folder.close()


def test_a_second_writer_is_refused_while_the_first_holds_the_run(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    with pytest.raises(WrongUse, match="another process"):
        RunFolder(tmp_path)
    first.close()
    RunFolder(tmp_path).close()


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "\\x"])
def test_paths_that_leave_the_run_are_refused(name: str) -> None:
    with pytest.raises(WrongUse):
        inside(name)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "plan.json"
    write_atomic(target, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BrokeMidway, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_a_run_is_found_by_path_id_and_unique_slug(tmp_path: Path) -> None:
    ids = [new_run_id("Demo Run", t) for t in (0.0, 60.0)]
    assert ids[0] == "19700101T000000Z-demo-run"
    for name in (*ids, "19700101T000000Z-other"):
        folder = RunFolder(tmp_path / name)
        folder.event("created")
        folder.close()
    assert find_run(ids[1], tmp_path).name == ids[1]
    assert find_run("other", tmp_path).name == "19700101T000000Z-other"
    assert find_run(str(tmp_path / ids[0]), tmp_path).name == ids[0]
    with pytest.raises(WrongUse, match=f"{ids[0]}, {ids[1]}"):
        find_run("demo-run", tmp_path)
    with pytest.raises(WrongUse, match="no run"):
        find_run("absent", tmp_path)


@pytest.mark.parametrize("text", [
    "Authorization: Bearer abcdef123456", "hf_AbCdEf1234567890", "sk-abcdef1234567890", "api_key=S3cr3tS3cr3t", "https://user:hunter22@host/x",
    '"token": "abcd1234efgh"', "AKIAABCDEFGHIJKLMNOP",
])  # fmt: skip
def test_planted_secrets_are_redacted(text: str) -> None:
    hidden = redact(text)
    assert "[redacted]" in hidden
    for secret in (
        "abcdef123456",
        "AbCdEf",
        "abcdef1234567890",
        "S3cr3t",
        "hunter22",
        "abcd1234efgh",
        "ABCDEFGHIJKLMNOP",
    ):
        assert secret not in hidden


@pytest.mark.parametrize(
    "text",
    ["max_tokens=64", "completion_tokens: 64", "Maximum tokens: 2048", "tokens_per_chunk 4", "http://127.0.0.1:80/x"],
)
def test_harmless_text_stays(text: str) -> None:
    assert redact(text) == text


def test_the_environment_is_captured_by_allowlist() -> None:
    assert allowed_env({"OMP_NUM_THREADS": "2", "HF_TOKEN": "hf_secret", "PATH": "/bin"}) == {"OMP_NUM_THREADS": "2"}
