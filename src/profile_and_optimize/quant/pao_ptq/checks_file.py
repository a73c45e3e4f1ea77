"""Checks of the tensors in the file: formats, sizes, scales, and what no recipe may touch."""

from __future__ import annotations

import numpy as np

from .checks_plain import same_values
from .evidence import EXAMPLES, Check, Evidence, fail, spare
from .headers import BYTES, FLOATS
from .names import EXPERT, FUSED, ROUTER, VISION, is_buffer, key, module_of
from .packed import FORMATS, SUFFIXES, Packed
from .recorded import ModuleFact
from .tensors import Tensor

SIZE_TOLERANCE = 0.02


def floats(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Bytes of a float tensor as float32 or float64 numbers."""
    if dtype == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return raw.view({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype]).astype(np.float64)


def bad_values(tensor: Tensor) -> tuple[int, int]:
    """How many values of a scale are zero, and how many are no usable number (NaN, infinite, negative)."""
    zero = bad = 0
    for raw in tensor.pieces():
        if tensor.dtype == "F8_E4M3":
            zero += int(np.count_nonzero((raw & 0x7F) == 0))
            bad += int(np.count_nonzero(((raw & 0x7F) == 0x7F) | ((raw & 0x80) != 0) & ((raw & 0x7F) != 0)))
        elif tensor.dtype in FLOATS:
            values = floats(raw, tensor.dtype)
            zero += int(np.count_nonzero(values == 0))
            bad += int(np.count_nonzero(~np.isfinite(values) | (values < 0)))
        elif tensor.dtype in ("U8", "F8_E8M0"):  # a power of two: no zero, 255 is NaN
            bad += int(np.count_nonzero(raw == 0xFF))
        else:
            bad += len(raw)
    return zero, bad


def dtypes_and_size(ev: Evidence) -> Check:
    """The weights that the recipe covers are in its format, all of them, and the bytes are what that implies."""
    name = "dtypes-and-size"
    if not ev.packed:
        return fail(name, "no quantized weight in the file", [])
    differ = other_formats(ev)
    if differ:
        return fail(name, "what is quantized in the file is not what is recorded", differ)
    odd = [
        f"{p.name}: a scale of {p.scale.dtype} for each {p.group}" for p in ev.packed.values() if not _scale_fits(p)
    ] + [f"{n}: {t.dtype}, {ev.base[n].dtype} in the base" for n, t in ev.plain.items() if _other_dtype(ev, n)]
    lost = missing(ev)
    if odd or lost:
        return fail(name, "tensors that are not what the recipe says", odd + [f"{n}: not in the export" for n in lost])
    size = sizes(ev)
    share = size["actual"] / size["expected"] - 1
    said = f"{size['actual']:,} bytes, {share:+.2%} of what the formats imply; {size['actual'] / size['base']:.3f} of the base"
    if abs(share) > SIZE_TOLERANCE:
        return fail(name, said, [])
    dropped = spare(ev)
    return Check(name, True, said + (f"; {len(dropped)} tensors of extra prediction layers left out" if dropped else ""),
                 tuple(dropped[:EXAMPLES]))  # fmt: skip


def other_formats(ev: Evidence) -> list[str]:
    """Modules quantized on one side only, the record or the file, or in another format. Experts are counted elsewhere;
    of theirs, the format alone is compared."""
    recorded = {key(m.name): m.weight_format for m in ev.facts.modules if m.quantized and not is_expert(m)}
    written = {key(module_of(p.name)): p.format for p in ev.packed.values() if not EXPERT.match(p.name)}
    there = {key(module_of(n)) for n in ev.base}
    # A module that goes by another name in the files altogether: only that as many are on either side can be said.
    renamed = {k for k in recorded if k not in there}, {k for k in written if k not in ev.known}
    if len(renamed[0]) == len(renamed[1]):
        recorded = {k: f for k, f in recorded.items() if k not in renamed[0]}
        written = {k: f for k, f in written.items() if k not in renamed[1]}
    out = [f"{k}: {recorded.get(k, 'nothing')} recorded, {written.get(k, 'not quantized')} in the file"
           for k in sorted({*recorded, *written}) if recorded.get(k) != written.get(k)]  # fmt: skip
    formats = {str(m.weight_format) for m in ev.facts.modules if m.quantized and is_expert(m)}
    found = {p.format for p in ev.packed.values() if EXPERT.match(p.name)}
    if formats and formats != found:
        out.append(f"experts: {', '.join(sorted(formats))} recorded, {', '.join(sorted(found)) or 'none'} in the file")
    return out


def is_expert(m: ModuleFact) -> bool:
    return m.kind == "experts" or EXPERT.match(m.name) is not None


def _scale_fits(p: Packed) -> bool:
    bits, group, _ = FORMATS[p.format]
    wanted = {"nvfp4": ("F8_E4M3",), "mxfp4": ("U8", "F8_E8M0"), "mxfp8": ("U8", "F8_E8M0")}.get(p.format, FLOATS)
    if p.scale.dtype not in wanted or (
        p.format == "nvfp4" and not {"weight_scale_2", "weight_global_scale"} & set(p.scales)
    ):
        return False
    # int4 is asked for with other groups too; what a block of float formats holds is part of the format.
    return group is None or (p.group == group if p.format != "int4" else p.group in (32, 64, 128))


def _other_dtype(ev: Evidence, name: str) -> bool:
    """A kept tensor has the base's dtype, or bf16: the base is loaded in it. A vector or a router may be wider: some model
    classes keep those in float32."""
    if name not in ev.base:
        return False
    wider = len(ev.base[name].shape) < 2 or protected(ev, name)
    allowed = {ev.base[name].dtype, "BF16", *(("F32",) if wider else ())}
    return ev.plain[name].dtype not in allowed


def missing(ev: Evidence) -> list[str]:
    """Tensors of the base that the export has in no form, ties and spare layers apart."""
    tied = {n for pair in ev.facts.tied for n in pair}
    gone = [n for n in ev.base if n not in ev.packed and n not in ev.plain and n not in ev.apart]
    drop = set(spare(ev))
    return sorted(n for n in gone if n not in drop and not is_buffer(n) and n not in tied and module_of(n) not in tied)


def sizes(ev: Evidence) -> dict[str, int]:
    """Bytes of tensors: of the base, implied by the recipe, and there. File headers are not counted."""
    kept = sum(
        ev.plain[n].nbytes if protected(ev, n) else ev.plain[n].params * min(BYTES[t.dtype], BYTES[ev.plain[n].dtype])
        for n, t in ev.base.items()
        if n in ev.plain
    )
    apart = sum(ev.plain[n].nbytes for n in {part for parts in ev.apart.values() for part in parts} if n in ev.plain)
    return {
        "base": sum(t.nbytes for t in ev.base.values()),
        "expected": round(kept + apart + sum(p.expected for p in ev.packed.values())),
        "actual": sum(t.nbytes for t in ev.export.values()),
    }


def no_zero_scale(ev: Evidence) -> Check:
    """A zero scale erases its block and a NaN poisons its row; neither is ever a real range."""
    name, looked, bad = "no-zero-scale", 0, []
    for p in ev.packed.values():
        for suffix in SUFFIXES:
            if suffix in p.scales:
                looked += 1
                zero, broken = bad_values(p.scales[suffix])
                if zero or broken:
                    bad.append(
                        f"{p.scales[suffix].name}: {zero} zero, {broken} not usable, of {p.scales[suffix].params}"
                    )
    return (
        fail(name, "scales that are zero or no number", bad)
        if bad
        else Check(name, True, f"{looked} tensors of scales looked at")
    )


def gate_up_scale(ev: Evidence) -> Check:
    """Matrices that one kernel runs as one share the global scale, or one of them is read with the other's."""
    name, pairs, bad = "gate-up-scale", 0, []
    for p in ev.packed.values():
        stem, _, last = p.name.removesuffix(".weight").rpartition(".")
        for group in FUSED:
            if last != group[0]:
                continue
            mates = [ev.packed.get(f"{stem}.{g}.weight") for g in group]
            there = [m for m in mates if m is not None]
            for suffix in ("weight_scale_2", "weight_global_scale"):
                values = {m.scales[suffix].digest() for m in there if suffix in m.scales}
                pairs += bool(values)
                if len(values) > 1 or (values and len([m for m in there if suffix in m.scales]) != len(group)):
                    bad.append(f"{stem}: {', '.join(group)}")
    if bad:
        return fail(name, "global scales differ within one fused matrix", bad)
    return Check(
        name, True, f"{pairs} fused matrices share theirs" if pairs else "no format with a global scale, or none fused"
    )


def untouched(ev: Evidence) -> Check:
    """Vision parts and routers are the base's, byte for byte (a wider base rounded to bf16, as it is loaded)."""
    name = "untouched"
    spared = set(spare(ev))
    mine = sorted(n for n in ev.base if protected(ev, n) and n not in spared)
    bad = [f"{n}: quantized" for n in mine if n in ev.packed]
    bad += [f"{n}: not in the export" for n in mine if n not in ev.packed and n not in ev.plain]
    bad += [f"{n}: changed" for n in mine if n in ev.plain and not same_values(ev.base[n], ev.plain[n])]
    if bad:
        return fail(name, "parts that no recipe may touch", bad)
    recorded = [m.name for m in ev.facts.modules if m.kind in ("router", "vision")]
    if len({module_of(n) for n in mine}) < len(recorded):
        return Check(name, None, f"{len(recorded)} routers and vision modules are recorded, the base's files show fewer",
                     tuple(recorded[:EXAMPLES]))  # fmt: skip
    return Check(
        name,
        True,
        f"{len(mine)} tensors of routers and vision parts are the base's" if mine else "no router, no vision part",
    )


def protected(ev: Evidence, name: str) -> bool:
    kind = ev.known.get(key(module_of(name)))
    if VISION.search(name) or kind == "router":
        return True
    return kind is None and ROUTER.search(name) is not None
