"""The rules on runs whose numbers one can check by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from profile_and_optimize.analysis.lint import answers, cache, chunks, client, compare, context, load, names, sample
from profile_and_optimize.analysis.lint.finding import Finding, Given, Said, Severity, Unchecked, ms
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.importers.base import Imported, LoadKind, RequestSeen, Stat


def steady_requests(
    n: int, c: int, *, e2e: float = 1.0, wait: float = 0.0, gap: float = 0.1
) -> tuple[RequestSeen, ...]:
    """A closed loop of c slots; each answer takes `e2e`, and a free slot waits before the next. 8 tokens, 8 chunks."""
    turn = e2e + wait
    gaps = (gap,) * 7
    return tuple(
        RequestSeen(e2e - 7 * gap, gaps, e2e, 100, 8, None, None, (i // c) * turn + 0.001 * (i % c)) for i in range(n)
    )


def run_of(n: int = 40, c: int = 4, **more: object) -> Imported:
    """A good closed-loop run: E2E 1 s, TTFT 0.3 s, 8 tokens 0.1 s apart."""
    stats = {"ttft": Stat(0.3, 0.3, 0.3, 0.3, n), "tpot": Stat(0.1, 0.1, 0.1, 0.1, n), "itl": Stat(0.1, 0.1, 0.1, 0.1, 7 * n),
             "e2e_latency": Stat(1.0, 1.0, 1.0, 1.0, n)}  # fmt: skip
    made = Imported(
        tool="vllm", version=None, path="a.json", started="20260101-000000",
        load=LoadKind.CLOSED, concurrency=c, asked=n, completed=n, failed=0,
        duration_s=n / c, metrics=stats, request_throughput=float(c), output_throughput=8.0 * c, input_tokens=100 * n,
        output_tokens=8 * n, requests=steady_requests(n, c),
    )  # fmt: skip
    if more.get("request_rate") is not None:
        more = {"load": LoadKind.OPEN, **more}
    return replace(made, **more)  # type: ignore[arg-type]


def found(said: Iterable[Said]) -> list[tuple[str, str]]:
    return [(s.code, s.severity.value) for s in said if isinstance(s, Finding)]


def unchecked(said: Iterable[Said]) -> list[str]:
    return [s.code for s in said if isinstance(s, Unchecked)]


def seen(said: Iterable[Said]) -> str:
    return next(s.seen for s in said if isinstance(s, Finding))


def with_stat(run: Imported, name: str, stat: Stat) -> Imported:
    return replace(run, metrics={**run.metrics, name: stat})


# enough requests


@pytest.mark.parametrize(("n", "expected"), [(7, "wrong"), (8, "weak"), (11, "weak"), (12, None)])
def test_two_requests_a_slot_are_the_least_and_three_make_a_window(n: int, expected: str | None) -> None:
    assert found(sample.too_few_requests(run_of(n, 4))) == ([("too-few-requests", expected)] if expected else [])


def test_an_open_loop_has_no_slots_to_fill_and_unknown_slots_are_said() -> None:
    assert list(sample.too_few_requests(run_of(4, 4, request_rate=2.0))) == []
    assert unchecked(sample.too_few_requests(run_of(concurrency=None))) == ["too-few-requests"]


def test_a_p99_of_a_thousand_is_let_be() -> None:
    assert found(sample.p99_from_too_few(run_of(999))) == [("p99-from-too-few", "weak")]
    assert list(sample.p99_from_too_few(run_of(1000))) == []


# the client


def test_a_slot_that_waits_3_percent_of_its_time_is_a_late_client() -> None:
    assert found(client.late_client(run_of())) == []
    late = run_of(requests=steady_requests(40, 4, wait=0.03))
    assert found(client.late_client(late)) == [("late-client", "wrong")]
    assert "3.89 of 4" in seen(client.late_client(late)) or "3.88 of 4" in seen(client.late_client(late))
    assert found(client.late_client(run_of(requests=steady_requests(40, 4, wait=0.005)))) == [("late-client", "weak")]


def test_more_in_flight_than_slots_breaks_littles_law() -> None:
    assert "more than the 4 slots" in seen(client.late_client(run_of(request_throughput=4.5)))


def test_fewer_in_flight_than_slots_is_found_from_aggregates_once_the_ramps_are_short() -> None:
    bare = run_of(400, requests=(), request_throughput=3.8)
    assert found(client.late_client(bare)) == [("late-client", "wrong")]  # 3.8 of 4, and ramps can cost 1%
    assert found(client.late_client(run_of(40, requests=(), request_throughput=3.8))) == []  # ramps can cost 10%
    assert unchecked(client.late_client(run_of(requests=(), duration_s=None))) == ["late-client"]


def test_with_failures_nothing_is_said_of_the_concurrency() -> None:
    assert found(client.late_client(run_of(requests=steady_requests(40, 4, wait=0.1), failed=1))) == []


def test_in_an_open_loop_lag_is_in_no_latency_and_in_a_closed_one_it_only_empties_slots() -> None:
    lags = {"requests": (), "send_lag_s": (0.05,) * 40, "duration_s": None}
    assert found(client.late_client(run_of(**lags))) == [("late-client", "weak")]
    assert found(client.late_client(run_of(**lags, request_rate=4.0, concurrency=None))) == [("late-client", "wrong")]
    small = {**lags, "send_lag_s": (0.001,) * 40}
    assert found(client.late_client(run_of(**small, request_rate=4.0, concurrency=None))) == []


def test_our_own_client_is_taken_at_its_word() -> None:
    for word, severity in (("invalid", "wrong"), ("degraded", "weak")):
        own = run_of(tool="pao", facts={"honesty": word, "honesty_reasons": "late"})
        assert found(client.late_client(own)) == [("late-client", severity)]


# chunks


def test_gaps_of_nothing_between_bursts_are_no_itl() -> None:
    burst = tuple(replace(r, gaps_s=(0.0,) * 3 + (0.7,) + (0.0,) * 3) for r in steady_requests(40, 4))
    bunched = with_stat(run_of(requests=burst), "itl", Stat(p50=0.0, mean=0.1))
    assert found(chunks.coalesced_chunks(bunched)) == [("coalesced-chunks", "wrong")]
    assert found(chunks.coalesced_chunks(run_of())) == []


def test_one_empty_chunk_right_before_the_first_token_is_no_coalescing_and_no_role_chunk() -> None:
    extra = tuple(replace(r, gaps_s=(0.00001, *(r.gaps_s or ()))) for r in steady_requests(40, 4))
    assert found(chunks.coalesced_chunks(run_of(requests=extra))) == []
    assert found(chunks.role_chunk(run_of(requests=extra))) == []


def test_the_whole_answer_at_once_is_no_stream() -> None:
    at_once = with_stat(
        with_stat(run_of(requests=(), output_tokens=40 * 64), "ttft", Stat(p50=0.99)), "e2e_latency", Stat(p50=1.0)
    )
    assert "arrived at once" in seen(chunks.coalesced_chunks(at_once))


def test_a_long_first_gap_alone_is_weak_and_with_one_chunk_too_many_it_is_wrong() -> None:
    long = tuple(replace(r, ttft_s=0.01, gaps_s=(0.39, *(0.1,) * 6)) for r in steady_requests(40, 4))
    assert found(chunks.role_chunk(run_of(requests=long))) == [("role-chunk", "weak")]
    extra = tuple(replace(r, ttft_s=0.01, gaps_s=(0.29, *(0.1,) * 7)) for r in steady_requests(40, 4))
    assert found(chunks.role_chunk(run_of(requests=extra))) == [("role-chunk", "wrong")]


def test_parts_that_do_not_add_up_are_wrong() -> None:
    assert found(chunks.adds_up(run_of())) == []
    assert found(chunks.adds_up(with_stat(run_of(), "tpot", Stat(p50=0.0, mean=0.0)))) == [
        ("latencies-disagree", "wrong")
    ]
    assert found(chunks.adds_up(with_stat(run_of(), "tpot", Stat(p50=0.15, mean=0.15)))) == [
        ("latencies-disagree", "weak")
    ]
    small = with_stat(run_of(), "tpot", Stat(p50=0.001, mean=0.1))  # the means add up, the median cannot be
    assert found(chunks.adds_up(small)) == [("latencies-disagree", "wrong")]
    assert unchecked(chunks.adds_up(run_of(output_tokens=None))) == ["latencies-disagree"]


# load


def test_a_cap_that_never_bound_is_no_finding_and_one_that_did_is() -> None:
    idle = run_of(request_rate=1.0, send_lag_s=(0.0001,) * 40)
    assert found(load.semaphore(idle)) == []
    assert found(load.semaphore(run_of(request_rate=10.0, send_lag_s=(0.5,) * 40))) == [("semaphore", "wrong")]
    assert found(load.semaphore(run_of(request_rate=10.0))) == [("semaphore", "wrong")]  # 4 of 4 in flight
    assert found(load.semaphore(run_of(request_rate=10.0, request_throughput=2.5))) == [("semaphore", "weak")]
    assert found(load.semaphore(run_of(request_rate=10.0, request_throughput=1.0))) == []


def test_the_rate_is_that_of_the_sends_with_room_for_chance() -> None:
    spread = tuple(replace(r, sent_s=i / 9.0) for i, r in enumerate(steady_requests(400, 4)))
    open_loop = run_of(400, concurrency=None, requests=spread, load=LoadKind.OPEN)
    assert found(load.rate_not_delivered(replace(open_loop, request_rate=10.0))) == []  # 90%, three errors are 15%
    assert found(load.rate_not_delivered(replace(open_loop, request_rate=12.0))) == [("rate-not-delivered", "wrong")]


def test_due_times_take_chance_out_of_it() -> None:
    late = tuple(replace(r, sent_s=i / 9.0, lag_s=i / 9.0 - i / 10.0) for i, r in enumerate(steady_requests(400, 4)))
    run = run_of(400, concurrency=None, requests=late, request_rate=10.0)
    assert found(load.rate_not_delivered(run)) == [("rate-not-delivered", "wrong")]
    assert "9.00 req/s sent of 10.00 due" in seen(load.rate_not_delivered(run))


def test_without_send_times_the_drain_is_taken_off_the_duration() -> None:
    run = run_of(100, concurrency=None, requests=(), request_rate=10.0, duration_s=11.0)
    assert found(load.rate_not_delivered(run)) == []
    assert found(load.rate_not_delivered(replace(run, duration_s=21.0))) == [("rate-not-delivered", "wrong")]


# answers


def test_every_way_to_lose_a_request_is_failed_hidden() -> None:
    for lost in ({"failed": 2, "completed": 38}, {"completed": 39}, {"completed": 0, "failed": 0},
                     {"facts": {"cancelled": "yes"}}):  # fmt: skip
        assert found(answers.failed_hidden(run_of(**lost))) == [("failed-hidden", "wrong")], lost
    assert found(answers.failed_hidden(run_of())) == []
    assert unchecked(answers.failed_hidden(run_of(failed=None, asked=None))) == ["failed-hidden"]


def test_lengths_may_be_off_by_a_template_but_not_by_more() -> None:
    asked = {"isl_asked": "100", "osl_asked": "8"}
    assert found(answers.lengths(run_of(facts=asked))) == []
    assert found(answers.lengths(run_of(facts=asked, input_tokens=120 * 40))) == []
    assert found(answers.lengths(run_of(facts=asked, input_tokens=90 * 40))) == [("lengths", "weak")]
    assert found(answers.lengths(run_of(facts=asked, output_tokens=7 * 40))) == [("lengths", "weak")]


def test_the_two_meanings_of_random_range_ratio() -> None:
    sglang = run_of(tool="sglang", facts={"random_range_ratio": "0.8", "dataset": "random", "isl_asked": "100"})
    assert "from 0.8 to 1 times the advertised, 0.9 on average" in seen(answers.lengths(sglang))
    vllm = run_of(facts={"random_range_ratio": "0.8"})
    assert "from 1-0.8 to 1+0.8" in seen(answers.lengths(vllm))


# cache


def test_repeats_answered_sooner_are_wrong_and_others_weak() -> None:
    requests = steady_requests(40, 4)
    twice = tuple(f"p{i % 20}" for i in range(40))
    assert found(cache.repeats_inside(run_of(prompts=twice))) == [("warm-prefix", "weak")]
    quick = (*requests[:20], *(replace(r, ttft_s=0.05) for r in requests[20:]))
    assert found(cache.repeats_inside(run_of(prompts=twice, requests=quick))) == [("warm-prefix", "wrong")]
    assert list(cache.repeats_inside(run_of(prompts=tuple(f"p{i}" for i in range(40))))) == []
    assert list(cache.repeats_inside(run_of(prompts=twice, facts={"cache_mode": "warm"}))) == []


def test_a_ttft_that_falls_between_repeats() -> None:
    a = run_of()
    for now, expected in ((0.29, []), (0.15, [("warm-prefix", "weak")]), (0.05, [("warm-prefix", "wrong")])):
        assert found(cache.repeats_between([a, with_stat(run_of(path="b.json"), "ttft", Stat(p50=now))])) == expected, (
            now
        )
    other = with_stat(run_of(path="b.json", prompts=("x", "y")), "ttft", Stat(p50=0.05))
    assert found(cache.repeats_between([replace(a, prompts=("p", "q")), other])) == []


def test_the_same_answers_word_for_word_are_the_same_prompts() -> None:
    texts = tuple(f"t{i}" for i in range(40))
    same = cache.repeats_between([run_of(texts=texts), run_of(texts=texts, path="b.json")])
    assert "word for word" in seen(same)
    one_text = ("t",) * 40  # a server that always says the same shows nothing
    assert list(cache.repeats_between([run_of(texts=one_text), run_of(texts=one_text)])) == []


# names, context


def test_only_a_tool_that_calls_tpot_something_else_is_told() -> None:
    assert list(names.tpot_by_another_name(run_of(named={"tpot": "*_tpot_ms"}))) == []


def test_context_is_missing_until_it_is_there() -> None:
    full = {k: "x" for facts in context.WANTED.values() for k in facts}
    assert list(context.context_missing(run_of(version="1", facts=full))) == []
    assert found(
        context.context_missing(run_of(version="1", facts={**full, "hardware": "", "gpu": "", "accelerator": ""}))
    ) == [("context-missing", "unknown")]


# comparisons


def sides(*starts: str) -> list[Given]:
    """Runs named by their side's letter in the order they ran."""
    made: dict[str, list[Imported]] = {}
    for i, side in enumerate("".join(starts)):
        made.setdefault(side, []).append(run_of(path=f"{side}{i}.json", started=f"20260101-0000{i:02}"))
    return [Given(name, tuple(runs)) for name, runs in made.items()]


def test_aaabbb_is_wrong_and_ababab_is_fine() -> None:
    assert found(compare.between(sides("aaabbb"))) == [("order", "wrong")]
    assert found(compare.between(sides("ababab"))) == []
    assert found(compare.between(sides("ab"))) == [("order", "weak")]
    assert found(compare.between(sides("aaa"))) == []


def test_unknown_start_times_leave_the_order_unchecked() -> None:
    without = [Given(g.name, tuple(replace(r, started=None) for r in g.runs)) for g in sides("aabb")]
    assert (found(compare.between(without)), unchecked(compare.between(without))) == ([], ["order"])


def test_a_difference_of_context_needs_both_sides_to_be_known() -> None:
    a, b = run_of(facts={"backend": "chat"}), run_of(path="b.json", started=None)
    pair = lambda y: compare.between([Given("a", (a,)), Given("b", (y,))])  # noqa: E731
    assert found(pair(b)) == []
    assert found(pair(replace(b, facts={"backend": "completions"}))) == [("different-context", "wrong")]
    assert found(pair(replace(b, input_tokens=4400))) == [("different-context", "wrong")]
    assert found(pair(replace(b, input_tokens=4100))) == []
    a = replace(a, facts={"model": "m"})
    assert found(pair(replace(b, facts={"model": "m-fp8"}))) == [("different-context", "weak")]


def test_one_run_at_a_load_has_no_repeat() -> None:
    assert found(compare.inside(Given("a", (run_of(), run_of(path="b.json"), run_of(c=8))))) == [("one-run", "weak")]


def test_a_finding_says_everything_or_is_none() -> None:
    with pytest.raises(ValueError, match="why it matters"):
        Finding("x", Severity.WRONG, "a", "seen", "", "fix")
    assert [ms(s) for s in (0.000003, 0.0545, 1.932)] == ["0.003 ms", "54.5 ms", "1932 ms"]


def record_at(index: int, sent_s: float) -> RequestRecord:
    """The same request as a record: 8 chunks, the first after 0.3 s, the last after 1.0 s."""
    sent = round(sent_s * 1e9)
    chunk_ns = tuple(sent + k * 100_000_000 for k in range(3, 11))
    return RequestRecord(index, sent, sent, chunk_ns[-1], chunk_ns=chunk_ns, completion_tokens=8)


def test_ramps_that_dilute_the_stated_rate_are_told_with_the_steady_one() -> None:
    records = tuple(record_at(i, r.sent_s or 0.0) for i, r in enumerate(steady_requests(40, 4)))
    assert found(sample.ramp_in_throughput(run_of(records=records, output_throughput=32.0))) == []
    assert found(sample.ramp_in_throughput(run_of(records=records, output_throughput=25.0))) == [
        ("ramp-in-throughput", "weak")
    ]
    assert unchecked(sample.ramp_in_throughput(run_of())) == ["ramp-in-throughput"]


# doubts


def test_slots_of_a_cap_were_never_meant_to_be_full_and_an_unknown_load_is_said() -> None:
    for kind in (LoadKind.OPEN, LoadKind.CHANGING, LoadKind.BURST, LoadKind.TRACE):
        assert list(sample.too_few_requests(run_of(4, 4, load=kind))) == []
    assert unchecked(sample.too_few_requests(run_of(4, 4, load=LoadKind.UNKNOWN))) == ["too-few-requests"]


def test_a_rate_is_not_held_against_a_sample_of_the_requests() -> None:
    run = run_of(100, concurrency=None, requests=(), request_rate=10.0, duration_s=21.0)
    assert found(load.rate_not_delivered(run)) == [("rate-not-delivered", "wrong")]
    (said,) = load.rate_not_delivered(replace(run, unlisted="every request: the file lists 5 of 100"))
    assert isinstance(said, Unchecked) and "5 of 100" in said.lacks


def test_what_rests_on_failures_is_not_checked_where_nothing_counts_them() -> None:
    bare = run_of(400, requests=(), request_throughput=3.8)
    assert found(client.late_client(bare)) == [("late-client", "wrong")]
    assert unchecked(client.late_client(replace(bare, failed=None))) == ["late-client"]


def test_seconds_in_a_field_of_milliseconds_leave_the_slots_a_thousand_times_too_empty() -> None:
    assert found(client.late_client(with_stat(run_of(requests=()), "e2e_latency", Stat(mean=0.001)))) == [
        ("late-client", "wrong")
    ]


def test_no_answer_zero_latency_and_contradictions_are_wrong_and_unread_values_weak() -> None:
    assert found(answers.no_answer(run_of(silent="40 requests brought nothing"))) == [("no-answer", "wrong")]
    assert found(answers.zero_latency(run_of(zeros={"ttft": ("p50",)}))) == [("zero-latency", "wrong")]
    assert found(answers.contradiction(run_of(contradicts=("a is not b",)))) == [("contradiction", "wrong")]
    assert found(answers.unreadable(run_of(unread=("x: NaN",)))) == [("unreadable", "weak")]
    rest = [f(run_of()) for f in (answers.no_answer, answers.zero_latency, answers.contradiction, answers.unreadable)]
    assert [list(said) for said in rest] == [[], [], [], []]


def test_what_still_ran_is_weak_and_no_failure() -> None:
    assert found(answers.failed_hidden(run_of(asked=43, incomplete=3))) == [("cut-off", "weak")]


def test_runs_that_say_another_thing_of_themselves_are_no_repeats() -> None:
    a, b = (
        run_of(facts={"model": "m", "seed": "1"}),
        run_of(path="b.json", facts={"model": "m", "seed": "2", "rtfx": "0.5"}),
    )
    assert found(compare.inside(Given("a", (a, b)))) == []
    for other in ({"model": "n"}, {"model": "m", "kv_cache": "fp8"}, {"model": "m", "engine_version": "0.9"}, {}):
        assert found(compare.inside(Given("a", (a, replace(b, facts=other))))) == [("one-run", "weak")] * 2, other


def test_half_of_the_stated_tokens_by_its_own_count_are_wrong_on_every_backend() -> None:
    for backend in ("sglang", "sglang-oai-chat"):
        run = run_of(tool="sglang", facts={"backend": backend, "total_output_tokens_retokenized": "150"})  # of 320
        assert found(answers.tokens_assumed(run)) == [("tokens-assumed", "wrong")]
