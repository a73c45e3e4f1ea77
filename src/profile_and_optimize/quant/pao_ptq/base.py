"""What can be refused about a base before torch is loaded: no model folder, quantized already, other weight files, remote code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .files import read_json
from .headers import header_of, weight_files
from .job import Job
from .names import ROUTER, VISION, excluded, is_buffer, module_of, stacked_name
from .stop import Stop
from .targets import Recipe

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tokenization_*.py")


def base_config(job: Job) -> dict[str, Any]:
    """The base's config.json. Raises Stop for a base that cannot be quantized, with the reason."""
    config = config_of(job.base)
    require_code(config, job.base, job.trust_remote_code)
    return config


def config_of(base: Path) -> dict[str, Any]:
    """The config.json of a folder in Hugging Face layout with unquantized safetensors and a tokenizer. Raises Stop for others."""
    if not base.is_dir():
        told = "a base must be a folder in Hugging Face layout, and it does not exist"
        raise Stop("wrong_use", told, where=str(base), next="fetch the model into a folder, then --model DIR")
    if not (base / "config.json").is_file():
        raise Stop("wrong_use", "no config.json: not a model folder", where=str(base), next="--model DIR")
    config = read_json(base / "config.json", next="fetch the model again")
    how = quantized_by(config, base)
    if how is not None:
        told = f"the base is quantized already ({how})"
        raise Stop("wrong_use", told, where=str(base), next="give the bf16 base that it was made from")
    if not isinstance(config.get("text_config") or {}, Mapping):
        raise Stop(
            "wrong_use",
            "its text_config is not an object",
            where=str(base / "config.json"),
            next="fetch the model again",
        )
    named = config.get("architectures")
    if not isinstance(named, list) or not named or not all(isinstance(n, str) and n for n in named):
        told = "config.json names no architectures: which class to load is unknown"
        raise Stop("wrong_use", told, where=str(base / "config.json"), next='add "architectures": ["...ForCausalLM"]')
    require_tokenizer(base)
    weight_files(base)
    return config


def quantized_by(config: Mapping[str, Any], base: Path) -> str | None:
    """The method that a base was quantized with, from its own config.json or the file that ModelOpt writes beside it."""
    for part in (config, config.get("text_config")):
        quantization = part.get("quantization_config") if isinstance(part, Mapping) else None
        if quantization:
            method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
            return str(method or "by a method that its config does not name")
    return "modelopt, by its hf_quant_config.json" if (base / "hf_quant_config.json").exists() else None


def require_tokenizer(base: Path) -> None:
    """Raises Stop for a folder without tokenizer files."""
    if not any(path.is_file() for name in TOKENIZERS for path in base.glob(name)):
        raise Stop("wrong_use", "no tokenizer files", where=str(base), next="put tokenizer.json into the model folder")


# Matrices by their names that are none of a product: tables, convolutions, GPT-2's, which lie transposed.
NO_PRODUCT = re.compile(r"embed|conv|norm|\.wte|\.wpe|\.c_(attn|proj|fc)\b|relative|rotary")


def require_widths(base: Path, exclude: Iterable[str], recipe: Recipe) -> None:
    """Raises Stop where a matrix in scope has rows that the format's groups do not divide, as the files show it: one backend would
    leave it out, the other break. What the files do not show is looked at once the model is loaded."""
    patterns = list(exclude)
    odd = [f"{n} {shape}" for n, shape in matrices(base) if not _left_out(n, patterns) and _odd(n, shape, recipe.group)]
    if odd:
        told = f"{odd[0]}: its rows are not a multiple of {recipe.group}, the group of {recipe.target} ({len(odd)} such tensors)"
        first = module_of(odd[0].split(" ")[0])
        other = "--target fp8 has no groups" if recipe.group == 16 else "--target nvfp4 has groups of 16, fp8 has none"
        last = first.rpartition(".")[2]
        raise Stop("wrong_use", told, where="--target", next=f"{other}; or --exclude-pattern '*{last}'")


def matrices(base: Path) -> Iterator[tuple[str, list[int]]]:
    """Weights of matrix products inside the repeated layers, and stacks of them, by name and shape. Raises Stop for a file that has
    no table of contents."""
    for file in weight_files(base):
        try:
            table = header_of(file)[0]
        except (ValueError, OSError) as error:
            told = f"no safetensors file: {error}"
            raise Stop("wrong_use", told, where=str(file), next="fetch the model again") from error
        for name, entry in table.items():
            shape = entry.get("shape") or []
            stack = len(shape) == 3 and "expert" in stacked_name(name)
            matrix = len(shape) == 2 and name.endswith(".weight") and re.search(r"\.\d+\.", name)
            other = NO_PRODUCT.search(name) or ROUTER.search(name) or VISION.search(name) or is_buffer(name)
            if (stack or matrix) and not other:
                yield name, shape


def _odd(name: str, shape: list[int], group: int | None) -> bool:
    return group is not None and any(n % group for n in (shape[1:] if len(shape) == 3 else shape[-1:]))


def _left_out(name: str, patterns: list[str]) -> bool:
    """By its name in the files, or what the library may call it in memory."""
    named = {name, stacked_name(name), stacked_name(name).replace("block_sparse_moe", "mlp")}
    return any(excluded(module_of(n), patterns) for n in named)


def require_code(config: Mapping[str, Any], base: Path, trusted: bool) -> None:
    """Raises Stop for a model whose own Python code would be run without anyone having said so."""
    if config.get("auto_map") and not trusted:
        told = "the model brings its own Python code, which would be run here"
        raise Stop("wrong_use", told, where=str(base), next="read that code, then pass --trust-remote-code")
