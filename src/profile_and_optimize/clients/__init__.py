"""Clients: a load in, records out. Each implementation is a file; this is the table of built-ins."""

BUILT_IN = {
    "stream": "profile_and_optimize.clients.stream:StreamClient",
    "vllm-bench": "profile_and_optimize.clients.vllm_bench:VllmBenchClient",
    "aiperf": "profile_and_optimize.clients.aiperf:AiperfClient",
    "guidellm": "profile_and_optimize.clients.guidellm:GuidellmClient",
}
