"""What a campaign needs of the world, handed in: engines, a client, a clock, questions, the host, and who listens."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from profile_and_optimize.campaign.guard import Guard
from profile_and_optimize.clients.base import Client
from profile_and_optimize.core.code_settings import NOTHING, Allowance
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.engines.base import Engine
from profile_and_optimize.stats.client_error import ClientError

if TYPE_CHECKING:
    # Its module brings an HTTP library, which nobody needs who reads a run.
    from profile_and_optimize.engines.smoke import Answer


class Asker(Protocol):
    """One greedy completion, off the timed path; `pinned`: with the sampling that no generation_config decides."""

    def __call__(
        self, url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, pinned: bool = False
    ) -> Answer: ...


@dataclass(frozen=True)
class World:
    """`now` is wall-clock seconds. `host` gives environment context. `say` gets one line of progress at a time.

    `secrets` are credentials of ours in every spelling: no text from outside is written with one of them in it.
    `guard` waits for a quiet machine before a session and watches it during a trial. `client_errors` are the
    calibrations that this machine keeps of the client. `allow_code` is what whoever called allowed to bring code.
    """

    engines: Mapping[str, Engine]
    client: Client
    now: Callable[[], float]
    ask: Asker
    host: Callable[[], dict[str, str]]
    say: Callable[[str], None]
    pick_port: Callable[[], int]
    guard: Guard
    engine_cores: tuple[int, ...] = ()
    client_cores: tuple[int, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    client_errors: tuple[ClientError, ...] = ()
    allow_code: Allowance = NOTHING

    def engine(self, name: str) -> Engine:
        if name not in self.engines:
            raise WrongUse(unknown("engine", name, sorted(self.engines)), next="pao levers --engines ENGINE")
        return self.engines[name]


def host_facts() -> dict[str, str]:
    """Environment fields of this machine; what was not seen is left out, and so unknown."""
    facts = {
        "node": platform.node() or "unknown",
        "cores_total": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    if sys.platform.startswith("linux"):
        facts["memory_total_bytes"] = str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return facts | _devices()


def _devices() -> dict[str, str]:
    """The accelerator if its driver shows one, else that this is a CPU node. Other vendors' nodes are seen as unknown."""
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    if gpus:
        models = sorted(
            {
                line.split(":", 1)[1].strip()
                for g in gpus
                for line in g.read_text().splitlines()
                if line.startswith("Model:")
            }
        )
        driver = Path("/proc/driver/nvidia/version")
        first = driver.read_text().splitlines()[0].strip() if driver.exists() else "unknown"
        return {
            "hardware": f"gpu:{' + '.join(models)}",
            "gpu_ids": ",".join(g.parent.name for g in gpus),
            "driver": first,
        }
    if not sys.platform.startswith("linux") or any(
        Path(p).exists() for p in ("/dev/kfd", "/dev/nvidiactl", "/dev/accel")
    ):
        return {}
    return {"hardware": f"cpu:{_cpu_model()}", "gpu_ids": "none", "driver": "none (cpu)"}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
