"""facts.json: what the backend did, read from the model before the export takes it apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .backend import Backend
from .calibration import TokenCount
from .headers import weights_bytes
from .loading import Loaded
from .recorded import ExpertsFact, Facts, ModuleFact, QuantizerFact
from .structure import experts_in, file_names, kind_of, routers_in, tied_names
from .work import Work

Named = TypeVar("Named", ModuleFact, QuantizerFact)


def facts_of(work: Work, loaded: Loaded, saw: dict[str, bool], tokens: TokenCount, backend: Backend) -> Facts:
    """What is true of the model now, by the names of the files."""
    model, named = loaded.model, file_names(loaded.model)
    quantizers = backend.quantizers(model, saw)
    quantized = {q.name.split(".weight_quantizer")[0] for q in quantizers if q.of == "weight" and q.enabled}
    experts = experts_in(model)
    made = {e.name: backend.weight_quantizers(model, e.name) for e in experts}
    modules = [module_fact(work, e.name, "experts", e.parameters, made[e.name] > 0) for e in experts]
    modules = [renamed(m, named) for m in (*modules, *plain_modules(work, model, [e.name for e in experts], quantized))]
    counted = {name: tuple(int(n) for n in value.tolist()) for name, value in tokens.counts.items()}
    could = ("linear", "experts", "lm_head")
    return Facts(
        backend=work.job.backend, target=work.job.target, model_type=model.config.model_type,
        architectures=tuple(model.config.architectures), modules=tuple(modules),
        quantizers=tuple(renamed(q, named) for q in quantizers),
        experts=tuple(
            ExpertsFact(named(e.name), e.layout, e.count, e.projections, made[e.name], counted.get(e.name)) for e in experts
        ),
        unquantized=tuple(m.name for m in modules if m.kind in could and not m.quantized),
        tied=tied_names(model, named), base_bytes=weights_bytes(work.base),
        base_params=sum(p.numel() for p in model.parameters()),
    )  # fmt: skip


def renamed(fact: Named, named: Callable[[str], str]) -> Named:
    return replace(fact, name=named(fact.name))


def module_fact(work: Work, name: str, kind: str, params: int, quantized: bool) -> ModuleFact:
    if not quantized:
        return ModuleFact(name, kind, params, False, None, None)
    return ModuleFact(name, kind, params, True, work.recipe.weight_format, work.recipe.group)


def plain_modules(work: Work, model: Any, experts: list[str], quantized: set[str]) -> list[ModuleFact]:
    """Every other module with weights of its own; the linears inside experts are counted there."""
    out: list[ModuleFact] = []
    routers = routers_in(model)
    for name, module in model.named_modules():
        if name in experts or any(name.startswith(e + ".") for e in experts):
            continue
        kind = kind_of(name, module, model, routers)
        if kind is not None:
            params = sum(p.numel() for p in module.parameters(recurse=False))
            out.append(module_fact(work, name, kind, params, name in quantized))
    return out
