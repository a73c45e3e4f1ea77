"""What must be the same wherever it is seen: the machine over the campaign, an arm's engine over its trials. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.context import ARM_FIELDS, UNKNOWN
from profile_and_optimize.evidence.trialfile import trial_path

SAME_EVERYWHERE = (
    "node", "kernel", "driver", "base_model_digest", "client", "client_version", "hardware", "gpu_ids", "cores_total",
    "memory_total_bytes", "suite", "python", "model",
)  # fmt: skip
SAME_PER_POINT = ("workload", "load", "cache_mode")


def check_context(trials: Iterable[Judged]) -> Iterator[Remark]:
    """Each field against the first trial that knows it; what is unknown differs from nothing."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for t in trials:
        scopes = [*((n, "") for n in SAME_EVERYWHERE), *((n, t.key.point) for n in SAME_PER_POINT)]
        for name, scope in (*scopes, *((n, t.key.arm) for n in ARM_FIELDS & t.file.context.keys())):
            value = value_of(t.file.context.get(name, {}))
            if value == UNKNOWN:
                continue
            known, where = first.setdefault((name, scope), (value, trial_path(t.key)))
            if value != known:
                yield Remark(trial_path(t.key), f"{name} is {value!r}, {where} says {known!r}")


def value_of(field: Mapping[str, str]) -> str:
    """What was observed, else what was asked."""
    observed = field.get("observed", UNKNOWN)
    return observed if observed != UNKNOWN else field.get("asked", UNKNOWN)
