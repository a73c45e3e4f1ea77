"""Did the answers come, and were they what was asked for? Failures, token counts, lengths."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked, finite, ms
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.importers.settle import E2E_OVER_TOKENS

LENGTH_OFF = 0.05
TEMPLATE_TOKENS = 32
COUNTS_DIFFER = 0.05
# Another tokenizer cuts a text into a tenth fewer or into twice as many; half as many is text that did not come.
FEW_OF_STATED = 0.5
MOST_CONTRADICTIONS = 4
MOST_UNREAD = 4
MOST_REASONS = 2
REASON_CHARS = 100


def no_answer(run: Imported) -> Iterator[Said]:
    """Requests that the tool counted as completed although nothing came, as when a server refuses all of them at once."""
    seen = run.silent or _without_text(run)
    if seen:
        yield Finding(
            "no-answer", Severity.WRONG, run.path, seen,
            "no answer came: the latencies are those of a refusal, and tok/s and TPOT rest on the length that was asked for",
            "look into the server's log (a prompt longer than its context is refused so), then run it again; "
            "pao bench URL counts an answer without text as failed",
        )  # fmt: skip


def _without_text(run: Imported) -> str:
    """Answers of the list without a first token and without a chunk, where the others have them."""
    empty = sum(r.ttft_s is None and not r.gaps_s for r in run.good)
    if run.tool not in ("vllm", "sglang") or not empty or (empty == len(run.good) and run.tool == "vllm"):
        return ""
    return f"{empty} of {len(run.good)} requests that are counted as completed show no first token and no chunk"


def zero_latency(run: Imported) -> Iterator[Said]:
    """Latencies of exactly zero: placeholders of a tool that measured nothing."""
    if not run.zeros or run.silent:
        return
    figures = "; ".join(f"{name} is exactly 0 in {', '.join(k)}" for name, k in run.zeros.items())
    over = run.aside.get(E2E_OVER_TOKENS)
    osl = run.output_tokens / run.completed if run.output_tokens and run.completed else None
    if over is not None and over.p50 is not None:
        of = f"E2E / {osl - 1:.0f}" if osl else "E2E / (OSL - 1)"
        figures += f"; its TPOT p50 {ms(over.p50)} is {of}, since it counts the TTFT as 0: not a TPOT"
    yield Finding(
        "zero-latency", Severity.WRONG, run.path, figures,
        "no latency is zero: the client saw no text, only the end or the usage, and wrote 0 where it measured nothing",
        f"read these as unknown; {flags.own_bench(run)} takes the first chunk with content, reasoning or a tool call",
    )  # fmt: skip


def contradiction(run: Imported) -> Iterator[Said]:
    """Figures that the same file disproves."""
    if run.contradicts:
        yield Finding(
            "contradiction", Severity.WRONG, run.path, "; ".join(run.contradicts[:MOST_CONTRADICTIONS]),
            "two figures of one file cannot both be right: it was edited, put together from several runs, or is in other units",
            "find the file as the tool wrote it, or run it again",
        )  # fmt: skip


def failed_hidden(run: Imported) -> Iterator[Said]:
    """Requests that are in no latency: failed, lost, or whole runs of a sweep that died."""
    seen = list(_failures(run))
    if seen:
        yield Finding(
            "failed-hidden", Severity.WRONG, run.path, "; ".join(seen),
            "the latencies are those of the answers that came, and a server that refuses work looks fast",
            "find the reason in the server's log, then run it again; pao bench URL prints failures and their reasons beside the numbers",
        )  # fmt: skip
    elif run.failed is None:
        yield Unchecked("failed-hidden", run.path, f"how many requests were asked for or failed ({flags.detail(run)})")
    if run.incomplete:
        yield Finding(
            "cut-off", Severity.WEAK, run.path,
            f"{run.incomplete} of {run.asked or 'an unknown number of'} requests were still running when the tool stopped",
            "they neither completed nor failed: the longest answers of the end are in no latency",
            "a number of requests instead of a duration: " + flags.requests(run, run.asked or 0) if run.asked
            else "a number of requests instead of a duration",
        )  # fmt: skip


def _failures(run: Imported) -> Iterator[str]:
    if run.failed:
        reasons = ", ".join(f"{n} x {e[:REASON_CHARS]}" for e, n in run.errors[:MOST_REASONS])
        yield f"{run.failed} of {run.asked or (run.completed or 0) + run.failed} requests failed" + (
            f" ({reasons})" if reasons else ""
        )
    lost = (run.asked or 0) - sum(n or 0 for n in (run.completed, run.failed, run.incomplete))
    if run.asked is not None and run.completed is not None and lost > 0:
        yield f"{lost} of {run.asked} requests neither completed nor failed"
    if run.completed == 0 and not run.failed:
        yield "no request completed"
    if run.facts.get("cancelled"):
        yield "the run was cancelled"
    if run.facts.get("sweep_failures"):
        yield f"runs of this sweep died and left {run.facts['sweep_failures']}"


def unreadable(run: Imported) -> Iterator[Said]:
    """A file or line beside the result that is no whole JSON, and values in it that are none of their kind."""
    if run.unread:
        more = f" and {len(run.unread) - MOST_UNREAD} more" if len(run.unread) > MOST_UNREAD else ""
        yield Finding(
            "unreadable", Severity.WEAK, run.path, "; ".join(run.unread[:MOST_UNREAD]) + more,
            "what cannot be read is unknown here, and what rests on it is not checked",
            "find out why the tool wrote it: a mean over nothing, or a file that was edited",
        )  # fmt: skip
    if broken := run.facts.get("unreadable_beside"):
        yield Finding(
            "unreadable", Severity.WEAK, run.path, broken,
            "a result that broke off while it was written is a run that is missing from what is shown",
            "run it again, or take the file out of the folder",
        )  # fmt: skip


def tokens_assumed(run: Imported) -> Iterator[Said]:
    """SGLang's benchmark takes the asked length for the length of an answer unless the stream reports usage."""
    if run.tool != "sglang" or run.silent:
        return
    counted = run.facts.get("total_output_tokens_retokenized", "")
    native = run.facts.get("backend") in ("sglang", "sglang-native")
    if native and not (counted.isdecimal() and run.output_tokens and int(counted) < FEW_OF_STATED * run.output_tokens):
        return
    if not counted.isdecimal() or not run.output_tokens:
        yield Unchecked("tokens-assumed", run.path, "a count of the tokens that came")
    elif abs(int(counted) / run.output_tokens - 1) > COUNTS_DIFFER:
        few = int(counted) < FEW_OF_STATED * run.output_tokens
        yield Finding(
            "tokens-assumed", Severity.WRONG if few else Severity.WEAK, run.path,
            f"{run.output_tokens} output tokens stated, {counted} by its own count of the text",
            "on this backend the stated count is the length that was asked for unless the server volunteers usage, "
            "and TPOT and tok/s rest on it",
            "--backend sglang against an SGLang server; else " + flags.own_bench(run) + ", which asks for usage",
        )  # fmt: skip


def lengths(run: Imported) -> Iterator[Said]:
    """Mean lengths against those asked for, and random_range_ratio, which two tools define differently."""
    off = [t for name, got in (("isl", run.input_tokens), ("osl", run.output_tokens)) if (t := _length(run, name, got))]
    ratio = run.facts.get("random_range_ratio")
    if ratio and run.tool == "sglang" and run.facts.get("dataset", "").startswith("random") and finite(ratio) != 1.0:
        r = finite(ratio) or 0.0
        off.append(
            f"random_range_ratio {ratio}: lengths are drawn from {r:g} to 1 times the advertised, {(1 + r) / 2:g} on average"
        )
    elif ratio and run.tool == "vllm" and finite(ratio) != 0.0:
        off.append(
            f"random_range_ratio {ratio}: lengths are drawn from 1-{ratio} to 1+{ratio} times the advertised in newer versions, "
            f"from {ratio} to 1 times in older ones; the file names no version"
        )
    if off:
        yield Finding(
            "lengths", Severity.WEAK, run.path, "; ".join(off),
            "prefill and decode work follow the lengths that were served, not the advertised ones; "
            "vLLM and SGLang give the same ratio different meanings",
            _length_fix(run),
        )  # fmt: skip
    elif not any(
        f"{n}_asked" in run.facts or f"random_{w}_len" in run.facts for n, w in (("isl", "input"), ("osl", "output"))
    ):
        yield Unchecked("lengths", run.path, "the lengths that were asked for")


def _length(run: Imported, name: str, total: int | None) -> str | None:
    asked = _asked(run, name)
    if not asked or not total or not run.completed:
        return None
    mean = total / run.completed
    room = TEMPLATE_TOKENS if name == "isl" else 0
    if abs(mean / asked - 1) <= LENGTH_OFF or (mean > asked and mean - asked <= room):
        return None
    return f"{name} {mean:.1f} on average, {asked:g} asked"


def _asked(run: Imported, name: str) -> float | None:
    older = "random_input_len" if name == "isl" else "random_output_len"
    return finite(run.facts.get(f"{name}_asked") or run.facts.get(older))


def _length_fix(run: Imported) -> str:
    own = {
        "vllm": "vllm bench serve --random-range-ratio 0 --ignore-eos",
        "sglang": "python -m sglang.benchmark.serving --random-range-ratio 1.0",
        "aiperf": "aiperf profile --isl-stddev 0 --extra-inputs ignore_eos:true --use-server-token-count",
    }
    return own.get(run.tool, "pao bench URL --isl N --osl N (its prompts have the exact length by the server's count)")
