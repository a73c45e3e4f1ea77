"""What `pao bench` says of a server that aborts, sends whole packets, or does not send what was asked. Real client, real mock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.core.records import ClientProbe, ClientRun, RequestRecord
from profile_and_optimize.engines.base import Server
from profile_and_optimize.ops.base import Result
from profile_and_optimize.ops.bench import BenchRequest, run
from profile_and_optimize.ops.bench_text import length_warnings, unknown_lines
from profile_and_optimize.stats.summary import TrialSummary, summarize


def bench(server: Server, out: Path) -> Result:
    req = BenchRequest(url=server.url, isl=8, osl=8, concurrency=2, requests=8, out=str(out), no_warmup=True)
    return run(req, lambda _: None)


@pytest.mark.parametrize("mock_server", [("--ttft-ms", "5", "--itl-ms", "1", "--abort-every", "2")], indirect=True)
def test_aborted_answers_are_failed_named_and_in_no_rate(mock_server: Server, tmp_path: Path) -> None:
    found = bench(mock_server, tmp_path / "out")
    failed = found.data["requests"]["failed"]
    assert failed in (3, 4, 5), "every second answer of the server, prompts were counted with some before"
    ((error, n),) = found.data["errors"].items()
    assert "finish reason 'abort'" in error and n == failed
    assert f"failed          {failed} x finish reason 'abort'" in found.text
    assert found.data["metrics"]["ttft_ms"]["n"] == 8 - failed


@pytest.mark.parametrize("mock_server", [("--ttft-ms", "5", "--itl-ms", "1", "--one-packet")], indirect=True)
def test_answers_in_one_packet_have_a_rate_and_no_tpot(mock_server: Server, tmp_path: Path) -> None:
    found = bench(mock_server, tmp_path / "out")
    assert found.data["metrics"]["tpot_ms"] is None and found.data["metrics"]["itl_ms"] is None
    assert found.data["whole_run_output_throughput_tok_s"] > 0 and found.data["requests"]["completed"] == 8
    assert found.data["unknown"] == {"itl_ms": 8, "tpot_ms": 8}


def summary(*tokens: int, chunks: int = 8, finish: str = "stop") -> tuple[TrialSummary, ClientRun]:
    records = [
        RequestRecord(i, 0, 0, 100, 10, tuple(range(10, 10 + chunks)), 5, n, 200, finish, max_tokens=8)
        for i, n in enumerate(tokens)
    ]
    run = ClientRun(0.0, 1, records, ClientProbe(0.0, 0.0, 0.0, (), None, None, "", (), 1, 0, 0, 0), ignore_eos=True)
    return summarize(records, asked=len(records), concurrency=1, drop=0), run


def test_a_length_that_is_not_what_was_asked_is_a_warning() -> None:
    assert length_warnings(*summary(8, 8)) == ()
    found, run = summary(4, 4, 8, chunks=4)
    (warning,) = length_warnings(found, run)
    assert (
        warning == "2 of 3 answers have fewer output tokens than asked (mean 5.3): the server did not follow ignore_eos"
    )
    assert length_warnings(found, replace(run, ignore_eos=False)) == ()


def test_counts_that_are_contradicted_are_a_warning_and_a_line_of_the_table() -> None:
    found, run = summary(0, 0, 8)
    (warning,) = length_warnings(found, run)
    assert warning.startswith(
        "output tokens unknown of 2 of 3 answers (its usage reports 0 output tokens, content came)"
    )
    assert unknown_lines(found) == [
        "unknown         output tokens of 2 of 3, tpot_ms of 2 of 3 answers; means are over the others",
        "tokens unknown  2 x its usage reports 0 output tokens, content came",
    ]
    assert unknown_lines(summary(8)[0]) == []
