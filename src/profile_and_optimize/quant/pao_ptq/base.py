"""What can be refused about a base before torch is loaded: no model folder, quantized already, other weight files, remote code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import read_json
from .headers import weight_files
from .job import Job
from .stop import Stop

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tokenization_*.py")


def base_config(job: Job) -> dict[str, Any]:
    """The base's config.json. Raises Stop for a base that cannot be quantized, with the reason."""
    config = config_of(job.base)
    require_code(config, job.base, job.trust_remote_code)
    return config


def config_of(base: Path) -> dict[str, Any]:
    """The config.json of a folder in Hugging Face layout with unquantized safetensors and a tokenizer. Raises Stop for others."""
    if not base.is_dir():
        told = "a base is a folder in Hugging Face layout, and there is none"
        raise Stop("wrong_use", told, where=str(base), next="fetch the model into a folder, then --model DIR")
    if not (base / "config.json").is_file():
        raise Stop("wrong_use", "no config.json: this is no model folder", where=str(base), next="--model DIR")
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


def require_code(config: Mapping[str, Any], base: Path, trusted: bool) -> None:
    """Raises Stop for a model whose own Python code would be run without anyone having said so."""
    if config.get("auto_map") and not trusted:
        told = "the model brings its own Python code, which would be run here"
        raise Stop("wrong_use", told, where=str(base), next="read that code, then pass --trust-remote-code")
