"""What a client is: it takes a load and prompts, and gives back what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from profile_and_optimize.clients.arrivals import Schedule
from profile_and_optimize.core.records import CLOSED, ClientRun
from profile_and_optimize.engines.base import IGNORE_EOS, Fields

APIS = ("chat", "completions")
# What an open loop may open at most. Not a setting: a lower one would hold requests back and hide their queueing.
MOST_CONNECTIONS = 16_384


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One run over `prompts`, each sent once. `prompts[i]` is the text of request i. `url` is the server's root, without /v1.

    Without a `schedule` a closed loop: `concurrency` slots work through the prompts in order. With one an open loop:
    request i is sent at its time whatever became of the others; `concurrency` is then the most connections it may open,
    and `connections` how many it opens before t0 (0: from the rate alone). `osls[i]`, where given, replaces `osl`.
    With `ignore_eos`, `ignore_eos_fields` go into the request; they differ from server to server.
    """

    url: str
    model: str
    api: str
    prompts: tuple[str, ...]
    osl: int
    concurrency: int
    ignore_eos: bool = True
    temperature: float = 0.0
    timeout_s: float = 600.0
    headers: tuple[tuple[str, str], ...] = ()
    keep_raw_every: int = 50
    cores: tuple[int, ...] = ()
    fifo: bool = True
    schedule: Schedule | None = None
    connections: int = 0
    osls: tuple[int, ...] = ()
    ignore_eos_fields: Fields = IGNORE_EOS

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise ValueError(f"api {self.api!r}: one of {', '.join(APIS)}")
        if self.concurrency < 1 or not self.prompts or self.osl < 1:
            raise ValueError("concurrency, number of prompts and osl must be at least 1")
        if self.schedule is not None and len(self.schedule.at_ns) != len(self.prompts):
            raise ValueError(f"{len(self.schedule.at_ns)} times for {len(self.prompts)} prompts")
        if self.osls and (len(self.osls) != len(self.prompts) or min(self.osls) < 1):
            raise ValueError("one osl per prompt, each at least 1")

    def max_tokens(self, index: int) -> int:
        """Of request `index`."""
        return self.osls[index] if self.osls else self.osl

    @property
    def arrival(self) -> str:
        return self.schedule.arrival if self.schedule else CLOSED

    @property
    def request_rate(self) -> float | None:
        return self.schedule.request_rate if self.schedule else None


class Client(Protocol):
    name: str
    version: str

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        """Run the load to its end. Raises BrokeMidway when the client itself fails, Unreachable when no connection opens."""
        ...
