"""A recorded load read from a file of JSON lines, and the prompts and times that replay it. See docs/open-loop.md.

Two shapes of a line, and a file may hold both:

    {"timestamp": ms | "timestamp_s": s, "prompt": text | "input_length": n, "output_length": n,
     "session": id, "think_ms": ms, "shared_prefix": {"id": id, "length": n}}
    {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [id, ...]}       as Mooncake publishes them

A hash id stands for a block of tokens whose size is asked for or read from the lines (`hash_blocks`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profile_and_optimize.clients.arrivals import MOST_REQUESTS, Schedule
from profile_and_optimize.clients.hash_blocks import HashedPrompt, block_tokens
from profile_and_optimize.clients.prompts import PromptMaker
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.given import read_given

MOST_TOKENS = 1_048_576  # of one prompt or answer
MOST_PROMPT_CHARS = 8 * MOST_TOKENS
MOST_TOKENS_IN_ALL = 100_000_000  # prompts are made before the clock starts, and held
MOST_TIME = 1e15  # milliseconds: far beyond today's
MOST_SPAN_S = 7 * 86400.0
KEYS = {
    "timestamp", "timestamp_s", "prompt", "input_length", "output_length", "session", "think_ms", "shared_prefix", "hash_ids",
}  # fmt: skip
READ_MORE = "see docs/open-loop.md for the format"


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a trace. `at_ns` counts from the first one; `pieces` are (key, tokens) that its prompt begins with."""

    line: int
    at_ns: int
    osl: int
    isl: int | None
    prompt: str | None
    session: str | None
    think_ns: int
    pieces: tuple[tuple[str, int], ...]
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """The turns in the order of their timestamps. `block_tokens` is what a hash id stands for, None where there is none."""

    where: str
    turns: tuple[Turn, ...]
    block_tokens: int | None = None

    @property
    def span_s(self) -> float:
        return self.turns[-1].at_ns / 1e9

    @property
    def tokens(self) -> int:
        """Of the prompts that are made."""
        return sum(t.isl or 0 for t in self.turns)

    @property
    def sessions(self) -> int:
        return len({t.session for t in self.turns if t.session is not None})

    @property
    def needs_maker(self) -> bool:
        return any(t.prompt is None for t in self.turns)

    @property
    def all_made(self) -> bool:
        return all(t.prompt is None for t in self.turns)

    @property
    def osls(self) -> tuple[int, ...]:
        return tuple(t.osl for t in self.turns)

    def first(self, *, count: int | None, seconds: float | None) -> Trace:
        """Its first turns: at most `count`, none later than `seconds` of the trace's own time."""
        kept = [t for t in self.turns[:count] if seconds is None or t.at_ns <= seconds * 1e9]
        return replace(self, turns=tuple(kept))

    def schedule(self, speed: float) -> Schedule:
        """Times and pauses divided by `speed`. Raises WrongUse when all requests come at once: that is no rate."""
        at = tuple(round(t.at_ns / speed) for t in self.turns)
        if at[-1] == 0:
            raise WrongUse("all its requests have one timestamp", where=self.where, next="--concurrency for a burst")
        rate = (len(at) - 1) / (at[-1] / 1e9)
        if not self.sessions:
            return Schedule("replay", rate, at)
        thinking = tuple(round(t.think_ns / speed) for t in self.turns)
        return Schedule("replay", rate, at, self._after(), thinking)

    def _after(self) -> tuple[int | None, ...]:
        last: dict[str, int] = {}
        found: list[int | None] = []
        for i, turn in enumerate(self.turns):
            found.append(None if turn.session is None else last.get(turn.session))
            if turn.session is not None:
                last[turn.session] = i
        return tuple(found)

    def prompts(self, maker: PromptMaker | None, seed: str) -> tuple[str, ...]:
        """Texts of the asked lengths: what lines share is literally the same text, what they do not is each one's own."""
        return tuple(self._prompt(turn, maker, seed) for turn in self.turns)

    def _prompt(self, turn: Turn, maker: PromptMaker | None, seed: str) -> str:
        if turn.prompt is not None:
            return turn.prompt
        assert maker is not None and turn.isl is not None
        pieces = [(f"{seed}/{key}", tokens) for key, tokens in turn.pieces]
        try:
            return maker.joined(pieces, turn.isl, f"{seed}/line {turn.line}")
        except WrongUse as error:
            raise WrongUse(error.message, where=f"{self.where}:{turn.line}", next=error.next) from None


def read_trace(path: Path, *, blocks_of: int | None = None) -> Trace:
    """`blocks_of` is the size of its hash blocks; None reads it from all the lines.

    Raises WrongUse naming the line and what is wrong with it.
    """
    lines = read_given(path).splitlines()
    turns: list[Turn] = []
    begin: float | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = _fields(line)
            at_s = _time(fields)
            begin = at_s if begin is None else begin
            turns.append(_turn(number, at_s - begin, fields, turns[-1].at_ns if turns else 0))
        except ValueError as e:
            raise WrongUse(str(e), where=f"{path}:{number}", next=READ_MORE) from None
    return _with_blocks(_checked(Trace(str(path), tuple(turns))), blocks_of)


def _with_blocks(trace: Trace, asked: int | None) -> Trace:
    """Each id becomes a piece of text of the block's size; the last one is cut by the prompt's end."""
    hashed = [HashedPrompt(t.line, t.isl or 0, len(t.hash_ids)) for t in trace.turns if t.hash_ids]
    if not hashed:
        if asked is not None:
            raise WrongUse("there are no hash_ids in it", where=trace.where, next="leave out --block-tokens")
        return trace
    size = block_tokens(hashed, asked, trace.where)
    turns = [
        replace(t, pieces=tuple((f"block {i}", size) for i in t.hash_ids)) if t.hash_ids else t for t in trace.turns
    ]
    return replace(trace, turns=tuple(turns), block_tokens=size)


def _checked(trace: Trace) -> Trace:
    if not trace.turns:
        raise WrongUse("no request in it", where=trace.where, next=READ_MORE)
    if len(trace.turns) > MOST_REQUESTS:
        raise WrongUse(f"more than {MOST_REQUESTS} requests", where=trace.where, next="cut the file")
    return trace


def check_size(trace: Trace) -> None:
    """Of what is taken from it. Raises WrongUse when the prompts would not fit in memory."""
    if trace.tokens > MOST_TOKENS_IN_ALL:
        told = f"{trace.tokens} prompt tokens; at most {MOST_TOKENS_IN_ALL} in one run"
        raise WrongUse(told, where=trace.where, next="--requests N takes the first N")


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    unknown = sorted(set(fields) - KEYS)
    if unknown:
        raise ValueError(f"unknown key {unknown[0][:40]!r}; there are {', '.join(sorted(KEYS))}")
    return fields


def _time(fields: Mapping[str, Any]) -> float:
    """Seconds. `timestamp` is always milliseconds, so that no file is replayed a thousand times too fast by a guess."""
    if ("timestamp" in fields) == ("timestamp_s" in fields):
        raise ValueError("one of timestamp (milliseconds) and timestamp_s (seconds)")
    return _number(fields, "timestamp") / 1e3 if "timestamp" in fields else _number(fields, "timestamp_s")


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields[name]
    # Compared before it is turned into a float: JSON has whole numbers that are none, and NaN compares as False.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < MOST_TIME:
        raise ValueError(f"{name} is {_shown(value)}, not a time from 0 on")
    return float(value)


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_TOKENS:
        raise ValueError(f"{name} is {_shown(value)}, not a number of tokens from 1 to {MOST_TOKENS}")
    return value


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:40]


def _turn(line: int, at_s: float, fields: dict[str, Any], before_ns: int) -> Turn:
    at_ns = round(at_s * 1e9)
    if at_ns < before_ns:
        raise ValueError("its timestamp is before that of the line above")
    if at_s > MOST_SPAN_S:
        raise ValueError(f"{at_s / 86400:.1f} days after the first request; at most {MOST_SPAN_S / 86400:.0f}")
    prompt = _prompt(fields)
    isl = None if prompt is not None else _count(fields, "input_length")
    think = _number(fields, "think_ms") if "think_ms" in fields else 0.0
    if think > MOST_SPAN_S * 1e3:
        raise ValueError(f"think_ms is {_shown(think)}: more than {MOST_SPAN_S / 86400:.0f} days")
    session = _id(fields, "session") if "session" in fields else None
    pieces, ids = _shared(fields, isl)
    return Turn(line, at_ns, _count(fields, "output_length"), isl, prompt, session, round(think * 1e6), pieces, ids)


def _prompt(fields: Mapping[str, Any]) -> str | None:
    if ("prompt" in fields) == ("input_length" in fields):
        raise ValueError("one of prompt (text) and input_length (tokens)")
    prompt = fields.get("prompt")
    if "prompt" not in fields:
        return None
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MOST_PROMPT_CHARS:
        raise ValueError(f"prompt is not text of 1 to {MOST_PROMPT_CHARS} characters")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise ValueError("prompt holds half a surrogate pair, which is not valid text")
    return prompt


def _id(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "" or len(str(value)) > 200:
        raise ValueError(f"{name} is {_shown(value)}, not a name or a number")
    return str(value)


def _shared(fields: Mapping[str, Any], isl: int | None) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...]]:
    """(pieces, hash ids): what a line shares with others. The size of an id is known only from all lines."""
    given = [name for name in ("shared_prefix", "hash_ids") if name in fields]
    if not given:
        return (), ()
    if isl is None or len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: one of them at a time, and with input_length")
    if given == ["shared_prefix"]:
        return _prefix(fields["shared_prefix"], isl), ()
    return (), _ids(fields["hash_ids"], isl)


def _prefix(value: object, isl: int) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, dict) or set(value) != {"id", "length"}:
        raise ValueError('shared_prefix is {"id": id, "length": tokens}')
    length = _count(value, "length")
    if length > isl:
        raise ValueError(f"a shared prefix of {length} tokens in a prompt of {isl}")
    return ((f"prefix {_id(value, 'id')}", length),)


def _ids(value: object, isl: int) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(i, int) and not isinstance(i, bool) for i in value)
    ):
        raise ValueError("hash_ids is not a list of whole numbers")
    if len(value) > isl:
        raise ValueError(f"{len(value)} hash_ids in a prompt of {isl} tokens")
    return tuple(value)
