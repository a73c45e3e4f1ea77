"""What a client is: it takes a load and prompts, and gives back what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from profile_and_optimize.core.records import ClientRun

APIS = ("chat", "completions")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One closed-loop run: `concurrency` slots work through `prompts` once, in order.

    `prompts[i]` is the text of request i. `url` is the server's root, without /v1.
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

    def __post_init__(self) -> None:
        if self.api not in APIS:
            raise ValueError(f"api {self.api!r}: one of {', '.join(APIS)}")
        if self.concurrency < 1 or not self.prompts or self.osl < 1:
            raise ValueError("concurrency, number of prompts and osl must be at least 1")


class Client(Protocol):
    name: str
    version: str

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        """Run the load to its end. Raises BrokeMidway when the client itself fails, Unreachable when no connection opens."""
        ...
