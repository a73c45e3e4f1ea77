"""What is asked of a server: a workload, the load it runs at, and how a point of a campaign is named."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import checked_id

RANDOM = "random"
KINDS = (RANDOM, "prompts", "text", "conversations", "multi-turn", "shared-prefix")
# Made of conversations: the data's own lengths, where `isl` and `osl` are the most that is taken.
TALKS = ("conversations", "multi-turn")
# Prompts begin alike by nature; that must be declared, or a prefix cache would be measured unawares.
ALIKE = ("multi-turn", "shared-prefix")
# Data of the package itself, and data sets that the package knows where to get.
OWN, HUB = "own:", "hub:"
APIS = ("chat", "completions")
MOST_TOKENS = 10_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of `isl` tokens asking for `osl`. `dataset` is "random", "own:NAME", "hub:NAME" or a file's path.

    `kind` says what prompts are made of (see KINDS; "" takes random text, or the lines of a file of prompts). With
    `isl_least` or `osl_least` lengths are drawn evenly from there up to `isl` or `osl`; those of conversations are the
    data's own, up to `isl` and `osl`. `warm` declares that prompts may repeat within a server session, `prefixes` that
    they begin alike and none repeats; otherwise neither happens. `shared` tokens of a shared-prefix prompt are one of
    `groups` prefixes; `turns` is the most turns of one multi-turn conversation. `file` and `sha256` are where the data
    of a data set was found and what it was, "" before anybody looked.
    """

    name: str
    isl: int
    osl: int
    dataset: str = RANDOM
    api: str = "chat"
    warm: bool = False
    kind: str = ""
    isl_least: int = 0
    osl_least: int = 0
    prefixes: bool = False
    shared: int = 0
    groups: int = 1
    turns: int = 0
    file: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        checked_id(self.name, "workload")
        if not self.kind:
            object.__setattr__(self, "kind", RANDOM if self.dataset == RANDOM else "prompts")
        for wrong in (self._wrong_lengths(), self._wrong_kind(), self._wrong_source()):
            if wrong:
                raise WrongUse(f"workload {self.name}: {wrong}")

    def _wrong_lengths(self) -> str:
        if self.isl < 1 or self.osl < 1:
            return f"isl {self.isl} and osl {self.osl} must be at least 1"
        if max(self.isl, self.osl) > MOST_TOKENS:
            return f"isl {self.isl} and osl {self.osl} must not be above {MOST_TOKENS}"
        if not 0 <= self.isl_least <= self.isl or not 0 <= self.osl_least <= self.osl:
            return f"isl_least {self.isl_least} and osl_least {self.osl_least} must not be above isl and osl"
        if self.kind in (*TALKS, "prompts") and (self.isl_least or (self.osl_least and self.kind in TALKS)):
            return "its data has its own lengths; leave out isl_least and osl_least"
        return ""

    def _wrong_kind(self) -> str:
        if self.kind not in KINDS:
            return f"kind {self.kind!r} is not one of {', '.join(KINDS)}"
        if self.api not in APIS:
            return f"api {self.api!r} is not chat or completions"
        if self.kind in ALIKE and not self.repeats:
            return f"{self.kind} prompts begin alike; declare it with cache: prefixes"
        if (self.kind == "shared-prefix") != (self.shared > 0) or self.shared >= self.isl or self.groups < 1:
            return "a shared-prefix workload, and no other, has 1 to isl - 1 shared tokens, and at least one group"
        if (self.kind == "multi-turn") != (self.turns > 1) or not 0 <= self.turns <= 64:
            return "a multi-turn workload, and no other, has 2 to 64 turns"
        return ""

    def _wrong_source(self) -> str:
        if (self.kind in (RANDOM, "shared-prefix")) != (self.dataset == RANDOM) or not self.dataset:
            return f"dataset {self.dataset!r} does not fit kind {self.kind}"
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            return "its sha256 is not a digest"
        return ""

    @property
    def repeats(self) -> bool:
        """May a prefix cache find more than the chat template?"""
        return self.warm or self.prefixes

    @property
    def from_file(self) -> bool:
        """Are its prompts taken from a file, and not made from a seed alone?"""
        return self.dataset != RANDOM and not self.dataset.startswith(OWN)

    @property
    def one_osl(self) -> bool:
        """Does every request ask for the same number of tokens?"""
        return not self.osl_least and self.kind not in TALKS

    @property
    def cache_mode(self) -> str:
        if self.warm:
            return "warm"
        return "prefixes repeat (no prompt does)" if self.prefixes else "cold (no prompt repeats in a session)"

    @property
    def source(self) -> str:
        """Where its text comes from, in words, without the place on this machine."""
        if self.dataset == RANDOM:
            return "random words"
        if self.dataset.startswith(OWN):
            return f"the package's own {self.dataset.removeprefix(OWN)}"
        name = self.dataset if self.dataset.startswith(HUB) else self.dataset.rsplit("/", 1)[-1]
        return f"{name} (sha256 {self.sha256[:12]})" if self.sha256 else name

    @property
    def lengths(self) -> str:
        """In words: "ISL 64 and OSL 64 tokens asked"."""
        if self.kind in TALKS:
            return f"ISL up to {self.isl} and OSL up to {self.osl} tokens, as in the data"
        isl = f"{self.isl_least} to {self.isl}" if self.isl_least else str(self.isl)
        osl = f"{self.osl_least} to {self.osl}" if self.osl_least else str(self.osl)
        return f"ISL {isl} and OSL {osl} tokens asked"

    @property
    def asked(self) -> str:
        """As a trial's context keeps it: everything that must be equal for two numbers to be compared."""
        base = f"{self.name} {self.dataset} isl={self.isl} osl={self.osl} {self.api}"
        plain = {"name", "isl", "osl", "dataset", "api", "warm", "file"}
        more = [(f.name, getattr(self, f.name), f.default) for f in fields(self) if f.name not in plain]
        if self.kind in (RANDOM, "prompts"):
            more = [m for m in more if m[0] != "kind"]
        return base + "".join(f" {name}={value}" for name, value, default in more if value != default)


WARMUP_SLOTS = 8
# Fewer would not tell whether the server kept up (see `stats.open_load`).
LEAST_OPEN = 20


@dataclass(frozen=True, slots=True)
class Point:
    """One workload at one load, over `requests` requests: a closed loop with `concurrency` slots.

    With a `request_rate`, in requests per second, it is an open loop with Poisson arrivals, and `concurrency` is the
    number of slots of the warm-up before it.
    """

    workload: Workload
    concurrency: int
    requests: int
    request_rate: float | None = None

    def __post_init__(self) -> None:
        if self.request_rate is not None:
            self._check_open(self.request_rate)
        elif self.concurrency < 1 or self.requests < 2 * self.concurrency:
            raise WrongUse(
                f"{self.workload.name}: {self.requests} requests at concurrency {self.concurrency}; at least "
                f"{2 * max(1, self.concurrency)} are needed, or ramp and drain dominate the throughput"
            )

    def _check_open(self, rate: float) -> None:
        if not 0 < rate <= 1e5:
            raise WrongUse(f"{self.workload.name}: request rate must be above 0, got {rate:g}")
        if self.requests < LEAST_OPEN or self.concurrency < 1:
            raise WrongUse(f"{self.workload.name}: {self.requests} requests in an open loop; at least {LEAST_OPEN}")

    @property
    def key(self) -> str:
        return point_key(self.workload.name, self.concurrency, self.request_rate)

    @property
    def load(self) -> str:
        """In words, as a trial's context keeps it."""
        if self.request_rate is None:
            return f"closed loop, concurrency {self.concurrency}, {self.requests} requests"
        return f"open loop, poisson {self.request_rate:g} req/s, {self.requests} requests"


def point_key(workload: str, concurrency: int | None, request_rate: float | None) -> str:
    """`chat.c8` for eight slots, `chat.r4` for four requests a second."""
    return f"{workload}.c{concurrency}" if request_rate is None else f"{workload}.r{request_rate:g}"


def point_from_json(data: dict[str, Any]) -> Point:
    """The inverse of `asdict`. A plan from before open loops has no rate, one from before the kinds has none of theirs."""
    return Point(Workload(**data["workload"]), data["concurrency"], data["requests"], data.get("request_rate"))
