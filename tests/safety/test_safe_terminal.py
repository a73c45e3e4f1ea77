"""What reaches a terminal: every verb's text, error line and envelope, whatever servers, files and arguments hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import ESCAPES, HOSTILE, Answer, Evil, forged, moves_a_terminal, serving

from profile_and_optimize.cli import command
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.cli.terminal import clean, say
from profile_and_optimize.ops.base import all_ops

VERBS = sorted(all_ops())
ON_RUNS = sorted(v for v, op in all_ops().items() if "campaign" in op.request.model_fields)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFREPORT_CAMPAIGNS_DIR", str(tmp_path / "space"))


def plain_lines(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit code and everything shown, after it was looked at: as text, then as JSON."""
    code = pao(list(argv))
    said = capsys.readouterr()
    assert moves_a_terminal(said.out + said.err) == [] and forged(said.err) == []
    assert "Traceback" not in said.err
    assert pao([*argv, "--json"]) == code
    shown = capsys.readouterr()
    assert (
        shown.out.isascii() and moves_a_terminal(shown.out + shown.err) == [] and json.loads(shown.out)["schema"] == 1
    )
    return code, said.out + said.err


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_passes_on_what_an_argument_or_an_option_holds(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ((verb, HOSTILE), (verb, "--" + HOSTILE), (verb, f"--x={HOSTILE}")):
        code, said = plain_lines(capsys, *argv)
        assert code == 2 and "error: " in said


def test_an_unknown_verb_is_named_without_its_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain_lines(capsys, HOSTILE)[0] == 2


@pytest.mark.parametrize("verb", ON_RUNS)
def test_no_verb_passes_on_what_a_run_holds(
    verb: str, hostile_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(hostile_run, tmp_path / hostile_run.name))
    code, said = plain_lines(capsys, verb, str(copy))
    assert said


def refusing(method: str, path: str, headers: dict[str, str]) -> Answer:
    body = json.dumps({"error": {"message": HOSTILE}, "object": "error"}).encode()
    if path == "/v1/models":
        return 200, {}, json.dumps({"data": [{"id": "m" + HOSTILE}, {"id": "other"}]}).encode()
    if headers.get("accept") == "text/event-stream":
        return 500, {}, body
    if method == "POST":
        usage = {"prompt_tokens": 20, "completion_tokens": 1}
        return 200, {}, json.dumps({"choices": [{"message": {"content": HOSTILE}}], "usage": usage}).encode()
    return 404, {}, body


@pytest.fixture(scope="module")
def evil() -> Iterator[Evil]:
    with serving(refusing) as one:
        yield one


def test_what_a_server_says_is_shown_without_its_escapes(
    evil: Evil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """bench with a failing answer to every request; its model's name is an attack as well."""
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "p{i}"}}\n' for i in range(9)))
    argv = ["bench", evil.url, "--dataset", "p.jsonl", "--requests", "4", "--concurrency", "2", "--no-warmup"]
    code = pao(argv)
    said = capsys.readouterr()
    assert code == 3 and "HTTP 500" in said.err and "onerror" in said.err
    assert moves_a_terminal(said.out + said.err) == [] and forged(said.err) == []


def test_a_list_of_models_is_shown_on_one_line(evil: Evil, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = plain_lines(capsys, "ab", evil.url, evil.url, "--model", "absent")
    assert code == 2 and "it serves m" in said and len([line for line in said.splitlines() if "error: " in line]) == 1


def test_a_refusal_that_is_no_json_is_shown_without_its_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda m, *_: (503, {}, ESCAPES.encode()) if m == "POST" else refusing(m, *_)) as down:
        code, said = plain_lines(capsys, "bench", down.url, "--requests", "2", "--concurrency", "1")
    assert code == 2 and "answered 503" in said


def test_even_a_mistake_of_ours_is_shown_without_escapes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its traceback ends with a text that may come from anywhere."""

    def broken(*_: object) -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr(command, "parse_request", broken)
    assert pao(["verify", "x"]) == 3
    said = capsys.readouterr()
    assert "Traceback" in said.err and "onerror" in said.err and moves_a_terminal(said.out + said.err) == []


@pytest.mark.parametrize(("text", "left"), [
    ("\x1b[31mred\x1b[0m", "red"), ("\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x07", "click"),
    ("\x9d0;title\x9cx", "x"), ("\x1bP1$q\x1b\\x", "x"),
    ("\x1b(0x\x1bcy", "xy"), ("a\u202eb\u2066c\u200f\ufeff", "abc"), ("\ud800z", "z"),
    ("a\rb\bc\x7f", "abc"), ("tab\tline\n", "tab\tline\n"),
    ("\x1b\x1b[31mx", "x"), ("l\u2028m\x85n", "lmn"), ("日本 naïve ✓", "日本 naïve ✓"),
])  # fmt: skip
def test_sequences_go_whole_and_text_stays(text: str, left: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean(text) == left
    say(text + "\nsecond")
    assert len(capsys.readouterr().err.splitlines()) == 1
