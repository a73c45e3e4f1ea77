"""SGLang, driven as `sglang.launch_server` of its own tool environment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.settings import Settings
from profile_and_optimize.engines.base import Command, Counters, Server, ServeSpec
from profile_and_optimize.engines.calls import get
from profile_and_optimize.engines.installed import Installed, safe_weights, thread_settings, threads_seen
from profile_and_optimize.engines.process import why_lost
from profile_and_optimize.engines.prometheus import scrape
from profile_and_optimize.toolenv.find import ToolEnv

# Its own kernels have no build for CPUs on PyPI: attention of torch, and no scheduling beside the step that runs.
CPU_FLAGS = ("--device", "cpu", "--attention-backend", "torch_native", "--disable-overlap-schedule")
# By default it takes most of the machine's memory for its KV cache; vLLM's CPU build is given as much as this.
CPU_KV_BYTES = 2 << 30
CPU_KV_TOKENS = 16_384
# Its health check would send a request of its own and take a second over it; it still says 503 until it is warm.
ENV = (("SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION", "0"),)


class SglangEngine:
    """`env` is the tool environment or the user's own Python."""

    name = "sglang"
    tool = "sglang"
    restarts = True

    def __init__(self, env: ToolEnv) -> None:
        self.env = env
        self.installed = Installed(env, "sglang")

    def version(self) -> dict[str, str]:
        return {"engine_version": self.env.version("sglang") or ""}

    def flags(self) -> frozenset[str] | None:
        return self.installed.flags

    @property
    def is_cpu(self) -> bool:
        return self.env.is_cpu

    def command(self, spec: ServeSpec) -> Command:
        model = not_an_option(spec.model, "model")
        argv = (
            str(self.env.python), "-m", "sglang.launch_server", "--model-path", model, "--host", "127.0.0.1", "--port", str(spec.port),
            "--served-model-name", spec.served_name, "--enable-metrics", *self._device_flags(model), *spec.common_flags,
            *spec.arm.flags, *safe_weights(spec),
        )  # fmt: skip
        fixed = (*self.installed.settings(model), *ENV, *self._device_settings(spec))
        return Command(argv, (*fixed, *spec.common_env, *spec.arm.env))

    def _device_flags(self, model: str) -> tuple[str, ...]:
        return (*CPU_FLAGS, "--max-total-tokens", str(kv_tokens(model))) if self.is_cpu else ()

    def _device_settings(self, spec: ServeSpec) -> Settings:
        return (("SGLANG_USE_CPU_ENGINE", "1"), *thread_settings(spec)) if self.is_cpu else ()

    def start(self, spec: ServeSpec) -> Server:
        return self.installed.start(self.command(spec), spec, model=spec.served_name)

    def observed(self, server: Server) -> dict[str, str]:
        """From the server's own answer on how it runs, and from its processes."""
        log = server.log.read_text(errors="replace") if server.log and server.log.exists() else ""
        seen = observed_from_info(_asked(server, "/server_info"), log) | _longest(_asked(server, "/v1/models"))
        threads = threads_seen(server.pid) if self.is_cpu else {}
        return {"served_model": server.model, **seen, **threads}

    def counters(self, server: Server) -> Counters:
        return scrape(server.url)

    def lost(self, server: Server) -> str:
        return why_lost(server.process, f"{server.url}/health", server.log)

    def stop(self, server: Server) -> None:
        server.process.stop()


def kv_tokens(model: str) -> int:
    """Tokens that CPU_KV_BYTES hold at two bytes a number; CPU_KV_TOKENS for a model whose shape is not in a folder here."""
    try:
        config = json.loads((Path(model) / "config.json").read_text())
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return max(1, CPU_KV_BYTES // (2 * 2 * config["num_hidden_layers"] * heads * head_dim))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return CPU_KV_TOKENS


# Context field to the name in /server_info.
_INFO = {
    "dtype": "dtype", "tp": "tp_size", "dp": "dp_size", "pp": "pp_size", "ep": "ep_size", "quantization": "quantization",
    "kv_cache_dtype": "kv_cache_dtype", "max_num_batched_tokens": "chunked_prefill_size", "memory_fraction": "mem_fraction_static",
    "attention_backend": "attention_backend",
}  # fmt: skip
# Context field to the name of the switch that turns it off.
_OFF = {"prefix_caching": "disable_radix_cache", "async_scheduling": "disable_overlap_schedule"}
_MOST_RUNNING = "effective_max_running_requests_per_dp"
_KV_DTYPE = re.compile(r"KV Cache is allocated\. dtype: torch\.(\w+)")


def observed_from_info(info: Mapping[str, Any], log: str = "") -> dict[str, str]:
    """Context fields that /server_info names; what it does not name is left out. Words as vLLM's log has them.

    It says "auto" of a dtype that it took from the weights. The cache has the same where it is "auto" too, and the log
    names that one; else what the dtype is stays unknown.
    """
    found = {field: str(info[name]) for field, name in _INFO.items() if name in info}
    if found.get("dtype") == "auto":
        kv = _KV_DTYPE.search(log) if info.get("kv_cache_dtype") == "auto" else None
        found = {k: v for k, v in found.items() if k != "dtype"} | ({"dtype": kv.group(1)} if kv else {})
    off = {field: str(not info[name]) for field, name in _OFF.items() if isinstance(info.get(name), bool)}
    return found | off | _most_running(info)


def _most_running(info: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {"max_num_seqs": str(int(info["internal_states"][0][_MOST_RUNNING]))}
    except (LookupError, TypeError, ValueError):
        return {}


def _longest(models: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {"max_model_len": str(int(models["data"][0]["max_model_len"]))}
    except (LookupError, TypeError, ValueError):
        return {}


def _asked(server: Server, path: str) -> dict[str, Any]:
    try:
        answer = get(server.url + path)
        found = answer.json() if answer.status == 200 else {}
    except (Unreachable, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
