"""The guard on small made checkpoints: a clean one gets its name; each fault, planted, is found by the check that is for it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed import (
    PEAK,
    Array,
    bf16,
    f32,
    fp8_compressed,
    int4_compressed,
    int8_modelopt,
    nvfp4_compressed,
    nvfp4_modelopt,
    write,
)
from small import worker_job

from profile_and_optimize.quant.pao_ptq.__main__ import main
from profile_and_optimize.quant.pao_ptq.checks import by_bytes, coverage
from profile_and_optimize.quant.pao_ptq.checks_config import round_trip
from profile_and_optimize.quant.pao_ptq.evidence import gather
from profile_and_optimize.quant.pao_ptq.files import worker_sha256
from profile_and_optimize.quant.pao_ptq.job import read_job


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def weights_sha(folder: Path) -> str:
    return hashlib.sha256(b"model.safetensors\0" + (folder / "model.safetensors").read_bytes()).hexdigest()


HIDDEN, INNER, EXPERTS, VOCAB = 64, 32, 3, 40
STATE = {"stage": "roundtrip", "done": [], "failed": None, "job_digest": "abc"}


def base_tensors() -> dict[str, Array]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB, HIDDEN),
        "lm_head.weight": (VOCAB, HIDDEN),
    }
    for layer in range(2):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{n}_proj.weight": (HIDDEN, HIDDEN) for n in "qkvo"}
        shapes[f"{at}.mlp.gate.weight"] = (EXPERTS, HIDDEN)
        shapes[f"{at}.norm.weight"] = (HIDDEN,)
        for e in range(EXPERTS):
            shapes |= {f"{at}.mlp.experts.{e}.{n}_proj.weight": (INNER, HIDDEN) for n in ("gate", "up")}
            shapes[f"{at}.mlp.experts.{e}.down_proj.weight"] = (HIDDEN, INNER)
    shapes["visual.blocks.0.qkv.weight"] = (HIDDEN, HIDDEN)
    return {name: bf16(shape, seed) for seed, (name, shape) in enumerate(shapes.items())}


def is_covered(name: str) -> bool:
    return "_proj" in name


LAYOUTS: dict[str, tuple[str, str, Callable[[str, Array], dict[str, Array]]]] = {
    "nvfp4 modelopt": ("modelopt", "nvfp4", nvfp4_modelopt),
    "nvfp4 compressed-tensors": ("llm-compressor", "nvfp4", nvfp4_compressed),
    "fp8 compressed-tensors": ("llm-compressor", "fp8", fp8_compressed),
    "int8 modelopt": ("modelopt", "int8", int8_modelopt),
    "int4 compressed-tensors": ("llm-compressor", "int4", int4_compressed),
}


@dataclass
class Made:
    """A finished quantization, before the guard: change anything, then `write` and ask."""

    root: Path
    backend: str
    base: dict[str, Array]
    export: dict[str, Array]
    facts: dict[str, Any]
    config: dict[str, Any]
    hf_quant: dict[str, Any] | None
    roundtrip: dict[str, Any]
    exclude: list[str] = field(default_factory=lambda: ["lm_head", "*mlp.gate", "visual*"])
    base_config: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    after: list[Callable[[Path], object]] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.root / "OUT"

    def write(self) -> Path:
        partial = self.root / "OUT.partial"
        export, work = partial / "export", partial / "work"
        write(self.root / "base" / "model.safetensors", self.base)
        write(export / "model.safetensors", self.export)
        work.mkdir(exist_ok=True)
        self.put(
            "base/config.json", {k: v for k, v in self.config.items() if k != "quantization_config"} | self.base_config
        )
        self.put("OUT.partial/export/config.json", self.config)
        for folder in (self.root / "base", export):
            (folder / "tokenizer.json").write_text('{"model": {}}')
        asked = {"backend": self.backend, "target": self.facts["target"], "exclude": self.exclude, "job_digest": "abc"}
        job = worker_job(self.root, **asked, out=str(self.out))
        self.put(work / "facts.json", self.facts)
        for name, rows in (("calib.jsonl", [1, 2]), ("heldout.jsonl", [3])):
            (work / name).write_text(json.dumps({"input_ids": rows}) + "\n")
        samples = {
            "job_digest": "abc",
            "sha256": sha(work / "calib.jsonl"),
            "heldout_sha256": sha(work / "heldout.jsonl"),
        }
        trip = {"weights_sha256": weights_sha(export), "config_sha256": sha(export / "config.json")} | self.roundtrip
        (work / "reference.safetensors").write_bytes(b"answers")
        record = {"job": job, "worker_sha256": worker_sha256(), "facts_sha256": sha(work / "facts.json")}
        record["reference_sha256"] = sha(work / "reference.safetensors")
        files = {"roundtrip.json": trip, "quantize.json": record | self.record, "calibration.json": samples}
        for name, value in (files | ({"hf_quant_config.json": self.hf_quant} if self.hf_quant else {})).items():
            self.put(f"OUT.partial/export/{name}", value)
        self.put(work / "calibration.json", samples)
        (partial / "NOT_A_CHECKPOINT.txt").write_text("half made")
        self.put("OUT.partial/STATE.json", STATE)
        for change in self.after:
            change(self.root)
        return self.put("JOB.json", job)

    def put(self, name: str | Path, value: Any) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
        return file

    def failing(self) -> dict[str, dict[str, Any]]:
        """The checks that do not pass, by name."""
        answer = answer_of(self.write())
        assert answer["passed"] == all(c["passed"] is True for c in answer["checks"])
        return {c["name"]: c for c in answer["checks"] if c["passed"] is not True}


def answer_of(job: Path) -> dict[str, Any]:
    """coverage.json of a job's export as it lies there."""
    ev = gather(read_job(job))
    return coverage(ev, [*by_bytes(ev), round_trip(ev)])


def made(root: Path, layout: str = "nvfp4 modelopt") -> Made:
    backend, form, pack = LAYOUTS[layout]
    base = base_tensors()
    export: dict[str, Array] = {}
    for name, array in base.items():
        export |= pack(name, array) if is_covered(name) else {name: array}
    modules = [module(name, array, form) for name, array in base.items() if "experts" not in name and len(array[1]) > 1]
    experts = [f"model.layers.{i}.mlp.experts" for i in range(2)]
    size = EXPERTS * 3 * HIDDEN * INNER
    modules += [{"name": n, "kind": "experts", "params": size, "quantized": True, "weight_format": form, "group_size": None}
                for n in experts]  # fmt: skip
    plain = ["lm_head", *(f"model.layers.{i}.mlp.gate" for i in range(2))]
    listed = [*plain, "visual.blocks.0.qkv", *(["model.embed_tokens"] if backend == "modelopt" else [])]
    parts = ("weight",) if form == "int4" else ("weight", "input")
    quantizers = [quantizer(m["name"], of, form == "fp8") for m in modules if m["quantized"] for of in parts]
    facts = {
        "schema": 1, "backend": backend, "target": "w4a16" if form == "int4" else form, "modules": modules,
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "base_bytes": 1, "base_params": 1,
        "quantizers": quantizers, "tied": [], "unquantized": [*plain, "visual.blocks.0.qkv"],
        "experts": [{"name": n, "layout": "modulelist", "count": EXPERTS, "projections": 3, "weight_quantizers": 9,
                     "tokens": [5, 6, 7]} for n in experts],
    }  # fmt: skip
    config = {
        "num_hidden_layers": 2,
        "dtype": "bfloat16",
        "quantization_config": described(layout) | {"ignore": listed},
    }
    hf_quant = None
    if backend == "modelopt":
        algo = config["quantization_config"]["quant_algo"]  # type: ignore[index]
        hf_quant = {"producer": PRODUCER, "quantization": {"quant_algo": algo, "exclude_modules": listed}}
        hf_quant["quantization"] |= {"group_size": 16} if form == "nvfp4" else {}  # type: ignore[operator]
    roundtrip = {
        "schema": 1,
        "passed": True,
        "tokens": 64,
        "kl_in_process_reloaded": 1e-6,
        "kl_limit": 1e-5,
        "kl_base": {"in_process": 0.003, "reloaded": 0.003},
        "limit": "1e-5",
        "reason": "",
    }
    return Made(root, backend, base, export, facts, config, hf_quant, roundtrip)


PRODUCER = {"name": "modelopt", "version": "0.47.0"}


def described(layout: str) -> dict[str, Any]:
    """quantization_config as each library writes it, but for its remarks."""
    four = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    modelopt = {"quant_method": "modelopt", "producer": PRODUCER}
    if layout == "nvfp4 modelopt":
        groups = {"group_0": {"weights": four, "input_activations": four, "targets": ["Linear"]}}
        return modelopt | {"quant_algo": "NVFP4", "config_groups": groups}
    if layout == "int8 modelopt":
        return modelopt | {"quant_algo": "W8A8_SQ_PER_CHANNEL"}
    form, bits, kind, strategy, group, inputs = {
        "nvfp4 compressed-tensors": (
            "nvfp4-pack-quantized",
            4,
            "float",
            "tensor_group",
            16,
            ("tensor_group", "local", 16),
        ),
        "fp8 compressed-tensors": ("float-quantized", 8, "float", "channel", None, ("token", True, None)),
        "int4 compressed-tensors": ("pack-quantized", 4, "int", "group", 32, None),
    }[layout]
    weights = {
        "num_bits": bits,
        "type": kind,
        "strategy": strategy,
        "group_size": group,
        "dynamic": False,
        "symmetric": True,
    }
    given = None
    if inputs is not None:
        given = weights | {"strategy": inputs[0], "dynamic": inputs[1], "group_size": inputs[2]}
    one = {"format": form, "targets": ["Linear"], "weights": weights, "input_activations": given}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": one},
    }


def module(name: str, array: Array, form: str) -> dict[str, Any]:
    stem, covered = name.removesuffix(".weight"), is_covered(name)
    kinds = {"gate": "router", "embed_tokens": "embedding", "lm_head": "lm_head", "qkv": "vision"}
    return {"name": stem, "kind": kinds.get(stem.rpartition(".")[2], "linear"), "params": int(np.prod(array[1])),
            "quantized": covered, "weight_format": form if covered else None, "group_size": None}  # fmt: skip


def quantizer(name: str, of: str, by_token: bool) -> dict[str, Any]:
    return {"name": f"{name}.{of}_quantizer", "of": of, "enabled": True, "dynamic": of == "input" and by_token, "amax_finite": True,
            "amax_min": PEAK, "amax_max": PEAK, "saw_tokens": True if of == "input" else None}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_clean_export_passes_every_check_and_gets_its_name(tmp_path: Path, layout: str) -> None:
    given = made(tmp_path, layout)
    assert main(["guard", str(given.write())]) == 0
    told = json.loads((given.out / "coverage.json").read_text())
    assert told["passed"] and [c["passed"] for c in told["checks"]] == [True] * 18
    assert {c["name"] for c in told["checks"]} == {
        "files-named", "config-kept", "sidecars-kept", "records-match", "experts-quantized", "amax-finite", "inputs-calibrated",
        "dtypes-and-size", "no-zero-scale", "gate-up-scale", "described", "exclude-exact", "untouched", "unknown-moe-module",
        "rounding", "plain-kept", "input-scales", "roundtrip",
    }  # fmt: skip
    assert not (tmp_path / "OUT.partial").exists()


def test_the_size_is_what_the_format_says(tmp_path: Path) -> None:
    """NVFP4: half a byte a weight and a byte for 16; two scalars of 4 bytes a matrix. 26 matrices of 69,632 weights."""
    given = made(tmp_path)
    answer = answer_of(given.write())
    covered = 2 * (4 * HIDDEN * HIDDEN + 9 * HIDDEN * INNER)
    kept = sum(len(raw) for name, (_, _, raw) in given.base.items() if not is_covered(name))
    assert answer["bytes"]["expected"] == answer["bytes"]["actual"] == kept + covered * 9 // 16 + 26 * 8
    assert answer["bits_per_weight"] == pytest.approx(4.5 + 26 * 8 * 8 / covered)


def half_done(m: Made) -> None:
    """Recorded as quantized, and in bf16 in the file."""
    stem = "model.layers.1.self_attn.o_proj"
    for name in [n for n in m.export if n.startswith(stem)]:
        del m.export[name]
    m.export[f"{stem}.weight"] = m.base[f"{stem}.weight"]


def drop_expert(m: Made) -> None:
    stem = "model.layers.1.mlp.experts.2.down_proj"
    for name in [n for n in m.export if n.startswith(stem)]:
        del m.export[name]
    m.export[f"{stem}.weight"] = m.base[f"{stem}.weight"]


def keep_all_experts(m: Made) -> None:
    """The backend did not know the module: no fact of it, and its weights as they were."""
    m.facts["experts"] = m.facts["experts"][:1]
    m.facts["modules"] = [x for x in m.facts["modules"] if x["name"] != "model.layers.1.mlp.experts"]
    for name in [n for n in m.export if n.startswith("model.layers.1.mlp.experts")]:
        del m.export[name]
    m.export |= {n: a for n, a in m.base.items() if n.startswith("model.layers.1.mlp.experts")}


def odd_stack(m: Made) -> None:
    array = bf16((4, HIDDEN, HIDDEN), 99)
    m.base["model.layers.0.mixer.bank"] = m.export["model.layers.0.mixer.bank"] = array


def scale_byte(value: int) -> Callable[[Made], None]:
    def plant(m: Made) -> None:
        name = "model.layers.0.mlp.experts.1.up_proj.weight_scale"
        dtype, shape, raw = m.export[name]
        m.export[name] = dtype, shape, raw[:7] + bytes([value]) + raw[8:]

    return plant


def put(name: str, array: Array) -> Callable[[Made], None]:
    return lambda m: m.export.__setitem__(name, array)


def exclude(change: Callable[[list[str]], list[str]], *, one_file: bool = False) -> Callable[[Made], None]:
    def plant(m: Made) -> None:
        now = change(list(m.config["quantization_config"]["ignore"]))
        m.config["quantization_config"]["ignore"] = now
        if m.hf_quant and not one_file:
            m.hf_quant["quantization"]["exclude_modules"] = now

    return plant


def fact(kind: str, at: int, **change: Any) -> Callable[[Made], None]:
    return lambda m: m.facts[kind][at].update(change)


def wide_scales(m: Made) -> None:
    """Block scales written as float32: four bytes where the format has one."""
    for name, (dtype, shape, raw) in list(m.export.items()):
        if dtype == "F8_E4M3":
            m.export[name] = "F32", shape, np.full(len(raw), 0.5, np.float32).tobytes()


def turn_router(m: Made) -> None:
    name = "model.layers.0.mlp.gate.weight"
    dtype, shape, raw = m.export[name]
    m.export[name] = dtype, shape, raw[:-1] + bytes([raw[-1] ^ 1])


def turn_vision(m: Made) -> None:
    m.export["visual.blocks.0.qkv.weight"] = bf16((HIDDEN, HIDDEN), 1234)


def ballast(m: Made) -> None:
    m.export["model.layers.0.left_over"] = bf16((HIDDEN, HIDDEN), 5)


def change(name: str, new: Callable[[np.ndarray], object], kind: type = np.uint8) -> Callable[[Made], None]:
    """Numbers of one tensor of the export, in its shape, changed in place."""

    def plant(m: Made) -> None:
        dtype, shape, raw = m.export[name]
        values = np.frombuffer(bytearray(raw), kind).reshape(shape)
        new(values)
        m.export[name] = dtype, shape, values.tobytes()

    return plant


def doubled(scale: np.ndarray) -> None:
    """One block's scale twice as large: the exponent of an E4M3 number is in its bits from the third on."""
    scale[3, 1] += 8


def zero_rows(codes: np.ndarray) -> None:
    codes[5:12] = 0


def nibbles_swapped(codes: np.ndarray) -> None:
    codes[4] = codes[4] >> 4 | codes[4] << 4


def described_as(path: str, value: object) -> Callable[[Made], None]:
    def plant(m: Made) -> None:
        part: Any = m.config["quantization_config"]
        *above, last = path.split(".")
        for step in above:
            part = part[step]
        part[last] = value

    return plant


def beside(path: str, value: object) -> Callable[[Made], None]:
    def plant(m: Made) -> None:
        assert m.hf_quant is not None
        m.hf_quant["quantization"][path] = value

    return plant


def config_says(**keys: object) -> Callable[[Made], None]:
    """In the export alone."""

    def plant(m: Made) -> None:
        m.base_config |= {k: m.config.get(k) for k in keys if k in m.config}
        m.config |= keys
        if any(k not in m.base_config for k in keys):
            m.after.append(lambda root: strip(root / "base/config.json", keys))

    return plant


def strip(file: Path, keys: object) -> None:
    told = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in told.items() if k not in set(keys) or k == "num_hidden_layers"}))  # type: ignore[call-overload]


def later(name: str, text: str) -> Callable[[Made], None]:
    """A file of the export written once all else is there."""
    return lambda m: m.after.append(lambda root: (root / "OUT.partial/export" / name).write_text(text))


def edited(name: str, **keys: object) -> Callable[[Made], None]:
    def change_it(root: Path) -> None:
        file = root / "OUT.partial" / name
        file.write_text(json.dumps(json.loads(file.read_text()) | keys))

    return lambda m: m.after.append(change_it)


NORM, EMBEDDED, O_PROJ = "model.layers.0.norm.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.o_proj"
GROUP = "config_groups.group_0"
FAULTS: dict[str, tuple[Callable[[Made], None], str, str]] = {
    "seven rows of codes zeroed": (change(f"{O_PROJ}.weight", zero_rows), "rounding", "values in 7 rows, first row 5"),
    "one block scale doubled": (change(f"{O_PROJ}.weight_scale", doubled), "rounding", "1 rows, first row 3"),
    "nibbles of a row swapped": (change(f"{O_PROJ}.weight", nibbles_swapped), "rounding", "first row 4"),
    "codes of another matrix": (
        lambda m: m.export.update({f"{O_PROJ}.weight": m.export["model.layers.1.self_attn.o_proj.weight"]}), "rounding", "64 rows"
    ),
    "a norm's sign turned": (change(NORM, lambda v: v.__ior__(0x8000), np.uint16), "plain-kept", f"{NORM}: "),
    "a norm with a NaN": (change(NORM, lambda v: v.__setitem__(7, 0x7FC0), np.uint16), "plain-kept", "1 of 64 numbers are NaN"),
    "an embedding row zeroed": (change(EMBEDDED, lambda v: v.__setitem__(3, 0), np.uint16), "plain-kept", f"{EMBEDDED}: 64 of"),
    "a junk tensor": (put("model.extra.weight", bf16((4, 4), 3)), "plain-kept", "model.extra.weight BF16 [4, 4]: the base has no such"),
    "an input scale of another range": (put(f"{O_PROJ}.input_scale", f32(2 * PEAK / 2688)), "input-scales", "reaches 4, recorded is 2"),
    "bits misdescribed": (described_as(f"{GROUP}.weights.num_bits", 8), "described", "weights.num_bits: 8, the tensors say 4"),
    "a group twice as large": (described_as(f"{GROUP}.weights", {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 32}),
                               "described", "weights.group_size: 32, the tensors say 16"),
    "another algorithm": (described_as("quant_algo", "FP8"), "described", "quant_algo: FP8, the tensors say NVFP4"),
    "another method": (described_as("quant_method", "fp8"), "described", "quant_method: fp8"),
    "no groups": (lambda m: m.config["quantization_config"].pop("config_groups") and None, "described", "config_groups: None"),
    "a scheme for keys and values": (described_as("kv_cache_scheme", {"num_bits": 8, "type": "float"}), "described", "kv_cache_scheme"),
    "another algorithm beside": (beside("quant_algo", "FP8"), "described", "hf_quant_config.json quant_algo: FP8, NVFP4"),
    "another group beside": (beside("group_size", 32), "described", "hf_quant_config.json group_size: 32, the tensors have 16"),
    "keys and values beside": (beside("kv_cache_quant_algo", "FP8"), "described", "kv_cache_quant_algo: FP8, and no tensor"),
    "one layer fewer": (config_says(num_hidden_layers=1), "config-kept", "num_hidden_layers: 1, 2 in the base"),
    "a key that the base lacks": (config_says(tie_word_embeddings=True), "config-kept", "tie_word_embeddings: true, nothing in the base"),
    "another type of numbers": (config_says(dtype="float32"), "config-kept", 'dtype: "float32", where the weights are bfloat16'),
    "another tokenizer": (later("tokenizer.json", "{}"), "sidecars-kept", "tokenizer.json: not the base's"),
    "a generation_config of nobody": (later("generation_config.json", "{}"), "sidecars-kept", "generation_config.json: the base has no"),
    "a second set of weights": (later("model-00001-of-00002.safetensors", "x"), "files-named", "of-00002.safetensors: no loader"),
    "a pickle beside": (later("pytorch_model.bin", "x"), "files-named", "pytorch_model.bin: belongs to nothing"),
    "facts edited": (edited("work/facts.json", tied=[["a", "b"]]), "records-match", "facts_sha256"),
    "another job's record": (edited("export/quantize.json", job={"seed": 7}), "records-match", "quantize.json job"),
    "other answers of the model in process": (
        lambda m: m.after.append(lambda root: (root / "OUT.partial" / "work" / "reference.safetensors").write_bytes(b"others")),
        "records-match", "reference_sha256",
    ),
    "a round trip over its own limit": (lambda m: m.roundtrip.update(kl_in_process_reloaded=0.5), "roundtrip", "over its own limit"),
    "an order of columns that nobody asked for": (described_as(f"{GROUP}.weights.actorder", "group"), "described", "actorder: group"),
    "samples edited": (edited("work/calibration.json", sha256="00"), "records-match", "calibration.json sha256"),
    "a round trip of another config": (edited("export/roundtrip.json", config_sha256="00"), "roundtrip", "another config.json"),
    "a KL that is no number": (lambda m: m.roundtrip.update(kl_in_process_reloaded=float("nan")), "roundtrip", "no finite KL"),

    "an expert without a quantizer": (fact("experts", 1, weight_quantizers=8), "experts-quantized", "8 weight quantizers for 3"),
    "an expert left in bf16": (drop_expert, "experts-quantized", "experts.2.down_proj.weight: not quantized"),
    "experts that the backend does not know": (keep_all_experts, "unknown-moe-module", "layers.1.mlp.experts.0.gate_proj"),
    "the same, by the file": (keep_all_experts, "experts-quantized", "not recorded"),
    "an oddly named stack": (odd_stack, "unknown-moe-module", "mixer.bank [4, 64, 64]: a stack of matrices"),
    "a range of zero": (fact("quantizers", 1, amax_min=0.0, amax_max=0.0), "amax-finite", "0.0 to 0.0"),
    "a range that is no number": (fact("quantizers", 0, amax_finite=False), "amax-finite", "weight_quantizer"),
    "a range not told": (fact("quantizers", 0, amax_finite=None), "amax-finite", "weight_quantizer"),
    "an uncalibrated expert": (fact("experts", 1, tokens=[4, 0, 9]), "inputs-calibrated", "expert 1 of model.layers.1.mlp.experts"),
    "an input that saw nothing": (fact("quantizers", 1, saw_tokens=False), "inputs-calibrated", "input_quantizer"),
    "tokens not counted": (fact("experts", 0, tokens=None), "inputs-calibrated", "model.layers.0.mlp.experts"),
    "wide scales": (wide_scales, "dtypes-and-size", "a scale of F32"),
    "more bytes than implied": (ballast, "dtypes-and-size", "of what the formats imply"),
    "another format": (fact("modules", 2, weight_format="fp8"), "dtypes-and-size", "q_proj: fp8 recorded, nvfp4 in the file"),
    "a matrix left in bf16": (half_done, "dtypes-and-size", "o_proj: nvfp4 recorded, not quantized in the file"),
    "experts in another format": (fact("modules", -1, weight_format="fp8"), "dtypes-and-size", "experts: fp8, nvfp4 recorded"),
    "a tensor lost": (lambda m: m.export.pop("model.layers.0.norm.weight") and None, "dtypes-and-size", "norm.weight: not in the export"),
    "a block scale of zero": (scale_byte(0x00), "no-zero-scale", "experts.1.up_proj.weight_scale: 1 zero"),
    "a block scale of minus zero": (scale_byte(0x80), "no-zero-scale", "1 zero"),
    "a block scale that is no number": (scale_byte(0x7F), "no-zero-scale", "0 zero, 1 not usable"),
    "a global scale of zero": (put("model.layers.0.self_attn.o_proj.weight_scale_2", f32(0.0)), "no-zero-scale", "o_proj.weight_scale_2"),
    "an infinite input scale": (put("model.layers.0.self_attn.o_proj.input_scale", f32(np.inf)), "no-zero-scale", "o_proj.input"),
    "gate and up apart": (put("model.layers.0.mlp.experts.0.up_proj.weight_scale_2", f32(0.02)), "gate-up-scale", "gate_proj, up_proj"),
    "q, k and v apart": (put("model.layers.0.self_attn.v_proj.weight_scale_2", f32(0.02)), "gate-up-scale", "q_proj, k_proj, v_proj"),
    "a control character": (exclude(lambda e: [*e, "lm_head.\x00backbone.sentinel"]), "exclude-exact", "control character"),
    "an entry that matches nothing": (exclude(lambda e: [*e, "model.layers.7.mlp"]), "exclude-exact", "matches no unquantized tensor"),
    "an entry that matches too much": (exclude(lambda e: [*e, "*mlp*"]), "exclude-exact", "which is quantized"),
    "an entry missing": (exclude(lambda e: e[1:]), "exclude-exact", "lm_head is not quantized and not listed"),
    "two lists that differ": (exclude(lambda e: e[:-1], one_file=True), "exclude-exact", "exclude different modules"),
    "a router changed": (turn_router, "untouched", "mlp.gate.weight: changed"),
    "a vision part changed": (turn_vision, "untouched", "visual.blocks.0.qkv.weight: changed"),
    "a round trip that failed": (lambda m: m.roundtrip.update(passed=False, reason="KL .3"), "roundtrip", "KL .3"),
    "a round trip of other weights": (lambda m: m.roundtrip.update(weights_sha256="00"), "roundtrip", "other weights"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tmp_path: Path, fault: str) -> None:
    plant, name, says = FAULTS[fault]
    given = made(tmp_path)
    plant(given)
    failing = given.failing()
    assert name in failing
    assert says in " ".join([failing[name]["reason"], *failing[name]["examples"]])


@pytest.mark.parametrize(
    ("fault", "also"),
    [("a block scale of zero", {"rounding"}), ("a control character", set()), ("a router changed", {"plain-kept"}),
     ("an uncalibrated expert", set()), ("one layer fewer", set()), ("another group beside", set())],
)  # fmt: skip
def test_one_fault_fails_the_checks_that_see_it_alone(tmp_path: Path, fault: str, also: set[str]) -> None:
    plant, name, _ = FAULTS[fault]
    given = made(tmp_path)
    plant(given)
    assert set(given.failing()) == {name} | also


def test_a_global_scale_of_the_other_layout_is_looked_at_too(tmp_path: Path) -> None:
    given = made(tmp_path, "nvfp4 compressed-tensors")
    given.export["model.layers.0.mlp.experts.0.up_proj.weight_global_scale"] = f32(800.0)
    assert set(given.failing()) == {"gate-up-scale", "rounding"}


def test_a_missing_round_trip_is_not_told_and_fails(tmp_path: Path) -> None:
    given = made(tmp_path)
    job = given.write()
    (tmp_path / "OUT.partial/export/roundtrip.json").unlink()
    checks = {c["name"]: c for c in answer_of(job)["checks"]}
    assert checks["roundtrip"]["passed"] is None


def test_experts_that_the_recipe_leaves_alone_are_no_fault(tmp_path: Path) -> None:
    given = made(tmp_path)
    keep_all_experts(given)
    left = "model.layers.1.mlp.experts"
    given.exclude.append(left)
    given.facts["experts"].append(
        copy.deepcopy(given.facts["experts"][0]) | {"name": left, "weight_quantizers": 0, "tokens": None}
    )
    for m in (given.config["quantization_config"]["ignore"],):
        m.append(left)
    assert given.failing() == {}


def test_experts_under_another_name_in_the_files(tmp_path: Path) -> None:
    """Mixtral: `mlp.experts` in memory, `block_sparse_moe.experts` in the files, and the router likewise."""
    given = made(tmp_path)
    for kept in (given.base, given.export):
        for name in list(kept):
            kept[name.replace(".mlp.", ".block_sparse_moe.")] = kept.pop(name)
    ignore = given.config["quantization_config"]["ignore"]
    ignore[:] = [e.replace(".mlp.", ".block_sparse_moe.") for e in ignore]
    assert given.failing() == {}
    dtype, shape, raw = given.export["model.layers.0.block_sparse_moe.gate.weight"]
    given.export["model.layers.0.block_sparse_moe.gate.weight"] = dtype, shape, bytes(len(raw))
    assert set(given.failing()) == {"untouched", "plain-kept"}


def join_experts(given: Made) -> None:
    """The base as gemma 4's: all experts of a layer in two tensors, which the export holds expert by expert."""
    for layer in range(2):
        stem = f"model.layers.{layer}.mlp.experts"
        for whole, parts in {"gate_up_proj": ("gate", "up"), "down_proj": ("down",)}.items():
            names = [f"{stem}.{e}.{p}_proj.weight" for e in range(EXPERTS) for p in parts]
            taken = [given.base.pop(n) for n in names]
            shape = (EXPERTS, taken[0][1][0] * len(parts), taken[0][1][1])
            given.base[f"{stem}.{whole}"] = "BF16", shape, b"".join(raw for _, _, raw in taken)
        given.facts["experts"][layer] |= {"layout": "fused", "projections": 2, "weight_quantizers": 2 * EXPERTS}


def test_experts_in_one_tensor_of_the_base_and_apart_in_the_export(tmp_path: Path) -> None:
    given = made(tmp_path)
    join_experts(given)
    assert given.failing() == {}
    drop = "model.layers.1.mlp.experts.2.down_proj"
    for name in [n for n in given.export if n.startswith(drop)]:
        del given.export[name]
    given.export[f"{drop}.weight"] = bf16((HIDDEN, INNER), 3)
    assert {"experts-quantized", "unknown-moe-module"} <= set(given.failing())
    del given.export[f"{drop}.weight"]
    assert "experts.down_proj: not in the export" in " ".join(given.failing()["dtypes-and-size"]["examples"])


def test_a_vector_may_be_wider_with_the_same_values_and_a_matrix_not(tmp_path: Path) -> None:
    given = made(tmp_path)
    name = "model.layers.0.mlp.gate.e_score_correction_bias"
    narrow = np.array([0x3F80, 0xC000, 0x0001], np.uint16)  # 1, -2 and the smallest there is
    given.base[name] = "BF16", (3,), narrow.tobytes()
    given.export[name] = "F32", (3,), (narrow.astype(np.uint32) << 16).tobytes()
    assert given.failing() == {}
    given.export[name] = "F32", (3,), np.array([1, -2, 0.5], np.float32).tobytes()
    assert set(given.failing()) == {"untouched", "plain-kept"}
    given.export[name] = given.base[name]
    given.export["lm_head.weight"] = "F32", (VOCAB, HIDDEN), bytes(4 * VOCAB * HIDDEN)
    assert "lm_head.weight: F32, BF16 in the base" in given.failing()["dtypes-and-size"]["examples"]


def test_an_entry_of_compressed_tensors_names_the_module_itself_alone(tmp_path: Path) -> None:
    """Its list holds `linear_attn` for what lies in that module without a name, and no engine reads it as all of it."""
    given = made(tmp_path, "nvfp4 compressed-tensors")
    given.config["quantization_config"]["quant_method"] = "compressed-tensors"
    given.config["quantization_config"]["ignore"].append("model.layers.0")
    assert given.failing() == {}
    given.config["quantization_config"]["ignore"].append("re:.*mlp.*")
    assert set(given.failing()) == {"exclude-exact"}


def test_a_base_in_float32_is_compared_as_it_is_loaded(tmp_path: Path) -> None:
    """1 + 2^-8 lies between two bf16 numbers, 1 and 1 + 2^-7: to the even one, 1 (0x3F80)."""
    given = made(tmp_path)
    values = np.full((EXPERTS, HIDDEN), 1 + 2**-8, np.float32)
    name = "model.layers.0.mlp.gate.weight"
    given.base[name] = "F32", values.shape, values.tobytes()
    given.export[name] = "BF16", values.shape, np.full(values.shape, 0x3F80, np.uint16).tobytes()
    assert given.failing() == {}
    given.export[name] = "BF16", values.shape, np.full(values.shape, 0x3F81, np.uint16).tobytes()
    assert set(given.failing()) == {"untouched", "plain-kept"}


def test_layers_for_prediction_that_are_not_loaded_are_named_and_no_fault(tmp_path: Path) -> None:
    given = made(tmp_path)
    given.base["model.layers.2.eh_proj.weight"] = bf16((HIDDEN, 2 * HIDDEN), 7)
    answer = answer_of(given.write())
    said = next(c for c in answer["checks"] if c["name"] == "dtypes-and-size")
    assert said["passed"] and "1 tensors of extra prediction layers left out" in said["reason"]
    assert said["examples"] == ["model.layers.2.eh_proj.weight"]


def test_a_tied_head_may_be_listed_without_a_tensor(tmp_path: Path) -> None:
    given = made(tmp_path)
    del given.base["lm_head.weight"], given.export["lm_head.weight"]
    given.facts["tied"] = [["lm_head", "model.embed_tokens"]]
    assert given.failing() == {}


def test_nothing_that_fails_is_under_the_final_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = made(tmp_path)
    turn_router(given)
    assert main(["guard", str(given.write())]) == 1
    partial = tmp_path / "OUT.partial"
    assert not given.out.exists() and (partial / "NOT_A_CHECKPOINT.txt").exists()
    assert json.loads((partial / "work/coverage.json").read_text())["passed"] is False
    assert json.loads((partial / "STATE.json").read_text())["failed"]["code"] == "refused"
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("PAO-ERROR ") and json.loads(last.removeprefix("PAO-ERROR "))["code"] == "refused"


def test_a_name_that_is_taken_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    given = made(tmp_path)
    job = given.write()
    given.out.mkdir()
    assert main(["guard", str(job)]) == 1
    assert list(given.out.iterdir()) == [] and (tmp_path / "OUT.partial/export/config.json").exists()


def test_killed_after_the_rename_the_same_job_clears_up_and_another_is_refused(tmp_path: Path) -> None:
    given = made(tmp_path)
    job = given.write()
    assert main(["guard", str(job)]) == 0
    (tmp_path / "OUT.partial/work").mkdir(parents=True)
    assert main(["guard", str(job)]) == 0 and not (tmp_path / "OUT.partial").exists()
    job.write_text(job.read_text().replace('"abc"', '"other"'))
    assert main(["guard", str(job)]) == 1 and (given.out / "config.json").exists()


def test_a_file_cut_short_is_an_error_not_a_verdict(tmp_path: Path) -> None:
    given = made(tmp_path)
    job = given.write()
    file = tmp_path / "OUT.partial/export/model.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    assert main(["guard", str(job)]) == 3 and not given.out.exists()


def test_before_the_other_steps_it_is_wrong_use(tmp_path: Path) -> None:
    given = made(tmp_path)
    job = given.write()
    (tmp_path / "OUT.partial" / "work" / "facts.json").unlink()
    assert main(["guard", str(job)]) == 2
