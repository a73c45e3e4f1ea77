"""The context every number carries, and the rule for when two numbers may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "unknown"

# Fields an arm may differ in: the difference is the lever. Everything else must match.
ARM_FIELDS = frozenset(
    {
        "engine",
        "engine_version",
        "flags",
        "env",
        "checkpoint_digest",
        "quantization",
        "kv_cache_dtype",
        "tp",
        "dp",
        "pp",
        "ep",
        "max_num_seqs",
        "max_num_batched_tokens",
        "memory_fraction",
        "max_model_len",
        "cuda_graph_mode",
        "async_scheduling",
        "prefix_caching",
        "dtype",
        "thread_binding",
        "source_commit",
        "delivery",
        "url",
        "served_model",
        "enforce_eager",
        "cores_bound",
        "engine_lock",
        "torch_threads",
        "modified_files",
        "attention_backend",
    }
)
ENVIRONMENT_FIELDS = frozenset(
    {
        "model",
        "base_model_digest",
        "hardware",
        "node",
        "driver",
        "clocks",
        "gpu_ids",
        "cores_total",
        "client_cores",
        "client",
        "client_version",
        "client_scheduler",
        "workload",
        "load",
        "cache_mode",
        "compile_cache",
        "kernel",
        "memory_total_bytes",
        "suite",
        "template_tokens",
        "python",
    }
)


@dataclass(frozen=True, slots=True)
class ContextField:
    """`asked` is what flags or plan said, `observed` what was seen; either may be "unknown"."""

    name: str
    asked: str = UNKNOWN
    observed: str = UNKNOWN

    def __post_init__(self) -> None:
        if self.name not in ARM_FIELDS | ENVIRONMENT_FIELDS:
            raise ValueError(f"context field {self.name!r} is in neither table")

    @property
    def kind(self) -> str:
        return "arm" if self.name in ARM_FIELDS else "environment"

    @property
    def value(self) -> str:
        """What was observed, else what was asked."""
        return self.observed if self.observed != UNKNOWN else self.asked


@dataclass(frozen=True, slots=True)
class Context:
    fields: tuple[ContextField, ...]

    def gaps(self) -> tuple[str, ...]:
        """Fields of the tables that this context does not know."""
        known = {f.name for f in self.fields if f.value != UNKNOWN}
        return tuple(sorted((ARM_FIELDS | ENVIRONMENT_FIELDS) - known))

    def get(self, name: str) -> str:
        return next((f.value for f in self.fields if f.name == name), UNKNOWN)

    def to_json(self) -> dict[str, dict[str, str]]:
        return {f.name: {"kind": f.kind, "asked": f.asked, "observed": f.observed} for f in self.fields}


def context(asked: Mapping[str, Any], observed: Mapping[str, Any]) -> Context:
    """A context from two plain mappings; None and missing are unknown."""
    names = sorted(set(asked) | set(observed))
    return Context(tuple(ContextField(n, _text(asked.get(n)), _text(observed.get(n))) for n in names))


def context_from_json(data: Mapping[str, Mapping[str, str]]) -> Context:
    return Context(tuple(ContextField(n, d["asked"], d["observed"]) for n, d in sorted(data.items())))


def differences(a: Context, b: Context, kind: str) -> tuple[str, ...]:
    """Names of the fields of that kind that differ, in words: "node: a1 | b7". Unknown differs from nothing."""
    names = sorted({f.name for f in a.fields + b.fields if f.kind == kind})
    pairs = [(n, a.get(n), b.get(n)) for n in names]
    return tuple(f"{n}: {x} | {y}" for n, x, y in pairs if x != y and UNKNOWN not in (x, y))


def _text(value: Any) -> str:
    if value is None or value == "":
        return UNKNOWN
    return str(value)
