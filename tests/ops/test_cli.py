"""The command line as a stranger types it: good use, and bad input that gets a clear line, the right code and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from machine_help import bench_ended_well
from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.engines.base import Server
from profile_and_optimize.engines.process import free_port
from profile_and_optimize.ops.base import all_ops

CONFIG = """
name: two-mocks
model: mock
engine: mock
blocks: 2
proof_blocks: 0
workloads: [{name: w, isl: 16, osl: 4}]
concurrencies: [2]
requests: 8
cells:
  - {cell_id: base, role: baseline, flags: {ttft-ms: 2, itl-ms: 1}}
  - {cell_id: again, role: aa, flags: {ttft-ms: 2, itl-ms: 1}}
  - {cell_id: quick, flags: {ttft-ms: 1, itl-ms: 0.5}, lever: half the time}
"""
ACK = "--i-understand-this-submits-jobs"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFREPORT_CAMPAIGNS_DIR", raising=False)


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    code = pao([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 2) -> str:
    got = pao(list(argv))
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if "error:" in line]
    assert got == code, said.err
    assert len(lines) == 1 and "Traceback" not in said.err
    return lines[0]


# good use


def test_both_names_of_the_program_and_every_verb_answer_help(capsys: pytest.CaptureFixture[str]) -> None:
    bin_dir = Path(sys.executable).parent
    for name in ("pao", "perftunereport"):
        done = subprocess.run([bin_dir / name, "--version"], capture_output=True, text=True, timeout=60, check=True)
        assert "0.1.0" in done.stdout
    for verb in all_ops():  # with hyphens; the other tests here write them with underscores
        assert pao([verb.replace("_", "-"), "--help"]) == 0


def test_a_campaign_from_config_to_verified_report(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(CONFIG)
    code, made = ask(capsys, "campaign_init", "--config", "c.yaml")
    assert code == 0 and made["ok"] and made["result"]["cells"] == ["base", "again", "quick"]
    run = Path(made["result"]["path"])
    assert {p.name for p in run.iterdir()} >= {"SOURCE.md", "config.yaml", "cells", "draft.json"}
    code, ran = ask(capsys, "campaign-run", "two-mocks", ACK)
    assert (code, ran["result"]["blocks"]) == (0, [1, 2])
    assert ask(capsys, "atlas_aggregate", "--campaign", str(run))[1]["result"]["coverage"].startswith(
        "Coverage: 3 atlas cells | 3 full"
    )
    code, chosen = ask(capsys, "champion_select", "two-mocks")
    assert (code, chosen["result"]["tier"]) == (0, "DRAFT")
    assert ask(capsys, "report_render", "two-mocks")[0] == 0
    assert (run / "report.html").stat().st_size > 10_000 and os.access(run / "serve.sh", os.X_OK)
    code, checked = ask(capsys, "verify", "two-mocks")
    assert (code, checked["result"]["problems"]) == (0, [])


def test_bench_measures_the_mock_and_keeps_its_records(mock_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    argv = (
        "bench",
        mock_server.url,
        "--model",
        "mock",
        "--isl",
        "32",
        "--osl",
        "8",
        "--concurrency",
        "4",
        "--requests",
        "16",
        "--out",
        "o",
    )
    code, answer = ask(capsys, *argv)
    result = answer["result"]
    assert bench_ended_well(code, answer) and result["requests"] == {"asked": 16, "completed": 16, "failed": 0}
    assert result["isl_observed_mean"] == 32 and result["osl_observed_mean"] == 8
    assert set(result["metrics"]["ttft_ms"]) == {"p50", "p90", "p99", "mean", "n"}
    assert {p.name for p in Path("o").iterdir()} == {"records.json", "raw.json", "result.json"}


@pytest.mark.parametrize("mock_server", [("--error-every", "5", "--ttft-ms", "2", "--itl-ms", "1")], indirect=True)
def test_every_fifth_request_failing_is_reported_as_a_fifth(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = ask(capsys, "bench", mock_server.url, "--osl", "4", "--concurrency", "4", "--requests", "40")
    assert (
        bench_ended_well(code, answer)
        and answer["result"]["requests"]["failed"] == 8
        and answer["result"]["status"] == "partial"
    )
    assert any("HTTP 500" in w for w in answer["warnings"])


@pytest.mark.slow
def test_ab_of_two_endpoints_gives_the_call_of_its_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from profile_and_optimize.engines.mock.process import MockProcess

    with MockProcess("--ttft-ms", "20", "--itl-ms", "6") as a, MockProcess("--ttft-ms", "20", "--itl-ms", "3") as b:
        argv = (
            "ab",
            a.url,
            b.url + "/v1/",
            "--blocks",
            "3",
            "--load",
            "2",
            "--requests",
            "12",
            "--workload",
            "short-chat",
        )
        code, answer = ask(capsys, *argv)
    ev = load_evidence(next(Path.cwd().glob("**/*-ab/journal.jsonl")).parent)
    assert {t.key.arm for t in ev.trials} == {a.id for a in ev.plan.arms} and len(ev.trials) >= 6
    (effect,) = decide(ev).effects.values()
    assert (code, answer["result"]["call"], answer["result"]["tier"]) == (0, effect.call.name, "DRAFT")
    code, checked = ask(capsys, "verify", "ab")
    assert (code, checked["result"]["problems"]) == (0, [])


def test_dry_run_shows_every_command_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(CONFIG)
    _, made = ask(capsys, "campaign_init", "--config", "c.yaml")
    run = Path(made["result"]["path"])
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    code, shown = ask(capsys, "campaign_run", "two-mocks", "--dry-run")
    assert code == 0 and [c["cell"] for c in shown["result"]["commands"]] == ["base", "again", "quick"]
    code, one = ask(capsys, "cell_run", "two-mocks", "--cell", "quick", "--dry-run")
    assert code == 0 and "PORT" in one["result"]["commands"][0]["argv"]
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}


# bad input


def test_acknowledged_verbs_refuse_without_acknowledgement(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(CONFIG)
    ask(capsys, "campaign_init", "--config", "c.yaml")
    for argv in (("campaign_run", "two-mocks"), ("cell_run", "two-mocks", "--cell", "base")):
        assert ACK in refused(capsys, *argv)


def test_unknown_verb_flag_engine_and_workload_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "frobnicate" in refused(capsys, "frobnicate")
    assert "--warp" in refused(capsys, "bench", "http://127.0.0.1:1", "--warp", "9")
    assert "tensorrt" in refused(capsys, "optimize", "--model", "mock", "--engines", "tensorrt")
    assert "'speed'" in refused(capsys, "optimize", "--model", "mock", "--engines", "mock", "--focus", "speed")
    assert "nosuch" in refused(capsys, "optimize", "--model", "mock", "--engines", "mock", "--suite", "nosuch")
    assert not Path("campaigns").exists()


@pytest.mark.parametrize(("spoil", "word"), [
    (("blocks: 2", "blocks: 2\nwarp: 9"), "unknown key 'warp'"),
    (("cell_id: quick", "cell_id: again"), "used twice"),
    (("cell_id: quick", "cell_id: ../quick"), "../quick"),
    (("cell_id: quick", "cell_id: /etc/x"), "/etc/x"),
    (("engine: mock", "engine: mock\nfocus: speed"), "focus"),
    (("requests: 8", "requests: 3"), "at least 4"),
    (("role: aa, flags: {ttft-ms: 2", "role: aa, flags: {ttft-ms: 3"), "must equal the baseline"),
    (("name: two-mocks", "name: [1"), "not YAML"),
    (("role: baseline", "role: candidate"), "exactly one baseline"),
])  # fmt: skip
def test_a_config_that_cannot_be_is_named_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], spoil: tuple[str, str], word: str
) -> None:
    Path("c.yaml").write_text(CONFIG.replace(*spoil))
    assert word in refused(capsys, "campaign_init", "--config", "c.yaml")
    assert not Path("campaigns").exists()


def test_a_flag_the_engine_lacks_is_refused_by_name_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(CONFIG.replace("itl-ms: 0.5", "itl-ms: 0.5, warp-speed: 9"))
    ask(capsys, "campaign_init", "--config", "c.yaml")
    assert "--warp-speed" in refused(capsys, "campaign_run", "two-mocks", ACK)
    assert not list(Path("campaigns").rglob("admission.json"))


def test_model_folders_that_lack_something_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from profile_and_optimize.core.errors import WrongUse
    from profile_and_optimize.ops.model import check_model

    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        with pytest.raises(WrongUse, match=name):
            check_model(str(folder))
        (folder / name).write_text("{}")
    assert check_model(str(folder)) == str(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(WrongUse, match="not JSON"):
        check_model(str(folder))
    for text in ("-rf", "./absent", "a/b/c"):
        with pytest.raises(WrongUse):
            check_model(text)


def test_urls_that_refuse_or_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert f"127.0.0.1:{port}" in refused(capsys, "bench", f"http://127.0.0.1:{port}")
    assert "ftp://x" in refused(capsys, "bench", "ftp://x")
    assert f"127.0.0.1:{port}" in refused(capsys, "ab", f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    assert not Path("campaigns").exists()


@pytest.mark.parametrize("mock_server", [("--no-usage",)], indirect=True)
def test_a_url_that_gives_no_usage_is_refused_with_the_reason(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no usage" in refused(capsys, "bench", mock_server.url)


@pytest.mark.parametrize("mock_server", [("--garbage",)], indirect=True)
def test_a_url_that_answers_garbage_is_refused_with_its_name(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mock_server.url in refused(capsys, "bench", mock_server.url)


def test_a_port_in_use_is_named(mock_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    port = mock_server.url.rsplit(":", 1)[1]
    assert port in refused(capsys, "mock", "--port", port)


def test_a_run_that_is_not_there_and_an_ambiguous_slug(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run 'absent'" in refused(capsys, "verify", "absent")
    for stamp in ("20260101T000000Z-x", "20260102T000000Z-x"):
        (Path("campaigns") / stamp).mkdir(parents=True)
    assert "20260101T000000Z-x, 20260102T000000Z-x" in refused(capsys, "verify", "x")


def test_failures_have_the_same_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (("frobnicate",), ("verify", "absent"), ("bench", "--warp")):
        code, answer = ask(capsys, *argv)
        assert code == 2 and answer["schema"] == 1 and answer["ok"] is False
        assert set(answer) == {"schema", "ok", "verb", "result", "warnings", "error"}
        assert set(answer["error"]) == {"code", "message", "next"}


# expectations are checked, never believed


def test_an_expectation_the_evidence_denies_exits_1_and_sets_nothing(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_copy / "champion_select.json").read_bytes()
    denied = {
        ("--accuracy-gate", "pass"): "accuracy gate", ("--trials", "99"): "99 trials", ("--workloads-present", "code,short-chat"): "code",
        ("--expect-tier", "VERDICT"): "DRAFT",
    }  # fmt: skip
    for flags, word in denied.items():
        assert word in refused(capsys, "champion_select", str(run_copy), *flags, code=1)
    assert (
        pao(["champion_select", str(run_copy), "--same-node", "--trials", "3", "--workloads-present", "short-chat"])
        == 0
    )
    assert (run_copy / "champion_select.json").read_bytes() == before


@pytest.mark.slow
def test_optimize_on_the_mock_walks_the_road_and_can_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    argv = (
        "optimize",
        "--model",
        "mock",
        "--engines",
        "mock",
        "--suite",
        "demo-short",
        "--blocks",
        "2",
        "--requests",
        "6",
        "--concurrency",
        "2",
        "--name",
        "road",
    )
    code, answer = ask(capsys, *argv)
    run = Path(answer["result"]["path"])
    assert (
        code == 0
        and (run / "serve.sh").exists()
        and (run / "HANDOFF.md").exists()
        and (run / "known_good_config.json").exists()
    )
    before = {p: p.read_bytes() for p in run.glob("cells/*/raw/b*.json")}
    assert len(before) == 16  # eight trials, and the bytes kept of each
    code, again = ask(capsys, "optimize", "--resume", "road")
    assert code == 0 and again["result"]["evidence_root"] == answer["result"]["evidence_root"]
    assert before == {p: p.read_bytes() for p in run.glob("cells/*/raw/b*.json")}
