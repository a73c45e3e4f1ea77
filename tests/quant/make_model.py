"""Tiny models of many architectures with random weights, for tests of quantization. Runs in the `ptq` tool environment.

python make_model.py ARCH[,ARCH...] OUT [--vocab-from DIR] [--seed 0] [--tied]

One ARCH writes OUT itself, several write OUT/ARCH each (one import of torch for all); `all` is every one. Two layers, at most
four experts, 1-2 MB in bf16, saved in the layout of the published checkpoints. Every width is a multiple of 128, so that each
format's groups fit. Weights are drawn wide enough that the logits spread by about one: at the library's own 0.02 all answers
are nearly alike and a broken weight would not show.
"""

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from more_models import MORE

VOCAB = 718
WIDTH = 128
SPREAD = 0.09  # 1 / sqrt(WIDTH): a product keeps the size of its input
DEMO = Path(__file__).resolve().parents[2] / "demo" / "model"

COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": SPREAD,
    "tie_word_embeddings": False,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": 717,
}
LINEAR_ATTENTION = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "head_dim": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
}
MLA = {
    "num_key_value_heads": 4,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 32,
}
GROUPED_ROUTER = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 1,
}
GEMMA_TEXT = {
    "head_dim": 32,
    "global_head_dim": 32,
    "layer_types": ["sliding_attention", "full_attention"],
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": VOCAB,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 128,
    "tie_word_embeddings": True,
}
VISION = {"hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "depth": 1, "out_hidden_size": WIDTH}
GEMMA_VISION = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "position_embedding_size": 64,
}

# arch -> (model class, config class, what differs from COMMON)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {"head_dim": 32}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"head_dim": 32}),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {"head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128},
    ),
    "mixtral": (
        "MixtralForCausalLM",
        "MixtralConfig",
        {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", MLA | GROUPED_ROUTER),
    "glm4_moe": ("Glm4MoeForCausalLM", "Glm4MoeConfig", {"head_dim": 32} | GROUPED_ROUTER),
    "minimax_m2": (
        "MiniMaxM2ForCausalLM",
        "MiniMaxM2Config",
        {"head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {
            "head_dim": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "llama4_text": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {
            "head_dim": 32,
            "intermediate_size_mlp": 128,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "gemma4_text": ("Gemma4ForCausalLM", "Gemma4TextConfig", GEMMA_TEXT),
    "gemma4": (
        "Gemma4ForConditionalGeneration",
        "Gemma4Config",
        {
            "text_config": COMMON | GEMMA_TEXT | {"pad_token_id": 0},
            "vision_config": GEMMA_VISION,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3_next": ("Qwen3NextForCausalLM", "Qwen3NextConfig", LINEAR_ATTENTION),
    "qwen3_5_moe_text": ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextConfig", LINEAR_ATTENTION),
    "qwen3_5_moe": (
        "Qwen3_5MoeForConditionalGeneration",
        "Qwen3_5MoeConfig",
        {"text_config": COMMON | LINEAR_ATTENTION, "vision_config": VISION | {"num_position_embeddings": 64}},
    ),
    "nemotron_h": (
        "NemotronHForCausalLM",
        "NemotronHConfig",
        {
            "num_hidden_layers": None,
            # "mlp" layers: transformers 5.14.1 cannot make its cache for them (KeyError), so none here
            "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
            "head_dim": 32,
            "ssm_state_size": 16,
            "mamba_num_heads": 8,
            "mamba_head_dim": 32,
            "n_groups": 2,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 128,
            "moe_shared_expert_intermediate_size": 128,
            "use_mamba_kernels": False,
        },
    ),
}
ODD = "odd_moe"  # a mixture whose experts no backend knows: 3D parameters with names of their own, in the model folder's own code

ODD_CODE = '''
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP


class OddConfig(LlamaConfig):
    model_type = "odd_moe"
    num_experts: int = 4


class Bank(nn.Module):
    """Experts as two stacked matrices, applied with bmm; the router weighs all of them."""

    def __init__(self, config):
        super().__init__()
        count, width, inner = config.num_experts, config.hidden_size, config.intermediate_size
        self.gate = nn.Linear(width, count, bias=False)
        self.bank_up = nn.Parameter(torch.zeros(count, width, inner))
        self.bank_down = nn.Parameter(torch.zeros(count, inner, width))

    def forward(self, hidden):
        rows = hidden.reshape(-1, hidden.shape[-1])
        weight = torch.softmax(self.gate(rows).float(), dim=-1).to(rows.dtype)
        up = torch.bmm(rows.expand(self.bank_up.shape[0], -1, -1), self.bank_up)
        out = torch.bmm(nn.functional.silu(up), self.bank_down)
        return torch.einsum("ne,enh->nh", weight, out).reshape(hidden.shape)


class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = Bank(config)
        self.post_init()

    def _init_weights(self, module):
        super()._init_weights(module)
        if hasattr(module, "bank_up"):
            nn.init.normal_(module.bank_up, std=self.config.initializer_range)
            nn.init.normal_(module.bank_down, std=self.config.initializer_range)
'''
CHOOSER = "chooser_moe"  # plain experts in a list, and a router beside them that no list of names knows
CHOOSER_BANK = '''
class Bank(nn.Module):
    """Experts in a list; `chooser` picks two for each token."""

    def __init__(self, config):
        super().__init__()
        self.chooser = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList([LlamaMLP(config) for _ in range(config.num_experts)])

    def forward(self, hidden):
        rows = hidden.reshape(-1, hidden.shape[-1])
        weight, which = torch.topk(torch.softmax(self.chooser(rows).float(), dim=-1), 2)
        out = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            at, place = torch.where(which == number)
            out.index_add_(0, at, expert(rows[at]) * weight[at, place, None].to(rows.dtype))
        return out.reshape(hidden.shape)


'''


# What calls itself otherwise in its config.json, and names a class of another.
ALSO = {"kimi_k2": "deepseek_v3"}
# Bases that are not in bf16.
WIDER = {
    "llama_f16": ("llama", "float16"),
    "qwen3_moe_f16": ("qwen3_moe", "float16"),
    "qwen3_moe_f32": ("qwen3_moe", "float32"),
}
EVERY = (*ARCHITECTURES, *MORE, *ALSO, *WIDER)


def library_model(arch: str, *, tied: bool) -> Any:
    """The model of the library's own class, initialised from its config."""
    import transformers

    if arch in MORE:
        settings = COMMON | MORE[arch] | ({"tie_word_embeddings": True} if tied else {})
        config = transformers.AutoConfig.for_model(arch, **settings)
        return transformers.AutoModelForCausalLM.from_config(config)
    model_class, config_class, differs = ARCHITECTURES[arch]
    settings = (differs if "text_config" in differs else COMMON | differs) | (
        {"tie_word_embeddings": True} if tied else {}
    )
    settings = {name: value for name, value in settings.items() if value is not None or name.endswith("_token_id")}
    config = getattr(transformers, config_class)(**settings)
    return getattr(transformers, model_class)(config)


def odd_model(folder: Path, arch: str = ODD) -> Any:
    """The model of `ODD_CODE`, whose file is written into the folder and named in its config; of CHOOSER, with its experts."""
    import importlib.util

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "modeling_odd.py"
    code_of = re.sub(r"class Bank.*?(?=class OddFor)", lambda _: CHOOSER_BANK.lstrip(), ODD_CODE, flags=re.DOTALL)
    file.write_text((code_of if arch == CHOOSER else ODD_CODE).lstrip())
    spec = importlib.util.spec_from_file_location("modeling_odd", file)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    config = code.OddConfig(**COMMON, head_dim=32, num_experts=4)
    config.auto_map = {"AutoConfig": "modeling_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}
    return code.OddForCausalLM(config)


def to_bf16(model: Any) -> Any:
    """In bf16 but for what the library keeps in float32, as published checkpoints have it."""
    import torch

    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    kept |= set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not any(part in name for part in kept):
            tensor.data = tensor.data.to(torch.bfloat16)
    return model


def spread_out(model: Any) -> None:
    """Fills what the library leaves at one or zero, where a fault would not show: norm weights vary, router biases differ."""
    import torch

    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or tensor.ndim == 0:
            continue
        if tensor.ndim == 2 and not tensor.any() and not name.endswith("bias"):  # routers that are left at zero
            torch.nn.init.normal_(tensor.data, std=SPREAD)
        bias = name.endswith("bias") and not tensor.any()
        if bias or (tensor.ndim == 1 and ("norm" in name or bool((tensor == tensor[0]).all()))):
            tensor.data.add_(torch.randn_like(tensor) * 0.05)


def make(arch: str, folder: Path, *, vocab_from: Path = DEMO, seed: int = 0, tied: bool = False) -> int:
    """Writes the model folder; returns its number of parameters. Same arch and seed: same bytes."""
    import torch

    torch.manual_seed(seed)
    name, dtype = WIDER.get(arch, (ALSO.get(arch, arch), None))
    model = odd_model(folder, arch) if arch in (ODD, CHOOSER) else library_model(name, tied=tied)
    model = (model.to(getattr(torch, dtype)) if dtype else to_bf16(model)).eval()
    spread_out(model)
    model.save_pretrained(folder)
    if arch in ALSO:
        config = folder / "config.json"
        config.write_text(config.read_text().replace(f'"model_type": "{ALSO[arch]}"', f'"model_type": "{arch}"'))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(vocab_from / name, folder / name)
    return sum(tensor.numel() for tensor in model.parameters())


def check(folder: Path) -> float:
    """How much the logits of a reloaded model spread over the vocabulary (a standard deviation)."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, trust_remote_code=True)
    with torch.no_grad():
        logits = model(input_ids=torch.arange(32)[None] * 7).logits[0].float()
    assert torch.isfinite(logits).all(), folder
    return float(logits.std(dim=-1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write tiny models of many architectures with random weights.")
    parser.add_argument("arch")
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab-from", type=Path, default=DEMO)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tied", action="store_true")
    parser.add_argument("--check", action="store_true", help="reload each and print how much its logits spread")
    asked = parser.parse_args()
    every = [*ARCHITECTURES, ODD]
    wanted = every if asked.arch == "all" else asked.arch.split(",")
    place: Callable[[str], Path] = (lambda arch: asked.out / arch) if len(wanted) > 1 else (lambda _: asked.out)
    for arch in wanted:
        params = make(arch, place(arch), vocab_from=asked.vocab_from, seed=asked.seed, tied=asked.tied)
        spread = check(place(arch)) if asked.check else None
        print(json.dumps({"arch": arch, "folder": str(place(arch)), "params": params, "spread": spread}), flush=True)


if __name__ == "__main__":
    main()
