"""pao ab: options, early refusals, the printed answer, exit codes, Ctrl-C and resume; what `bench` says of Ctrl-C."""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.core.metrics import OUT_RATE
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.ops.ab import OP, AbRequest, fails_of, loads_of, plan_of, points_of, refused
from profile_and_optimize.ops.ab_text import answer
from profile_and_optimize.ops.base import parse_request
from profile_and_optimize.report.absolute import Absolute

DEAD = "http://127.0.0.1:9"
SHORT = ("--blocks", "3", "--concurrency", "2", "--requests", "12", "--workload", "short-chat")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[str, str]]:
    with MockProcess("--ttft-ms", "5", "--itl-ms", "2") as a, MockProcess("--ttft-ms", "5", "--itl-ms", "1") as b:
        yield a.url, b.url


def effect(call: Call, estimate: float | None = 0.11) -> Effect:
    lower, upper = (None, None) if estimate is None else (estimate - 0.05, estimate + 0.05)
    return Effect("b", estimate, lower, upper, 0.01, 5, None, call, "because")


def asked(**values: object) -> AbRequest:
    request = parse_request(OP, {"url_a": DEAD, "url_b": DEAD, **values})
    assert isinstance(request, AbRequest)
    return request


def test_several_loads_are_points_of_one_plan_and_few_slots_get_enough_requests() -> None:
    points = points_of(asked(concurrency="1,8,64"))
    assert [(p.concurrency, p.requests) for p in points] == [(1, 64), (8, 64), (64, 256)]
    assert loads_of("4, 4") == (4,) and asked(concurrency=3).concurrency == "3"


@pytest.mark.parametrize(("values", "where"), [
    ({"concurrency": "64", "requests": 10}, "--requests"),
    ({"concurrency": "1,x"}, "--concurrency"),
    ({"concurrency": "0"}, "--concurrency"),
    ({"questions": "absent.jsonl"}, "--questions absent.jsonl"),
])  # fmt: skip
def test_a_wrong_request_is_refused_with_a_next_step_before_any_server_is_asked(
    values: dict[str, object], where: str
) -> None:
    with pytest.raises(WrongUse) as e:  # a dead URL would be Unreachable
        plan_of(asked(**values))
    assert e.value.where == where and e.value.next


def test_one_url_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["ab", DEAD]) == 2 and "two URLs" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "call", "fails"), [
    ("worse", Call.WORSE, True), ("worse", Call.SAME, False), ("worse", Call.UNKNOWN, False),
    ("not-better", Call.SAME, True), ("not-better", Call.UNKNOWN, True), ("not-better", Call.BETTER, False),
    ("unknown", Call.UNKNOWN, True), ("unknown", Call.WORSE, False), ("worse,unknown", Call.UNKNOWN, True), ("", Call.WORSE, False),
])  # fmt: skip
def test_fail_if_names_the_calls_that_exit_with_1(words: str, call: Call, fails: bool) -> None:
    error = refused(fails_of(asked(fail_if=words)), "b", effect(call), "", Path("run"))
    assert isinstance(error, GateRefused) == fails
    assert error is None or (error.exit_code == 1 and "because" in error.message)


def test_an_unknown_word_of_fail_if_is_refused_and_lost_right_answers_are_worse() -> None:
    with pytest.raises(WrongUse, match="wors"):
        fails_of(asked(fail_if="wors"))
    assert refused(("worse",), "b", None, "lost right answers", Path("run"))
    assert refused(("worse",), "b", None, "", Path("run")) is None  # no whole block: unknown


def test_the_first_line_has_the_answer_absolute_figures_and_the_interval() -> None:
    sides = [{"estimate": v, "lower": v - 5, "upper": v + 5, "n": 5} for v in (370.0, 413.0)]
    found = effect(Call.BETTER, math.log(413 / 370))
    line = answer("a", "b", found, "", Absolute(OUT_RATE, sides[0], sides[1]), 0.01)
    assert line.startswith("Serve b (provisional): 370.0 -> 413.0 tok/s, +11.6% (+")
    assert answer("a", "b", effect(Call.WORSE), "", None, 0.01).startswith(
        "Keep a, b is worse (provisional): geometric mean"
    )
    assert answer("a", "b", effect(Call.UNKNOWN, None), "", None, 0.01) == "UNKNOWN whether b is better than a"


def test_a_comparison_prints_both_sides_and_its_pages_offer_only_what_ab_has(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pao(["ab", *pair, *SHORT, "--name-a", "old", "--name-b", "new"]) in (0, 3)
    said = capsys.readouterr().out
    run = next(Path("campaigns").glob("*-ab"))
    page = "".join((run / name).read_text() for name in ("report.txt", "report.html", "CHAMPION.md", "HANDOFF.md"))
    for text in (said, page):
        assert ("old" in text and "new" in text and "TPOT p50 ms" in text) or text is page
        assert "campaign_run" not in text and "Server starts" not in text
        assert "pinned source" in text and "restarts" in text
    assert "model mock" in said and "bash serve.sh" not in page
    assert "TPOT p50 ms" in (run / "report.txt").read_text()
    assert pao(["verify", str(run)]) == 0
    capsys.readouterr()
    # What is printed as a command is one.
    commands = [shlex.split(x)[1:] for x in said.splitlines() if x.strip().startswith("pao ab ")]
    assert any("--questions" in c and c[1:3] == list(pair) for c in commands)
    Path("FILE.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n' * 2)
    for command in commands:
        assert pao([*command, "--help"]) == 0 and pao([*command, "--no-such"]) == 2


def interruptible(program: list[str]) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches, also where these tests run in the background of a shell, which has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_says_what_is_kept_and_the_printed_command_resumes(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    program = [sys.executable, "-m", "profile_and_optimize.cli.main", "ab", *pair, *SHORT]
    with interruptible(program) as one:
        while one.poll() is None and not trials():
            time.sleep(0.02)
        one.send_signal(signal.SIGINT)
        _, said = one.communicate(timeout=60)
    assert one.returncode == 130 and f"{len(trials())} finished trial" in said
    command = shlex.split(said.split("to resume: pao ")[1].splitlines()[0])
    kept = {p: p.read_bytes() for p in trials()}
    assert pao([*command, "--json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["result"]["call"] in {c.value for c in Call}
    assert len(trials()) >= 9 and all(p.read_bytes() == data for p, data in kept.items())
    assert pao(["verify", command[-1]]) == 0
    assert pao([*command, "--blocks", "4"]) == 2 and "keeps its plan" in capsys.readouterr().err


def trials() -> list[Path]:
    return [p for p in Path("campaigns").glob("*-ab/cells/*/raw/*.json") if not p.name.endswith(".raw.json")]


def test_bench_that_is_interrupted_says_that_nothing_was_kept(pair: tuple[str, str]) -> None:
    program = [
        sys.executable,
        "-m",
        "profile_and_optimize.cli.main",
        "bench",
        pair[0],
        "--requests",
        "20000",
        "--out",
        "kept",
    ]
    with interruptible(program) as one:
        assert one.stderr is not None
        assert "20000 requests" in one.stderr.readline()  # the load begins
        one.send_signal(signal.SIGINT)
        _, said = one.communicate(timeout=60)
    assert one.returncode == 130 and "nothing was kept" in said and not Path("kept").exists()
