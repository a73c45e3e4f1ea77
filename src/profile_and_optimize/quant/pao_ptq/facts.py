"""facts.json: what the backend did, read from the model before the export takes it apart."""

from __future__ import annotations

from typing import Any

from .backend import Backend
from .calibration import TokenCount
from .files import SCHEMA
from .headers import weights_bytes
from .loading import Loaded
from .structure import Experts, experts_in, file_names, kind_of, routers_in, tied_names
from .work import Work


def facts_of(work: Work, loaded: Loaded, saw: dict[str, bool], tokens: TokenCount, backend: Backend) -> dict[str, Any]:
    """facts.json: what the backend did, read from the model before the export takes it apart."""
    model, named = loaded.model, file_names(loaded.model)
    quantizers = backend.quantizers(model, saw)
    quantized = {q["name"].split(".weight_quantizer")[0] for q in quantizers if q["of"] == "weight" and q["enabled"]}
    experts = experts_in(model)
    modules = [m for e in experts for m in [experts_fact(work, model, e, backend)]]
    modules += plain_modules(work, model, [e.name for e in experts], quantized)
    for told in (*modules, *quantizers):
        told["name"] = named(told["name"])
    could = ("linear", "experts", "lm_head")
    counted = {name: [int(n) for n in value.tolist()] for name, value in tokens.counts.items()}
    return {
        "schema": SCHEMA, "backend": work.job.backend, "target": work.job.target,
        "model_type": model.config.model_type, "architectures": list(model.config.architectures),
        "modules": modules, "quantizers": quantizers,
        "experts": [{"name": named(e.name), "layout": e.layout, "count": e.count, "projections": e.projections,
                     "weight_quantizers": backend.weight_quantizers(model, e.name), "tokens": counted.get(e.name)} for e in experts],
        "unquantized": [m["name"] for m in modules if m["kind"] in could and not m["quantized"]],
        "tied": tied_names(model, named), "base_bytes": weights_bytes(work.base),
        "base_params": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def experts_fact(work: Work, model: Any, e: Experts, backend: Backend) -> dict[str, Any]:
    done = backend.weight_quantizers(model, e.name) > 0
    return module_fact(work, e.name, "experts", e.parameters, done)


def module_fact(work: Work, name: str, kind: str, params: int, quantized: bool) -> dict[str, Any]:
    how = {"weight_format": work.recipe.weight_format, "group_size": work.recipe.group}
    return {"name": name, "kind": kind, "params": params, "quantized": quantized,
            **(how if quantized else {"weight_format": None, "group_size": None})}  # fmt: skip


def plain_modules(work: Work, model: Any, experts: list[str], quantized: set[str]) -> list[dict[str, Any]]:
    """Every other module with weights of its own; the linears inside experts are counted there."""
    out: list[dict[str, Any]] = []
    routers = routers_in(model)
    for name, module in model.named_modules():
        if name in experts or any(name.startswith(e + ".") for e in experts):
            continue
        kind = kind_of(name, module, model, routers)
        if kind is not None:
            params = sum(p.numel() for p in module.parameters(recurse=False))
            out.append(module_fact(work, name, kind, params, name in quantized))
    return out
