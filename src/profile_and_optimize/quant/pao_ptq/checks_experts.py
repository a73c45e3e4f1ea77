"""Checks of experts and of recorded ranges."""

from __future__ import annotations

import re

import numpy as np

from .checks_file import protected
from .evidence import EXAMPLES, Check, Evidence, fail, pair_experts
from .headers import FLOATS
from .names import EXPERT, key, module_of, stacked_name
from .recorded import QuantizerFact


def experts_quantized(ev: Evidence) -> Check:
    """Each expert's each projection has its weight quantizer, and its packed tensor in the file."""
    name, there = "experts-quantized", pair_experts(ev)
    bad = [
        f"{e.name}: {e.weight_quantizers} weight quantizers for {e.count} experts x {e.projections} projections"
        for e, _ in there.asked
        if e.weight_quantizers != e.count * e.projections
    ]
    if bad:
        return fail(name, "experts without a weight quantizer", bad)
    if there.odd:
        return fail(name, "experts on one side only, the record or the base's files", list(there.odd))
    bad = [
        f"{n}: not quantized in the file"
        for _, weights in there.asked
        for n, done in sorted(weights.items())
        if not done
    ]
    # Two or three tensors with all experts in each, or two or three for every expert.
    bad += [
        f"{e.name}: {len(weights)} weights in the file for {e.count} experts"
        for e, weights in there.asked
        if len(weights) not in (2, 3, 2 * e.count, 3 * e.count)
    ]
    if bad:
        return fail(name, "experts in the file that are not quantized", bad)
    if not there.asked:
        return Check(
            name, True, "the recipe leaves every expert as it is" if there.alone else "no experts in this model"
        )
    total, count = (sum(f(e) for e, _ in there.asked) for f in (lambda e: e.weight_quantizers, lambda e: e.count))
    return Check(name, True, f"{total} weight quantizers on {count} experts of {len(there.asked)} layers")


def amax_finite(ev: Evidence) -> Check:
    """Every enabled quantizer that keeps a range has a finite one over zero."""
    name = "amax-finite"
    enabled = [q for q in ev.facts.quantizers if q.enabled]
    if not any(q.of == "weight" for q in enabled):
        return fail(name, "no weight quantizer is enabled", [])
    static = [q for q in enabled if not q.dynamic]
    untold = [q.name for q in static if q.amax_finite is None or q.amax_max is None]
    bad = [f"{q.name}: {q.amax_min} to {q.amax_max}" for q in static if q.name not in set(untold) and _no_range(q)]
    if bad:
        return fail(name, "enabled quantizers without a usable range", bad)
    if untold:
        return Check(name, None, f"{len(untold)} enabled quantizers have no recorded range", tuple(untold[:EXAMPLES]))
    return Check(
        name, True, f"{len(static)} ranges are finite and over zero; {len(enabled) - len(static)} are taken as it runs"
    )


def _no_range(q: QuantizerFact) -> bool:
    low, high = q.amax_min, q.amax_max
    if q.amax_finite is False or high is None or not np.isfinite(high) or high <= 0:
        return True
    # A row of zeros in a weight is no fault of calibration; its scale in the file is looked at in `no-zero-scale`.
    return q.of != "weight" and (low is None or not np.isfinite(low) or low <= 0)


def inputs_calibrated(ev: Evidence) -> Check:
    """Every input range was taken from tokens; an expert that no token reached is named."""
    name = "inputs-calibrated"
    static = [q for q in ev.facts.quantizers if q.enabled and q.of == "input" and not q.dynamic]
    if not static:
        return Check(name, True, "the recipe takes no input range from the calibration text")
    blind = [q.name for q in static if q.saw_tokens is False]
    idle, untold = [], [q.name for q in static if q.saw_tokens is None]
    for e, _ in pair_experts(ev).asked:
        if e.tokens is None or len(e.tokens) != e.count:
            untold.append(e.name)
        else:
            idle += [f"expert {i} of {e.name}" for i, n in enumerate(e.tokens) if not n]
    if blind or idle:
        return fail(
            name, "input ranges without tokens: calibrate with more or other text (--samples, --calib)", idle + blind
        )
    if untold:
        return Check(name, None, "tokens were not counted for all", tuple(untold[:EXAMPLES]))
    few = min((n for e, _ in pair_experts(ev).asked for n in e.tokens or ()), default=None)
    return Check(
        name, True, f"{len(static)} input ranges saw tokens" + (f"; the fewest of an expert: {few}" if few else "")
    )


def unknown_moe(ev: Evidence) -> Check:
    """Big parameters that the backend passed over: older versions skipped 91% of an MoE model's weights in silence."""
    name = "unknown-moe-module"
    total = sum(t.params for t in ev.base.values())
    bad = []
    for n, t in ev.base.items():
        if ev.is_packed(n) or (n not in ev.plain and n not in ev.apart) or len(t.shape) < 2 or t.dtype not in FLOATS:
            continue
        module = module_of(n)
        if (
            ev.excluded(module)
            or ev.excluded(n)
            or protected(ev, n)
            or "conv" in n
            or EXPERT.sub(r"\1", stacked_name(n)) in pair_experts(ev).alone
        ):
            continue
        stack = len(t.shape) == 3 and t.shape[0] > 1
        expert = re.search(r"(^|[._])(experts?|moe)([._]|$)", n) is not None and "bias" not in n.rsplit(".", 1)[-1]
        bare = not n.endswith(".weight") and key(module) not in ev.known and t.params > 0.01 * total
        if stack or expert or bare:
            what = "a stack of matrices" if stack else "an expert" if expert else "a parameter of no module"
            bad.append(f"{n} {list(t.shape)}: {what}, {t.params / total:.1%} of the weights, left as it was")
    if bad:
        return fail(
            name,
            "the backend does not recognise these and left them unquantized; exclude them, or use another backend",
            bad,
        )
    return Check(name, True, "no stack of matrices and no expert was passed over")
