"""A trial survives the disk; what is no trial is named."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse, RequestRecord
from profile_and_optimize.core.trial import TrialKey
from profile_and_optimize.evidence.reading import bulk_json
from profile_and_optimize.evidence.trialfile import TrialFile, decode, decode_raw, encode, encode_raw

PROBE = ClientProbe(1.0, 0.1, 0.1, (1, 2), None, 0.5, "fifo", (1,), 2, 0, 10, 0)
GAPS = st.lists(st.integers(0, 10**9), min_size=1, max_size=30)


def trial(gaps: list[int], error: str | None = None) -> TrialFile:
    times, now = [], 0
    for g in gaps:
        now += g
        times.append(now)
    record = RequestRecord(0, 0, 0, times[-1], times[0], tuple(times), 10, len(times), 200, "length", error)
    return TrialFile(
        TrialKey(1, "a", "w.c1"), ClientRun(5.0, 1, (record,), PROBE), 1, 1.0, 2.0, {"x": 1.0}, {}, "d", 3.0
    )


@given(GAPS)
def test_encode_and_decode_are_inverse(gaps: list[int]) -> None:
    t = trial(gaps)
    assert decode(json.loads(encode(t)), "x") == t == decode(bulk_json(encode(t)), "x")


def test_kept_bytes_survive_whatever_they_are() -> None:
    raw = (RawResponse(3, ((1, bytes(range(256))), (2, b"data: {}\r\n\r\n"))),)
    assert decode_raw(json.loads(encode_raw(raw))) == raw


def test_a_secret_in_kept_bytes_or_an_error_does_not_reach_the_file() -> None:
    assert b"hf_abcdefgh12345678" not in encode_raw((RawResponse(0, ((1, b"you sent hf_abcdefgh12345678"),)),))
    assert b"hunter2222" not in encode(trial([1], error="password=hunter2222"))


def test_a_pause_of_more_than_four_seconds_takes_wider_gaps() -> None:
    small, wide = (json.loads(encode(trial([5, gap])))["gaps_ns"] for gap in (2**32 - 1, 2**32))
    assert (small["layout"], wide["layout"]) == ("uint32 little-endian", "int64 little-endian")
    assert decode(json.loads(encode(trial([5, 2**32]))), "x").run.records[0].chunk_ns == (5, 5 + 2**32)


def test_when_the_run_began_is_kept_on_both_clocks() -> None:
    t = trial([1])
    t = replace(t, run=replace(t.run, t0_monotonic_ns=77))
    again = decode(json.loads(encode(t)), "x")
    assert (again.run.t0_unix_s, again.run.t0_monotonic_ns) == (5.0, 77)


def test_the_page_on_the_format_reads_a_trial_in_ten_lines(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/verify.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 10
    path = tmp_path / "trial.json"
    path.write_bytes(encode(trial([100, 20, 30])))
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.split() == ["0", "100", "120", "150"]


SPOILS = {
    "no columns": lambda d: d.pop("columns"),
    "another schema": lambda d: d.update(schema=1),
    "columns of unequal length": lambda d: d["columns"]["sent_ns"].append(1),
    "a column more": lambda d: d["columns"].update(extra=[1]),
    "a time below zero": lambda d: d["columns"].update(sent_ns=[-5]),
    "a time as text": lambda d: d["columns"].update(sent_ns=["0"]),
    "half a nanosecond": lambda d: d["columns"].update(done_ns=[3.5]),
    "a time beyond 64 bits": lambda d: d["columns"].update(done_ns=[2**70]),
    "an error that is a number": lambda d: d["columns"].update(error=[5]),
    "no probe": lambda d: d.update(probe=None),
    "a key more": lambda d: d["key"].update(extra=1),
    "another stage": lambda d: d["key"].update(stage="final"),
    "a chunk less": lambda d: d["columns"].update(chunks=[1]),
    "no layout": lambda d: d["gaps_ns"].update(layout="float64"),
    "another count": lambda d: d["gaps_ns"].update(count=7),
    "no base64": lambda d: d["gaps_ns"].update(base64="@@@@"),
    "a gap backwards": lambda d: d["gaps_ns"].update(layout="int64 little-endian", base64=b64encode(b"\xff" * 8).decode()),
    "a start as text": lambda d: d.update(started_at="now"),
    "a true start": lambda d: d.update(started_at=True),
    "a counter as text": lambda d: d["counters"].update(x="1"),
    "a measure as text": lambda d: d["machine"].update(cores="1"),
    "a digest as a number": lambda d: d.update(prompt_ids=[1]),
    "a context field as a number": lambda d: d["context"].update(node={"observed": 1}),
    "lag as text": lambda d: d["probe"].update(loop_lag_ns=["1"]),
    "wall time as text": lambda d: d["probe"].update(wall_s="1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILS)
def test_what_is_no_trial_is_named(kind: str) -> None:
    doc = json.loads(encode(trial([1, 2])))
    SPOILS[kind](doc)
    with pytest.raises(Corrupted, match=r"not a trial: .") as e:
        decode(doc, "cells/a/raw/b1.json")
    assert e.value.where == "cells/a/raw/b1.json"


def old(**columns: object) -> dict[str, object]:
    """A file as version 2 wrote it: one answer of two chunks."""
    doc = json.loads(encode(trial([1, 2])))
    del doc["columns"]["max_tokens"], doc["ignore_eos"]
    doc["columns"] |= {name: [value] for name, value in columns.items()}
    return {**doc, "schema": 2}


def test_a_file_of_version_2_reads_and_what_was_asked_is_unknown() -> None:
    run = decode(old(), "x").run
    assert run.ignore_eos is None and run.records[0] == replace(trial([1, 2]).run.records[0], max_tokens=None)


def test_an_answer_that_counted_as_completed_in_version_2_and_did_not_finish_well_is_read_as_failed() -> None:
    assert "'abort'" in (decode(old(finish_reason="abort"), "x").run.records[0].error or "")
    nothing = decode(old(finish_reason=None, completion_tokens=None), "x").run.records[0]
    assert nothing.error == "ended without a finish reason and without usage"
    assert decode(old(finish_reason=None), "x").run.records[0].ok, "whether [DONE] came was not kept"
    assert decode(old(finish_reason="abort", error="HTTP 500"), "x").run.records[0].error == "HTTP 500"


def test_an_answer_that_did_not_finish_well_cannot_count_as_completed_today() -> None:
    doc = json.loads(encode(trial([1, 2])))
    doc["columns"]["finish_reason"] = ["abort"]
    with pytest.raises(Corrupted, match="bad finish reason"):
        decode(doc, "x")
    with pytest.raises(Corrupted, match="columns of schema 3"):
        decode({**json.loads(encode(trial([1, 2]))), "schema": 2}, "x")
