"""What the kernels of an arm's servers mean for it: not the ones asked for, or slower because they widen the weights.

A finding is computed from lines of logs that were kept and from the measured effect: `verify` derives it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from profile_and_optimize.analysis.decide import Decision, effect_json
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.layers import Served
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.settings import options
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.engines.kernels import (
    BOTH_SIDES,
    NONE,
    OWN_CHOICE,
    SOME,
    UNKNOWN,
    Layers,
    Line,
    another_than_asked,
    kernel_flags,
)

FALLBACK, SLOWER = "another kernel than asked", "slower: weights are dequantized"
NOTHING_SERVED: Mapping[str, Any] = {"layers": [], "kernel_findings": []}
WORDS = {
    "quantization": "weights taken as", "linear": "linear", "experts": "experts", "attention": "attention",
    "kv_cache": "KV cache", "lm_head": "lm_head", SOME: "layers it does not name",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelFinding:
    """One sentence with what carries it: the line of the log and, for a slower arm, the measured effect."""

    kind: str
    arm: str
    group: str
    says: str
    line: Line
    effect: Effect | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "cell": self.arm, "group": self.group, "says": self.says, "line": asdict(self.line),
            "effect": effect_json(self.effect),
        }  # fmt: skip


def kernels_of(ev: Evidence, d: Decision) -> dict[str, Any]:
    """`layers` and `kernel_findings` of quant_compare.json, by arm; {} for a run whose admission wrote down no formats."""
    plan = ev.plan
    arms = [a for a in plan.all_arms if a.checkpoint or a is plan.baseline]
    if not any(a.id in ev.served for a in arms):
        return {}
    findings = [f for a in arms if a.id in ev.served for f in fallbacks(ev.served[a.id], a.id)]
    findings += [f for a in arms if a.id in ev.served for f in slower(ev, a, d.effects.get(a.id))]
    return {
        "layers": {a.id: [x.to_json() for x in ev.served[a.id].layers] for a in arms if a.id in ev.served},
        "kernel_findings": [f.to_json() for f in findings],
    }


def fallbacks(served: Served, arm: str) -> Iterator[KernelFinding]:
    """Each group of layers that does not run by what was asked, once: in the engine's own words where it has some."""
    for layers in served.layers:
        words = WORDS[layers.group]
        if layers.fell_back is not None:
            says = f"{arm}: {words}: the engine reports that it did not do what was asked"
            yield KernelFinding(FALLBACK, arm, layers.group, says, layers.fell_back)
        elif layers.line is not None and another_than_asked(served.asked, layers):
            says = f"{arm}: {words}: asked for {layers.asked}, runs {layers.observed}"
            yield KernelFinding(FALLBACK, arm, layers.group, says, layers.line)
        elif layers.line is not None and layers.widened_by and _gives_up(served, layers):
            says = (
                f"{arm}: {words}: the checkpoint is made for arithmetic in {served.asked.form}, "
                f"{layers.observed} widens its weights instead"
            )
            yield KernelFinding(FALLBACK, arm, layers.group, says, layers.line)


def _gives_up(served: Served, layers: Layers) -> bool:
    """A kernel that a flag asked for is what was asked, whatever it does."""
    return served.asked.form in BOTH_SIDES and layers.asked == OWN_CHOICE


def slower(ev: Evidence, arm: Arm, effect: Effect | None) -> Iterator[KernelFinding]:
    """Only for an arm that was shown to be WORSE than an unquantized baseline, and that differs from it by its checkpoint and
    the kernels of it alone: with other flags the loss may be theirs."""
    base = ev.served.get(ev.plan.baseline.id)
    mine = ev.served[arm.id]
    if effect is None or effect.call is not Call.WORSE or base is None or base.asked.form != NONE:
        return
    if mine.asked.form in (UNKNOWN, base.asked.form) or not _alike(arm, ev.plan.baseline):
        return
    for layers in mine.layers:
        if layers.widened_by and layers.line is not None:
            says = (
                f"{arm.id} is slower than the unquantized {ev.plan.baseline.id} ({_size(effect)}) because the weights of its "
                f"{WORDS[layers.group]} layers are dequantized by {layers.widened_by} ({layers.observed})"
            )
            yield KernelFinding(SLOWER, arm.id, layers.group, says, layers.line, effect)


def _alike(arm: Arm, base: Arm) -> bool:
    return arm.engine == base.engine and _others(arm) == _others(base) and dict(arm.env) == dict(base.env)


def _others(arm: Arm) -> list[tuple[str, str]]:
    """An arm's flags but for those that choose a kernel of its weights."""
    return sorted((name, value) for name, value in options(arm.flags) if name not in kernel_flags())


def _size(effect: Effect) -> str:
    told = effect_json(effect) or {}
    if any(told.get(k) is None for k in ("estimate", "lower", "upper")):
        return "by an unknown amount"
    return f"{told['estimate']:+.1%}, {told['lower']:+.1%} to {told['upper']:+.1%}"


def shown(served: Served, arm: str) -> dict[str, Any]:
    """The two fields of one row of a matrix, in which nothing is compared and so nothing is slower."""
    return {
        "layers": [x.to_json() for x in served.layers],
        "kernel_findings": [f.to_json() for f in fallbacks(served, arm)],
    }


def layer_lines(row: Mapping[str, Any]) -> list[str]:
    """The layers and findings of one row as text: nothing for a row of a run from before they were derived."""
    layers = row.get("layers") or []
    grid = [(WORDS[x["group"]], x["asked"], observed_words(x), from_words(x)) for x in layers]
    wide = [max(map(len, column)) for column in zip(*grid, strict=True)][:3] if grid else []
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(r, wide, strict=False)), r[3]]).rstrip() for r in grid]
    head = ["layers | asked | observed | from"] if lines else []
    return [*head, *(f"  {line}" for line in lines), *(finding_words(f) for f in row.get("kernel_findings") or [])]


def observed_words(layers: Mapping[str, Any]) -> str:
    return f"unknown: {layers['why']}" if layers["observed"] == UNKNOWN else str(layers["observed"])


def from_words(layers: Mapping[str, Any]) -> str:
    """The line that names it, "" where nothing does."""
    return f"{layers['line']['log']}:{layers['line']['number']}" if layers["line"] else ""


def finding_words(finding: Mapping[str, Any]) -> str:
    line = finding["line"]
    return f"finding: {finding['says']}. {line['log']}:{line['number']}: {line['says'].strip()}"
