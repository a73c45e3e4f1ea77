"""A count of tokens is believed only where usage, chunks and max_tokens agree. 16 were asked for unless said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.stats.columns import MISSING, Records
from profile_and_optimize.stats.summary import TrialSummary, summarize

MS = 1_000_000


def answer(
    i: int, usage: int | None, *, chunks: int = 16, asked: int | None = 16, finish: str | None = "length"
) -> RequestRecord:
    times = tuple((10 + i + k) * MS for k in range(chunks))
    return RequestRecord(i, i * MS, i * MS, times[-1] + MS, times[0], times, 24, usage, 200, finish, max_tokens=asked)


def summary(*records: RequestRecord) -> TrialSummary:
    return summarize(records, asked=len(records), concurrency=1, drop=0)


CONTRADICTED = {
    "no usage": (answer(0, None), "no count"),
    "0 of 16": (answer(0, 0), "0 output tokens"),
    "1 of 16": (answer(0, 1), "fewer output tokens than chunks of content came (1 for 16)"),
    "15 of 16": (answer(0, 15), "(15 for 16)"),
    "double": (answer(0, 32), "more output tokens than max_tokens allowed (32 of 16)"),
    "160 of at most 16, in one chunk": (answer(0, 160, chunks=1, finish="stop"), "(160 of 16)"),
    "stopped at the length with half of it": (answer(0, 8, chunks=8), "fewer (8 of 16)"),
}


@pytest.mark.parametrize("kind", CONTRADICTED)
def test_a_count_that_is_contradicted_is_unknown_with_the_reason_and_so_is_what_rests_on_it(kind: str) -> None:
    record, words = CONTRADICTED[kind]
    s = summary(record)
    assert s.osl_observed is None and s.output_throughput is None and s.whole_output_throughput is None
    assert s.tokens_per_chunk is None and s.dists["tpot"] is None and s.dists["ttft"] is not None
    ((why, n),) = s.unknown_why
    assert words in why and n == 1 and s.unknown_share("output_tokens") == s.unknown_share("tpot") == 1.0


def test_counts_that_agree_are_believed() -> None:
    for record in (answer(0, 16), answer(0, 16, chunks=4), answer(0, 16, chunks=1), answer(0, 7, chunks=7, finish="stop"),
                   answer(0, 160, asked=None), answer(0, 16, finish=None)):  # fmt: skip
        s = summary(record)
        assert s.osl_observed == record.completion_tokens and s.unknown_why == () and s.isl_observed == 24


def test_one_request_with_an_unknown_count_makes_the_rates_unknown_and_a_mean_says_so() -> None:
    s = summary(*(answer(i, 16) for i in range(9)), answer(9, 0))
    assert s.output_throughput is None and s.osl_observed == 16.0
    assert (s.unknown["output_tokens"], s.unknown["tpot"], s.unknown["ttft"]) == (1, 1, 0)
    assert s.unknown_share("output_tokens") == pytest.approx(0.1)
    assert s.to_json()["unknown"] == {"output_tokens": 1, "tpot_ms": 1}


def test_a_doubled_count_shows_beside_answers_in_which_every_chunk_was_a_token() -> None:
    free = [answer(i, 10, chunks=10, asked=64, finish="stop") for i in range(20)]
    odd = answer(20, 20, chunks=10, asked=64, finish="stop")
    assert summary(*free, odd).unknown["output_tokens"] == 1
    assert summary(*free[:3], odd).unknown["output_tokens"] == 0, "of three others nothing can be said"
    pairs = [replace(r, completion_tokens=20) for r in free]
    assert summary(*pairs).unknown["output_tokens"] == 0, "a server may send two tokens a chunk"


def test_answers_that_ended_early_are_short_not_unknown() -> None:
    s = summary(answer(0, 16), answer(1, 7, chunks=7, finish="stop"))
    assert (s.short, s.unknown["output_tokens"], s.osl_observed) == (1, 0, 11.5)


def test_zero_prompt_tokens_are_a_placeholder() -> None:
    s = summary(replace(answer(0, 16), prompt_tokens=0))
    assert s.isl_observed is None and s.unknown["prompt_tokens"] == 1


def test_chunks_that_another_client_counted_contradict_nothing() -> None:
    """vllm bench counts an empty first chunk too."""
    other = replace(answer(0, 16, chunks=17), status=None, finish_reason=None)
    assert Records.of([other]).counts.output.tolist() == [16]
    assert Records.of([replace(other, error="x")]).counts.output.tolist() == [MISSING]
