"""What a loaded model is made of: experts, routers, kinds of modules, names in the files, and what is left out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from .names import ROUTER_WORDS, VISION_WORDS, cleaned


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


def routers_in(model: Any) -> set[str]:
    """Modules that choose among experts, whatever they are called: matrices beside a module of experts with a row for each, or
    with one row that weighs a shared one. A part with matrices of another height beside is no router: its width is a chance."""
    found: set[str] = set()
    for e in experts_in(model):
        above, _, own = e.name.rpartition(".")
        for name, child in model.get_submodule(above).named_children():
            inside = [(n, m) for n, m in child.named_modules() if _rows(m) is not None]
            if name != own and inside and all(_rows(m) in (1, e.count) for _, m in inside):
                found |= {".".join(part for part in (above, name, n) if part) for n, _ in inside}
    return found


def _rows(module: Any) -> int | None:
    """Of its own matrix; None where it has none."""
    weight = module._parameters.get("weight")
    return int(weight.shape[0]) if weight is not None and weight.ndim == 2 else None


def kind_of(name: str, module: Any, model: Any, routers: Collection[str] = ()) -> str | None:
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
    if name in routers or set(name.split(".")[-2:]) & set(ROUTER_WORDS):  # the router itself, or the matrix inside it
        return "router"
    return "linear" if isinstance(module, torch.nn.Linear) else "other"


def tied_names(model: Any, named: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    keys = getattr(model, "all_tied_weights_keys", None) or {}
    bare = {one.removesuffix(".weight"): other.removesuffix(".weight") for one, other in dict(keys).items()}
    return tuple((named(one), named(other)) for one, other in bare.items())


def file_names(model: Any) -> Callable[[str], str]:
    """What a module is called in the checkpoint's files: transformers renames some on load (block_sparse_moe to mlp)."""
    mapper = _mapper(model)
    if mapper is None:
        return lambda name: name
    # Some rules hold for a weight's full name alone: backbone.embedding.weight.
    return lambda name: cleaned(mapper(name + ".weight")).removesuffix(".weight") if name else name


def wrong_names(model: Any) -> dict[str, str]:
    """What libraries call a module in their lists though its files do not, to what those call it: the name in memory, and what
    rules that hold for a weight's full name make of it without (phimoe's block_sparse_moe.router, which is a gate)."""
    mapper, named = _mapper(model), file_names(model)
    modules = [name for name, _ in model.named_modules() if name]
    half = {cleaned(mapper(name)): named(name) for name in modules} if mapper else {}
    return {wrong: right for wrong, right in (half | {n: named(n) for n in modules}).items() if wrong != right}


def _mapper(model: Any) -> Callable[[str], str] | None:
    """ModelOpt's, which is also what its export goes by; where it cannot, names stay."""
    with contextlib.suppress(Exception):
        from modelopt.torch.export.quant_aware_conversion import build_reverse_name_mapper

        mapper: Callable[[str], str] = build_reverse_name_mapper(model)
        return mapper
    return None
