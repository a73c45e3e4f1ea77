"""docs/reference/quantization.md: targets, families and kernels that refuse some models, as the tables have them."""

from __future__ import annotations

from collections.abc import Iterable

from profile_and_optimize.quant.families import DEFAULT, family_names, table
from profile_and_optimize.quant.targets import RECIPES, Recipe, served_words

HEAD = """# What can be quantized, and into what

Written by `pao reference --write docs/reference`; a test compares. How it is done: [quantization](../quantization.md).
"""


def page() -> str:
    return "\n".join([HEAD, *_targets(), *_families(), *_kernels()])


def _targets() -> list[str]:
    rows = [_target(s) for s in RECIPES]
    return [
        "## Targets\n",
        "Bits are of a quantized weight in the file, scales included. *From text*: ranges, or a search over weights, come from "
        "the calibration text. Dense models on a CPU were run; the rest is read in "
        "what vLLM 0.32.0 and SGLang 0.5.23 accept.\n",
        *_table(("backend", "target", "weights", "bits", "activations", "from text", "served by"), rows),
    ]


def _target(s: Recipe) -> tuple[str, ...]:
    group = f"{s.weight_format}, groups of {s.group}" if s.group else s.weight_format
    data = "yes" if s.needs_data else "no"
    return f"`{s.backend}`", f"`{s.target}`", group, f"{s.bits_per_weight:g}", s.activations, data, served_words(s)


def _families() -> list[str]:
    """One row of each entry; the default's stands for dense models without one."""
    rows = [_family(DEFAULT, table()[DEFAULT])] + [_family(n, table()["family"][n]) for n in family_names()]
    return [
        "## Families\n",
        "By the `model_type` of a model's config.json. A dense model without an entry is taken as `default`; a mixture of experts "
        "without one is refused.\n",
        *_table(("family", "model types", "recipe", "stays unquantized", "needs", "tried on"), rows),
    ]


def _family(name: str, row: dict[str, object]) -> tuple[str, ...]:
    types, exclude, needs = (row.get(k, ()) for k in ("model_types", "exclude", "needs"))
    needed = [*(str(n) for n in _each(needs)), f"transformers {row['transformers']}"]
    return (
        f"`{name}`", ", ".join(f"`{t}`" for t in _each(types)), str(row["recipe"]),
        " ".join(f"`{p}`" for p in _each(exclude)), ", ".join(needed), str(row["seen"]),
    )  # fmt: skip


def _kernels() -> list[str]:
    rows = [
        (
            f"{k['engine']} on {k['device']}", f"`{k['backend']}`", ", ".join(k["formats"]),
            ", ".join(k.get("activations", ())) or "any", ", ".join(k.get("routers", ())) or "any",
            f"{k['multiple']} at each rank" if "multiple" in k else "any",
            ("pao pad_experts --tp RANKS where it can widen them, or " if k.get("pads") else "") + k["do"],
        )
        for k in table()["kernel"]
    ]  # fmt: skip
    return [
        "## Kernels for experts that take some models alone\n",
        *_table(("engine", "kernel", "formats", "activations", "routing", "width is a multiple of", "instead"), rows),
    ]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [" | ".join(str(c).replace("|", "\\|") for c in row) for row in [head, ("---",) * len(head), *rows]]
    return [f"| {line} |" for line in lines] + [""]


def _each(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()
