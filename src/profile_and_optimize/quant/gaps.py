"""What is known not to serve, said before anything is started: a gap is a kernel that will not take this model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.quant.families import Family, experts_of, family_of, table, text_part
from profile_and_optimize.quant.targets import RECIPES, Recipe

ACTIVATION_KEYS = ("hidden_act", "hidden_activation", "mlp_hidden_act")
EXPERT_WIDTH_KEYS = ("moe_intermediate_size", "intermediate_size")


@dataclass(frozen=True, slots=True)
class Gap:
    """`engine` on `device` with `backend` does not serve it: why, what it says then, what to do instead."""

    engine: str
    device: str
    backend: str
    why: str
    says: str
    do: str

    def words(self) -> str:
        return f"{self.engine} on {self.device}, {self.backend}: {self.why}. It says: {self.says}. Instead: {self.do}"


def gaps_of(
    config: Mapping[str, Any], target: str, tp: int = 1, *, engine: str | None = None, device: str | None = None
) -> tuple[Gap, ...]:
    """The known gaps of a model at `tp` ranks; `target` is a target's name or a weight format, of any backend.

    `engine` and `device` narrow it down. An empty answer means that none is known, not that it serves.
    """
    if tp < 1:
        raise ValueError(f"{tp} ranks")
    schemes = [s for s in RECIPES if target in (s.target, s.weight_format)]
    formats = {s.weight_format for s in schemes} or {target}
    family = family_of(config)
    found = [*_kernels(config, family, formats, tp), *_no_kernel(family, schemes), *_kv(config, formats)]
    return tuple(g for g in found if engine in (None, g.engine) and device in (None, g.device))


def activation_of(config: Mapping[str, Any], family: Family) -> str:
    """The experts' activation as the config writes it; "unknown" where it does not."""
    text = text_part(config)
    return family.activation or next((str(text[k]) for k in ACTIVATION_KEYS if text.get(k)), "unknown")


def expert_width(config: Mapping[str, Any]) -> int | None:
    """The experts' intermediate size; None where the config does not tell."""
    text = text_part(config)
    return next((int(text[k]) for k in EXPERT_WIDTH_KEYS if isinstance(text.get(k), int)), None)


def padded_width(width: int, tp: int, multiple: int = 64) -> int:
    """The next width of which every rank's share is a multiple of `multiple`."""
    return -(-width // (multiple * tp)) * multiple * tp


def _kernels(config: Mapping[str, Any], family: Family, formats: Iterable[str], tp: int) -> list[Gap]:
    """Expert kernels that refuse this activation, routing or width."""
    if not family.moe:
        return []
    act, width, found = activation_of(config, family), expert_width(config), []
    for row in table()["kernel"]:
        if not set(row["formats"]) & set(formats):
            continue
        why = _refusals(row, act, family.router, width, tp)
        if why:
            found.append(Gap(row["engine"], row["device"], row["backend"], "; ".join(why), row["says"], row["do"]))
    return found


def _refusals(row: Mapping[str, Any], act: str, router: str, width: int | None, tp: int) -> list[str]:
    why = []
    if row.get("activations") and act not in row["activations"]:
        why.append(f"experts use {act}, it takes {', '.join(row['activations'])}")
    if row.get("routers") and router and router not in row["routers"]:
        why.append(f"experts are chosen by {router}, it takes {', '.join(row['routers'])}")
    multiple = row.get("multiple")
    if multiple and width is not None and width % (multiple * tp):
        why.append(
            f"experts are {width} wide, {width / tp:g} at each of {tp} ranks, not a multiple of {multiple}; "
            f"{padded_width(width, tp, multiple)} would be"
        )
    return why


def _no_kernel(family: Family, schemes: Iterable[Recipe]) -> list[Gap]:
    """vLLM on a CPU has kernels for some formats only; a target of several backends is judged by the best of them."""
    known = list(schemes)
    if not known or any(s.served_by("vllm", "cpu", moe=family.moe) for s in known):
        return []
    what = "experts" if family.moe else "linear layers"
    return [Gap(
        "vllm", "cpu", "every backend", f"there is no kernel for {known[0].weight_format} {what} with these activations",
        "no supported kernel, or an unsupported quantization, at the start of the engine",
        "--target int8 --backend llm-compressor serves there" + ("" if family.moe else ", so does --target nvfp4 --backend modelopt"),
    )]  # fmt: skip


def _kv(config: Mapping[str, Any], formats: Iterable[str]) -> list[Gap]:
    """A flag of serving, not of the checkpoint: with NVFP4 weights people also ask for NVFP4 keys and values."""
    if "nvfp4" not in formats or not text_part(config).get("kv_lora_rank"):
        return []
    return [Gap(
        "vllm", "cuda", "--kv-cache-dtype nvfp4", "latent attention has no NVFP4 cache in general",
        "no attention backend for this cache type", "leave --kv-cache-dtype at auto or fp8; weights are not concerned",
    )]  # fmt: skip


def blocking(gaps: Iterable[Gap], engine: str, device: str) -> tuple[Gap, ...]:
    """Those that leave an engine no backend at all on that device."""
    return tuple(g for g in gaps if (g.engine, g.device, g.backend) == (engine, device, "every backend"))


def count_words(config: Mapping[str, Any]) -> str:
    """The mixture in one line: what is printed before anything is quantized."""
    count, text = experts_of(config), text_part(config)
    if count < 2:
        return "dense"
    chosen = next((text[k] for k in ("num_experts_per_tok", "top_k_experts") if text.get(k)), "unknown")
    return f"{count} experts, {chosen} a token, {expert_width(config) or 'unknown'} wide"
