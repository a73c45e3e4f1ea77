"""The suites of the package: one TOML file each, with the load that each workload runs at when nobody says otherwise."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.workload import HUB, Point, Workload
from profile_and_optimize.workloads.data import Say, chosen, with_data
from profile_and_optimize.workloads.spec import WorkloadSpec

CANONICAL = "canonical"
FOLDER = "suites"


@dataclass(frozen=True, slots=True)
class Entry:
    """A workload and the load that its suite gives it."""

    workload: Workload
    concurrencies: tuple[int, ...]
    requests: int

    def points(self, concurrency: int | None = None, requests: int | None = None) -> tuple[Point, ...]:
        """At its own slots or the given ones; four requests a slot where slots were given and requests were not."""
        slots = self.concurrencies if concurrency is None else (concurrency,)
        own = slots == self.concurrencies
        return tuple(Point(self.workload, c, requests or (self.requests if own else 4 * c)) for c in slots)


@dataclass(frozen=True, slots=True)
class Suite:
    name: str
    about: str
    entries: tuple[Entry, ...]


@cache
def suites() -> Mapping[str, Suite]:
    """Every suite by name, in the order of their names. No two workloads have one name."""
    folder = resources.files(__package__) / FOLDER
    found = {}
    for file in sorted(folder.iterdir(), key=lambda f: f.name.removesuffix(".toml")):
        if file.name.endswith(".toml"):
            name = file.name.removesuffix(".toml")
            found[name] = _suite(name, file.read_text(encoding="utf-8"))
    return found


def _suite(name: str, text: str) -> Suite:
    data = tomllib.loads(text)
    return Suite(name, data["about"], tuple(_entry(WorkloadSpec(**w)) for w in data["workload"]))


def _entry(spec: WorkloadSpec) -> Entry:
    assert spec.concurrencies and spec.requests and spec.cache, f"{spec.name}: a suite must set load and cache"
    return Entry(spec.workload(), tuple(spec.concurrencies), spec.requests)


def entries_of(name: str) -> tuple[Entry, ...]:
    """Those of the suite of that name, or of one workload of any suite. Raises WrongUse naming what there is."""
    if name in suites():
        return suites()[name].entries
    one = named(name)
    if one is None:
        known = sorted(set(suites()) | {e.workload.name for s in suites().values() for e in s.entries})
        raise WrongUse(unknown("workload or suite", name, known), next="pao workloads")
    return (one,)


def named(name: str) -> Entry | None:
    """The workload of that name, of whichever suite."""
    return next((e for s in suites().values() for e in s.entries if e.workload.name == name), None)


def suite(name: str) -> tuple[Workload, ...]:
    """The workloads of a suite, or one workload of any suite. Raises WrongUse naming what there is."""
    return tuple(e.workload for e in entries_of(name))


def points_of_suite(
    name: str, concurrency: int | None = None, requests: int | None = None, *,
    data: Mapping[str, str] | None = None, say: Say = lambda _: None,
) -> tuple[Point, ...]:  # fmt: skip
    """The points of a suite or of one workload, at its own load or at the given one, with their data found.

    `data` maps a workload or data set to a file of the user's. Raises WrongUse or Unreachable when data is not to be had.
    """
    return found_points(chosen_points(suite_points(name, concurrency, requests), data or {}), say)


def suite_points(name: str, concurrency: int | None = None, requests: int | None = None) -> tuple[Point, ...]:
    """The same before anybody looked for their data."""
    return tuple(p for e in entries_of(name) for p in e.points(concurrency, requests))


def chosen_points(points: tuple[Point, ...], given: Mapping[str, str]) -> tuple[Point, ...]:
    """With the user's own files for their data. Looks at none of them; raises WrongUse for one that nobody asked for."""
    takers = {key for p in points for key in (p.workload.name, p.workload.dataset.removeprefix(HUB))}
    strange = sorted(set(given) - takers)
    if strange:
        names = ", ".join(dict.fromkeys(p.workload.name for p in points))
        raise WrongUse(
            f"data for {', '.join(strange)}, which is not one of {names}", where="--data", next="pao workloads"
        )
    return tuple(replace(p, workload=chosen(p.workload, given)) for p in points)


def found_points(points: tuple[Point, ...], say: Say = lambda _: None) -> tuple[Point, ...]:
    """With the data of every workload found and its digest taken; see `data.with_data`."""
    found = {w: with_data(w, say) for w in dict.fromkeys(p.workload for p in points)}
    return tuple(replace(p, workload=found[p.workload]) for p in points)


def bare_points(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The points as they were before their data was found: what a campaign file fixes by itself."""
    return tuple(replace(p, workload=replace(p.workload, file="", sha256="")) for p in points)


def is_present(name: str, measured: Iterable[Workload]) -> bool:
    """Is what somebody means by that name among the measured workloads?

    A name of the canonical suite ("sonnet"), or what several of its names begin with ("aa"), means all of them in the
    shape that the suite gives them; any other name means the workload of that name.
    """
    measured = tuple(measured)
    meant = [w for w in suite(CANONICAL) if w.name == name or w.name.startswith(name + "-")]
    if not meant:
        return any(w.name == name for w in measured)
    shapes = {(w.name, _shape(w)) for w in measured}
    return all((w.name, _shape(w)) in shapes for w in meant)


def _shape(w: Workload) -> tuple[object, ...]:
    return w.kind, w.isl, w.osl, w.isl_least, w.osl_least, w.repeats
