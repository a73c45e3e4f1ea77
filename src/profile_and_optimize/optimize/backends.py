"""The kernels that an engine lets one choose for a checkpoint, as data: which formats each is for, and where it exists."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.formats import FORMATS, MIXED
from profile_and_optimize.optimize.levers import Facts

_FACTS = Facts(cores=1, cpu=True, compiler=False)


@dataclass(frozen=True, slots=True)
class Backend:
    """`formats` are those of the checkpoints that it has a kernel for; () is for all of them."""

    id: str
    says: str
    formats: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for need in self.needs:
            _FACTS.lacks(need)  # raises for one that it does not know
        wrong = set(self.formats) - set(FORMATS)
        if wrong:
            raise ValueError(f"backend {self.id}: no format {', '.join(sorted(wrong))}")

    def arm(self, engine: str) -> Arm:
        return Arm(f"{engine}-{self.id}", engine, Role.BASELINE, self.flags, self.env)

    def missing(self, form: str, facts: Facts, known_flags: frozenset[str] | None) -> str | None:
        """Why it cannot be tried on a checkpoint in that format here, None when it can."""
        if self.formats and form not in self.formats and form != MIXED:
            return f"needs a checkpoint in {' or '.join(self.formats)}, this one is in {form}"
        lacking = [f for f in self.flags if known_flags is not None and f.startswith("--") and f not in known_flags]
        if lacking:
            return f"the installed version has no {', '.join(lacking)}"
        return next((why for need in self.needs if (why := facts.lacks(need))), None)


OWN_CHOICE = Backend("auto", "the engine's own choice")


@dataclass(frozen=True, slots=True)
class Offered:
    """The backends of an engine that can be tried here, and the others with what they need."""

    here: tuple[Backend, ...]
    skipped: tuple[tuple[Backend, str], ...]


def find_backends(engine: str, form: str, facts: Facts, known_flags: frozenset[str] | None) -> Offered:
    """In the order of the table."""
    told = [(b, b.missing(form, facts, known_flags)) for b in table(engine)]
    return Offered(tuple(b for b, why in told if why is None), tuple((b, why) for b, why in told if why is not None))


def only(names: str, offered: Mapping[str, Offered]) -> dict[str, Offered]:
    """The named ones of those that can be tried: `marlin`, or `sglang:fp4-marlin`. Raises WrongUse for one that cannot."""
    wanted = [n.strip() for n in names.split(",") if n.strip()]
    for name in wanted:
        if not any(_is(name, e, b) for e, found in offered.items() for b in found.here):
            raise WrongUse(_unknown(name, offered), where="--backends", next="leave it out to try all of them")
    return {
        e: Offered(tuple(b for b in found.here if any(_is(n, e, b) for n in wanted)), found.skipped)
        for e, found in offered.items()
    }


def _is(name: str, engine: str, backend: Backend) -> bool:
    return name in (backend.id, f"{engine}:{backend.id}")


def _unknown(name: str, offered: Mapping[str, Offered]) -> str:
    why = next((why for e, found in offered.items() for b, why in found.skipped if _is(name, e, b)), None)
    there = ", ".join(f"{e}:{b.id}" for e, found in offered.items() for b in found.here)
    return f"{name}: {why}" if why else f"no backend {name!r}; here there are {there}"


@cache
def table(engine: str) -> tuple[Backend, ...]:
    """Every backend of an engine, one for each of its values. An engine without a table chooses by itself."""
    path = files("profile_and_optimize.optimize") / "backend_tables" / f"{engine}.toml"
    if not path.is_file():
        return (OWN_CHOICE,)
    found = tuple(one for entry in tomllib.loads(path.read_text())["backend"] for one in _backends(entry))
    ids = [one.id for one in found]
    twice = {i for i in ids if ids.count(i) > 1}
    if twice:
        raise ValueError(f"backends of {engine}: {', '.join(sorted(twice))} stands twice")
    return found


def _backends(entry: Mapping[str, Any]) -> Iterator[Backend]:
    for value in entry.get("values", [None]):
        name = entry["id"] if value is None else f"{entry['id']}-{value.replace('_', '-')}"

        def told(text: str, value: str | None = value) -> str:
            return text if value is None else text.replace("{value}", value)

        yield Backend(
            name, told(entry["says"]), tuple(entry.get("formats", ())), tuple(told(f) for f in entry.get("flags", ())),
            tuple(sorted(entry.get("env", {}).items())), tuple(entry.get("needs", ())),
        )  # fmt: skip
