"""The last step of a quantization: does the export hold what the recipe promised? Only then does it get its final name.

    python guard.py JOB.json

Run as a file of its own in any Python with numpy, after `quantize.py` and `roundtrip.py`. It reads the base, the export
and what the other steps recorded (`work/facts.json`, `export/roundtrip.json`), and trusts none of them where the tensors
can be asked: the safetensors files are read here, one tensor at a time. Every check says why it passed or failed;
one that could not be told fails. Exit 0 with `OUT` in place, 1 with everything left in `OUT.partial`, 2 and 3 as
elsewhere (a request that cannot be meant; a file or the disk that broke).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

SIZE_TOLERANCE = 0.02
EXAMPLES = 8
CHUNK = 1 << 24
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
FLOATS = ("BF16", "F16", "F32", "F64")
# Weight bits, group, and what one group's scale takes in the file; None: a scale for each row or tensor, counted as found.
FORMATS: dict[str, tuple[int, int | None, int]] = {
    "nvfp4": (4, 16, 1), "mxfp4": (4, 32, 1), "mxfp8": (8, 32, 1), "int4": (4, 128, 2), "fp8": (8, None, 0), "int8": (8, None, 0),
}  # fmt: skip
ROUTER = re.compile(r"(^|\.)(gate|router|wg|shared_expert_gate|e_score_correction_bias)(\.|$)")
VISION = re.compile(
    r"(^|\.)(vision\w*|visual|audio_tower|multi_?modal_projector|mm_projector|embed_vision|image_newline)(\.|$)"
)
EXPERT = re.compile(r"^(.*\bexperts)\.(?:(\d+)\.)?(\w+?)(?:\.weight)?$")
# What a backend writes for each expert, where the base has all of them in one tensor.
APART = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("down_proj",), ("w2",))}
# What a kernel runs as one matrix and dequantizes with one global scale.
FUSED = (("gate_proj", "up_proj"), ("w1", "w3"), ("q_proj", "k_proj", "v_proj"))
SUFFIXES = (
    "weight_scale_2",
    "weight_global_scale",
    "weight_scale",
    "input_scale",
    "input_global_scale",
    "pre_quant_scale",
)


class Stop(Exception):
    """An end with a reason. `code` is wrong_use, broke or refused."""

    def __init__(self, code: str, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.where, self.next = code, message, where, next


# ---- the tensors of a folder


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a safetensors file: where it lies, not its content."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def params(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1

    def pieces(self) -> Iterator[np.ndarray]:
        """Its bytes, at most `CHUNK` at a time."""
        with self.file.open("rb") as f:
            f.seek(self.start)
            left = self.nbytes
            while left:
                raw = f.read(min(CHUNK, left))
                if not raw:
                    raise Stop("broke", f"{self.name} is cut short", where=str(self.file), next="quantize again")
                left -= len(raw)
                yield np.frombuffer(raw, dtype=np.uint8)

    def digest(self) -> str:
        sha = hashlib.sha256(f"{self.dtype}{self.shape}".encode())
        for piece in self.pieces():
            sha.update(piece.tobytes())
        return sha.hexdigest()


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors of one file. Raises Stop for a file that is not whole."""
    size = file.stat().st_size
    with file.open("rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if not 0 < length <= size - 8:
            raise Stop("broke", "not a whole safetensors file", where=str(file), next="quantize again")
        header = json.loads(f.read(length))
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = Tensor(file, name, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
        width = BYTES.get(tensor.dtype)
        if 8 + length + end > size or (width is not None and width * tensor.params != tensor.nbytes):
            raise Stop("broke", f"{name} does not fit its file", where=str(file), next="quantize again")
        found[name] = tensor
    return found


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name; an index, where there is one, must name exactly those there are."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Stop("broke", "no safetensors file", where=str(folder), next="quantize again")
    found: dict[str, Tensor] = {}
    for file in files:
        found.update(read_header(file))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = set(json.loads(index.read_text())["weight_map"])
        if named != set(found):
            odd = sorted(named ^ set(found))[0]
            raise Stop("broke", f"index and files differ, first at {odd}", where=str(index), next="quantize again")
    return found


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


# ---- the quantized weights of an export, in both layouts


@dataclass(frozen=True, slots=True)
class Packed:
    """A quantized weight as it lies in the file. `params` counts weights, not bytes; `group` only where it has one."""

    name: str
    format: str
    params: int
    group: int | None
    weight: Tensor
    scales: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + sum(s.nbytes for s in self.scales.values())

    @property
    def expected(self) -> float:
        """Bytes that the format implies, a scale for each row or tensor, zero points and global scales as found."""
        bits, group, scale = FORMATS[self.format]
        size = self.params * bits / 8
        for suffix, tensor in self.scales.items():
            if suffix != "weight_scale" or group is None:
                size += tensor.nbytes
        if group is not None:
            size += self.params / (self.group or group) * scale * (2 if self.scale.dtype == "F32" else 1)
        return size

    @property
    def scale(self) -> Tensor:
        return self.scales["weight_scale"]


def packed_weights(tensors: dict[str, Tensor]) -> dict[str, Packed]:
    """Each quantized weight by its name in the base (`...q_proj.weight`, `...experts.gate_up_proj`)."""
    found = {}
    for name, tensor in tensors.items():
        stem, _, last = name.rpartition(".")
        if last == "weight_packed":
            scales = _scales(tensors, f"{stem}.")
            base = f"{stem}.weight"
        elif last == "weight":
            scales, base = _scales(tensors, f"{stem}."), name
        elif f"{name}_weight_scale" in tensors:  # experts kept as one 3D parameter
            scales, base = _scales(tensors, f"{name}_"), name
        else:
            continue
        if "weight_scale" not in scales:
            continue
        packed = _packed(base, tensor, scales)
        found[base] = packed
    return found


def _scales(tensors: dict[str, Tensor], stem: str) -> dict[str, Tensor]:
    extra = (*SUFFIXES, "weight_shape", "weight_zero_point", "weight_g_idx", "input_zero_point")
    return {s: tensors[stem + s] for s in extra if stem + s in tensors}


def _packed(name: str, weight: Tensor, scales: dict[str, Tensor]) -> Packed:
    scale = scales["weight_scale"]
    kind, params = None, weight.params
    if weight.dtype == "U8":
        params *= 2
        kind = {"F8_E4M3": "nvfp4", "U8": "mxfp4", "F8_E8M0": "mxfp4"}.get(scale.dtype, "int4")
        if {"weight_scale_2", "weight_global_scale"} & set(scales):
            kind = "nvfp4"  # whatever its block scales were written as
    elif weight.dtype == "I32":
        params *= 8
        kind = "int4"
    elif weight.dtype == "F8_E4M3":
        kind = "mxfp8" if scale.dtype in ("U8", "F8_E8M0") else "fp8"
    elif weight.dtype == "I8":
        kind = "int8"
    if kind is None:
        raise Stop("broke", f"{weight.name}: {weight.dtype} with {scale.dtype} scales is no layout known here",
                   where=str(weight.file), next="report it with the backend's version")  # fmt: skip
    group = params // scale.params if FORMATS[kind][1] is not None else None
    return Packed(name, kind, params, group, weight, scales)


# ---- what every check looks at


@dataclass(frozen=True)
class Evidence:
    """Both checkpoints, the recorded facts and the configuration as written."""

    job: dict[str, Any]
    facts: dict[str, Any]
    base: dict[str, Tensor]
    export: dict[str, Tensor]
    packed: dict[str, Packed]
    config: dict[str, Any]
    quant_config: dict[str, Any] | None
    roundtrip: dict[str, Any] | None
    folder: Path
    plain: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, str]:
        """Kind of each recorded module, by `key`."""
        return {key(m["name"]): m["kind"] for m in self.facts["modules"]}

    @cached_property
    def apart(self) -> dict[str, tuple[str, ...]]:
        """Tensors of all experts in the base that the export holds expert by expert, with the names of the parts there."""
        return {
            n: parts for n in self.base if n not in self.packed and n not in self.plain and (parts := parts_of(self, n))
        }

    def is_packed(self, name: str) -> bool:
        """Whether a weight of the base is quantized in the export, in one piece or in parts."""
        return name in self.packed or (name in self.apart and all(p in self.packed for p in self.apart[name]))

    @cached_property
    def experts(self) -> Experts:
        return pair_experts(self)

    def excluded(self, name: str) -> bool:
        """Whether the recipe asked to leave this module, or one it is in, as it is."""
        parts = name.split(".")
        above = [".".join(parts[: i + 1]) for i in range(len(parts))]
        return any(fnmatch.fnmatchcase(n, p) for p in self.job.get("exclude", []) for n in above)


def parts_of(ev: Evidence, name: str) -> tuple[str, ...]:
    """Of `...experts.gate_up_proj`: `...experts.0.gate_proj.weight` and so on, where all of them are in the export."""
    stem, _, last = name.rpartition(".")
    kind = "bias" if last.endswith("_bias") else "weight"
    if not stem.endswith("experts"):
        return ()
    for projections in APART.get(last.removesuffix("_bias"), ()):
        parts = tuple(f"{stem}.{e}.{p}.{kind}" for e in range(ev.base[name].shape[0]) for p in projections)
        found = sum(
            ev.packed[p].params if p in ev.packed else ev.plain[p].params
            for p in parts
            if p in ev.packed or p in ev.plain
        )
        if found == ev.base[name].params:
            return parts
    return ()


def key(name: str) -> str:
    """What a module is called both in memory and in the files, where the two differ in what comes before the layers."""
    at = name.find("layers.")
    tail = name[at:] if at >= 0 else name.rpartition(".")[2]
    return ("vision " if VISION.search(name) else "") + tail


@dataclass(frozen=True)
class Experts:
    """Recorded modules of routed experts beside their weights in the base's files (name -> quantized in the export).
    `alone`: those that the recipe leaves as they are; `odd`: those found on one side only."""

    asked: tuple[tuple[dict[str, Any], dict[str, bool]], ...]
    alone: frozenset[str]
    odd: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """`passed` None: it could not be told."""

    name: str
    passed: bool | None
    reason: str
    examples: tuple[str, ...] = ()


def fail(name: str, reason: str, examples: list[str]) -> Check:
    more = f" ({len(examples)} in all)" if len(examples) > EXAMPLES else ""
    return Check(name, False, reason + more, tuple(examples[:EXAMPLES]))


def partial_of(job: dict[str, Any]) -> Path:
    out = Path(job["out"])
    return out.with_name(out.name + ".partial")


def gather(job: dict[str, Any]) -> Evidence:
    partial = partial_of(job)
    export = partial / "export"
    for needed in (partial / "work" / "facts.json", export / "config.json"):
        if not needed.exists():
            raise Stop("wrong_use", "the steps before this one have not finished", where=str(needed),
                       next="run quantize.py, then roundtrip.py, on the same job")  # fmt: skip
    tensors = read_folder(export)
    packed = packed_weights(tensors)
    mine = {t.name for p in packed.values() for t in (p.weight, *p.scales.values())}
    plain = {n: t for n, t in tensors.items() if n not in mine}
    return Evidence(
        job, json.loads((partial / "work" / "facts.json").read_text()), read_folder(Path(job["base"])), tensors, packed,
        json.loads((export / "config.json").read_text()), _json(export / "hf_quant_config.json"),
        _json(export / "roundtrip.json"), export, plain,
    )  # fmt: skip


def _json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


def module_of(name: str) -> str:
    """`a.q_proj.weight` -> `a.q_proj`; a bare parameter is its own module."""
    stem, _, last = name.rpartition(".")
    return stem if last in ("weight", "bias") else name


# ---- the checks


def experts_quantized(ev: Evidence) -> Check:
    """Each expert's each projection has its weight quantizer, and its packed tensor in the file."""
    name, there = "experts-quantized", ev.experts
    bad = [
        f"{e['name']}: {e['weight_quantizers']} weight quantizers for {e['count']} experts x {e['projections']} projections"
        for e, _ in there.asked
        if e["weight_quantizers"] != e["count"] * e["projections"]
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
        f"{e['name']}: {len(weights)} weights in the file for {e['count']} experts"
        for e, weights in there.asked
        if len(weights) not in (2, 3, 2 * e["count"], 3 * e["count"])
    ]
    if bad:
        return fail(name, "experts in the file that are not quantized", bad)
    if not there.asked:
        return Check(
            name, True, "the recipe leaves every expert as it is" if there.alone else "no experts in this model"
        )
    total, count = (sum(f(e) for e, _ in there.asked) for f in (lambda e: e["weight_quantizers"], lambda e: e["count"]))
    return Check(name, True, f"{total} weight quantizers on {count} experts of {len(there.asked)} layers")


def expert_weights(ev: Evidence) -> dict[str, dict[str, bool]]:
    """Weights of routed experts as the base's files name them, by the module they are in: quantized or not."""
    groups: dict[str, dict[str, bool]] = {}
    spared = set(spare(ev))
    for name, tensor in ev.base.items():
        match = EXPERT.match(name)
        # Without a number: all experts in one 3D tensor; two dimensions there are a bias of each, or a shared expert.
        if match is None or len(tensor.shape) < (3 if match[2] is None else 2) or tensor.dtype not in FLOATS:
            continue
        if "shared_expert" not in match[1] and not VISION.search(name) and name not in spared:
            groups.setdefault(match[1], {})[name] = ev.is_packed(name)
    return groups


def pair_experts(ev: Evidence) -> Experts:
    """By the layer numbers in their names: the words around them may differ between memory and files."""

    def numbers(text: str) -> tuple[str, ...]:
        return tuple(re.findall(r"\d+", text))

    files = {numbers(n): (n, weights) for n, weights in expert_weights(ev).items()}
    asked, alone, odd = [], set(), []
    for e in ev.facts["experts"]:
        stem, weights = files.pop(numbers(e["name"]), (None, None))
        if ev.excluded(e["name"]) or (stem and ev.excluded(stem)):
            alone |= {stem or e["name"]}
        elif weights is None:
            odd.append(f"{e['name']}: recorded, not in the base's files")
        else:
            asked.append((e, weights))
    for stem, _ in files.values():
        if ev.excluded(stem):
            alone.add(stem)
        else:
            odd.append(f"{stem}: in the base's files, not recorded")
    return Experts(tuple(asked), frozenset(alone), tuple(odd))


def amax_finite(ev: Evidence) -> Check:
    """Every enabled quantizer that keeps a range has a finite one over zero."""
    name = "amax-finite"
    enabled = [q for q in ev.facts["quantizers"] if q["enabled"]]
    if not any(q["of"] == "weight" for q in enabled):
        return fail(name, "no weight quantizer is enabled", [])
    static = [q for q in enabled if not q["dynamic"]]
    untold = [q["name"] for q in static if q["amax_finite"] is None or q["amax_max"] is None]
    bad = [
        f"{q['name']}: {q['amax_min']} to {q['amax_max']}"
        for q in static
        if q["name"] not in set(untold) and _no_range(q)
    ]
    if bad:
        return fail(name, "enabled quantizers without a usable range", bad)
    if untold:
        return Check(
            name, None, f"{len(untold)} enabled quantizers say nothing of their range", tuple(untold[:EXAMPLES])
        )
    return Check(
        name, True, f"{len(static)} ranges are finite and over zero; {len(enabled) - len(static)} are taken as it runs"
    )


def _no_range(q: dict[str, Any]) -> bool:
    low, high = q["amax_min"], q["amax_max"]
    if q["amax_finite"] is False or not np.isfinite(high) or high <= 0:
        return True
    # A row of zeros in a weight is no fault of calibration; its scale in the file is looked at in `no-zero-scale`.
    return q["of"] != "weight" and (low is None or not np.isfinite(low) or low <= 0)


def inputs_calibrated(ev: Evidence) -> Check:
    """Every input range was taken from tokens; an expert that no token reached is named."""
    name = "inputs-calibrated"
    static = [q for q in ev.facts["quantizers"] if q["enabled"] and q["of"] == "input" and not q["dynamic"]]
    if not static:
        return Check(name, True, "the recipe takes no input range from the calibration text")
    blind = [q["name"] for q in static if q["saw_tokens"] is False]
    idle, untold = [], [q["name"] for q in static if q["saw_tokens"] is None]
    for e, _ in ev.experts.asked:
        if e["tokens"] is None or len(e["tokens"]) != e["count"]:
            untold.append(e["name"])
        else:
            idle += [f"expert {i} of {e['name']}" for i, n in enumerate(e["tokens"]) if not n]
    if blind or idle:
        return fail(
            name, "input ranges without tokens: calibrate with more or other text (--samples, --calib)", idle + blind
        )
    if untold:
        return Check(name, None, "tokens were not counted for all", tuple(untold[:EXAMPLES]))
    few = min((min(e["tokens"]) for e, _ in ev.experts.asked), default=None)
    return Check(
        name, True, f"{len(static)} input ranges saw tokens" + (f"; the fewest of an expert: {few}" if few else "")
    )


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
    recorded = {key(m["name"]): m["weight_format"] for m in ev.facts["modules"] if m["quantized"] and not is_expert(m)}
    written = {key(module_of(p.name)): p.format for p in ev.packed.values() if not EXPERT.match(p.name)}
    there = {key(module_of(n)) for n in ev.base}
    # A module that goes by another name in the files altogether: only that as many are on either side can be said.
    renamed = {k for k in recorded if k not in there}, {k for k in written if k not in ev.known}
    if len(renamed[0]) == len(renamed[1]):
        recorded = {k: f for k, f in recorded.items() if k not in renamed[0]}
        written = {k: f for k, f in written.items() if k not in renamed[1]}
    out = [f"{k}: {recorded.get(k, 'nothing')} recorded, {written.get(k, 'not quantized')} in the file"
           for k in sorted({*recorded, *written}) if recorded.get(k) != written.get(k)]  # fmt: skip
    formats = {m["weight_format"] for m in ev.facts["modules"] if m["quantized"] and is_expert(m)}
    found = {p.format for p in ev.packed.values() if EXPERT.match(p.name)}
    if formats and formats != found:
        out.append(f"experts: {', '.join(sorted(formats))} recorded, {', '.join(sorted(found)) or 'none'} in the file")
    return out


def is_expert(m: dict[str, Any]) -> bool:
    return m["kind"] == "experts" or EXPERT.match(m["name"]) is not None


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
    """A kept tensor has the base's dtype, or bf16: the base is loaded in it. A vector may be wider: some model classes keep
    a router's correction in float32."""
    if name not in ev.base:
        return False
    allowed = {ev.base[name].dtype, "BF16", *(("F32",) if len(ev.base[name].shape) < 2 else ())}
    return ev.plain[name].dtype not in allowed


def missing(ev: Evidence) -> list[str]:
    """Tensors of the base that the export has in no form, ties and spare layers apart."""
    tied = {n for pair in ev.facts["tied"] for n in pair}
    gone = [n for n in ev.base if n not in ev.packed and n not in ev.plain and n not in ev.apart]
    drop = set(spare(ev))
    return sorted(n for n in gone if n not in drop and n not in tied and module_of(n) not in tied)


def spare(ev: Evidence) -> list[str]:
    """Layers for multi-token prediction, which transformers does not load and so no backend writes."""
    text = ev.config.get("text_config", ev.config)
    layers = text.get("num_hidden_layers")
    out = []
    for n in ev.base:
        if n in ev.packed or n in ev.plain or n in ev.apart:
            continue
        number = re.match(r"^(?:\w+\.)*layers\.(\d+)\.", n)
        if re.search(r"(^|\.)mtp(\.|$)", n) or (number and isinstance(layers, int) and int(number[1]) >= layers):
            out.append(n)
    return out


def sizes(ev: Evidence) -> dict[str, int]:
    """Bytes of tensors: of the base, implied by the recipe, and there. File headers are not counted."""
    kept = sum(
        ev.plain[n].params * min(BYTES[t.dtype], BYTES[ev.plain[n].dtype]) for n, t in ev.base.items() if n in ev.plain
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


def exclude_exact(ev: Evidence) -> Check:
    """The written list names what is not quantized, all of it and nothing else."""
    name = "exclude-exact"
    lists = {"config.json": (ev.config.get("quantization_config") or {}).get("ignore")}
    if ev.quant_config is not None:
        lists["hf_quant_config.json"] = ev.quant_config.get("quantization", {}).get("exclude_modules")
    bad: list[str] = []
    for file, entries in lists.items():
        bad += [
            f"{file}: {fault}"
            for fault in (_list_faults(ev, entries) if isinstance(entries, list) else ["no list of excludes"])
        ]
    if bad:
        return fail(name, "the list of excludes is not the list of what is unquantized", bad)
    if len(lists) == 2 and len({frozenset(v or ()) for v in lists.values()}) > 1:
        return fail(name, "config.json and hf_quant_config.json exclude different modules", [])
    return Check(name, True, f"{len(lists['config.json'] or [])} entries, each an unquantized module, none missing")


def _list_faults(ev: Evidence, entries: list[str]) -> list[str]:
    plain = {module_of(n) for n, t in ev.plain.items()}
    plain |= {a for pair in ev.facts["tied"] for a in (pair[0], pair[1], module_of(pair[0]), module_of(pair[1]))}
    quantized = {module_of(n) for n in ev.packed}
    exact = (ev.config.get("quantization_config") or {}).get("quant_method") == "compressed-tensors"
    faults = []
    for entry in entries:
        if any(ord(c) < 32 or ord(c) == 127 for c in entry):
            faults.append(f"{entry!r} holds a control character")
        elif not any(_names(entry, m) for m in plain):
            faults.append(f"{entry!r} matches no unquantized tensor")
        else:
            faults += [
                f"{entry!r} also matches {m}, which is quantized"
                for m in sorted(quantized)
                if _names(entry, m, exact=exact)
            ][:2]
    for module in sorted(must_be_listed(ev)):
        if not any(_names(entry, module, exact=exact) for entry in entries):
            faults.append(f"{module} is not quantized and not listed")
    return faults


def must_be_listed(ev: Evidence) -> set[str]:
    """Matrices that an engine would take for quantized: unquantized modules recorded as such, by their names in the file."""
    recorded = {key(n) for n in ev.facts["unquantized"]} | {
        key(m["name"]) for m in ev.facts["modules"] if m["kind"] in ("linear", "lm_head") and not m["quantized"]
    }
    there = {module_of(n) for n, t in ev.plain.items() if len(t.shape) == 2 and n.endswith(".weight")}
    return {module for module in there if key(module) in recorded}


def _names(entry: str, module: str, *, exact: bool = False) -> bool:
    """An entry as engines read it: a module, one it is in, a pattern with stars. With compressed-tensors (`exact`) the
    module itself alone, or `re:` and an expression."""
    if entry.startswith("re:"):
        return re.match(entry[3:], module) is not None
    if entry == module or exact:
        return entry == module
    return module.startswith(entry + ".") or fnmatch.fnmatchcase(module, entry)


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
    recorded = [m["name"] for m in ev.facts["modules"] if m["kind"] in ("router", "vision")]
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


def same_values(one: Tensor, other: Tensor) -> bool:
    """Equal bytes; or `other` is `one` rounded to bf16, to the nearest with ties to even, or `one` in more bytes."""
    if one.shape != other.shape:
        return False
    if one.dtype == other.dtype:
        return one.digest() == other.digest()
    if {one.dtype, other.dtype} != {"F32", "BF16"}:
        return False
    bits = {t.dtype: np.concatenate([*t.pieces(), np.zeros(0, np.uint8)]) for t in (one, other)}
    wide, narrow = bits["F32"].view(np.uint32), bits["BF16"].view(np.uint16)
    if one.dtype == "BF16":
        return bool(np.array_equal(wide, narrow.astype(np.uint32) << 16))
    rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16
    return bool(np.array_equal(rounded.astype(np.uint16), narrow))


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
            or EXPERT.sub(r"\1", n) in ev.experts.alone
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


def round_trip(ev: Evidence) -> Check:
    """The export, read back by another path, answers as the model did before it was written."""
    name, r = "roundtrip", ev.roundtrip
    if r is None:
        return Check(name, None, "no roundtrip.json: run roundtrip.py first")
    if r.get("weights_sha256") != weights_digest(ev.folder):
        return fail(name, "roundtrip.json speaks of other weights than those here: run roundtrip.py again", [])
    if r.get("passed") is not True or not r.get("tokens"):
        return fail(name, r.get("reason") or "it did not pass", [f"limit: {r.get('limit')}"])
    return Check(
        name, True, f"KL {r['kl_in_process_reloaded']:.2g} to the model before it was written, on {r['tokens']} tokens"
    )


def weights_digest(folder: Path) -> str:
    """sha256 over the names and contents of the safetensors files, as roundtrip.py takes it."""
    sha = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        sha.update(file.name.encode() + b"\0")
        with file.open("rb") as f:
            while piece := f.read(CHUNK):
                sha.update(piece)
    return sha.hexdigest()


CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    experts_quantized, amax_finite, inputs_calibrated, dtypes_and_size, no_zero_scale, gate_up_scale, exclude_exact,
    untouched, unknown_moe, round_trip,
)  # fmt: skip


# ---- the answer, and the final name


def coverage(ev: Evidence, say: Callable[[int, str], None] = lambda done, what: None) -> dict[str, Any]:
    """coverage.json: each check with its reason, and the shares."""
    checks = []
    for i, check in enumerate(CHECKS):
        say(i, check.__name__.replace("_", " "))
        checks.append(check(ev))
    quantized = sum(p.params for p in ev.packed.values())
    bits = 8 * sum(p.nbytes for p in ev.packed.values())
    return {
        "schema": 1,
        "passed": all(c.passed is True for c in checks),
        "checks": [
            {"name": c.name, "passed": c.passed, "reason": c.reason, "examples": list(c.examples)} for c in checks
        ],
        "quantized_share": quantized / sum(t.params for t in ev.base.values()),
        "bits_per_weight": bits / quantized if quantized else None,
        "bytes": sizes(ev),
    }


def write_json(file: Path, value: Any) -> None:
    """Whole or not at all."""
    beside = file.with_name(file.name + ".new")
    with beside.open("w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    os.replace(beside, file)


def finish(partial: Path, out: Path) -> None:
    """Everything to the disk, then one rename. Raises Stop where the name is taken."""
    export = partial / "export"
    for path in [*export.rglob("*"), export]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if os.path.lexists(out):
        raise Stop("refused", "there is something under this name already", where=str(out), next="choose another --out")
    os.rename(export, out)
    shutil.rmtree(partial)


def run(job: dict[str, Any]) -> int:
    out, partial = Path(job["out"]), partial_of(job)
    if not (partial / "export").exists() and (out / "coverage.json").exists():
        # Killed between the rename and the clearing up, or run once more: what is there must be of this very job.
        made = (_json(out / "quantize.json") or {}).get("job", {}).get("job_digest")
        if made != job["job_digest"]:
            raise Stop("refused", "it was made by another job", where=str(out), next="choose another --out")
        shutil.rmtree(partial, ignore_errors=True)
        progress(len(CHECKS), f"{out} is complete")
        return 0
    if os.path.lexists(out):
        raise Stop("refused", "there is something under this name already", where=str(out), next="choose another --out")
    ev = gather(job)
    answer = coverage(ev, progress)
    write_json(partial / "work" / "coverage.json", answer)
    write_json(partial / "export" / "coverage.json", answer)
    for check in answer["checks"]:
        print(
            f"{'ok  ' if check['passed'] else 'FAIL'} {check['name']}: {check['reason']}",
            *check["examples"],
            sep="\n       ",
        )
    if not answer["passed"]:
        names = ", ".join(c["name"] for c in answer["checks"] if c["passed"] is not True)
        raise Stop("refused", f"the export does not pass: {names}", where=str(partial / "work" / "coverage.json"),
                   next=f"nothing was written under {out}; read the reasons there")  # fmt: skip
    finish(partial, out)
    progress(len(CHECKS), f"{out} is complete")
    return 0


def progress(done: int, says: str) -> None:
    line = {"stage": "guard", "done": done, "of": len(CHECKS), "says": says, "left_s": None}
    print("PAO", json.dumps(line), flush=True)


def state(job: dict[str, Any], failed: Stop | None) -> None:
    """Note the stage in STATE.json, where the folder is still there."""
    file = partial_of(job) / "STATE.json"
    if not file.exists():
        return
    now = json.loads(file.read_text())
    fault = None if failed is None else {"stage": "guard", "code": failed.code, "message": failed.message,
                                         "where": failed.where, "next": failed.next}  # fmt: skip
    write_json(file, {**now, "stage": "guard", "failed": fault, "at": time.time()})


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("PAO-ERROR", json.dumps({"code": "wrong_use", "message": "one argument: JOB.json", "where": "guard.py",
                                       "next": "python guard.py JOB.json"}), file=sys.stderr)  # fmt: skip
        return 2
    job: dict[str, Any] = {}
    try:
        job = json.loads(Path(arguments[0]).read_text())
        return run(job)
    except Stop as stop:
        fault = stop
    except (OSError, ValueError, KeyError, TypeError) as e:
        fault = Stop(
            "broke", f"{type(e).__name__}: {e}", where=job.get("out", arguments[0]) + ".partial", next="run it again"
        )
    try:
        if job:
            state(job, fault)
    except OSError:
        pass  # a full disk: the answer below still says so
    shown = {"code": fault.code, "message": fault.message, "where": fault.where, "next": fault.next}
    print("PAO-ERROR", json.dumps(shown), file=sys.stderr, flush=True)
    return {"wrong_use": 2, "refused": 1}.get(fault.code, 3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
