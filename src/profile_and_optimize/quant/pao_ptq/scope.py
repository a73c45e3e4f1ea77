"""What is to be quantized and what is left as it is, decided and said before anything is calibrated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from .names import FUSED_BY, excluded
from .stop import Stop
from .structure import Experts, experts_in, file_names, kind_of, routers_in, stacked
from .work import Work


def scope(model: Any, patterns: Iterable[str]) -> list[str]:
    """The patterns, the names in memory of modules that they match by their names in the files alone, and the routers: no recipe
    may touch those, whatever they are called."""
    named = file_names(model)
    renamed = [name for name, _ in model.named_modules() if name and named(name) != name]
    also = [name for name in renamed if excluded(named(name), patterns) and not excluded(name, patterns)]
    routers = sorted(name for name in routers_in(model) if not excluded(name, [*patterns, *also]))
    return [*patterns, *also, *routers]


def refuse_unfit(work: Work, experts: list[Experts], model: Any) -> None:
    """Pairs of format and experts that the libraries break on, or break: seen with the releases this was written for."""
    target, name = work.job.target, type(model).__name__
    if experts and target.endswith("_awq"):
        told = f"AWQ by {work.job.backend} fails on experts, or rescales their routers"
        raise Stop("wrong_use", told, where=experts[0].name, next="--target nvfp4 or w4a16_gptq, or leave experts out")
    if experts and work.job.backend == "llm-compressor" and name.startswith("GptOss"):
        told = f"llm-compressor cuts the experts of {name} in half where gate and up lie row by row in turn: their names would be wrong"
        raise Stop("wrong_use", told, where=experts[0].name, next="--backend modelopt, or leave the experts out")
    if experts and (work.job.backend, target) == ("modelopt", "int8") and name.startswith(("GptOss", "Llama4")):
        told = f"ModelOpt cannot write the experts of {name} as int8"
        raise Stop("wrong_use", told, where=experts[0].name, next="--target fp8 or nvfp4")


def describe(work: Work, model: Any) -> None:
    """Says the structure before anything is changed. Raises Stop for what the target or the engines could not take."""
    patterns = work.patterns
    experts = experts_in(model)
    for e in experts:
        left = " (left out)" if excluded(e.name, patterns) else ""
        work.say(f"experts {e.name}: {e.count} x {e.projections} matrices, {e.layout}, {e.parameters} weights{left}")
    if not experts:
        work.say("no mixture of experts")
    refuse_unfit(work, [e for e in experts if not excluded(e.name, patterns)], model)
    refuse_empty_patterns(model, work.job.asked_exclude)
    routers = routers_in(model)
    linears = [n for n, m in model.named_modules() if kind_of(n, m, model, routers) == "linear"]
    refuse_other(model, patterns, routers)
    refuse_split(linears, patterns)
    refuse_widths(work, model)
    if not [n for n in linears if not excluded(n, patterns)] and not [
        e for e in experts if not excluded(e.name, patterns)
    ]:
        raise Stop("wrong_use", "the patterns leave out every matrix: there is nothing to quantize", where="--exclude-pattern",
                   next="leave out less")  # fmt: skip


def refuse_other(model: Any, patterns: Sequence[str], routers: Collection[str]) -> None:
    """Raises Stop for matrices in scope that are of no class which the backends quantize: GPT-2's lie transposed."""
    odd = [
        (n, type(m).__name__)
        for n, m in model.named_modules()
        if kind_of(n, m, model, routers) == "other" and m.weight.ndim == 2 and not excluded(n, patterns)
    ]
    if odd:
        names = ", ".join(sorted({kind for _, kind in odd}))
        told = f"{len(odd)} matrices are of the class {names}, which is not quantized here: they would stay as they are"
        raise Stop("wrong_use", told, where=odd[0][0], next="leave them out knowingly, each by an --exclude-pattern")


def refuse_empty_patterns(model: Any, asked: Sequence[str]) -> None:
    """Raises Stop for a pattern that names no module: a slip of the pen would quantize what was to be spared."""
    named = file_names(model)
    names = {n for module, _ in model.named_modules() if module for n in (module, named(module))}
    empty = [p for p in asked if not any(excluded(n, [p]) for n in names)]
    if empty:
        last = sorted({n.rpartition(".")[2] for n in names if not n.rpartition(".")[2].isdigit()})
        more = f"its modules are called {', '.join(last[:12])}" + (", ..." if len(last) > 12 else "")
        raise Stop("wrong_use", f"{empty[0]!r} matches no module of this model", where="--exclude-pattern", next=more)


def refuse_split(linears: Iterable[str], patterns: Sequence[str]) -> None:
    """Raises Stop where a matrix that engines run as one would be quantized in part: they take one format for it."""
    there = set(linears)
    for engine, groups in FUSED_BY.items():
        for name in sorted(there):
            stem, _, last = name.rpartition(".")
            for group in groups:
                mates = [f"{stem}.{g}" for g in group if f"{stem}.{g}" in there] if last == group[0] else []
                out = [m for m in mates if excluded(m, patterns)]
                if out and len(out) < len(mates):
                    parts = ", ".join(m.rpartition(".")[2] for m in mates)
                    told = f"{engine} runs {parts} of {stem} as one matrix, and {out[0]} alone is left out"
                    more = " ".join(f"--exclude-pattern '*{m.rpartition('.')[2]}'" for m in mates)
                    raise Stop("wrong_use", told, where="--exclude-pattern", next=f"{more}, or none of them")


def refuse_widths(work: Work, model: Any) -> None:
    """Raises Stop for a width in scope that the format's groups do not divide."""
    import torch

    group, patterns = work.recipe.group or 1, work.patterns
    odd = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m.in_features % group]
    odd += [n for n, m in model.named_modules() if any(d % group for p in stacked(m) for d in p.shape[1:])]
    odd = [name for name in odd if not excluded(name, patterns)]
    if odd:
        told = (
            f"{len(odd)} modules have a width that is not a multiple of {group}, as {work.job.target} needs: {odd[0]}"
        )
        raise Stop("wrong_use", told, where=work.job.target, next=f"--exclude-pattern '{odd[0]}', or another target")
