"""Quantizing and exporting with ModelOpt."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .backend import SHARD
from .calibration import Calibration
from .excludes import clean_excludes
from .loading import Loaded
from .modelopt_cpu import leave_weights_on_disk, patch_modelopt
from .names import excluded
from .recorded import QuantizerFact
from .seen import range_of, refuse_unknown
from .stop import Stop
from .structure import Experts, experts_in, stacked, wrong_names
from .targets import Recipe
from .work import Work


def modelopt_config(recipe: Recipe, patterns: list[str]) -> dict[str, Any]:
    """ModelOpt's own settings for the format, with our scope: its list of what to leave out is replaced by the job's."""
    import copy

    import modelopt.torch.quantization as mtq

    config = copy.deepcopy(getattr(mtq, recipe.settings))
    plain = ("*", "*weight_quantizer", "*input_quantizer")
    entries = [e for e in config["quant_cfg"] if "parent_class" in e or e["quantizer_name"] in plain]
    convs = [{"quantizer_name": "*", "parent_class": f"nn.Conv{n}d", "enable": False} for n in (1, 2, 3)]
    left_out = [{"quantizer_name": f"{pattern}.*", "enable": False} for pattern in patterns]
    return config | {"quant_cfg": [*entries, *convs, *left_out]}


def leave_norms(model: Any) -> None:
    """ModelOpt rounds what goes into a LayerNorm, a pool or an activation too, and writes nothing of it: an engine would not
    do it. What has no weight of a matrix product is left alone."""
    for module in model.modules():
        given = getattr(module, "input_quantizer", None)
        if given is not None and getattr(module, "weight_quantizer", None) is None:
            given.disable()


def leave_attention() -> None:
    """ModelOpt writes the code of an attention class anew to quantize its cache, which no recipe here does: it fails on BLOOM's
    and moves the ranges of GPT-J's, GPT-Neo's and BigCode's."""
    from modelopt.torch.quantization.plugins import custom, huggingface

    custom.CUSTOM_MODEL_PLUGINS.discard(huggingface.register_hf_attentions_on_the_fly)


def quantizers_in(model: Any) -> dict[str, Any]:
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {name: module for name, module in model.named_modules() if isinstance(module, TensorQuantizer)}


def part_of(quantizer: str) -> str:
    last = [piece for piece in quantizer.split(".") if "quantizer" in piece][-1]
    return next((p for p in ("weight", "input", "output") if f"{p}_quantizer" in last), "kv")


def modelopt_ranges(model: Any) -> tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]:
    """Reads and puts back the largest magnitudes that the input quantizers have collected so far."""
    found = {n: q for n, q in quantizers_in(model).items() if q.is_enabled and part_of(n) != "weight"}
    inputs = {n: q for n, q in found.items() if getattr(q, "_calibrator", None) is not None}

    def read() -> dict[str, Any]:
        kept = {n: q._calibrator._calib_amax for n, q in inputs.items()}
        return {n: value.float() for n, value in kept.items() if value is not None}

    def put_back(kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            inputs[name]._calibrator._calib_amax = value.to(model.dtype)

    return read, put_back


def modelopt_unknown(model: Any, patterns: list[str]) -> list[str]:
    """Experts for which ModelOpt made no quantizer: it would leave most of the model in bf16 without a word."""
    inside = [e for e in experts_in(model) if not excluded(e.name, patterns)]
    return [e.name for e in inside if not modelopt_knows(model, e)]


def modelopt_knows(model: Any, e: Experts) -> bool:
    """Stacked experts hold their quantizers themselves; a router's beside them is no sign of it."""
    if e.layout == "fused":
        return any("weight_quantizer" in child for child, _ in model.get_submodule(e.name).named_children())
    return any(name.startswith(e.name + ".") for name in quantizers_in(model))


def modelopt_refuse(work: Work, bare: Any) -> None:
    """Raises Stop for experts and matrices in scope that ModelOpt would leave as they are."""
    import modelopt.torch.quantization as mtq
    import torch

    linears = [n for n, m in bare.named_modules() if isinstance(m, torch.nn.Linear) and not excluded(n, work.patterns)]
    leave_attention()
    mtq.quantize(bare, modelopt_config(work.recipe, work.patterns) | {"algorithm": None})
    refuse_unknown(modelopt_unknown(bare, work.patterns))
    within = tuple(f"{e.name}." for e in experts_in(bare))
    plain = [n for n in linears if not n.startswith(within) and not hasattr(bare.get_submodule(n), "weight_quantizer")]
    if plain:
        kind = type(bare.get_submodule(plain[0])).__name__
        told = f"ModelOpt does not quantize {len(plain)} matrices of the class {kind}"
        raise Stop(
            "wrong_use", told, where=plain[0], next="--backend llm-compressor, or leave them out by --exclude-pattern"
        )


def modelopt_quantize(work: Work, loaded: Loaded, calibration: Calibration) -> dict[str, bool]:
    """Quantizes in place. Returns, by input quantizer, whether it saw a token."""
    import modelopt.torch.quantization as mtq

    if loaded.device == "cpu":
        patch_modelopt()
    if loaded.layered and work.recipe.data != "search":
        leave_weights_on_disk()
    model, patterns = loaded.model, work.patterns
    config = modelopt_config(work.recipe, patterns)
    leave_attention()
    mtq.quantize(model, config | {"algorithm": None})
    leave_norms(model)
    refuse_unknown(modelopt_unknown(model, patterns))
    saw: dict[str, bool] = {}

    def loop(model: Any) -> None:
        weights = [
            q for n, q in quantizers_in(model).items() if part_of(n) == "weight" and work.recipe.data == "ranges"
        ]
        for quantizer in weights:  # collected once, before this loop; again with each sample would only cost time
            quantizer.disable_calib()
        calibration(model)
        if calibration.ranges:
            saw.update({name: True for name in calibration.ranges()})

    calibration.tokens.watch(model)
    if work.recipe.data == "ranges":
        calibration.ranges, calibration.restore = modelopt_ranges(model)
    if config["algorithm"] is not None:
        mtq.calibrate(model, config["algorithm"], forward_loop=loop if work.recipe.data != "none" else None)
    if work.recipe.data == "search":  # its ranges are in place by now, and only an input that was seen has one
        saw = {n: q.amax is not None for n, q in quantizers_in(model).items() if part_of(n) == "input"}
    calibration.tokens.stop()
    return saw


def modelopt_join(model: Any) -> None:
    """Projections that engines fuse get the scales they will share, as the export does: the reference is taken after."""
    from modelopt.torch.export.layer_utils import sync_moe_gate_up_amax
    from modelopt.torch.export.unified_export_hf import requantize_resmooth_fused_llm_layers

    requantize_resmooth_fused_llm_layers(model)
    sync_moe_gate_up_amax(model)
    for quantizer in quantizers_in(model).values():
        # The export divides a bf16 range and keeps a rounded scale, which the model in memory does not do.
        if quantizer.num_bits == 8 and getattr(quantizer, "_amax", None) is not None:
            quantizer._amax = quantizer._amax.float()


def modelopt_quantizer_facts(model: Any, saw: dict[str, bool]) -> list[QuantizerFact]:
    return [modelopt_fact(name, quantizer, saw) for name, quantizer in quantizers_in(model).items()]


def modelopt_fact(name: str, quantizer: Any, saw: dict[str, bool]) -> QuantizerFact:
    amax, part = getattr(quantizer, "_amax", None), part_of(name)
    enabled = bool(quantizer.is_enabled)
    # A block format without a per-tensor amax (MX) takes its scales from each block as it comes.
    dynamic = bool(getattr(quantizer, "_dynamic", False) or getattr(quantizer, "is_mx_format", False))
    seen = saw.get(name, False) if enabled and part != "weight" and not dynamic and saw else None
    return QuantizerFact(name, part, enabled, dynamic, **asdict(range_of(amax)), saw_tokens=seen)


def modelopt_weight_quantizers(model: Any, experts: str) -> int:
    names = [n for n, q in quantizers_in(model).items() if n.startswith(experts + ".") and q.is_enabled]
    names = [n for n in names if part_of(n) == "weight"]
    module = model.get_submodule(experts)
    # One quantizer for a whole 3D parameter stands for all of its experts.
    whole = [n for n in names if re.search(r"_weight_quantizer$", n)]
    return len(names) - len(whole) + sum(int(p.shape[0]) for p in stacked(module)[: len(whole)])


def modelopt_export(work: Work, loaded: Loaded) -> None:
    from modelopt.torch.export import export_hf_checkpoint

    pack_from_float32()
    wrong = wrong_names(loaded.model)  # before the export takes the model apart
    export_hf_checkpoint(loaded.model, export_dir=work.export, max_shard_size=SHARD)
    clean_excludes(work.export, wrong)


def pack_from_float32() -> None:
    """ModelOpt divides bf16 weights by one scale in bf16, and rounds what is rounded already once more: its FP8 files lie
    further from the base than its model in memory. From float32 they are the same (KL .0050 to .0044 on the demo model)."""
    from modelopt.torch.export import unified_export_hf as unified

    plain = getattr(unified.to_quantized_weight, "plain", unified.to_quantized_weight)

    def pack(weight: Any, *rest: Any, **named: Any) -> Any:
        return plain(weight.float() if type(weight).__name__ in ("Tensor", "Parameter") else weight, *rest, **named)

    pack.plain = plain  # type: ignore[attr-defined]
    unified.to_quantized_weight = pack
