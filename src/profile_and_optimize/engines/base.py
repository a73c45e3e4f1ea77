"""What an engine is, and the values that pass between it and a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.code_settings import NOTHING, Allowance, bring_code, refuse_code
from profile_and_optimize.core.errors import BrokeMidway, WrongUse


class EngineFailed(BrokeMidway):
    """A server did not start or died; the message is the worker's own error, not the wrapper's."""

    code = "engine_failed"


class ServerLost(EngineFailed):
    """A server that was ready died, or answers no longer, and we did not stop it."""


@dataclass(frozen=True, slots=True)
class ServeSpec:
    """One server to start: the arm over the campaign's common flags and environment, bound to `cores`.

    Every start of a server and every command that is shown passes here, so settings that bring code and are not in
    `allow_code` end here at the latest: WrongUse.
    """

    arm: Arm
    model: str
    served_name: str
    port: int
    log: Path
    common_flags: tuple[str, ...] = ()
    common_env: tuple[tuple[str, str], ...] = ()
    cores: tuple[int, ...] = ()
    start_timeout_s: float = 600.0
    allow_code: Allowance = NOTHING

    def __post_init__(self) -> None:
        shared = bring_code(self.common_flags, self.common_env, self.arm.id)
        refuse_code((*shared, *bring_code(self.arm.flags, self.arm.env, self.arm.id)), self.allow_code)


@dataclass(frozen=True, slots=True)
class Command:
    """An argument list and the environment settings laid over the captured ones. Never a shell."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


Fields = tuple[tuple[str, str | int | bool], ...]
# Fields of a request that make an answer go on to its asked length: those of vLLM, SGLang and most others.
IGNORE_EOS: Fields = (("ignore_eos", True),)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answered its ready check. `start_s` is from launch to ready; `process` is the engine's own handle.

    `pid` is the root of its process tree, None where we did not start it: without it nobody can tell the server's work
    from that of others. `source` are context fields on where its code came from, as seen right before this start.
    """

    url: str
    model: str
    start_s: float
    log: Path | None = None
    pid: int | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    ignore_eos: Fields = IGNORE_EOS
    process: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Counters:
    """The server's own histogram sums and counters at one moment, by metric name; empty when it has none."""

    values: Mapping[str, float]

    def since(self, before: Counters) -> dict[str, float]:
        """The change of what was read both times; a failed reading leaves it unknown, a counter that fell was restarted."""
        return {k: v - before.values[k] for k, v in self.values.items() if k in before.values and v >= before.values[k]}


class Engine(Protocol):
    """`name` is the word in a config; `restarts` is False where we start and stop nothing (an endpoint of others)."""

    @property
    def name(self) -> str: ...

    @property
    def restarts(self) -> bool: ...

    def version(self) -> dict[str, str]:
        """Engine version, source commit, delivery, lock digest: what is known."""
        ...

    def flags(self) -> frozenset[str] | None:
        """Long options of the installed version, or None where they cannot be read."""
        ...

    def command(self, spec: ServeSpec) -> Command: ...

    def start(self, spec: ServeSpec) -> Server:
        """Start and wait until ready. Raises EngineFailed with the real error; leaves nothing running then."""
        ...

    def observed(self, server: Server) -> dict[str, str]:
        """Context fields as seen on the running server."""
        ...

    def counters(self, server: Server) -> Counters: ...

    def lost(self, server: Server) -> str:
        """Why a server that was ready serves no longer; "" while it does. Never on a timed path."""
        ...

    def stop(self, server: Server) -> None:
        """Stop the whole process group; returns when nothing of it runs."""
        ...


def refuse_unknown_flags(engine: Engine, flags: tuple[str, ...], where: str) -> None:
    """Raise WrongUse naming every option the installed engine lacks, before anything is started."""
    known = engine.flags()
    if known is None:
        return
    names = [f.split("=", 1)[0] for f in flags if f.startswith("--")]
    lacking = [n for n in names if n not in known and n.replace("_", "-") not in known]
    if lacking:
        version = engine.version().get("engine_version", "?")
        raise WrongUse(
            f"{engine.name} {version} has no option {', '.join(lacking)}", where=where, next="correct the config"
        )
