"""What is wrong with results as evidence: rules over imported runs. Pure; each file holds the rules of one question."""

from __future__ import annotations

from collections.abc import Sequence

from profile_and_optimize.analysis.lint import answers, cache, chunks, client, compare, context, load, names, sample
from profile_and_optimize.analysis.lint.finding import Given, Lint, RunRule, Said

RULES: tuple[RunRule, ...] = (
    answers.no_answer, answers.zero_latency, answers.contradiction, answers.failed_hidden,
    answers.unreadable, client.late_client, chunks.coalesced_chunks, chunks.role_chunk, chunks.adds_up,
    load.semaphore, load.rate_not_delivered, sample.too_few_requests, cache.repeats_inside, sample.ramp_in_throughput,
    sample.p99_from_too_few, answers.tokens_assumed, answers.lengths, names.tpot_by_another_name, context.context_missing,
)  # fmt: skip


def lint(givens: Sequence[Given]) -> Lint:
    """Every finding over all runs, and over each argument and between them. A rule that does not apply says nothing."""
    said: list[Said] = [s for g in givens for run in g.runs for rule in RULES for s in rule(run)]
    said += [s for g in givens for s in compare.inside(g)]
    said += compare.between(givens)
    return Lint.of(said)
