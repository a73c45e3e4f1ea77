"""Is every tensor that is not quantized the base's? Byte for byte, rounded as it was loaded, or scaled as what it feeds was."""

from __future__ import annotations

import re

import numpy as np

from .checks_rounding import compared, narrow
from .evidence import Check, Evidence, fail, spare
from .fitted import Scaled, alike
from .names import module_of
from .stacks import stacks_apart
from .tensors import Tensor


def plain_kept(ev: Evidence) -> Check:
    """Each is the base's; none is there that the base does not have; what the base has is there."""
    name, apart = "plain-kept", _parts(ev)
    scaled = compared(ev)[1] if ev.folded else {}
    bad, moved = [], 0
    for n, tensor in sorted(ev.plain.items()):
        if n in apart:
            bad += [] if np.array_equal(tensor.values(), apart[n]) else [f"{n}: not the base's part"]
        elif (base := _of_base(ev, n)) is None:
            bad.append(f"{n} {tensor.dtype} {list(tensor.shape)}: the base has no such tensor")
        elif not same_values(base, tensor):
            fault = _fault(n, base, tensor, scaled)
            bad += [fault] if fault else []
            moved += not fault
    if bad:
        return fail(name, "tensors that are not quantized and not the base's", bad)
    more = f", {moved} of them scaled as what they feed was" if moved else ""
    return Check(name, True, f"{len(ev.plain)} tensors are the base's{more}{_left(ev)}")


def _left(ev: Evidence) -> str:
    dropped = spare(ev)
    return f"; {len(dropped)} of extra prediction layers left out" if dropped else ""


def _of_base(ev: Evidence, name: str) -> Tensor | None:
    """The base's tensor of this name, or what it is tied to there: an export may write both."""
    if name in ev.base:
        return ev.base[name]
    if not ev.tied:
        return None
    for one, other in ev.facts.tied:
        pair = {f"{one}.weight", f"{other}.weight", one, other}
        if name in pair:
            return next((ev.base[m] for m in sorted(pair) if m in ev.base), None)
    return None


def _parts(ev: Evidence) -> dict[str, np.ndarray]:
    """Biases of single experts, where the base has those of all in one tensor: name in the export -> the base's numbers."""
    found: dict[str, np.ndarray] = {}
    for name, stack in stacks_apart(ev.export, ev.base).items():
        for part, base in stack.base_parts(ev.base[name]):
            if isinstance(part, Tensor):
                found[part.name] = narrow(base) if part.dtype == "BF16" else base
    return found


def same_values(one: Tensor, other: Tensor) -> bool:
    """Equal bytes; or `other` is `one` rounded to bf16, to the nearest with ties to even, or `one` in more bytes."""
    if one.shape != other.shape:
        return False
    if one.dtype == other.dtype:
        return one.digest() == other.digest()
    if other.dtype not in ("BF16", "F32") or one.dtype not in ("BF16", "F16", "F32", "F64"):
        return False
    rows = max(1, (1 << 22) // max(1, one.params // max(1, one.shape[0] if one.shape else 1)))
    if not one.shape:
        return bool(np.array_equal(_as(one.values(), other.dtype), other.values()))
    return all(
        np.array_equal(_as(one.rows(at, at + rows), other.dtype), other.rows(at, at + rows))
        for at in range(0, one.shape[0], rows)
    )


def _as(values: np.ndarray, dtype: str) -> np.ndarray:
    """As it is loaded, in bf16, and stored: a wider one holds what bf16 left, or all of it where it was never rounded."""
    return narrow(values.astype(np.float32)) if dtype == "BF16" else values.astype(np.float32)


def _fault(name: str, base: Tensor, tensor: Tensor, scaled: dict[str, Scaled]) -> str:
    """Empty where a vector is the base's, divided by what the columns of a matrix of its layer were multiplied with, or its
    bias scaled as the rows are."""
    there, mine = (np.asarray(t.values(), np.float64).reshape(-1) for t in (base, tensor))
    if there.shape != mine.shape:
        return f"{name}: {list(tensor.shape)} where the base has {list(base.shape)}"
    bad = np.nonzero(~np.isfinite(mine))[0]
    if len(bad):
        return f"{name}: {len(bad)} of {len(mine)} numbers are NaN or infinite"
    if scaled and len(tensor.shape) == 1 and any(_moved(there, mine, s) for s in _near_by(name, scaled)):
        return ""
    off = np.nonzero(mine != there)[0]
    at = int(off[0]) if len(off) else 0
    return f"{name}: {len(off)} of {len(mine)} numbers differ, first {mine[at]:.6g} for {there[at]:.6g} at {at}"


def _near_by(name: str, scaled: dict[str, Scaled]) -> list[Scaled]:
    """Of the same layer; of its own matrix first."""
    module, layer = module_of(name), _layer(name)
    own = [s for n, s in scaled.items() if module_of(n) == module]
    return own or [s for n, s in scaled.items() if _layer(n) == layer]


def _layer(name: str) -> str:
    """`model.decoder.layers.0.` of what lies in there; empty outside of the layers."""
    at = re.match(r".*?\.\d+\.", name)
    return at[0] if at else ""


def _moved(base: np.ndarray, mine: np.ndarray, scaled: Scaled) -> bool:
    """A norm times the columns of what it feeds, or a bias over the rows of its matrix, is the base's. A norm may store its
    distance from one."""
    for scales, more in ((1 / scaled.columns, 0.0), (1 / scaled.columns, 1.0), (scaled.rows, 0.0)):
        if len(scales) == len(base):
            there = base + more != 0
            ratio = (mine[there] + more) / (base[there] + more)
            if there.any() and np.isfinite(ratio).all() and (ratio > 0).all() and alike(ratio, scales[there]):
                return True
    return False
