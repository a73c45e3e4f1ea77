"""Did the answers come, and were they what was asked for? Failures, token counts, lengths."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.analysis.lint import flags
from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity, Unchecked
from profile_and_optimize.importers.base import Imported

LENGTH_OFF = 0.05
TEMPLATE_TOKENS = 32
COUNTS_DIFFER = 0.05
MOST_REASONS = 2
REASON_CHARS = 100


def failed_hidden(run: Imported) -> Iterator[Said]:
    """Requests that are in no latency: failed, lost, cut off, or whole runs of a sweep that died."""
    seen = list(_failures(run))
    if seen:
        yield Finding(
            "failed-hidden", Severity.WRONG, run.path, "; ".join(seen),
            "the latencies are those of the answers that came, and a server that refuses work looks fast",
            "find the reason in the server's log, then run it again; pao bench URL prints failures and their reasons beside the numbers",
        )  # fmt: skip
    elif run.failed is None:
        yield Unchecked("failed-hidden", run.path, f"how many requests were asked for or failed ({flags.detail(run)})")


def _failures(run: Imported) -> Iterator[str]:
    if run.failed:
        reasons = ", ".join(f"{n} x {e[:REASON_CHARS]}" for e, n in run.errors[:MOST_REASONS])
        yield f"{run.failed} of {run.asked or (run.completed or 0) + run.failed} requests failed" + (
            f" ({reasons})" if reasons else ""
        )
    if run.asked is not None and run.completed is not None and run.completed + (run.failed or 0) < run.asked:
        yield f"{run.asked - run.completed - (run.failed or 0)} of {run.asked} requests neither completed nor failed"
    if run.completed == 0 and not run.failed:
        yield "no request completed"
    if run.completed and run.output_tokens == 0:
        yield f"{run.completed} requests completed with no output token"
    if run.facts.get("cancelled"):
        yield "the run was cancelled"
    if run.facts.get("sweep_failures"):
        yield f"runs of this sweep died and left {run.facts['sweep_failures']}"


def unreadable(run: Imported) -> Iterator[Said]:
    """A file beside the result that is no whole JSON: a run that broke off, or something else altogether."""
    if broken := run.facts.get("unreadable_beside"):
        yield Finding(
            "unreadable", Severity.WEAK, run.path, broken,
            "a result that broke off while it was written is a run that is missing from what is shown",
            "run it again, or take the file out of the folder",
        )  # fmt: skip


def tokens_assumed(run: Imported) -> Iterator[Said]:
    """SGLang's benchmark takes the asked length for the length of an answer unless the stream reports usage."""
    if run.tool != "sglang" or run.facts.get("backend") in ("sglang", "sglang-native"):
        return
    counted = run.facts.get("total_output_tokens_retokenized", "")
    if not counted.isdigit() or not run.output_tokens:
        yield Unchecked("tokens-assumed", run.path, "a count of the tokens that came")
    elif abs(int(counted) / run.output_tokens - 1) > COUNTS_DIFFER:
        yield Finding(
            "tokens-assumed", Severity.WEAK, run.path,
            f"{run.output_tokens} output tokens stated, {counted} by its own count of the text",
            "on this backend the stated count is the length that was asked for unless the server volunteers usage, "
            "and TPOT and tok/s rest on it",
            "--backend sglang against an SGLang server; else " + flags.own_bench(run) + ", which asks for usage",
        )  # fmt: skip


def lengths(run: Imported) -> Iterator[Said]:
    """Mean lengths against those asked for, and random_range_ratio, which two tools define differently."""
    off = [t for name, got in (("isl", run.input_tokens), ("osl", run.output_tokens)) if (t := _length(run, name, got))]
    ratio = run.facts.get("random_range_ratio")
    if ratio and run.tool == "sglang" and run.facts.get("dataset", "").startswith("random") and _number(ratio) != 1.0:
        r = _number(ratio) or 0.0
        off.append(
            f"random_range_ratio {ratio}: lengths are drawn from {r:g} to 1 times the advertised, {(1 + r) / 2:g} on average"
        )
    elif ratio and run.tool == "vllm" and _number(ratio) != 0.0:
        off.append(f"random_range_ratio {ratio}: lengths are drawn from 1-{ratio} to 1+{ratio} times the advertised")
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
    return _number(run.facts.get(f"{name}_asked") or run.facts.get(older, ""))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _length_fix(run: Imported) -> str:
    own = {
        "vllm": "vllm bench serve --random-range-ratio 0 --ignore-eos",
        "sglang": "python -m sglang.benchmark.serving --random-range-ratio 1.0",
        "aiperf": "aiperf profile --isl-stddev 0 --extra-inputs ignore_eos:true --use-server-token-count",
    }
    return own.get(run.tool, "pao bench URL --isl N --osl N (its prompts have the exact length by the server's count)")
