"""What the mock is asked to be: its command line, as one frozen value."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

ROLE_CHUNKS = ("none", "first", "zero")


@dataclass(frozen=True, slots=True)
class Options:
    """Times in milliseconds or seconds as named; `*_every` = N means every Nth request by arrival, 0 never.

    `noise` is the sd of the log of one factor per request that multiplies ttft and itl; `drift` is what that
    factor grows by with each request (0.001: the 100th request is 10% slower). `slots` = 0 serves all at once.
    `stall_at` counts seconds from the first request.
    """

    port: int = 0
    host: str = "127.0.0.1"
    ttft_ms: float = 50.0
    itl_ms: float = 10.0
    osl: int = 64
    tokens_per_chunk: int = 1
    role_chunk: str = "none"
    error_every: int = 0
    cut_every: int = 0
    abort_every: int = 0
    one_packet: bool = False
    noise: float = 0.0
    seed: int = 0
    stall_at: float = 0.0
    stall_for: float = 0.0
    model: str = "mock"
    no_usage: bool = False
    garbage: bool = False
    slots: int = 0
    drift: float = 0.0
    stamps: Path | None = None
    answers: Path | None = None

    def __post_init__(self) -> None:
        if self.role_chunk not in ROLE_CHUNKS:
            raise ValueError(f"role_chunk {self.role_chunk!r}: one of {', '.join(ROLE_CHUNKS)}")
        if self.osl < 1 or self.tokens_per_chunk < 1:
            raise ValueError("osl and tokens_per_chunk must be at least 1")
        if min(self.ttft_ms, self.itl_ms, self.noise, self.stall_at, self.stall_for) < 0:
            raise ValueError("times and noise may not be negative")
        if min(self.error_every, self.cut_every, self.abort_every, self.slots) < 0 or not 0 <= self.port < 65536:
            raise ValueError("error_every, cut_every, abort_every, slots and port may not be negative")


HELP = {
    "port": "0 picks a free one; the address is printed",
    "ttft_ms": "time to first token in ms; from when the request was read (or got its slot)",
    "itl_ms": "gap between chunks (the ITL), from absolute deadlines",
    "osl": "output length in tokens; for a request that names no max_tokens",
    "tokens_per_chunk": "tokens in every chunk; chunks stay one itl apart",
    "role_chunk": "first: an empty role chunk right before the first token; zero: one at once, at t=0",
    "error_every": "every Nth request is answered HTTP 500",
    "cut_every": "every Nth stream is closed half way",
    "abort_every": "every Nth answer ends half way with finish reason abort, its usage and [DONE], as a dying engine's does",
    "one_packet": "every answer comes whole, in one packet, at the time of its last token",
    "noise": "sd of a log-normal factor per request on ttft and itl",
    "seed": "random seed; of the garbage and the noise, where 0 draws new noise at every start",
    "stall_at": "seconds after the first request at which the engine freezes once: nothing is sent, nothing begun",
    "stall_for": "how long it stays frozen, in seconds; then everything resumes where it stopped",
    "model": "the one model it serves; another name is a 404",
    "no_usage": "never report usage",
    "garbage": "answer streams with random bytes",
    "slots": "most requests served at once, others queue; 0: no limit",
    "drift": "growth of each next request's ttft and itl, as a share",
    "stamps": "keep actual send times; GET /stamps returns them and writes this file, GET /stamps/reset forgets them",
    "answers": "JSON lines of question and answer: a chat whose last user message is a question gets its answer",
    "host": "address to bind",
}


def parse(argv: list[str] | None = None) -> Options:
    """Options from the command line. Each field of `Options` is a flag; argparse exits 2 on wrong use."""
    parser = argparse.ArgumentParser(prog="python -m profile_and_optimize.engines.mock.server", description=__doc__)
    for each in fields(Options):
        _add(parser, each.name, each.default)
    try:
        return Options(**vars(parser.parse_args(argv)))
    except ValueError as error:
        parser.error(str(error))


def _add(parser: argparse.ArgumentParser, name: str, default: object) -> None:
    flag = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        parser.add_argument(flag, action="store_true", help=HELP[name])
    elif default is None:
        parser.add_argument(flag, type=Path, help=HELP[name])
    else:
        choices = ROLE_CHUNKS if name == "role_chunk" else None
        parser.add_argument(flag, type=type(default), default=default, choices=choices, help=HELP[name])
