"""Is every quantized weight the base's, rounded? Each value beside the best that its format can do, each scale beside the
values that share it, each row by its slope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from .dequantize import opened, scales_of
from .evidence import Check, Evidence, fail
from .finite import not_finite
from .fitted import Scaled, fit, layer_of, moved_faults
from .layouts import Weight, quantized_weights
from .names import EXPERT, FUSED
from .rounded import GRIDS, Grid, beyond, largest, scale_off
from .stacks import stacks_apart
from .tensors import numbers, to_bf16

# A search moves values off the nearest code to make up for others' errors: measured on eight architectures, up to 3.7 steps,
# no 128 of a row by more than 0.45 of their size, and no row's slope off by more than 0.07.
SEARCHED_STEPS, SEARCHED_RUN, SEARCHED_UNIT = 5.0, 128, 0.75
# Slope of a row over the base's row: one, but for rounding.
SLOPE = 0.15
# A fit of row and column scales is off by some hundredths itself: values were up to 1.5 times a half step away.
FITTED = 2.0


Far = Callable[[Grid, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass
class Sums:
    """Over all weights of one format: squares of the error and of the base, and the values looked at."""

    off: float = 0.0
    size: float = 0.0
    count: int = 0

    @property
    def error(self) -> float | None:
        """Relative, of the whole; None where there is nothing to divide by."""
        return (self.off / self.size) ** 0.5 if self.size else None


@dataclass
class Tally:
    """What has been seen: faults by tensor, and errors by format."""

    faults: list[str] = field(default_factory=list)
    sums: dict[str, Sums] = field(default_factory=dict)
    tensors: int = 0


@dataclass(frozen=True)
class Pair:
    """A quantized weight and the base's rows `[start, stop)` that it stands for, float32 numbers rounded to bf16."""

    weight: Weight
    rows: Callable[[int, int], np.ndarray]
    shape: tuple[int, ...]


def pairs(ev: Evidence) -> Iterator[Pair]:
    for name, w in quantized_weights(ev.export, ev.base).items():
        base = ev.base[name]
        yield Pair(w, lambda a, b, base=base: narrow(base.rows(a, b)), base.shape)  # type: ignore[misc]
    for name, stack in stacks_apart(ev.export, ev.base).items():
        for part, there in stack.base_parts(ev.base[name]):
            if isinstance(part, Weight):
                whole = narrow(there)
                yield Pair(part, lambda a, b, whole=whole: whole[a:b], whole.shape)  # type: ignore[misc]


def _shape_said(pair: Pair) -> str | None:
    """A fault where the file says another shape of a weight than the base's."""
    told = pair.weight.scales.get("weight_shape")
    said = None if told is None else tuple(map(int, told.values()))
    return (
        None
        if told is None or said == pair.shape
        else f"{told.name}: {list(said or ())}, the base's is {list(pair.shape)}"
    )


def fits(pair: Pair) -> bool:
    """Whether the codes can be those of as many weights."""
    count, codes = int(np.prod(pair.shape)), pair.weight.codes
    each = {"U8": 2, "I32": 8}.get(codes.dtype, 1)
    held = codes.params * each
    return held == count or (
        codes.dtype == "I32" and held - count < 8 * max(1, codes.params // max(1, codes.shape[-1]))
    )


def narrow(values: np.ndarray) -> np.ndarray:
    """As the base is loaded: in bf16."""
    return numbers(to_bf16(values).reshape(-1).view(np.uint8), "BF16").reshape(values.shape)


def rounding(ev: Evidence) -> Check:
    """Every quantized weight is the base's, rounded with a scale that the recipe gives."""
    name, (tally, _) = "rounding", compared(ev)
    if tally.faults:
        return fail(name, "quantized weights that are not the base's, rounded", tally.faults)
    if not tally.tensors:
        return fail(name, "no quantized weight stands beside one of the base", [])
    told = ", ".join(f"{k} {s.error:.4f}" for k, s in sorted(tally.sums.items()) if s.error is not None)
    return Check(name, True, f"{tally.tensors} weights, each value within its format's step; relative error {told}")


@cache
def compared(ev: Evidence) -> tuple[Tally, dict[str, Scaled]]:
    """What was seen of all quantized weights, and the scales that were moved into them."""
    tally = Tally()
    whole: dict[str, tuple[Grid, float, float]] = {}
    scaled: dict[str, Scaled] = {}
    for pair in pairs(ev):
        packed = ev.packed.get(pair.weight.name)
        grid = GRIDS.get(packed.format) if packed is not None else None
        if packed is None or grid is None:
            tally.faults.append(f"{pair.weight.name}: no format that is known here")
            continue
        tally.tensors += 1
        if not fits(pair):
            held = pair.weight.codes
            told = f"{held.dtype} {list(held.shape)} holds no {packed.format} of {list(pair.shape)}"
            tally.faults.append(f"{pair.weight.name}: {told}")
            continue
        if (odd := _shape_said(pair)) is not None:
            tally.faults.append(odd)
            continue
        if ev.folded:
            if (moved := _folded(pair, grid, tally)) is not None:
                scaled[pair.weight.name] = moved
        elif (one := _judged(pair, grid, tally, _searched if ev.job.recipe.method == "gptq" else beyond)) is not None:
            whole[pair.weight.name] = (grid, *one)
    tally.faults += _whole_faults(whole) + (moved_faults(scaled, _stored(ev), _vectors(ev)) if scaled else [])
    return tally, scaled


def _stored(ev: Evidence) -> dict[str, np.ndarray]:
    """Factors on the inputs of weights, by the weight's name."""
    held = {n: p.scales["pre_quant_scale"] for n, p in ev.packed.items() if "pre_quant_scale" in p.scales}
    return {n: np.asarray(t.values(), np.float64).reshape(-1) for n, t in held.items()}


def _vectors(ev: Evidence) -> dict[str, list[np.ndarray]]:
    """What each vector that is not the base's was divided by, by layer; a norm may store its distance from one."""
    found: dict[str, list[np.ndarray]] = {}
    for n, t in ev.plain.items():
        base = ev.base.get(n)
        if base is None or len(t.shape) != 1 or base.shape != t.shape:
            continue
        there, mine = (np.asarray(x.values(), np.float64) for x in (base, t))
        for more in (0.0, 1.0):
            if np.isfinite(mine).all() and (mine + more != 0).all() and (there != mine).any():
                ratio = (there + more) / (mine + more)
                found.setdefault(layer_of(n), []).extend([ratio] if (ratio > 0).all() else [])
    return found


def _judged(pair: Pair, grid: Grid, tally: Tally, far: Far) -> tuple[float, float] | None:
    """Adds faults of one weight. Returns (scale, largest magnitude) where one scale holds for all of it: what shares it is
    looked at afterwards."""
    w, at, peak = pair.weight, 0, 0.0
    scale = scales_of(w)
    for codes, step in opened(w):
        base = pair.rows(at, at + codes.shape[0])
        if base.shape != codes.shape:
            tally.faults.append(f"{w.name}: {list(codes.shape)} values where the base has {list(base.shape)}")
            return None
        if not _finite(w.name, base, codes, step, tally):
            return None
        step = np.broadcast_to(step, codes.shape)
        _values(w.name, grid, base, codes, step, at, tally, far)
        peak = max(peak, float(np.abs(base).max(initial=0.0)))
        at += codes.shape[0]
    if scale.size == 1:
        return float(scale.reshape(-1)[0]), peak
    _units(pair, grid, scale, tally)
    return None


def _finite(name: str, base: np.ndarray, codes: np.ndarray, step: np.ndarray, tally: Tally) -> bool:
    for what, values in (("the base", base), ("codes", codes), ("scales", step)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            tally.faults.append(f"{name}: in {what}, {not_finite(bad, values.size)}")
            return False
    return True


def _values(
    name: str, grid: Grid, base: np.ndarray, codes: np.ndarray, step: np.ndarray, at: int, tally: Tally, far: Far
) -> None:
    off = codes * step - base
    sums = tally.sums.setdefault(grid.name, Sums())
    sums.off += float(np.sum(off.astype(np.float64) ** 2))
    sums.size += float(np.sum(base.astype(np.float64) ** 2))
    sums.count += base.size
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = far(grid, base, codes, step)
    bad = ~(shares <= 1)
    if bad.any():
        rows = np.unique(np.nonzero(bad)[0])
        worst = np.unravel_index(int(np.nanargmax(np.where(bad, np.nan_to_num(shares, nan=np.inf), 0))), base.shape)
        tally.faults.append(
            f"{name}: {int(bad.sum())} values in {len(rows)} rows, first row {at + int(rows[0])}; worst "
            f"{float((codes * step)[worst]):.4g} where the base has {float(base[worst]):.4g} at {_place(worst, at)}"
        )
        return
    slopes = _slopes(base, codes * step)
    steep = np.nonzero(~(np.abs(slopes - 1) <= SLOPE))[0]
    if len(steep):
        tally.faults.append(
            f"{name}: row {at + int(steep[0])} has a slope of {float(slopes[steep[0]]):.3f} over the base's"
        )


def _place(worst: tuple[np.intp, ...], at: int) -> str:
    return str([int(worst[0]) + at, *map(int, worst[1:])])


def _slopes(base: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each row: its projection on the base's row; 1 where the base has nothing but zeros, or all is cut by one scale."""
    flat, mine = (x.reshape(x.shape[0], -1).astype(np.float64) for x in (base, values))
    size = (flat**2).sum(axis=1)
    return np.where(size > 0, (flat * mine).sum(axis=1) / np.where(size > 0, size, 1), 1.0)


def _searched(grid: Grid, base: np.ndarray, codes: np.ndarray, step: np.ndarray) -> np.ndarray:
    """As `beyond`, for values that a search has moved: each by some steps, and runs of a row by a share of their size."""
    off = codes * step - base
    cut = np.maximum(np.abs(base) - grid.top * step, 0)
    alone = np.abs(off) / (SEARCHED_STEPS * step + cut)
    starts = np.arange(0, base.shape[-1], SEARCHED_RUN)
    size, error = (np.sqrt(np.add.reduceat(x**2, starts, axis=-1)) for x in (base, off))
    run = np.where(size > 0, error / (SEARCHED_UNIT * size), np.where(error > 0, np.inf, 0))
    return np.maximum(alone, np.repeat(run, np.diff([*starts, base.shape[-1]]), axis=-1))


def _fitted(grid: Grid, base: np.ndarray, codes: np.ndarray, step: np.ndarray) -> np.ndarray:
    return beyond(grid, base, codes, step) / FITTED


def _units(pair: Pair, grid: Grid, scale: np.ndarray, tally: Tally) -> None:
    """Each scale of a row or block beside the values that share it."""
    w = pair.weight
    base = pair.rows(0, pair.shape[0])
    shape = scale.shape + (1,) * (base.ndim - scale.ndim)
    if any(n % s for n, s in zip(base.shape, shape, strict=True)):
        tally.faults.append(f"{w.name}: scales {list(scale.shape)} do not fit {list(base.shape)}")
        return
    peak = largest(base, shape)
    stored = w.scales["weight_scale"].dtype == "F8_E4M3"
    least = float(np.abs(scale).min()) if not stored else _least(w)
    off = scale_off(grid, scale.reshape(shape), peak, least if stored else 0.0)
    if off.any():
        at = tuple(int(i) for i in np.argwhere(off)[0])
        tally.faults.append(
            f"{w.name}: {int(off.sum())} scales of {off.size} do not follow from the base, first at {list(at)}: "
            f"{float(scale.reshape(shape)[at]):.4g} for values up to {float(peak[at]):.4g}"
        )


def _least(w: Weight) -> float:
    """The smallest E4M3 number times the global scale."""
    raw = np.asarray(w.scales["weight_scale"].values(), np.float32)
    top = raw.reshape(-1)[int(np.argmax(raw))]
    return float(2.0**-9 * scales_of(w).max() / top) if top > 0 else 0.0


def _whole_faults(found: dict[str, tuple[Grid, float, float]]) -> list[str]:
    """One scale for all of a weight: its own largest magnitude's, or that of all that engines run as one with it."""
    groups: dict[str, float] = {}
    for name, (_, _, peak) in found.items():
        for group in _mates(name):
            groups[group] = max(groups.get(group, 0.0), peak)
    faults = []
    for name, (grid, scale, peak) in found.items():
        peaks = np.array([peak, *(groups[group] for group in _mates(name))])
        if scale_off(grid, np.full(len(peaks), scale), peaks, 0.0).all():
            most = f"{peaks.max():.4g} of all that may share it"
            faults.append(f"{name}: one scale of {scale:.4g} for values up to {peak:.4g} ({most})")
    return faults


def _mates(name: str) -> tuple[str, ...]:
    """What a weight may share a scale with: the other parts of one fused matrix, or all of a layer's experts."""
    stem, _, last = name.removesuffix(".weight").rpartition(".")
    match = EXPERT.match(name)
    return (
        *(f"{stem}.{'|'.join(group)}" for group in FUSED if last in group),
        *((match[1],) if match is not None else ()),
    )


def _folded(pair: Pair, grid: Grid, tally: Tally) -> Scaled | None:
    """A method moved scales between weights: by rows and by columns the weight may be scaled, and by nothing else."""
    name = pair.weight.name
    parts = [(c, np.broadcast_to(s, c.shape)) for c, s in opened(pair.weight)]
    codes, step = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    base = pair.rows(0, pair.shape[0])
    if base.shape != codes.shape:
        tally.faults.append(f"{name}: {list(codes.shape)} values where the base has {list(base.shape)}")
        return None
    if not _finite(name, base, codes, step, tally):
        return None
    flat = base.reshape(-1, base.shape[-1])
    scaled = fit(flat, (codes * step).reshape(flat.shape))
    for what, scales in (("row", scaled.rows), ("column", scaled.columns)):
        odd = np.nonzero(~((scales > 2.0**-8 * np.median(scales)) & np.isfinite(scales)))[0]
        if len(odd):
            tally.faults.append(f"{name}: {what} {int(odd[0])} is the base's times {float(scales[odd[0]]):.3g}")
            return None
    moved = (flat * scaled.rows[:, None] * scaled.columns[None, :]).astype(np.float32).reshape(base.shape)
    _values(name, grid, moved, codes, step, 0, tally, _fitted)
    return scaled
