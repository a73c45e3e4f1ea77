"""Is what a request says within the owner's policy? What an op opens is judged as the op itself reads it: fields say what they
are (`core/opens.py`), files that a request names are read by the op's own parsers. Beside that every text is judged by all
that it could mean (`readings.py`), whatever its field.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from profile_and_optimize.campaign.checkpoints import JOBS
from profile_and_optimize.core.errors import Corrupted, GateRefused, PaoError, WrongUse
from profile_and_optimize.core.names import digest
from profile_and_optimize.core.opens import MODEL, PATH, URL, Kind, Opens
from profile_and_optimize.core.urls import parse_url
from profile_and_optimize.evidence.folder import find_run, workspace
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.reading import strict_json
from profile_and_optimize.mcp.policy import Policy
from profile_and_optimize.mcp.readings import is_home, paths_in, readings
from profile_and_optimize.ops.base import Op, Request, Safety
from profile_and_optimize.ops.config import config_of, read_yaml
from profile_and_optimize.ops.corpus import public
from profile_and_optimize.optimize.arms_tsv import parse_arms
from profile_and_optimize.report.words import plain
from profile_and_optimize.workloads.data import data_sets

LONGEST_TEXT = 1 << 16
MOST_FILE_BYTES = 1 << 20
# Larger files are judged by their place alone.
MOST_BOUND_BYTES = 64 << 20
MOST_DEPTH, MOST_ENTRIES, LINK_DEPTH = 40, 20_000, 3
PLANS = ("plan.json", "draft.json")
_NEGATIVE = re.compile(r"-\d[\d.]*%?")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[/\\]{2}[^\s\"'<>{}|`,;]*")
_HALF_URL = re.compile(r"(?i)\bhttps?:(?!//)[^\s]")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
_IMAGE = re.compile(r"(?:.*_)?images?")
_MINUTES = {"budget_minutes": 1.0, "budget_s": 1 / 60}
# Of a JSON file, which declares nothing: by the names that our own files use.
_NAMED = {
    "model": MODEL, "tokenizer": MODEL, "checkpoint": MODEL, "base": MODEL, "questions": PATH, "file": PATH, "url": URL,
    "url_a": URL, "url_b": URL, "endpoint_url": URL,
}  # fmt: skip
_PYTHON = re.compile(r"(?:.*_)?python")


def refuse_hostile(values: Mapping[str, Any], settings: frozenset[str] = frozenset()) -> None:
    """Raises WrongUse for a text that no option can mean: NUL, endless, or one that another program would take for an option.

    `settings` are the fields that hold options."""
    for where, text in _texts(values):
        if "\0" in text:
            raise WrongUse("holds a NUL character", where=where, next="remove it")
        if len(text) > LONGEST_TEXT:
            raise WrongUse(f"{len(text)} characters; at most {LONGEST_TEXT} are read", where=where, next="give a file")
        if where not in settings and text.startswith("-") and not _NEGATIVE.fullmatch(text):
            raise WrongUse(f"{plain(text)[:80]!r} starts with '-'", where=where, next="give a value, not an option")


def check_request(policy: Policy, op: Op, request: Request) -> dict[str, str]:
    """sha256 of the files that were read for it, by absolute path.

    Raises GateRefused naming the field, the value and the policy's key, and what the op itself raises of a file that it could
    not read. `request` is parsed, so its defaults count too.
    """
    checker = Checker(policy)
    checker.request(request)
    given = request.model_dump()
    for name in fields_of(type(request), Kind.RUN):
        run_of(policy, given, name)
    if op.safety is Safety.READ_ONLY:
        return {}
    run = run_of(policy, given, "campaign") or run_of(policy, given, "resume")
    if run is not None:
        for path in _files_of(run):
            if path.is_symlink():
                raise Corrupted("a link, which is not followed", where=str(path), next="remove it")
            inner = Checker(policy, f"{path.relative_to(run)}: ", checker.files)
            inner.every(_json(inner.noted(path, MOST_BOUND_BYTES), path))
    return checker.files


def fields_of(request: type[BaseModel], kind: Kind) -> frozenset[str]:
    """The fields that are declared to be of a kind."""
    marked = ((n, m) for n, field in request.model_fields.items() for m in field.metadata if isinstance(m, Opens))
    return frozenset(name for name, mark in marked if mark.kind is kind)


def _json(data: bytes, path: Path) -> Any:
    try:
        return strict_json(data)
    except ValueError as e:
        raise Corrupted(f"not JSON: {e}", where=str(path), next="pao verify names all that is wrong with a run") from e


def _files_of(run: Path) -> list[Path]:
    """The files of a run that say what is started when it goes on."""
    return [run / rel for rel in PLANS if (run / rel).is_file()] + sorted((run / JOBS).glob("*.json"))


def run_of(policy: Policy, given: Mapping[str, Any], field: str = "campaign") -> Path | None:
    """The run that a field names, None where there is none yet. Raises GateRefused when it lies elsewhere."""
    name = given.get(field)
    if not isinstance(name, str):
        return None
    own = policy.workspace / name
    space = policy.workspace / workspace(given.get("campaigns_dir"))
    try:
        run = find_run(str(own) if os.path.isdir(own) else name, space)
    except (PaoError, OSError, ValueError):
        return None  # the op says it in its own words
    if not policy.holds(run):
        raise _outside(field, name, policy)
    return run


class Checker:
    """Walks values with the names of their fields. `prefix` says which file they stand in; `files` collects what was read."""

    def __init__(self, policy: Policy, prefix: str = "", files: dict[str, str] | None = None) -> None:
        self.policy = policy
        self.prefix = prefix
        self.files = {} if files is None else files

    def request(self, given: BaseModel, depth: int = 0) -> None:
        """Every field as its type declares it, and as a text that could mean anything."""
        for name, field in type(given).model_fields.items():
            value = getattr(given, name)
            marks = [m for m in field.metadata if isinstance(m, Opens)]
            for mark, text in ((m, t) for m in marks for t in _texts_in(value)):
                self.opened(name, text, mark)
            if not any(m.kind is Kind.PYTHON for m in marks):
                self.every(value, name, depth + 1, declared=bool(marks))

    def every(self, value: Any, name: str = "", depth: int = 0, *, declared: bool = False) -> None:
        """Every text as all that it could mean; one whose field declares nothing also by the field's name."""
        if depth > MOST_DEPTH:
            raise WrongUse("nested too deeply", where=self.prefix + name)
        if isinstance(value, BaseModel):
            self.request(value, depth + 1)
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                self._text("", str(key))  # a key of flags becomes an option
                self.every(inner, str(key), depth + 1)
        elif isinstance(value, list | tuple):
            for inner in value:
                self.every(inner, name, depth + 1, declared=declared)
        elif isinstance(value, str | Path):
            self._text("" if declared else name, str(value), name)
        elif isinstance(value, int | float) and name in _MINUTES:
            self._minutes(name, value * _MINUTES[name])

    def _minutes(self, name: str, minutes: float) -> None:
        most = self.policy.file.budget_minutes
        if minutes > most:
            raise self._refused(name, f"{minutes:g} minutes, the policy's budget_minutes is {most:g}")

    # what a field declares

    def opened(self, name: str, text: str, mark: Opens) -> None:
        """Raises GateRefused unless all that the op would open of it is within the policy."""
        for part in mark.parts(text) if text else ():
            kind = mark.kind
            if kind is Kind.PLACE:
                kind = Kind.URL if part.startswith(("http://", "https://")) else Kind.MODEL
            if kind is Kind.URL:
                self._url(name, part)
            elif kind is Kind.PYTHON:
                self._python(name, part)
            elif kind is Kind.MODEL:
                self._model(name, part)
            elif kind is not Kind.FLAGS:
                self._place(name, part, follows=kind not in (Kind.OUT, Kind.TREE, Kind.RUN))
            self._content(part, kind)

    def _content(self, text: str, kind: Kind) -> None:
        """What a campaign file or a table of arms says, by the parser of the op that runs it. Raises as that one does."""
        path = Path(self.policy.workspace / text)
        inner = Checker(self.policy, f"{text}: ", self.files)
        if kind is Kind.CAMPAIGN:
            inner.request(config_of(self.noted(path), path))
        elif kind is Kind.ARMS:
            for arm in parse_arms(self.noted(path), path.name):
                inner.every(
                    {"flags": arm.flags, "env": [f"{k}={v}" for k, v in arm.env], "lever": arm.lever, "id": arm.id}
                )
                inner.opened("checkpoint", arm.checkpoint, MODEL)
        elif kind is Kind.PATH and path.suffix in (".yaml", ".yml"):
            inner.every(self._yaml(path, text))

    def _yaml(self, path: Path, text: str) -> Any:
        """Of another program. One with tags of its own says more than we can read."""
        try:
            return read_yaml(self.noted(path))
        except (yaml.YAMLError, ValueError) as e:
            raise self._refused(text, f"its YAML cannot be judged: {str(e).splitlines()[0][:120]}") from e

    def _python(self, name: str, text: str) -> None:
        if not self.policy.runs_python(self.policy.workspace / text):
            raise self._refused(name, f"{_shown(text)} is not in the policy's python")

    def _model(self, name: str, text: str) -> None:
        if not self.policy.knows_model(text):
            raise self._refused(name, f"{_shown(text)} is not in the policy's models")
        if not _HUB_NAME.fullmatch(text) or os.path.lexists(self.policy.workspace / text):
            self._place(name, text, follows=True)

    def _place(self, name: str, text: str, *, follows: bool) -> None:
        """A path as it is opened. A folder that is read may hold links: what they lead to would be read as well."""
        path = self.policy.workspace / text
        if is_home(text) or not self._holds(path):
            raise self._refused(name, f"{_shown(text)} lies outside of the workspace and the policy's folders")
        if follows and os.path.isdir(path):
            for link in self._links(name, path):
                if not self.policy.holds(link):
                    raise self._refused(name, f"{_shown(text)} holds a link to elsewhere: {_shown(link.name)}")
        elif follows and os.path.isfile(path) and path.stat().st_size <= MOST_BOUND_BYTES:
            self.noted(path, MOST_BOUND_BYTES)

    def _links(self, name: str, folder: Path) -> Iterator[Path]:
        seen = 0
        for here, below, names in os.walk(folder, followlinks=False):
            seen += len(below) + len(names)
            if seen > MOST_ENTRIES:
                raise self._refused(name, f"{_shown(folder.name)} holds more than {MOST_ENTRIES} entries to be judged")
            yield from (p for p in (Path(here, n) for n in (*below, *names)) if p.is_symlink())
            if len(Path(here).relative_to(folder).parts) >= LINK_DEPTH:
                below.clear()

    def _holds(self, path: Path) -> bool:
        """Within the policy's folders, or a data set that we fetched ourselves."""
        kept = (d.kept for d in (*data_sets().values(), *public().values()))
        return self.policy.holds(path) or any(path == k and not path.is_symlink() for k in kept)

    def noted(self, path: Path, most: int = MOST_FILE_BYTES) -> bytes:
        """What a plain file holds now. Its digest is noted, so that the op gets the same or nothing: what is judged here, what a
        person is shown and what runs are one content. Raises GateRefused for a file that changed in between."""
        data, place = read_given(path, most), os.path.abspath(path)
        if self.files.setdefault(place, digest(data)) != digest(data):
            raise GateRefused("it changed while it was judged", where=str(path), next="call again")
        return data

    # what a text could mean

    def _text(self, name: str, text: str, field: str = "") -> None:
        """`name` tells what the text is, `field` where it stands."""
        if not text:
            return
        if name in _NAMED:
            self.opened(name, text, _NAMED[name])
        if _PYTHON.fullmatch(name):
            self._python(name, text)
            return
        if _IMAGE.fullmatch(name):
            if not self.policy.knows_image(text):
                raise self._refused(name, f"{_shown(text)} is not in the policy's images")
            return
        try:
            for reading in readings(text):
                self._reading(field, reading)
        except WrongUse as e:
            raise GateRefused(e.message, where=self.prefix + field, next=e.next) from e

    def _reading(self, name: str, text: str) -> None:
        if _HALF_URL.search(text):
            raise self._refused(name, f"{_shown(text)} holds a URL that parsers read in several ways")
        for hit in _URL.finditer(text):
            self._url(name, hit.group())
        for part in paths_in(_URL.sub(" ", text), str(self.policy.workspace)):
            if is_home(part) or not self._holds(self.policy.workspace / part):
                raise self._refused(name, f"{_shown(part)} lies outside of the workspace and the policy's folders")

    def _url(self, name: str, text: str) -> None:
        """By the one parser that the clients use, too. Another scheme only where the policy writes it."""
        scheme = text.partition("://")[0].lower()
        try:
            url = parse_url(text, ("http", "https", scheme))
            host = url.host
        except WrongUse as e:
            raise self._refused(name, f"{_shown(text)} can be in no policy's endpoints: {e.message[:200]}") from e
        if not self.policy.knows_endpoint(scheme, host):
            raise self._refused(name, f"{_shown(f'{scheme}://{url.literal}')} is not in the policy's endpoints")

    def _refused(self, name: str, why: str) -> GateRefused:
        return GateRefused(why, where=self.prefix + name, next=f"the owner can allow it in {policy_words(self.policy)}")


def policy_words(policy: Policy) -> str:
    return policy.source or "a policy file (docs/mcp.md)"


def _outside(name: str, text: str, policy: Policy) -> GateRefused:
    return Checker(policy)._refused(name, f"{_shown(text)} lies outside of the workspace and the policy's folders")


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value


def _texts_in(value: Any) -> Iterator[str]:
    """The texts and paths of a field, its keys left aside."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts_in(inner)
    elif isinstance(value, str | Path):
        yield str(value)


def _shown(text: str) -> str:
    return repr(plain(text)[:120])
