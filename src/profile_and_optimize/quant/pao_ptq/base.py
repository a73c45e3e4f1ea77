"""What can be refused about a base before torch is loaded: no model folder, quantized already, other weight files, remote code."""

from __future__ import annotations

from typing import Any

from .files import read_json
from .headers import weight_files
from .job import Job
from .stop import Stop

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tokenization_*.py")


def base_config(job: Job) -> dict[str, Any]:
    """The base's config.json. Raises Stop for a base that cannot be quantized, with the reason."""
    base = job.base
    if not (base / "config.json").is_file():
        raise Stop("wrong_use", "no config.json: this is no model folder", where=str(base), next="--model DIR")
    config = read_json(base / "config.json")
    for there in (config, config.get("text_config") or {}):
        if there.get("quantization_config") or (base / "hf_quant_config.json").exists():
            how = (there.get("quantization_config") or {}).get("quant_method", "hf_quant_config.json is there")
            raise Stop(
                "wrong_use", f"the base is quantized already ({how})", where=str(base), next="give the bf16 base"
            )
    if not config.get("architectures"):
        told = "config.json names no architectures: which class to load is unknown"
        raise Stop("wrong_use", told, where=str(base / "config.json"), next='add "architectures": ["...ForCausalLM"]')
    if not any(list(base.glob(name)) for name in TOKENIZERS):
        raise Stop("wrong_use", "no tokenizer files", where=str(base), next="put tokenizer.json into the model folder")
    weight_files(base)
    if config.get("auto_map") and not job.trust_remote_code:
        told = "the model brings its own Python code, which would be run here"
        raise Stop("wrong_use", told, where=str(base), next="read that code, then pass --trust-remote-code")
    return config
