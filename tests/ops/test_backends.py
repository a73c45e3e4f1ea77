"""cell_run by another tool: its files are kept, normalized and checked again; nothing of it is ever compared. The tools are
stand-ins which start a real (mock) server and really send."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.engines.base import Server
from profile_and_optimize.ops.verify import check
from profile_and_optimize.toolenv.find import ToolEnv

ROOT = Path(__file__).parents[2]
ACK = "--i-understand-this-submits-jobs"
VERSIONS = (("python", "3.11"), ("vllm", "0.32.0"), ("aiperf", "0.13.0"))
SECRET = "sk-planted-0123456789"


def fake_tool(folder: Path, name: str, source: Path, behaviour: str = "") -> Path:
    """A Python that says it has the tool, and the tool's command beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(VERSIONS)}'\n")
    (folder / name).write_text(f"#!{sys.executable}\n{source.read_text()}")
    for file in (python, folder / name):
        file.chmod(0o755)
    (folder / "behaviour").write_text(behaviour)
    return python


@pytest.fixture
def vllm(tmp_path: Path) -> Callable[[str], Path]:
    return lambda behaviour="": fake_tool(tmp_path / "env", "vllm", Path(__file__).parent / "fake_vllm.py", behaviour)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "c.yaml").write_text(
        f"name: swept\nmodel: {ROOT / 'demo/model'}\nengine: vllm\nworkloads: [{{name: w, isl: 32, osl: 4}}]\n"
        "concurrencies: [1, 2]\nrequests: 6\n"
        "cells: [{cell_id: eager, role: baseline, flags: [--enforce-eager]}, {cell_id: seqs, flags: {max-num-seqs: 1}}]\n"
    )
    assert pao(["campaign_init", "--config", "c.yaml"]) == 0
    return next(p for p in (tmp_path / "campaigns").iterdir() if p.is_dir())


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = pao(["cell_run", "swept", "--cell", "eager", ACK, *argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def atlas(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "atlas.jsonl").read_text().splitlines()]


def test_a_sweep_becomes_rows_of_its_own_that_verify_makes_again(
    run: Path, vllm: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(vllm()))
    assert (code, answer["result"]["status"], answer["result"]["tier"]) == (0, "full", "DRAFT")
    assert (run / "cells/eager/status.txt").read_text() == "full\n"
    mine = [r for r in atlas(run) if r["source"] == "imported"]
    assert [(r["workload"], r["concurrency"], r["requests"], r["status"]) for r in mine] == [
        ("w", 1, 6, "full"), ("w", 2, 6, "full"),
    ]  # fmt: skip
    for row in mine:
        assert (row["backend"], row["tool"], row["tool_version"], row["blocks"]) == (
            "vllm-sweep",
            "vllm bench",
            "0.32.0",
            [],
        )
        assert "verdict" not in row and row["metrics"]["ttft_ms"]["p50"]["lower"] is None
        assert row["metrics"]["tpot_ms"]["p50"]["estimate"] == 1.0
        assert (
            row["context"]["flags"]["asked"] == "--enforce-eager" and row["context"]["dtype"]["observed"] == "bfloat16"
        )
        assert "kv_cache_dtype" in row["unknown"] and (run / row["sources"][0]).is_file()
    problems, facts = check(run)
    assert problems == [] and facts["tier"] == "DRAFT"


def test_the_imported_rows_are_checked_against_the_raw_files(run: Path, vllm: Callable[..., Path]) -> None:
    assert pao(["cell_run", "swept", "--cell", "eager", ACK, "--backend", "vllm-sweep", "--python", str(vllm())]) == 0
    file = run / "cells/eager/imported/vllm-sweep.json"
    file.write_text(file.read_text().replace('"estimate": 1.0', '"estimate": 0.5', 1))
    problems, _ = check(run)
    assert any("imported/vllm-sweep.json: not what the records give" in p for p in problems)
    raw = next(run.glob("cells/eager/raw/vllm-sweep/r1/SERVE*/run=0.json"))
    raw.write_text(raw.read_text().replace('"completed": 6', '"completed": 7'))
    assert any(raw.name in p and "sha256 differs" in p for p in check(run)[0])


@pytest.mark.slow
def test_a_load_that_dies_leaves_the_cell_partial_and_a_second_call_measures_that_load_alone(
    run: Path, vllm: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    python = vllm("die:w.c2")
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(python))
    assert (code, answer["result"]["status"], answer["result"]["missing"]) == (3, "partial", ["w.c2"])
    assert (run / "cells/eager/status.txt").read_text() == "partial\n" and check(run)[0] == []
    lost = [r for r in atlas(run) if r["source"] == "imported" and not r["sources"]]
    assert [(r["concurrency"], r["status"]) for r in lost] == [(2, "failed")]
    first = (run / "cells/eager/raw/vllm-sweep/r1/SERVE--eager-BENCH--w.c1/run=0.json").read_bytes()
    (python.parent / "behaviour").write_text("")
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(python))
    assert (code, answer["result"]["status"]) == (0, "full")
    assert [p.name for p in (run / "cells/eager/raw/vllm-sweep/r2").glob("SERVE*")] == ["SERVE--eager-BENCH--w.c2"]
    assert (run / "cells/eager/raw/vllm-sweep/r1/SERVE--eager-BENCH--w.c1/run=0.json").read_bytes() == first
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(python))
    assert code == 2 and "has all its results" in answer["error"]["message"]


@pytest.mark.slow
def test_requests_that_failed_make_a_load_partial_and_no_request_at_all_failed(
    run: Path, vllm: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(vllm("half:w.c2")))
    assert (code, answer["result"]["status"]) == (3, "partial")
    row = next(r for r in atlas(run) if r["source"] == "imported" and r["concurrency"] == 2)
    assert (row["status"], row["requests_failed"]) == ("partial", 3) and "3 of 6 requests completed" in row["reason"]
    python = vllm()
    (python.parent / "vllm").write_text("#!/bin/sh\necho 'RuntimeError: no such device' >&2\nexit 1\n")
    argv = ["cell_run", "swept", "--cell", "seqs", ACK, "--backend", "vllm-sweep", "--python", str(python)]
    assert pao(argv) == 3 and "RuntimeError: no such device" in capsys.readouterr().err
    assert (run / "cells/seqs/status.txt").read_text() == "failed\n" and check(run)[0] == []


@pytest.mark.slow
def test_a_sweep_that_ends_without_its_csv_is_judged_by_its_runs(
    run: Path, vllm: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(vllm("nopandas")))
    assert (code, answer["result"]["status"]) == (0, "full")
    assert "pandas" in json.loads((run / "cells/eager/raw/vllm-sweep/r1/seen.json").read_text())["reason"]


@pytest.mark.slow
def test_a_running_endpoint_is_measured_with_other_prompts_at_every_load_and_its_key_is_nowhere(
    run: Path, vllm: Callable[..., Path], mock_server: Server, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    python = vllm()
    argv = ("--backend", "vllm-sweep", "--python", str(python), "--num-runs", "2")
    code, answer = ask(capsys, *argv, "--endpoint-url", mock_server.url)
    assert (code, answer["result"]["status"], answer["result"]["rows"]) == (0, "full", 4)
    seen = [json.loads(line) for line in (python.parent / "seen.jsonl").read_text().splitlines()]
    seeds = [s["argv"][s["argv"].index("--seed") + 1] for s in seen]
    assert len(set(seeds)) == 4 and all(s["env"]["OPENAI_API_KEY"] == SECRET for s in seen)
    assert not any(SECRET in a for s in seen for a in s["argv"])
    assert not [p for p in run.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert check(run)[0] == []
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(python))
    assert code == 2 and "another server is another cell" in answer["error"]["next"]


def test_aiperf_measures_a_cell_s_own_server_or_an_endpoint(
    run: Path, mock_server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = fake_tool(tmp_path / "aiperf", "aiperf", ROOT / "tests/clients/fake_tool.py")
    env = ToolEnv("aiperf", python, VERSIONS, None, None, "user")
    monkeypatch.setattr("profile_and_optimize.ops.foreign.steps.tool_env", lambda *_: env)
    code, answer = ask(capsys, "--backend", "aiperf", "--endpoint-url", mock_server.url)
    assert (code, answer["result"]["status"]) == (0, "full"), answer
    rows = [r for r in atlas(run) if r["source"] == "imported"]
    assert [(r["concurrency"], r["tool"], r["context"]["url"]["observed"]) for r in rows] == [
        (1, "aiperf", mock_server.url), (2, "aiperf", mock_server.url),
    ]  # fmt: skip
    assert all(len(r["context"]) > 5 and r["formulas"]["tpot"] == "inter_token_latency" for r in rows)
    assert check(run)[0] == []
    assert pao(["report_render", str(run)]) == 0 and check(run)[0] == []


def test_dry_run_shows_every_command_and_changes_nothing(
    run: Path, vllm: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    python = vllm()
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(python), "--dry-run")
    (shown,) = answer["result"]["commands"]
    assert code == 0 and shown["argv"][1:4] == ["bench", "sweep", "serve"]
    serve = shown["argv"][shown["argv"].index("--serve-cmd") + 1]
    assert serve.endswith("--enforce-eager") and "--port PORT" in serve and "/vllm serve " in serve
    code, answer = ask(capsys, "--backend", "vllm-sweep", "--python", str(python), "--dry-run", "--workload-iters", "4")
    assert "serve_workload" in answer["result"]["commands"][0]["argv"]
    assert (
        before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        and not (python.parent / "seen.jsonl").exists()
    )


@pytest.mark.parametrize(("argv", "word"), [
    (("--backend", "aiperf", "--namespace", "prod"), "--endpoint-url"),
    (("--backend", "vllm-sweep", "--bench-pod", "p"), "--endpoint-url"),
    (("--backend", "pao", "--kube-context", "c"), "--endpoint-url"),
    (("--endpoint-url", "http://127.0.0.1:1"), "--backend vllm-sweep or aiperf"),
    (("--backend", "aiperf", "--workload-iters", "3"), "leave out --workload-iters"),
    (("--backend", "vllm-sweep", "--endpoint-url", "http://127.0.0.1:1", "--workload-iters", "3"), "leave it out"),
    (("--backend", "vllm-sweep", "--endpoint-url", "file:///etc/passwd"), "http"),
    (("--backend", "guidellm"), "vllm-sweep"),
    (("--backend", "vllm-sweep", "--tokenizer=--trust-remote-code"), "--tokenizer"),
    (("--backend", "vllm-sweep", "--served-model=-x", "--endpoint-url", "http://127.0.0.1:1"), "--served-model"),
    (("--backend", "vllm-sweep", "--workload-iters", "1"), "--workload-iters"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(
    run: Path, argv: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p for p in run.rglob("*"))
    assert pao(["cell_run", "swept", "--cell", "eager", ACK, *argv]) == 2
    said = capsys.readouterr().err
    assert word in said and "Traceback" not in said
    assert sorted(p for p in run.rglob("*")) == before


def test_it_wants_the_acknowledgement_and_an_endpoint_that_answers(
    run: Path, vllm: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pao(["cell_run", "swept", "--cell", "eager", "--backend", "aiperf"]) == 2
    assert ACK in capsys.readouterr().err
    code, answer = ask(
        capsys, "--backend", "vllm-sweep", "--python", str(vllm()), "--endpoint-url", "http://127.0.0.1:9"
    )
    assert (code, answer["error"]["code"]) == (2, "unreachable")
    assert not (run / "cells/eager/raw/vllm-sweep").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_leaves_no_process_and_keeps_what_was_whole(run: Path, vllm: Callable[..., Path], sig: int) -> None:
    python = vllm("hang:w.c2")
    argv = [sys.executable, "-m", "profile_and_optimize.cli.main", "cell_run", "swept", "--cell", "eager", ACK,
            "--backend", "vllm-sweep", "--python", str(python)]  # fmt: skip
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = run / "cells/eager/raw/vllm-sweep/r1/SERVE--eager-BENCH--w.c1/run=0.json"
    until = time.monotonic() + 60
    while not ((python.parent / "hanging").exists() and entered(run, kept)) and time.monotonic() < until:
        time.sleep(0.1)
    os.kill(child.pid, sig)
    child.wait(60)
    until = time.monotonic() + 30
    while left_of(python.parent) and time.monotonic() < until:
        time.sleep(0.2)
    assert left_of(python.parent) == [] and entered(run, kept)
    (python.parent / "behaviour").write_text("")
    before = kept.read_bytes()
    assert pao([*argv[3:]]) == 0
    assert kept.read_bytes() == before and check(run)[0] == []
    assert (run / "cells/eager/status.txt").read_text() == "full\n"


def entered(run: Path, file: Path) -> bool:
    """What the journal names was finished before a kill; a file alone may have been written a moment before its entry."""
    return file.relative_to(run).as_posix() in (run / "journal.jsonl").read_text()


def left_of(folder: Path) -> list[str]:
    """Processes whose command names the tool's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [text] if str(folder) in text and str(os.getpid()) != entry.parent.name else []
    return found


@pytest.mark.slow
def test_links_and_hostile_files_below_raw_are_findings(run: Path, vllm: Callable[..., Path]) -> None:
    assert pao(["cell_run", "swept", "--cell", "eager", ACK, "--backend", "vllm-sweep", "--python", str(vllm())]) == 0
    asked = run / "cells/eager/raw/vllm-sweep/r1/asked.json"
    good = asked.read_bytes()
    for bad in (
        b"[]",
        b'{"schema": 1}',
        good.replace(b'"attempt": 1', b'"attempt": 7'),
        good.replace(b"vllm-sweep", b"../x"),
    ):
        asked.write_bytes(bad)
        assert check(run)[0], bad
    asked.write_bytes(good)
    place = asked.parent / "SERVE--eager-BENCH--w.c1/run=1.json"
    shutil.copy(place.with_name("run=0.json"), place)
    problems, _ = check(run)
    assert problems == [f"{place.relative_to(run)}: in the folder but in no list"]
