"""What the small models of `make_model.py` differ in, for architectures that no test of one family needs: by the library's own name
of the model type. Dense models first, mixtures after; each with what it has that others do not: biases, tied heads, LayerNorm,
fused projections, shared experts, other routers."""

from __future__ import annotations

from typing import Any

HEADS = {"num_key_value_heads": 4}
TIED = {"tie_word_embeddings": True}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 48}
GPT = {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 2048, "n_inner": 256}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 32,
}
INDEXED = {
    "index_topk": 16,
    "index_head_dim": 32,
    "index_n_heads": 4,
    "mlp_layer_types": ["dense", "sparse"],
    "head_dim": 16,
    **ROPE,
}

DENSE: dict[str, dict[str, Any]] = {
    "mistral": {"head_dim": 32},
    "ministral": {"head_dim": 32, **SLIDING},
    "qwen2": {**TIED},
    "qwen3_5_text": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "head_dim": 32,
    },
    "gemma": {"head_dim": 32, **TIED},
    "gemma2": {"head_dim": 32, "query_pre_attn_scalar": 32, **SLIDING, **TIED},
    "gemma3_text": {"head_dim": 32, "query_pre_attn_scalar": 32, **SLIDING, **TIED},
    "phi": {},
    "phi3": {"pad_token_id": 0, "bos_token_id": 0},
    "opt": {"ffn_dim": 256, "word_embed_proj_dim": 128, "pad_token_id": 1, "init_std": 0.09, **TIED},
    "gpt2": {**GPT, **TIED},
    "gpt_bigcode": {**GPT, **TIED},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], **TIED},
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
    "gptj": {**GPT, "rotary_dim": 16},
    "bloom": {"n_layer": 2, "n_head": 4, **TIED},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 256, **TIED},
    "mpt": {"d_model": 128, "n_heads": 4, "n_layers": 2, "max_seq_len": 2048, **TIED},
    "starcoder2": {**TIED},
    "stablelm": {"use_qkv_bias": True, "qk_layernorm": True},
    "olmo": {},
    "olmo2": {},
    "olmo3": {**SLIDING},
    "granite": {"embedding_multiplier": 2.0, "attention_multiplier": 0.1, "logits_scaling": 0.5, **TIED},
    "cohere": {"logit_scale": 1.0, **TIED},
    "cohere2": {"logit_scale": 1.0, "head_dim": 32, **SLIDING, **TIED},
    "nemotron": {"head_dim": 32, "mlp_bias": True},
    "smollm3": {"no_rope_layers": [1, 0], **TIED},
    "exaone4": {"head_dim": 32, **SLIDING},
    "glm4": {"head_dim": 32, "attention_bias": True},
    "ernie4_5": {"head_dim": 32, "use_bias": True, **TIED},
    "seed_oss": {"head_dim": 32, "attention_bias": True},
    "arcee": {"head_dim": 32},
    "apertus": {"head_dim": 32},
    "mamba2": {"num_heads": 8, "head_dim": 32, "state_size": 16, "n_groups": 2, "expand": 2, "rms_norm": True},
}
MIXTURES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**EXPERTS, "moe_intermediate_size": 128, "shared_expert_intermediate_size": 128, **TIED},
    "olmoe": EXPERTS,
    "flex_olmo": EXPERTS,
    "granitemoe": {**LOCAL, **TIED},
    "granitemoeshared": {**LOCAL, "shared_intermediate_size": 128, **TIED},
    "phimoe": {**LOCAL, "lm_head_bias": True, "attention_bias": True},
    "deepseek_v2": {**LATENT, **ROUTED, "topk_method": "greedy"},
    "deepseek_v32": {**LATENT, **ROUTED, **INDEXED},
    "glm_moe_dsa": {**LATENT, **ROUTED, **INDEXED, "indexer_types": ["full", "full"]},
    "glm4_moe_lite": {**LATENT, **ROUTED, "mlp_layer_types": ["dense", "sparse"]},
    "ernie4_5_moe": {
        "moe_num_experts": 4,
        "moe_k": 2,
        "moe_intermediate_size": 128,
        "moe_num_shared_experts": 2,
        "use_bias": True,
        **TIED,
    },
    "dots1": {**ROUTED, "head_dim": 32, **{k: v for k, v in SLIDING.items() if k != "layer_types"}},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2, "head_dim": 32},
    "jetmoe": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "kv_channels": 32,
        "num_key_value_heads": 2,
        "num_attention_heads": 4,
    },
    "lfm2_moe": {
        **EXPERTS,
        "moe_intermediate_size": 128,
        "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention"],
    },
    "jamba": {
        **EXPERTS,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "dbrx": {
        "d_model": 128,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 2048,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 128, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 128},
    },
}
MORE = DENSE | MIXTURES
