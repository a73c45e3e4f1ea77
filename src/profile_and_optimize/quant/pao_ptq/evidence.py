"""What every check of an export looks at, and what a check says."""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from .files import read_json
from .headers import FLOATS
from .job import Job
from .names import APART, EXPERT, VISION, is_spare, key, stacked_name
from .packed import Packed, packed_weights
from .recorded import ExpertsFact, Facts, facts_from
from .stop import Stop
from .tensors import Tensor, read_folder


@dataclass(frozen=True, eq=False)
class Evidence:
    """Both checkpoints, the recorded facts and the configuration as written."""

    job: Job
    facts: Facts
    base: dict[str, Tensor]
    export: dict[str, Tensor]
    packed: dict[str, Packed]
    base_config: dict[str, Any]
    config: dict[str, Any]
    quant_config: dict[str, Any] | None
    roundtrip: dict[str, Any] | None
    folder: Path
    plain: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, str]:
        """Kind of each recorded module, by `key`."""
        return {key(m.name): m.kind for m in self.facts.modules}

    @cached_property
    def apart(self) -> dict[str, tuple[str, ...]]:
        """Tensors of all experts in the base that the export holds expert by expert, with the names of the parts there."""
        return {
            n: parts for n in self.base if n not in self.packed and n not in self.plain and (parts := parts_of(self, n))
        }

    @cached_property
    def folded(self) -> bool:
        """Whether the recipe moves scales between weights."""
        return self.job.recipe.method == "awq" or self.job.target.endswith("_awq")

    @cached_property
    def tied(self) -> bool:
        """Whether the base's own configuration says that its output matrix is its input one."""
        inner = text_of(self.base_config).get("tie_word_embeddings", True)
        return bool(self.base_config.get("tie_word_embeddings", inner))

    def is_packed(self, name: str) -> bool:
        """Whether a weight of the base is quantized in the export, in one piece or in parts."""
        return name in self.packed or (name in self.apart and all(p in self.packed for p in self.apart[name]))

    def excluded(self, name: str) -> bool:
        """Whether the recipe asked to leave this module, or one it is in, as it is."""
        parts = name.split(".")
        above = [".".join(parts[: i + 1]) for i in range(len(parts))]
        return any(fnmatch.fnmatchcase(n, p) for p in self.job.exclude for n in above)


def text_of(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's own part of a configuration: a multimodal one nests it."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def parts_of(ev: Evidence, name: str) -> tuple[str, ...]:
    """Of `...experts.gate_up_proj`: `...experts.0.gate_proj.weight` and so on, where all of them are in the export."""
    stem, _, last = stacked_name(name).rpartition(".")
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


def gather(job: Job) -> Evidence:
    partial = job.partial
    export = partial / "export"
    for needed in (partial / "work" / "facts.json", export / "config.json"):
        if not needed.exists():
            raise Stop("wrong_use", "the steps before this one have not finished", where=str(needed),
                       next="run the steps quantize and roundtrip on the same job")  # fmt: skip
    tensors = read_folder(export)
    packed = packed_weights(tensors)
    mine = {t.name for p in packed.values() for t in (p.weight, *p.scales.values())}
    plain = {n: t for n, t in tensors.items() if n not in mine}
    return Evidence(
        job, facts_from(read_json(partial / "work" / "facts.json")), read_folder(job.base), tensors, packed,
        read_json(job.base / "config.json"), read_json(export / "config.json"), _json(export / "hf_quant_config.json"),
        _json(export / "roundtrip.json"), export, plain,
    )  # fmt: skip


def _json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.exists() else None


EXAMPLES = 8


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


def spare(ev: Evidence) -> list[str]:
    """Layers for multi-token prediction, which transformers does not load and so no backend writes."""
    layers = text_of(ev.base_config).get("num_hidden_layers")
    gone = (n for n in ev.base if not (n in ev.packed or n in ev.plain or n in ev.apart))
    return [n for n in gone if is_spare(n, layers)]


@dataclass(frozen=True)
class Paired:
    """Recorded modules of routed experts beside their weights in the base's files (name -> quantized in the export).
    `alone`: those that the recipe leaves as they are; `odd`: those found on one side only."""

    asked: tuple[tuple[ExpertsFact, dict[str, bool]], ...]
    alone: frozenset[str]
    odd: tuple[str, ...]


def expert_weights(ev: Evidence) -> dict[str, dict[str, bool]]:
    """Weights of routed experts as the base's files name them, by the module they are in: quantized or not."""
    groups: dict[str, dict[str, bool]] = {}
    spared = set(spare(ev))
    for name, tensor in ev.base.items():
        match = EXPERT.match(stacked_name(name))
        # Without a number: all experts in one 3D tensor; two dimensions there are a bias of each, or a shared expert.
        if match is None or len(tensor.shape) < (3 if match[2] is None else 2) or tensor.dtype not in FLOATS:
            continue
        if "shared_expert" not in match[1] and not VISION.search(name) and name not in spared:
            groups.setdefault(match[1], {})[name] = ev.is_packed(name)
    return groups


@cache
def pair_experts(ev: Evidence) -> Paired:
    """By the layer numbers in their names: the words around them may differ between memory and files."""

    def numbers(text: str) -> tuple[str, ...]:
        return tuple(re.findall(r"\d+", text))

    files = {numbers(n): (n, weights) for n, weights in expert_weights(ev).items()}
    asked, alone, odd = [], set(), []
    for e in ev.facts.experts:
        stem, weights = files.pop(numbers(e.name), (None, None))
        if ev.excluded(e.name) or (stem and ev.excluded(stem)):
            alone |= {stem or e.name}
        elif weights is None:
            odd.append(f"{e.name}: recorded, not in the base's files")
        else:
            asked.append((e, weights))
    for stem, _ in files.values():
        if ev.excluded(stem):
            alone.add(stem)
        else:
            odd.append(f"{stem}: in the base's files, not recorded")
    return Paired(tuple(asked), frozenset(alone), tuple(odd))
