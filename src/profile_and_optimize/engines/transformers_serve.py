"""`transformers serve`: the model library's own server, the fallback where nothing faster installs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.engines.base import Command, Counters, Fields, Server, ServeSpec
from profile_and_optimize.engines.installed import Installed, thread_settings, threads_seen
from profile_and_optimize.engines.process import why_lost
from profile_and_optimize.engines.prometheus import scrape
from profile_and_optimize.toolenv.find import ToolEnv

FLAGS = ("--continuous-batching", "--attn-implementation", "sdpa")
# By default its cache and the masks over it take nine tenths of the machine's memory, and what else runs there dies of it.
CPU_BYTES = 4 << 30
CPU_BATCH_TOKENS = 2048
# It refuses `ignore_eos`, and takes a whole generation config instead, which replaces the model's own. No token has this
# number, so none ends an answer.
IGNORE_EOS: Fields = (("generation_config", json.dumps({"eos_token_id": -1})),)


class TransformersEngine:
    """`env` is the tool environment or the user's own Python. It serves a model under the name that it was loaded by."""

    name = "transformers"
    tool = "transformers"
    restarts = True

    def __init__(self, env: ToolEnv) -> None:
        self.env = env
        self.installed = Installed(env, "transformers")

    def version(self) -> dict[str, str]:
        return {"engine_version": self.env.version("transformers") or ""}

    def flags(self) -> frozenset[str] | None:
        return self.installed.flags

    @property
    def is_cpu(self) -> bool:
        return self.env.is_cpu

    def command(self, spec: ServeSpec) -> Command:
        model = _folder(not_an_option(spec.model, "model"))
        argv = (
            str(self.env.python), "-m", "transformers.cli.transformers", "serve", model, "--host", "127.0.0.1", "--port", str(spec.port),
            *FLAGS, *(cpu_flags(_memory_bytes()) if self.is_cpu else ()), *spec.common_flags, *spec.arm.flags,
        )  # fmt: skip
        threads = thread_settings(spec) if self.is_cpu else ()
        return Command(argv, (*self.installed.settings(model), *threads, *spec.common_env, *spec.arm.env))

    def start(self, spec: ServeSpec) -> Server:
        return self.installed.start(self.command(spec), spec, model=spec.model, ignore_eos=IGNORE_EOS)

    def observed(self, server: Server) -> dict[str, str]:
        """It tells nothing of how it runs: what its processes show."""
        return {"served_model": server.model, **(threads_seen(server.pid) if self.is_cpu else {})}

    def counters(self, server: Server) -> Counters:
        """It keeps none."""
        return scrape(server.url)

    def lost(self, server: Server) -> str:
        return why_lost(server.process, f"{server.url}/health", server.log)

    def stop(self, server: Server) -> None:
        server.process.stop()


def cpu_flags(memory_bytes: int) -> tuple[str, ...]:
    """It sizes its cache by a share of the memory that there is."""
    share = min(0.5, CPU_BYTES / memory_bytes)
    return (
        "--device",
        "cpu",
        "--cb-max-batch-tokens",
        str(CPU_BATCH_TOKENS),
        "--cb-max-memory-percent",
        f"{share:.4f}",
    )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _folder(model: str) -> str:
    """A folder was looked at (`ops.model`). Of a model on a hub it would take pickles where it finds nothing else, and no
    option of it forbids that."""
    if not Path(model).is_dir():
        raise WrongUse(
            f"transformers serve cannot be limited to safetensors, and {model} is not a folder",
            next="download the model and give its folder",
        )
    return model
