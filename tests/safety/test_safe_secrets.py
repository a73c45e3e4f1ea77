"""Planted credentials: in the environment, in what servers and logs say, in what users write. No file holds a piece of one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hostile import Answer, Evil, serving

from profile_and_optimize.campaign import conduct
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.base import Command, Server, ServeSpec
from profile_and_optimize.engines.process import Managed
from profile_and_optimize.engines.smoke import Answer as Said
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import known_secrets, redact
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan

PLANTED = {
    "OPENAI_API_KEY": "pk/Planted_01+23456789", "HF_TOKEN": "hf_PlantedABCDEFGH", "AWS_SECRET_ACCESS_KEY": "Planted9aws9key",
    "WANDB_API_KEY": "Planted7wandb7key", "DB_PASSWORD": "Planted#5db5", "MY_CREDENTIALS": "Planted;3mine3",
}  # fmt: skip
ECHO = " ".join(
    (*PLANTED.values(), f"Bearer {PLANTED['OPENAI_API_KEY']}", json.dumps(PLANTED), "https://me:Planted77@host/x")
)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


def holding(folder: Path) -> list[str]:
    """Files below a folder that hold a piece of what was planted, in their name or bytes."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    return [str(p) for p in files if b"Planted" in p.read_bytes() or "Planted" in str(p.relative_to(folder))]


def echo(method: str, path: str, headers: dict[str, str]) -> Answer:
    """An OpenAI server that says back what it was sent, in every place where it may say something."""
    key = headers.get("authorization", "") + " " + ECHO
    if path == "/v1/models":
        return 200, {}, json.dumps({"data": [{"id": "m"}]}).encode()
    if method == "GET":
        return 200, {}, json.dumps({"version": key}).encode()
    index = int(headers.get("x-request-index", "0")) % 3
    if index == 2:
        return 401, {"Content-Type": "application/json"}, json.dumps({"error": {"message": "x" * 150 + key}}).encode()
    usage = {"prompt_tokens": 20, "completion_tokens": 3}
    if headers.get("accept") != "text/event-stream":
        return 200, {}, json.dumps({"choices": [{"message": {"content": key}}], "usage": usage}).encode()
    letters = [{"choices": [{"delta": {"content": c}}]} for c in ("a", *key)]
    last = {"choices": [{"delta": {}, "finish_reason": f"stop {key}" if index == 1 else "stop"}], "usage": usage}
    body = "".join(f"data: {json.dumps(e)}\n\n" for e in (*letters, last)) + "data: [DONE]\n\n"
    return 200, {"Content-Type": "text/event-stream", "Set-Cookie": "x=y"}, body.encode()


@pytest.fixture(scope="module")
def echoing() -> Iterator[Evil]:
    with serving(echo) as evil:
        yield evil


def test_bench_against_a_server_that_echoes_keeps_and_prints_no_piece(
    echoing: Evil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "p.jsonl"
    data.write_text("".join(f'{{"prompt": "question {i}"}}\n' for i in range(30)))
    argv = [
        "bench",
        echoing.url,
        "--dataset",
        str(data),
        "--requests",
        "12",
        "--concurrency",
        "4",
        "--osl",
        "3",
        "--no-warmup",
    ]
    code = pao([*argv, "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert code in (0, 1) and any("authorization" in h for _, h in echoing.seen)
    assert holding(tmp_path / "out") == [] and "Planted" not in said.out + said.err
    raw = json.loads((tmp_path / "out/raw.json").read_text())
    assert len(raw["responses"]) == 9  # four refusals, four that did not end well, and the first of the good answers
    records = json.loads((tmp_path / "out/records.json").read_text())
    none, good, odd = sorted(set(records["columns"]["finish_reason"]), key=lambda r: len(r or ""))
    assert (none, good) == (None, "stop") and odd.startswith("stop ****") and "[redacted]" in odd


@dataclass(frozen=True)
class Leaky(FakeEngine):
    """Logs and says everything that it knows."""

    def version(self) -> dict[str, str]:
        return {**super().version(), "engine_version": f"1.0 {ECHO}"}

    def start(self, spec: ServeSpec) -> Server:
        spec.log.write_text(("x" * 99 + "\n") * 2100 + f"args: {{'api_key': ['{PLANTED['WANDB_API_KEY']}']}} {ECHO}\n")
        return super().start(spec)

    def observed(self, server: Server) -> dict[str, str]:
        return {**super().observed(server), "served_model": ECHO}


class LeakyClient(FakeClient):
    """Passes on what a server said, as a client of somebody else might."""

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        found = super().run(load, workdir=workdir)
        said = f"HTTP 500: HF_TOKEN={PLANTED['HF_TOKEN']} {PLANTED['HF_TOKEN']} Bearer {PLANTED['OPENAI_API_KEY']}"
        return replace(found, records=tuple(replace(r, error=said) if r.error else r for r in found.records))


def test_a_campaign_on_servers_that_echo_and_log_keeps_no_piece(tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(f'{{"question": "say {i}", "answer": "{i}"}}\n' for i in range(5)))
    engine = Leaky(SPEEDS, {"broken": f"ValueError: {ECHO}"})

    def ask(
        url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, pinned: bool = False
    ) -> Said:
        return Said(" ".join(PLANTED.values()), len(prompt.split()) + 4, 1)

    world = replace(
        fake_world(engine, LeakyClient(error_every=5), FakeClock()), ask=ask, secrets=known_secrets(os.environ)
    )
    plan = synthetic_plan(blocks=2, questions=str(questions))
    run = tmp_path / "space" / "20260921T141320Z-x"
    folder = RunFolder(run, world.now)
    conduct.open_draft(folder, plan)
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    assert pao(["report_render", str(run)]) == 0
    assert holding(tmp_path / "space") == []
    log = (run / "cells/fast/raw/log-admission.txt").read_text()
    assert len(log) < 210_000 and "[redacted]" in log


PLACES = {
    "a comment": "# my key: hf_PlantedABCDEFGH",
    "a lever": 'lever: "with Bearer Planted0123456789"',
    "a flag": "flags: [--otlp-headers, 'authorization=Bearer Planted0123']",
    "a value of ours without a name": "lever: Planted7wandb7key",
    "an escape": 'lever: "\\x68f_PlantedABCDEFGH"',
    "a url": "url: 'http://me:Planted77@127.0.0.1:1'",
    "a variable": "env: {MY_TOKEN: Planted0123}",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_campaign_file_with_a_credential_is_refused_and_nothing_is_written(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "name: n\nmodel: m\nengine: mock\ncells:\n  - cell_id: a\n    role: baseline\n  - cell_id: b\n    PLACE\n"
    (tmp_path / "c.yaml").write_text(text.replace("PLACE", PLACES[place]))
    assert pao(["campaign_init", "--config", str(tmp_path / "c.yaml"), "--campaigns-dir", str(tmp_path / "space")]) == 2
    said = capsys.readouterr().err
    assert "credential" in said and "Planted" not in said and not (tmp_path / "space").exists()


def test_a_server_process_sees_none_of_our_keys_but_the_hub_s(tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    log = tmp_path / "log"
    managed = Managed(Command((sys.executable, "-c", code), (("LEVER", "1"),)), log)
    managed._reaper.wait(30)
    managed.stop()
    seen = json.loads(log.read_text())
    assert seen["LEVER"] == "1" and {k for k in PLANTED if k in seen} == {"HF_TOKEN"}


def test_an_error_line_and_its_envelope_hide_what_a_server_echoed(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda *_: (403, {}, ECHO.encode()) if _[0] == "POST" else echo(*_)) as evil:
        for more in ((), ("--json",)):
            assert pao(["bench", evil.url, "--requests", "4", "--concurrency", "2", *more]) == 2
            said = capsys.readouterr()
            assert "answered 403" in said.out + said.err and "Planted" not in said.out + said.err


def test_known_secrets_are_values_that_cannot_be_a_word_or_a_count() -> None:
    env = {
        "A_TOKEN": "placeholder",
        "B_TOKEN": "12345678",
        "C_TOKEN": "short1",
        "TOKENIZERS_PARALLELISM": "false-0123",
        "D_TOKEN": "a/b-12345",
    }
    assert known_secrets(env) == ("a%2Fb-12345", "a\\/b-12345", "a/b-12345")
    assert redact("x a/b-12345 y", known_secrets(env)) == "x [redacted] y"


def test_flags_of_a_matrix_with_a_credential_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "serve_matrix",
        "--model",
        "m",
        "--engines",
        "mock",
        "--campaigns-dir",
        str(tmp_path / "space"),
        "--dry-run",
    ]
    assert pao([*argv, "--flags=--ttft-ms Planted9aws9key"]) == 2
    said = capsys.readouterr()
    assert "credential" in said.err and "Planted" not in said.out + said.err and not (tmp_path / "space").exists()
