"""The vocabulary of options: one name and one help text for the same thing in every verb, and the old names that stay accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from profile_and_optimize.core.errors import WrongUse

# What an option that several verbs have means. A verb adds what is its own behind a semicolon.
SAYS = {
    "api": "endpoint of the requests: chat or completions",
    "backend": "backend that does the work",
    "base": "base to compare with",
    "blocks": "most blocks to run; default: as many as the time budget allows",
    "budget_minutes": "time budget in minutes; it fixes the number of blocks before the first one",
    "calib": "calibration text: a file, or the name of a data set; default: builtin, Python's own library",
    "campaign": "run: path, id or unique slug",
    "campaigns_dir": "folder of the runs; default: PAO_CAMPAIGNS_DIR, else ./campaigns",
    "chat": "use the model's chat template",
    "client_python": "bin/python of your own environment with the load generator; default: the tool environment",
    "client": "load generator; stream is ours, the others run in their own environments",
    "concurrency": "requests in flight at once",
    "data": "your own data: NAME=FILE, separated by commas",
    "data_source_line": "second line below the PDF's title; default: derived from the run",
    "dry_run": "show every command, start nothing and change nothing",
    "endpoint_url": "root URL of a running server, without /v1",
    "engine": "inference engine",
    "engine_flags": "flags of the server, written as in a shell",
    "engine_python": "bin/python of your own environment with the engine; default: the tool environment",
    "engines": "inference engines, separated by commas",
    "eval_python": "bin/python of your own environment with lm-eval; default: the tool environment",
    "exclude_pattern": "modules to leave unquantized: patterns, separated by commas",
    "extend": "blocks to add to a run that ended without a decision",
    "fail_if": "call of a variant that counts as a failure",
    "focus": "what is compared",
    "format": "format of the output",
    "i_understand_this_submits_jobs": "confirm that this starts servers and load on this machine",
    "isl": "input length in tokens",
    "model": "model: a folder, or a Hugging Face id",
    "num_samples": "answers to each question; more than one are sampled",
    "name": "name of the run; default: from the model",
    "osl": "output length in tokens",
    "out": "output path",
    "proof_blocks": "most blocks for the proof of the pick; 0: the pick stays a DRAFT",
    "ptq_python": "bin/python of your own environment with the quantizers; default: the tool environment",
    "questions": "file of questions with known answers, as JSON lines",
    "requests": "requests in each trial; default: 4 times the concurrency",
    "resume": "run to resume: path, id or unique slug",
    "samples": "calibration samples",
    "seed": "random seed; default: drawn and recorded",
    "seq_len": "tokens in each calibration sample",
    "served_model": "model name at the server; default: the first that it lists",
    "slo_tpot_ms": "limit of the p99 of the time per output token, in ms",
    "slo_ttft_ms": "limit of the p99 of the time to first token, in ms",
    "suite": "suite or workload; pao workloads lists them",
    "timeout_s": "seconds to wait for one answer",
    "tokenizer": "tokenizer folder; with it prompts have exact lengths",
    "tolerance_points": "largest loss of accuracy that passes, in percentage points",
    "tools_dir": "folder of the tool environments; default: PAO_TOOLS_DIR, else a folder of the user",
    "tp": "tensor-parallel ranks that will serve the checkpoint",
    "ttft_ms": "time to first token in ms",
    "variants_line": "line below the PDF's title; default: derived from the run",
    "vendor": "a vendor's quantized checkpoint to compare with",
    "workload": "workload of a suite; pao workloads lists them",
}
# Old names and those of other tools, each with the options that it may mean: the first that a request has is meant.
OLD = {
    "baseline_flags": ("engine_flags",), "cell_id": ("cell",), "flags": ("engine_flags",),
    "load": ("concurrency",), "model": ("served_model",), "python": ("eval_python", "engine_python", "ptq_python", "client_python"),
    "samples": ("num_samples",), "tensor_parallel": ("tp",), "tpot_sla_ms": ("slo_tpot_ms",), "ttft_sla_ms": ("slo_ttft_ms",),
    "url": ("endpoint_url",),
}  # fmt: skip

# What nothing does yet, by a field of the requests that other tools give it to.
NOT_YET = {"cell": ("namespace", "bench_pod", "kube_context")}


def says(name: str, more: str = "") -> str:
    """The help of an option of the vocabulary; `more` is what this verb adds, in place of what stands behind the semicolon."""
    return f"{SAYS[name].partition(';')[0]}; {more}" if more else SAYS[name]


def old_names(fields: Collection[str]) -> dict[str, str]:
    """Each old name that a request with these fields accepts, and the field that it means."""
    found = {
        old: next((name for name in names if name in fields), "") for old, names in OLD.items() if old not in fields
    }
    return {old: name for old, name in found.items() if name}


def not_yet(fields: Collection[str]) -> tuple[str, ...]:
    return tuple(name for has, names in NOT_YET.items() if has in fields for name in names)


def renamed(fields: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` under the names of today. Raises WrongUse for an option that is given under both of its names, and for one that
    does nothing yet."""
    for name in not_yet(fields):
        if name in values:
            raise WrongUse(
                "nothing runs on a cluster yet", where="--" + name.replace("_", "-"),
                next="--endpoint-url URL measures a server there from here; kubectl port-forward makes one reachable",
            )  # fmt: skip
    old = old_names(fields)
    twice = [name for name in values if name in old and old[name] in values]
    if twice:
        now = "--" + old[twice[0]].replace("_", "-")
        raise WrongUse(
            f"--{twice[0].replace('_', '-')} is the old name of {now}, which is given too", next=f"give {now} alone"
        )
    return {old.get(name, name): value for name, value in values.items()}
