"""A folder's model in bf16: whole in memory, on a GPU, or with its layers on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .headers import weights_bytes
from .job import Job
from .memory import free_memory, give_memory_back
from .names import is_buffer, is_spare
from .stop import Stop


@dataclass(frozen=True)
class Loaded:
    """A model in memory, or with its layers on disk (`layered`)."""

    model: Any
    layered: bool
    device: str


@dataclass(frozen=True)
class Room:
    """When a model fits into memory: so many times its files' bytes, and so many more, are free."""

    times: float
    more: float


# With the export beside it while it is written; and a checkpoint that is only read.
TO_QUANTIZE, TO_READ = Room(2.0, 2e9), Room(1.3, 1e9)


def device_of(job: Job) -> str:
    import torch

    there = torch.cuda.is_available()
    if job.device == "cuda" and not there:
        raise Stop("wrong_use", "no CUDA device is there", where="device", next="--device cpu, or run it on a GPU node")
    return "cuda" if there and job.device != "cpu" else "cpu"


def wants_layers(job: Job, folder: Path, device: str, room: Room) -> bool:
    """Whole in memory while it fits into it; layer by layer from disk otherwise."""
    if job.memory != "auto":
        return job.memory == "layers"
    return device == "cpu" and weights_bytes(folder) * room.times + room.more > free_memory()


def load(job: Job, folder: Path, room: Room, lacks: Callable[[list[str]], Stop]) -> Loaded:
    """The model of a folder. Raises Stop where the library has no class for it; what `lacks` makes of missing weights."""
    import torch

    config = json.loads((folder / "config.json").read_text())
    device = device_of(job)
    if job.trust_remote_code and config.get("auto_map"):
        normalize_remote(folder, config)
    cls = model_class(config)
    normalize_tied(cls)
    layered = wants_layers(job, folder, device, room)
    kind = getattr(getattr(cls, "config_class", None), "model_type", None)
    named = {"config": own_config(cls, job, folder)} if kind not in (None, config.get("model_type")) else {}
    model, told = cls.from_pretrained(
        folder, dtype=torch.bfloat16, use_safetensors=True, trust_remote_code=job.trust_remote_code,
        output_loading_info=True, **named, **placed(job, folder, cls, device, layered),
    )  # fmt: skip
    lacking = sorted(map(str, told["missing_keys"] or told.get("mismatched_keys") or []))
    if lacking:
        raise lacks(lacking)
    unread = sorted(
        n
        for n in map(str, told.get("unexpected_keys") or ())
        if not is_buffer(n) and not is_spare(n, layers_of(config))
    )
    if unread:
        what = f"{len(unread)} tensors belong to no module of {cls.__name__}: {', '.join(unread[:3])}"
        more = "more layers than config.json says, or another architecture: a checkpoint without them would be another model"
        raise Stop("wrong_use", what, where=str(folder), next=more)
    if not model.config.architectures:
        model.config.architectures = list(config["architectures"])
    return Loaded(plain_linears(eager_experts(model)).eval(), layered, device)


def layers_of(config: dict[str, Any]) -> object:
    text = config.get("text_config")
    return (text if isinstance(text, dict) else config).get("num_hidden_layers")


def placed(job: Job, folder: Path, cls: Any, device: str, layered: bool) -> dict[str, Any]:
    """Arguments that say where the weights lie."""
    if not layered:
        return {"device_map": "auto"} if device == "cuda" else {}
    give_memory_back()
    # compressed-tensors moves buffers with their module and accelerate's own default does not; ModelOpt wants them here.
    moved = {"offload_buffers": job.backend == "llm-compressor"}
    return {"device_map": layer_map(cls, job, folder), "offload_folder": str(job.work / "offload")} | moved


def model_class(config: dict[str, Any]) -> Any:
    """The class named in the config, which keeps a multimodal model whole; the library's own choice for remote code."""
    import transformers

    name = config["architectures"][0]
    found = None if config.get("auto_map") else getattr(transformers, name, None)
    if found is None and not config.get("auto_map"):
        told = f"transformers {transformers.__version__} has no class {name}"
        more = "another release of transformers may have it"
        raise Stop("wrong_use", told, where="config.json architectures", next=more)
    return found or transformers.AutoModelForCausalLM


def normalize_tied(cls: Any) -> None:
    """Older model code lists its tied weights; transformers 5 wants a mapping from each to what it shares."""
    for known in cls.__mro__:
        keys = vars(known).get("_tied_weights_keys")
        if isinstance(keys, (list, tuple, set)):
            known._tied_weights_keys = {key: "model.embed_tokens.weight" for key in keys}


def normalize_remote(folder: Path, config: dict[str, Any]) -> None:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    named = (config.get("auto_map") or {}).get("AutoModelForCausalLM")
    if named:
        normalize_tied(get_class_from_dynamic_module(named, str(folder)))


def own_config(cls: Any, job: Job, folder: Path) -> Any:
    """The configuration by the class that config.json names. It may call itself otherwise (Kimi K2's is kimi_k2, of the class
    DeepseekV3ForCausalLM), and the library goes by that word for what tensors are called in the files."""
    from transformers import AutoConfig

    kind = getattr(cls, "config_class", None)
    if kind is None:
        return AutoConfig.from_pretrained(folder, trust_remote_code=job.trust_remote_code)
    config = kind.from_pretrained(folder, trust_remote_code=job.trust_remote_code)
    config.model_type = kind.model_type
    return config


def empty_model(cls: Any, job: Job, folder: Path) -> Any:
    """The model's modules without their weights."""
    import torch

    config = own_config(cls, job, folder)
    with torch.device("meta"):
        if hasattr(cls, "_from_config"):
            return cls._from_config(config)
        return cls.from_config(config, trust_remote_code=job.trust_remote_code)


def bare_model(job: Job, folder: Path) -> Any:
    """As `load` gives it, but for the weights."""
    config = json.loads((folder / "config.json").read_text())
    return plain_linears(eager_experts(empty_model(model_class(config), job, folder))).eval()


def layer_map(cls: Any, job: Job, folder: Path) -> dict[str, str]:
    """Where each part lies: every repeated layer on disk, what is around them in memory."""
    import torch

    empty = empty_model(cls, job, folder)
    lists = [name for name, module in empty.named_modules() if isinstance(module, torch.nn.ModuleList)]
    stacks = [name for name in lists if not any(name.startswith(other + ".") for other in lists if other != name)]
    places: dict[str, str] = {}
    for name, module in empty.named_modules():
        holder = name.rpartition(".")[0]
        if holder in stacks:
            places[name] = "disk"
        elif not any(True for _ in module.children()) and not any(name.startswith(s + ".") for s in stacks):
            places[name] = "cpu"
    alone = [name for name, _ in [*empty.named_parameters(), *empty.named_buffers()]]
    places.update({name: "cpu" for name in alone if not any(name.startswith(p + ".") for p in places)})
    return places


def plain_linears(model: Any) -> Any:
    """Falcon's own linear class has the product written out, which no quantizer is called for."""
    import torch

    for module in model.modules():
        if type(module).__name__ == "FalconLinear":
            module.__class__ = torch.nn.Linear
    return model


def eager_experts(model: Any) -> Any:
    """Grouped matrix products pass by the quantizers without a word: experts are computed one by one here."""
    for module in (model, *model.modules()):
        config = getattr(module, "config", None)
        for part in (config, *(getattr(config, n, None) for n in ("text_config", "vision_config", "audio_config"))):
            if part is not None and hasattr(part, "_experts_implementation"):
                part._experts_implementation = "eager"
    return model
