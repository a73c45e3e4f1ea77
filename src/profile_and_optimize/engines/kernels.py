"""Which kernels were asked for and which a server says it runs, a group of layers at a time, from the log that was kept.

Nothing is guessed: words of a release that the table does not know, a log without the whole start of the server, and two
names for one group are UNKNOWN, each with why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from profile_and_optimize.core.settings import options
from profile_and_optimize.engines.formats import FP8, INT8, NVFP4, UNKNOWN
from profile_and_optimize.engines.formats import NONE as NONE
from profile_and_optimize.engines.kernel_table import SOME as SOME
from profile_and_optimize.engines.kernel_table import Bounds, Message, table, widens_by

OWN_CHOICE = "the engine's own choice"
# Where a log that was kept lacks its middle.
CUT = "[pao: cut here:"
# Formats whose recipe rounds activations too: a kernel that widens the weights gives up the arithmetic they were made for.
BOTH_SIDES = (NVFP4, FP8, INT8, "mxfp4", "mxfp8")
# Shown only where the engine says something of them, or was asked for it.
_SHOWN_ALWAYS = ("quantization", "linear", "attention", "kv_cache", "lm_head")
_FLAGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "vllm": {"linear": ("--linear-backend",), "experts": ("--moe-backend",), "attention": ("--attention-backend",),
             "kv_cache": ("--kv-cache-dtype",), "quantization": ("--quantization",)},
    "sglang": {"linear": ("--fp4-gemm-backend", "--fp8-gemm-backend"), "experts": ("--moe-runner-backend",),
               "attention": ("--attention-backend",), "kv_cache": ("--kv-cache-dtype",), "quantization": ("--quantization",)},
}  # fmt: skip
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
LONGEST_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides which kernels a server should run. `form` is the checkpoint's, one of engines.formats."""

    engine: str
    version: str
    form: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """One log as it was kept: its path in the run, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: where it is, its number from 1, and its words, the longest ones cut."""

    log: str
    number: int
    says: str

    @property
    def place(self) -> str:
        return f"{self.log}:{self.number}"


@dataclass(frozen=True, slots=True)
class Layers:
    """One group of layers. `observed` is UNKNOWN with `why`, or what every log that was kept names. `fell_back` is the line in
    which the engine reports that it did not do what was asked."""

    group: str
    asked: str
    observed: str
    why: str = ""
    line: Line | None = None
    fell_back: Line | None = None

    def __post_init__(self) -> None:
        if (self.observed == UNKNOWN) != bool(self.why):
            raise ValueError(f"{self.group}: a kernel is named by a line, or unknown with the reason")
        if self.observed != UNKNOWN and self.line is None:
            raise ValueError(f"{self.group}: {self.observed} without the line that names it")

    @property
    def widened_by(self) -> str | None:
        return widens_by(self.observed) if self.observed != UNKNOWN and self.group not in _NOT_WEIGHTS else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"dequantized_by": self.widened_by}


_NOT_WEIGHTS = ("quantization", "kv_cache", "attention")


def layers_of(asked: Asked, logs: Sequence[Log]) -> tuple[Layers, ...]:
    """Every group of layers, in the table's order, as all logs of the arm agree on it."""
    reads = [_read(asked, log) for log in logs]
    groups = [*_SHOWN_ALWAYS[:2], "experts", *_SHOWN_ALWAYS[2:], SOME]
    found = (_group(asked, group, reads) for group in groups)
    return tuple(x for x in found if x is not None)


@dataclass(frozen=True, slots=True)
class _Read:
    """What one log says: by group, the names with the first line of each, and the fallbacks. `why` it says nothing."""

    why: str
    named: Mapping[str, Mapping[str, Line]]
    fell_back: Mapping[str, Line]


def _read(asked: Asked, log: Log) -> _Read:
    bounds = next((b for b in table().bounds if b.releases.hold(asked.engine, asked.version)), None)
    if bounds is None:
        return _Read(f"which words {asked.engine} {asked.version or UNKNOWN} uses is not known", {}, {})
    lines = _start(bounds, log)
    if isinstance(lines, str):
        return _Read(lines, {}, {})
    named: dict[str, dict[str, Line]] = {}
    fell_back: dict[str, Line] = {}
    for message in (m for m in table().messages if m.releases.hold(asked.engine, asked.version)):
        for line, text in lines:
            name = message.named(text)
            if name:
                named.setdefault(message.group, {}).setdefault(name, line)
            if name is not None and message.fallback:
                fell_back.setdefault(message.group, line)
    return _Read("", named, fell_back)


def _start(bounds: Bounds, log: Log) -> list[tuple[Line, str]] | str:
    """The lines between the words of a start and of a server that is ready; or why they are not all there."""
    lines = [_ANSI.sub("", x) for x in log.text.split("\n")]
    first = next((i for i, x in enumerate(lines) if bounds.begins.search(x)), None)
    if first is None:
        return f"{log.path} does not hold the beginning of the start"
    last = next((i for i in range(first, len(lines)) if bounds.ready.search(lines[i])), None)
    if last is None:
        return f"{log.path} ends before the server was ready"
    if any(x.startswith(CUT) for x in lines[first:last]):
        return f"{log.path} was cut before the server was ready"
    return [(Line(log.path, i + 1, _quoted(lines[i])), lines[i]) for i in range(first, last + 1)]


def _quoted(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "..."


def _group(asked: Asked, group: str, reads: Sequence[_Read]) -> Layers | None:
    wanted = _asked(asked, group)
    said = any(group in r.named or group in r.fell_back for r in reads)
    if group not in _SHOWN_ALWAYS and not said and wanted == OWN_CHOICE:
        return None
    fell_back = next((r.fell_back[group] for r in reads if group in r.fell_back), None)
    why = (
        "no log of a server was kept"
        if not reads
        else next((r.why for r in reads if r.why), "") or _differ(group, reads)
    )
    if why:
        return Layers(group, wanted, UNKNOWN, why, fell_back=fell_back)
    name, line = next(iter(reads[0].named[group].items()))
    return Layers(group, wanted, name, line=line, fell_back=fell_back)


def _differ(group: str, reads: Sequence[_Read]) -> str:
    """Why the logs do not name one kernel of this group, "" where they do."""
    places = {name: line.place for r in reads for name, line in r.named.get(group, {}).items()}
    if len(places) > 1:
        return "several are named: " + ", ".join(f"{name} ({place})" for name, place in sorted(places.items()))
    if not places:
        return "the log names none"
    return "" if all(r.named.get(group) for r in reads) else "one start names none"


def _asked(asked: Asked, group: str) -> str:
    """The last value of a flag for this group, as it was given; without one it is left to the engine."""
    names = _FLAGS.get(asked.engine, {}).get(group, ())
    given = [f"{name} {value}" for name, value in options(asked.flags) if name in names and value != "auto"]
    if group == "quantization" and not given:
        return asked.form
    return given[-1] if given else OWN_CHOICE


def another_than_asked(asked: Asked, layers: Layers) -> bool | None:
    """Does another kernel run than the one asked for? None where that is not known: no flag, no name, or a value without a
    row in the table."""
    flag, _, value = layers.asked.partition(" ")
    if layers.observed == UNKNOWN or not value:
        return None
    if layers.group == "attention":
        return layers.observed.lower() != value.lower()
    rows = [
        c for c in table().choices if (c.engine, c.group, c.flag, c.value) == (asked.engine, layers.group, flag, value)
    ]
    return not rows[0].kernels.search(layers.observed) if rows else None


@dataclass(frozen=True, slots=True)
class Kernels:
    """`named` in the order of the log, each once; `fell_back` are the engine's own words, "" where it says nothing of it."""

    named: tuple[str, ...]
    fell_back: str = ""


def kernels_in(log: str) -> Kernels:
    """The kernels of weights that a log names, whatever release it is of, and where its flag was not taken. A server that
    names no kernel has none here: which it took is unknown."""
    found: dict[str, None] = {}
    fell_back = ""
    for line in log.split("\n"):
        for message in _of_weights():
            name = message.named(line)
            if name:
                found.setdefault(name)
            if name == "" and message.fallback and not fell_back:
                hit = message.says.search(line)
                fell_back = line[hit.start() :].strip() if hit else ""
    return Kernels(tuple(found), fell_back)


def _of_weights() -> Iterable[Message]:
    return (m for m in table().messages if m.group in ("linear", "experts") and not m.kernel)


def kernel_flags() -> frozenset[str]:
    """The flags that choose a kernel of the weights, of every engine."""
    return frozenset(c.flag for c in table().choices)
