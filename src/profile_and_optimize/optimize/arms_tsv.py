"""arms.tsv: the arms of a variant A/B as a table people keep. The first row per engine is its baseline. One lever an arm, or
one more than another arm has: a checkpoint and flags on top of it may be one row.

    arm <TAB> engine <TAB> flags <TAB> env <TAB> lever [<TAB> predicts <TAB> predicted <TAB> checkpoint]

`flags` and `env` are written as in a shell (quotes are read, nothing is run); `predicted` is a range of ratios, 1.05..1.2;
`checkpoint` a folder that is served in the model's place.
Lines that begin with # and empty ones are skipped. The first row of all is the campaign's baseline.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from profile_and_optimize.core.cell import Arm, Role, check_arms
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.settings import options

COLUMNS = ("arm", "engine", "flags", "env", "lever", "predicts", "predicted", "checkpoint")
NEEDED = 5
MOST_BYTES = 1 << 20
TWIN = "baseline-again"
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)")


def parse_arms(data: bytes, where: str) -> tuple[Arm, ...]:
    """The arms with the A/A arm added. Raises WrongUse naming line and column."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as e:
        raise WrongUse(f"not text: {e.reason}", where=where, next="save it as UTF-8") from None
    rows = [(n, line.split("\t")) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not rows or tuple(c.strip() for c in rows[0][1])[:NEEDED] != COLUMNS[:NEEDED]:
        raise WrongUse("the first line does not name the columns", where=where, next="\\t".join(COLUMNS[:NEEDED]))
    arms = [_arm(cells, f"{where} line {n}") for n, cells in rows[1:]]
    if not arms:
        raise WrongUse("no arm", where=where, next="the first row per engine is its baseline")
    base = replace(arms[0], role=Role.BASELINE, predicts="", predicted=None)
    twin = replace(base, id=TWIN, role=Role.AA, lever="")
    return check_arms((base, twin, *arms[1:]))


def _arm(cells: Sequence[str], where: str) -> Arm:
    if not NEEDED <= len(cells) <= len(COLUMNS):
        raise WrongUse(f"{len(cells)} columns", where=where, next=f"{NEEDED} to {len(COLUMNS)}, separated by tabs")
    filled = (*(c.strip() for c in cells), "", "", "")[: len(COLUMNS)]
    name, engine, flags, env, lever, predicts, predicted, checkpoint = filled
    try:
        return Arm(
            name, engine, Role.CANDIDATE, tuple(shlex.split(flags)), tuple(sorted(_setting(s) for s in shlex.split(env))),
            lever=lever, predicts=predicts, predicted=_range(predicted),
            checkpoint=checkpoint,
        )  # fmt: skip
    except (WrongUse, ValueError) as e:
        raise WrongUse(str(getattr(e, "message", e)), where=where, next="correct the line") from e


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"{text[:40]!r} is not NAME=VALUE")
    return name, value


def _range(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    hit = _RANGE.fullmatch(text)
    if hit is None:
        raise ValueError(f"predicted {text[:40]!r} is not a range such as 1.05..1.2")
    return float(hit.group(1)), float(hit.group(2))


def arms_tsv(arms: Sequence[Arm]) -> str:
    """The inverse; the A/A arm is left out, for it follows. Raises WrongUse for what the table cannot hold."""
    lines = ["\t".join(COLUMNS)]
    for arm in arms:
        if arm.role is not Role.AA:
            cells = (
                arm.id, arm.engine, shlex.join(arm.flags), shlex.join(f"{k}={v}" for k, v in arm.env), arm.lever, arm.predicts,
                f"{arm.predicted[0]:g}..{arm.predicted[1]:g}" if arm.predicted else "", arm.checkpoint,
            )  # fmt: skip
            lines.append("\t".join(" ".join(c.split("\t")).replace("\n", " ") for c in cells))
    return "\n".join(lines) + "\n"


def several_levers(arms: Sequence[Arm]) -> Iterator[str]:
    """A line for each arm that changes more than one thing against its engine's first row, and against every other arm of the
    table that has a part of it: which of them did it stays open."""
    firsts: dict[str, Arm] = {}
    for arm in arms:
        base = firsts.setdefault(arm.engine, arm)
        names = _changes(arm, base)
        parts = (
            a for a in arms if a.engine == arm.engine and _changes(a, base) and set(_changes(a, base)) < set(names)
        )
        if len(names) > 1 and not any(len(_changes(arm, a)) == 1 for a in parts):
            yield f"{arm.id} changes {', '.join(names)}: which of them made the difference will not be known"


def _changes(arm: Arm, base: Arm) -> list[str]:
    return sorted({name for name, _ in _named(arm) ^ _named(base)})


def _named(arm: Arm) -> set[tuple[str, str]]:
    return {*options(arm.flags), *arm.env, ("checkpoint", arm.checkpoint)}
