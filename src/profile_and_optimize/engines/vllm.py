"""vLLM, driven as `vllm serve` of its own tool environment."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.settings import options
from profile_and_optimize.engines.base import Command, Counters, Server, ServeSpec
from profile_and_optimize.engines.process import Managed, require_free, server_env, wait_ready
from profile_and_optimize.engines.prometheus import scrape
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.flags import flags_of
from profile_and_optimize.toolenv.provenance import Inspector, as_locked

# The compiled graph that 0.32.0 saves ahead of time does not load again on CPU ("'function' object has no attribute
# 'finalize_loading'") and every start compiles afresh (86 s instead of 33 s at 120M parameters); the older cache works.
CPU_ENV = (("VLLM_USE_AOT_COMPILE", "0"), ("VLLM_NO_USAGE_STATS", "1"), ("VLLM_CPU_KVCACHE_SPACE", "2"))

# A folder called vllm where pao is run, such as a checkout, must not be served instead of the installed package.
SAFE_PATH = (("PYTHONSAFEPATH", "1"),)


class VllmEngine:
    """`env` is the tool environment or the user's own Python."""

    name = "vllm"
    restarts = True

    def __init__(self, env: ToolEnv) -> None:
        self.env = env

    def version(self) -> dict[str, str]:
        return {"engine_version": self.env.version("vllm") or ""}

    def source(self, command: Command) -> dict[str, str]:
        """Where the code comes from that this command would run, looked at now."""
        found = self._inspector.look(server_env(command, os.environ))
        return as_locked(found, self.env).context()

    @cached_property
    def _inspector(self) -> Inspector:
        return Inspector(self.env.python, "vllm")

    @cached_property
    def _flags(self) -> frozenset[str]:
        return flags_of(self.env)

    def flags(self) -> frozenset[str] | None:
        return self._flags

    def command(self, spec: ServeSpec) -> Command:
        model = not_an_option(spec.model, "model")
        argv = (
            str(self.env.python), "-m", "vllm.entrypoints.cli.main", "serve", model, "--host", "127.0.0.1", "--port", str(spec.port),
            "--served-model-name", spec.served_name, *spec.common_flags, *spec.arm.flags, *_safe_weights(spec),
        )  # fmt: skip
        offline = (("HF_HUB_OFFLINE", "1"),) if Path(model).is_dir() else ()
        cpu = CPU_ENV if self.is_cpu else ()
        return Command(
            argv,
            (
                ("PATH", f"{self.env.bin_dir}:/usr/local/bin:/usr/bin:/bin"),
                *SAFE_PATH,
                *cpu,
                *offline,
                *spec.common_env,
                *spec.arm.env,
            ),
        )

    @property
    def is_cpu(self) -> bool:
        return "cpu" in (self.env.version("vllm") or "") or self.env.version("vllm-cpu") is not None

    def start(self, spec: ServeSpec) -> Server:
        require_free(spec.port)
        url = f"http://127.0.0.1:{spec.port}"
        command = self.command(spec)
        source = self.source(command)
        managed = Managed(command, spec.log, spec.cores)
        start_s = wait_ready(managed, f"{url}/health", spec.log, spec.start_timeout_s)
        return Server(
            url=url, model=spec.served_name, start_s=start_s, log=spec.log, pid=managed.pid, source=source, process=managed
        )  # fmt: skip

    def observed(self, server: Server) -> dict[str, str]:
        """From the engine's own log: the configuration it says it runs with."""
        text = server.log.read_text(errors="replace") if server.log and server.log.exists() else ""
        return {"served_model": server.model, **observed_from_log(text)}

    def counters(self, server: Server) -> Counters:
        return scrape(server.url)

    def stop(self, server: Server) -> None:
        server.process.stop()


_CONFIG = {
    "dtype": r"\bdtype=torch\.(\w+)", "max_model_len": r"\bmax_seq_len=(\d+)", "tp": r"\btensor_parallel_size=(\d+)",
    "pp": r"\bpipeline_parallel_size=(\d+)", "dp": r"\bdata_parallel_size=(\d+)", "quantization": r"\bquantization=(\w+)",
    "kv_cache_dtype": r"\bkv_cache_dtype=(\w+)", "enforce_eager": r"\benforce_eager=(\w+)",
    "prefix_caching": r"\benable_prefix_caching=(\w+)", "cuda_graph_mode": r"'cudagraph_mode': <CUDAGraphMode\.(\w+)",
    "thread_binding": r"core ids=\[([\d, ]+)\]", "max_num_batched_tokens": r"max_num_batched_tokens=(\d+)",
    "max_num_seqs": r"'max_num_seqs': (\d+)",
}  # fmt: skip


def observed_from_log(text: str) -> dict[str, str]:
    """Context fields that vLLM's start-up log names; what it does not name is left out."""
    found = {name: re.search(pattern, text) for name, pattern in _CONFIG.items()}
    return {name: hit.group(1) for name, hit in found.items() if hit}


def _safe_weights(spec: ServeSpec) -> tuple[str, ...]:
    """A folder was looked at (`ops.model`); of a model on a hub, vLLM would take pickles where it finds nothing else."""
    named = [value for name, value in options((*spec.common_flags, *spec.arm.flags)) if name == "--load-format"]
    chosen = named and named[-1].lower() not in ("auto", "hf")
    return () if chosen or Path(spec.model).is_dir() else ("--load-format", "safetensors")


def require_vllm(env: ToolEnv | None) -> ToolEnv:
    """Raises WrongUse with the command that installs it."""
    if env is None:
        raise WrongUse("vLLM is not installed", next="pao tools install vllm, or pass --python PATH")
    return env
