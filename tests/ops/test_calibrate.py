"""pao calibrate and --client: what is measured, what is kept, and what a noisy machine does to it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.clients.calibration import Store, this_node
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.ops.calibrate import keep, shown
from profile_and_optimize.ops.worlds import client_table, make_client
from profile_and_optimize.stats.client_error import ClientError

SHAPE = ("--ttft-ms", "10", "--tpot-ms", "2", "--osl", "4", "--isl", "4", "--rounds", "1")
QUICK = ("--ttft-ms", "10", "--itl-ms", "2")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Calibrations of this test alone."""
    monkeypatch.setenv("PAO_CALIBRATIONS_DIR", str(tmp_path / "calibrations"))
    return tmp_path / "calibrations"


def asked(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = pao([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_calibration_is_kept_and_then_named_in_results(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = asked(capsys, "calibrate", "--concurrency", "4", "--force", *SHAPE)
    assert code == 0 and told["ok"] and len(told["result"]["stored"]) == 1
    point = told["result"]["points"][0]
    assert (point["concurrency"], point["requests"], point["failed"], point["mock_ttft_ms"]) == (4, 96, 0, 10.0)
    assert point["ttft_error_p50_ms"] > 0 and "ttft_error_p50_s" not in point
    kept = Store(root).find(this_node(), "stream", StreamClient().version, 4)
    assert kept is not None and kept.printed() == point
    with MockProcess(*QUICK) as mock:
        load = ("bench", mock.url, "--requests", "24", "--osl", "4", "--isl", "12", "--no-warmup")
        _, same = asked(capsys, *load, "--concurrency", "4")
        _, other = asked(capsys, *load, "--concurrency", "3")
    assert same["result"]["calibration"] == point
    assert other["result"]["calibration"] == "none: pao calibrate --client stream --concurrency 3"


def test_a_mock_that_runs_already_is_used_and_a_real_endpoint_is_no_truth(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockProcess(*QUICK, "--osl", "4", "--stamps", str(tmp_path / "s.json")) as mock:
        _, told = asked(capsys, "calibrate", "--url", mock.url, "--concurrency", "2", "--force", *SHAPE)
        assert told["result"]["truth"] == "the mock's stamps" and len(told["result"]["stored"]) == 1
    with MockProcess(*QUICK) as endpoint:
        code, told = asked(capsys, "calibrate", "--url", endpoint.url, "--concurrency", "2", *SHAPE)
    point = told["result"]["points"][0]
    assert code == 0 and told["result"]["truth"] == "unknown" and told["result"]["stored"] == []
    assert point["ttft_ms"]["server_mean"] > 5 and point["ttft_ms"]["difference"] is not None
    assert point["e2e_latency_ms"]["server_mean"] is None and point["e2e_latency_ms"]["difference"] is None
    assert len(list(root.rglob("*.json"))) == 1


@pytest.mark.parametrize("text", ["", "0", "a", "4,,8", "4;8", "-1", "99999"])
def test_what_is_no_list_of_concurrencies_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = asked(capsys, "calibrate", "--concurrency", text)
    assert code == 2 and told["error"]["code"] == "wrong_use"


LOUD = ClientError(
    client="stream", version="1", node="n1", concurrency=4, requests=96, rounds=2, at_unix_s=1.0, client_cores=(), cores_total=2,
    others_cores=1.2, load_average_1m=0.0, loud=("1.20 cores used by other processes (limit 0.10)",), ttft_s=0.05, itl_s=0.01, osl=64,
    isl=128, api="chat", failed=0, ttft_error_p50_s=0.007, ttft_error_p99_s=0.04, tpot_error_p50_s=None, e2e_error_p50_s=0.008,
    e2e_error_p99_s=0.05, lost=0.04, request_rate=9.0, cpu_us_per_token=None,
)  # fmt: skip


def test_on_a_loud_machine_nothing_is_kept_and_the_result_is_shown_all_the_same(root: Path) -> None:
    quiet = replace(LOUD, concurrency=8, loud=())
    result = shown([LOUD, quiet], [keep(LOUD, force=False), keep(quiet, force=False)])
    assert isinstance(result.refusal, GateRefused) and "1.20 cores" in result.refusal.message
    assert Store(root).find("n1", "stream", "1", 4) is None and Store(root).find("n1", "stream", "1", 8) == quiet
    assert [line.split()[-1] for line in result.text.splitlines()[2:]] == ["no", "yes"]
    assert "unknown" in result.text and "+7.00" in result.text


def test_forced_it_is_kept_with_its_note(root: Path) -> None:
    result = shown([LOUD], [keep(LOUD, force=True)])
    kept = Store(root).find("n1", "stream", "1", 4)
    assert result.refusal is None and kept is not None and "NOT A QUIET MACHINE: 1.20 cores" in kept.words()


def test_clients_enter_by_name_and_a_tool_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(client_table()) == {"stream", "vllm-bench", "aiperf", "guidellm"}
    assert make_client("stream").name == "stream"
    monkeypatch.setenv("PAO_TOOLS_DIR", str(tmp_path / "tools"))
    with pytest.raises(WrongUse, match="unknown client 'wrk'"):
        make_client("wrk")
    for name, tool in (("vllm-bench", "vllm"), ("aiperf", "aiperf"), ("guidellm", "guidellm")):
        code, told = asked(capsys, "calibrate", "--client", name, "--concurrency", "4")
        assert code == 2 and told["error"]["next"] == f"pao tools install {tool}"


def test_bench_refuses_an_open_loop_by_a_foreign_client(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = asked(capsys, "bench", "http://127.0.0.1:9", "--client", "aiperf", "--request-rate", "5")
    assert code == 2 and "closed loop only" in told["error"]["message"]
