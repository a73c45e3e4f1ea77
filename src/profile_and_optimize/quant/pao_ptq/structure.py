"""What a loaded model is made of: experts, routers, kinds of modules, names in the files, and what is left out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .names import ROUTER_WORDS, VISION_WORDS, cleaned, excluded
from .stop import Stop
from .work import Work


@dataclass(frozen=True)
class Experts:
    """One layer's experts. `layout` is "fused" (3D parameters) or "modulelist"; `projections` is matrices per expert."""

    name: str
    layout: str
    count: int
    projections: int
    parameters: int


def stacked(module: Any) -> list[Any]:
    """The 3D parameters that a module itself holds, convolutions aside: matrices of experts."""
    if "Conv" in type(module).__name__:
        return []
    return [p for n, p in module.named_parameters(recurse=False) if p.ndim == 3 and p.is_floating_point()]


def experts_in(model: Any) -> list[Experts]:
    import torch

    found: list[Experts] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(e.name + ".") for e in found if e.layout == "modulelist")
        if inside or any(part in name for part in VISION_WORDS):  # an image model's stacked position table is no expert
            continue
        size = sum(p.numel() for p in module.parameters())
        if matrices := stacked(module):
            found.append(Experts(name, "fused", int(matrices[0].shape[0]), len(matrices), size))
        elif isinstance(module, torch.nn.ModuleList) and re.search(r"experts?$", name):
            each = [child for child in module if any(isinstance(m, torch.nn.Linear) for m in child.modules())]
            linears = sum(isinstance(m, torch.nn.Linear) for child in each for m in child.modules())
            found.append(Experts(name, "modulelist", len(each), linears // max(1, len(each)), size))
    return found


def kind_of(name: str, module: Any, model: Any) -> str | None:
    """What a module that holds weights is; None for one that only holds others, and for norms."""
    import torch

    if any(part in name for part in VISION_WORDS):
        return "vision" if module._parameters.get("weight") is not None else None
    if module is model.get_output_embeddings():
        return "lm_head"
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return None
    if set(name.split(".")[-2:]) & set(ROUTER_WORDS):  # the router itself, or the matrix inside it
        return "router"
    return "linear" if isinstance(module, torch.nn.Linear) else "other"


def tied_names(model: Any, named: Callable[[str], str]) -> list[list[str]]:
    keys = getattr(model, "all_tied_weights_keys", None) or {}
    return [[named(name.removesuffix(".weight")) for name in pair] for pair in dict(keys).items()]


def file_names(model: Any) -> Callable[[str], str]:
    """What a module is called in the checkpoint's files: transformers renames some on load (block_sparse_moe to mlp)."""
    mapper = None
    with contextlib.suppress(
        Exception
    ):  # ModelOpt's, which is also what its export goes by; where it cannot, names stay
        from modelopt.torch.export.quant_aware_conversion import build_reverse_name_mapper

        mapper = build_reverse_name_mapper(model)
    if mapper is None:
        return lambda name: name
    # Some rules hold for a weight's full name alone: backbone.embedding.weight.
    return lambda name: cleaned(mapper(name + ".weight")).removesuffix(".weight") if name else name


def scope(model: Any, patterns: Iterable[str]) -> list[str]:
    """The patterns, and the names in memory of modules that they match by their names in the files alone."""
    named = file_names(model)
    renamed = [name for name, _ in model.named_modules() if name and named(name) != name]
    also = [name for name in renamed if excluded(named(name), patterns) and not excluded(name, patterns)]
    return [*patterns, *also]


def refuse_unfit(work: Work, experts: list[Experts], model: Any) -> None:
    """Pairs of format and experts that the libraries break on, or break: seen with the releases this was written for."""
    target, name = work.job.target, type(model).__name__
    if experts and target.endswith("_awq"):
        told = f"AWQ by {work.job.backend} fails on experts, or rescales their routers"
        raise Stop("wrong_use", told, where=experts[0].name, next="--target nvfp4 or w4a16_gptq, or leave experts out")
    if experts and (work.job.backend, target) == ("modelopt", "int8") and name.startswith(("GptOss", "Llama4")):
        told = f"ModelOpt cannot write the experts of {name} as int8"
        raise Stop("wrong_use", told, where=experts[0].name, next="--target fp8 or nvfp4")


def describe(work: Work, model: Any) -> None:
    """Says the structure before anything is changed. Raises Stop for widths that the format's groups do not fit."""
    import torch

    group, patterns = work.recipe.group or 1, work.patterns
    experts = experts_in(model)
    for e in experts:
        left = " (left out)" if excluded(e.name, patterns) else ""
        work.say(f"experts {e.name}: {e.count} x {e.projections} matrices, {e.layout}, {e.parameters} weights{left}")
    if not experts:
        work.say("no mixture of experts")
    refuse_unfit(work, [e for e in experts if not excluded(e.name, patterns)], model)
    odd = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m.in_features % group]
    odd += [n for n, m in model.named_modules() if any(d % group for p in stacked(m) for d in p.shape[1:])]
    odd = [name for name in odd if not excluded(name, patterns)]
    if odd:
        told = f"{len(odd)} modules have a width that is no multiple of {group}, as {work.job.target} needs: {odd[0]}"
        raise Stop("wrong_use", told, where=work.job.target, next=f"--exclude-pattern '{odd[0]}', or another target")
