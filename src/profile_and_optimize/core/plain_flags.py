"""Options of vLLM 0.32, SGLang 0.5.23 and the other engines that were looked at and bring no code: data. Names without dashes.

An option that is listed here is never taken for the abbreviation of another one. `no-` forms are those of their positive form.
"""

from __future__ import annotations

from profile_and_optimize.core.names import word_set

PLAIN_FLAGS = word_set("""
    abort-on-priority-when-disabled aggregate-engine-logging all2all-backend allow-auto-truncate allow-credentials
    allow-deprecated-quantization allowed-headers allowed-media-domains allowed-methods allowed-origins
    anthropic-disabled-thinking-effort api-server-count asr-max-buffer-seconds asr-max-concurrent-sessions async-scheduling
    attention-backend attention-config attention-context-parallel-size attention-data-parallel-size attn-cp-size attn-dp-size
    aux-output-config base-gpu-id batch-notify-size bf16-gemm-backend block-size boundary-reduction bucket-e2e-request-latency
    bucket-inter-token-latency bucket-time-to-first-token c128-page-size chat-template-content-format
    checkpoint-engine-wait-weights-before-ready chunked-prefill-size cohere-format cohere-is-reasoning-model
    collect-detailed-traces config-format constrained-json-disable-any-whitespace constrained-json-max-whitespace-cnt
    constrained-json-whitespace-pattern context-bucket context-length convert cp-kv-cache-interleave-size cp-strategy
    cpu-distributed-timeout-seconds cpu-offload-gb cpu-offload-params crash-dump-folder cuda-graph-backend-decode
    cuda-graph-backend-prefill cuda-graph-bs-decode cuda-graph-bs-prefill cuda-graph-config cuda-graph-max-bs-decode
    cuda-graph-max-bs-prefill cuda-graph-max-seq-len-prefill cuda-graph-prefill-max-context cudagraph-capture-sizes
    cudagraph-metrics custom-histogram-buckets data-parallel-backend data-parallel-external-lb data-parallel-hybrid-lb
    data-parallel-multi-port-external-lb data-parallel-rank data-parallel-rpc-port data-parallel-size data-parallel-size-local
    data-parallel-start-rank data-parallel-supervisor-port dbo-decode-token-threshold dbo-prefill-token-threshold
    dcp-comm-backend dcp-kv-cache-interleave-size dcp-q-replicate dcp-replicate-q-proj dcp-size debug-cuda-graph
    debug-tensor-dump-layers debug-tensor-dump-output-folder decode-attention-backend decode-context-parallel-size
    decode-log-interval decoupled-spec-rank decoupled-spec-role deepep-config deepep-dispatcher-output-dtype deepep-mode
    deepep-v2-mode default-chat-template-kwargs default-mm-loras default-priority-value delete-ckpt-after-loading
    detokenizer-worker-num device device-ids device-memory-utilization diffusion-config disable-access-log-for-endpoints
    disable-aiter-allreduce-fusion-in-decode disable-aiter-allreduce-fusion-in-prefill disable-attn-tp-gather
    disable-cascade-attn disable-chunked-mm-input disable-chunked-prefix-cache disable-cuda-graph disable-cuda-graph-padding
    disable-custom-all-reduce disable-decode-cuda-graph disable-fast-image-processor disable-fastapi-docs
    disable-flashinfer-autotune disable-flashinfer-cutlass-moe-fp4-allgather disable-hybrid-kv-cache-manager
    disable-hybrid-swa-memory disable-log-stats disable-nccl-for-dp-synchronization disable-outlines-disk-cache
    disable-overlap-schedule disable-prefill-cuda-graph disable-priority-preemption disable-radix-cache
    disable-shared-experts-fusion disable-sliding-window disable-tokenizer-batch-decode disable-uvicorn-access-log
    disaggregation-bootstrap-port disaggregation-decode-allocation-policy disaggregation-decode-enable-offload-kvcache
    disaggregation-decode-enable-radix-cache disaggregation-decode-extra-slots disaggregation-decode-host-receive-threshold
    disaggregation-decode-polling-interval disaggregation-decode-retraction-backup disaggregation-enable-kv-checksum
    disaggregation-ib-device disaggregation-mode disaggregation-transfer-backend dist-timeout distributed-timeout-seconds
    dllm-fdfo dp-size dp-supervisor-probe-failure-threshold dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s
    dp-sync-interval dsa-decode-backend dsa-paged-mqa-logits-backend dsa-prefill-backend dsa-topk-backend dsa-triton-union
    dsv4-attn-backend dsv4-prefill-backend dtype dwdp-size dynamic-batch-tokenizer-batch-size
    dynamic-batch-tokenizer-batch-timeout elastic-ep-backend elastic-ep-initial-size elastic-ep-join-mode
    elastic-ep-join-rank-offset elastic-ep-max-dp-size elastic-ep-scale-timeout enable-adaptive-dispatch-to-encoder
    enable-aiter-allreduce-fusion enable-amd-monokernel enable-attn-tp-input-scattered enable-auto-tool-choice
    enable-batch-sharded-sampling enable-broadcast-mm-inputs-process enable-cache-report enable-chunked-prefill
    enable-cp-decode-attn-tp enable-cudagraph-gc enable-cumem-allocator enable-dbo enable-decoder-swa-bounded-replay
    enable-deepseek-v4-fp4-indexer enable-dense-mlp-attn-tp enable-deterministic-inference enable-dp-attention
    enable-dp-attention-local-control-broadcast enable-dp-lm-head enable-draft-weights-cpu-backup enable-dsa-cache-layer-split
    enable-dsa-fused-indexer enable-dynamic-batch-tokenizer enable-dynamic-chunking enable-elastic-ep
    enable-elastic-expert-backup enable-encoder-swa-bounded-replay enable-ep-weight-filter enable-eplb enable-expert-parallel
    enable-fault-tolerance enable-flash-late-interaction enable-flashinfer-allreduce-fusion enable-flashinfer-autotune
    enable-flexkv enable-force-include-usage enable-forward-pass-metrics enable-fp32-lm-head enable-fused-moe-sum-all-reduce
    enable-fused-qk-norm-rope enable-hc-sp enable-hicache enable-hierarchical-cache enable-hisparse
    enable-http-worker-reuseport enable-http2 enable-int8-mamba-checkpoint enable-kv-cache-sharding enable-layernorm-sp
    enable-layerwise-nvtx-marker enable-layerwise-nvtx-tracing enable-lean-attention enable-linear-replayssm
    enable-linear-replayssm-spec enable-linker-mla-dedup enable-lmcache enable-log-deltas enable-log-outputs
    enable-log-requests enable-logging-iteration-details enable-lora enable-lora-overlap-loading
    enable-mamba-cache-stochastic-rounding enable-mamba-shared-prefix-checkpoint enable-megamoe-for-layernorm-sp
    enable-memory-saver enable-metrics enable-metrics-for-all-schedulers enable-mfu-metrics enable-mis enable-mixed-chunk
    enable-mixed-moe-lora-format enable-mm-global-cache enable-moe-shared-loras enable-mscclpp enable-multi-layer-eagle
    enable-multimodal enable-nccl-comm-suspend enable-nccl-nvls enable-nvidia-megakernel enable-offline-docs enable-p2p-check
    enable-page-major-kv-layout enable-paged-experts enable-pd-role-switch enable-pdmux enable-per-request-metrics
    enable-precise-embedding-interpolation enable-prefill-cp enable-prefill-delayer enable-prefix-caching
    enable-prefix-mm-cache enable-priority-scheduling enable-profile-cuda-graph enable-prompt-tokens-details
    enable-quant-communications enable-request-id-headers enable-request-time-stats-logging enable-response-store
    enable-return-aux-hidden-states enable-return-hidden-states enable-return-indexer-topk enable-return-routed-experts
    enable-scale-out enable-scattered-sconv enable-server-load-tracking enable-session-radix-cache
    enable-shared-experts-attn-tp enable-shm-tensor-arena enable-single-batch-overlap enable-sleep-mode enable-ssl-refresh
    enable-streaming-session enable-strict-thinking enable-symm-mem enable-tf32-matmul enable-tokenizer-batch-encode
    enable-tokenizer-info-endpoint enable-torch-compile enable-torch-compile-debug-mode enable-torch-symm-mem
    enable-tower-connector-lora enable-tp-lm-head-all-to-all enable-trace enable-trace-replay enable-two-batch-overlap
    enable-unified-cache-external-linker enable-unified-memory enable-w4a4-mxfp4-megamoe enable-waterfill enable-watermark
    enable-weights-cpu-backup encoder-bootstrap-port encoder-only encoder-transfer-backend
    enforce-disable-flashinfer-allreduce-fusion enforce-eager enforce-shared-experts-fusion engine-info-bootstrap-port
    engram-config ep ep-dispatch-algorithm ep-num-redundant-experts ep-size eplb-algorithm eplb-config
    eplb-min-rebalancing-utilization-threshold eplb-rebalance-layers-per-chunk eplb-rebalance-num-iterations
    exclude-tools-when-tool-choice-none expert-balancedness-report-mode expert-distribution-recorder-buffer-size
    expert-distribution-recorder-mode expert-parallel-size expert-placement-strategy experts-shared-outer-loras
    export-metrics-to-file export-metrics-to-file-dir extra-metric-labels fail-on-environ-validation fastapi-root-path
    fault-tolerance-config file-storage-path fingerprint-mode fingerprint-value flashinfer-a2a-dispatch-type
    flashinfer-allreduce-fusion-backend flashinfer-autotune-skip-ops flashinfer-mla-disable-ragged
    flashinfer-mxfp4-moe-precision fp4-gemm-backend fp8-gemm-backend fully-sharded-loras fuseep-mode gated-launch-port
    gc-threshold gc-warning-threshold-secs gdn-prefill-backend generation-tokens-buckets gpu-id-step gpu-memory-utilization
    grammar-backend grpc grpc-http-sidecar-port grpc-mode grpc-port grpc-response-timeout-secs h11-max-header-count
    h11-max-incomplete-event-size headless help hf-chat-template-name hicache-host-memory-fraction hicache-host-memory-mode
    hicache-io-backend hicache-mem-layout hicache-ratio hicache-size hicache-storage-prefetch-policy
    hicache-storage-prefetch-retry-max-attempts hicache-storage-prefetch-retry-poll-interval hicache-write-policy
    hierarchical-sparse-attention-extra-config hisparse-config http2-initial-connection-window-size
    http2-max-concurrent-streams ignore-patterns image-processor-backend incremental-streaming-output int8-mamba-ckpt-size
    interleave-mm-strings ir-op-priority is-embedding jit-monitor-mode jit-monitor-verbose kda-decode-backend
    kda-prefill-backend kernel-config kt-cpuinfer kt-max-deferred-experts-per-token kt-method kt-num-gpu-experts
    kt-threadpool-count kv-cache-dtype kv-cache-dtype-skip-layers kv-cache-memory-bytes kv-cache-metrics
    kv-cache-metrics-sample kv-canary kv-canary-real-data kv-canary-sweep-interval kv-offloading-backend kv-offloading-size
    kv-sharing-fast-prefill language-model-only language-only limit-mm-data-per-request limit-mm-per-prompt
    linear-attn-backend linear-attn-decode-backend linear-attn-prefill-backend linear-attn-verify-backend linear-backend
    linear-replayssm-cache-len load-balance-method load-snapshot-publish-interval log-error-stack log-level log-level-http
    log-requests log-requests-format log-requests-level log-requests-target logprobs-mode long-prefill-token-threshold
    long-prefill-token-threshold-adaptive lora-backend lora-drain-wait-threshold lora-dtype lora-eviction-policy lora-modules
    lora-paths lora-strict-loading lora-target-modules lora-use-virtual-experts mamba-backend mamba-block-size
    mamba-cache-dtype mamba-cache-mode mamba-cache-philox-rounds mamba-full-memory-ratio mamba-max-states-per-path
    mamba-radix-cache-strategy mamba-ssm-cache-dtype mamba-ssm-dtype mamba-ssu-algorithm mamba-track-interval master-port
    max-cpu-loras max-cudagraph-capture-size max-ep-size max-loaded-loras max-log-len max-logprobs max-lora-chunk-size
    max-lora-cls-labels max-lora-rank max-loras max-loras-per-batch max-mamba-cache-size max-model-len max-num-active-seqs
    max-num-batched-tokens max-num-queued-reqs max-num-queued-tokens max-num-scheduled-tokens max-num-seqs
    max-parallel-loading-workers max-prefill-tokens max-queued-requests max-running-requests max-total-tokens media-io-kwargs
    media-url-max-file-size-mb mem-fraction-static min-free-slots-delay mlx-enable-sampling mm-attention-backend
    mm-device-do-normalize mm-enable-dp-encoder mm-encoder-attn-backend mm-encoder-attn-dtype mm-encoder-fp8-scale-path
    mm-encoder-fp8-scale-save-margin mm-encoder-fp8-scale-save-path mm-encoder-only mm-encoder-tp-mode mm-feature-transport
    mm-global-cache-backend mm-hasher-algorithm mm-io-worker-num mm-ipc-gpu-memory-gb mm-preprocess-cache-size-mb
    mm-process-config mm-processor-cache-gb mm-processor-cache-type mm-processor-device mm-processor-kwargs
    mm-processor-worker-num mm-shm-cache-max-object-size-mb mm-tensor-ipc model-checksum modelopt-checkpoint-save-path
    modelopt-export-path modelopt-quant moe-a2a-backend moe-backend moe-data-parallel-size moe-dense-tp-size moe-dp-size
    moe-runner-backend monokernel-backend mooncake-ib-device nccl-port nnodes node-rank num-continuous-decode-steps
    num-gpu-blocks-override num-reserved-decode-tokens numa-bind numa-bind-cpus numa-bind-nodes numa-node offload-backend
    offload-group-size offload-mode offload-num-in-group offload-params offload-prefetch-step optimistic-prefill-attempts
    optimization-level otlp-service-name override-generation-config page-size paged-experts-num-resident
    per-request-spec-decode-metrics performance-mode pipeline-parallel-size ple-offload-backend ple-offload-dir
    ple-offload-embedding pooler-config pp-async-batch-depth pp-max-micro-batch-size pp-size pre-warm-nccl
    preferred-sampling-params prefill-attention-backend prefill-context-parallel-size prefill-decode-interval
    prefill-decode-interval-min-bs prefill-delayer-forward-passes-buckets prefill-delayer-max-delay-ms
    prefill-delayer-max-delay-passes prefill-delayer-queue-min-ratio prefill-delayer-token-usage-low-watermark
    prefill-delayer-wait-seconds-buckets prefill-kv-cache-dequant-dtype prefill-max-requests prefill-only-disable-kv-cache
    prefill-schedule-interval prefix-cache-retention-interval prefix-caching-hash-algo prefix-match-unit
    priority-scheduling-preemption-threshold prompt-tokens-buckets pt-load-map-location qsa-indexer-dtype quantization
    quantization-param-path quantize-and-serve radix-eviction-policy radix-eviction-policy-config random-seed
    ray-workers-use-nsight reasoning-config reasoning-parser renderer-num-workers replayssm-buffer-len response-role
    retraction-policy return-aux-hidden-state-layer-ids return-hidden-states-mode return-input-ids return-output-ids
    return-sampling-mask return-tokens-as-token-ids revision rl-on-policy-target rl-quant-profile root-path runner
    safetensors-load-strategy safetensors-prefetch-block-size safetensors-prefetch-num-threads sampling-backend
    sampling-defaults sampling-mask-max-tokens schedule-conservativeness schedule-low-priority-values-first schedule-policy
    scheduler-recv-interval scheduler-reserve-full-isl scheduling-policy seed shared-experts-tp-size
    show-hidden-metrics-for-version show-time-cost shutdown-timeout skip-mm-profiling skip-server-warmup skip-tokenizer-init
    sleep-mode-offload-cudagraph sleep-on-idle sleep-preserve-parameter-names sm-group-num smg-grpc-mode smg-http-sidecar-port
    soft-watchdog-timeout sparse-indexer-topk-backend spec-method spec-model spec-tokens spec-trace-dir specialize-active-lora
    speculative-accept-threshold-acc speculative-accept-threshold-single speculative-adaptive speculative-adaptive-config
    speculative-algorithm speculative-attention-mode speculative-dflash-block-size speculative-domino-candidate-pool-size
    speculative-draft-attention-backend speculative-draft-kv-cache-dtype speculative-draft-model speculative-draft-model-path
    speculative-draft-model-quantization speculative-draft-model-revision speculative-draft-sink-size
    speculative-draft-window-size speculative-dsa-topk-backend speculative-dspark-align-verify-tokens-to-graph-tier
    speculative-dspark-block-size speculative-dspark-confidence-sts-path speculative-dspark-sps-table-path
    speculative-eagle-topk speculative-enable-w4a4-mxfp4-megamoe speculative-moe-a2a-backend speculative-moe-runner-backend
    speculative-ngram-capacity speculative-ngram-external-corpus-max-tokens speculative-ngram-external-corpus-path
    speculative-ngram-external-sam-budget speculative-ngram-match-type speculative-ngram-max-bfs-breadth
    speculative-ngram-max-trie-depth speculative-ngram-min-bfs-breadth speculative-num-draft-tokens speculative-num-steps
    speculative-use-block-verification speculative-use-rejection-sampling sse-keep-alive-interval ssl-cert-reqs ssl-ciphers
    startup-weight-load-mode stream-interval stream-response-default-include-usage strip-thinking-cache swa-bounded-replay
    swa-full-tokens-ratio swa-prefix-tails tbo-token-distribution-threshold tensor-parallel-size tokenizer-backend
    tokenizer-metrics-allowed-custom-labels tokenizer-metrics-custom-labels-header tokenizer-mode tokenizer-revision
    tokenizer-worker-num tokens-only tool-call-parser tool-strict-level torch-compile-max-bs tp-size trace-modules
    triton-attention-num-kv-splits triton-attention-reduce-in-fp32 triton-attention-split-tile-size trust-mm-content-hashes
    ubatch-size uno-lora-path use-fp64-gumbel use-ray use-replayssm use-tqdm-on-load uvicorn-access-log-exclude-prefixes
    uvicorn-log-level video-pruning-method video-pruning-rate watchdog-timeout watermark watermark-config weight-cache-mode
    weight-cache-timeout weight-loader-disable-mmap weight-loader-drop-cache-after-load weight-loader-prefetch-checkpoints
    weight-loader-prefetch-num-threads weight-version
    attn-implementation continuous-batching cb-max-batch-tokens cb-max-memory-percent ttft-ms itl-ms osl tokens-per-chunk role-chunk
    error-every cut-every noise stall-at stall-for no-usage garbage slots drift stamps answers
""")
