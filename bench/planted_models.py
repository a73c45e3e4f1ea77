"""Eight small models of eight architectures with random weights that are not uniform, for `planted_faults.py`.

    PTQ_PYTHON bench/planted_models.py OUT

Norms differ from one, biases and router corrections from zero, a few values are outliers; two bases are sharded. A model that
is there already is kept. Their answers mean nothing: what is judged is whether a checkpoint is its base, rounded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

VOCAB, HIDDEN, SEED = 512, 128, 20261201
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": 0,
    "pad_token_id": None, "tie_word_embeddings": False,
}  # fmt: skip
ROUTED: dict[str, Any] = {"moe_intermediate_size": 128, "num_experts_per_tok": 2}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True, "num_hidden_layers": 3},
    "qwen3": {"num_hidden_layers": 3},
    "gemma3_text": {
        "tie_word_embeddings": True, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 48,
        "query_pre_attn_scalar": 32, "pad_token_id": 1,
    },
    "opt": {"ffn_dim": 256, "word_embed_proj_dim": HIDDEN, "tie_word_embeddings": True, "pad_token_id": 1},
    "gpt_neox": {"rotary_pct": 0.5},
    "qwen3_moe": {**ROUTED, "num_experts": 4, "norm_topk_prob": True, "decoder_sparse_step": 1},
    "deepseek_v3": {
        **ROUTED, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "n_shared_experts": 2, "first_k_dense_replace": 1,
        "num_key_value_heads": 4, "q_lora_rank": 64, "kv_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16,
        "v_head_dim": 32, "head_dim": 16,
    },
    "gpt_oss": {
        "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 128, "sliding_window": 48,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
}  # fmt: skip
SHARDED = ("qwen3", "qwen3_moe")
SHARD = "400KB"


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_in(out)
    for name, shape in MODELS.items():
        if not (out / name / "config.json").exists():
            make(name, shape, out, tokenizer)


def tokenizer_in(out: Path) -> Any:
    """Byte-level pairs trained on a little of the standard library."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    kept = out / "tokenizer.json"
    if kept.exists():
        return Tokenizer.from_file(str(kept))
    root = Path(sysconfig.get_path("stdlib"))
    text = [p.read_text(encoding="utf-8", errors="ignore") for p in sorted(root.glob("*.py"))[:40]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.save(str(kept))
    return tokenizer


def make(name: str, shape: dict[str, Any], out: Path, tokenizer: Any) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(SEED)
    config = AutoConfig.for_model(name, **{**COMMON, **shape})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fill(model)
    half = out / f".{name}.half"
    shutil.rmtree(half, ignore_errors=True)
    model.config.architectures = [type(model).__name__]
    model.to(torch.bfloat16).eval().save_pretrained(half, max_shard_size=SHARD if name in SHARDED else "1GB")
    beside(half, tokenizer)
    shutil.rmtree(out / name, ignore_errors=True)
    half.rename(out / name)
    print(
        f"{name}: {sum(p.numel() for p in model.parameters())} weights, {sorted(p.name for p in (out / name).iterdir())}",
        flush=True,
    )


def fill(model: Any) -> None:
    """Normal weights whose size differs from matrix to matrix; in one matrix of eight a few values are six times as large."""
    import torch

    around_zero = "gemma" in model.config.model_type
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point() or "inv_freq" in name or "embed_scale" in name:
                continue
            draw = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
            noise = torch.randn(value.shape, generator=draw)
            if "norm" in name and name.endswith("weight"):
                value.copy_(noise * 0.15 + (0.0 if around_zero else 1.0))
            elif value.ndim < 2 or name.endswith("bias"):
                value.copy_(noise * 0.08)
            else:
                value.copy_(noise * (0.05 + 0.05 * float(torch.rand(1, generator=draw))))
                if float(torch.rand(1, generator=draw)) < 0.125:
                    at = torch.randint(0, value.numel(), (max(1, value.numel() // 4096),), generator=draw)
                    value.view(-1)[at] *= 6


def beside(folder: Path, tokenizer: Any) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|pad|>",
        "model_max_length": 512, "chat_template": TEMPLATE,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": "<|end|>", "pad_token": "<|pad|>"}, indent=1) + "\n"
    )
    generation = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "eos_token_id": 0, "pad_token_id": 1}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
