"""Where codes and scales of a quantized weight lie, in the layouts of both backends."""

from __future__ import annotations

from dataclasses import dataclass

from .tensors import Tensor


@dataclass(frozen=True, slots=True)
class Weight:
    """A quantized weight: where its codes and scales lie. `name` and `shape` are the base's."""

    name: str
    shape: tuple[int, ...]
    codes: Tensor
    scales: dict[str, Tensor]

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    @property
    def bits(self) -> int:
        return 4 if self.codes.dtype in ("U8", "I32") else 8


EXTRA = ("weight_scale", "weight_scale_2", "weight_global_scale", "input_scale", "input_global_scale", "pre_quant_scale",
         "weight_zero_point", "weight_g_idx", "weight_shape", "input_zero_point")  # fmt: skip


def quantized_weights(export: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Weight]:
    """Those of the base that the export holds as codes and scales, in either layout."""
    found = {}
    for name, tensor in base.items():
        held = held_weight(export, name, tensor.shape)
        if held is not None:
            found[name] = held
    return found


def held_weight(export: dict[str, Tensor], name: str, shape: tuple[int, ...] | None = None) -> Weight | None:
    stem = name.removesuffix(".weight")
    for codes, prefix in ((f"{stem}.weight_packed", f"{stem}."), (name, f"{stem}."), (name, f"{name}_")):
        if codes in export and prefix + "weight_scale" in export:
            scales = {e: export[prefix + e] for e in EXTRA if prefix + e in export}
            return Weight(name, shape or natural_shape(export[codes], scales), export[codes], scales)
    return None


def natural_shape(codes: Tensor, scales: dict[str, Tensor]) -> tuple[int, ...]:
    if "weight_shape" in scales:
        return tuple(int(n) for n in scales["weight_shape"].values())
    return (*codes.shape[:-1], codes.shape[-1] * 2) if codes.dtype == "U8" else codes.shape
