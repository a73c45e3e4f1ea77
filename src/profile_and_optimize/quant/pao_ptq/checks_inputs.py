"""Is each stored scale of inputs the range that was recorded when the model answered with it?"""

from __future__ import annotations

from .evidence import Check, Evidence, fail
from .names import APART, EXPERT, key, module_of

# What a stored scale is multiplied with to give the largest magnitude; of a global one, what it divides.
TOPS = {"nvfp4": 6.0 * 448.0, "fp8": 448.0, "int8": 127.0}
NEAR = 0.01


def _recorded_as(name: str) -> tuple[str, ...]:
    """Names that a quantizer of this weight's input may have: the module's, or that of the stack which holds all experts."""
    match = EXPERT.match(name)
    if match is None or match[2] is None:
        return (key(module_of(name)),)
    stacks = [stack for stack, parts in APART.items() if any(match[3] in part for part in parts)]
    return (key(module_of(name)), *(key(f"{match[1]}.{stack}") for stack in stacks))


def input_scales(ev: Evidence) -> Check:
    """Stored scales of inputs beside recorded ranges, by module; one without the other is a fault."""
    name = "input-scales"
    recorded = {
        key(q.name.replace("_input_quantizer", "").split(".input_quantizer")[0]): q
        for q in ev.facts.quantizers
        if q.of == "input" and q.enabled and not q.dynamic
    }
    compared, bad = 0, []
    for p in ev.packed.values():
        held = p.scales.get("input_scale") or p.scales.get("input_global_scale")
        quantizer = next((recorded[n] for n in _recorded_as(p.name) if n in recorded), None)
        if held is None:
            bad += [f"{p.name}: a range of its input is recorded, and no scale stored"] if quantizer is not None else []
            continue
        if p.format not in TOPS or held.params != 1:
            bad.append(f"{held.name}: {held.dtype} {list(held.shape)} is not a scale of one input")
            continue
        stored = float(held.values().reshape(-1)[0])
        peak = TOPS[p.format] / stored if "input_global_scale" in p.scales and stored else stored * TOPS[p.format]
        if quantizer is not None and quantizer.amax_max is not None:
            compared += 1
            if not abs(peak - quantizer.amax_max) <= NEAR * quantizer.amax_max:
                bad.append(f"{held.name}: reaches {peak:.4g}, recorded is {quantizer.amax_max:.4g}")
    if bad:
        return fail(name, "scales of inputs that are not the recorded ranges", bad)
    return Check(
        name,
        True,
        f"{compared} scales are the recorded ranges" if compared else "the recipe stores no scale of an input",
    )
