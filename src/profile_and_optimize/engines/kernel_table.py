"""The words by which engines name their kernels in their logs, as data (`kernel_messages.toml`): checked when it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

# `some_layers` is where the engine says what it does and not where.
SOME = "some_layers"
GROUPS = ("quantization", "linear", "experts", "attention", "kv_cache", "lm_head", SOME)


@dataclass(frozen=True, slots=True)
class Releases:
    """Releases of one engine, from the first to before the last."""

    engine: str
    first: str
    below: str

    def hold(self, engine: str, version: str) -> bool:
        """Is this release among them? One whose number cannot be read is not."""
        at = number(version)
        first, below = number(self.first), number(self.below)
        return (
            self.engine == engine and at is not None and first is not None and below is not None and first <= at < below
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where the start of a server begins and ends in its log."""

    releases: Releases
    begins: re.Pattern[str]
    ready: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Message:
    """Words that name a kernel of a group; `kernel` where they hold no name, "" where the pattern's group is the name or,
    for a fallback, where none is said."""

    releases: Releases
    group: str
    says: re.Pattern[str]
    kernel: str = ""
    fallback: bool = False
    alias: tuple[tuple[re.Pattern[str], str], ...] = ()

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"no group of layers {self.group!r}: {', '.join(GROUPS)}")
        if bool(self.says.groups) == bool(self.kernel) and not self.fallback:
            raise ValueError(f"{self.says.pattern!r}: a message has one group, or a kernel of its own")

    def named(self, line: str) -> str | None:
        """The kernel that this line names, "" for a fallback that names none, None where these words are not in it."""
        hit = self.says.search(line)
        if hit is None:
            return None
        name = self.kernel or (hit.group(1) if self.says.groups else "")
        return next((other for pattern, other in self.alias if pattern.search(name)), name)


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernels that one value of a flag asks for."""

    engine: str
    group: str
    flag: str
    value: str
    kernels: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Table:
    bounds: tuple[Bounds, ...]
    messages: tuple[Message, ...]
    choices: tuple[Choice, ...]
    widens: tuple[tuple[str, re.Pattern[str]], ...]


@cache
def table() -> Table:
    told = tomllib.loads((files("profile_and_optimize.engines") / "kernel_messages.toml").read_text())
    return Table(
        tuple(Bounds(_releases(x), re.compile(x["begins"]), re.compile(x["ready"])) for x in told["log"]),
        tuple(_message(x) for x in told["message"]),
        tuple(
            Choice(x["engine"], x["group"], x["flag"], value, re.compile(kernels))
            for x in told["backend"]
            for value, kernels in x["kernels"].items()
        ),
        tuple((x["says"], re.compile(x["kernels"])) for x in told["dequantizes"]),
    )


def widens_by(kernel: str) -> str | None:
    """What dequantizes the weights in this kernel, in words; None for one that is not known to."""
    return next((says for says, kernels in table().widens if kernels.search(kernel)), None)


def number(version: str) -> tuple[int, ...] | None:
    """ "0.32.0+cpu" as (0, 32, 0); None where it does not begin with numbers and a dot."""
    hit = re.match(r"\d+(?:\.\d+)+", version)
    return tuple(int(part) for part in hit.group().split(".")) if hit else None


def _releases(x: Mapping[str, Any]) -> Releases:
    return Releases(x["engine"], x["from"], x["below"])


def _message(x: Mapping[str, Any]) -> Message:
    alias = tuple((re.compile(pattern), name) for pattern, name in x.get("alias", ()))
    return Message(
        _releases(x), x["group"], re.compile(x["says"]), x.get("kernel", ""), bool(x.get("fallback", False)), alias
    )
