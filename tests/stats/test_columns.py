"""Columns are the records they were made from, and refuse what a record refuses."""

from __future__ import annotations

import pickle
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.stats.columns import MISSING, NUMBERS, TEXTS, Records, column

NOT_KNOWN = st.one_of(st.none(), st.integers(0, 10**6))


@st.composite
def record(draw: st.DrawFn) -> RequestRecord:
    intended, wait, gaps = (
        draw(st.integers(0, 10**12)),
        draw(st.integers(0, 10**9)),
        draw(st.lists(st.integers(0, 10**10), max_size=9)),
    )
    times = tuple(intended + wait + sum(gaps[: i + 1]) for i in range(len(gaps)))
    done = (times[-1] if times else intended + wait) + draw(st.integers(0, 99))
    return RequestRecord(
        draw(st.integers(0, 10**6)), intended, intended + wait, done, draw(NOT_KNOWN), times, draw(NOT_KNOWN), draw(NOT_KNOWN),
        draw(NOT_KNOWN), draw(st.sampled_from([None, "stop"])), draw(st.sampled_from([None, "cut"])) if times else "HTTP 500",
    )  # fmt: skip


ROWS = st.lists(record(), max_size=12).map(tuple)


@given(ROWS)
def test_what_goes_in_comes_out(rows: tuple[RequestRecord, ...]) -> None:
    found = Records.of(rows)
    assert found == rows and rows == found and len(found) == len(rows) and found[1:3] == rows[1:3]
    assert tuple(found) == rows and pickle.loads(pickle.dumps(found)) == rows and Records.of(found) is found


@given(ROWS)
def test_chunk_times_are_those_of_the_records(rows: tuple[RequestRecord, ...]) -> None:
    found = Records.of(rows)
    times, owners = found.chunk_ns()
    assert times.tolist() == [t for r in rows for t in r.chunk_ns]
    assert owners.tolist() == [i for i, r in enumerate(rows) for _ in r.chunk_ns]
    assert found.last_ns.tolist() == [r.chunk_ns[-1] if r.chunk_ns else MISSING for r in rows]


def test_the_last_of_a_sequence_is_found_from_its_end() -> None:
    rows = tuple(RequestRecord(i, 0, 0, 9, chunk_ns=(5,)) for i in range(3))
    assert Records.of(rows)[-1].index == 2
    with pytest.raises(IndexError):
        Records.of(rows)[3]


def test_issue_order_is_by_intended_time_then_number() -> None:
    rows = [RequestRecord(i, at, at, 99, chunk_ns=(50,)) for i, at in ((0, 0), (2, 0), (1, 0), (3, 20), (4, 10))]
    assert [rows[k].index for k in Records.of(rows).issue_order] == [0, 1, 2, 4, 3]


GOOD = asdict(RequestRecord(7, 0, 1, 10, 2, (3, 5), 4, 2, 200, "stop"))


def columns(*, chunks: int = 2, first: int = 3, gaps: tuple[int, ...] = (2,), **changed: object) -> Records:
    row = {**GOOD, **changed}
    return Records(
        {n: column([row[n]]) for n in NUMBERS}, {n: [row[n]] for n in TEXTS}, chunks=column([chunks]), first_ns=column([first]),
        gaps_ns=np.array(gaps, dtype=np.int64),
    )  # fmt: skip


def test_the_row_that_the_spoiled_ones_begin_with_is_good() -> None:
    assert columns()[0] == RequestRecord(**GOOD)


@pytest.mark.parametrize("spoil", [
    {"sent_ns": -1}, {"done_ns": 0}, {"sent_ns": None}, {"done_ns": 2**60}, {"gaps": (-1,)}, {"gaps": ()}, {"gaps": (1, 1)},
    {"chunks": 0, "first": MISSING, "gaps": ()}, {"chunks": 0, "gaps": ()}, {"first": MISSING}, {"chunks": -1, "gaps": ()},
    {"first": 2**60}, {"gaps": (2**62,)}, {"intended_ns": -(2**60)}, {"intended_ns": None}, {"index": None},
])  # fmt: skip
def test_columns_that_cannot_be_are_refused_at_birth(spoil: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        columns(**spoil)


def test_the_sum_of_gaps_may_not_wrap_around() -> None:
    with pytest.raises(ValueError, match="104 days"):
        columns(chunks=5, gaps=(2**52, 2**52, 2**52, 2**52))


@pytest.mark.parametrize("values", [[1.5], ["1"], [True], [2**70], [[1]]])
def test_a_column_of_integers_takes_nothing_else(values: list[object]) -> None:
    with pytest.raises(ValueError):
        column(values)


def test_columns_of_unequal_length_are_refused() -> None:
    numbers = {n: column([GOOD[n]]) for n in NUMBERS} | {"status": column([200, 200])}
    with pytest.raises(ValueError, match="unequal"):
        Records(numbers, {n: [GOOD[n]] for n in TEXTS}, chunks=column([2]), first_ns=column([3]), gaps_ns=np.array([2]))
