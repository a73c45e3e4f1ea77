"""Where the data of a workload is: in the package, in a file of the user's, kept from the hub, or to be fetched from it."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType

from profile_and_optimize.core.errors import BrokeMidway, Corrupted, Unreachable, WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.opens import Kind, Opens
from profile_and_optimize.core.workload import HUB, RANDOM, Workload
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.toolenv.find import data_dir
from profile_and_optimize.workloads.draw import require_readable
from profile_and_optimize.workloads.recorded import digest_file

Say = Callable[[str], None]
# A comma begins a new part where a name and "=" follow; a file's name may hold others.
_PARTS = re.compile(r",(?=[a-z0-9._-]+=)")


def _hub() -> ModuleType:
    """Imported by the first that asks the hub: it brings an HTTP library."""
    from profile_and_optimize.workloads import hub

    return hub


@dataclass(frozen=True, slots=True)
class DataSet:
    """A file of a data set on the hub."""

    name: str
    about: str
    repo: str
    file: str
    revision: str
    most_bytes: int

    @property
    def kept(self) -> Path:
        """Where it lies once it was fetched."""
        return root() / self.name / self.file

    @property
    def url(self) -> str:
        return _hub().file_url(self.repo, self.revision, self.file)


@dataclass(frozen=True, slots=True)
class Place:
    """Where data is, in words; `there` is None where it would have to be fetched and nobody asked the hub."""

    words: str
    there: bool | None


@cache
def data_sets() -> Mapping[str, DataSet]:
    data = tomllib.loads((resources.files(__package__) / "datasets.toml").read_text(encoding="utf-8"))
    return {name: DataSet(name, **fields) for name, fields in sorted(data.items())}


def root(environ: Mapping[str, str] = os.environ) -> Path:
    """PAO_DATA_DIR, or profile-and-optimize/data among this user's own things."""
    chosen = environ.get("PAO_DATA_DIR")
    return Path(chosen).expanduser().absolute() if chosen else data_dir(environ) / "data"


def data_set(w: Workload) -> DataSet:
    """The one that a workload names. Raises WrongUse naming what there is."""
    name = w.dataset.removeprefix(HUB)
    if name not in data_sets():
        raise WrongUse(
            unknown("data set", name, data_sets()),
            where=f"workload {w.name}",
            next="give the path of a file as its dataset",
        )
    return data_sets()[name]


def given_files(text: str | None) -> dict[str, str]:
    """`NAME=FILE,NAME=FILE` taken apart. Raises WrongUse for what is not of this form, and for a name given twice."""
    out: dict[str, str] = {}
    for part in _PARTS.split(text) if text else ():
        name, equals, file = part.partition("=")
        if not (name and equals and file) or name in out:
            raise WrongUse(
                f"{part!r} is not NAME=FILE, each name once", where="--data", next="--data sharegpt=chats.json"
            )
        out[name] = file
    return out


# Of a field that holds `NAME=FILE` parts.
FILES = Opens(Kind.PATH, lambda text: given_files(text).values())


def chosen(w: Workload, given: Mapping[str, str]) -> Workload:
    """With the file that the user gave for this workload, or for the data set it names. Looks at nothing."""
    file = given.get(w.name) or (given.get(w.dataset.removeprefix(HUB)) if w.dataset.startswith(HUB) else None)
    if file is None:
        return w
    if w.dataset == RANDOM:
        raise WrongUse(
            f"workload {w.name} is made of random words and takes no data", where="--data", next="leave it out"
        )
    return replace(w, dataset=file)


def with_data(w: Workload, say: Say = lambda _: None) -> Workload:
    """With the place and the digest of its data; a data set that is not here yet is fetched.

    Raises Unreachable when it cannot be, saying what to do instead, and WrongUse for a file that cannot be used.
    """
    if not w.from_file:
        require_readable(w)
        return w
    path = _of_the_hub(w, say) if w.dataset.startswith(HUB) else Path(w.dataset).absolute()
    found = replace(w, file=str(path), sha256=digest_file(path))
    require_readable(found)
    return found


def _of_the_hub(w: Workload, say: Say) -> Path:
    wanted = data_set(w)
    if not wanted.kept.exists():
        _fetch(w, wanted, say)
    _require_unchanged(wanted)
    return wanted.kept


def _fetch(w: Workload, wanted: DataSet, say: Say) -> None:
    say(f"{w.name}: fetching {wanted.file} of {wanted.repo}")
    try:
        found = _hub().fetch(wanted.url, wanted.kept, wanted.most_bytes, say)
    except (Unreachable, BrokeMidway) as e:
        raise Unreachable(
            f"workload {w.name} needs the data set {wanted.name}, and it cannot be fetched: {e.message}",
            where=e.where or wanted.url,
            next=f"give a file (--data {wanted.name}=FILE, or data: in a campaign file), or take another suite: pao workloads",
        ) from e
    write_atomic(_record(wanted), (json.dumps(found.to_json(), indent=1, sort_keys=True) + "\n").encode())
    say(f"{w.name}: {found.bytes / 1e6:.0f} MB, sha256 {found.sha256}")


def _record(wanted: DataSet) -> Path:
    return wanted.kept.with_name(wanted.kept.name + ".fetched.json")


def _require_unchanged(wanted: DataSet) -> None:
    """Raises Corrupted when the kept file is not the one that was fetched."""
    try:
        was = str(json.loads(_record(wanted).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        was = ""
    if digest_file(wanted.kept) != was:
        raise Corrupted(
            "this is not the file as it was fetched", where=str(wanted.kept), next="remove it, and it is fetched again"
        )


def to_be_fetched(w: Workload) -> bool:
    """Would `with_data` download its data?"""
    return w.dataset.startswith(HUB) and not data_set(w).kept.exists()


def place_of(w: Workload, *, look: bool) -> Place:
    """Where the data of a workload comes from, and whether it is to be had here; with `look` the hub is asked."""
    if not w.dataset.startswith(HUB):
        return Place(w.source, True if not w.from_file else Path(w.dataset).is_file())
    wanted = data_set(w)
    if wanted.kept.exists():
        return Place(f"{wanted.repo}, kept at {wanted.kept}", True)
    if not look:
        return Place(f"{wanted.repo} on the hub, not fetched yet", None)
    why = _hub().reachable(wanted.url)
    return Place(
        f"{wanted.repo} on the hub, {f'which cannot be reached: {why}' if why else 'which can be reached'}", not why
    )
