"""Tiny mixtures of experts with random weights, experts 96 wide, for the tests of padding. Runs in the `ptq` tool environment.

python make_mixtures.py TYPE[,TYPE...] OUT     writes OUT/TYPE each

Widths of everything else differ from that of the experts and from each other, so that a wrong axis or key shows; where the shared
experts depend on the experts' width there are two of them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

HIDDEN, EXPERT, DENSE, OWN = 64, 96, 160, 80
COMMON: dict[str, Any] = {
    "vocab_size": 307, "hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "max_position_embeddings": 256, "initializer_range": 0.12, "tie_word_embeddings": False,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": 3,
}  # fmt: skip
MLA = {"num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16,
       "v_head_dim": 16, "head_dim": 16}  # fmt: skip
GROUPED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": EXPERT,
           "intermediate_size": DENSE, "first_k_dense_replace": 1, "n_shared_experts": 2}  # fmt: skip
BY_KEY = {"moe_intermediate_size": EXPERT, "intermediate_size": DENSE, "num_experts": 4, "num_experts_per_tok": 2}
ALONE = {"intermediate_size": EXPERT, "num_experts": 4, "num_experts_per_tok": 2}
LOCAL = {"intermediate_size": EXPERT, "num_local_experts": 4, "num_experts_per_tok": 2}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 16, "linear_value_head_dim": 16,
          "linear_num_key_heads": 2, "linear_num_value_heads": 4}  # fmt: skip
MIXTURES: dict[str, dict[str, Any]] = {
    "deepseek_v2": MLA | GROUPED | {"topk_method": "greedy"}, "deepseek_v3": MLA | GROUPED,
    "glm4_moe": GROUPED, "dots1": GROUPED | {"layer_types": ["full_attention"] * 2}, "solar_open": GROUPED,
    "afmoe": BY_KEY | {"num_shared_experts": 2, "num_dense_layers": 1, "layer_types": ["full_attention"] * 2},
    "ernie4_5_moe": {"moe_intermediate_size": EXPERT, "intermediate_size": DENSE, "moe_num_experts": 4, "moe_k": 2,
                     "moe_num_shared_experts": 2, "moe_layer_start_index": 1},
    "cohere2_moe": ALONE | {"num_shared_experts": 2, "prefix_dense_intermediate_size": DENSE,
                            "mlp_layer_types": ["dense", "sparse"], "layer_types": ["full_attention"] * 2},
    "qwen2_moe": BY_KEY | {"shared_expert_intermediate_size": OWN, "mlp_only_layers": [0]},
    "qwen3_next": BY_KEY | LINEAR | {"shared_expert_intermediate_size": OWN},
    "qwen3_moe": BY_KEY | {"mlp_only_layers": [0]},
    "lfm2_moe": BY_KEY | {"num_dense_layers": 1, "layer_types": ["full_attention"] * 2},
    "nemotron_h": {"num_hidden_layers": None, "layers_block_type": ["moe", "full_attention"], "n_routed_experts": 4,
                   "num_experts_per_tok": 2, "moe_intermediate_size": EXPERT, "intermediate_size": DENSE,
                   "moe_shared_expert_intermediate_size": OWN, "use_mamba_kernels": False},
    "gemma4_text": BY_KEY | {"num_experts_per_tok": None, "top_k_experts": 2, "enable_moe_block": True, "global_head_dim": 16,
                    "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 307, "pad_token_id": 0,
                    "layer_types": ["sliding_attention", "full_attention"]},
    "olmoe": ALONE, "flex_olmo": ALONE, "phimoe": LOCAL, "mixtral": LOCAL, "minimax_m2": LOCAL,
    "minimax": LOCAL | {"layer_types": ["full_attention"] * 2},
    "granitemoe": LOCAL, "granitemoeshared": LOCAL | {"shared_intermediate_size": OWN},
    "hunyuan_v1_moe": ALONE | {"moe_topk": 2},
    "llama4_text": LOCAL | ROPE | {"num_experts_per_tok": 1, "intermediate_size_mlp": DENSE, "interleave_moe_layer_step": 2},
    "gpt_oss": LOCAL | ROPE | {"layer_types": ["full_attention"] * 2},
    "jamba": ALONE | {"attn_layer_period": 1, "attn_layer_offset": 0, "expert_layer_period": 2, "expert_layer_offset": 1,
                      "use_mamba_kernels": False, "tie_word_embeddings": True},
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
NESTED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_vl_moe": ("vision_config", BY_KEY | {"mlp_only_layers": [], "rope_parameters": MROPE}),
    "qwen3_5_moe": ("vision_config", BY_KEY | LINEAR | {"shared_expert_intermediate_size": OWN}),
}  # fmt: skip
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "depth": 1,
    "out_hidden_size": HIDDEN,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}


def build(kind: str, folder: Path) -> None:
    if kind in NESTED:
        vision, text = NESTED[kind]
        values: dict[str, Any] = {"text_config": COMMON | text, vision: VISION, "tie_word_embeddings": False}
        mapping = transformers.AutoModelForImageTextToText
    else:
        values, mapping = COMMON | MIXTURES[kind], transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.for_model(
        kind, **{k: v for k, v in values.items() if v is not None or k.endswith("token_id")}
    )
    torch.manual_seed(7)
    model = mapping.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and not bool(weight.float().std() > 0.01):
                weight.normal_(0, 0.12)
            elif weight.ndim == 1 and name.endswith("bias"):
                weight.normal_(0, 0.05)
    model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    assert written.get("architectures"), kind


if __name__ == "__main__":
    kinds = sys.argv[1].split(",") if sys.argv[1] != "all" else [*MIXTURES, *NESTED]
    for each in kinds:
        try:
            build(each, Path(sys.argv[2]) / each)
            print("made", each, flush=True)
        except Exception as e:
            print("not made", each, f"{type(e).__name__}: {e}"[:300], flush=True)
