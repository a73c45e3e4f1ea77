"""What must be the same wherever it is seen: the machine over the campaign, an arm's engine over its trials. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from profile_and_optimize.campaign.loading import Remark
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.context import ARM_FIELDS, UNKNOWN
from profile_and_optimize.evidence.trialfile import trial_path

SAME_EVERYWHERE = frozenset((
    "node", "kernel", "driver", "base_model_digest", "client", "client_version", "hardware", "gpu_ids", "cores_total",
    "memory_total_bytes", "suite", "python", "model",
))  # fmt: skip
SAME_PER_POINT = frozenset(("workload", "load", "cache_mode"))


def check_context(trials: Iterable[Judged]) -> Iterator[Remark]:
    """Each field against the first trial that knows it; what is unknown differs from nothing."""
    first: dict[tuple[str, str], tuple[str, Judged]] = {}
    for t in trials:
        for name, field in t.file.context.items():
            scope = _scope(name, t)
            value = value_of(field)
            if scope is None or value == UNKNOWN:
                continue
            known, other = first.setdefault((name, scope), (value, t))
            if value != known:
                yield Remark(trial_path(t.key), f"{name} is {value!r} here and {known!r} in {trial_path(other.key)}")


def check_counters(trials: Iterable[Judged]) -> Iterator[Remark]:
    """A server that keeps counters keeps them over every trial; one that could not be read looks like one that was emptied."""
    trials = tuple(trials)
    keeps = {t.key.arm for t in trials if t.file.counters}
    for t in trials:
        if t.key.arm in keeps and not t.file.counters:
            yield Remark(
                trial_path(t.key), "without the server's counters, which other trials of this arm have", doubt=True
            )


def _scope(name: str, t: Judged) -> str | None:
    """Over what a field must not change: everything, one point, one arm. None where it may."""
    if name in ARM_FIELDS:
        return t.key.arm
    return "" if name in SAME_EVERYWHERE else t.key.point if name in SAME_PER_POINT else None


def value_of(field: Mapping[str, str]) -> str:
    """What was observed, else what was asked."""
    observed = field.get("observed", UNKNOWN)
    return observed if observed != UNKNOWN else field.get("asked", UNKNOWN)
