"""Small models with something to lose: dense, MoE, MLA and hybrid, trained for minutes on Python's own standard library.

    PTQ_PYTHON bench/small_models.py OUT [--only dense,moe,mla,hybrid] [--seconds 120] [--threads 1]

Runs in the `ptq` tool environment (`pao tools list` says where its Python is). Each model lands in OUT/NAME with its recipe;
one that is there already is kept, one half-made is begun again. A model with random weights answers at random, and rounding
it changes noise into other noise; after a minute or two these predict the next token well enough for a format's cost to show.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VOCAB, LENGTH, BATCH, SEED = 2048, 256, 8, 1
TEXT_BYTES = 12_000_000
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 64, "max_position_embeddings": 2048, "tie_word_embeddings": False, "bos_token_id": None, "pad_token_id": None,
    "eos_token_id": 0,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"moe_intermediate_size": 128, "num_experts_per_tok": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("qwen3", {"intermediate_size": 768}),
    "moe": ("qwen3_moe", {
        **EXPERTS, "num_experts": 16, "intermediate_size": 512, "norm_topk_prob": True, "output_router_logits": True,
        "router_aux_loss_coef": 0.5,
    }),
    "mla": ("deepseek_v3", {
        **EXPERTS, "n_routed_experts": 8, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1,
        "intermediate_size": 512, "num_key_value_heads": 4, "q_lora_rank": 128, "kv_lora_rank": 128, "qk_rope_head_dim": 32,
        "qk_nope_head_dim": 32, "v_head_dim": 64, "head_dim": 32,
    }),
    "hybrid": ("qwen3_next", {
        **EXPERTS, "num_experts": 8, "intermediate_size": 512, "shared_expert_intermediate_size": 128, "norm_topk_prob": True,
        "output_router_logits": True, "router_aux_loss_coef": 0.5,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
    }),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, each")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    import torch

    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    text = list(library())
    tokenizer = tokenizer_in(asked.out, text)
    for name in asked.only.split(","):
        if (asked.out / name / "recipe.json").exists():
            print(f"{name}: there already", flush=True)
        else:
            train(name, asked.out, tokenizer, text, asked.seconds)


def library() -> Iterator[str]:
    """Files of the standard library in a fixed order, some megabytes of them."""
    taken, root = 0, Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        if "site-packages" in file.parts or "test" in file.parts or taken > TEXT_BYTES:
            continue
        text = file.read_text(encoding="utf-8", errors="ignore")
        taken += len(text)
        yield text


def tokenizer_in(out: Path, text: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    kept = out / "tokenizer.json"
    if kept.exists():
        return Tokenizer.from_file(str(kept))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text[:300], trainer)
    tokenizer.save(str(kept))
    return tokenizer


def train(name: str, out: Path, tokenizer: Any, text: list[str], seconds: float) -> None:
    """AdamW with a warm-up and a cosine down to the end of the time; the loss of the last steps goes into the recipe."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(SEED)
    kind, shape = MODELS[name]
    config = AutoConfig.for_model(kind, **{**COMMON, **shape})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    tokens = torch.tensor([i for part in tokenizer.encode_batch(text) for i in [*part.ids, 0]])
    adam = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95))
    balance = keep_balanced(model)
    began, losses = time.monotonic(), []
    while (spent := time.monotonic() - began) < seconds:
        share = spent / seconds
        for group in adam.param_groups:
            group["lr"] = 2e-3 * min(1.0, (len(losses) + 1) / 50) * (1 - 0.95 * share)
        at = torch.randint(0, len(tokens) - LENGTH - 1, (BATCH,))
        rows = torch.stack([tokens[i : i + LENGTH] for i in at])
        loss = model(input_ids=rows, labels=rows).loss
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        balance()
        losses.append(float(loss.detach()))
        if len(losses) % 50 == 0:
            print(
                f"{name}: step {len(losses)}, loss {sum(losses[-50:]) / 50:.3f}, {seconds - spent:.0f} s left",
                flush=True,
            )
    save(
        name,
        out,
        model,
        {"model_type": kind, "steps": len(losses), "loss": sum(losses[-50:]) / len(losses[-50:]), "seconds": seconds},
    )


def keep_balanced(model: Any) -> Any:
    """For routers with a correction and no loss of their own (DeepSeek's): after each step, up for an expert with few tokens,
    down for one with many. Without it most experts never see a token, and the guard says so."""
    import torch

    seen: dict[Any, Any] = {}
    gates = {m.experts: m.gate for m in model.modules() if hasattr(getattr(m, "gate", None), "e_score_correction_bias")}

    def count(module: Any, args: tuple[Any, ...]) -> None:
        size = gates[module].e_score_correction_bias.numel()
        seen[module] = torch.bincount(args[1].flatten(), minlength=size)[:size].float()

    for experts in gates:
        experts.register_forward_pre_hook(count)

    def step() -> None:
        for experts, counts in seen.items():
            gates[experts].e_score_correction_bias += 0.02 * torch.sign(counts.mean() - counts)

    return step


def save(name: str, out: Path, model: Any, recipe: dict[str, Any]) -> None:
    import torch

    half = out / f".{name}.half"
    shutil.rmtree(half, ignore_errors=True)
    model.config.architectures = [type(model).__name__]
    if getattr(model.config, "output_router_logits", None):
        model.config.output_router_logits = False
    model.to(torch.bfloat16).eval().save_pretrained(half)
    shutil.copy(out / "tokenizer.json", half)
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "model_max_length": 2048}
    (half / "tokenizer_config.json").write_text(json.dumps(told))
    recipe["parameters"] = sum(p.numel() for p in model.parameters())
    (half / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
    shutil.rmtree(out / name, ignore_errors=True)
    half.rename(out / name)
    print(f"{name}: {recipe}", flush=True)


if __name__ == "__main__":
    main()
