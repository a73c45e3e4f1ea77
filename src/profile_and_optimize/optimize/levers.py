"""Levers per engine: what each changes, what it should move, and where it exists. One lever an arm. The tables are data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown

FOCI = ("throughput", "latency", "mixed")
_NEED = re.compile(r"(cpu|gpu|moe|compiler|no_bf16)|(cores|gpus|sm)(>=|<=)(\d+)")


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether a lever exists here. None is unknown, and a lever that needs it is then skipped.

    `cpu`: the engine is a CPU build. `sm`: compute capability times ten (90 is Hopper, 100 Blackwell). `moe`: the model has
    experts. `bf16`: the processor computes in bfloat16; one that cannot emulates it, many times slower than float32.
    """

    cores: int
    cpu: bool
    compiler: bool
    gpus: int | None = None
    sm: int | None = None
    moe: bool | None = None
    bf16: bool | None = None

    def lacks(self, need: str) -> str | None:
        """Why this need is not met, None when it is."""
        hit = _NEED.fullmatch(need)
        if hit is None:
            raise ValueError(f"need {need!r} is not one that we know")
        word, name, sign, number = hit.groups()
        if word:
            no_bf16 = None if self.bf16 is None else not self.bf16
            value = {
                "cpu": self.cpu, "gpu": not self.cpu, "moe": self.moe, "compiler": self.compiler, "no_bf16": no_bf16,
            }[word]  # fmt: skip
            return None if value else f"needs {WORDS[word]}" + (", unknown here" if value is None else "")
        found = {"cores": self.cores, "gpus": self.gpus, "sm": self.sm}[name]
        if found is None:
            return f"needs {need}, unknown here"
        met = found >= int(number) if sign == ">=" else found <= int(number)
        return None if met else f"needs {need}, here {found}"


WORDS = {
    "cpu": "a CPU build of the engine", "gpu": "a GPU", "moe": "a model with experts", "compiler": "a C++ compiler",
    "no_bf16": "a processor without bfloat16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lever:
    """`predicted` is the expected ratio of the primary endpoint per focus, written before measuring."""

    id: str
    says: str
    predicts: str
    predicted: tuple[tuple[str, tuple[float, float]], ...]
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [n for n in self.needs if not _NEED.fullmatch(n)]
        if wrong or not (self.flags or self.env) or {f for f, _ in self.predicted} - set(FOCI):
            raise ValueError(f"lever {self.id}: needs {wrong}, changes nothing, or predicts for another focus")

    def arm(self, engine: str, focus: str, facts: Facts, prefix: str = "") -> Arm:
        env = tuple((k, v.replace("{all_cores}", f"0-{facts.cores - 1}")) for k, v in self.env)
        return Arm(
            prefix + self.id, engine, Role.CANDIDATE, self.flags, env, lever=self.says, predicts=self.predicts,
            predicted=dict(self.predicted).get(focus),
        )  # fmt: skip

    def missing(self, facts: Facts, known_flags: frozenset[str] | None) -> str | None:
        """Why this lever does not exist here, None when it does."""
        lacking = [f for f in self.flags if known_flags is not None and f.startswith("--") and f not in known_flags]
        if lacking:
            return f"the installed version has no {', '.join(lacking)}"
        return next((why for need in self.needs if (why := facts.lacks(need))), None)


@dataclass(frozen=True, slots=True)
class Found:
    """The levers of an engine that exist here, and the others with the reason."""

    here: tuple[Lever, ...]
    skipped: tuple[tuple[str, str], ...]


def find_levers(engine: str, facts: Facts, known_flags: frozenset[str] | None) -> Found:
    """In the order of the table. An engine of others, without a table, has none."""
    told = [(lever, lever.missing(facts, known_flags)) for lever in table(engine)]
    return Found(
        tuple(lever for lever, why in told if why is None),
        tuple((lever.id, why) for lever, why in told if why is not None),
    )


def left_out(found: Found) -> tuple[str, ...]:
    """A line per reason, with the levers it holds for."""
    reasons = tuple(dict.fromkeys(why for _, why in found.skipped))
    return tuple(f"{', '.join(name for name, w in found.skipped if w == why)}: {why}" for why in reasons)


@cache
def table(engine: str) -> tuple[Lever, ...]:
    """Every lever of an engine, one for each of its values."""
    path = files("profile_and_optimize.optimize") / "lever_tables" / f"{engine}.toml"
    if not path.is_file():
        return ()
    found = tuple(one for entry in tomllib.loads(path.read_text())["lever"] for one in _levers(entry))
    twice = {one.id for one in found if [o.id for o in found].count(one.id) > 1}
    if twice:
        raise ValueError(f"levers of {engine}: {', '.join(sorted(twice))} stands twice")
    return found


def _levers(entry: Mapping[str, Any]) -> Iterator[Lever]:
    values = entry.get("values", [None])
    for value in values:
        yield Lever(
            entry["id"] if value is None else f"{entry['id']}-{value.lower().replace('_', '-')}", _with(entry["says"], value),
            entry["predicts"], tuple((focus, (low, high)) for focus, (low, high) in entry["predicted"].items()),
            tuple(_with(f, value) for f in entry.get("flags", ())), tuple(sorted(entry.get("env", {}).items())),
            tuple(entry.get("needs", ())),
        )  # fmt: skip


def _with(text: str, value: str | None) -> str:
    """`{value}` filled in; doubled braces stand for themselves, for JSON."""
    return (text if value is None else text.replace("{value}", value)).replace("{{", "{").replace("}}", "}")


def chosen(names: str, engines: tuple[str, ...], found: Mapping[str, Found]) -> dict[str, tuple[Lever, ...]]:
    """The named levers by engine: `eager`, or `sglang:radix-off` where several engines have one of that name."""
    wanted: dict[str, list[Lever]] = {engine: [] for engine in engines}
    for name in (n.strip() for n in names.split(",") if n.strip()):
        engine, _, lever = name.rpartition(":")
        hits = [(e, lv) for e in ([engine] if engine else engines) for lv in found[e].here if lv.id == lever] if (
            not engine or engine in found
        ) else []  # fmt: skip
        if not hits:
            raise WrongUse(_unknown(name, engines, found), where="--levers", next="pao levers")
        for e, lv in hits:
            wanted[e].append(lv)
    return {engine: tuple(dict.fromkeys(levers)) for engine, levers in wanted.items()}


def _unknown(name: str, engines: tuple[str, ...], found: Mapping[str, Found]) -> str:
    why = next(
        (f"{name} is not here: {w}" for e in engines for i, w in found[e].skipped if name in (i, f"{e}:{i}")), None
    )
    return why or unknown(
        "lever", name, [lv.id if len(engines) == 1 else f"{e}:{lv.id}" for e in engines for lv in found[e].here]
    )


def arms(
    engines: tuple[str, ...], focus: str, facts: Mapping[str, Facts], levers: Mapping[str, tuple[Lever, ...]], most: int
) -> tuple[Arm, ...]:
    """Baseline (the first engine's own defaults), A/A, the other engines' own defaults, then levers of all engines in turn,
    up to `most` arms in all. With several engines an arm's id begins with its engine."""
    several = len(engines) > 1
    first = engines[0]
    made = [Arm("baseline", first, Role.BASELINE), Arm("baseline-again", first, Role.AA)]
    made += [
        Arm(
            e,
            e,
            Role.CANDIDATE,
            lever=f"another engine: {e} with its own defaults",
            predicts="nothing is known beforehand",
        )
        for e in engines[1:]
    ]
    queues = [[lv.arm(e, focus, facts[e], f"{e}-" if several else "") for lv in levers[e]] for e in engines]
    depth = max(map(len, queues), default=0)
    made += [queue[i] for i in range(depth) for queue in queues if i < len(queue)]
    return tuple(made[: max(most, 2 + len(engines) - 1)])
