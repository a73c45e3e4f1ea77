"""Quantizes one model after training and exports it in the layout that engines load.

    python quantize.py JOB.json

Runs alone, wherever torch, transformers and the backend are: in the `ptq` tool environment, a container or a Slurm job.
It imports nothing of the package. Reads `work/calib.jsonl` and `work/heldout.jsonl` (lines {"input_ids": [..]}) under
OUT.partial and writes there:

    work/facts.json              modules, quantizers and experts as the backend left them; names as the model has them in memory
    work/reference.safetensors   "base" and "quantized" log-probabilities, float16 [rows, vocabulary], of the held-out samples
                                 in their order, one row a token; where the file would be over 512 MB, the first rows alone
    export/                      the checkpoint, with tokenizer files, quantize.json and calibration.json

Progress goes to stdout as lines `PAO {json}`. A failure is the last line of stderr, `PAO-ERROR {json}`, with exit status 2
(wrong use), 3 (broke midway) or 1 (refused). Killed and started again with the same job it goes on: finished parts are kept,
and ranges are saved every few samples. A search (AWQ, GPTQ) has no such state here and begins again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fnmatch
import json
import os
import re
import resource
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
EXIT = {"refused": 1, "wrong_use": 2, "broke": 3}
REFERENCE_BYTES = 512_000_000
SHARD = "1GB"  # held in memory while it fills, and once more while it is written
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tokenization_*.py")
COPIED = ("tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "added_tokens.json", "tekken.json",
          "chat_template*", "*processor_config.json", "generation_config.json")  # fmt: skip
VISION = ("vision", "visual", "audio", "multi_modal_projector", "mm_projector")
ROUTERS = ("gate", "router", "shared_expert_gate")


class Stop(Exception):
    """An end that is said in one line: what happened, where, and what to do next."""

    def __init__(self, code: str, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.where, self.next = code, message, where, next

    def line(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "where": self.where, "next": self.next}


# ---- what can be asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How a target is made. `settings` names ModelOpt's configuration or llm-compressor's scheme. `data` is what the
    calibration text is for: nothing, the ranges of activations, or a search over weights too. `group` weights share a
    scale (None: a row or the tensor does)."""

    settings: str
    weight_format: str
    group: int | None
    data: str
    method: str = ""


RECIPES: dict[str, dict[str, Recipe]] = {
    "modelopt": {
        "nvfp4": Recipe("NVFP4_DEFAULT_CFG", "nvfp4", 16, "ranges"),
        "w4a16_nvfp4": Recipe("W4A16_NVFP4_CFG", "nvfp4", 16, "none"),
        "nvfp4_awq": Recipe("NVFP4_AWQ_LITE_CFG", "nvfp4", 16, "search"),
        "fp8": Recipe("FP8_DEFAULT_CFG", "fp8", None, "ranges"),
        "int8": Recipe("INT8_DEFAULT_CFG", "int8", None, "ranges"),
        "int4_awq": Recipe("INT4_AWQ_CFG", "int4", 128, "search"),
        "mxfp4": Recipe("MXFP4_DEFAULT_CFG", "mxfp4", 32, "none"),
        "mxfp8": Recipe("MXFP8_DEFAULT_CFG", "mxfp8", 32, "none"),
    },
    "llm-compressor": {
        "nvfp4": Recipe("NVFP4", "nvfp4", 16, "ranges"),
        "w4a16_nvfp4": Recipe("NVFP4A16", "nvfp4", 16, "none"),
        "fp8": Recipe("FP8_DYNAMIC", "fp8", None, "none"),
        "fp8_static": Recipe("FP8", "fp8", None, "ranges"),
        "int8": Recipe("W8A8", "int8", None, "none"),
        "w4a16": Recipe("W4A16", "int4", 128, "none"),
        "w4a16_gptq": Recipe("W4A16", "int4", 128, "search", "gptq"),
        "w4a16_awq": Recipe("W4A16", "int4", 128, "search", "awq"),
    },
}
BITS = {"nvfp4": 4.5, "mxfp4": 4.25, "int4": 4.25, "fp8": 8.0, "int8": 8.0, "mxfp8": 8.25}


def recipe_of(job: dict[str, Any]) -> Recipe:
    """Raises Stop for a pair that there is not."""
    backend, target = job["backend"], job["target"]
    if backend not in RECIPES:
        raise Stop("wrong_use", f"no backend {backend!r}", where="backend", next=f"one of {', '.join(RECIPES)}")
    if target not in RECIPES[backend]:
        told = f"one of {', '.join(RECIPES[backend])}"
        raise Stop("wrong_use", f"{backend} has no target {target!r}", where="target", next=told)
    return RECIPES[backend][target]


# ---- the folder and what survives a kill -------------------------------------------------------------------------------


def write_whole(path: Path, data: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    half = path.with_name(f".{path.name}.half")
    with half.open("w") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def write_json(path: Path, value: object) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Raises Stop when it is missing or no JSON object."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Stop(
            "wrong_use", f"cannot be read as JSON: {error}", where=str(path), next="pao quantize writes it"
        ) from error
    if not isinstance(value, dict):
        raise Stop("wrong_use", "holds no JSON object", where=str(path), next="pao quantize writes it")
    return value


@dataclass
class Work:
    """One job's folder, its clock and its progress. `patterns` say what is left out, by names in memory (see `scope`)."""

    job: dict[str, Any]
    partial: Path
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    peak: Any = None
    peaks: dict[str, int | None] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.partial / "work"

    @property
    def export(self) -> Path:
        return self.partial / "export"

    @property
    def base(self) -> Path:
        return Path(self.job["base"])

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.job)

    def say(self, says: str, *, done: int = 0, of: int = 0, left_s: float | None = None) -> None:
        line = {"stage": "quantize", "done": done, "of": of, "says": says}
        print("PAO " + json.dumps(line | ({"left_s": round(left_s, 1)} if left_s is not None else {})), flush=True)

    def note(self, told: str) -> None:
        self.notes.append(told)
        self.say(told)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        before = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - before, 2)
        self.peaks[stage] = self.peak.taken() if self.peak else None

    def state(self) -> dict[str, Any]:
        path = self.partial / "STATE.json"
        new = {"stage": "quantize", "done": [], "failed": None, "job_digest": self.job["job_digest"]}
        return read_json(path) if path.exists() else new

    def mark(self, *, done: bool = False, failed: dict[str, str] | None = None) -> None:
        state = self.state()
        finished = [stage for stage in state.get("done", []) if stage != "quantize"] + (["quantize"] if done else [])
        told = None if failed is None else {"stage": "quantize", **failed}
        write_json(self.partial / "STATE.json", state | {"stage": "quantize", "done": finished, "failed": told})


def opened(job: dict[str, Any]) -> Work:
    """The job's folder, made where it is missing. Raises Stop when it was begun for another job."""
    out = Path(job["out"])
    work = Work(job, out.with_name(out.name + ".partial"))
    work.work.mkdir(parents=True, exist_ok=True)
    marker = work.partial / "NOT_A_CHECKPOINT.txt"
    if not marker.exists():
        write_whole(marker, f"Half made. What is checked and whole appears as {out.name}, beside this folder.\n")
    if work.state().get("job_digest") != job["job_digest"]:
        told = "this folder was begun for another job"
        raise Stop("wrong_use", told, where=str(work.partial), next="give another --out, or remove that folder")
    return work


def is_made(job: dict[str, Any]) -> bool:
    """Is the checkpoint there already, of this job? Raises Stop when something else has its name."""
    out = Path(job["out"])
    if not os.path.lexists(out):
        return False
    record = out / "quantize.json"
    if not record.is_file() or read_json(record).get("job", {}).get("job_digest") != job["job_digest"]:
        told = "there is something else under this name already"
        raise Stop("refused", told, where=str(out), next="give another --out")
    return True


# ---- the base: everything that can be refused before torch is loaded -----------------------------------------------------


def base_config(job: dict[str, Any]) -> dict[str, Any]:
    """The base's config.json. Raises Stop for a base that cannot be quantized, with the reason."""
    base = Path(job["base"])
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
    if not list(base.glob("*.safetensors")):
        raise Stop(
            "wrong_use", "no safetensors: other weight files can run code on load", where=str(base), next="convert them"
        )
    if config.get("auto_map") and not job.get("trust_remote_code"):
        told = "the model brings its own Python code, which would be run here"
        raise Stop("wrong_use", told, where=str(base), next="read that code, then pass --trust-remote-code")
    return config


def base_bytes(base: Path) -> int:
    return sum(path.stat().st_size for path in base.glob("*.safetensors"))


def check_room(work: Work) -> None:
    """Raises Stop when the export and its side files cannot fit on the disk."""
    need = int(base_bytes(work.base) * (BITS[work.recipe.weight_format] / 16 + 0.1)) + 10_000_000
    there = sum(p.stat().st_size for p in work.export.rglob("*") if p.is_file()) if work.export.exists() else 0
    free = shutil.disk_usage(work.partial).free + there
    if free < need:
        told = f"about {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise Stop(
            "broke", told, where=str(work.partial), next="make room, or give --out on another disk; then run it again"
        )


def excluded(name: str, patterns: list[str]) -> bool:
    """Is a module left out, by its own name or because it lies inside one that is?"""
    return any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(name, p + ".*") for p in patterns)


def scope(model: Any, patterns: list[str]) -> list[str]:
    """The patterns, and the names in memory of modules that they match by their names in the files alone."""
    named = file_names(model)
    renamed = [name for name, _ in model.named_modules() if name and named(name) != name]
    also = [name for name in renamed if excluded(named(name), patterns) and not excluded(name, patterns)]
    return [*patterns, *also]


# ---- loading -------------------------------------------------------------------------------------------------------------


class Peak:
    """The most memory of our own that was held: anonymous pages, looked at every 50 ms. The system's own figure counts the
    mapped pages of the base's files too, which it drops when it needs them."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def taken(self) -> int | None:
        """The most since it was last asked; None where the system does not tell."""
        most, self.bytes = self.bytes, 0
        return most or None

    def _watch(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # another system than Linux: not known
            while True:
                found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
                self.bytes = max(self.bytes, int(found.group(1)) * 1024)  # type: ignore[union-attr]
                time.sleep(0.05)


@dataclass
class Loaded:
    """The base in memory, or with its layers on disk (`layered`)."""

    model: Any
    layered: bool
    device: str


def device_of(job: dict[str, Any]) -> str:
    import torch

    there = torch.cuda.is_available()
    if job.get("device") == "cuda" and not there:
        raise Stop("wrong_use", "no CUDA device is there", where="device", next="--device cpu, or run it on a GPU node")
    return "cuda" if there and job.get("device") != "cpu" else "cpu"


def free_memory() -> int:
    """Bytes that a process may take without swapping, a container's own limit among them."""
    told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    free = int(told.group(1)) * 1024 if told else 8 << 30
    limit = Path("/sys/fs/cgroup/memory.max")
    with contextlib.suppress(OSError, ValueError):
        free = min(free, int(limit.read_text()) - int(limit.with_name("memory.current").read_text()))
    return free


def wants_layers(work: Work, device: str) -> bool:
    """Whole in memory while base and export fit into it; layer by layer from disk otherwise."""
    asked = work.job.get("memory", "auto")
    if asked != "auto":
        return bool(asked == "layers")
    return device == "cpu" and base_bytes(work.base) * 1.6 + 2e9 > free_memory()


def model_class(work: Work, config: dict[str, Any]) -> Any:
    """The class named in the config, which keeps a multimodal model whole; the library's own choice for remote code."""
    import transformers

    name = config["architectures"][0]
    found = None if config.get("auto_map") else getattr(transformers, name, None)
    if found is None and not config.get("auto_map"):
        told = f"transformers {transformers.__version__} has no class {name}"
        raise Stop(
            "wrong_use", told, where="config.json architectures", next="another release of transformers may have it"
        )
    return found or transformers.AutoModelForCausalLM


def normalize_tied(cls: Any) -> None:
    """Older model code lists its tied weights; transformers 5 wants a mapping from each to what it shares."""
    for known in cls.__mro__:
        keys = vars(known).get("_tied_weights_keys")
        if isinstance(keys, (list, tuple, set)):
            known._tied_weights_keys = {key: "model.embed_tokens.weight" for key in keys}


def normalize_remote(work: Work, config: dict[str, Any]) -> None:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    named = (config.get("auto_map") or {}).get("AutoModelForCausalLM")
    if named:
        normalize_tied(get_class_from_dynamic_module(named, str(work.base)))


def layer_map(cls: Any, work: Work) -> dict[str, str]:
    """Where each part lies: every decoder layer on disk, what is around them in memory."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(work.base, trust_remote_code=bool(work.job.get("trust_remote_code")))
    with torch.device("meta"):
        empty = (
            cls._from_config(config)
            if hasattr(cls, "_from_config")
            else cls.from_config(config, trust_remote_code=bool(work.job.get("trust_remote_code")))
        )
    lists = [name for name, module in empty.named_modules() if isinstance(module, torch.nn.ModuleList)]
    stacks = [name for name in lists if not any(name.startswith(other + ".") for other in lists if other != name)]
    places: dict[str, str] = {}
    for name, module in empty.named_modules():
        holder = name.rpartition(".")[0]
        if holder in stacks:
            places[name] = "disk"
        elif not any(True for _ in module.children()) and not any(name.startswith(s + ".") for s in stacks):
            places[name] = "cpu"
    places.update(
        {name: "cpu" for name, _ in empty.named_parameters() if not any(name.startswith(p + ".") for p in places)}
    )
    return places


def give_memory_back() -> None:
    """glibc keeps freed blocks of a layer's size for itself, and a small one above them holds them fast: the peak grew by
    70 MB a layer. Blocks from 4 MB on come from the system and go back to it."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD


def load(work: Work, config: dict[str, Any]) -> Loaded:
    """The base in bf16. Raises Stop where the library cannot load it whole."""
    import torch

    device, trust = device_of(work.job), bool(work.job.get("trust_remote_code"))
    if trust and config.get("auto_map"):
        normalize_remote(work, config)
    cls = model_class(work, config)
    normalize_tied(cls)
    layered = wants_layers(work, device)
    where: dict[str, Any] = {"device_map": "auto"} if device == "cuda" else {}
    if layered:
        give_memory_back()
        # compressed-tensors moves buffers with their module and accelerate's own default does not; ModelOpt wants them here.
        moved = {"offload_buffers": work.job["backend"] == "llm-compressor"}
        where = {"device_map": layer_map(cls, work), "offload_folder": str(work.work / "offload")} | moved
    model, told = cls.from_pretrained(
        work.base,
        dtype=torch.bfloat16,
        use_safetensors=True,
        trust_remote_code=trust,
        output_loading_info=True,
        **where,
    )
    if told["missing_keys"] or told.get("mismatched_keys"):
        lacking = ", ".join(sorted(map(str, told["missing_keys"] or told["mismatched_keys"]))[:4])
        raise Stop(
            "wrong_use",
            f"weights are missing or of another shape: {lacking}",
            where=str(work.base),
            next="fetch it again",
        )
    if not model.config.architectures:
        model.config.architectures = list(config["architectures"])
    work.note("layers are read from disk one at a time" if layered else f"base loaded whole on {device}")
    return Loaded(eager_experts(model).eval(), layered, device)


def eager_experts(model: Any) -> Any:
    """Grouped matrix products pass by the quantizers without a word: experts are computed one by one here."""
    for module in (model, *model.modules()):
        config = getattr(module, "config", None)
        for part in (config, *(getattr(config, n, None) for n in ("text_config", "vision_config", "audio_config"))):
            if part is not None and hasattr(part, "_experts_implementation"):
                part._experts_implementation = "eager"
    return model


# ---- what the model is made of -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experts:
    """One layer's experts. `layout` is "fused" (3D parameters) or "modulelist"; `projections` is matrices per expert."""

    name: str
    layout: str
    count: int
    projections: int
    parameters: int


def stacked(module: Any) -> list[Any]:
    """The 3D parameters that a module itself holds, convolutions aside: matrices of experts."""
    if "Conv" in type(module).__name__:
        return []
    return [p for n, p in module.named_parameters(recurse=False) if p.ndim == 3 and p.is_floating_point()]


def experts_in(model: Any) -> list[Experts]:
    import torch

    found: list[Experts] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(e.name + ".") for e in found if e.layout == "modulelist")
        if inside or any(part in name for part in VISION):  # an image model's stacked position table is no expert
            continue
        size = sum(p.numel() for p in module.parameters())
        if matrices := stacked(module):
            found.append(Experts(name, "fused", int(matrices[0].shape[0]), len(matrices), size))
        elif isinstance(module, torch.nn.ModuleList) and re.search(r"experts?$", name):
            each = [child for child in module if any(isinstance(m, torch.nn.Linear) for m in child.modules())]
            linears = sum(isinstance(m, torch.nn.Linear) for child in each for m in child.modules())
            found.append(Experts(name, "modulelist", len(each), linears // max(1, len(each)), size))
    return found


def kind_of(name: str, module: Any, model: Any) -> str | None:
    """What a module that holds weights is; None for one that only holds others, and for norms."""
    import torch

    if any(part in name for part in VISION):
        return "vision" if module._parameters.get("weight") is not None else None
    if module is model.get_output_embeddings():
        return "lm_head"
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return None
    if set(name.split(".")[-2:]) & set(ROUTERS):  # the router itself, or the matrix inside it
        return "router"
    return "linear" if isinstance(module, torch.nn.Linear) else "other"


def tied_names(model: Any, named: Callable[[str], str]) -> list[list[str]]:
    keys = getattr(model, "all_tied_weights_keys", None) or {}
    return [[named(name.removesuffix(".weight")) for name in pair] for pair in dict(keys).items()]


def file_names(model: Any) -> Callable[[str], str]:
    """What a module is called in the checkpoint's files: transformers renames some on load (block_sparse_moe to mlp)."""
    mapper = None
    with contextlib.suppress(
        Exception
    ):  # ModelOpt's, which is also what its export goes by; where it cannot, names stay
        from modelopt.torch.export.quant_aware_conversion import build_reverse_name_mapper

        mapper = build_reverse_name_mapper(model)
    if mapper is None:
        return lambda name: name
    # Some rules hold for a weight's full name alone: backbone.embedding.weight.
    return lambda name: cleaned(mapper(name + ".weight")).removesuffix(".weight") if name else name


def refuse_unfit(work: Work, experts: list[Experts], model: Any) -> None:
    """Pairs of format and experts that the libraries break on, or break: seen with the releases this was written for."""
    target, name = work.job["target"], type(model).__name__
    if experts and target.endswith("_awq"):
        told = f"AWQ by {work.job['backend']} fails on experts, or rescales their routers"
        raise Stop("wrong_use", told, where=experts[0].name, next="--target nvfp4 or w4a16_gptq, or leave experts out")
    if experts and (work.job["backend"], target) == ("modelopt", "int8") and name.startswith(("GptOss", "Llama4")):
        told = f"ModelOpt cannot write the experts of {name} as int8"
        raise Stop("wrong_use", told, where=experts[0].name, next="--target fp8 or nvfp4")


def describe(work: Work, model: Any) -> None:
    """Says the structure before anything is changed. Raises Stop for widths that the format's groups do not fit."""
    import torch

    group, patterns = work.recipe.group or 1, work.patterns
    experts = experts_in(model)
    for e in experts:
        left = " (left out)" if excluded(e.name, patterns) else ""
        work.say(f"experts {e.name}: {e.count} x {e.projections} matrices, {e.layout}, {e.parameters} weights{left}")
    if not experts:
        work.say("no mixture of experts")
    refuse_unfit(work, [e for e in experts if not excluded(e.name, patterns)], model)
    odd = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m.in_features % group]
    odd += [n for n, m in model.named_modules() if any(d % group for p in stacked(m) for d in p.shape[1:])]
    odd = [name for name in odd if not excluded(name, patterns)]
    if odd:
        told = (
            f"{len(odd)} modules have a width that is no multiple of {group}, as {work.job['target']} needs: {odd[0]}"
        )
        raise Stop("wrong_use", told, where=work.job["target"], next=f"--exclude-pattern '{odd[0]}', or another target")


# ---- the samples, and the loop that both backends calibrate with -----------------------------------------------------------


def samples_in(path: Path) -> list[list[int]]:
    """Token ids by sample. Raises Stop when there are none."""
    if not path.exists():
        raise Stop("wrong_use", "is not there", where=str(path), next="run calibrate.py on this job first")
    rows = [json.loads(line)["input_ids"] for line in path.read_text().splitlines() if line.strip()]
    rows = [row for row in rows if row]
    if not rows:
        raise Stop("wrong_use", "holds no samples", where=str(path), next="give --calib a file with text")
    return rows


def batches_of(samples: list[list[int]], most: int) -> list[list[list[int]]]:
    """Neighbours of one length together. Nothing is padded: padding would be seen by every range."""
    out: list[list[list[int]]] = []
    for sample in samples:
        if out and len(out[-1]) < most and len(out[-1][0]) == len(sample):
            out[-1].append(sample)
        else:
            out.append([sample])
    return out


@dataclass
class TokenCount:
    """How many tokens each expert was given, counted where the router's choice enters the experts."""

    counts: dict[str, Any] = field(default_factory=dict)
    hooks: list[Any] = field(default_factory=list)

    def watch(self, model: Any) -> None:
        for e in experts_in(model):
            module = model.get_submodule(e.name)
            self.hooks.append(module.register_forward_pre_hook(self._choice(e), with_kwargs=True))
            parent = model.get_submodule(e.name.rpartition(".")[0])
            router = getattr(parent, "router", None) or getattr(parent, "gate", None)
            if router is not None and "Llama4" in type(module).__name__:
                self.hooks.append(router.register_forward_hook(self._scores(e)))

    def _add(self, e: Experts, seen: Any) -> None:
        before = self.counts.get(e.name)
        self.counts[e.name] = seen if before is None else before + seen

    def _choice(self, e: Experts) -> Callable[..., None]:
        import torch

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for value in (*args, *kwargs.values()):
                if isinstance(value, torch.Tensor) and not value.is_floating_point() and value.dtype != torch.bool:
                    self._add(e, torch.bincount(value.flatten().cpu(), minlength=e.count)[: e.count])
                    return

        return hook

    def _scores(self, e: Experts) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            """Llama 4 hands every token to every expert and weighs those not chosen with zero."""
            scores = output[0] if isinstance(output, tuple) else output
            chosen = (scores != 0).reshape(-1, e.count).sum(dim=0) if scores.shape[-1] == e.count else None
            if chosen is not None:
                self._add(e, chosen.cpu())

        return hook

    def stop(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()


@dataclass
class Calibration:
    """Runs the samples through the model. `ranges` reads the backend's collected state as tensors by name and `restore`
    puts them back; both None where a backend's state cannot be carried over a kill."""

    work: Work
    batches: list[list[list[int]]]
    tokens: TokenCount
    ranges: Callable[[], dict[str, Any]] | None = None
    restore: Callable[[dict[str, Any]], None] | None = None

    @property
    def path(self) -> Path:
        return self.work.work / "ranges.safetensors"

    def __call__(self, model: Any) -> None:
        import torch

        start, began = self._resume(), time.monotonic()
        if start == 0:
            self.tokens.counts.clear()  # a search passes the text through more than once
        every, of = max(1, len(self.batches) // 32), len(self.batches)
        for at in range(start, of):
            with torch.no_grad():
                model(input_ids=torch.tensor(self.batches[at], device=model.device), use_cache=False)
            spent = time.monotonic() - began
            left = spent / (at + 1 - start) * (of - at - 1)
            if (at + 1) % every == 0 or at + 1 == of:
                self._keep(at + 1)
                self.work.say(f"calibration, batch {at + 1} of {of}", done=at + 1, of=of, left_s=left)

    def _keep(self, done: int) -> None:
        from safetensors.torch import save_file

        if self.ranges is None:
            return
        tensors = {f"range.{name}": value.contiguous().clone() for name, value in self.ranges().items()}
        tensors |= {f"tokens.{name}": value for name, value in self.tokens.counts.items()}
        half = self.path.with_name(".ranges.half")
        save_file(tensors, half, metadata={"done": str(done), "job": self.work.job["job_digest"]})
        half.replace(self.path)

    def _resume(self) -> int:
        from safetensors import safe_open

        if self.restore is None or not self.path.exists():
            return 0
        with safe_open(self.path, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            done = int(file.metadata()["done"])
        self.restore({n.removeprefix("range."): v for n, v in kept.items() if n.startswith("range.")})
        self.tokens.counts = {n.removeprefix("tokens."): v for n, v in kept.items() if n.startswith("tokens.")}
        self.work.note(f"calibration goes on after batch {done} of {len(self.batches)}")
        return done


# ---- NVFP4 in plain torch: ModelOpt's own kernels are CUDA's alone ---------------------------------------------------------


def round_e2m1(x: Any) -> Any:
    """Each float32 to the nearest of 0, .5, 1, 1.5, 2, 3, 4, 6 with its sign; ties go to the even code, as torch rounds."""
    import torch

    size = x.abs()
    # The spacing is 0.5 below 2, then 1, then 2 from 4 on: half of the power of two that a value starts with.
    exponent = (size.view(torch.int32) >> 23).clamp_(127, 129) - 1
    spacing = (exponent << 23).view(torch.float32)
    return torch.copysign((size / spacing).round_().mul_(spacing).clamp_(max=6.0), x)


def nvfp4_fake(x: Any, amax: Any, *, block: int = 16) -> Any:
    """What NVFP4 keeps of `x` ([..., columns], columns a multiple of `block`), in its own dtype. `amax` is the tensor's
    largest magnitude, as calibrated: the global scale is amax / (6 x 448), a block's scale an E4M3 number times it."""
    import torch

    whole = amax.float().amax() / (6.0 * 448.0)
    if whole == 0:
        return torch.zeros_like(x)
    out = torch.empty_like(x)
    source, target = x.reshape(-1, x.shape[-1]), out.view(-1, x.shape[-1])
    rows = max(
        1, 262_144 // x.shape[-1]
    )  # float32 copies that stay in the cache: 14 times as fast as the whole at once
    for at in range(0, source.shape[0], rows):
        part = source[at : at + rows].unflatten(-1, (-1, block))
        scale = part.abs().amax(dim=-1, keepdim=True).float() / (6.0 * whole)
        target[at : at + rows] = (e2m1_at(part, e4m3(scale) * whole)).flatten(-2).to(x.dtype)
    return out


def e4m3(scale: Any) -> Any:
    """A block's scale as it is stored: 1 where the block is all zeros, kept off zero and infinity."""
    import torch

    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale.clamp(min=2.0**-9, max=448.0).to(torch.float8_e4m3fn).float()


def e2m1_at(part: Any, step: Any) -> Any:
    return round_e2m1(part / step) * step


def mx_fake(x: Any, *, block: int, bits: tuple[int, int]) -> Any:
    """MXFP4 (bits 2, 1) and MXFP8 (4, 3): a power of two per block, the smallest that keeps its largest value in range."""
    import torch

    top = 6.0 if bits == (2, 1) else 448.0
    part = x.float().unflatten(-1, (-1, block))
    peak = part.abs().amax(dim=-1, keepdim=True) / top
    power = torch.where(peak > 0, torch.log2(peak), torch.full_like(peak, -127.0))
    step = torch.exp2(power.ceil().clamp(-127, 127))
    scaled = part / step
    kept = e2m1_down(scaled) if bits == (2, 1) else scaled.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    return (kept * step).flatten(-2).to(x.dtype)


def e2m1_down(x: Any) -> Any:
    """As `round_e2m1`, but ties go to the smaller value, which is what ModelOpt packs for MXFP4."""
    import torch

    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], device=x.device)
    halfway = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], device=x.device)
    return torch.copysign(values[torch.bucketize(x.abs(), halfway)], x)


def static_nvfp4_fake(x: Any, amax: Any, whole: Any, *, stored_scales: bool, top: float) -> Any:
    """NVFP4 with a given largest magnitude per block; blocks are runs of x.numel() / amax.numel() values."""
    import torch

    scale = amax.float().reshape(-1, 1) / 6.0
    if stored_scales:
        peak = (amax.float().amax() if whole is None else whole.float()) * (448.0 / top) / 6.0
        scale = torch.zeros_like(scale) if peak == 0 else (scale * (448.0 / peak)).clamp(max=448.0)
        scale = scale.to(torch.float8_e4m3fn).float() * (peak / 448.0)
    part = x.reshape(scale.shape[0], -1).float()
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (round_e2m1(part / safe) * scale).reshape(x.shape)


def patch_modelopt() -> None:
    """Puts the arithmetic above where ModelOpt calls its CUDA kernels."""
    from modelopt.torch.quantization import tensor_quant as tq

    def dynamic(ctx: Any, inputs: Any, block_size: int, amax: Any, num_bits: Any, scale_bits: Any, *rest: Any) -> Any:
        if scale_bits == (8, 0) and num_bits in ((2, 1), (4, 3)):
            return mx_fake(inputs, block=block_size, bits=num_bits)
        if scale_bits == (4, 3) and num_bits == (2, 1):
            return nvfp4_fake(inputs, inputs.abs().amax() if amax is None else amax, block=block_size)
        raise NotImplementedError(f"no arithmetic on this device for {num_bits} with scales {scale_bits}")

    def static(ctx: Any, x: Any, amax: Any, global_amax: Any = None, quantize_block_scales: bool = True,
               fp8_max_for_normalization: float = 448.0, out_dtype: Any = None, pass_through_bwd: bool = False) -> Any:  # fmt: skip
        out = static_nvfp4_fake(
            x, amax, global_amax, stored_scales=quantize_block_scales, top=fp8_max_for_normalization
        )
        return out.to(out_dtype or x.dtype)

    tq._dynamic_block_quantize_forward = dynamic
    tq.StaticBlockwiseFP4FakeQuantFunction.forward = staticmethod(static)


def leave_weights_on_disk() -> None:
    """ModelOpt writes a layer's weights "back" after each look at them, which for a layer on disk means into memory, until
    the whole model lies there. Ranges change no weights, so there is nothing to write. A search does change them."""
    from modelopt.torch.quantization.plugins import accelerate

    accelerate._writeback_params_to_weights_map = lambda module, hook: None


# ---- ModelOpt --------------------------------------------------------------------------------------------------------------


def modelopt_config(recipe: Recipe, patterns: list[str]) -> dict[str, Any]:
    """ModelOpt's own settings for the format, with our scope: its list of what to leave out is replaced by the job's."""
    import copy

    import modelopt.torch.quantization as mtq

    config = copy.deepcopy(getattr(mtq, recipe.settings))
    plain = ("*", "*weight_quantizer", "*input_quantizer")
    entries = [e for e in config["quant_cfg"] if "parent_class" in e or e["quantizer_name"] in plain]
    convs = [{"quantizer_name": "*", "parent_class": f"nn.Conv{n}d", "enable": False} for n in (1, 2, 3)]
    left_out = [{"quantizer_name": f"{pattern}.*", "enable": False} for pattern in patterns]
    return config | {"quant_cfg": [*entries, *convs, *left_out]}


def quantizers_in(model: Any) -> dict[str, Any]:
    from modelopt.torch.quantization.nn import TensorQuantizer

    return {name: module for name, module in model.named_modules() if isinstance(module, TensorQuantizer)}


def part_of(quantizer: str) -> str:
    last = [piece for piece in quantizer.split(".") if "quantizer" in piece][-1]
    return next((p for p in ("weight", "input", "output") if f"{p}_quantizer" in last), "kv")


def modelopt_ranges(model: Any) -> tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]:
    """Reads and puts back the largest magnitudes that the input quantizers have collected so far."""
    found = {n: q for n, q in quantizers_in(model).items() if q.is_enabled and part_of(n) != "weight"}
    inputs = {n: q for n, q in found.items() if getattr(q, "_calibrator", None) is not None}

    def read() -> dict[str, Any]:
        kept = {n: q._calibrator._calib_amax for n, q in inputs.items()}
        return {n: value.float() for n, value in kept.items() if value is not None}

    def put_back(kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            inputs[name]._calibrator._calib_amax = value.to(model.dtype)

    return read, put_back


def modelopt_unknown(model: Any, patterns: list[str]) -> list[str]:
    """Experts for which ModelOpt made no quantizer: it would leave most of the model in bf16 without a word."""
    inside = [e for e in experts_in(model) if not excluded(e.name, patterns)]
    return [e.name for e in inside if not modelopt_knows(model, e)]


def modelopt_knows(model: Any, e: Experts) -> bool:
    """Stacked experts hold their quantizers themselves; a router's beside them is no sign of it."""
    if e.layout == "fused":
        return any("weight_quantizer" in child for child, _ in model.get_submodule(e.name).named_children())
    return any(name.startswith(e.name + ".") for name in quantizers_in(model))


def modelopt_quantize(work: Work, loaded: Loaded, calibration: Calibration) -> dict[str, bool]:
    """Quantizes in place. Returns, by input quantizer, whether it saw a token."""
    import modelopt.torch.quantization as mtq

    if loaded.device == "cpu":
        patch_modelopt()
    if loaded.layered and work.recipe.data != "search":
        leave_weights_on_disk()
    model, patterns = loaded.model, work.patterns
    config = modelopt_config(work.recipe, patterns)
    mtq.quantize(model, config | {"algorithm": None})
    refuse_unknown(modelopt_unknown(model, patterns))
    saw: dict[str, bool] = {}

    def loop(model: Any) -> None:
        weights = [
            q for n, q in quantizers_in(model).items() if part_of(n) == "weight" and work.recipe.data == "ranges"
        ]
        for quantizer in weights:  # collected once, before this loop; again with each sample would only cost time
            quantizer.disable_calib()
        calibration(model)
        if calibration.ranges:
            saw.update({name: True for name in calibration.ranges()})

    calibration.tokens.watch(model)
    if work.recipe.data == "ranges":
        calibration.ranges, calibration.restore = modelopt_ranges(model)
    if config["algorithm"] is not None:
        mtq.calibrate(model, config["algorithm"], forward_loop=loop if work.recipe.data != "none" else None)
    if work.recipe.data == "search":  # its ranges are in place by now, and only an input that was seen has one
        saw = {n: q.amax is not None for n, q in quantizers_in(model).items() if part_of(n) == "input"}
    calibration.tokens.stop()
    return saw


def refuse_unknown(names: list[str]) -> None:
    if names:
        told = f"the backend does not know {len(names)} modules of experts and would leave them as they are: {names[0]}"
        raise Stop(
            "refused", told, where=names[0], next="another backend, or --exclude-pattern to leave them out knowingly"
        )


def modelopt_join(model: Any) -> None:
    """Projections that engines fuse get the scales they will share, as the export does: the reference is taken after."""
    from modelopt.torch.export.layer_utils import sync_moe_gate_up_amax
    from modelopt.torch.export.unified_export_hf import requantize_resmooth_fused_llm_layers

    requantize_resmooth_fused_llm_layers(model)
    sync_moe_gate_up_amax(model)
    for quantizer in quantizers_in(model).values():
        # The export divides a bf16 range and keeps a rounded scale, which the model in memory does not do.
        if quantizer.num_bits == 8 and getattr(quantizer, "_amax", None) is not None:
            quantizer._amax = quantizer._amax.float()


def modelopt_quantizer_facts(model: Any, saw: dict[str, bool]) -> list[dict[str, Any]]:
    return [modelopt_fact(name, quantizer, saw) for name, quantizer in quantizers_in(model).items()]


def modelopt_fact(name: str, quantizer: Any, saw: dict[str, bool]) -> dict[str, Any]:
    amax, part = getattr(quantizer, "_amax", None), part_of(name)
    enabled = bool(quantizer.is_enabled)
    # A block format without a per-tensor amax (MX) takes its scales from each block as it comes.
    dynamic = bool(getattr(quantizer, "_dynamic", False) or getattr(quantizer, "is_mx_format", False))
    seen = saw.get(name, False) if enabled and part != "weight" and not dynamic and saw else None
    return {"name": name, "of": part, "enabled": enabled, "dynamic": dynamic, **amax_facts(amax), "saw_tokens": seen}


def amax_facts(amax: Any) -> dict[str, Any]:
    import torch

    if amax is None or amax.numel() == 0 or amax.is_meta:
        return {"amax_finite": None, "amax_min": None, "amax_max": None}
    amax = amax.detach().float()
    finite = bool(torch.isfinite(amax).all())
    ends = (
        {"amax_min": float(amax.min()), "amax_max": float(amax.max())}
        if finite
        else {"amax_min": None, "amax_max": None}
    )
    return {"amax_finite": finite, **ends}


def modelopt_weight_quantizers(model: Any, experts: str) -> int:
    names = [n for n, q in quantizers_in(model).items() if n.startswith(experts + ".") and q.is_enabled]
    names = [n for n in names if part_of(n) == "weight"]
    module = model.get_submodule(experts)
    # One quantizer for a whole 3D parameter stands for all of its experts.
    whole = [n for n in names if re.search(r"_weight_quantizer$", n)]
    return len(names) - len(whole) + sum(int(p.shape[0]) for p in stacked(module)[: len(whole)])


def modelopt_export(work: Work, loaded: Loaded) -> None:
    from modelopt.torch.export import export_hf_checkpoint
    from modelopt.torch.export.quant_aware_conversion import build_reverse_name_mapper

    pack_from_float32()
    named, mapper = file_names(loaded.model), None
    with contextlib.suppress(Exception):
        mapper = build_reverse_name_mapper(loaded.model)
    modules = [name for name, _ in loaded.model.named_modules() if name]
    right = {cleaned(mapper(name)): named(name) for name in modules} if mapper else {}
    export_hf_checkpoint(loaded.model, export_dir=work.export, max_shard_size=SHARD)
    clean_excludes(work.export, {wrong: name for wrong, name in right.items() if wrong != name})


def pack_from_float32() -> None:
    """ModelOpt divides bf16 weights by one scale in bf16, and rounds what is rounded already once more: its FP8 files lie
    further from the base than its model in memory. From float32 they are the same (KL .0050 to .0044 on the demo model)."""
    from modelopt.torch.export import unified_export_hf as unified

    plain = getattr(unified.to_quantized_weight, "plain", unified.to_quantized_weight)

    def pack(weight: Any, *rest: Any, **named: Any) -> Any:
        return plain(weight.float() if type(weight).__name__ in ("Tensor", "Parameter") else weight, *rest, **named)

    pack.plain = plain  # type: ignore[attr-defined]
    unified.to_quantized_weight = pack


def clean_excludes(export: Path, right: dict[str, str]) -> None:
    """ModelOpt's rename of the modules left out goes wrong on some models: its own marker stays in the list, control
    character and all, or a name is not that of the files (`right`). Such an entry matches nothing."""
    for path in (export / "hf_quant_config.json", export / "config.json"):
        if path.exists():
            write_json(path, corrected(cleaned(read_json(path)), right))


def corrected(value: Any, right: dict[str, str]) -> Any:
    """The lists of modules left out with the names of the files."""
    if isinstance(value, dict):
        lists = {k: [right.get(e, e) for e in v] for k, v in value.items() if k in ("exclude_modules", "ignore")}
        return {key: lists[key] if key in lists else corrected(inner, right) for key, inner in value.items()}
    return value


def cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [cleaned(inner) for inner in value]
    return re.sub(r"\.?\x00.*$", "", value) if isinstance(value, str) else value


# ---- llm-compressor --------------------------------------------------------------------------------------------------------


def compressor_ignore(model: Any, patterns: list[str]) -> list[str]:
    """The modules to leave out, by name: its own lists know no shell patterns."""
    import torch

    linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    return [name for name in linears if excluded(name, patterns)]


def compressor_modifiers(work: Work, model: Any) -> list[Any]:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    method, ignore = work.recipe.method, compressor_ignore(model, work.patterns)
    last = GPTQModifier if method == "gptq" else QuantizationModifier
    smooth = [AWQModifier()] if method == "awq" else []
    return [*smooth, last(targets=["Linear"], scheme=work.recipe.settings, ignore=ignore)]


def observers_in(model: Any) -> dict[str, Any]:
    from llmcompressor.observers import Observer

    found = {name: module for name, module in model.named_modules() if isinstance(module, Observer)}
    return {name: observer for name, observer in found.items() if not observer.is_weight_obs}


def compressor_ranges(model: Any) -> tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]:
    """Reads and puts back what the observers of activations hold. It is all they need: a running mean is its own state."""
    observers = observers_in(model)

    def read() -> dict[str, Any]:
        seen = {n: o for n, o in observers.items() if o.has_statistics}
        return {f"{n}.{attr}": getattr(o, attr) for n, o in seen.items() for attr in o._stats_attrs}

    def put_back(kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            observer, _, attr = name.rpartition(".")
            setattr(observers[observer], attr, value)

    return read, put_back


def compressor_quantize(work: Work, loaded: Loaded, calibration: Calibration) -> dict[str, bool]:
    """Quantizes in place. Returns, by observed input, whether it saw a token."""
    from llmcompressor.core import active_session
    from llmcompressor.modeling.moe.context import moe_calibration_context

    model, saw = loaded.model, {}  # type: tuple[Any, dict[str, bool]]
    refuse_unknown([e.name for e in experts_in(model) if e.layout == "fused" and not excluded(e.name, work.patterns)])
    session = active_session()
    session.reset()
    with moe_calibration_context():
        if (
            work.recipe.data == "search"
        ):  # each layer sees the text several times: tokens per expert would be no count of it
            compressor_search(work, loaded, calibration)
        else:
            calibration.tokens.watch(model)
            session.initialize(model=model, start=-1, recipe=compressor_modifiers(work, model), calib_data=None)
            saw = compressor_observe(work, model, calibration)
            session.finalize()
    calibration.tokens.stop()
    return saw


def compressor_observe(work: Work, model: Any, calibration: Calibration) -> dict[str, bool]:
    """The library's own basic pipeline with our loop in its middle, which can be killed and goes on."""
    from llmcompressor.core import LifecycleCallbacks
    from llmcompressor.utils import calibration_forward_context
    from llmcompressor.utils.helpers import DisableQuantization

    saw: dict[str, bool] = {}
    LifecycleCallbacks.calibration_start()
    if work.recipe.data == "ranges":
        calibration.ranges, calibration.restore = compressor_ranges(model)
        with calibration_forward_context(model), DisableQuantization(model):
            calibration(model)
        saw = {name: observer.has_statistics for name, observer in observers_in(model).items()}
    LifecycleCallbacks.sequential_epoch_end(list(model.modules()))
    LifecycleCallbacks.calibration_end()
    return saw


def compressor_search(work: Work, loaded: Loaded, calibration: Calibration) -> None:
    """GPTQ and AWQ run layer by layer in the library's own pipeline, which keeps nothing for a second start."""
    import torch
    from llmcompressor.core import active_session
    from llmcompressor.modeling.offset_norm import norm_calibration_context
    from llmcompressor.pipelines import CalibrationPipeline
    from torch.utils.data import DataLoader

    if loaded.device == "cpu":  # there is no memory to pin for a device that is not there
        torch.Tensor.pin_memory = lambda self, *rest, **named: self
    work.note(f"{work.recipe.method} searches layer by layer; killed, it begins again")
    rows = [{"input_ids": torch.tensor(batch)} for batch in calibration.batches]
    data = DataLoader(rows, batch_size=None)
    session, modifiers = active_session(), compressor_modifiers(work, loaded.model)
    # Smoothing scales norms, and wants those that store 1 + w as plain ones. It costs them a rounding: not done without need.
    with norm_calibration_context(loaded.model) if work.recipe.method == "awq" else contextlib.nullcontext():
        session.initialize(model=loaded.model, start=-1, recipe=modifiers, calib_data=data)
        CalibrationPipeline.from_modifiers(modifiers, user="sequential")(loaded.model, data, compressor_arguments())
    session.finalize()


def compressor_arguments() -> Any:
    from llmcompressor.args.dataset_arguments import DatasetArguments

    return DatasetArguments(pipeline="sequential")


def compressor_quantizer_facts(model: Any, saw: dict[str, bool]) -> list[dict[str, Any]]:
    """Quantizers as ModelOpt would name them. A weight's amax is that of its stored scales; unknown where there is none."""
    out: list[dict[str, Any]] = []
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is None or getattr(module, "weight", None) is None:
            continue
        out.append({"name": f"{name}.weight_quantizer", "of": "weight", "enabled": scheme.weights is not None,
                    "dynamic": False, **amax_facts(getattr(module, "weight_scale", None)), "saw_tokens": None})  # fmt: skip
        if scheme.input_activations is not None:
            out.append(compressor_input_fact(name, module, scheme.input_activations, saw))
    return out


def compressor_input_fact(name: str, module: Any, arguments: Any, saw: dict[str, bool]) -> dict[str, Any]:
    """Per token: dynamic, and nothing was calibrated. Otherwise the largest value that its stored scale reaches."""
    dynamic = arguments.dynamic is True
    scale, whole = getattr(module, "input_scale", None), getattr(module, "input_global_scale", None)
    top = 448.0 if arguments.num_bits == 8 and str(arguments.type).endswith("float") else 127.0
    amax = (
        None
        if dynamic
        else (6.0 * 448.0 / whole.float() if whole is not None else scale.float() * top if scale is not None else None)
    )
    seen = saw.get(f"{name}.input_observer", False) if saw else None
    facts = {"name": f"{name}.input_quantizer", "of": "input", "enabled": True, "dynamic": dynamic}
    return {**facts, **amax_facts(amax), "saw_tokens": None if dynamic else seen}


def compressor_weight_quantizers(model: Any, experts: str) -> int:
    inside = [m for n, m in model.named_modules() if n.startswith(experts + ".")]
    return sum(getattr(getattr(m, "quantization_scheme", None), "weights", None) is not None for m in inside)


@contextlib.contextmanager
def compressor_onloaded(loaded: Loaded) -> Iterator[None]:
    """With layers on disk, compressed-tensors 0.18 reads a weight again after it has put the rounded one in its place: the
    model would answer with plain weights. Each matrix is held in memory while it is used."""
    from compressed_tensors.offload import disable_offloading

    held: list[Any] = []

    def enter(module: Any, args: Any) -> None:
        held.append(disable_offloading())
        held[-1].__enter__()

    def leave(module: Any, args: Any, output: Any) -> None:
        held.pop().__exit__(None, None, None)

    mine = [m for m in loaded.model.modules() if loaded.layered and getattr(m, "quantization_scheme", None) is not None]
    hooks = [h for m in mine for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    yield
    for hook in hooks:
        hook.remove()


def compressor_export(work: Work, loaded: Loaded) -> None:
    from llmcompressor.transformers.compression.compressed_tensors_utils import modify_save_pretrained

    modify_save_pretrained(loaded.model)
    # transformers 5.14 cannot write several files of a model that lies on disk: its index of them fails. One file, then,
    # and the quantized weights are in memory while it is written.
    shard = "100TB" if loaded.layered else SHARD
    loaded.model.save_pretrained(str(work.export), save_compressed=True, max_shard_size=shard)


# ---- what is handed on -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backend:
    """The steps in which the two libraries differ."""

    prepare: Callable[[Work, Loaded], None]
    quantize: Callable[[Work, Loaded, Calibration], dict[str, bool]]
    join: Callable[[Any], None]
    answering: Callable[[Loaded], Any]
    quantizers: Callable[[Any, dict[str, bool]], list[dict[str, Any]]]
    weight_quantizers: Callable[[Any, str], int]
    export: Callable[[Work, Loaded], None]


def linearize(work: Work, loaded: Loaded) -> None:
    """llm-compressor quantizes matrices: stacked experts become one linear each. The library's offloading replaces
    accelerate's, which its own modules do not know."""
    from compressed_tensors.offload import from_accelerate
    from llmcompressor.modeling.moe.linearize import linearize_moe

    if loaded.layered:
        from_accelerate(loaded.model)
    try:
        linearize_moe(loaded.model)
    except (AttributeError, ValueError) as error:
        told = f"llm-compressor cannot take the experts of {loaded.model.config.model_type} apart: {error}"
        raise Stop("wrong_use", told, where="backend", next="--backend modelopt") from error


BACKENDS = {
    "modelopt": Backend(
        lambda work, loaded: None, modelopt_quantize, modelopt_join, lambda loaded: contextlib.nullcontext(),
        modelopt_quantizer_facts, modelopt_weight_quantizers, modelopt_export,
    ),
    "llm-compressor": Backend(
        linearize, compressor_quantize, lambda model: None, compressor_onloaded,
        compressor_quantizer_facts, compressor_weight_quantizers, compressor_export,
    ),
}  # fmt: skip


def facts_of(work: Work, loaded: Loaded, saw: dict[str, bool], tokens: TokenCount, backend: Backend) -> dict[str, Any]:
    """facts.json: what the backend did, read from the model before the export takes it apart."""
    model, named = loaded.model, file_names(loaded.model)
    quantizers = backend.quantizers(model, saw)
    quantized = {q["name"].split(".weight_quantizer")[0] for q in quantizers if q["of"] == "weight" and q["enabled"]}
    experts = experts_in(model)
    modules = [m for e in experts for m in [experts_fact(work, model, e, backend)]]
    modules += plain_modules(work, model, [e.name for e in experts], quantized)
    for told in (*modules, *quantizers):
        told["name"] = named(told["name"])
    could = ("linear", "experts", "lm_head")
    counted = {name: [int(n) for n in value.tolist()] for name, value in tokens.counts.items()}
    return {
        "schema": SCHEMA, "backend": work.job["backend"], "target": work.job["target"],
        "model_type": model.config.model_type, "architectures": list(model.config.architectures),
        "modules": modules, "quantizers": quantizers,
        "experts": [{"name": named(e.name), "layout": e.layout, "count": e.count, "projections": e.projections,
                     "weight_quantizers": backend.weight_quantizers(model, e.name), "tokens": counted.get(e.name)} for e in experts],
        "unquantized": [m["name"] for m in modules if m["kind"] in could and not m["quantized"]],
        "tied": tied_names(model, named), "base_bytes": base_bytes(work.base),
        "base_params": sum(p.numel() for p in model.parameters()),
    }  # fmt: skip


def experts_fact(work: Work, model: Any, e: Experts, backend: Backend) -> dict[str, Any]:
    done = backend.weight_quantizers(model, e.name) > 0
    return module_fact(work, e.name, "experts", e.parameters, done)


def module_fact(work: Work, name: str, kind: str, params: int, quantized: bool) -> dict[str, Any]:
    how = {"weight_format": work.recipe.weight_format, "group_size": work.recipe.group}
    return {"name": name, "kind": kind, "params": params, "quantized": quantized,
            **(how if quantized else {"weight_format": None, "group_size": None})}  # fmt: skip


def plain_modules(work: Work, model: Any, experts: list[str], quantized: set[str]) -> list[dict[str, Any]]:
    """Every other module with weights of its own; the linears inside experts are counted there."""
    out: list[dict[str, Any]] = []
    for name, module in model.named_modules():
        if name in experts or any(name.startswith(e + ".") for e in experts):
            continue
        kind = kind_of(name, module, model)
        if kind is not None:
            params = sum(p.numel() for p in module.parameters(recurse=False))
            out.append(module_fact(work, name, kind, params, name in quantized))
    return out


def reference_rows(samples: list[list[int]], vocabulary: int) -> int:
    """Rows of the two tables that fit into the file."""
    return min(sum(map(len, samples)), max(1, REFERENCE_BYTES // (2 * 2 * vocabulary)))


def answers(model: Any, samples: list[list[int]]) -> Any:
    """Log-probabilities, float16 [rows, vocabulary], of the held-out samples in order. Several samples at once: a quantized
    model rounds its weights anew for each pass."""
    import torch

    vocabulary = model.get_output_embeddings().weight.shape[0]
    rows, at = reference_rows(samples, vocabulary), 0
    table = torch.empty(rows, vocabulary, dtype=torch.float16)
    most = max(1, REFERENCE_BYTES // (4 * vocabulary * max(map(len, samples))))
    for batch in batches_of(samples, most):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(batch, device=model.device), use_cache=False).logits.flatten(0, 1)
        for part in logits[: rows - at].split(256):
            table[at : at + part.shape[0]] = part.float().log_softmax(dim=-1).clamp(min=-65000.0).half().cpu()
            at += part.shape[0]
        if at == rows:
            break
    return table


def keep_tensors(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    half = path.with_name(f".{path.name}.half")
    save_file(tensors, half)
    half.replace(path)


def header_of(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's table of contents, and where its data begin."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(size)), 8 + size


def tensor_names(folder: Path) -> set[str]:
    return {name for path in folder.glob("*.safetensors") for name in header_of(path)[0] if name != "__metadata__"}


def file_tensor_names(base: Path, exported: Path) -> dict[str, str]:
    """Names to set right in the export. Two libraries' faults, both seen: ModelOpt's rename rule leaves its own marker in
    names, and llm-compressor calls gate_proj, down_proj, up_proj what Mixtral's files call w1, w2, w3."""
    words = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    numbered = any(re.search(r"\.experts\.\d+\.w1\.weight$", name) for name in tensor_names(base))

    def right(name: str) -> str:
        name = cleaned(name)
        return (
            re.sub(r"(\.experts\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{words.get(m[2], m[2])}.", name)
            if numbered
            else name
        )

    return {name: right(name) for name in tensor_names(exported) if right(name) != name}


def rename_tensors(folder: Path, names: dict[str, str]) -> None:
    """Rewrites the tables of contents; the data are copied as they are."""
    if not names:
        return
    for path in sorted(folder.glob("*.safetensors")):
        table, start = header_of(path)
        head = json.dumps({names.get(name, name): entry for name, entry in table.items()}).encode()
        head += b" " * (-len(head) % 8)
        half = path.with_name(f".{path.name}.half")
        with path.open("rb") as source, half.open("wb") as target:
            target.write(len(head).to_bytes(8, "little") + head)
            source.seek(start)
            shutil.copyfileobj(source, target, 1 << 24)
        half.replace(path)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        listed = read_json(index)
        write_json(index, listed | {"weight_map": {names.get(n, n): file for n, file in listed["weight_map"].items()}})


def base_answers(work: Work, model: Any, samples: list[list[int]]) -> Any:
    """The base's answers, from an earlier start where there was one."""
    from safetensors.torch import load_file

    path = work.work / "base.safetensors"
    if not path.exists():
        work.say("answers of the base on held-out text")
        keep_tensors(path, {"base": answers(model, samples)})
    return load_file(path)["base"]


def export(work: Work, loaded: Loaded, backend: Backend) -> None:
    """The checkpoint and what a server reads beside it. A half export of an earlier start is thrown away."""
    work.say("export")
    shutil.rmtree(work.export, ignore_errors=True)
    work.export.mkdir(parents=True)
    backend.export(work, loaded)
    rename_tensors(work.export, file_tensor_names(work.base, work.export))
    for pattern in COPIED:
        for path in work.base.glob(pattern):
            shutil.copy(path, work.export / path.name)
    if (work.work / "calibration.json").exists():
        shutil.copy(work.work / "calibration.json", work.export / "calibration.json")


def record(work: Work, loaded: Loaded) -> dict[str, Any]:
    """quantize.json. `peak_rss_bytes` counts mapped pages of the base's files; `peak_own_bytes`, by stage, does not."""
    from importlib.metadata import PackageNotFoundError, version

    def known(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    names = (
        "torch",
        "transformers",
        "nvidia-modelopt",
        "llmcompressor",
        "compressed-tensors",
        "accelerate",
        "safetensors",
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    how = "one layer at a time from disk" if loaded.layered else "the whole model in memory"
    told = f"{how}; base {base_bytes(work.base)} bytes; {'; '.join(work.notes)}"
    return {
        "schema": SCHEMA, "job": work.job, "versions": {n: v for n in names if (v := known(n))}, "seconds": work.seconds,
        "peak_rss_bytes": peak, "peak_own_bytes": work.peaks, "threads": work.job.get("threads", 1), "device": loaded.device,
        "model_type": loaded.model.config.model_type, "base_digest": work.job["base_digest"], "load_peak_note": told,
    }  # fmt: skip


# ---- the road --------------------------------------------------------------------------------------------------------------


def run(job: dict[str, Any]) -> None:
    """Raises Stop. The order: what can be refused without torch, the base's answers, quantization, its answers, facts, export."""
    recipe = recipe_of(job)
    config = base_config(job)
    work = opened(job)
    if is_made(job) or "quantize" in work.state().get("done", []):
        work.say("done before: nothing to do")
        return
    try:
        check_room(work)
        work.mark()
        calib, held = samples_in(work.work / "calib.jsonl"), samples_in(work.work / "heldout.jsonl")
        quantize(work, recipe, config, calib, held)
        work.mark(done=True)
        work.say("quantized", done=1, of=1)
    except Exception as error:
        told = error if isinstance(error, Stop) else midway(error, work)
        with contextlib.suppress(OSError):  # a full disk has no room for this either
            work.mark(failed=told.line())
        if told is error:
            raise
        raise told from error


def midway(error: Exception, work: Work) -> Stop:
    """What broke, in one line. The libraries' own writers say a full disk in words alone."""
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return Stop(
            "broke", "the disk is full", where=str(work.partial), next="make room, then run it again: it goes on"
        )
    if isinstance(error, MemoryError):
        return Stop("broke", "out of memory", where="quantize", next="stop what else runs, or take a machine with more")
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    return Stop("broke", told, where=str(work.partial), next="the lines above say where; run it again: it goes on")


def quantize(work: Work, recipe: Recipe, config: dict[str, Any], calib: list[list[int]], held: list[list[int]]) -> None:
    import torch

    work.peak = Peak()
    torch.set_num_threads(max(1, int(work.job.get("threads", 1))))
    torch.manual_seed(int(work.job.get("seed", 0)))
    backend = BACKENDS[work.job["backend"]]
    with work.timed("load"):
        loaded = load(work, config)
        work.patterns = scope(loaded.model, work.job["exclude"])
        describe(work, loaded.model)
    with work.timed("base answers"):
        base = base_answers(work, loaded.model, held)
    with work.timed("quantize"):
        backend.prepare(work, loaded)
        tokens = TokenCount()
        calibration = Calibration(work, batches_of(calib, 8 if loaded.layered else 1), tokens)
        saw = backend.quantize(work, loaded, calibration)
        backend.join(loaded.model)
    with work.timed("quantized answers"):
        work.say("answers of the quantized model on held-out text")
        with backend.answering(loaded):
            quantized = answers(loaded.model, held)
        keep_tensors(work.work / "reference.safetensors", {"base": base, "quantized": quantized})
    write_json(work.work / "facts.json", facts_of(work, loaded, saw, tokens, backend))
    with work.timed("export"):
        export(work, loaded, backend)
    shutil.rmtree(work.work / "offload", ignore_errors=True)
    write_json(work.export / "quantize.json", record(work, loaded))


def main(argv: list[str]) -> int:
    try:
        if len(argv) != 1:
            raise Stop("wrong_use", "one argument: JOB.json", next="python quantize.py JOB.json")
        run(read_json(Path(argv[0])))
    except Stop as stop:
        if stop.__cause__ is not None:
            traceback.print_exception(stop.__cause__)
        print("PAO-ERROR " + json.dumps(stop.line()), file=sys.stderr, flush=True)
        return EXIT[stop.code]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
