"""What the engines of tool environments have in common: flags, provenance, settings, cores and threads, start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from profile_and_optimize.core.settings import Settings, options
from profile_and_optimize.engines.base import IGNORE_EOS, Command, Fields, Server, ServeSpec
from profile_and_optimize.engines.process import Managed, require_free, server_env, wait_ready
from profile_and_optimize.engines.reaper import descendants
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.flags import flags_of
from profile_and_optimize.toolenv.provenance import Inspector, as_locked

# Read by torch and by the libraries under it when a process starts.
THREADS = "OMP_NUM_THREADS"
_THREAD_SETTINGS = (THREADS, "MKL_NUM_THREADS")


class Installed:
    """An engine as it lies in a tool environment; `module` is the package that holds its code."""

    def __init__(self, env: ToolEnv, module: str) -> None:
        self.env, self.module = env, module

    @cached_property
    def flags(self) -> frozenset[str]:
        return flags_of(self.env)

    @cached_property
    def _inspector(self) -> Inspector:
        return Inspector(self.env.python, self.module)

    def source(self, command: Command) -> dict[str, str]:
        """Where the code comes from that this command would run, looked at now."""
        return as_locked(self._inspector.look(server_env(command, os.environ)), self.env).context()

    def settings(self, model: str) -> Settings:
        """Environment settings of every start: the environment's own commands, no package of the current folder, no hub."""
        # A folder called like the engine where pao is run, such as a checkout, must not be served in its place.
        fixed = (("PATH", f"{self.env.bin_dir}:/usr/local/bin:/usr/bin:/bin"), ("PYTHONSAFEPATH", "1"))
        return (*fixed, ("HF_HUB_OFFLINE", "1")) if Path(model).is_dir() else fixed

    def start(self, command: Command, spec: ServeSpec, *, model: str, ignore_eos: Fields = IGNORE_EOS) -> Server:
        """Start and wait until /health answers. Raises WrongUse for a port in use, EngineFailed with the engine's own error."""
        require_free(spec.port)
        url = f"http://127.0.0.1:{spec.port}"
        source = self.source(command)
        managed = Managed(command, spec.log, spec.cores)
        start_s = wait_ready(managed, f"{url}/health", spec.log, spec.start_timeout_s)
        return Server(
            url=url, model=model, start_s=start_s, log=spec.log, pid=managed.pid, source=source, ignore_eos=ignore_eos,
            process=managed,
        )  # fmt: skip


def thread_settings(spec: ServeSpec) -> Settings:
    """A compute thread on every core but one, which vLLM too leaves to its API server: said, and not left to a library's
    guess, so that engines compute on equally many. An arm may say otherwise."""
    count = str(max(1, len(spec.cores) - 1))
    return tuple((name, count) for name in _THREAD_SETTINGS) if spec.cores else ()


def safe_weights(spec: ServeSpec) -> tuple[str, ...]:
    """A folder was looked at (`ops.model`); of a model on a hub, an engine would take pickles where it finds nothing else."""
    named = [value for name, value in options((*spec.common_flags, *spec.arm.flags)) if name == "--load-format"]
    chosen = named and named[-1].lower() not in ("auto", "hf")
    return () if chosen or Path(spec.model).is_dir() else ("--load-format", "safetensors")


def threads_seen(root: int | None) -> dict[str, str]:
    """Context fields on the processes below `root`: the number of compute threads they were told, and the cores they may
    use. What they do not agree on, or Linux does not show, is left out."""
    below = descendants(root) if root is not None else []
    told, cores = set(_told(below)), set(_allowed(below))
    found = {"torch_threads": told.pop()} if len(told) == 1 else {}
    return found | ({"thread_binding": cores.pop()} if len(cores) == 1 else {})


def _told(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        for setting in _text(pid, "environ").split("\0"):
            if setting.startswith(f"{THREADS}="):
                yield setting.partition("=")[2]


def _allowed(pids: list[int]) -> Iterator[str]:
    """Written as "0, 1", the way vLLM's log does."""
    for pid in pids:
        for line in _text(pid, "status").splitlines():
            if line.startswith("Cpus_allowed_list:"):
                yield ", ".join(str(core) for core in _cores(line.split()[1]))


def _cores(text: str) -> Iterator[int]:
    """ "0-2,5" as 0, 1, 2, 5."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
