"""Quantized weights as they lie in a file: format, group, bytes implied."""

from __future__ import annotations

from dataclasses import dataclass

from .stop import Stop
from .tensors import Tensor

# Weight bits, group, and what one group's scale takes in the file; None: a scale for each row or tensor, counted as found.
FORMATS: dict[str, tuple[int, int | None, int]] = {
    "nvfp4": (4, 16, 1), "mxfp4": (4, 32, 1), "mxfp8": (8, 32, 1), "int4": (4, 128, 2), "fp8": (8, None, 0), "int8": (8, None, 0),
}  # fmt: skip


SUFFIXES = (
    "weight_scale_2",
    "weight_global_scale",
    "weight_scale",
    "input_scale",
    "input_global_scale",
    "pre_quant_scale",
)


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
        raise Stop("broke", f"{weight.name}: {weight.dtype} with {scale.dtype} scales is not a known layout",
                   where=str(weight.file), next="report it with the backend's version")  # fmt: skip
    group = params // scale.params if FORMATS[kind][1] is not None else None
    return Packed(name, kind, params, group, weight, scales)
