"""vLLM, driven as `vllm serve` of its own tool environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.settings import Settings
from profile_and_optimize.engines.base import Command, Counters, Server, ServeSpec
from profile_and_optimize.engines.formats import NVFP4, W4A16_NVFP4, format_of
from profile_and_optimize.engines.installed import Installed, safe_weights
from profile_and_optimize.engines.process import why_lost
from profile_and_optimize.engines.prometheus import scrape
from profile_and_optimize.toolenv import plugin
from profile_and_optimize.toolenv.find import ToolEnv

# The compiled graph that 0.32.0 saves ahead of time does not load again on CPU ("'function' object has no attribute
# 'finalize_loading'") and every start compiles afresh (86 s instead of 33 s at 120M parameters); the older cache works.
CPU_ENV = (("VLLM_USE_AOT_COMPILE", "0"), ("VLLM_NO_USAGE_STATS", "1"), ("VLLM_CPU_KVCACHE_SPACE", "2"))
# Formats that a CPU serves through our plugin alone.
EMULATED = (NVFP4, W4A16_NVFP4)


class VllmEngine:
    """`env` is the tool environment or the user's own Python."""

    name = "vllm"
    tool = "vllm"
    restarts = True

    def __init__(self, env: ToolEnv) -> None:
        self.env = env
        self.installed = Installed(env, "vllm")

    def version(self) -> dict[str, str]:
        return {"engine_version": self.env.version("vllm") or ""}

    def flags(self) -> frozenset[str] | None:
        return self.installed.flags

    def command(self, spec: ServeSpec) -> Command:
        model = not_an_option(spec.model, "model")
        argv = (
            str(self.env.python), "-m", "vllm.entrypoints.cli.main", "serve", model, "--host", "127.0.0.1", "--port", str(spec.port),
            "--served-model-name", spec.served_name, *spec.common_flags, *spec.arm.flags, *safe_weights(spec),
        )  # fmt: skip
        cpu = CPU_ENV if self.is_cpu else ()
        given = (*spec.common_env, *spec.arm.env)
        return Command(argv, (*self.installed.settings(model), *cpu, *given, *self._plugin(model, dict(given))))

    def _plugin(self, model: str, given: Mapping[str, str]) -> Settings:
        """For an NVFP4 checkpoint on a CPU, which has no kernel for it, the plugin that gives it one. No other server gets
        it: what is served without stays a release."""
        if not self.is_cpu or format_of(model) not in EMULATED:
            return ()
        paths = (str(plugin.folder_of(plugin.VLLM_NVFP4_CPU)), given.get("PYTHONPATH", ""))
        return (("PYTHONPATH", ":".join(filter(None, paths))),)

    @property
    def is_cpu(self) -> bool:
        return "cpu" in (self.env.version("vllm") or "") or self.env.version("vllm-cpu") is not None

    def start(self, spec: ServeSpec) -> Server:
        return self.installed.start(self.command(spec), spec, model=spec.served_name)

    def observed(self, server: Server) -> dict[str, str]:
        """From the engine's own log: the configuration it says it runs with."""
        text = server.log.read_text(errors="replace") if server.log and server.log.exists() else ""
        return {"served_model": server.model, **observed_from_log(text)}

    def counters(self, server: Server) -> Counters:
        return scrape(server.url)

    def lost(self, server: Server) -> str:
        return why_lost(server.process, f"{server.url}/health", server.log)

    def stop(self, server: Server) -> None:
        server.process.stop()


_CONFIG = {
    "dtype": r"\bdtype=torch\.(\w+)", "max_model_len": r"\bmax_seq_len=(\d+)", "tp": r"\btensor_parallel_size=(\d+)",
    "pp": r"\bpipeline_parallel_size=(\d+)", "dp": r"\bdata_parallel_size=(\d+)", "quantization": r"\bquantization=(\w+)",
    "kv_cache_dtype": r"\bkv_cache_dtype=(\w+)", "enforce_eager": r"\benforce_eager=(\w+)",
    "prefix_caching": r"\benable_prefix_caching=(\w+)", "cuda_graph_mode": r"'cudagraph_mode': <CUDAGraphMode\.(\w+)",
    "thread_binding": r"core ids=\[([\d, ]+)\]", "max_num_batched_tokens": r"max_num_batched_tokens=(\d+)",
    "max_num_seqs": r"'max_num_seqs': (\d+)",
    "attention_backend": r"Using (\w+) attention backend",
}  # fmt: skip


def observed_from_log(text: str) -> dict[str, str]:
    """Context fields that vLLM's start-up log names; what it does not name is left out."""
    found = {name: re.search(pattern, text) for name, pattern in _CONFIG.items()}
    seen = {name: hit.group(1) for name, hit in found.items() if hit}
    # One compute thread per core that it binds (CPU builds).
    return seen | ({"torch_threads": str(len(seen["thread_binding"].split(",")))} if "thread_binding" in seen else {})
