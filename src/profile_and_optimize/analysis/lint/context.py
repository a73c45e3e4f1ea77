"""What a reader needs beside the number and the file does not carry."""

from __future__ import annotations

from collections.abc import Iterator

from profile_and_optimize.analysis.lint.finding import Finding, Said, Severity
from profile_and_optimize.importers.base import Imported

# Our name of it -> facts or fields of which one is enough.
WANTED = {
    "model digest": ("model_digest", "base_model_digest"),
    "engine version": ("engine_version",),
    "hardware": ("hardware", "gpu", "accelerator"),
    "server flags": ("flags", "server_args"),
    "dataset": ("dataset", "dataset_name"),
    "isl asked": ("isl_asked", "random_input_len"),
    "osl asked": ("osl_asked", "random_output_len"),
    "cache mode": ("cache_mode",),
    "seed": ("seed", "random_seed"),
    "who counted the tokens": ("token_counts",),
}


def context_missing(run: Imported) -> Iterator[Said]:
    lacks = missing(run)
    if lacks:
        yield Finding(
            "context-missing", Severity.UNKNOWN, run.path, "not in the file: " + ", ".join(lacks),
            "without these nobody can tell later what this number is a number of, or run it again",
            _fix(run),
        )  # fmt: skip


def missing(run: Imported) -> tuple[str, ...]:
    lacks = [name for name, facts in WANTED.items() if not any(run.facts.get(f) for f in facts)]
    lacks += [] if run.version else ["client version"]
    lacks += [] if run.started else ["when it ran"]
    return tuple(lacks)


def _fix(run: Imported) -> str:
    note = "vllm bench serve --metadata engine_version=... hardware=... flags=...; or " if run.tool == "vllm" else ""
    return note + "pao campaign_run RUN records all of it with every trial"
