"""Options of engines that bring code, as data: by name, by value, by the keys of a JSON value, and how to tell an unlisted one.

Judged option by option from the help and the sources of vLLM 0.32 and SGLang 0.5.23; `plain_flags` holds the others of both.
Names are without leading dashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from profile_and_optimize.core.names import word_set


def _by_name(groups: Mapping[str, str]) -> dict[str, str]:
    return {name: why for why, names in groups.items() for name in names.split()}


REMOTE = "trust-remote-code"

# Why, and the options that this holds for whatever their value.
CODE_FLAGS: Mapping[str, str] = _by_name({
    "runs the Python that a model's folder brings": "trust-remote-code trust-request-mm-kwargs code-revision",
    "imports a Python file or a class by its name":
        "tool-parser-plugin reasoning-parser-plugin io-processor-plugin middleware logits-processors worker-extension-cls "
        "scheduler-cls model-class-overrides custom-weight-loader forward-hooks model-config-parser warmups dllm-algorithm "
        "radix-cache-backend ec-manager-config unified-cache-external-linker-backend",
    "its keys can name a class, a module or a library to load":
        "additional-config model-loader-extra-config hf-overrides json-model-override-args logging-config log-config-file "
        "hicache-storage-backend-extra-config unified-cache-external-linker-config lmcache-config-file flexkv-config-file "
        "modelexpress-config msprobe-dump-config weight-transfer-config quantization-config",
    "starts a program or lets answers run one": "sidecar sidecar-args tool-server",
    "runs functions that come with a request": "enable-custom-logit-processor",
    "unpickles or loads tensors that somebody else sends or left in a file":
        "enable-prompt-embeds enable-mm-embeds weight-cache-socket modelopt-checkpoint-restore-path init-expert-location "
        "speculative-token-map decoupled-spec-bind-endpoint decoupled-spec-connect-endpoints encoder-urls "
        "encoder-register-urls "
        "load-publish-endpoint remote-instance-weight-loader-backend remote-instance-weight-loader-seed-instance-ip "
        "remote-instance-weight-loader-seed-instance-service-port remote-instance-weight-loader-send-weights-group-ports "
        "remote-instance-weight-loader-start-seed-via-transfer-engine",
    "is a template that is executed for every request": "chat-template completion-template trust-request-chat-template",
    "takes the model's configuration, tokenizer or weights from another place":
        "hf-config-path tokenizer tokenizer-path download-dir decrypted-config-file decrypted-draft-config-file "
        "pdmux-config-path "
        "dllm-algorithm-config debug-tensor-dump-input-file kt-weight-path",
    "lets requests read files of this machine": "allowed-local-media-path",
    "reads a key or a certificate from a path": "ssl-keyfile ssl-certfile ssl-ca-certs",
    "sends what the server sees to another address": "otlp-traces-endpoint otlp-headers",
})  # fmt: skip

# Options that hold a credential: refused, and so is what argparse would take for one of them.
CREDENTIAL_FLAGS = word_set("api-key admin-api-key hf-token ssl-keyfile-password")

_LOOPBACK = r"(?:(?:tcp|http|https)://)?(?:127\.0\.0\.1|localhost|\[?::1\]?|0)(?::\d+)?"
_PEER = "peers at that address send pickled messages, which are loaded"
# Options whose value decides: the values (a pattern) that bring nothing, and why another one may.
VALUE_FLAGS: Mapping[str, tuple[re.Pattern[str], str]] = {
    name: (re.compile(pattern), why)
    for names, pattern, why in (
        (
            "load-format speculative-draft-load-format",
            "auto|hf|safetensors|dummy|gguf|bitsandbytes|mistral|sharded_state|presharded|fastsafetensors|instanttensor|"
            "runai_streamer|runai_streamer_sharded|layered|expert_pack|tensorizer",
            "loads weights by code that the engine does not have itself, or from elsewhere",
        ),
        ("distributed-executor-backend", "ray|mp|uni|external_launcher", "imports a class by its name"),
        ("worker-cls", "auto", "imports a class by its name"),
        (
            "model-impl",
            "auto|vllm|sglang|transformers|terratorch|mindspore",
            "a value that the engine does not define",
        ),
        (
            "hicache-storage-backend",
            "file|sim|mooncake|npu_memcache|hf3fs|nixl|aibrix|eic|simm|mori|shm|tensorcast|seaweedfs",
            "imports a class by its name",
        ),
        ("generation-config", "auto|vllm", "takes the model's configuration from another place"),
        ("master-addr data-parallel-address dist-init-addr nccl-init-addr", _LOOPBACK, _PEER),
    )
    for name in names.split()
}

# Options with a JSON value whose listed keys bring nothing; one with another key is of the class.
_TRANSFER = "engine_id kv_buffer_device kv_role kv_port kv_rank kv_parallel_size kv_ip kv_buffer_size kv_connector"
KEYED_FLAGS: Mapping[str, frozenset[str]] = {name: frozenset(keys.split()) for name, keys in {
    "compilation-config":
        "mode level compile_cache_save_format custom_ops ir_enable_torch_wrap splitting_ops compile_mm_encoder "
        "cudagraph_mm_encoder "
        "compile_sizes compile_ranges_endpoints cudagraph_mode cudagraph_num_of_warmups cudagraph_capture_sizes use_cudagraph "
        "cudagraph_copy_inputs cudagraph_specialize_lora use_inductor use_inductor_graph_partition pass_config full_cuda_graph "
        "max_cudagraph_capture_size dynamic_shapes_config fast_moe_cold_start cudagraph_decoder_replay "
        "encoder_cudagraph_token_budgets "
        "decoder_replay_cudagraph_capture_sizes decoder_replay_trim_threshold",
    "speculative-config":
        "enforce_eager num_speculative_tokens model method draft_tensor_parallel_size tensor_parallel_size "
        "quantization moe_backend "
        "attention_backend kv_cache_dtype max_model_len revision index_share_for_mtp_iteration disable_padded_drafter_batch "
        "disable_eagle_block_drop use_local_argmax_reduction use_heterogeneous_vocab prompt_lookup_max prompt_lookup_min "
        "parallel_drafting num_speculative_tokens_per_batch_size suffix_decoding_max_tree_depth "
        "suffix_decoding_max_cached_requests "
        "suffix_decoding_max_spec_factor suffix_decoding_min_token_prob rejection_sample_method synthetic_acceptance_rates "
        "synthetic_acceptance_length enable_adaptive_verification draft_sample_method dspark_draft_topk speculative_token_tree "
        "disable_by_batch_size",
    "structured-outputs-config":
        "backend disable_any_whitespace disable_additional_properties reasoning_parser enable_in_reasoning disable_fallback",
    "kv-transfer-config": _TRANSFER + " enable_permute_local_kv kv_load_failure_policy",
    "ec-transfer-config": "ec_connector engine_id ec_buffer_device ec_buffer_size ec_role ec_ip ec_port "
    "mm_encoder_output_widths",
    "kv-events-config": "enable_kv_cache_events buffer_steps hwm max_queue_size topic",
    "profiler-config":
        "profiler torch_profiler_dir torch_profiler_activities torch_profiler_with_stack torch_profiler_with_flops "
        "torch_profiler_use_gzip torch_profiler_dump_cuda_time_total torch_profiler_record_shapes torch_profiler_with_memory "
        "ignore_frontend delay_iterations max_iterations warmup_iterations active_iterations wait_iterations",
}.items()}  # fmt: skip

# Short options of vLLM, and names that argparse knows beside the listed one.
SHORT = {
    "sc": "speculative-config", "cc": "compilation-config", "ac": "attention-config", "dc": "diffusion-config",
    "O": "optimization-level", "q": "quantization", "dpa": "data-parallel-address", "m": "model",
}  # fmt: skip

# An option, or a key of a JSON value, that no table has: of the class where its name ends, or one of its words is, like this.
_ENDS = "plugin plugins cls class classes hook hooks module modules module-path script scripts cmd command middleware "
"middlewares"
ENDS = tuple(
    f"-{end}" for end in (_ENDS + " processor processors loader loaders executable entrypoint factory").split()
)
WORDS = word_set("plugin plugins exec eval import pickle insecure unsafe remote-code")
# Keys that name what is imported or called, in whatever option.
CODE_KEYS = word_set(
    "() cls class class-name factory target auto-map module module-path qualname import-path inductor-compile-config "
    "inductor-passes "
    "trust-remote-code remote-code code-revision custom-class"
)
# Methods and backends that stand for somebody's own class.
CODE_VALUES = frozenset(("custom_class", "dynamic"))
# A file of code or a library; `package.module:name`, and `package.module.Class`.
_CODE_ENDINGS = r"py[cdowi]?|so(?:\.\d+)*|dylib|dll|pth|sh|bash|ps1|egg|whl|pkl|pickle|jinja2?|j2"
FILE_OF_CODE = re.compile(rf"(?i)(?:^|[\s=,:'\"\[/@])[^\s,'\"]*\.(?:{_CODE_ENDINGS})(?=$|[\s,:'\"\]])")
DOTTED = re.compile(
    r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+:[A-Za-z_]\w*(?:\.\w+)*|(?:[a-z_]\w*\.)+_*[A-Z]\w*[a-z]\w*|(?:[a-z_]\w*\.){2,}[a-z_]\w*"
)
