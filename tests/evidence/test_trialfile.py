"""A trial survives the disk; what is no trial is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse, RequestRecord
from profile_and_optimize.core.trial import TrialKey
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
    assert decode(json.loads(encode(t)), "x") == t


def test_kept_bytes_survive_whatever_they_are() -> None:
    raw = (RawResponse(3, ((1, bytes(range(256))), (2, b"data: {}\r\n\r\n"))),)
    assert decode_raw(json.loads(encode_raw(raw))) == raw


def test_a_secret_in_kept_bytes_or_an_error_does_not_reach_the_file() -> None:
    assert b"hf_abcdefgh12345678" not in encode_raw((RawResponse(0, ((1, b"you sent hf_abcdefgh12345678"),)),))
    assert b"hunter2222" not in encode(trial([1], error="password=hunter2222"))


@pytest.mark.parametrize("spoil", [
    lambda d: d.pop("columns"), lambda d: d.update(schema=2), lambda d: d["columns"]["sent_ns"].append(1),
    lambda d: d["columns"].update(sent_ns=[-5]), lambda d: d.update(probe=None), lambda d: d["key"].update(extra=1),
    lambda d: d["columns"].update(chunk_ns=[[1, -5]]),
])  # fmt: skip
def test_what_is_no_trial_is_named(spoil) -> None:
    doc = json.loads(encode(trial([1, 2])))
    spoil(doc)
    with pytest.raises(Corrupted, match=r"cells/a/raw/b1\.json"):
        decode(doc, "cells/a/raw/b1.json")
