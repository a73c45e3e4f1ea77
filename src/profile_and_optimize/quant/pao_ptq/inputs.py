"""How a checkpoint's recipe rounds what goes into each matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .job import Job
from .layouts import quantized_weights
from .rounding import ROUND
from .stacks import stacks_apart
from .stop import Stop
from .tensors import read_folder


@dataclass(frozen=True, slots=True)
class Inputs:
    """How activations are rounded before a matrix product: `format` nvfp4, fp8, int8, mxfp4, mxfp8 or none; `static`
    says that their range was calibrated, else each token's own is taken."""

    format: str
    static: bool


ALGOS = {
    "NVFP4": Inputs("nvfp4", True), "NVFP4_AWQ": Inputs("nvfp4", True), "W4A16_NVFP4": Inputs("none", False),
    "FP8": Inputs("fp8", True), "W8A8_SQ_PER_CHANNEL": Inputs("int8", True), "W4A16_AWQ": Inputs("none", False),
    "INT4_AWQ": Inputs("none", False), "MXFP4": Inputs("mxfp4", False), "MXFP8": Inputs("mxfp8", False),
}  # fmt: skip


def inputs_of(config: dict[str, Any]) -> Inputs:
    """From config.json's quantization_config. Raises Stop for a recipe that is not known here."""
    quant = config.get("quantization_config") or {}
    if quant.get("quant_method") == "modelopt":
        algo = str(quant.get("quant_algo")).upper()
        if algo in ALGOS:
            return ALGOS[algo]
        raise Stop(
            "refused",
            f"ModelOpt's {quant.get('quant_algo')} is not known here",
            where="config.json",
            next="another target",
        )
    if quant.get("quant_method") != "compressed-tensors":
        raise Stop(
            "refused",
            f"quant_method {quant.get('quant_method')!r} is not known here",
            where="config.json",
            next="quantize again",
        )
    found = {_compressed_inputs(g.get("input_activations")) for g in quant["config_groups"].values()}
    if len(found) != 1:
        raise Stop(
            "refused",
            f"{len(found)} ways to round inputs in one checkpoint",
            where="config.json",
            next="one target for all",
        )
    return found.pop()


def _compressed_inputs(entry: dict[str, Any] | None) -> Inputs:
    if entry is None:
        return Inputs("none", False)
    kind = (entry["type"], entry["num_bits"], entry.get("strategy"), entry.get("dynamic"))
    known = {
        ("float", 4, "tensor_group", "local"): Inputs("narrow nvfp4", True), ("float", 8, "tensor", False): Inputs("narrow fp8", True),
        ("float", 8, "token", True): Inputs("narrow fp8", False), ("int", 8, "token", True): Inputs("narrow int8", False),
        ("int", 8, "tensor", False): Inputs("narrow int8", True),
    }  # fmt: skip
    if kind not in known:
        raise Stop("refused", f"inputs {kind} are not known here", where="config.json", next="another target")
    return known[kind]


def roundings(job: Job, how: Inputs) -> dict[str, Rounding]:
    """By the module's name in the files. Raises Stop where a calibrated scale is missing."""
    import torch

    export, base = read_folder(job.export), read_folder(job.base)
    weights = [
        *quantized_weights(export, base).values(),
        *(w for a in stacks_apart(export, base).values() for w in a.weights),
    ]
    found = {}
    for w in weights:
        scale = None
        if how.static:
            held = w.scales.get("input_scale") or w.scales.get("input_global_scale")
            if held is None:
                raise Stop(
                    "refused", "the recipe rounds inputs and no scale is stored", where=w.name, next="quantize again"
                )
            scale = float(held.values().reshape(-1)[0])
            scale = 1 / scale if "input_global_scale" in w.scales else scale
        smooth = w.scales.get("pre_quant_scale")
        found[w.module] = Rounding(how.format, scale, None if smooth is None else torch.tensor(smooth.values()))
    if how.format == "none" and all(r.smooth is None for r in found.values()):
        return {}
    return found


@dataclass(frozen=True, slots=True)
class Rounding:
    """What is done to one matrix's input. `scale`: the calibrated one (of nvfp4 the global), None where taken by token."""

    format: str
    scale: float | None
    smooth: Any = None

    def __call__(self, x: Any) -> Any:
        if self.smooth is not None:
            x = x * self.smooth.to(x)
        return ROUND[self.format](x, self.scale) if self.format != "none" else x
