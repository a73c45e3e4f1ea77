"""Earlier campaigns of the same variants in the workspace. Every campaign may be wrong with its alpha, so whoever repeats
one until a VERDICT comes has the sum of them. They bar nothing; the page says how many there were and what bound follows.

Looked for once, when the plan is frozen, and kept in the run, so that the page follows from the run alone. A pair of
variants is known by what both sides serve (model, build, options, environment, node), by the points and the endpoint, not
by names, seeds or budgets; which of the two was called the baseline makes no difference. A campaign counts from its first
block in which both sides have a trial, whatever became of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign import PRODUCER
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.names import digest, digest_of
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.settings import options
from profile_and_optimize.core.workload import Point
from profile_and_optimize.evidence.folder import JOURNAL, RUN_ID, RunFolder
from profile_and_optimize.evidence.reading import read_bytes, read_json
from profile_and_optimize.evidence.trialfile import is_trial_path

EARLIER = "earlier.json"
MOST_LOOKED_AT = 400
MOST_JOURNAL_BYTES = 64 << 20
_DRAFT, _PLAN = "draft.json", "plan.json"
# What of an engine's version makes it another build.
BUILD = ("engine_version", "engine_lock", "source_commit", "delivery")
ENDPOINT = "endpoint"

Builds = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """One campaign that had measured some of our pairs: `pairs` are their keys, `alpha` the error it may make, `draft_sha256`
    what it set out to do."""

    run_id: str
    draft_sha256: str
    alpha: float
    pairs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not RUN_ID.match(self.run_id) or not 0 < self.alpha < 1 or not self.pairs:
            raise ValueError(f"{self.run_id[:80]!r} is not an earlier campaign: an id, an alpha and at least one pair")


@dataclass(frozen=True, slots=True)
class Earlier:
    """`pairs` are the keys of this run's candidates with its baseline. `unreadable` folders of the workspace had trials and
    could not be read; `not_looked_at` were beyond the newest ones."""

    node: str
    builds: Builds
    alpha: float
    pairs: Mapping[str, str]
    runs: tuple[EarlierRun, ...] = ()
    unreadable: int = 0
    not_looked_at: int = 0

    def before(self, arm: str) -> tuple[EarlierRun, ...]:
        return tuple(r for r in self.runs if self.pairs[arm] in r.pairs)

    def bound(self, arm: str) -> float:
        """Of a wrong VERDICT among all campaigns of these variants, this one included."""
        return min(1.0, self.alpha + sum(r.alpha for r in self.before(arm)))

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}


def keep(folder: RunFolder, plan: Plan, node: str, builds: Builds) -> None:
    """Look, and write it down, once a run."""
    if not (folder.path / EARLIER).exists():
        own = {a.id: pair_key(plan, a, node, builds) for a in plan.candidates}
        found = look(folder.path, Earlier(node, builds, plan.alpha, own))
        folder.write_json(EARLIER, found.to_json(), producer=PRODUCER, inputs=(_DRAFT,))


def read_earlier(run: Path) -> Earlier | None:
    """None where the run did not look. Raises Corrupted."""
    return _read(run) if (run / EARLIER).exists() else None


def _read(run: Path) -> Earlier:
    data = read_json(run / EARLIER)
    try:
        if data.pop("schema") != 1:
            raise ValueError("another schema than 1")
        runs = tuple(EarlierRun(**{**r, "pairs": tuple(r["pairs"])}) for r in data.pop("runs"))
        counts = (data["unreadable"], data["not_looked_at"])
        if any(type(n) is not int or n < 0 for n in counts) or not all(map(str, data["pairs"].values())):
            raise ValueError("a count is not a number of folders")
        return Earlier(runs=runs, **data)
    except (TypeError, KeyError, ValueError, AttributeError) as e:
        raise Corrupted(
            f"not a list of earlier campaigns: {e}", where=str(run / EARLIER), next=f"pao verify {run}"
        ) from e


def build_of(version: Mapping[str, str]) -> dict[str, str]:
    return {name: str(version.get(name, UNKNOWN)) for name in BUILD}


def pair_key(plan: Plan, arm: Arm, node: str, builds: Builds) -> str:
    sides = sorted(digest_of(_served(plan, a, node, builds)) for a in (plan.baseline, arm))
    points = sorted(digest_of(_asked(p)) for p in plan.points)
    return digest_of({"sides": sides, "points": points, "primary": list(plan.primary)})


def _served(plan: Plan, arm: Arm, node: str, builds: Builds) -> dict[str, Any]:
    """The order of options and the way they are spelled make no other variant, nor does it matter which were common."""
    flags = (*plan.common_flags, *arm.flags)
    words = [w for f in flags for w in (f.split("=", 1) if f.startswith("--") else [f])]
    model = plan.digest_of(arm)
    ours = arm.engine != ENDPOINT
    return {
        "engine": arm.engine, "model": plan.model_of(arm) if model in ("", UNKNOWN) else model, "url": arm.url,
        "options": sorted(map(list, options(flags))), "words": sorted(w.replace("_", "-") for w in words),
        "env": sorted(map(list, {**dict(plan.common_env), **dict(arm.env)}.items())),
        "node": node if ours else "", "build": dict(builds.get(arm.engine, {})) if ours else {},
    }  # fmt: skip


def _asked(point: Point) -> dict[str, Any]:
    """Name, file and number of requests make no other question."""
    told = {k: v for k, v in asdict(point.workload).items() if k not in ("name", "file")}
    load = {"rate": point.request_rate} if point.request_rate is not None else {"concurrency": point.concurrency}
    return {**told, **({"dataset": ""} if point.workload.sha256 else {}), **load}


def look(run: Path, own: Earlier, before: float | None = None) -> Earlier:
    """`own` with the campaigns beside `run` that had measured one of its pairs, before that moment where one is given."""
    there = sorted(
        (p for p in run.absolute().parent.iterdir() if RUN_ID.match(p.name) and p.name != run.name), reverse=True
    )
    runs, unreadable = [], 0
    for sibling in there[:MOST_LOOKED_AT]:
        try:
            found = _one(sibling, set(own.pairs.values()), before)
        except (Corrupted, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            unreadable += 1
            continue
        runs += [found] if found else []
    runs.sort(key=lambda r: r.run_id)
    return Earlier(
        own.node, own.builds, own.alpha, own.pairs, tuple(runs), unreadable, max(0, len(there) - MOST_LOOKED_AT)
    )  # fmt: skip


def _one(run: Path, wanted: set[str], before: float | None) -> EarlierRun | None:
    """None for a run that is no campaign, measured no block by then, or other variants."""
    if not (run / JOURNAL).is_file() or not (run / _PLAN).is_file():
        return None
    measured = dict(_measured(read_bytes(run / JOURNAL, MOST_JOURNAL_BYTES), before))
    if not measured:
        return None
    theirs, plan = _read(run), read_json(run / _PLAN)
    base = next(a["id"] for a in plan["arms"] if a["role"] == "baseline")
    pairs = {k for arm, k in theirs.pairs.items() if any({base, arm} <= arms for arms in measured.values())}
    shared = tuple(sorted(pairs & wanted))
    return EarlierRun(run.name, digest(read_bytes(run / _DRAFT)), float(theirs.alpha), shared) if shared else None


def _measured(journal: bytes, before: float | None) -> Iterator[tuple[str, set[str]]]:
    """Block to the arms that have a trial in it. Only lines that enter a trial are parsed, and no digest is computed."""
    found: dict[str, set[str]] = {}
    for line in journal.splitlines():
        if b'"kind":"wrote"' not in line or b"/raw/" not in line:
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a torn last line
        path = event["data"]["path"]
        if is_trial_path(path) and (before is None or event["at"] <= before):
            _, arm, _, name = path.split("/")
            found.setdefault(name.split("-", 1)[0], set()).add(arm)
    yield from found.items()


def differences(run: Path, kept: Earlier, at: float) -> list[str]:
    """What the workspace as it is now says otherwise than the run wrote down at `at`."""
    now = look(run, kept, at)
    known, there = {r.run_id: r for r in kept.runs}, {r.run_id: r for r in now.runs}
    gone = sorted(known.keys() - there.keys())
    new = sorted(there.keys() - known.keys())
    changed = sorted(i for i in known.keys() & there.keys() if known[i] != there[i])
    told = (
        ("are not in this folder any more, so they cannot be looked at", gone),
        ("measured the same variants before and are not listed", new),
        ("are not what was listed", changed),
    )
    return [f"{EARLIER}: {', '.join(ids[:5])}{' and more' * (len(ids) > 5)} {what}" for what, ids in told if ids]


NTH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
NOT_LOOKED = "earlier campaigns of these variants: unknown, this run did not look for any"


def words(kept: Earlier | None, arms: Sequence[str]) -> tuple[str, ...]:
    """A line for every set of candidates with the same earlier campaigns, and one for what could not be read."""
    if kept is None:
        return (NOT_LOOKED,)
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm in (a for a in arms if a in kept.pairs):
        groups.setdefault(tuple(r.run_id for r in kept.before(arm)), []).append(arm)
    lines = [_line(kept, ids, mine) for ids, mine in groups.items()]
    if kept.unreadable:
        lines.append(
            f"{kept.unreadable} folders of the workspace have trials and could not be read for earlier campaigns"
        )
    if kept.not_looked_at:
        lines.append(f"{kept.not_looked_at} older folders of the workspace were not looked at for earlier campaigns")
    return tuple(lines)


def _line(kept: Earlier, ids: Sequence[str], arms: Sequence[str]) -> str:
    n = len(ids) + 1
    nth = NTH[n - 1] if n <= len(NTH) else f"campaign number {n}"
    what = nth if n > len(NTH) else f"{nth} campaign"
    named = f"{', '.join(arms[:5])}{f' and {len(arms) - 5} more' if len(arms) > 5 else ''}: "
    if not ids:
        return f"{named}first campaign of these variants in this workspace"
    listed = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    bound = f"at most {100 * kept.bound(arms[0]):.3g}% for a wrong VERDICT among them"
    return f"{named}{what} of these variants: {bound} (before it: {listed})"
