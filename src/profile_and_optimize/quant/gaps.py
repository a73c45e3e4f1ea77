"""What is known not to serve, said before anything is started: a gap is a kernel that will not take this model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from profile_and_optimize.core.argv import given
from profile_and_optimize.quant.experts import unpaddable
from profile_and_optimize.quant.families import Family, experts_of, family_of, table, text_part
from profile_and_optimize.quant.targets import RECIPES, Recipe

ACTIVATION_KEYS = ("hidden_act", "hidden_activation", "mlp_hidden_act")
EXPERT_WIDTH_KEYS = ("moe_intermediate_size", "intermediate_size")
# Of most kernels for NVFP4 experts, at each rank.
ALIGN = 64
EVERY_BACKEND, EVERY_ENGINE, EVERY_DEVICE = "every backend", "every engine", "every device"


@dataclass(frozen=True, slots=True)
class Gap:
    """`engine` on `device` with `backend` does not serve it: why, what it says then, what to do instead."""

    engine: str
    device: str
    backend: str
    why: str
    says: str
    do: str

    def of(self, engine: str | None, device: str | None) -> bool:
        """Does it concern this engine on this device? None asks for any."""
        return self.engine in (EVERY_ENGINE, engine or self.engine) and self.device in (
            EVERY_DEVICE,
            device or self.device,
        )

    def words(self) -> str:
        return f"{self.engine} on {self.device}, {self.backend}: {self.why}. It says: {self.says}. Instead: {self.do}"


def gaps_of(
    config: Mapping[str, Any], target: str, tp: int = 1, *, engine: str | None = None, device: str | None = None,
    whole_experts: bool = False,
) -> tuple[Gap, ...]:  # fmt: skip
    """The known gaps of a model at `tp` ranks; `target` is a target's name or a weight format, of any backend.

    `engine` and `device` narrow it down; `whole_experts` says that ranks divide the experts among them and not each expert's
    width. An empty answer means that none is known, not that it serves.
    """
    if tp < 1:
        raise ValueError(f"tp must be 1 or more, got {tp}")
    schemes = [s for s in RECIPES if target in (s.target, s.weight_format)]
    formats = {s.weight_format for s in schemes} or {target}
    family = family_of(config)
    shares = 1 if whole_experts else tp
    found = [
        *_heads(config, tp),
        *_undivided(config, family, shares),
        *_kernels(config, family, formats, shares),
        *_no_kernel(family, schemes),
        *_kv(config, formats),
    ]
    return tuple(g for g in found if g.of(engine, device))


def activation_of(config: Mapping[str, Any], family: Family) -> str:
    """The experts' activation as the config writes it; "unknown" where it does not."""
    text = text_part(config)
    return family.activation or next((str(text[k]) for k in ACTIVATION_KEYS if text.get(k)), "unknown")


def expert_width(config: Mapping[str, Any]) -> int | None:
    """The experts' intermediate size; None where the config does not tell."""
    text = text_part(config)
    return next((int(text[k]) for k in EXPERT_WIDTH_KEYS if isinstance(text.get(k), int)), None)


def padded_width(width: int, tp: int, multiple: int = ALIGN) -> int:
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
        why = _refusals(row, act, family.router)
        narrow = _narrow(row, width, tp)
        if why or narrow:
            # A pad mends a width alone: it is advised where nothing else is wrong, and where it can be made.
            pads = not why and row.get("pads", False)
            do = _padding(config, row, width, tp) if pads and width is not None else ""
            found.append(
                Gap(
                    row["engine"],
                    row["device"],
                    row["backend"],
                    "; ".join([*why, *narrow]),
                    row["says"],
                    f"{do}{row['do']}",
                )
            )
    return found


def _padding(config: Mapping[str, Any], row: Mapping[str, Any], width: int, tp: int) -> str:
    """The command that widens the experts for this kernel, or why there is none."""
    why = unpaddable(config)
    if why is not None:
        return f"(pao pad_experts cannot widen them: {why}) "
    other = "" if row["multiple"] == ALIGN else f" --multiple {row['multiple']}"
    return f"pao pad_experts --tp {tp}{other} makes them {padded_width(width, tp, row['multiple'])} wide, or "


def _undivided(config: Mapping[str, Any], family: Family, tp: int) -> list[Gap]:
    """Engines cut every expert into equal shares before any kernel is asked."""
    width = expert_width(config) if family.moe else None
    if width is None or width % tp == 0:
        return []
    why, says = (
        f"experts are {width} wide, not a multiple of {tp} ranks",
        "an assertion on the intermediate size, at the start",
    )
    pad = "" if unpaddable(config) else f"pao pad_experts --tp {tp} makes them {padded_width(width, tp)} wide, or "
    do = f"{pad}ranks that divide {width}, or expert parallelism"
    return [Gap(EVERY_ENGINE, EVERY_DEVICE, EVERY_BACKEND, why, says, do)]


def _heads(config: Mapping[str, Any], tp: int) -> list[Gap]:
    """Ranks share the attention's heads: each takes as many, or several take copies of one head of keys and values."""
    text = text_part(config)
    heads, kv = (text.get(k) for k in ("num_attention_heads", "num_key_value_heads"))
    why = []
    if _count(heads) and heads % tp:
        why.append(f"{heads} attention heads cannot be shared by {tp} ranks")
    if _count(kv) and not text.get("kv_lora_rank") and kv % tp and tp % kv:
        why.append(f"{kv} heads of keys and values can be neither shared by {tp} ranks nor copied to them evenly")
    if not why:
        return []
    says = "the number of heads must be divisible by the tensor parallel size"
    do = f"--tensor-parallel-size {_shared_by(heads, kv, tp)}"
    return [Gap(EVERY_ENGINE, EVERY_DEVICE, EVERY_BACKEND, "; ".join(why), says, do)]


def _shared_by(heads: object, kv: object, tp: int) -> int:
    """The most ranks under `tp` that fit."""
    for n in range(tp - 1, 1, -1):
        if (not _count(heads) or heads % n == 0) and (not _count(kv) or kv % n == 0 or n % kv == 0):
            return n
    return 1


def _count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def ranks_in(flags: Sequence[str]) -> int | None:
    """How many ranks a model's tensors are shared by, as engine flags have it, in any spelling; 1 where they do not say. None
    where the value is no number: the engine will say so itself."""
    options = list(given([re.sub(r"^-tp(?=$|[=\d])", "--tp-size", f) for f in flags]))
    said = [g.values for g in options if _is_ranks(g.option)]
    if not said:
        return 1
    value = said[-1][0] if said[-1] else ""
    return int(value) if value.isascii() and value.isdigit() and int(value) > 0 else None


def _is_ranks(option: str) -> bool:
    """argparse takes the beginning of an option for the whole of it."""
    return option in ("tp", "tp-size") or ("tensor-parallel-size".startswith(option) and len(option) > len("tens"))


def whole_experts_in(flags: Sequence[str]) -> bool:
    """Do engine flags give each rank whole experts instead of a share of each?"""
    for g in given(flags):
        if g.option in ("enable-expert-parallel", "enable-ep-moe"):
            return True
        if g.option in ("ep", "ep-size", "expert-parallel-size") and g.values and g.values[0] != "1":
            return True
    return False


def _refusals(row: Mapping[str, Any], act: str, router: str) -> list[str]:
    why = []
    if row.get("activations") and act not in row["activations"]:
        why.append(f"experts use {act}, it takes {', '.join(row['activations'])}")
    if row.get("routers") and router and router not in row["routers"]:
        why.append(f"experts are chosen by {router}, it takes {', '.join(row['routers'])}")
    return why


def _narrow(row: Mapping[str, Any], width: int | None, tp: int) -> list[str]:
    """A width of which this kernel wants another multiple at each rank."""
    multiple = row.get("multiple")
    if not multiple or width is None or width % (multiple * tp) == 0:
        return []
    return [
        f"experts are {width} wide, {width / tp:g} at each of {tp} ranks, not a multiple of {multiple}; "
        f"{padded_width(width, tp, multiple)} would be"
    ]


def _no_kernel(family: Family, schemes: Iterable[Recipe]) -> list[Gap]:
    """vLLM on a CPU has kernels for some formats only; a target of several backends is judged by the best of them."""
    known = list(schemes)
    if not known or any(s.served_by("vllm", "cpu", moe=family.moe) for s in known):
        return []
    what = "experts" if family.moe else "linear layers"
    return [Gap(
        "vllm", "cpu", EVERY_BACKEND, f"there is no kernel for {known[0].weight_format} {what} with these activations",
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
    return tuple(g for g in gaps if g.of(engine, device) and g.backend == EVERY_BACKEND)


def count_words(config: Mapping[str, Any]) -> str:
    """The mixture in one line: what is printed before anything is quantized."""
    count, text = experts_of(config), text_part(config)
    if count < 2:
        return "dense"
    chosen = next((text[k] for k in ("num_experts_per_tok", "top_k_experts") if text.get(k)), "unknown")
    return f"{count} experts, {chosen} a token, {expert_width(config) or 'unknown'} wide"
